"""OffsetForLeaderEpoch (23), versions 2-4: where an epoch ended, so a client or follower can find its divergence.

The current epoch ends at the log end, not at the high watermark, for consumers as for followers. An epoch older than
all that are known answers -1 and -1.
"""

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.partitions import Partitions
from ottla.wire.errors import KafkaError
from ottla.wire.messages.offset_for_leader_epoch_request import OffsetForLeaderEpochRequest, OffsetForLeaderPartition
from ottla.wire.messages.offset_for_leader_epoch_response import (
    EpochEndOffset,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
)


class OffsetForLeaderEpochHandler(Struct, frozen=True, kw_only=True):
    """Reads partitions; changes nothing."""

    partitions: Partitions

    def handle(self, context: RequestContext, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse:
        return OffsetForLeaderEpochResponse(
            topics=[
                OffsetForLeaderTopicResult(
                    topic=topic.topic, partitions=[self._partition(topic.topic, part) for part in topic.partitions]
                )
                for topic in request.topics
            ]
        )

    def _partition(self, topic: str, part: OffsetForLeaderPartition) -> EpochEndOffset:
        answer = EpochEndOffset(partition=part.partition, error_code=0)
        try:
            partition = self.partitions.get(topic, part.partition)
            partition.require_leader()
            partition.check_leader_epoch(part.current_leader_epoch)
        except KafkaError as error:
            answer.error_code = int(error.code)
            return answer
        answer.leader_epoch, answer.end_offset = partition.end_offset_for_epoch(part.leader_epoch)
        return answer

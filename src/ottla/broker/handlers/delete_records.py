"""DeleteRecords (21), versions 0-2: move the start of a log, to an offset or (-1) to the high watermark.

The new start is in the checkpoint before it is answered, so a restart cannot bring the records back. Internal topics
and topics without ``cleanup.policy=delete`` are refused. What is on its way to the disk is waited for, so that a
producer's acknowledged records can be deleted, whatever acks they were sent with.
"""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.partitions import FLUSH_SECONDS, Partitions, flushes_of
from ottla.model.internal_topics import INTERNAL_TOPICS
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.delete_records_request import DeleteRecordsPartition, DeleteRecordsRequest
from ottla.wire.messages.delete_records_response import (
    DeleteRecordsPartitionResult,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)


class DeleteRecordsHandler(Struct, frozen=True, kw_only=True):
    """``checkpoint`` makes the log start offsets durable, off the loop."""

    partitions: Partitions
    checkpoint: Callable[[], Awaitable[None]]

    async def handle(self, context: RequestContext, request: DeleteRecordsRequest) -> DeleteRecordsResponse:
        named = ((topic.name, part.partition_index) for topic in request.topics for part in topic.partitions)
        await flushes_of(self.partitions.flushing(named), FLUSH_SECONDS)
        topics = [
            DeleteRecordsTopicResult(
                name=topic.name, partitions=[self._partition(topic.name, part) for part in topic.partitions]
            )
            for topic in request.topics
        ]
        if any(part.error_code == 0 for topic in topics for part in topic.partitions):
            await self.checkpoint()
        return DeleteRecordsResponse(topics=topics)

    def _partition(self, topic: str, part: DeleteRecordsPartition) -> DeleteRecordsPartitionResult:
        result = DeleteRecordsPartitionResult(partition_index=part.partition_index, low_watermark=-1, error_code=0)
        try:
            partition = self.partitions.get(topic, part.partition_index)
            if topic in INTERNAL_TOPICS:
                raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{topic} is internal")
            result.low_watermark = partition.delete_records_before(part.offset)
        except KafkaError as error:
            result.error_code = int(error.code)
        return result

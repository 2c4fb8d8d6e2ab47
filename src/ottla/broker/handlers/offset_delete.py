"""OffsetDelete (47), version 0: forget offsets of a group.

Topics the group still reads are refused (GROUP_SUBSCRIBED_TO_TOPIC), partitions that do not exist are
UNKNOWN_TOPIC_OR_PARTITION; a group that does not exist, or whose protocol does not tell its topics, is the whole
answer's error. A partition without an offset is deleted successfully.
"""

from collections.abc import Callable

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.groups.commands import DeleteOffsets, DeleteOffsetsResult
from ottla.metadata.image import ClusterImage
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.offset_delete_request import OffsetDeleteRequest
from ottla.wire.messages.offset_delete_response import (
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)


class OffsetDeleteHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator, and the image for which partitions exist."""

    coordinator: GroupCoordinator
    image: Callable[[], ClusterImage]

    async def handle(self, _context: RequestContext, request: OffsetDeleteRequest) -> OffsetDeleteResponse:
        image = self.image()
        command = DeleteOffsets(
            group_id=request.group_id,
            topics=tuple(
                (
                    topic.name,
                    tuple(
                        wanted.partition_index
                        for wanted in topic.partitions
                        if image.partition(topic.name, wanted.partition_index) is not None
                    ),
                )
                for topic in request.topics
            ),
        )
        try:
            result: DeleteOffsetsResult = await self.coordinator.ask(
                request.group_id, lambda shard, _now_ms, _token: shard.delete_offsets(command)
            )
        except KafkaError as error:
            return OffsetDeleteResponse(error_code=int(error.code))
        errors = {(topic, index): error for topic, parts in result.topics for index, error in parts}
        missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return OffsetDeleteResponse(
            topics=[
                OffsetDeleteResponseTopic(
                    name=topic.name,
                    partitions=[
                        OffsetDeleteResponsePartition(
                            partition_index=wanted.partition_index,
                            error_code=int(errors.get((topic.name, wanted.partition_index), missing)),
                        )
                        for wanted in topic.partitions
                    ],
                )
                for topic in request.topics
            ]
        )

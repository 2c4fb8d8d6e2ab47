"""OffsetFetch (9), versions 1-10: the offsets groups have committed.

v1-7 ask for one group, v8+ for many; topics may be null (v2+) for everything the group has. v1 has no room for an
error of the group and repeats it for each partition. v7+ may require stable offsets (UNSTABLE_OFFSET_COMMIT while a
transaction is open). v10 names topics by id: unknown ids are UNKNOWN_TOPIC_ID, and of everything a group has, topics
that are gone are left out. A partition without a committed offset is -1, not an error. What is answered has been
acknowledged by the log.
"""

from collections.abc import Callable, Mapping
from functools import partial

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.coordinator_topic import as_coordinator
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.groups.commands import FetchedOffset, FetchOffsets, FetchResult
from ottla.metadata.image import ClusterImage, TopicImage
from ottla.model import Uuid
from ottla.net.deferred import Deferred, all_of
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from ottla.wire.messages.offset_fetch_response import (
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)

FIRST_GROUP_ERROR_VERSION = 2
FIRST_BATCHED_VERSION = 8
FIRST_TOPIC_ID_VERSION = 10


class OffsetFetchHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator, and the image for names and ids of topics."""

    coordinator: GroupCoordinator
    image: Callable[[], ClusterImage]

    def handle(self, context: RequestContext, request: OffsetFetchRequest) -> Deferred[OffsetFetchResponse]:
        if context.api_version >= FIRST_BATCHED_VERSION:
            by_id = context.api_version >= FIRST_TOPIC_ID_VERSION
            groups = [self._group(group, by_id=by_id, stable=request.require_stable) for group in request.groups]
            return all_of(groups).map(lambda found: OffsetFetchResponse(groups=found))
        topics = None
        if request.topics is not None:
            topics = [
                OffsetFetchRequestTopics(name=topic.name, partition_indexes=topic.partition_indexes)
                for topic in request.topics
            ]
        asked = OffsetFetchRequestGroup(group_id=request.group_id, topics=topics)
        group = self._group(asked, by_id=False, stable=request.require_stable)
        return group.map(lambda found: _single(found, asked, context.api_version))

    def _group(
        self, group: OffsetFetchRequestGroup, *, by_id: bool, stable: bool
    ) -> Deferred[OffsetFetchResponseGroup]:
        image = self.image()
        wanted, unknown = (None, []) if group.topics is None else _resolve(group.topics, image, by_id=by_id)
        command = FetchOffsets(
            group_id=group.group_id,
            topics=wanted,
            member_id=group.member_id,
            member_epoch=group.member_epoch,
            require_stable=stable,
        )
        result: Deferred[FetchResult] = self.coordinator.begin(
            group.group_id, lambda shard, _now_ms, _token: shard.fetch_offsets(command)
        )

        def found(result: FetchResult) -> OffsetFetchResponseGroup:
            # Of everything that a group has, topics that are gone are left out.
            topics = _found(result, image.topics if by_id and wanted is None else None)
            return OffsetFetchResponseGroup(group_id=group.group_id, topics=topics + unknown)

        return result.map(found, partial(_refusal, group.group_id))


def _refusal(group_id: str, error: Exception) -> OffsetFetchResponseGroup:
    code = as_coordinator(error, ErrorCode.UNKNOWN_SERVER_ERROR).code
    return OffsetFetchResponseGroup(group_id=group_id, error_code=int(code))


def _found(result: FetchResult, existing: Mapping[str, TopicImage] | None) -> list[OffsetFetchResponseTopics]:
    """The offsets by topic; with ``existing``, of those topics only and under the ids they have now."""
    topics = []
    for name, topic_id, offsets in result.topics:
        shown_id = topic_id
        if existing is not None:
            known = existing.get(name)
            if known is None:
                continue
            shown_id = known.topic_id
        parts = [_partition(offset) for offset in offsets]
        topics.append(OffsetFetchResponseTopics(name=name, topic_id=shown_id, partitions=parts))
    return topics


_Wanted = tuple[tuple[str, Uuid, tuple[int, ...]], ...]


def _resolve(
    topics: list[OffsetFetchRequestTopics], image: ClusterImage, *, by_id: bool
) -> tuple[_Wanted, list[OffsetFetchResponseTopics]]:
    """The topics by name and id; and, where ids were given, the answer for those nobody knows."""
    wanted: list[tuple[str, Uuid, tuple[int, ...]]] = []
    unknown: list[OffsetFetchResponseTopics] = []
    for topic in topics:
        known = image.topics_by_id.get(topic.topic_id) if by_id else image.topics.get(topic.name)
        if known is not None:
            wanted.append((known.name, known.topic_id, tuple(topic.partition_indexes)))
        elif by_id:
            missing = [
                _partition(FetchedOffset(partition=index, error=ErrorCode.UNKNOWN_TOPIC_ID))
                for index in topic.partition_indexes
            ]
            unknown.append(OffsetFetchResponseTopics(topic_id=topic.topic_id, partitions=missing))
        else:
            wanted.append((topic.name, Uuid.ZERO, tuple(topic.partition_indexes)))
    return tuple(wanted), unknown


def _partition(offset: FetchedOffset) -> OffsetFetchResponsePartitions:
    return OffsetFetchResponsePartitions(
        partition_index=offset.partition,
        committed_offset=offset.offset,
        committed_leader_epoch=offset.leader_epoch,
        metadata=offset.metadata,
        error_code=int(offset.error),
    )


def _single(group: OffsetFetchResponseGroup, asked: OffsetFetchRequestGroup, version: int) -> OffsetFetchResponse:
    """The answer in the form that knows one group only."""
    topics = group.topics
    if group.error_code and version < FIRST_GROUP_ERROR_VERSION:
        code = ErrorCode(group.error_code)
        topics = [
            OffsetFetchResponseTopics(
                name=topic.name,
                partitions=[
                    _partition(FetchedOffset(partition=index, error=code)) for index in topic.partition_indexes
                ],
            )
            for topic in asked.topics or ()
        ]
    return OffsetFetchResponse(
        error_code=group.error_code,
        topics=[
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(
                        partition_index=part.partition_index,
                        committed_offset=part.committed_offset,
                        committed_leader_epoch=part.committed_leader_epoch,
                        metadata=part.metadata,
                        error_code=part.error_code,
                    )
                    for part in topic.partitions
                ],
            )
            for topic in topics
        ],
    )

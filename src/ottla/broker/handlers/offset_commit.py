"""OffsetCommit (8), versions 2-10: how far a group has read.

v2-4 may ask for a retention of their own; v7+ carries ``group.instance.id``; from v9 a member whose group is not here
is told GROUP_ID_NOT_FOUND, before that ILLEGAL_GENERATION, and members of consumer groups commit with their epoch
(STALE_MEMBER_EPOCH unless the member has held the partition since then); v10 names topics by id. Partitions that do not
exist are refused one by one (UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID), the others are committed. The topic's id
is stored with each offset, so that a later topic of the same name does not inherit it.
"""

from collections.abc import Callable
from functools import partial
from itertools import chain

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.coordinator_topic import as_coordinator
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.groups.commands import CommitOffsets, CommitResult, OffsetToCommit
from ottla.metadata.image import ClusterImage, TopicImage
from ottla.model import Uuid
from ottla.net.deferred import Deferred
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.wire.messages.offset_commit_response import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

LAST_RETENTION_VERSION = 4
FIRST_MEMBER_EPOCH_VERSION = 9
FIRST_TOPIC_ID_VERSION = 10


class OffsetCommitHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator, and the image for which topics exist."""

    coordinator: GroupCoordinator
    image: Callable[[], ClusterImage]

    def handle(
        self, context: RequestContext, request: OffsetCommitRequest
    ) -> OffsetCommitResponse | Deferred[OffsetCommitResponse]:
        by_id = context.api_version >= FIRST_TOPIC_ID_VERSION
        response = OffsetCommitResponse()
        accepted: list[tuple[str, Uuid, tuple[OffsetToCommit, ...]]] = []
        answers: list[list[OffsetCommitResponsePartition]] = []
        for topic in request.topics:
            known = self._topic(topic, by_id=by_id)
            unknown = ErrorCode.UNKNOWN_TOPIC_ID if by_id and known is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            parts = [
                OffsetCommitResponsePartition(
                    partition_index=wanted.partition_index, error_code=0 if _exists(known, wanted) else int(unknown)
                )
                for wanted in topic.partitions
            ]
            response.topics.append(
                OffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id, partitions=parts)
            )
            offsets = tuple(_offset(wanted) for wanted in topic.partitions if _exists(known, wanted))
            if known is not None and offsets:
                accepted.append((known.name, known.topic_id, offsets))
                answers.append([part for part in parts if part.error_code == 0])
        if not accepted and request.topics:
            return response
        command = _command(context, request, tuple(accepted))
        committed = self.coordinator.begin(
            command.group_id, lambda shard, now_ms, _token: shard.commit_offsets(command, now_ms), gathers=True
        )
        return committed.map(partial(_report, response, answers), partial(_refuse, response, answers))

    def _topic(self, topic: OffsetCommitRequestTopic, *, by_id: bool) -> TopicImage | None:
        image = self.image()
        return image.topics_by_id.get(topic.topic_id) if by_id else image.topics.get(topic.name)


def _report(
    response: OffsetCommitResponse, answers: list[list[OffsetCommitResponsePartition]], result: CommitResult
) -> OffsetCommitResponse:
    for parts, (_, _, errors) in zip(answers, result.topics, strict=True):
        for part, (_, error) in zip(parts, errors, strict=True):
            part.error_code = int(error)
    return response


def _refuse(
    response: OffsetCommitResponse, answers: list[list[OffsetCommitResponsePartition]], error: Exception
) -> OffsetCommitResponse:
    """The error stands in each partition that was to be committed."""
    code = as_coordinator(error, ErrorCode.INVALID_COMMIT_OFFSET_SIZE).code
    for part in chain.from_iterable(answers):
        part.error_code = int(code)
    return response


def _exists(topic: TopicImage | None, wanted: OffsetCommitRequestPartition) -> bool:
    return topic is not None and 0 <= wanted.partition_index < len(topic.partitions)


def _offset(wanted: OffsetCommitRequestPartition) -> OffsetToCommit:
    return OffsetToCommit(
        partition=wanted.partition_index,
        offset=wanted.committed_offset,
        leader_epoch=wanted.committed_leader_epoch,
        metadata=wanted.committed_metadata,
    )


def _command(
    context: RequestContext,
    request: OffsetCommitRequest,
    topics: tuple[tuple[str, Uuid, tuple[OffsetToCommit, ...]], ...],
) -> CommitOffsets:
    version = context.api_version
    own_retention = version <= LAST_RETENTION_VERSION and request.retention_time_ms != -1
    return CommitOffsets(
        group_id=request.group_id,
        topics=topics,
        member_id=request.member_id,
        group_instance_id=request.group_instance_id,
        generation_or_epoch=request.generation_id_or_member_epoch,
        retention_ms=request.retention_time_ms if own_retention else None,
        unknown_group_error=(
            ErrorCode.GROUP_ID_NOT_FOUND if version >= FIRST_MEMBER_EPOCH_VERSION else ErrorCode.ILLEGAL_GENERATION
        ),
        knows_epochs=version >= FIRST_MEMBER_EPOCH_VERSION,
    )

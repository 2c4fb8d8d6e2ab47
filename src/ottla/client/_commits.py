"""Committed offsets of a group: stored at its coordinator, read from there."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from ottla.client._errors import error_of
from ottla.client._group_coordinator import GroupCoordinator
from ottla.client._offsets import OffsetAndMetadata
from ottla.model import TopicPartition
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.wire.messages.offset_commit_response import OffsetCommitResponse
from ottla.wire.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from ottla.wire.messages.offset_fetch_response import OffsetFetchResponse

NAMES_VERSION: Final = 9
"""The last version of both APIs that names topics by name: offsets are asked for by name here."""
GROUPS_VERSION: Final = 8
"""From here on OffsetFetch takes many groups, and answers in another place."""
REFUSED: Final = frozenset(
    (
        ErrorCode.REBALANCE_IN_PROGRESS,
        ErrorCode.ILLEGAL_GENERATION,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.STALE_MEMBER_EPOCH,
        ErrorCode.FENCED_MEMBER_EPOCH,
    )
)
"""The group has moved on: the partitions may be somebody else's by now."""


class ConsumerGroupMetadata(Struct, frozen=True, kw_only=True):
    """Who this consumer is in its group: what a transaction that commits offsets for it has to name."""

    group_id: str
    generation_id: int = -1
    member_id: str = ""
    group_instance_id: str | None = None
    by_epoch: bool = False
    """Whether the generation is a member's epoch of the next generation protocol."""


class Commits:
    """Commits and looks up offsets as whoever ``identity`` says we are."""

    def __init__(
        self, coordinator: GroupCoordinator, identity: Callable[[], ConsumerGroupMetadata], *, require_stable: bool
    ) -> None:
        self._coordinator = coordinator
        self._identity = identity
        self._require_stable = require_stable

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], seconds: float) -> None:
        """Raises ``KafkaError``: with a code of ``REFUSED`` where the group has moved on."""
        if not offsets:
            return
        asked = self._identity()
        while True:
            response: OffsetCommitResponse = await self._coordinator.ask(
                ApiKey.OFFSET_COMMIT,
                lambda _: _commit_request(self._identity(), offsets),
                code_of=_commit_code,
                seconds=seconds,
                version_max=NAMES_VERSION,
            )
            code = ErrorCode.of(_commit_code(response))
            now = self._identity()
            if code is not ErrorCode.STALE_MEMBER_EPOCH or now == asked:
                break
            # The epoch was raised while the commit was on its way: as the member of the new one it may.
            asked = now
        if code is not ErrorCode.NONE:
            raise error_of(code, _refusal(self._coordinator.group_id, code))

    async def committed(
        self, places: Iterable[TopicPartition], seconds: float
    ) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """The committed offset of each partition, ``None`` where there is none. Raises ``KafkaError``."""
        wanted = list(places)
        if not wanted:
            return {}
        response: OffsetFetchResponse = await self._coordinator.ask(
            ApiKey.OFFSET_FETCH,
            lambda version: _fetch_request(
                self._identity(), wanted, version=version, require_stable=self._require_stable
            ),
            code_of=_retriable_fetch_code,
            seconds=seconds,
            version_max=NAMES_VERSION,
        )
        found: dict[TopicPartition, OffsetAndMetadata | None] = dict.fromkeys(wanted)
        groups = response.groups
        code = groups[0].error_code if groups else response.error_code
        if code != ErrorCode.NONE:
            raise error_of(code, f"offsets of group {self._coordinator.group_id!r}")
        for topic in groups[0].topics if groups else response.topics:
            for partition in topic.partitions:
                place = TopicPartition(topic.name, partition.partition_index)
                if partition.error_code != ErrorCode.NONE:
                    raise error_of(partition.error_code, f"committed offset of {place}")
                if partition.committed_offset >= 0:
                    found[place] = OffsetAndMetadata(
                        offset=partition.committed_offset,
                        leader_epoch=partition.committed_leader_epoch,
                        metadata=partition.metadata or "",
                    )
        return found


def _commit_request(
    who: ConsumerGroupMetadata, offsets: Mapping[TopicPartition, OffsetAndMetadata]
) -> OffsetCommitRequest:
    topics: defaultdict[str, list[OffsetCommitRequestPartition]] = defaultdict(list)
    for place, committed in offsets.items():
        topics[place.topic].append(
            OffsetCommitRequestPartition(
                partition_index=place.partition,
                committed_offset=committed.offset,
                committed_leader_epoch=committed.leader_epoch,
                committed_metadata=committed.metadata,
            )
        )
    return OffsetCommitRequest(
        group_id=who.group_id,
        generation_id_or_member_epoch=who.generation_id,
        member_id=who.member_id,
        group_instance_id=who.group_instance_id,
        topics=[OffsetCommitRequestTopic(name=name, partitions=partitions) for name, partitions in topics.items()],
    )


def _fetch_request(
    who: ConsumerGroupMetadata, places: Iterable[TopicPartition], *, version: int, require_stable: bool
) -> OffsetFetchRequest:
    """Both forms at once: the codec writes the one that its version has."""
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for place in places:
        numbers[place.topic].append(place.partition)
    if version < GROUPS_VERSION:
        topics = [OffsetFetchRequestTopic(name=name, partition_indexes=indexes) for name, indexes in numbers.items()]
        return OffsetFetchRequest(group_id=who.group_id, topics=topics, require_stable=require_stable)
    group = OffsetFetchRequestGroup(
        group_id=who.group_id,
        topics=[OffsetFetchRequestTopics(name=name, partition_indexes=indexes) for name, indexes in numbers.items()],
    )
    if version >= NAMES_VERSION and who.by_epoch and who.generation_id >= 0:
        group.member_id, group.member_epoch = who.member_id, who.generation_id
    return OffsetFetchRequest(groups=[group], require_stable=require_stable)


def _commit_code(response: OffsetCommitResponse) -> int:
    """The first error of all partitions: the coordinator refuses the whole or nothing, access aside."""
    codes = [partition.error_code for topic in response.topics for partition in topic.partitions]
    return next((code for code in codes if code != ErrorCode.NONE), int(ErrorCode.NONE))


def _retriable_fetch_code(response: OffsetFetchResponse) -> int:
    if not response.groups:
        codes = [response.error_code, *(one.error_code for topic in response.topics for one in topic.partitions)]
    else:
        group = response.groups[0]
        codes = [group.error_code, *(one.error_code for topic in group.topics for one in topic.partitions)]
    if ErrorCode.UNSTABLE_OFFSET_COMMIT in codes:
        # A transaction is about to commit this offset: ask again, as while a coordinator loads.
        return int(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
    return next((code for code in codes if code != ErrorCode.NONE), int(ErrorCode.NONE))


def _refusal(group_id: str, code: ErrorCode) -> str:
    if code in REFUSED:
        return (
            f"group {group_id!r} has rebalanced ({code.description}), so these partitions may be somebody else's; "
            "process less between polls, or raise max_poll_interval_ms or session_timeout_ms"
        )
    return f"commit for group {group_id!r}"

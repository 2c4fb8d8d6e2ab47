"""Committed offsets of a group: stored at its coordinator, read from there.

Topics are named by their ids where those are known and the coordinator takes them: what is committed to a topic cannot
reach another one of the same name.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from ottla.client._backoff import Backoff
from ottla.client._cluster import Cluster
from ottla.client._errors import error_of
from ottla.client._group_coordinator import GroupCoordinator
from ottla.client._offsets import OffsetAndMetadata
from ottla.model import TopicPartition, Uuid
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
from ottla.wire.messages.offset_fetch_response import OffsetFetchResponse, OffsetFetchResponseTopics

NAMES_VERSION: Final = 9
"""The last version of both APIs that names topics by name; the next one does it by id."""
EPOCHS_VERSION: Final = 9
"""From here on OffsetFetch says which member of a consumer group asks."""
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
        self,
        cluster: Cluster,
        coordinator: GroupCoordinator,
        identity: Callable[[], ConsumerGroupMetadata],
        *,
        require_stable: bool,
        committed: Callable[[Mapping[TopicPartition, OffsetAndMetadata]], None],
    ) -> None:
        """``committed`` is told what was stored."""
        self._told = committed
        self._cluster = cluster
        self._coordinator = coordinator
        self._identity = identity
        self._require_stable = require_stable

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], seconds: float) -> None:
        """Raises ``KafkaError``: with a code of ``REFUSED`` where the group has moved on, with UNKNOWN_TOPIC_ID where
        a topic is not the one any more that the offsets belong to.
        """
        if not offsets:
            return
        asked, ids = self._identity(), self._ids({place.topic for place in offsets})
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        again = self._again(deadline)
        while True:
            response: OffsetCommitResponse = await self._coordinator.ask(
                ApiKey.OFFSET_COMMIT,
                lambda version: _commit_request(self._identity(), offsets, ids if version > NAMES_VERSION else {}),
                code_of=_commit_code,
                seconds=deadline - loop.time(),
                version_max=None if ids else NAMES_VERSION,
            )
            code = ErrorCode.of(_commit_code(response))
            now = self._identity()
            if code is ErrorCode.UNKNOWN_TOPIC_ID:
                # The coordinator may not have heard of a new topic yet; offsets of a former one are of no use now.
                if not await again(ids) or self._ids(ids) != ids:
                    break
            elif code is not ErrorCode.STALE_MEMBER_EPOCH or now == asked:
                break
            # The epoch was raised while the commit was on its way: as the member of the new one it may.
            asked = now
        stored = _stored(offsets, response, ids)
        if stored:
            self._told(stored)
        if code is not ErrorCode.NONE:
            raise error_of(code, _refusal(self._coordinator.group_id, code))

    async def committed(
        self, places: Iterable[TopicPartition], seconds: float
    ) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """The committed offset of each partition, ``None`` where there is none. Raises ``KafkaError``."""
        wanted = list(places)
        if not wanted:
            return {}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        again = self._again(deadline)
        while True:
            ids = self._ids({place.topic for place in wanted})
            response = await self._fetch(wanted, ids, deadline - loop.time())
            if _retriable_fetch_code(response) != ErrorCode.UNKNOWN_TOPIC_ID:
                break
            # It is a new topic of that name, or one that the coordinator has not heard of yet.
            if not await again(ids):
                break
        names = {topic_id: name for name, topic_id in ids.items()}
        found: dict[TopicPartition, OffsetAndMetadata | None] = dict.fromkeys(wanted)
        groups = response.groups
        code = groups[0].error_code if groups else response.error_code
        if code != ErrorCode.NONE:
            raise error_of(code, f"offsets of group {self._coordinator.group_id!r}")
        for topic in groups[0].topics if groups else response.topics:
            by_id = names.get(topic.topic_id, "") if isinstance(topic, OffsetFetchResponseTopics) else ""
            for partition in topic.partitions:
                place = TopicPartition(topic.name or by_id, partition.partition_index)
                if partition.error_code != ErrorCode.NONE:
                    raise error_of(partition.error_code, f"committed offset of {place}")
                if partition.committed_offset >= 0:
                    found[place] = OffsetAndMetadata(
                        offset=partition.committed_offset,
                        leader_epoch=partition.committed_leader_epoch,
                        metadata=partition.metadata or "",
                    )
        return found

    async def _fetch(
        self, wanted: Iterable[TopicPartition], ids: Mapping[str, Uuid], seconds: float
    ) -> OffsetFetchResponse:
        response: OffsetFetchResponse = await self._coordinator.ask(
            ApiKey.OFFSET_FETCH,
            lambda version: _fetch_request(
                self._identity(), wanted, ids, version=version, require_stable=self._require_stable
            ),
            code_of=_retriable_fetch_code,
            seconds=seconds,
            version_max=None if ids else NAMES_VERSION,
        )
        return response

    def _ids(self, topics: Iterable[str]) -> dict[str, Uuid]:
        """The ids of topics; empty unless all are known."""
        known = {name: self._cluster.known_topic(name) for name in topics}
        ids = {
            name: topic.topic_id for name, topic in known.items() if topic is not None and topic.topic_id != Uuid.ZERO
        }
        return ids if len(ids) == len(known) else {}

    def _again(self, deadline: float) -> Callable[[Iterable[str]], Awaitable[bool]]:
        """News of topics and a pause before the next try, longer each time; false when there is no time for one."""
        backoff = Backoff(self._cluster.rng, initial=0.02)
        loop = asyncio.get_running_loop()

        async def refreshed(topics: Iterable[str]) -> bool:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._cluster.refresh(topics)
            except (ConnectionError, TimeoutError):
                # What is known has to do for the next try.
                pass
            await asyncio.sleep(min(backoff.next_seconds(), max(0.0, deadline - loop.time())))
            return loop.time() < deadline

        return refreshed


def _commit_request(
    who: ConsumerGroupMetadata, offsets: Mapping[TopicPartition, OffsetAndMetadata], ids: Mapping[str, Uuid]
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
        topics=[
            OffsetCommitRequestTopic(name=name, topic_id=ids.get(name, Uuid.ZERO), partitions=partitions)
            for name, partitions in topics.items()
        ],
    )


def _fetch_request(
    who: ConsumerGroupMetadata,
    places: Iterable[TopicPartition],
    ids: Mapping[str, Uuid],
    *,
    version: int,
    require_stable: bool,
) -> OffsetFetchRequest:
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for place in places:
        numbers[place.topic].append(place.partition)
    if version < GROUPS_VERSION:
        topics = [OffsetFetchRequestTopic(name=name, partition_indexes=indexes) for name, indexes in numbers.items()]
        return OffsetFetchRequest(group_id=who.group_id, topics=topics, require_stable=require_stable)
    group = OffsetFetchRequestGroup(
        group_id=who.group_id,
        topics=[
            OffsetFetchRequestTopics(topic_id=ids[name], partition_indexes=indexes)
            if version > NAMES_VERSION
            else OffsetFetchRequestTopics(name=name, partition_indexes=indexes)
            for name, indexes in numbers.items()
        ],
    )
    if version >= EPOCHS_VERSION and who.by_epoch and who.generation_id >= 0:
        group.member_id, group.member_epoch = who.member_id, who.generation_id
    return OffsetFetchRequest(groups=[group], require_stable=require_stable)


def _commit_code(response: OffsetCommitResponse) -> int:
    """The error of a commit, first one of ``REFUSED``: topics that are not there any more are refused one by one."""
    codes = [partition.error_code for topic in response.topics for partition in topic.partitions]
    errors = [code for code in codes if code != ErrorCode.NONE]
    return next((code for code in errors if code in REFUSED), next(iter(errors), int(ErrorCode.NONE)))


def _stored(
    offsets: Mapping[TopicPartition, OffsetAndMetadata], response: OffsetCommitResponse, ids: Mapping[str, Uuid]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """The offsets that the coordinator took."""
    names = {topic_id: name for name, topic_id in ids.items()}
    places = {
        TopicPartition(topic.name or names.get(topic.topic_id, ""), partition.partition_index)
        for topic in response.topics
        for partition in topic.partitions
        if partition.error_code == ErrorCode.NONE
    }
    return {place: offset for place, offset in offsets.items() if place in places}


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
    if code is ErrorCode.UNKNOWN_TOPIC_ID:
        return f"commit for group {group_id!r}: a topic was deleted, and one created anew begins without these offsets"
    if code in REFUSED:
        return (
            f"group {group_id!r} has rebalanced ({code.description}), so these partitions may be somebody else's; "
            "process less between polls, or raise max_poll_interval_ms or session_timeout_ms"
        )
    return f"commit for group {group_id!r}"

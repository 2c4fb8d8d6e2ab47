"""The consumer's face: records of partitions in offset order, alone or in a group, read ahead.

Everything runs in the event loop it was entered in. No wait is without a deadline but the one for the next record, and
that one hears of every failure that will not go away by itself.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from itertools import islice
from time import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from ottla.client._assignors import Assignor, assignor_named
from ottla.client._cluster import Cluster, Recovery, RecoveryStrategy, topic_error
from ottla.client._decode import ConsumerRecord, RecordBatch
from ottla.client._fetch_session import FetchSettings
from ottla.client._fetcher import Fetcher
from ottla.client._group import GroupSettings, Membership, Ownership, RebalanceListener, group_settings, logger
from ottla.client._hands import Hands
from ottla.client._interceptors import ConsumerInterceptor, Interceptors
from ottla.client._offsets import EARLIEST, LATEST, OffsetAndMetadata, find_offsets, list_offsets
from ottla.client._partitions import Reading
from ottla.model import TopicPartition
from ottla.net.peer import PeerLimits
from ottla.runtime.futures import wait_for
from ottla.wire.errors import KafkaError

if TYPE_CHECKING:
    from ssl import SSLContext

    from ottla.client._commits import Commits, ConsumerGroupMetadata
    from ottla.client._group_coordinator import GroupCoordinator
    from ottla.client._security import Sasl, Tls

OffsetReset = Literal["earliest", "latest", "none"] | timedelta
"""Where to begin without an offset; a duration is "so long ago" (KIP-1106)."""

MISSING_SECONDS: Final = 1.0
STRIDE: Final = 100
"""Records handed out before it is looked whether the event loop should have its turn."""
_RESETS: Final[dict[str, int | None]] = {"earliest": EARLIEST, "latest": LATEST, "none": None}


Deserializer = Callable[[bytes], Any]
"""Bytes into whatever the application wants; null stays ``None``."""


class Consumer:
    """Reads topics. Use it as ``async with Consumer("host:port", topics=[...]) as consumer``.

    With ``group``, partitions are shared with the other members; ``topics`` or ``pattern`` (a regular expression for
    whole names) say what to read. Without, all partitions of ``topics`` are read from where ``auto_offset_reset`` says,
    or from ``offsets``; ``assign`` chooses single ones.

    Offsets are committed by themselves for what the application has come back from: the record of an ``async for`` when
    it asks for the next, batches and lists when it comes for more. Leaving the ``async with`` normally commits
    everything that was handed out; leaving it by an exception does not commit what was in hand.
    """

    _group_settings: GroupSettings | None = None

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        *,
        group: str | None = None,
        topics: Sequence[str] = (),
        pattern: str | None = None,
        offsets: Mapping[TopicPartition, int] | None = None,
        auto_offset_reset: OffsetReset = "latest",
        listener: RebalanceListener | None = None,
        group_protocol: Literal["classic", "consumer"] = "classic",
        group_instance_id: str | None = None,
        assignors: Sequence[str | Assignor] = ("range", "cooperative-sticky"),
        group_remote_assignor: str | None = None,
        enable_auto_commit: bool = True,
        auto_commit_interval_ms: int = 5000,
        session_timeout_ms: int = 45_000,
        heartbeat_interval_ms: int = 3000,
        max_poll_interval_ms: int = 300_000,
        default_api_timeout_ms: int = 60_000,
        isolation_level: Literal["read_uncommitted", "read_committed"] = "read_uncommitted",
        exclude_internal_topics: bool = True,
        fetch_max_wait_ms: int = 500,
        fetch_min_bytes: int = 1,
        fetch_max_bytes: int = 16 * 1024 * 1024,
        max_partition_fetch_bytes: int = 1024 * 1024,
        prefetch_bytes: int = 32 * 1024 * 1024,
        metadata_max_age_ms: int = 300_000,
        metadata_recovery_strategy: RecoveryStrategy = "rebootstrap",
        metadata_recovery_rebootstrap_trigger_ms: float = 300_000,
        check_crcs: bool = True,
        max_poll_records: int = 500,
        key_deserializer: Deserializer | None = None,
        value_deserializer: Deserializer | None = None,
        interceptors: Sequence[ConsumerInterceptor] = (),
        request_timeout_ms: float = 30_000,
        client_rack: str = "",
        client_id: str = "ottla-consumer",
        tls: "bool | Tls | SSLContext" = False,
        sasl: "Sasl | None" = None,
    ) -> None:
        self._prepare()
        limits = PeerLimits(request_seconds=request_timeout_ms / 1000)
        recovery = Recovery.of(metadata_recovery_strategy, metadata_recovery_rebootstrap_trigger_ms)
        self._cluster = Cluster(
            bootstrap_servers, client_id=client_id, limits=limits, recovery=recovery, tls=tls, sasl=sasl, topics=topics
        )
        make = _record_maker(key_deserializer, value_deserializer)
        self._make, self._many, self._check_crcs = make, max_poll_records, check_crcs
        self._interceptors = Interceptors(interceptors)
        self._subscribed, self._pattern = frozenset(topics), _checked_pattern(group, topics, pattern)
        self._exclude_internal, self._reset = exclude_internal_topics, auto_offset_reset
        self._offsets, self._api_seconds = dict(offsets or {}), default_api_timeout_ms / 1000
        self._metadata_seconds, self._commit_seconds = metadata_max_age_ms / 1000, auto_commit_interval_ms / 1000
        self._next_protocol, self._listener = group_protocol == "consumer", listener or RebalanceListener()
        self._settings = FetchSettings(
            max_wait_ms=fetch_max_wait_ms,
            min_bytes=fetch_min_bytes,
            max_bytes=fetch_max_bytes,
            partition_max_bytes=max_partition_fetch_bytes,
            stock_bytes_max=prefetch_bytes,
            read_committed=isolation_level == "read_committed",
            rack=client_rack,
        )
        if group is not None:
            times_ms = (session_timeout_ms, heartbeat_interval_ms, max_poll_interval_ms, default_api_timeout_ms)
            member = (group, group_instance_id, client_rack)
            chosen = (tuple(assignor_named(name) for name in assignors), group_remote_assignor)
            self._group_settings = group_settings(member, chosen, times_ms, auto_commit=enable_auto_commit)

    def _prepare(self) -> None:
        """What is there from the start on."""
        self._fetcher: Fetcher
        self._hands: Hands
        self._commits: Commits | None = None
        self._ownership: Ownership | None = None
        self._membership: Membership | None = None
        self._member_task: asyncio.Task[None] | None = None
        self._commit_task: asyncio.Task[None] | None = None
        self._committed: dict[TopicPartition, int] = {}
        self._closing, self._topics_known = asyncio.Event(), asyncio.Event()
        self._entered = False
        self._stack = AsyncExitStack()

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """A consumer from Kafka's own names, Java's or librdkafka's: ``{"bootstrap.servers": ..., "group.id": ...}``.

        ``options`` are this class's own arguments, such as ``topics``. Raises ``ConfigError`` for a key nobody knows,
        with the nearest one that exists.
        """
        from ottla.client._config import consumer_options  # noqa: PLC0415 - for those who use it

        return cls(**{**consumer_options(config), **options})

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(handed_out_is_done=kind is None)

    async def start(self) -> None:
        """Connect, and join the group. ``async with`` does this."""
        if self._entered:
            raise RuntimeError("a consumer is started once")
        try:
            group, settings = await self._stack.enter_async_context(asyncio.TaskGroup()), self._group_settings
            self._fetcher = Fetcher(
                self._cluster,
                self._settings,
                reset_timestamp=self._reset_timestamp,
                metadata_seconds=self._metadata_seconds,
            )
            self._hands = Hands(self._fetcher, check_crcs=self._check_crcs, make=self._make)
            self._stack.callback(self._fetcher.stop)
            group.create_task(self._fetcher.run(), name="consumer")
            if settings is not None:
                self._prepare_group(group, settings)
            await self._stack.enter_async_context(self._cluster)
            self._entered = True
            if settings is not None:
                await self._start_group(group, settings)
            elif self._subscribed:
                await self.assign(await self._initial_offsets())
        except BaseException:
            self._stop()
            await self._stack.aclose()
            raise

    async def close(self, *, handed_out_is_done: bool = True) -> None:
        """Commit, give partitions back, leave the group, disconnect. ``async with`` does this.

        ``handed_out_is_done`` commits what was handed out last, too.
        """
        try:
            async with asyncio.timeout(self._api_seconds):
                await self._leave(handed_out_is_done=handed_out_is_done)
        except (TimeoutError, ConnectionError, KafkaError) as failure:
            logger.warning("closing a consumer: %s", str(failure) or "not within default_api_timeout_ms")
        finally:
            self._stop()
            await self._stack.__aexit__(None, None, None)

    # Reading

    async def __aiter__(self) -> AsyncIterator[ConsumerRecord]:
        """Records one by one, without end. Another ``async for`` goes on where one was left."""
        self._require_entered()
        while True:
            records = await self._hands.records(None)
            if records is not None:
                for record in islice(self._interceptors.consumed(records), STRIDE):
                    yield record

    async def batches(self) -> AsyncIterator[RecordBatch]:
        """Records as they lie in the log, without end: the cheapest way to read many, above all as columns."""
        self._require_entered()
        hands = self._hands
        while True:
            batch = hands.batch_at_hand()
            if batch is None:
                batch = await hands.batch(None)
            if batch is not None:
                yield self._interceptors.batch(batch)

    async def poll(self, seconds: float | None = 0.0) -> list[RecordBatch]:
        """The batches at hand, up to one partition's worth of an answer; empty if none comes within ``seconds``.

        Raises ``KafkaError`` where reading cannot go on: a partition's offset is gone and no reset was asked for, a
        batch is damaged, access is denied.
        """
        self._require_entered()
        first = await self._hands.batch(seconds)
        batches = [] if first is None else [first, *self._hands.more_batches()]
        return [self._interceptors.batch(batch) for batch in batches]

    async def get_many(self, max_records: int | None = None, seconds: float | None = 1.0) -> list[ConsumerRecord]:
        """Up to ``max_records`` (or ``max_poll_records``) that are at hand, waiting ``seconds`` for the first."""
        self._require_entered()
        records = await self._hands.many(self._many if max_records is None else max_records, seconds)
        return list(self._interceptors.consumed(records))

    # Positions

    def position(self, place: TopicPartition) -> int:
        """The offset after everything that was handed out of a partition; -1 if it is not (yet) known or not read."""
        self._require_entered()
        self._hands.settle()
        reading = self._fetcher.readings.get(place)
        return -1 if reading is None or reading.reset_to is not None else reading.position

    def lag(self, place: TopicPartition) -> int:
        """How many offsets the end of the partition is ahead of ``position``, by the last answer; -1 if not known."""
        position = self.position(place)
        reading = self._fetcher.readings.get(place)
        if reading is None or reading.end_offset < 0 or position < 0:
            return -1
        return max(0, reading.end_offset - position)

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions being read."""
        self._require_entered()
        return self._fetcher.readings.places()

    async def assign(self, places: Mapping[TopicPartition, int] | Iterable[TopicPartition]) -> None:
        """Read these partitions and no others: from the offsets given, or else committed, or else where a reset says.

        Not for members of a group that subscribe. Raises ``KafkaError`` if offsets cannot be looked up.
        """
        self._require_entered()
        if self._membership is not None:
            raise RuntimeError("this consumer subscribes: its group assigns")
        self._hands.settle()
        wanted = dict(places) if isinstance(places, Mapping) else {}
        unplaced = [] if isinstance(places, Mapping) else list(places)
        await self._require_topics({place.topic for place in (*wanted, *unplaced)})
        readings = [Reading(place, offset) for place, offset in wanted.items()]
        committed = await self._commits.committed(unplaced, self._api_seconds) if self._commits is not None else {}
        for place in unplaced:
            known = committed.get(place)
            reading = Reading(place) if known is None else Reading(place, known.offset, epoch=known.leader_epoch)
            if known is None:
                timestamp = self._reset_timestamp()
                reading.reset_to = LATEST if timestamp is None else timestamp
            readings.append(reading)
        self._fetcher.readings.drop(self._fetcher.readings.places())
        for reading in readings:
            self._fetcher.readings.put(reading)
        self._fetcher.changed()

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Go on with these partitions from these offsets. Raises ``ValueError`` for one that is not assigned."""
        for place, offset in offsets.items():
            if offset < 0:
                raise ValueError(f"offset {offset} of {place} is negative")
            self._move(place, offset, None)
        self._fetcher.changed()

    def seek_to_start(self, *places: TopicPartition) -> None:
        """Go on from the first offset there is; without ``places``, of all partitions assigned."""
        self._seek_by_timestamp(places, EARLIEST)

    def seek_to_end(self, *places: TopicPartition) -> None:
        """Go on with what is appended from now on."""
        self._seek_by_timestamp(places, LATEST)

    def seek_to_time(self, when: datetime | int, *places: TopicPartition) -> None:
        """Go on from the first record at or after a time (milliseconds or an aware ``datetime``), or from the end."""
        self._seek_by_timestamp(places, _milliseconds(when))

    def pause(self, *places: TopicPartition) -> None:
        """Hand out nothing of these partitions until ``resume``; without ``places``, of all assigned."""
        self._set_paused(places, paused=True)

    def resume(self, *places: TopicPartition) -> None:
        """Undo ``pause``."""
        self._set_paused(places, paused=False)

    def paused(self) -> frozenset[TopicPartition]:
        self._require_entered()
        return frozenset(reading.place for reading in self._fetcher.readings.all() if reading.paused)

    # The group

    async def commit(self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None) -> None:
        """Store offsets for the group: these, or the position of every partition assigned.

        Raises ``KafkaError``: REBALANCE_IN_PROGRESS and the like where the partitions may be somebody else's by now.
        """
        self._require_entered()
        if self._commits is None:
            raise RuntimeError("to commit a consumer needs a group")
        if offsets is None:
            self._hands.settle()
            chosen = {
                reading.place: OffsetAndMetadata(offset=reading.position, leader_epoch=reading.epoch)
                for reading in self._fetcher.readings.all()
                if reading.position >= 0
                and reading.reset_to is None
                and not self._fetcher.of_former_topic(reading.place)
            }
        else:
            chosen = {
                place: offset if isinstance(offset, OffsetAndMetadata) else OffsetAndMetadata(offset=offset)
                for place, offset in offsets.items()
            }
        await self._commits.commit(chosen, self._api_seconds)

    async def committed(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """The group's committed offset of each partition; ``None`` where there is none."""
        self._require_entered()
        if self._commits is None:
            raise RuntimeError("committed offsets belong to a group")
        return await self._commits.committed(places, self._api_seconds)

    def group_metadata(self) -> "ConsumerGroupMetadata":
        """Who this consumer is in its group, for a transaction that commits its offsets."""
        if self._group_settings is None:
            raise RuntimeError("this consumer has no group")
        if self._membership is not None:
            return self._membership.identity
        from ottla.client._commits import ConsumerGroupMetadata  # noqa: PLC0415 - with a group only

        return ConsumerGroupMetadata(group_id=self._group_settings.group_id)

    async def subscribe(self, topics: Sequence[str] = (), *, pattern: str | None = None) -> None:
        """Share these topics with the group, and no others."""
        self._require_entered()
        if self._membership is None:
            raise RuntimeError("to subscribe a consumer needs a group and topics or a pattern from the start")
        if bool(topics) == (pattern is not None):
            raise ValueError("either topics or a pattern")
        self._subscribed = frozenset(topics)
        self._pattern = None if pattern is None else re.compile(pattern)
        await self._refresh_topics()

    # Offsets of the topics

    async def partitions(self) -> list[TopicPartition]:
        """Every partition of the consumer's topics."""
        return [
            TopicPartition(name, number)
            for name in sorted(self._topics())
            for number in (await self._cluster.topic(name)).partitions
        ]

    async def start_offsets(self, places: Iterable[TopicPartition] | None = None) -> dict[TopicPartition, int]:
        """The first offset of each partition."""
        chosen = await self._chosen(places)
        return await list_offsets(self._cluster, dict.fromkeys(chosen, EARLIEST), seconds=self._api_seconds)

    async def end_offsets(self, places: Iterable[TopicPartition] | None = None) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition that may be read."""
        return await list_offsets(
            self._cluster,
            dict.fromkeys(await self._chosen(places), LATEST),
            read_committed=self._settings.read_committed,
            seconds=self._api_seconds,
        )

    async def offsets_at(self, times: Mapping[TopicPartition, datetime | int]) -> dict[TopicPartition, int]:
        """The offset of the first record of each partition at or after a time; -1 where there is none."""
        await self._require_topics({place.topic for place in times})
        wanted = {place: _milliseconds(when) for place, when in times.items()}
        return await list_offsets(self._cluster, wanted, seconds=self._api_seconds)

    # Inside

    async def _chosen(self, places: Iterable[TopicPartition] | None) -> Collection[TopicPartition]:
        if places is None:
            return await self.partitions()
        chosen = list(places)
        await self._require_topics({place.topic for place in chosen})
        return chosen

    async def _require_topics(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            await self._cluster.topic(name, seconds=self._api_seconds)

    async def _initial_offsets(self) -> dict[TopicPartition, int]:
        places = [place for place in await self.partitions() if place not in self._offsets]
        timestamp = self._reset_timestamp()
        # Without a reset an offset must be given; where none is, begin at the end as a new group would.
        found = await find_offsets(
            self._cluster,
            dict.fromkeys(places, LATEST if timestamp is None else timestamp),
            read_committed=self._settings.read_committed,
            seconds=self._api_seconds,
        )
        late = {place: LATEST for place, (offset, _) in found.items() if offset < 0}
        found |= await find_offsets(
            self._cluster, late, read_committed=self._settings.read_committed, seconds=self._api_seconds
        )
        return self._offsets | {place: offset for place, (offset, _) in found.items()}

    def _reset_timestamp(self) -> int | None:
        if isinstance(self._reset, timedelta):
            return int((time() - self._reset.total_seconds()) * 1000)
        return _RESETS[self._reset]

    def _move(self, place: TopicPartition, offset: int, timestamp: int | None) -> None:
        self._require_entered()
        before = self._fetcher.readings.get(place)
        if before is None:
            raise ValueError(f"{place} is not assigned to this consumer")
        reading = Reading(place, offset, paused=before.paused)
        reading.reset_to = timestamp
        self._fetcher.readings.put(reading)

    def _seek_by_timestamp(self, places: Sequence[TopicPartition], timestamp: int) -> None:
        for place in places or sorted(self.assignment()):
            self._move(place, -1, timestamp)
        self._fetcher.changed()

    def _set_paused(self, places: Sequence[TopicPartition], *, paused: bool) -> None:
        self._require_entered()
        self._hands.settle()
        for place in places or sorted(self.assignment()):
            reading = self._fetcher.readings.get(place)
            if reading is None:
                raise ValueError(f"{place} is not assigned to this consumer")
            if reading.paused != paused:
                reading = reading.anew()
                reading.paused = paused
                self._fetcher.readings.put(reading)
        self._fetcher.changed()

    def _require_entered(self) -> None:
        if not self._entered:
            raise RuntimeError("use the consumer with `async with`")

    # The group, inside

    def _stop(self) -> None:
        """Let go of the cluster: what waits for it ends, and the stack ends the rest."""
        self._closing.set()
        self._cluster.close()

    def _prepare_group(self, group: asyncio.TaskGroup, settings: GroupSettings) -> None:
        """Have everything ready for when the cluster answers. Who reads without a group does not pay for it."""
        from ottla.client._commits import Commits  # noqa: PLC0415
        from ottla.client._group_coordinator import GroupCoordinator  # noqa: PLC0415

        coordinator = GroupCoordinator(self._cluster, settings.group_id, waits=not self._next_protocol)
        stable = self._settings.read_committed
        self._commits = Commits(
            self._cluster, coordinator, self.group_metadata, require_stable=stable, committed=self._stored
        )
        if not self._subscribed and self._pattern is None:
            return
        settle, reset = self._hands.settle, self._reset_timestamp
        self._ownership = Ownership(
            self._fetcher, settings, listener=self._listener, settle=settle, reset_timestamp=reset
        )
        self._ownership.commits = self._commits
        self._membership = membership = self._make_membership(coordinator, self._ownership, settings)

        def connected() -> None:
            # As soon as there is a broker to ask, while it is asked for metadata.
            reaching = group.create_task(self._reach(coordinator), name="consumer connections")
            self._member_task = group.create_task(self._be_member(membership), name="consumer group")
            for task in (reaching, self._member_task):
                self._stack.callback(task.cancel)

        self._cluster.first_connected = connected

    async def _start_group(self, group: asyncio.TaskGroup, settings: GroupSettings) -> None:
        """Now that metadata is there."""
        if self._membership is not None:
            if self._pattern is not None or self._misses_topics():
                await self._refresh_topics()
            self._topics_known.set()
            self._fetcher.refreshed = self._refresh_topics
            group.create_task(self._watch_missing(), name="consumer topics")
        if settings.auto_commit:
            self._commit_task = group.create_task(self._commit_regularly(), name="consumer commits")

    async def _reach(self, coordinator: "GroupCoordinator") -> None:
        """Connect to who will be asked, first the coordinator, and while it thinks the leader."""
        await coordinator.reach()
        await self._topics_known.wait()
        self._fetcher.expect_only_leader(self._subscribed)

    def _make_membership(
        self, coordinator: "GroupCoordinator", ownership: Ownership, settings: GroupSettings
    ) -> Membership:
        if self._next_protocol:
            from ottla.client._next_group import NextMembership  # noqa: PLC0415 - only who asks for it loads it

            return NextMembership(
                self._cluster,
                coordinator,
                ownership,
                settings,
                topics=self._topics,
                pattern=lambda: None if self._pattern is None else self._pattern.pattern,
                activity=self._hands,
            )
        from ottla.client._classic_group import ClassicMembership  # noqa: PLC0415

        return ClassicMembership(
            self._cluster, coordinator, ownership, settings, topics=self._topics, activity=self._hands
        )

    async def _be_member(self, membership: Membership) -> None:
        """Whatever ends the membership ends the reading, and the application hears of it."""
        await self._topics_known.wait()
        try:
            await membership.run()
        except* (KafkaError, ConnectionError, ValueError) as group:
            self._fetcher.fail(_first(group), for_good=True)

    def _topics(self) -> frozenset[str]:
        pattern = self._pattern
        if pattern is None:
            return self._subscribed
        known = (self._cluster.known_topic(name) for name in self._cluster.topic_names)
        return frozenset(
            topic.name
            for topic in known
            if topic is not None and pattern.fullmatch(topic.name) and not (self._exclude_internal and topic.internal)
        )

    async def _refresh_topics(self) -> None:
        """Learn of the topics subscribed to, and let the group know if they are others than before."""
        errors = await self._cluster.refresh(None if self._pattern is not None else self._subscribed)
        for name, code in errors.items():
            if name in self._subscribed and not code.retriable:
                raise topic_error(name, code)
        if self._membership is not None:
            self._membership.subscription_changed()

    def _misses_topics(self) -> bool:
        """Whether nothing is known of some topic that is subscribed to by name."""
        return any(self._cluster.known_topic(name) is None for name in self._subscribed)

    async def _watch_missing(self) -> None:
        """Look again for topics that are subscribed to and not there yet, sooner than metadata is refreshed."""
        while not self._closing.is_set():
            await wait_for(self._closing, MISSING_SECONDS)
            if self._pattern is None and self._misses_topics():
                try:
                    await self._refresh_topics()
                except (ConnectionError, KafkaError) as error:
                    logger.info("looking for topics: %s", error)

    async def _commit_regularly(self) -> None:
        while not self._closing.is_set():
            await wait_for(self._closing, self._commit_seconds)
            if not self._closing.is_set():
                await self._commit_finished()

    async def _commit_finished(self) -> None:
        """Commit what was finished since the last time. Failures are told to the log: the next commit covers them."""
        if self._commits is None or (self._membership is not None and self._membership.identity.generation_id < 0):
            return
        self._hands.settle()
        offsets = {
            place: OffsetAndMetadata(offset=offset, leader_epoch=epoch)
            for place, (offset, epoch) in self._fetcher.readings.finished().items()
            if self._committed.get(place) != offset and not self._fetcher.of_former_topic(place)
        }
        try:
            await self._commits.commit(offsets, self._api_seconds)
        except (ConnectionError, KafkaError) as error:
            logger.warning("automatic commit: %s", error)

    def _stored(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        self._committed |= {place: one.offset for place, one in offsets.items()}
        self._interceptors.committed(offsets)

    async def _leave(self, *, handed_out_is_done: bool) -> None:
        """Commit, give everything back, say good-bye."""
        if not self._entered:
            return
        if handed_out_is_done:
            self._hands.finish()
        else:
            self._hands.settle()
        if self._commit_task is not None:
            # It may be waiting for a broker that was away: its offsets are older than those committed now.
            await _ended(self._commit_task)
        if self._membership is None or self._ownership is None or self._member_task is None:
            if self._group_settings is not None and self._group_settings.auto_commit:
                await self._commit_finished()
            return
        self._membership.stop()
        await _ended(self._member_task)
        try:
            await self._ownership.give_up(self._ownership.places, lost=self._membership.identity.generation_id < 0)
        finally:
            await self._membership.leave(self._api_seconds)


def _record_maker(key: Deserializer | None, value: Deserializer | None) -> Callable[..., ConsumerRecord]:
    """What makes a record of its fields."""
    if key is None and value is None:
        return ConsumerRecord

    def make(topic: str, partition: int, offset: int, timestamp: int, *rest: Any) -> ConsumerRecord:
        raw_key, raw_value, *more = rest
        if key is not None and raw_key is not None:
            raw_key = key(raw_key)
        if value is not None and raw_value is not None:
            raw_value = value(raw_value)
        return ConsumerRecord(topic, partition, offset, timestamp, raw_key, raw_value, *more)

    return make


def _checked_pattern(group: str | None, topics: Sequence[str], pattern: str | None) -> re.Pattern[str] | None:
    """The pattern compiled, what goes with it being possible."""
    if isinstance(topics, str):
        raise ValueError(f"topics is a sequence of names: [{topics!r}]")
    if topics and pattern is not None:
        raise ValueError("topics and pattern exclude each other")
    if pattern is not None and group is None:
        raise ValueError("a pattern needs a group")
    return None if pattern is None else re.compile(pattern)


def _milliseconds(when: datetime | int) -> int:
    if isinstance(when, int):
        if when < 0:
            raise ValueError(f"{when} is no time in milliseconds")
        return when
    if when.tzinfo is None:
        raise ValueError("a datetime needs a time zone here")
    return int(when.timestamp() * 1000)


def _first(group: BaseExceptionGroup[Any]) -> Exception:
    error: Any = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)
    return error


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))

"""Keeps a bounded stock of fetched batches: one lane a broker, a fetch session each, read ahead.

Invariants:
- A partition's batches are stocked in offset order, and its next fetch begins where the last whole batch ended.
- What is stocked and not read stays under ``stock_bytes_max``, give or take one answer a broker.
- Nothing is fetched of a partition whose place is not certain: first it is looked up (a reset), and after a change of
  leader it is compared with the new leader's log (KIP-320).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final

from ottla.client._backoff import Backoff
from ottla.client._cluster import Cluster
from ottla.client._decode import Fetched, next_offset_after, only_header
from ottla.client._errors import error_of
from ottla.client._fetch_lane import Asked, FetchLane
from ottla.client._fetch_session import FetchSettings
from ottla.client._offsets import EARLIEST, LATEST, end_of_epoch, find_offsets
from ottla.client._partitions import Reading, Readings
from ottla.model import TopicPartition, Uuid
from ottla.runtime.futures import wait_for
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.fetch_response import FetchResponse, PartitionData
from ottla.wire.mold import Filled

METADATA_PAUSE_SECONDS: Final = 0.1
ERRORS_MAX: Final = 16
LOOKED_UP_MAX: Final = 100
"""Of more partitions than that nothing is asked that may turn out to be needless."""
SMALL_BYTES: Final = 64 * 1024
"""What came is handed out before the next fetch is sent, for the least delay, or else after it."""


class Fetcher:
    """Fetches the ``readings`` until ``stop``; ``next`` hands out what was fetched."""

    def __init__(
        self,
        cluster: Cluster,
        settings: FetchSettings,
        *,
        reset_timestamp: Callable[[], int | None],
        metadata_seconds: float = 300.0,
    ) -> None:
        self.cluster = cluster
        self.settings = settings
        self._reset_timestamp = reset_timestamp
        self._metadata_seconds = metadata_seconds
        self._loop = asyncio.get_running_loop()
        self.readings = Readings()
        self.refreshed: Callable[[], Awaitable[None]] | None = None
        """Called after each regular refresh of the metadata, to look for new topics and partitions."""
        self.dropped: Callable[[], None] = _nothing
        """Called after readings were put or dropped."""
        self._stock: deque[tuple[Reading, Fetched]] = deque()
        self._stock_bytes = 0
        self._wake = asyncio.Event()
        self._waiter: asyncio.Future[None] | None = None
        self._lanes: dict[int, FetchLane] = {}
        self._expected: set[int] = set()
        """Brokers to connect to, whether or not there is something to read yet."""
        self._group: asyncio.TaskGroup | None = None
        self._errors: deque[Exception] = deque(maxlen=ERRORS_MAX)
        self._ended: Exception | None = None
        self.stopping = False

    def changed(self) -> None:
        """Readings were put or dropped: see what is to be done. What was stocked for others is dropped."""
        kept = [(reading, fetched) for reading, fetched in self._stock if self.readings.current(reading)]
        self._stock = deque(kept)
        self._stock_bytes = sum(len(fetched.data) for _, fetched in kept)
        for reading in self.readings.all():
            if reading.topic_id == Uuid.ZERO:
                reading.topic_id = self.topic_id_of(reading.place.topic)
        self.dropped()
        # Those whose place is certain need not wait until the others' is.
        self._wake_lanes()
        self._wake.set()

    def expect(self, places: Iterable[TopicPartition]) -> None:
        """These partitions will be read soon: the connections to their leaders are made meanwhile."""
        for place in places:
            node_id = self.cluster.leader(place)
            if node_id >= 0:
                self._expected.add(node_id)
        self._wake.set()

    def expect_only_leader(self, topics: Iterable[str]) -> None:
        """Where one broker leads all of these topics it will be read from, whatever share of them there will be."""
        places = self.cluster.places(topics)
        if self.has_only_leader(places):
            self.expect(places)

    def has_only_leader(self, places: Iterable[TopicPartition]) -> bool:
        """Whether no two brokers lead these."""
        return len({self.cluster.leader(place) for place in places}) == 1

    async def run(self) -> None:
        """Keep a lane for each broker that is read from, and every position certain, until ``stop``."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            backoff = Backoff(self.cluster.rng, initial=0.02)
            refresh_at = self._loop.time() + self._metadata_seconds
            while not self.stopping:
                due = self._loop.time() >= refresh_at
                try:
                    pause = await self._prepare(regular=due)
                    backoff.reset()
                except (ConnectionError, KafkaError) as error:
                    if isinstance(error, KafkaError) and not error.code.retriable:
                        self.fail(error)
                    # Also when woken: what failed is not tried again at once.
                    await self.cluster.pause(backoff.next_seconds())
                    pause = 0.0
                if due:
                    refresh_at = self._loop.time() + self._metadata_seconds
                for node_id in self._expected:
                    self._lane(node_id)
                self._expected.clear()
                for node_id in {self._source(reading) for reading in self.readings.all()} - {-1}:
                    self._lane(node_id).wake.set()
                await wait_for(self._wake, min(pause, max(0.0, refresh_at - self._loop.time())))
                self._wake.clear()
            for lane in self._lanes.values():
                lane.wake.set()

    async def next(self, seconds: float | None) -> tuple[Reading, Fetched] | None:
        """The next piece of the stock, waiting up to ``seconds`` for one. Raises what stopped the fetching."""
        return self.at_hand() or await self.arrival(seconds)

    async def arrival(self, seconds: float | None) -> tuple[Reading, Fetched] | None:
        """``next`` where nothing is at hand."""
        deadline = None if seconds is None else self._loop.time() + seconds
        while True:
            timer: asyncio.TimerHandle | None = None
            if deadline is not None and deadline <= self._loop.time():
                return None
            self._waiter = waiter = self._loop.create_future()
            if deadline is not None:
                timer = self._loop.call_at(deadline, _settle, waiter)
            try:
                await waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
            piece = self.at_hand()
            if piece is not None:
                return piece

    def at_hand(self) -> tuple[Reading, Fetched] | None:
        """The next piece of the stock, if there is one. Raises what stopped the fetching."""
        if self._errors:
            raise self._errors.popleft()
        if self._ended is not None:
            raise self._ended
        stock = self._stock
        while stock:
            piece = stock.popleft()
            reading, fetched = piece
            size = len(fetched.data)
            self._stock_bytes -= size
            reading.stocked_bytes -= size
            if reading.reset_to is not None:
                self._wake.set()
            if self._stock_bytes < self.settings.stock_bytes_max <= self._stock_bytes + size:
                self._wake_lanes()
            if self.readings.current(reading):
                return piece
        return None

    def of_former_topic(self, place: TopicPartition) -> bool:
        """Whether what was read of a partition is known to be of a topic whose name another one has by now."""
        reading, now = self.readings.get(place), self.topic_id_of(place.topic)
        return reading is not None and Uuid.ZERO not in (reading.topic_id, now) and reading.topic_id != now

    def stop(self) -> None:
        """End ``run``."""
        self.stopping = True
        self._wake.set()
        self._arrived()

    def fail(self, error: Exception, *, for_good: bool = False) -> None:
        """Let the reader know: of the same failure once, or ``for_good`` whenever it comes."""
        if for_good:
            self._ended = error
        elif not any(str(known) == str(error) for known in self._errors):
            self._errors.append(error)
        self._arrived()

    @property
    def full(self) -> bool:
        """Whether enough is stocked for now."""
        return self._stock_bytes >= self.settings.stock_bytes_max

    def _wake_lanes(self) -> None:
        """There may be more to fetch."""
        for lane in self._lanes.values():
            lane.wake.set()

    def _arrived(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _source(self, reading: Reading) -> int:
        """The broker to ask: the follower that the leader named, else the leader."""
        if reading.replica >= 0:
            if self._loop.time() < reading.replica_until and reading.replica in self.cluster.brokers:
                return reading.replica
            reading.replica = -1
            # The leader's lane may be at rest, or go on without a look at what else there is.
            self._wake.set()
        return self.cluster.leader(reading.place)

    # Certain positions

    async def _prepare(self, *, regular: bool) -> float:
        """Refresh metadata where due, look up positions, compare with new leaders; seconds until it is worth again."""
        pause = self._metadata_seconds
        stale = [reading for reading in self.readings.all() if reading.stale or self._source(reading) < 0]
        if stale or regular:
            errors = await self.cluster.refresh({*self.readings.topics(), *self.cluster.topic_names})
            for reading in stale:
                reading.stale = self.cluster.leader(reading.place) < 0
            self._refuse(errors)
            if any(reading.stale for reading in stale):
                pause = METADATA_PAUSE_SECONDS
        if regular and self.refreshed is not None:
            await self.refreshed()
        lost = [
            reading
            for reading in self.readings.all()
            # What was fetched before its place was lost is read first.
            if reading.reset_to is not None and not reading.stale and reading.stocked_bytes <= 0
        ]
        if lost:
            await self._look_up(lost)
        for reading in self.readings.all():
            if reading.fetchable and self._needs_validation(reading):
                await self._validate(reading)
        return pause

    def _refuse(self, errors: Mapping[str, ErrorCode]) -> None:
        for name, code in errors.items():
            if not code.retriable and name in self.readings.topics():
                self.readings.drop([place for place in self.readings.places() if place.topic == name])
                self.fail(error_of(code, f"topic {name!r}"))

    def look_up(self, places: Collection[TopicPartition]) -> "asyncio.Task[dict[TopicPartition, tuple[int, int]]]":
        """Begin to ask where partitions start, or end, and in which epoch, as ``auto_offset_reset`` says: it may be
        needed. Of some it may not be found out; those are looked up with patience once they are read."""
        assert self._group is not None, "it runs"
        return self._group.create_task(self._found(places), name="consumer look-up")

    async def _found(self, places: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        timestamp = self._reset_timestamp()
        if timestamp not in (EARLIEST, LATEST) or len(places) > LOOKED_UP_MAX:
            return {}
        asked = dict.fromkeys(places, timestamp)
        try:
            return await find_offsets(self.cluster, asked, read_committed=self.settings.read_committed, seconds=0.0)
        except (ConnectionError, KafkaError):
            return {}

    async def _look_up(self, readings: list[Reading]) -> None:
        asked = {reading: reading.reset_to for reading in readings if reading.reset_to is not None}
        timestamps = {reading.place: timestamp for reading, timestamp in asked.items()}
        try:
            found = await find_offsets(
                self.cluster, timestamps, read_committed=self.settings.read_committed, seconds=METADATA_PAUSE_SECONDS
            )
        except (ConnectionError, KafkaError):
            # Where a try takes long there is only one: the next one asks for leaders first.
            self.mark_stale(readings)
            raise
        for reading, timestamp in asked.items():
            if self.readings.current(reading) and reading.reset_to == timestamp:
                offset, epoch = found[reading.place]
                if offset >= 0:
                    reading.move(offset, epoch)
                    reading.topic_id = self.topic_id_of(reading.place.topic)
                else:
                    reading.reset_to = LATEST
                    self._wake.set()

    def _needs_validation(self, reading: Reading) -> bool:
        epoch = self.cluster.leader_epoch(reading.place)
        if reading.epoch < 0 or reading.validated_epoch < 0:
            # Where nothing is known of the past there is nothing to compare.
            reading.validated_epoch = epoch
            return 0 <= reading.epoch < epoch
        return epoch > reading.validated_epoch

    async def _validate(self, reading: Reading) -> None:
        """Ask the new leader where the epoch of our position ended: before it, then what we have read was cut off."""
        epoch = self.cluster.leader_epoch(reading.place)
        end = await end_of_epoch(self.cluster, reading.place, reading.epoch, epoch)
        reading.validated_epoch = epoch
        if end is None or not self.readings.current(reading) or end >= reading.fetched:
            return
        if self._reset_timestamp() is None:
            self.readings.drop((reading.place,))
            self.fail(
                KafkaError(
                    ErrorCode.OFFSET_OUT_OF_RANGE,
                    f"the log of {reading.place} was truncated to {end}, but records up to {reading.fetched} were read",
                )
            )
            return
        cut = Reading(reading.place, end)
        cut.validated_epoch = epoch
        self.readings.put(cut)
        self.changed()

    # Fetching

    def _lane(self, node_id: int) -> FetchLane:
        lane = self._lanes.get(node_id)
        if lane is None:
            lane = self._lanes[node_id] = FetchLane(self, node_id)
            assert self._group is not None
            self._group.create_task(lane.run(), name=f"consumer lane {node_id}")
        return lane

    def wanted(self, node_id: int) -> list[Reading]:
        """What to fetch from a broker now: nothing while the stock is full."""
        wanted: list[Reading] = []
        if self.full:
            return wanted
        for reading in self.readings.all():
            if reading.fetchable and self._source(reading) == node_id:
                if self._needs_validation(reading):
                    self._wake.set()
                else:
                    wanted.append(reading)
        return wanted

    def stock(self, asked: Mapping[tuple[str, int], Asked], names: Mapping[Uuid, str], response: FetchResponse) -> None:
        """Stock what came of the readings, if they are still where they were ``asked`` for."""
        before = self._stock_bytes
        for topic in response.responses:
            name = topic.topic or names.get(topic.topic_id, "")
            for partition in topic.partitions:
                reading, offset = asked.get((name, partition.partition_index), (None, -1))
                # It may have been assigned, moved or paused while the request was on its way.
                if reading is not None and self.readings.takes(reading, offset):
                    self._take(reading, partition, topic.topic_id)
        if self._stock_bytes - before >= SMALL_BYTES:
            # The application will be busy for a while: the next fetch goes out before it begins.
            self._loop.call_soon(self._arrived)
        elif self._stock_bytes > before:
            self._arrived()

    def stock_more(self, reading: Reading, offset: int, answer: Filled) -> None:
        """``stock`` of a little of one reading that is read on."""
        if not self.readings.takes(reading, offset):
            return
        assert answer.records is not None
        high_watermark, last_stable_offset, start_offset = answer.numbers
        self._put(reading, high_watermark, last_stable_offset, start_offset, answer.records)
        self._arrived()

    def topic_id_of(self, name: str) -> Uuid:
        """As far as known, or else zero."""
        topic = self.cluster.known_topic(name)
        return Uuid.ZERO if topic is None else topic.topic_id

    def _take(self, reading: Reading, answer: PartitionData, topic_id: Uuid) -> None:
        if not answer.error_code:
            if answer.preferred_read_replica >= 0:
                reading.replica = answer.preferred_read_replica
                reading.replica_until = self._loop.time() + self._metadata_seconds
                self._wake.set()
            self._put_answer(reading, answer, topic_id)
            return
        code = ErrorCode.of(answer.error_code)
        if code is ErrorCode.OFFSET_OUT_OF_RANGE:
            self._out_of_range(reading)
        elif code.retriable:
            hint = answer.current_leader
            asked = self.cluster.leader(reading.place)
            self.cluster.note_leader(reading.place, hint.leader_id, hint.leader_epoch)
            hinted = self.cluster.leader(reading.place) != asked
            self.mark_stale((reading,), refresh=not hinted and code is not ErrorCode.OFFSET_NOT_AVAILABLE)
        else:
            self.readings.drop((reading.place,))
            self.fail(error_of(code, f"fetch from {reading.place}"))

    def _put_answer(self, reading: Reading, answer: PartitionData, topic_id: Uuid) -> None:
        data = answer.records or memoryview(b"")
        assert isinstance(data, memoryview), "decoded records are a view of the frame"
        aborted: tuple[tuple[int, int], ...] = ()
        if answer.aborted_transactions and self.settings.read_committed:
            aborted = tuple((one.producer_id, one.first_offset) for one in answer.aborted_transactions)
        ends = answer.high_watermark, answer.last_stable_offset, answer.log_start_offset
        if self._put(reading, *ends, data, aborted):
            reading.topic_id = topic_id

    def _put(
        self,
        reading: Reading,
        high_watermark: int,
        last_stable_offset: int,
        start_offset: int,
        data: memoryview,
        aborted: tuple[tuple[int, int], ...] = (),
    ) -> bool:
        """Stock ``data``; whether there was some, and whole."""
        reading.high_watermark, reading.start_offset = high_watermark, start_offset
        reading.end_offset = last_stable_offset if self.settings.read_committed else high_watermark
        size = len(data)
        if not size:
            return False
        only = only_header(data)
        before = after = reading.fetched
        epoch = -1
        if only is not None:
            after, epoch = only.base_offset + only.last_offset_delta + 1, only.partition_leader_epoch
        if after <= before:
            after, epoch = next_offset_after(data, before)
        if after == before:
            self.readings.drop((reading.place,))
            message = f"{reading.place} has no whole batch at offset {reading.fetched}"
            self.fail(error_of(ErrorCode.CORRUPT_MESSAGE, message))
            return False
        self._stock.append((reading, Fetched(reading.place, data, before, after, aborted, only)))
        self._stock_bytes += size
        reading.stocked_bytes += size
        reading.fetched = after
        reading.epoch = max(reading.epoch, epoch)
        return True

    def _out_of_range(self, reading: Reading) -> None:
        if reading.replica >= 0:
            # A follower may be behind, or ahead of what it has deleted: only the leader knows.
            reading.replica = -1
            self._wake.set()
            return
        timestamp = self._reset_timestamp()
        if timestamp is None:
            self.readings.drop((reading.place,))
            message = f"{reading.place} has no offset {reading.fetched} and no reset is configured"
            self.fail(error_of(ErrorCode.OFFSET_OUT_OF_RANGE, message))
            return
        reading.reset_to = timestamp
        self._wake.set()

    def mark_stale(self, readings: Iterable[Reading], *, refresh: bool = True) -> None:
        """Where to ask is not known any longer, or (without ``refresh``) has just been learnt."""
        for reading in readings:
            reading.replica = -1
            reading.stale = refresh
        self._wake.set()


def _nothing() -> None:
    """What nobody has asked to hear."""


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)

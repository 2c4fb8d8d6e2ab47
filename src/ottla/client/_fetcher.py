"""Keeps a bounded stock of fetched batches: one lane a broker, incremental fetch sessions (KIP-227), read ahead.

Invariants:
- A partition's batches are stocked in offset order, and its next fetch begins where the last whole batch ended.
- What is stocked and not read stays under ``stock_bytes_max``, give or take one answer a broker.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from ottla.client._backoff import Backoff
from ottla.client._cluster import Cluster
from ottla.client._decode import Fetched, next_offset_after
from ottla.client._offsets import list_offsets
from ottla.model import TopicPartition, Uuid
from ottla.net.peer import Peer
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic
from ottla.wire.messages.fetch_response import FetchResponse, PartitionData

TOPIC_ID_VERSION: Final = 13
"""From here on Fetch names topics by id."""
SESSION_LOST: Final = frozenset(
    (
        ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode.INVALID_FETCH_SESSION_EPOCH,
        ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
    )
)
METADATA_SECONDS: Final = 300.0


class FetchSettings(Struct, frozen=True, kw_only=True):
    """How to fetch. ``reset_timestamp``: where to go when an offset is gone; ``None``: raise."""

    max_wait_ms: int = 500
    min_bytes: int = 1
    max_bytes: int = 16 * 1024 * 1024
    partition_max_bytes: int = 4 * 1024 * 1024
    stock_bytes_max: int = 32 * 1024 * 1024
    read_committed: bool = False
    reset_timestamp: int | None = None
    rack: str = ""


class Position(Struct):
    """Where a partition is fetched next. A stale one waits for new metadata."""

    offset: int
    stale: bool = False


class Session:
    """One broker's fetch session: only what changed since the last request is named."""

    __slots__ = ("_sent", "epoch", "session_id")

    def __init__(self) -> None:
        self.session_id = 0
        self.epoch = 0
        self._sent: dict[TopicPartition, int] = {}

    def changes(self, wanted: Mapping[TopicPartition, int]) -> tuple[dict[TopicPartition, int], list[TopicPartition]]:
        """What to name and what to forget so that the session holds ``wanted`` (offsets by partition)."""
        if self.epoch == 0:
            self._sent = dict(wanted)
            return dict(wanted), []
        changed = {place: offset for place, offset in wanted.items() if self._sent.get(place) != offset}
        forgotten = [place for place in self._sent if place not in wanted]
        self._sent = dict(wanted)
        return changed, forgotten

    def answered(self, session_id: int) -> None:
        """The broker keeps the session, or none (0)."""
        self.session_id = session_id
        self.epoch = 0 if session_id == 0 else self.epoch % (2**31 - 1) + 1

    def reset(self) -> None:
        """Begin anew with a full request."""
        self.session_id = self.epoch = 0
        self._sent.clear()


class Fetcher:
    """Fetches ``assign``-ed partitions until ``stop``; ``next`` hands out what was fetched."""

    def __init__(self, cluster: Cluster, settings: FetchSettings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._positions: dict[TopicPartition, Position] = {}
        self.high_watermarks: dict[TopicPartition, int] = {}
        self._stock: deque[Fetched] = deque()
        self._stock_bytes = 0
        self._changed = asyncio.Event()
        self._arrived = asyncio.Event()
        self._lanes: dict[int, asyncio.Event] = {}
        self._group: asyncio.TaskGroup | None = None
        self._error: Exception | None = None
        self._stopping = False

    def assign(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Fetch these partitions from these offsets on, and no others. What was stocked is dropped."""
        self._positions = {place: Position(offset) for place, offset in offsets.items()}
        self._stock.clear()
        self._stock_bytes = 0
        self._changed.set()

    def add(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Fetch these partitions too."""
        self._positions |= {place: Position(offset) for place, offset in offsets.items()}
        self._changed.set()

    async def run(self) -> None:
        """Keep a lane for each leader until ``stop``."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            backoff = Backoff(self._cluster.rng, initial=0.05)
            refreshed_at = self._loop.time()
            while not self._stopping:
                pause = METADATA_SECONDS
                stale = [place for place, position in self._positions.items() if position.stale]
                if stale or self._loop.time() - refreshed_at >= METADATA_SECONDS:
                    pause = await self._refresh(stale, backoff)
                    refreshed_at = self._loop.time()
                for node_id in {self._leader(place) for place in self._positions} - {-1}:
                    self._lane(node_id).set()
                await _wait(self._changed, pause)
                self._changed.clear()
            for lane in self._lanes.values():
                lane.set()

    async def next(self, seconds: float | None = None) -> Fetched | None:
        """The next piece of the stock, waiting up to ``seconds`` for one. Raises what stopped the fetching."""
        while not self._stock:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            self._arrived.clear()
            if not await _wait(self._arrived, seconds):
                return None
        fetched = self._stock.popleft()
        before = self._stock_bytes
        self._stock_bytes -= len(fetched.data)
        if before >= self._settings.stock_bytes_max > self._stock_bytes:
            for lane in self._lanes.values():
                lane.set()
        return fetched

    def read_position(self, place: TopicPartition) -> int:
        """The offset after everything ``next`` has handed out of a partition; -1 if it is not assigned."""
        for fetched in self._stock:
            if fetched.place == place:
                return fetched.offset
        position = self._positions.get(place)
        return -1 if position is None else position.offset

    def stop(self) -> None:
        """End ``run``."""
        self._stopping = True
        self._changed.set()

    def _leader(self, place: TopicPartition) -> int:
        return self._cluster.leader(place)

    def _lane(self, node_id: int) -> asyncio.Event:
        lane = self._lanes.get(node_id)
        if lane is None:
            lane = self._lanes[node_id] = asyncio.Event()
            assert self._group is not None
            self._group.create_task(self._run_lane(node_id, lane), name=f"consumer lane {node_id}")
        return lane

    async def _run_lane(self, node_id: int, wake: asyncio.Event) -> None:
        session = Session()
        backoff = Backoff(self._cluster.rng, initial=0.05)
        while not self._stopping:
            wanted = self._wanted(node_id)
            if not wanted or self._stock_bytes >= self._settings.stock_bytes_max:
                await wake.wait()
                wake.clear()
                continue
            wake.clear()
            try:
                peer = await self._cluster.peer(node_id)
                await self._fetch(peer, session, wanted)
                backoff.reset()
            except (ConnectionError, KafkaError) as error:
                session.reset()
                if isinstance(error, KafkaError) and not error.code.retriable:
                    self._fail(error)
                self._mark_stale(wanted)
                await asyncio.sleep(backoff.next_seconds())

    def _wanted(self, node_id: int) -> dict[TopicPartition, int]:
        return {
            place: position.offset
            for place, position in self._positions.items()
            if not position.stale and self._leader(place) == node_id
        }

    async def _fetch(self, peer: Peer, session: Session, wanted: dict[TopicPartition, int]) -> None:
        names = {self._topic_id(place.topic): place.topic for place in wanted}
        version = peer.version_of(ApiKey.FETCH)
        if version >= TOPIC_ID_VERSION and Uuid.ZERO in names:
            version = TOPIC_ID_VERSION - 1
        request = self._request(session, wanted, by_id=version >= TOPIC_ID_VERSION)
        seconds = self._settings.max_wait_ms / 1000 + peer.limits.request_seconds
        response: FetchResponse = await peer.request(ApiKey.FETCH, request, version, seconds=seconds)
        if response.error_code != ErrorCode.NONE:
            code = ErrorCode(response.error_code)
            session.reset()
            if code not in SESSION_LOST:
                raise KafkaError(code, "fetch")
            return
        session.answered(response.session_id)
        for topic in response.responses:
            name = topic.topic or names.get(topic.topic_id, "")
            for partition in topic.partitions:
                await self._take(TopicPartition(name, partition.partition_index), partition, wanted)

    def _request(self, session: Session, wanted: dict[TopicPartition, int], *, by_id: bool) -> FetchRequest:
        changed, forgotten = session.changes(wanted)
        settings = self._settings
        topics: dict[str, FetchTopic] = {}
        for place, offset in changed.items():
            entry = topics.get(place.topic)
            if entry is None:
                entry = topics[place.topic] = FetchTopic(partitions=[])
                if by_id:
                    entry.topic_id = self._topic_id(place.topic)
                else:
                    entry.topic = place.topic
            entry.partitions.append(
                FetchPartition(
                    partition=place.partition, fetch_offset=offset, partition_max_bytes=settings.partition_max_bytes
                )
            )
        return FetchRequest(
            max_wait_ms=settings.max_wait_ms,
            min_bytes=settings.min_bytes,
            max_bytes=settings.max_bytes,
            isolation_level=int(settings.read_committed),
            session_id=session.session_id,
            session_epoch=session.epoch,
            topics=list(topics.values()),
            forgotten_topics_data=self._forgotten(forgotten, by_id=by_id),
            rack_id=settings.rack,
        )

    def _forgotten(self, places: Iterable[TopicPartition], *, by_id: bool) -> list[ForgottenTopic]:
        partitions: defaultdict[str, list[int]] = defaultdict(list)
        for place in places:
            partitions[place.topic].append(place.partition)
        return [
            ForgottenTopic(topic_id=self._topic_id(name), partitions=numbers)
            if by_id
            else ForgottenTopic(topic=name, partitions=numbers)
            for name, numbers in partitions.items()
        ]

    def _topic_id(self, name: str) -> Uuid:
        topic = self._cluster.known_topic(name)
        return Uuid.ZERO if topic is None else topic.topic_id

    async def _take(self, place: TopicPartition, answer: PartitionData, wanted: dict[TopicPartition, int]) -> None:
        position = self._positions.get(place)
        if position is None or position.offset != wanted.get(place):
            # Assigned anew while the request was on its way.
            return
        code = ErrorCode(answer.error_code)
        if code is ErrorCode.OFFSET_OUT_OF_RANGE:
            await self._reset(place, position)
        elif code.retriable:
            self._cluster.note_leader(place, answer.current_leader.leader_id, answer.current_leader.leader_epoch)
            self._mark_stale((place,))
        elif code is not ErrorCode.NONE:
            del self._positions[place]
            self._fail(KafkaError(code, f"fetch from {place}"))
        else:
            self._put(place, position, answer)

    def _put(self, place: TopicPartition, position: Position, answer: PartitionData) -> None:
        self.high_watermarks[place] = answer.high_watermark
        data = memoryview(answer.records) if isinstance(answer.records, bytes | memoryview) else memoryview(b"")
        if not data:
            self._arrived.set()
            return
        after = next_offset_after(data, position.offset)
        if after == position.offset:
            self._fail(KafkaError(ErrorCode.CORRUPT_MESSAGE, f"{place} has no whole batch at offset {position.offset}"))
            self._mark_stale((place,))
            return
        aborted = tuple((one.producer_id, one.first_offset) for one in answer.aborted_transactions or ())
        self._stock.append(Fetched(place, data, position.offset, aborted if self._settings.read_committed else ()))
        self._stock_bytes += len(data)
        position.offset = after
        self._arrived.set()

    async def _reset(self, place: TopicPartition, position: Position) -> None:
        timestamp = self._settings.reset_timestamp
        if timestamp is None:
            self._positions.pop(place, None)
            self._fail(
                KafkaError(
                    ErrorCode.OFFSET_OUT_OF_RANGE, f"{place} has no offset {position.offset} and no reset is configured"
                )
            )
            return
        offset = (await list_offsets(self._cluster, {place: timestamp}))[place]
        position.offset = max(offset, 0)

    def _mark_stale(self, places: Iterable[TopicPartition]) -> None:
        for place in places:
            if place in self._positions:
                self._positions[place].stale = True
        self._changed.set()

    async def _refresh(self, stale: list[TopicPartition], backoff: Backoff) -> float:
        """Learn the leaders anew; the seconds to wait before the next try if some are still missing."""
        topics = {place.topic for place in self._positions}
        try:
            await self._cluster.refresh(topics)
        except (ConnectionError, KafkaError):
            return backoff.next_seconds()
        led = 0
        for place in stale:
            position = self._positions.get(place)
            if position is not None and self._leader(place) >= 0:
                position.stale = False
                led += 1
        if led == len(stale):
            backoff.reset()
            return METADATA_SECONDS
        return backoff.next_seconds()

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._arrived.set()


async def _wait(event: asyncio.Event, seconds: float | None) -> bool:
    if event.is_set():
        return True
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True

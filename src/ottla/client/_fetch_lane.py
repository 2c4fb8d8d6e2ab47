"""One broker's share of the fetching: one request at a time, each from where the one before has ended.

A lane is a task that looks at everything before each request. While nothing happens but that one partition is read on,
there is nothing to look at: then the call that takes an answer sees to the next request, and the task goes on waiting.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from ottla.client._backoff import Backoff
from ottla.client._errors import error_of
from ottla.client._fetch_session import SESSION_LOST, TOPIC_ID_VERSION, FetchSession, Wanted
from ottla.client._partitions import Reading
from ottla.model import Uuid
from ottla.net.peer import Peer
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.fetch_response import FetchResponse
from ottla.wire.mold import Filled

if TYPE_CHECKING:
    from ottla.client._fetcher import Fetcher

FETCH_LANE: Final = "fetch"
"""Brokers serve the requests of a connection one after the other, and a fetch may wait: it has its own."""

Asked = tuple[Reading, int]
"""A reading, and the offset from which it was fetched."""


class _Round(Struct, eq=False):
    """Requests of the same readings to the same broker, one after the other."""

    peer: Peer
    version: int
    seconds: float
    asked: dict[tuple[str, int], Asked]
    names: Mapping[Uuid, str]
    generations: tuple[int, int]
    over: "asyncio.Future[None]"
    """Resolved when everything has to be looked at again."""
    went_on: bool = False
    """Whether it was more than one request."""
    moved: tuple[str, int] = ("", -1)
    """The partition that the last request named, where it went on."""


class FetchLane:
    """Fetches what the fetcher wants of a broker, until the fetcher stops."""

    def __init__(self, fetcher: "Fetcher", node_id: int) -> None:
        self.wake = asyncio.Event()
        """Set when there may be other things to fetch than before."""
        self._fetcher = fetcher
        self._node_id = node_id
        self._session = FetchSession()
        self._loop = asyncio.get_running_loop()
        self._round: _Round | None = None

    async def run(self) -> None:
        fetcher, cluster = self._fetcher, self._fetcher.cluster
        backoff = Backoff(cluster.rng, initial=0.05)
        begun = False
        while not fetcher.stopping:
            wanted = fetcher.wanted(self._node_id)
            if begun and not wanted:
                self._round = None
                await self.wake.wait()
                self.wake.clear()
                continue
            self.wake.clear()
            begun = True
            try:
                # The first time also for nothing but the connection (``expect``).
                peer = await cluster.peer(self._node_id, lane=FETCH_LANE)
                if wanted:
                    await self._fetch(peer, wanted)
                backoff.reset()
            except (ConnectionError, KafkaError) as error:
                self._session.reset()
                if self._round is not None and self._round.went_on:
                    self._round.went_on = False
                    backoff.reset()
                if isinstance(error, KafkaError) and not error.code.retriable:
                    fetcher.fail(error)
                fetcher.mark_stale(wanted or fetcher.wanted(self._node_id))
                await cluster.pause(backoff.next_seconds())

    async def _fetch(self, peer: Peer, readings: list[Reading]) -> None:
        """Fetch once, and on as long as one partition moves and nothing else changes."""
        fetcher, cluster = self._fetcher, self._fetcher.cluster
        wanted = {
            reading.place: Wanted(
                reading.fetched, fetcher.topic_id_of(reading.place.topic), cluster.leader_epoch(reading.place)
            )
            for reading in readings
        }
        names = {want.topic_id: place.topic for place, want in wanted.items()}
        version = peer.version_of(ApiKey.FETCH)
        if version >= TOPIC_ID_VERSION and Uuid.ZERO in names:
            version = TOPIC_ID_VERSION - 1
        request = self._session.request(wanted, fetcher.settings, version)
        self._round = now = _Round(
            peer,
            version,
            fetcher.settings.max_wait_ms / 1000 + peer.limits.request_seconds,
            {reading.place: (reading, reading.fetched) for reading in readings},
            names,
            (fetcher.readings.generation, cluster.generation),
            self._loop.create_future(),
        )
        answer = await peer.submit(ApiKey.FETCH, request, version, seconds=now.seconds)
        answer.then(self._answered, self._failed)
        await now.over

    def _answered(self, response: FetchResponse | Filled) -> None:
        """In the call that reads the answer, so that who waits for records is woken before this lane is."""
        now = self._round
        assert now is not None, "a request came first"
        try:
            if isinstance(response, Filled):
                self._fetcher.stock_more(*now.asked[now.moved], response)
                self._loop.call_soon(self._read_on, now)
                return
            if response.error_code:
                self._session_failed(ErrorCode.of(response.error_code), [reading for reading, _ in now.asked.values()])
            else:
                self._session.answered(response.session_id)
                if response.node_endpoints:
                    self._fetcher.cluster.note_brokers(response.node_endpoints)
                self._fetcher.stock(now.asked, now.names, response)
        except Exception as error:
            self._failed(error)
            return
        topics = response.responses
        if len(topics) == 1 and len(topics[0].partitions) == 1 and response.session_id:
            name = topics[0].topic or now.names.get(topics[0].topic_id, "")
            self._loop.call_soon(self._go_on, now, (name, topics[0].partitions[0].partition_index))
        elif not now.over.done():
            now.over.set_result(None)

    def _failed(self, error: Exception) -> None:
        now = self._round
        assert now is not None, "a request came first"
        if not now.over.done():
            now.over.set_exception(error)

    def _read_on(self, now: _Round) -> None:
        """After an answer in the mold, when who waits for its records has them."""
        self._session.answered(self._session.session_id)
        self._go_on(now, now.moved)

    def _go_on(self, now: _Round, place: tuple[str, int]) -> None:
        """Fetch on where only this partition has moved, or else let the task look at everything."""
        if now.over.done():
            return
        try:
            if not self._sent_on(now, place):
                now.over.set_result(None)
        except Exception as error:
            self._failed(error)

    def _sent_on(self, now: _Round, place: tuple[str, int]) -> bool:
        reading, offset = now.asked.get(place, (None, -1))
        if reading is None or reading.fetched == offset or not self._unchanged(now):
            return False
        peer, fetched = now.peer, reading.fetched
        now.asked[place] = reading, fetched
        now.moved = place
        now.went_on = True
        correlation_id = peer.next_correlation_id()
        frame, read = self._session.frame(reading.place, fetched, peer.client_id, correlation_id)
        answer = peer.submit_frame(ApiKey.FETCH, now.version, correlation_id, [frame], seconds=now.seconds, read=read)
        answer.then(self._answered, self._failed)
        return True

    def _unchanged(self, now: _Round) -> bool:
        """Whether the task, woken, would fetch the same readings from the same connection."""
        fetcher = self._fetcher
        if self.wake.is_set() or fetcher.stopping or fetcher.full or not now.peer.ready or not now.peer.fresh:
            return False
        if now.generations != (fetcher.readings.generation, fetcher.cluster.generation):
            return False
        for reading, _ in now.asked.values():  # noqa: SIM110 - a generator would cost more than what it looks at
            # A follower is read from until a certain time.
            if not reading.fetchable or reading.replica >= 0:
                return False
        return True

    def _session_failed(self, code: ErrorCode, readings: list[Reading]) -> None:
        self._session.reset()
        if code not in SESSION_LOST:
            raise error_of(code, "fetch")
        if code.stale_metadata:
            self._fetcher.mark_stale(readings)

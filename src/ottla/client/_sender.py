"""Batches out to their leaders: one lane a broker, answers in any order, retries in order.

Invariants:
- A lane submits its requests one after the other, so a partition's batches reach the broker in sequence order.
- Under idempotence a batch whose fate is unknown is either sent again with its numbers or given up together with the
  producer id: nothing is written twice.
- Every batch ends by ``delivery_seconds``; after ``close`` nothing is open.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from ottla.client._accumulator import Accumulator, Batch, PartitionQueue
from ottla.client._backoff import Backoff
from ottla.client._cluster import Cluster, ClusterUnreachable
from ottla.model import TopicPartition, Uuid
from ottla.net.peer import Peer, PeerLost
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.init_producer_id_request import InitProducerIdRequest
from ottla.wire.messages.init_producer_id_response import InitProducerIdResponse
from ottla.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.messages.produce_response import PartitionProduceResponse, ProduceResponse

TOPIC_ID_VERSION: Final = 13
"""From here on Produce names topics by id."""
METADATA_PAUSE_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 60.0


class SenderSettings:
    """How batches are sent. ``acks``: -1 all, 1, 0."""

    __slots__ = ("acks", "delivery_seconds", "idempotent", "in_flight_max", "request_bytes_max", "request_seconds")

    def __init__(
        self,
        *,
        acks: int,
        idempotent: bool,
        in_flight_max: int,
        request_bytes_max: int,
        request_seconds: float,
        delivery_seconds: float,
    ) -> None:
        self.acks = acks
        self.idempotent = idempotent
        self.in_flight_max = in_flight_max
        self.request_bytes_max = request_bytes_max
        self.request_seconds = request_seconds
        self.delivery_seconds = delivery_seconds


class Sender:
    """Moves batches from the accumulator to the brokers until it is stopped."""

    def __init__(self, cluster: Cluster, accumulator: Accumulator, settings: SenderSettings) -> None:
        self._cluster = cluster
        self._accumulator = accumulator
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._lanes: dict[int, asyncio.Event] = {}
        self._in_flight: defaultdict[int, int] = defaultdict(int)
        self._group: asyncio.TaskGroup | None = None
        self._producer_id = -1
        self._producer_epoch = -1
        self._sequences_broken = False
        self._stopping = False

    async def run(self) -> None:
        """Distribute work to the lanes until ``stop``."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            backoff = Backoff(self._cluster.rng)
            while not self._stopping:
                try:
                    await self._prepare_producer_id()
                    pause = await self._distribute()
                    backoff.reset()
                except (ConnectionError, KafkaError) as error:
                    if isinstance(error, KafkaError) and not error.code.retriable:
                        self._give_up_all(error)
                    self._expire()
                    pause = backoff.next_seconds()
                await _wait(self._wake, pause)
                self._wake.clear()
            for lane in self._lanes.values():
                lane.set()

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    def stop(self) -> None:
        """End ``run``; what was not acknowledged fails."""
        self._stopping = True
        self._give_up_all(KafkaError(ErrorCode.REQUEST_TIMED_OUT, "the producer was closed before it was acknowledged"))
        self._wake.set()

    async def wait_progress(self, seconds: float) -> None:
        """Wait until a batch's fate was decided since the last call, at most ``seconds``."""
        await _wait(self._progress, seconds)
        self._progress.clear()

    async def _prepare_producer_id(self) -> None:
        if not self._settings.idempotent or (self._producer_id >= 0 and not self._sequences_broken):
            return
        if self._sequences_broken:
            if any(queue.in_flight for _, queue in self._accumulator.queues()):
                return
            lost = KafkaError(
                ErrorCode.UNKNOWN_PRODUCER_ID,
                "an earlier batch failed, so it is not known whether this one was written",
            )
            for batch in self._accumulator.restart_sequences():
                self._finish(batch, error=lost)
        elif next(self._accumulator.queues(), None) is None:
            return
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
        response: InitProducerIdResponse = await self._cluster.ask_any(ApiKey.INIT_PRODUCER_ID, request)
        if response.error_code != ErrorCode.NONE:
            raise KafkaError(ErrorCode(response.error_code), "no producer id")
        self._producer_id, self._producer_epoch = response.producer_id, response.producer_epoch
        self._sequences_broken = False

    async def _distribute(self) -> float:
        """Wake the lanes of brokers that have something due; the seconds until something else will be."""
        self._expire()
        now = self._loop.time()
        pause = IDLE_SECONDS
        if self._sequences_broken:
            return METADATA_PAUSE_SECONDS
        leaderless: set[str] = set()
        for place, queue in list(self._accumulator.queues()):
            if not queue.may_send(self._settings.in_flight_max):
                continue
            due_at = self._accumulator.due_at(queue)
            if due_at > now:
                pause = min(pause, due_at - now)
                continue
            leader = self._cluster.leader(place)
            if leader < 0:
                leaderless.add(place.topic)
            else:
                self._lane(leader).set()
        if leaderless:
            await self._cluster.refresh(leaderless)
            pause = min(pause, METADATA_PAUSE_SECONDS)
        return pause

    def _lane(self, node_id: int) -> asyncio.Event:
        lane = self._lanes.get(node_id)
        if lane is None:
            lane = self._lanes[node_id] = asyncio.Event()
            assert self._group is not None
            self._group.create_task(self._run_lane(node_id, lane), name=f"producer lane {node_id}")
        return lane

    async def _run_lane(self, node_id: int, wake: asyncio.Event) -> None:
        """Submit what is due for one broker, as long as it takes more."""
        backoff = Backoff(self._cluster.rng)
        while not self._stopping:
            await wake.wait()
            wake.clear()
            try:
                peer = await self._cluster.peer(node_id)
                throttled = peer.throttled_until - self._loop.time()
                if throttled > 0:
                    await asyncio.sleep(throttled)
                while self._in_flight[node_id] < self._settings.in_flight_max and not self._stopping:
                    batches = self._take(node_id)
                    if not batches:
                        break
                    await self._submit(peer, node_id, batches)
                backoff.reset()
            except (ConnectionError, KafkaError):
                await asyncio.sleep(backoff.next_seconds())
                await self._refresh_metadata()
                self._wake.set()

    def _take(self, node_id: int) -> list[Batch]:
        """At most one batch of each partition the broker leads, together at most one request's size."""
        now = self._loop.time()
        room = self._settings.request_bytes_max
        batches: list[Batch] = []
        if self._sequences_broken or (self._settings.idempotent and self._producer_id < 0):
            return batches
        for place, queue in list(self._accumulator.queues()):
            if not queue.may_send(self._settings.in_flight_max) or self._accumulator.due_at(queue) > now:
                continue
            size = queue.waiting[0].builder.estimated_size
            if self._cluster.leader(place) != node_id or (batches and size > room):
                continue
            batches.append(self._accumulator.take(queue, self._producer_id, self._producer_epoch))
            room -= size
        return batches

    async def _submit(self, peer: Peer, node_id: int, batches: list[Batch]) -> None:
        try:
            version, request = self._request(peer, batches)
            if self._settings.acks == 0:
                await peer.post(ApiKey.PRODUCE, request, version)
                for batch in batches:
                    self._finish(batch, base_offset=-1)
                return
            answer = await peer.submit(ApiKey.PRODUCE, request, version, seconds=self._settings.request_seconds + 1)
        except (ConnectionError, KafkaError) as error:
            for batch in batches:
                self._failed(batch, ErrorCode.NETWORK_EXCEPTION, str(error))
            raise
        self._in_flight[node_id] += 1
        answer.add_done_callback(partial(self._answered, node_id, batches))

    def _request(self, peer: Peer, batches: Sequence[Batch]) -> tuple[int, ProduceRequest]:
        version = peer.version_of(ApiKey.PRODUCE)
        ids = {batch.place.topic: self._topic_id(batch.place.topic) for batch in batches}
        if version >= TOPIC_ID_VERSION and Uuid.ZERO in ids.values():
            version = TOPIC_ID_VERSION - 1
        by_id = version >= TOPIC_ID_VERSION
        topics = {
            name: TopicProduceData(topic_id=topic_id) if by_id else TopicProduceData(name=name)
            for name, topic_id in ids.items()
        }
        for name, topic in topics.items():
            topic.partition_data = [
                PartitionProduceData(index=batch.place.partition, records=batch.encoded())
                for batch in batches
                if batch.place.topic == name
            ]
        timeout_ms = int(self._settings.request_seconds * 1000)
        request = ProduceRequest(acks=self._settings.acks, timeout_ms=timeout_ms, topic_data=list(topics.values()))
        return version, request

    def _topic_id(self, name: str) -> Uuid:
        topic = self._cluster.known_topic(name)
        return Uuid.ZERO if topic is None else topic.topic_id

    def _answered(self, node_id: int, batches: list[Batch], answer: asyncio.Future[Any]) -> None:
        self._in_flight[node_id] -= 1
        self._wake.set()
        error = None if answer.cancelled() else answer.exception()
        if answer.cancelled() or error is not None:
            for batch in batches:
                self._failed(batch, ErrorCode.NETWORK_EXCEPTION, str(error))
            return
        results = _by_place(
            answer.result(), {self._topic_id(batch.place.topic): batch.place.topic for batch in batches}
        )
        for batch in batches:
            result = results.get(batch.place)
            if result is None:
                self._failed(batch, ErrorCode.UNKNOWN_SERVER_ERROR, "the broker's answer left the partition out")
            elif result.error_code in (ErrorCode.NONE, ErrorCode.DUPLICATE_SEQUENCE_NUMBER):
                self._finish(batch, base_offset=result.base_offset, log_append_time=result.log_append_time_ms)
            else:
                hint = result.current_leader
                self._cluster.note_leader(batch.place, hint.leader_id, hint.leader_epoch)
                self._failed(batch, ErrorCode(result.error_code), result.error_message)

    def _failed(self, batch: Batch, code: ErrorCode, message: str | None) -> None:
        """Try again if that can help and there is time, else give up."""
        queue = self._accumulator.queue(batch.place)
        if batch not in queue.in_flight:
            return
        behind_another = queue.in_flight[0] is not batch
        gap = code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER and (behind_another or batch.attempts == 1)
        in_time = self._loop.time() < batch.created_at + self._settings.delivery_seconds
        if (code.retriable or gap) and in_time and not self._stopping:
            queue.in_flight.remove(batch)
            queue.put_back(batch, self._loop.time() + 0.1)
            if code.stale_metadata:
                assert self._group is not None
                self._group.create_task(self._refresh_metadata(batch.place.topic), name="producer metadata")
            return
        if self._settings.idempotent:
            # Its numbers are used up, so whatever follows would look like a gap to the broker.
            self._sequences_broken = True
        self._finish(batch, error=KafkaError(code, message or f"not written to {batch.place}"))

    def _finish(
        self, batch: Batch, *, base_offset: int = -1, log_append_time: int = -1, error: Exception | None = None
    ) -> None:
        queue = self._accumulator.queue(batch.place)
        _discard(queue, batch)
        self._accumulator.release(batch)
        if error is None:
            batch.acknowledge(base_offset, log_append_time)
        else:
            batch.fail(error)
        self._progress.set()

    def _expire(self) -> None:
        """Give up what waits longer than it may; what is in flight ends by its request's deadline."""
        oldest = self._loop.time() - self._settings.delivery_seconds
        for place, queue in list(self._accumulator.queues()):
            while queue.waiting and queue.waiting[0].created_at < oldest:
                batch = queue.waiting[0]
                if batch.attempts and self._settings.idempotent:
                    self._sequences_broken = True
                late = f"not acknowledged by {place} within {self._settings.delivery_seconds:g} s"
                self._finish(batch, error=KafkaError(ErrorCode.REQUEST_TIMED_OUT, late))

    def _give_up_all(self, error: Exception) -> None:
        for batch in self._accumulator.drop_all():
            self._finish(batch, error=error)

    async def _refresh_metadata(self, topic: str | None = None) -> None:
        topics = {place.topic for place, _ in self._accumulator.queues()} if topic is None else {topic}
        try:
            await self._cluster.refresh(topics)
        except (ClusterUnreachable, PeerLost, KafkaError):
            # The lanes go on trying with what is known; batches end by their own deadline.
            return
        finally:
            self._wake.set()


def _by_place(response: ProduceResponse, names: dict[Uuid, str]) -> dict[TopicPartition, PartitionProduceResponse]:
    return {
        TopicPartition(topic.name or names.get(topic.topic_id, ""), partition.index): partition
        for topic in response.responses
        for partition in topic.partition_responses
    }


def _discard(queue: PartitionQueue, batch: Batch) -> None:
    if batch in queue.in_flight:
        queue.in_flight.remove(batch)
    elif batch in queue.waiting:
        queue.waiting.remove(batch)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return

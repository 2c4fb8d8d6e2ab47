"""Batches out to their leaders: one lane a broker, many requests in flight, retries in order.

Everything between a record and the socket is synchronous: a full or lingered-out batch marks its queue, the lane of the
partition's leader takes what is due in the same turn of the loop. Tasks only wait: for connections, metadata, ids.

Invariants:
- A lane submits its requests one after the other, so a partition's batches reach the broker in sequence order.
- Under idempotence a batch whose fate is unknown is either sent again with its numbers or given up, and then its
  partition goes on in the next epoch: nothing is written twice.
- Every batch ends by ``delivery_seconds``; after ``stop`` nothing is open.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from operator import attrgetter
from typing import Any, Final, Protocol

from msgspec import Struct

from ottla.client._accumulator import NO_PRODUCER, Accumulator, Batch, PartitionQueue
from ottla.client._backoff import Backoff
from ottla.client._cluster import Cluster
from ottla.client._errors import ClientClosedError, KafkaTimeoutError, error_of
from ottla.model import TopicPartition, Uuid
from ottla.net.peer import Peer
from ottla.runtime.turn import of_running_loop
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.frame import RequestHeader
from ottla.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.messages.produce_response import PartitionProduceResponse, ProduceResponse, TopicProduceResponse
from ottla.wire.mold import AnswerMold, Filled, RecordsMold

TOPIC_ID_VERSION: Final = 13
"""From here on Produce names topics by id."""
LOG_START_VERSION: Final = 5
"""From here on answers tell where the log starts."""
EXPIRY_PAUSE_MAX: Final = 1.0
TIMER_TOLERANCE: Final = 0.002
NUMBERS_REFUSED: Final = (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.UNKNOWN_PRODUCER_ID)


class SenderSettings(Struct, frozen=True, kw_only=True):
    """How batches are sent. ``acks``: -1 all, 1, 0."""

    acks: int
    idempotent: bool
    in_flight_max: int
    request_bytes_max: int
    request_seconds: float
    delivery_seconds: float
    retry_seconds: float = 0.1
    retry_seconds_max: float = 1.0
    metadata_seconds: float = 300.0


class Transaction(Protocol):
    """What the sender asks of the transaction in whose name it sends."""

    transactional_id: str
    producer: tuple[int, int]

    def may_send(self, place: TopicPartition) -> bool:
        """Whether the coordinator knows the partition; if not, it is told, and the sender is woken afterwards."""
        ...

    def produce_version(self, newest: int) -> int: ...
    def fail(self, error: KafkaError) -> None: ...


class _Form(Struct, eq=False):
    """How requests for one batch of a partition are written, and how the broker says that it has it: as long as neither
    connection nor metadata change they differ in their records, and in where these lie."""

    peer: Peer
    generation: int
    version: int
    mold: RecordsMold
    read: Callable[[bytes], Filled | None] | None
    """What an answer like most is read with, where the version has a mold."""


class Lane:
    """One broker's share: queues with something due, requests in flight."""

    def __init__(self, sender: "Sender", node_id: int) -> None:
        self.sender = sender
        self.node_id = node_id
        self.ready: deque[PartitionQueue] = deque()
        self.in_flight = 0
        self.forms: dict[PartitionQueue, _Form] = {}
        self._peer: Peer | None = None
        """The connection that was used last, as long as the metadata of then holds."""
        self._generation = -1
        self._scheduled = False
        self._waiting = False
        """While a task gets a connection, or waits for it to take more."""

    def schedule(self) -> None:
        """Pump at the end of what the loop does now, or else in its next turn."""
        if not self._scheduled:
            self._scheduled = True
            self.sender.turn.at_end(self._pump)

    def send_now(self) -> bool:
        """Send what is due unless something is in flight already: then more may come along, and it goes at the end of
        what the loop does now. Whether it was sent."""
        if not self.in_flight:
            self._pump()
            if self.in_flight:
                return True
        self.schedule()
        return False

    def release(self) -> list[PartitionQueue]:
        """Hand back every queue: somebody else may lead them now."""
        queues = list(self.ready)
        self.ready.clear()
        self.forms.clear()
        for queue in queues:
            queue.lane = None
        return queues

    def _pump(self) -> None:
        self._scheduled = False
        sender = self.sender
        if sender.stopping or self._waiting or not self.ready or not sender.have_producer():
            return
        peer, generation = self._peer, sender.cluster.generation
        if peer is None or generation != self._generation or peer.renew_at is not None:
            peer = self._peer = sender.cluster.connected(self.node_id)
            self._generation = generation
        if peer is None or not peer.ready:
            self._peer = None
            self._waiting = True
            sender.spawn(self._wait_ready(), f"producer lane {self.node_id}")
            return
        while self.in_flight < sender.settings.in_flight_max:
            batches = self._take()
            if not batches:
                return
            sender.submit(self, peer, batches)
            if not self.ready:
                return
            if not peer.ready:
                self.schedule()
                return

    def _go_on(self) -> None:
        self._waiting = False
        self.schedule()

    async def _wait_ready(self) -> None:
        """Get a connection that takes requests, as long as anything waits for this broker."""
        sender = self.sender
        backoff = Backoff(sender.cluster.rng, initial=sender.settings.retry_seconds)
        try:
            while self.ready and not sender.stopping:
                try:
                    peer = await sender.cluster.peer(self.node_id)
                    await peer.wait_ready()
                    return
                except KafkaError as error:
                    # Wrong credentials, a broker that is too old: time does not help.
                    for queue in self.release():
                        sender.give_up_waiting(queue, error)
                except ConnectionError:
                    sender.want_metadata(queue.place.topic for queue in self.ready)
                    await asyncio.sleep(backoff.next_seconds())
        finally:
            self._go_on()

    def _take(self) -> list[Batch]:
        """At most one batch of each partition, together at most one request's size. What is led by others has gone, by
        ``release``, when that became known."""
        sender = self.sender
        accumulator, settings = sender.accumulator, sender.settings
        room = settings.request_bytes_max
        lingers = accumulator.linger_seconds > 0
        batches: list[Batch] = []
        again: list[PartitionQueue] = []
        for _ in range(len(self.ready)):
            queue = self.ready.popleft()
            queue.lane = None
            if not queue.may_send(settings.in_flight_max):
                continue
            if lingers or queue.muted_until:
                now = sender.loop.time() + TIMER_TOLERANCE
                if accumulator.due_at(queue) > now:
                    if queue.muted_until > now:
                        sender.loop.call_at(queue.muted_until, sender.mark, queue)
                    continue
            size = queue.waiting[0].size
            if batches and size > room:
                again.append(queue)
                continue
            batch = sender.take(queue)
            if batch is None:
                continue
            batches.append(batch)
            room -= size
            if queue.waiting:
                again.append(queue)
        for queue in again:
            queue.lane = self
            self.ready.append(queue)
        return batches


class Sender:
    """Moves batches from the accumulator to the brokers until it is stopped."""

    def __init__(
        self,
        cluster: Cluster,
        accumulator: Accumulator,
        settings: SenderSettings,
        transaction: Transaction | None = None,
    ) -> None:
        self.cluster = cluster
        self.accumulator = accumulator
        self.settings = settings
        self.turn = of_running_loop()
        self.loop = self.turn.loop
        self.stopping = False
        self._transaction = transaction
        self._lanes: dict[int, Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._stop = asyncio.Event()
        self._producer = NO_PRODUCER
        self._producer_wanted = False
        self._topics_wanted: set[str] = set()
        self._refreshing = False
        self._room: list[asyncio.Future[None]] = []
        self.on_stop: list[Callable[[], object]] = []
        """Called when nothing more is sent, for whatever reason."""

    async def run(self) -> None:
        """Send until ``stop``."""
        self.cluster.listeners.append(self._metadata_changed)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.spawn(self._expire_batches(), "producer expiry")
                self.spawn(self._keep_metadata_fresh(), "producer metadata age")
                await self._stop.wait()
                for task in self._tasks:
                    task.cancel()
        finally:
            self.stop()

    def stop(self) -> None:
        """End ``run``; what was not acknowledged fails."""
        self.stopping = True
        for callback in self.on_stop:
            callback()
        self._give_up_all(closed_error())
        self._stop.set()

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Start something that waits; it ends with the sender."""
        assert self._group is not None, "run() comes first"
        if self.stopping:
            coroutine.close()
            return
        task = self._group.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def opened(self, batch: Batch, *, send_now: bool = False) -> None:
        """A batch was opened: it goes when it has lingered, or before, when it is full. The caller may promise to call
        ``send_now`` when there is a record in it."""
        linger = self.accumulator.linger_seconds
        if linger > 0 and not self.accumulator.flushing:
            self.loop.call_at(batch.created_at + linger, self._lingered, batch)
            return
        lane = self._enlist(batch.queue)
        if lane is not None and (linger > 0 or not send_now):
            lane.schedule()

    def _lingered(self, batch: Batch) -> None:
        if batch.attempts == 0 and not batch.settled:
            batch.full = True
            self.mark(batch.queue)

    def send_now(self, queue: PartitionQueue) -> bool:
        """Send what was just added if nothing lingers and nothing is in flight to that broker; whether it was sent."""
        lane = queue.lane
        return lane is not None and self.accumulator.linger_seconds <= 0 and lane.send_now()

    def mark(self, queue: PartitionQueue) -> None:
        """Something of a queue may be due."""
        if queue.lane is None and queue.waiting:
            lane = self._enlist(queue)
            if lane is not None:
                lane.schedule()

    def _enlist(self, queue: PartitionQueue) -> Lane | None:
        """Put a queue on its leader's list, unless it is there already."""
        if queue.lane is not None:
            return None
        node_id = self.cluster.leader(queue.place)
        if node_id < 0:
            self.want_metadata((queue.place.topic,))
            return None
        lane = self._lanes.get(node_id)
        if lane is None:
            lane = self._lanes[node_id] = Lane(self, node_id)
        queue.lane = lane
        lane.ready.append(queue)
        return lane

    def mark_all(self) -> None:
        """Look at every queue again."""
        for queue in self.accumulator.busy_queues():
            self.mark(queue)

    async def wait_room(self, seconds: float) -> bool:
        """Wait until the accumulator has room, at most ``seconds``; whether it has."""
        deadline = self.loop.time() + seconds
        while self.accumulator.full and not self.stopping:
            future = self.loop.create_future()
            self._room.append(future)
            self.mark_all()
            try:
                async with asyncio.timeout_at(deadline):
                    await future
            except TimeoutError:
                return not self.accumulator.full
        return True

    def have_producer(self) -> bool:
        """Whether there is a producer id where one is needed; otherwise one is asked for."""
        if not self.settings.idempotent or self._transaction is not None or self._producer[0] >= 0:
            return True
        if not self._producer_wanted:
            self._producer_wanted = True
            self.spawn(self._fetch_producer(), "producer id")
        return False

    def take(self, queue: PartitionQueue) -> Batch | None:
        """The head of a queue, unless its transaction has to do something first."""
        transaction = self._transaction
        if transaction is None:
            return self.accumulator.take(queue, self._producer, transactional=False)
        if not transaction.may_send(queue.place):
            return None
        return self.accumulator.take(queue, transaction.producer, transactional=True)

    def submit(self, lane: Lane, peer: Peer, batches: list[Batch]) -> None:
        """Put a request on the connection."""
        settings = self.settings
        try:
            if len(batches) == 1 and settings.acks and self._transaction is None:
                batch = batches[0]
                form = lane.forms.get(batch.queue)
                if form is None or form.peer is not peer or form.generation != self.cluster.generation:
                    form = lane.forms[batch.queue] = self._form(peer, batch)
                correlation_id, seconds = peer.next_correlation_id(), self._seconds_for(batch)
                parts = form.mold.parts(correlation_id, batch.encoded())
                answer = peer.submit_frame(
                    ApiKey.PRODUCE, form.version, correlation_id, parts, seconds=seconds, read=form.read
                )
            else:
                version, request = self._request(peer, batches)
                if not settings.acks:
                    peer.post_now(ApiKey.PRODUCE, request, version)
                    for batch in batches:
                        self._finish(batch)
                    return
                oldest = min(batches, key=attrgetter("created_at"))
                answer = peer.submit_now(ApiKey.PRODUCE, request, version, seconds=self._seconds_for(oldest))
        except KafkaError as error:
            for batch in batches:
                self._give_up(batch, error)
            return
        lane.in_flight += 1
        answer.then(partial(self._answered, lane, batches), partial(self._unanswered, lane, batches))

    def _seconds_for(self, batch: Batch) -> float:
        """How long an answer is waited for."""
        settings = self.settings
        left = batch.created_at + settings.delivery_seconds - self.loop.time()
        return settings.request_seconds if left > settings.request_seconds else max(0.05, left)

    def want_metadata(self, topics: Iterable[str]) -> None:
        """Refresh what is known of topics, soon and until their leaders are known."""
        self._topics_wanted.update(topics)
        if not self._refreshing and not self.stopping:
            self._refreshing = True
            self.spawn(self._refresh_metadata(), "producer metadata")

    def give_up_waiting(self, queue: PartitionQueue, error: KafkaError) -> None:
        """Fail everything of a queue that is not in flight."""
        for batch in list(queue.waiting):
            self._give_up(batch, error)

    def give_up_all_waiting(self, error: KafkaError) -> None:
        """Fail everything that is not in flight."""
        for queue in self.accumulator.busy_queues():
            self.give_up_waiting(queue, error)

    def _request(self, peer: Peer, batches: list[Batch]) -> tuple[int, ProduceRequest]:
        version = peer.version_of(ApiKey.PRODUCE)
        transaction = self._transaction
        if transaction is not None:
            version = transaction.produce_version(version)
        topics: dict[str, TopicProduceData] = {}
        for batch in batches:
            name, partition = batch.queue.place
            topic = topics.get(name)
            if topic is None:
                topic = topics[name] = TopicProduceData(topic_id=self._topic_id(name), partition_data=[])
                if topic.topic_id == Uuid.ZERO:
                    version = min(version, TOPIC_ID_VERSION - 1)
            topic.partition_data.append(PartitionProduceData(index=partition, records=batch.encoded()))
        if version < TOPIC_ID_VERSION:
            for name, topic in topics.items():
                topic.name, topic.topic_id = name, Uuid.ZERO
        return version, ProduceRequest(
            transactional_id=None if transaction is None else transaction.transactional_id,
            acks=self.settings.acks,
            timeout_ms=int(self.settings.request_seconds * 1000),
            topic_data=list(topics.values()),
        )

    def _form(self, peer: Peer, batch: Batch) -> _Form:
        version, request = self._request(peer, [batch])
        request.topic_data[0].partition_data[0].records = b""
        mold = RecordsMold(RequestHeader(ApiKey.PRODUCE, version, 0, peer.client_id), request)
        read = _answers(version, request).read if version >= LOG_START_VERSION else None
        return _Form(peer, self.cluster.generation, version, mold, read)

    def _topic_id(self, name: str) -> Uuid:
        topic = self.cluster.known_topic(name)
        return Uuid.ZERO if topic is None else topic.topic_id

    def _answered(self, lane: Lane, batches: list[Batch], response: ProduceResponse | Filled) -> None:
        lane.in_flight -= 1
        if isinstance(response, Filled):
            base_offset, log_append_time, _ = response.numbers
            self._acknowledged(batches[0], base_offset, log_append_time)
            self._landed(lane, batches)
            return
        if response.node_endpoints:
            self.cluster.note_brokers(response.node_endpoints)
        results: dict[tuple[str, int], PartitionProduceResponse] = {}
        names: dict[Uuid, str] = {}
        for batch in batches:
            name = batch.queue.place.topic
            names[self._topic_id(name)] = name
        for topic in response.responses:
            name = topic.name or names.get(topic.topic_id, "")
            for partition in topic.partition_responses:
                results[name, partition.index] = partition
        for batch in batches:
            self._resolve(batch, results.get(batch.queue.place))
        self._landed(lane, batches)

    def _unanswered(self, lane: Lane, batches: list[Batch], error: Exception) -> None:
        lane.in_flight -= 1
        for batch in batches:
            self._failed(batch, ErrorCode.NETWORK_EXCEPTION, str(error))
        self._landed(lane, batches)

    def _landed(self, lane: Lane, batches: list[Batch]) -> None:
        """A request is no longer in flight: see what may go instead."""
        if lane.ready:
            lane.schedule()
        for batch in batches:
            queue = batch.queue
            if queue.gap and queue.close_gap() and queue.producer == NO_PRODUCER:
                self._producer = NO_PRODUCER
            if queue.waiting:
                self.mark(queue)

    def _resolve(self, batch: Batch, result: PartitionProduceResponse | None) -> None:
        if result is None:
            self._failed(batch, ErrorCode.UNKNOWN_SERVER_ERROR, "the broker's answer left the partition out")
        elif not result.error_code or result.error_code == ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
            self._acknowledged(batch, result.base_offset, result.log_append_time_ms)
        else:
            hint = result.current_leader
            self.cluster.note_leader(batch.place, hint.leader_id, hint.leader_epoch)
            self._failed(batch, ErrorCode.of(result.error_code), result.error_message)

    def _acknowledged(self, batch: Batch, base_offset: int, log_append_time: int) -> None:
        batch.queue.unproven = False
        self._finish(batch, base_offset=base_offset, log_append_time=log_append_time)

    def _failed(self, batch: Batch, code: ErrorCode, message: str | None) -> None:
        """Try again if that can help and there is time, else give up."""
        queue = batch.queue
        if batch not in queue.in_flight:
            return
        now = self.loop.time()
        in_time = now < batch.created_at + self.settings.delivery_seconds and not self.stopping
        retry = code.retriable
        if code in NUMBERS_REFUSED and self.settings.idempotent and in_time:
            oldest = queue.oldest_sent(batch)
            if oldest and self._transaction is None and (queue.gap or batch.attempts == 1):
                # It is not in the log, and nothing before it can still get there.
                queue.refuse(batch)
                return
            retry = not oldest
        if retry and in_time:
            queue.in_flight.remove(batch)
            pause = self.settings.retry_seconds * 2.0 ** min(batch.attempts - 1, 10)
            pause = min(pause, self.settings.retry_seconds_max) * self.cluster.rng.uniform(0.8, 1.2)
            queue.put_back(batch, now + pause)
            if code.stale_metadata:
                self.want_metadata((batch.place.topic,))
            return
        self._give_up(batch, self._reason(batch, code, message, in_time=in_time))

    def _reason(self, batch: Batch, code: ErrorCode, message: str | None, *, in_time: bool) -> KafkaError:
        if in_time:
            return error_of(code, message or f"not written to {batch.place}: {code.description}")
        if self.stopping:
            return closed_error()
        why = message or code.description
        return self._late(batch, f"; the last try: {why}")

    def _late(self, batch: Batch, why: str = "") -> KafkaError:
        text = f"not acknowledged by {batch.place} within {self.settings.delivery_seconds:g} s{why}"
        return KafkaTimeoutError(ErrorCode.REQUEST_TIMED_OUT, text)

    def _give_up(self, batch: Batch, error: KafkaError) -> None:
        if batch.attempts and self.settings.idempotent:
            # Its numbers are used up, so whatever follows would look like a gap to the broker.
            batch.queue.gap = True
        if self._transaction is not None:
            self._transaction.fail(error)
        self._finish(batch, error=error)
        if batch.queue.gap and batch.queue.close_gap():
            self.mark(batch.queue)

    def _finish(
        self, batch: Batch, *, base_offset: int = -1, log_append_time: int = -1, error: Exception | None = None
    ) -> None:
        self.accumulator.finish(batch)
        batch.settle(base_offset=base_offset, log_append_time=log_append_time, error=error)
        if self._room and not self.accumulator.full:
            waiting, self._room = self._room, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def _give_up_all(self, error: KafkaError) -> None:
        for batch in list(self.accumulator.open.values()):
            self._finish(batch, error=error)
        for future in self._room:
            if not future.done():
                future.set_result(None)

    def _metadata_changed(self) -> None:
        if self.stopping:
            return
        for lane in self._lanes.values():
            lane.release()
        self.mark_all()

    async def _expire_batches(self) -> None:
        """Give up what waits longer than it may; what is in flight ends by its request's deadline."""
        pause = min(EXPIRY_PAUSE_MAX, max(0.01, self.settings.delivery_seconds / 10))
        while True:
            await asyncio.sleep(pause)
            oldest = self.loop.time() - self.settings.delivery_seconds
            for batch in list(self.accumulator.open.values()):
                if batch.created_at >= oldest:
                    break
                if batch not in batch.queue.in_flight:
                    self._give_up(batch, self._late(batch))

    async def _keep_metadata_fresh(self) -> None:
        while True:
            await asyncio.sleep(self.settings.metadata_seconds)
            self.want_metadata(self.cluster.topic_names)

    async def _refresh_metadata(self) -> None:
        backoff = Backoff(self.cluster.rng, initial=self.settings.retry_seconds)
        try:
            while self._topics_wanted:
                topics, self._topics_wanted = self._topics_wanted, set()
                try:
                    errors = await self.cluster.refresh(topics)
                except (ConnectionError, KafkaError) as error:
                    if isinstance(error, KafkaError) and error.fatal:
                        self.give_up_all_waiting(error)
                    self._topics_wanted |= topics
                else:
                    self._refuse_topics(errors)
                if self._topics_wanted:
                    await asyncio.sleep(backoff.next_seconds())
        finally:
            self._refreshing = False

    def _refuse_topics(self, errors: dict[str, ErrorCode]) -> None:
        """Fail what goes to topics that the cluster will not let us write to."""
        refused = {name: code for name, code in errors.items() if not code.retriable}
        for queue in self.accumulator.busy_queues():
            code = refused.get(queue.place.topic)
            if code is not None:
                self.give_up_waiting(queue, error_of(code, f"topic {queue.place.topic!r}: {code.description}"))

    async def _fetch_producer(self) -> None:
        """Get a producer id, for as long as anything waits to be sent."""
        from ottla.wire.messages.init_producer_id_request import InitProducerIdRequest  # noqa: PLC0415 - loaded on demand

        backoff = Backoff(self.cluster.rng, initial=0.02)
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
        try:
            while self._producer[0] < 0 and not self.accumulator.empty:
                try:
                    response = await self.cluster.ask_any(ApiKey.INIT_PRODUCER_ID, request)
                    code = ErrorCode.of(response.error_code)
                    if code is ErrorCode.NONE:
                        self._producer = response.producer_id, response.producer_epoch
                        break
                    if not code.retriable:
                        raise error_of(code, "the cluster gives no producer id")
                except ConnectionError:
                    pass
                except KafkaError as error:
                    self.give_up_all_waiting(error)
                await asyncio.sleep(backoff.next_seconds())
        finally:
            self._producer_wanted = False
        for lane in self._lanes.values():
            lane.schedule()
        self.mark_all()


def _answers(version: int, request: ProduceRequest) -> AnswerMold:
    """How a broker says that it has the one batch of ``request``."""
    topic = request.topic_data[0]

    def has_it(base_offset: int, log_append_time: int, log_start_offset: int) -> ProduceResponse:
        result = PartitionProduceResponse(
            index=topic.partition_data[0].index,
            base_offset=base_offset,
            log_append_time_ms=log_append_time,
            log_start_offset=log_start_offset,
        )
        results = TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=[result])
        return ProduceResponse(responses=[results])

    return AnswerMold(ApiKey.PRODUCE, version, "qqq", has_it, records=False)


def closed_error() -> KafkaError:
    """What happens to records that were on their way."""
    return ClientClosedError(ErrorCode.REQUEST_TIMED_OUT, "the producer was closed before it was acknowledged")

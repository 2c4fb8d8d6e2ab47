"""The producer's face: records in, their places out."""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice, repeat
from time import time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast

from msgspec import Struct

from ottla.client._accumulator import Accumulator, Batch, Delivery, PartitionQueue, Receipt, RecordMetadata
from ottla.client._cluster import Cluster, Recovery, RecoveryStrategy, TopicMetadata
from ottla.client._errors import BufferExhaustedError, ConfigError, RecordTooLargeError, UnknownTopicError
from ottla.client._partitioner import (
    STICKING,
    PartitionerName,
    PartitionFunction,
    StickyChoice,
    default,
    load_weights,
    partition_function,
    partitions_for_keys,
)
from ottla.client._partitioner import Partitioner as PartitionerObject
from ottla.client._record import (
    PLAIN,
    Headers,
    ProducerInterceptor,
    ProducerRecord,
    as_bytes,
    as_record,
    checked,
    ends_of,
)
from ottla.client._sender import Sender, SenderSettings
from ottla.model import TopicPartition
from ottla.records.builder import RECORD_OVERHEAD_MAX, record_size_max
from ottla.records.compression import Codec
from ottla.records.reader import Header
from ottla.runtime.supervisor import Supervisor
from ottla.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from ssl import SSLContext

    from ottla.client._offsets import OffsetAndMetadata
    from ottla.client._security import Sasl, Tls
    from ottla.client._transactions import GroupMetadata, Transactions

Acks = Literal["all", 0, 1, -1]
CompressionName = Literal["none", "gzip", "snappy", "lz4", "zstd"]
Serializer = Callable[[Any], bytes | None]

RECORDS_A_TURN: Final = 4096
"""Records taken between two turns of the event loop, so that sending overlaps with gathering."""


class _Route(Struct):
    """What is needed to place a record of one topic."""

    known: TopicMetadata
    queues: list[PartitionQueue]
    sticky: StickyChoice
    stuck: Batch | None = None
    """The open batch that records without a key go to."""

    def loads(self, reachable: Callable[[TopicPartition], bool]) -> list[int]:
        loads = [len(queue.waiting) + len(queue.in_flight) for queue in self.queues]
        return load_weights(loads, [reachable(queue.place) for queue in self.queues])


class Producer:
    """Sends records to a cluster. Use it as ``async with Producer("host:port") as producer``.

    Idempotent unless ``acks`` says otherwise: a record that is acknowledged is in the log exactly once. Records with a
    key go where Kafka's Java client would send them. Times are milliseconds, sizes bytes. With a ``transactional_id``
    records are sent inside ``async with producer.transaction()``.
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        *,
        acks: Acks = "all",
        compression: CompressionName = "none",
        compression_level: int | None = None,
        linger_ms: float = 5,
        batch_size: int = 131_072,
        buffer_memory: int = 33_554_432,
        max_block_ms: float = 60_000,
        max_request_size: int = 1_048_576,
        max_in_flight: int = 5,
        idempotent: bool | None = None,
        request_timeout_ms: float = 30_000,
        delivery_timeout_ms: float = 120_000,
        retry_backoff_ms: float = 100,
        retry_backoff_max_ms: float = 1_000,
        partitioner: PartitionerName | PartitionFunction | PartitionerObject = "default",
        adaptive_partitioning: bool = True,
        transactional_id: str | None = None,
        transaction_timeout_ms: int = 60_000,
        key_serializer: Serializer | None = None,
        value_serializer: Serializer | None = None,
        interceptors: Sequence[ProducerInterceptor] = (),
        create_topics: bool = True,
        metadata_max_age_ms: float = 300_000,
        metadata_recovery_strategy: RecoveryStrategy = "rebootstrap",
        metadata_recovery_rebootstrap_trigger_ms: float = 300_000,
        tls: "bool | Tls | SSLContext" = False,
        sasl: "Sasl | None" = None,
        client_id: str = "ottla-producer",
    ) -> None:
        level = -1 if acks in ("all", -1) else int(acks)
        self._settings = SenderSettings(
            acks=level,
            idempotent=level == -1 and max_in_flight <= 5 if idempotent is None else idempotent,
            in_flight_max=max_in_flight,
            request_bytes_max=max_request_size,
            request_seconds=request_timeout_ms / 1000,
            delivery_seconds=delivery_timeout_ms / 1000,
            retry_seconds=retry_backoff_ms / 1000,
            retry_seconds_max=max(retry_backoff_ms, retry_backoff_max_ms) / 1000,
            metadata_seconds=metadata_max_age_ms / 1000,
        )
        _check_settings(self._settings, transactional_id)
        recovery = Recovery.of(metadata_recovery_strategy, metadata_recovery_rebootstrap_trigger_ms)
        self._cluster = Cluster(bootstrap_servers, client_id=client_id, recovery=recovery, tls=tls, sasl=sasl)
        self._accumulator = Accumulator(
            codec=_codec(compression),
            level=compression_level,
            batch_bytes=min(batch_size, max_request_size, buffer_memory),
            linger_seconds=linger_ms / 1000,
            buffer_bytes=buffer_memory,
        )
        self._block_seconds = max_block_ms / 1000
        self._partition_of = partition_function(partitioner, self._cluster.rng)
        self._keyless_stick, self._adaptive = self._partition_of in STICKING, adaptive_partitioning
        self._key_serializer, self._value_serializer = key_serializer, value_serializer
        self._interceptors = tuple(interceptors)
        self._plain = not (interceptors or key_serializer or value_serializer)
        self._create_topics = create_topics
        self._transactions: Transactions | None = None
        if transactional_id is not None:
            self._transactions = self._make_transactions(transactional_id, transaction_timeout_ms)
        self._routes: dict[str, _Route] = {}
        self._sticky: dict[str, StickyChoice] = {}
        self._sender: Sender | None = None
        self._supervisor: Supervisor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """A producer from Kafka's own names, Java's or librdkafka's: ``{"bootstrap.servers": ..., "linger.ms": 5}``.

        ``options`` are this class's own arguments, for what has no name there. Raises ``ConfigError`` for a key nobody
        knows, with the nearest one that exists.
        """
        from ottla.client._config import producer_options  # noqa: PLC0415 - for those who use it

        return cls(**{**producer_options(config), **options})

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(flush=error is None or isinstance(error, Exception))

    async def start(self) -> None:
        """Connect; with a ``transactional_id`` take it over. ``async with`` does this."""
        if self._sender is not None:
            raise RuntimeError("the producer runs already")
        try:
            await self._cluster.__aenter__()
            self._loop = asyncio.get_running_loop()
            if self._transactions is not None:
                await self._transactions.init()
            self._sender = Sender(self._cluster, self._accumulator, self._settings, self._transactions)
            self._cluster.listeners.append(self._routes.clear)
            self._sender.on_stop.append(self._routes.clear)
            if self._transactions is not None:
                self._transactions.attach(self._sender)
            self._supervisor = Supervisor()
            self._supervisor.spawn(self._sender.run(), "producer")
            await asyncio.sleep(0)
        except BaseException:
            self._cluster.close()
            raise

    async def close(self, *, flush: bool = True) -> None:
        """Send what is queued, unless ``flush`` is false, and close. What is not acknowledged by then fails."""
        if self._sender is None or self._supervisor is None:
            return
        try:
            transactions = self._transactions
            if transactions is not None and transactions.state in ("open", "failed"):
                await transactions.abort()
            elif flush and not self._sender.stopping:
                await self.flush()
        finally:
            self._sender.stop()
            self._cluster.close()
            await self._supervisor.stop()

    async def send(
        self,
        topic: str,
        value: Any = None,
        *,
        key: Any = None,
        partition: int | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Send a record and wait until it is acknowledged. Raises ``KafkaError``."""
        receipt = await self.send_soon(
            topic, value, key=key, partition=partition, headers=headers, timestamp_ms=timestamp_ms
        )
        return await receipt

    async def send_soon(
        self,
        topic: str,
        value: Any = None,
        *,
        key: Any = None,
        partition: int | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
    ) -> Receipt:
        """Queue a record; the receipt tells its fate. Waits only for metadata and for room in the buffer.

        Raises ``KafkaError`` for what can be told at once: no such topic or partition, a record too large, no room
        within ``max_block_ms``.
        """
        if not self._plain:
            return await self._send_prepared(ProducerRecord(topic, value, key, partition, headers, timestamp_ms))
        accumulator = self._accumulator
        route = self._routes.get(topic)
        if route is None or accumulator.buffered_bytes >= accumulator.buffer_bytes or self._transactions is not None:
            route = await self._ready(topic)
        if timestamp_ms is None:
            timestamp_ms = time_ns() // 1_000_000
        batch = route.stuck
        if key is None and partition is None and not headers and value.__class__ is bytes and batch is not None:
            # The shortest way, for most records of most loads: once more into the batch of the record before.
            size = batch.size + RECORD_OVERHEAD_MAX + len(value)
            if size <= accumulator.batch_bytes and not batch.full:
                accumulator.buffered_bytes += size - batch.size
                batch.size = size
                batch.timestamps.append(timestamp_ms)
                values = batch.values
                values.append(value)
                if batch.keys is not None:
                    batch.keys.append(None)
                return Receipt(batch, len(values) - 1)
        opened = accumulator.opened
        batch = self._enqueue(route, key, value, headers, partition, timestamp_ms)
        receipt = Receipt(batch, len(batch.values) - 1)
        if accumulator.opened != opened:
            assert self._sender is not None
            if not self._sender.send_now(batch.queue):
                await asyncio.sleep(0)
        return receipt

    async def send_counted(
        self,
        topic: str,
        value: Any = None,
        *,
        delivery: Delivery,
        key: Any = None,
        partition: int | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
    ) -> None:
        """Queue a record whose fate ``delivery`` counts. Waits only for metadata and for room in the buffer."""
        receipt = await self.send_soon(
            topic, value, key=key, partition=partition, headers=headers, timestamp_ms=timestamp_ms
        )
        receipt.count_in(delivery)

    async def send_many(
        self,
        topic: str,
        records: Iterable[Any],
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        delivery: Delivery | None = None,
    ) -> Delivery:
        """Queue records, given as values or as pairs ``(key, value)``, at a fraction of a microsecond each.

        Await the returned ``Delivery`` for the number acknowledged; pass one in to count several calls together.
        ``ProducerRecord`` among them are sent one by one, to the topic they name.
        """
        delivery = delivery or Delivery()
        rest = iter(records)
        while turn := list(islice(rest, RECORDS_A_TURN)):
            kinds = set(map(type, turn))
            if self._interceptors or any(issubclass(kind, ProducerRecord) for kind in kinds):
                for record in turn:
                    one = record if isinstance(record, ProducerRecord) else as_record(topic, record, partition)
                    (await self._send_prepared(one)).count_in(delivery)
                continue
            keys, values = self._columns(turn, kinds)
            timestamp = time_ns() // 1_000_000 if timestamp_ms is None else timestamp_ms
            await self._add_columns(topic, keys, values, partition, (timestamp, delivery))
            await asyncio.sleep(0)
        return delivery

    async def flush(self, timeout_ms: float | None = None) -> None:
        """Wait until the fate of everything queued so far is known. Raises ``TimeoutError``."""
        sender = self._running()
        accumulator = self._accumulator
        accumulator.flushing += 1
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                sender.mark_all()
                for batch in list(accumulator.open.values()):
                    await batch.wait()
        finally:
            accumulator.flushing -= 1

    async def partitions_for(self, topic: str) -> TopicMetadata:
        """What the cluster says of a topic."""
        self._running()
        return await self._cluster.topic(topic, create=self._create_topics, seconds=self._block_seconds)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Self]:
        """``async with producer.transaction():`` commits at the end of the block and aborts when it raises."""
        await self.begin_transaction()
        try:
            yield self
        except BaseException:
            await self._abort_quietly()
            raise
        try:
            await self.commit_transaction()
        except KafkaError:
            await self._abort_quietly()
            raise

    async def begin_transaction(self) -> None:
        """Open a transaction. ``transaction`` does this and the rest."""
        self._running()
        self._transactional().begin()

    async def commit_transaction(self) -> None:
        """Make everything since its beginning visible. Raises ``KafkaError``; abort then, unless it is ``fatal``."""
        await self._transactional().commit()

    async def abort_transaction(self) -> None:
        """Undo everything since its beginning."""
        await self._transactional().abort()

    async def send_offsets(
        self, offsets: "Mapping[TopicPartition, int | OffsetAndMetadata]", group: "str | GroupMetadata"
    ) -> None:
        """Commit offsets of a consumer's group with the transaction: all of it or nothing happens.

        ``group`` is the consumer's group metadata, so that a member that was fenced cannot commit; or a bare name.
        """
        await self._transactional().send_offsets(offsets, group)

    def _make_transactions(self, transactional_id: str, timeout_ms: int) -> "Transactions":
        from ottla.client._transactions import Transactions  # noqa: PLC0415 - for those who use them

        return Transactions(
            self._cluster,
            self._accumulator,
            transactional_id=transactional_id,
            timeout_ms=timeout_ms,
            block_seconds=self._block_seconds,
        )

    def _transactional(self) -> "Transactions":
        if self._transactions is None:
            raise RuntimeError("transactions need a transactional_id: Producer(..., transactional_id='my-app-1')")
        return self._transactions

    async def _abort_quietly(self) -> None:
        """Abort; what the caller should hear is what went wrong before."""
        transactions = self._transactional()
        if transactions.state in ("open", "failed"):
            try:
                await transactions.abort()
            except KafkaError:
                return

    async def _send_prepared(self, record: ProducerRecord) -> Receipt:
        for interceptor in self._interceptors:
            record = interceptor.on_send(record)
        route = await self._ready(record.topic)
        key = record.key if self._key_serializer is None else self._key_serializer(record.key)
        value = record.value if self._value_serializer is None else self._value_serializer(record.value)
        timestamp = time_ns() // 1_000_000 if record.timestamp_ms is None else record.timestamp_ms
        opened = self._accumulator.opened
        batch = self._enqueue(route, key, value, record.headers, record.partition, timestamp)
        receipt = Receipt(batch, len(batch.values) - 1)
        if self._interceptors:
            receipt.add_done_callback(lambda done: self._tell(record, done))
        if self._accumulator.opened != opened:
            assert self._sender is not None
            if not self._sender.send_now(batch.queue):
                await asyncio.sleep(0)
        return receipt

    def _tell(self, record: ProducerRecord, receipt: Receipt) -> None:
        error = receipt.exception()
        metadata = None if error is not None else receipt.result()
        for interceptor in self._interceptors:
            interceptor.on_acknowledgement(record, metadata, error)

    def _enqueue(
        self,
        route: _Route,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        partition: int | None,
        timestamp: int,
    ) -> Batch:
        """The hot path of a single record: into the open batch of its partition."""
        if value.__class__ is not bytes and value is not None:
            value = as_bytes(value, "value")
        if key.__class__ is not bytes and key is not None:
            key = as_bytes(key, "key")
        size = RECORD_OVERHEAD_MAX + (0 if value is None else len(value)) + (0 if key is None else len(key))
        if headers:
            headers = tuple(headers.items()) if isinstance(headers, Mapping) else headers
            size = record_size_max(key, value, headers)
        accumulator = self._accumulator
        queue = self._choose(route, key, partition)
        sticks = queue is None
        if queue is None:
            queue = self._stick(route, size)
        batch = queue.waiting[-1] if queue.waiting else None
        if batch is None or batch.full or batch.size + size > accumulator.batch_bytes:
            batch = self._open_batch(route, queue, size, send_now=True)
        if sticks:
            self._stay(route, batch)
        values = batch.values
        if headers:
            batch.headers[len(values)] = cast(Sequence[Header], headers)
        batch.timestamps.append(timestamp)
        if key is not None or batch.keys is not None:
            batch.with_keys().append(key)
        values.append(value)
        batch.size += size
        accumulator.buffered_bytes += size
        return batch

    def _open_batch(self, route: _Route, queue: PartitionQueue, size: int, *, send_now: bool = False) -> Batch:
        """A batch with room. With ``send_now`` it goes at once if it may, as soon as the caller calls that; the one
        before may be full and goes while this one fills."""
        assert self._sender is not None
        assert self._loop is not None
        if size > self._settings.request_bytes_max:
            raise RecordTooLargeError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"a record of about {size} bytes for {route.known.name!r} exceeds "
                f"max_request_size={self._settings.request_bytes_max}",
            )
        batch, opened = self._accumulator.room_for(queue, size, self._loop.time())
        if opened:
            self._sender.opened(batch, send_now=send_now)
        if len(queue.waiting) > 1:
            self._sender.mark(queue)
        return batch

    def _choose(self, route: _Route, key: bytes | None, partition: int | None) -> PartitionQueue | None:
        """The partition asked for, or the key's; ``None`` for records that stick."""
        queues = route.queues
        if partition is None:
            partition = self._partition_of(route.known.name, key, len(queues))
            if partition is None:
                return None
        if not 0 <= partition < len(queues):
            raise UnknownTopicError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"topic {route.known.name!r} has no partition {partition}"
            )
        return queues[partition]

    def _stick(self, route: _Route, size: int) -> PartitionQueue:
        """Where records without a key go now, the next of them having ``size`` bytes."""
        sticky, stuck = route.sticky, route.stuck
        if stuck is not None and (stuck.full or stuck.size + size > self._accumulator.batch_bytes):
            self._leave(route)
        if sticky.used_up:
            sticky.move_on(self._weights(route))
        return route.queues[sticky.current]

    def _stick_among(
        self, route: _Route, chosen: Sequence[int | None], values: Sequence[bytes | None]
    ) -> Sequence[int | None]:
        """One partition for those that stick, so that what shares it with others keeps its order among them."""
        number = self._stick(route, 0).place.partition
        route.sticky.spend(sum(len(value or b"") for value, one in zip(values, chosen, strict=True) if one is None))
        return [number if one is None else one for one in chosen]

    def _stay(self, route: _Route, batch: Batch) -> None:
        """``batch`` is where records without a key go."""
        if batch is route.stuck:
            return
        if self._keyless_stick:
            route.stuck = batch
        else:
            # A partitioner may want each record for itself: only what is already there is counted.
            route.sticky.spend(batch.size)

    def _leave(self, route: _Route) -> None:
        """The batch that records stuck to has enough: it goes, and is charged to its partition."""
        batch = route.stuck
        if batch is not None:
            route.stuck = None
            route.sticky.spend(batch.size)
            if not batch.full:
                assert self._sender is not None
                batch.full = True
                self._sender.mark(batch.queue)

    def _weights(self, route: _Route) -> list[int]:
        leader = self._cluster.leader
        weights = route.loads(lambda place: leader(place) >= 0)
        return weights if self._adaptive else [min(weight, 1) for weight in weights]

    def _columns(
        self, turn: list[Any], kinds: set[type]
    ) -> tuple[Sequence[bytes | None] | None, Sequence[bytes | None]]:
        """Keys (``None`` if nobody has one) and values, serialized and checked, of what is of these ``kinds``."""
        if kinds <= PLAIN and self._value_serializer is None:
            return None, turn
        keys: Sequence[Any] | None = None
        values: Sequence[Any] = turn
        if kinds == {tuple}:
            keys, values = zip(*turn, strict=True)
        elif tuple in kinds:
            keys, values = zip(*(one if isinstance(one, tuple) else (None, one) for one in turn), strict=True)
        if self._key_serializer is not None and keys is not None:
            keys = list(map(self._key_serializer, keys))
        if self._value_serializer is not None:
            values = list(map(self._value_serializer, values))
        if keys is not None:
            keys = None if keys.count(None) == len(keys) else checked(keys, "key")
        return keys, checked(values, "value")

    async def _add_columns(
        self,
        topic: str,
        keys: Sequence[bytes | None] | None,
        values: Sequence[bytes | None],
        partition: int | None,
        told: tuple[int, Delivery],
    ) -> None:
        """Add records with keys to the partitions the keys belong to, the others in runs."""
        route = await self._ready(topic)
        if partition is not None:
            self._choose(route, None, partition)
        elif keys is not None or self._partition_of is not default:
            chosen = self._partitions(route, keys, len(values))
            if None in chosen:
                chosen = self._stick_among(route, chosen, values)
            for number in dict.fromkeys(chosen):
                mine = [index for index, one in enumerate(chosen) if one == number]
                part_keys = None if keys is None else [keys[index] for index in mine]
                await self._add_run(topic, part_keys, [values[index] for index in mine], number, told)
            return
        await self._add_run(topic, keys, values, partition, told)

    def _partitions(self, route: _Route, keys: Sequence[bytes | None] | None, count: int) -> Sequence[int | None]:
        partitions = len(route.queues)
        if self._partition_of is default and keys is not None and None not in keys:
            return partitions_for_keys(keys, partitions)  # type: ignore[arg-type]  # no nulls among them
        of, name = self._partition_of, route.known.name
        return [of(name, key, partitions) for key in (repeat(None, count) if keys is None else keys)]

    async def _add_run(
        self,
        topic: str,
        keys: Sequence[bytes | None] | None,
        values: Sequence[bytes | None],
        partition: int | None,
        told: tuple[int, Delivery],
    ) -> None:
        """Add records that go to the same partition, or stick: the loop that bulk loading spends its time in."""
        timestamp, delivery = told
        accumulator = self._accumulator
        ends = ends_of(keys, values)
        position, count = 0, len(values)
        while position < count:
            route = await self._ready(topic)
            before = ends[position - 1] if position else 0
            size = ends[position] - before
            chosen = None if partition is None else self._choose(route, None, partition)
            queue = self._stick(route, size) if chosen is None else chosen
            batch = queue.waiting[-1] if queue.waiting else None
            if batch is None or batch.full or batch.size + size > accumulator.batch_bytes:
                batch = self._open_batch(route, queue, size)
            if chosen is None:
                self._stay(route, batch)
            stop = max(position + 1, bisect_right(ends, before + accumulator.batch_bytes - batch.size, position))
            taken = stop - position
            if keys is not None or batch.keys is not None:
                batch.with_keys().extend(repeat(None, taken) if keys is None else keys[position:stop])
            batch.values += values[position:stop]
            batch.timestamps += repeat(timestamp, taken)
            added = ends[stop - 1] - before
            batch.size += added
            accumulator.buffered_bytes += added
            batch.count_in(delivery, taken)
            if stop < count:
                batch.full = True
                assert self._sender is not None
                self._sender.mark(queue)
            position = stop

    async def _ready(self, topic: str) -> _Route:
        """The way to a topic, once there is room in the buffer."""
        sender = self._running()
        if self._transactions is not None:
            self._transactions.check_open()
        if self._accumulator.full:
            if not await sender.wait_room(self._block_seconds):
                raise BufferExhaustedError(
                    ErrorCode.REQUEST_TIMED_OUT,
                    f"no room in buffer_memory={self._accumulator.buffer_bytes} within "
                    f"max_block_ms={self._block_seconds * 1000:g}",
                )
            self._running()
        route = self._routes.get(topic)
        if route is None:
            known = self._cluster.known_topic(topic)
            if known is None or not known.partitions:
                known = await self._cluster.topic(topic, create=self._create_topics, seconds=self._block_seconds)
            route = self._routes[topic] = self._route(known)
        return route

    def _route(self, known: TopicMetadata) -> _Route:
        sticky = self._sticky.get(known.name)
        if sticky is None or sticky.current >= len(known.partitions):
            sticky = self._sticky[known.name] = StickyChoice(self._cluster.rng, self._accumulator.batch_bytes)
        queues = [
            self._accumulator.queue(TopicPartition(known.name, number)) for number in range(len(known.partitions))
        ]
        return _Route(known, queues, sticky)

    def _running(self) -> Sender:
        sender, supervisor = self._sender, self._supervisor
        if sender is None or supervisor is None:
            raise RuntimeError("the producer is not running: use it with `async with`")
        if sender.stopping:
            if supervisor.failure.done():
                raise RuntimeError("the producer has failed") from supervisor.failure.result()
            raise RuntimeError("the producer is closed")
        return sender


def _check_settings(settings: SenderSettings, transactional_id: str | None) -> None:
    if settings.idempotent and (settings.acks != -1 or settings.in_flight_max > 5):
        raise ConfigError("an idempotent producer needs acks='all' and at most five requests in flight")
    if transactional_id is not None and not settings.idempotent:
        raise ConfigError("a transactional producer is idempotent: acks='all', at most five requests in flight")
    if transactional_id == "":
        raise ConfigError("transactional_id must not be empty")


def _codec(name: str) -> Codec:
    try:
        return Codec[name.upper()]
    except KeyError:
        raise ConfigError(f"there is no codec {name!r}; there are none, gzip, snappy, lz4 and zstd") from None

"""The producer's face: records in, their places out."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from types import TracebackType
from typing import Final, Literal, Self

from ottla.client._accumulator import Accumulator, Batch, Delivery, RecordMetadata, size_of
from ottla.client._cluster import Cluster, TopicMetadata
from ottla.client._partitioner import StickyPartitioner, partition_for_key
from ottla.client._sender import Sender, SenderSettings
from ottla.model import TopicPartition
from ottla.records.builder import RECORD_OVERHEAD_MAX
from ottla.records.compression import Codec
from ottla.records.reader import Header
from ottla.wire.errors import ErrorCode, KafkaError

Acks = Literal["all", 0, 1, -1]
CompressionName = Literal["none", "gzip", "snappy", "lz4", "zstd"]
ProducerRecord = tuple[bytes | None, bytes | None]
"""Key and value."""

RECORDS_A_TURN: Final = 2000
"""Records taken between two turns of the event loop, so that sending overlaps with gathering."""


class Producer:
    """Sends records to a cluster. Use it as ``async with Producer("host:port") as producer``.

    Idempotent unless ``acks`` says otherwise: a record that is acknowledged is in the log exactly once. Records with a
    key go where Kafka's Java client would send them. Times are milliseconds, sizes bytes.
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        *,
        acks: Acks = "all",
        compression: CompressionName = "none",
        linger_ms: float = 5,
        batch_size: int = 65_536,
        buffer_memory: int = 33_554_432,
        max_request_size: int = 1_048_576,
        max_in_flight: int = 5,
        idempotent: bool | None = None,
        request_timeout_ms: float = 30_000,
        delivery_timeout_ms: float = 120_000,
        create_topics: bool = True,
        client_id: str = "ottla-producer",
    ) -> None:
        level = -1 if acks in ("all", -1) else int(acks)
        if idempotent and (level != -1 or max_in_flight > 5):
            raise ValueError("an idempotent producer needs acks='all' and at most five requests in flight")
        self._cluster = Cluster(bootstrap_servers, client_id=client_id)
        self._accumulator = Accumulator(
            codec=Codec[compression.upper()],
            batch_bytes=min(batch_size, max_request_size),
            linger_seconds=linger_ms / 1000,
            buffer_bytes=buffer_memory,
        )
        self._settings = SenderSettings(
            acks=level,
            idempotent=level == -1 and max_in_flight <= 5 if idempotent is None else idempotent,
            in_flight_max=max_in_flight,
            request_bytes_max=max_request_size,
            request_seconds=request_timeout_ms / 1000,
            delivery_seconds=delivery_timeout_ms / 1000,
        )
        self._create_topics = create_topics
        self._sticky = StickyPartitioner(self._cluster.rng)
        self._sender: Sender | None = None
        self._run: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._cluster)
        try:
            group = await self._stack.enter_async_context(asyncio.TaskGroup())
            self._sender = Sender(self._cluster, self._accumulator, self._settings)
            self._run = group.create_task(self._sender.run(), name="producer")
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._sender is not None
        assert self._run is not None
        try:
            if error is None:
                await self.flush()
        finally:
            self._sender.stop()
            self._cluster.close()
            if error is not None:
                self._run.cancel()
            await self._stack.__aexit__(None, None, None)

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[Header] = (),
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Send a record and wait until it is acknowledged. Raises ``KafkaError``."""
        future = await self.send_soon(
            topic, value, key=key, partition=partition, headers=headers, timestamp_ms=timestamp_ms
        )
        return await future

    async def send_soon(
        self,
        topic: str,
        value: bytes | None = None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[Header] = (),
        timestamp_ms: int | None = None,
    ) -> asyncio.Future[RecordMetadata]:
        """Queue a record; the future tells its fate. Waits only for metadata and for room in the buffer."""
        timestamp = _now_ms() if timestamp_ms is None else timestamp_ms
        batch = self._enqueue(await self._ready(topic), key, value, headers, partition, timestamp)
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        batch.promise(timestamp, future)
        return future

    async def send_counted(
        self,
        topic: str,
        value: bytes | None = None,
        *,
        delivery: Delivery,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[Header] = (),
        timestamp_ms: int | None = None,
    ) -> None:
        """Queue a record whose fate ``delivery`` counts. Waits only for metadata and for room in the buffer."""
        timestamp = _now_ms() if timestamp_ms is None else timestamp_ms
        batch = self._enqueue(await self._ready(topic), key, value, headers, partition, timestamp)
        batch.count_in(delivery, 1)

    async def send_many(
        self,
        topic: str,
        records: Iterable[ProducerRecord],
        *,
        partition: int | None = None,
        delivery: Delivery | None = None,
    ) -> Delivery:
        """Queue records, given as ``(key, value)``, at the cost of a few microseconds each.

        The returned ``Delivery`` counts what is acknowledged; ``await delivery.wait()`` waits for all of it. Pass one
        in to count several calls together.
        """
        delivery = delivery or Delivery()
        rest = iter(records)
        while turn := list(islice(rest, RECORDS_A_TURN)):
            known = await self._ready(topic)
            timestamp = _now_ms()
            position = 0
            while position < len(turn):
                if turn[position][0] is None or partition is not None:
                    position = self._add_run(known, turn, position, partition, timestamp, delivery)
                else:
                    self._enqueue(known, *turn[position], (), None, timestamp).count_in(delivery, 1)
                    position += 1
            self._wake()
            await asyncio.sleep(0)
        return delivery

    async def flush(self) -> None:
        """Wait until the fate of everything queued so far is known."""
        sender = self._running()
        accumulator = self._accumulator
        accumulator.flushing = True
        try:
            while not accumulator.empty:
                sender.wake()
                await sender.wait_progress(1.0)
        finally:
            accumulator.flushing = False

    def _enqueue(
        self,
        known: TopicMetadata,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        partition: int | None,
        timestamp: int,
    ) -> Batch:
        size = size_of(key, value, headers) if headers else _size(key, value)
        accumulator = self._accumulator
        self._check_size(known.name, size)
        batch, opened = accumulator.room_for(self._place(known, key, partition), size, self._time())
        accumulator.append(batch, timestamp, key, value, headers)
        if batch.builder.estimated_size + size > accumulator.batch_bytes:
            self._close_batch(batch, known)
        elif opened:
            self._wake()
        return batch

    def _add_run(
        self,
        known: TopicMetadata,
        records: list[ProducerRecord],
        position: int,
        partition: int | None,
        timestamp: int,
        delivery: Delivery,
    ) -> int:
        """Add records that go to the same partition, up to a full batch or a record with a key; where the rest begins.

        This is the loop that bulk loading spends its time in.
        """
        accumulator = self._accumulator
        size = _size(*records[position])
        self._check_size(known.name, size)
        batch, _ = accumulator.room_for(self._place(known, None, partition), size, self._time())
        append = batch.builder.append
        before = batch.builder.estimated_size
        room = max(accumulator.batch_bytes - before, size)
        start = position
        for key, value in islice(records, start, None):
            if key is not None and partition is None:
                break
            size = _size(key, value)
            if size > room:
                self._close_batch(batch, known)
                break
            append(timestamp, key, value)
            room -= size
            position += 1
        accumulator.buffered_bytes += batch.builder.estimated_size - before
        batch.count_in(delivery, position - start)
        return position

    def _close_batch(self, batch: Batch, known: TopicMetadata) -> None:
        """A batch is as good as full: it goes now, and keyless records go elsewhere."""
        batch.full = True
        if self._sticky.current(known.name) == batch.place.partition:
            self._sticky.move_on(known.name, len(known.partitions))
        self._wake()

    async def _ready(self, topic: str) -> TopicMetadata:
        """The topic's metadata, once there is room in the buffer."""
        sender = self._running()
        while self._accumulator.full:
            sender.wake()
            await sender.wait_progress(1.0)
            sender = self._running()
        known = self._cluster.known_topic(topic)
        if known is None or not known.partitions:
            known = await self._cluster.topic(topic, create=self._create_topics)
        return known

    def _place(self, known: TopicMetadata, key: bytes | None, partition: int | None) -> TopicPartition:
        if partition is not None:
            if partition not in known.partitions:
                raise KafkaError(
                    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"topic {known.name!r} has no partition {partition}"
                )
            return TopicPartition(known.name, partition)
        count = len(known.partitions)
        if key is not None:
            return TopicPartition(known.name, partition_for_key(key, count))
        return TopicPartition(known.name, self._sticky.partition(known.name, count))

    def _check_size(self, topic: str, size: int) -> None:
        if size > self._settings.request_bytes_max:
            raise KafkaError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"a record of about {size} bytes for {topic!r} exceeds "
                f"max_request_size={self._settings.request_bytes_max}",
            )

    def _running(self) -> Sender:
        if self._sender is None or self._run is None or self._run.done():
            raise RuntimeError("the producer is not running: use it with `async with`")
        return self._sender

    def _wake(self) -> None:
        if self._sender is not None:
            self._sender.wake()

    def _time(self) -> float:
        return asyncio.get_running_loop().time()


def _size(key: bytes | None, value: bytes | None) -> int:
    """A little more than a record without headers takes in its batch."""
    return RECORD_OVERHEAD_MAX + (0 if value is None else len(value)) + (0 if key is None else len(key))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""Records on their way: gathered into batches by partition, in order, until the sender takes them.

Invariants, by partition:
- Batches leave in the order they were opened. A batch gets its sequence numbers when it is first taken, without gaps.
- A batch that has to be sent again goes back in front, in the order of opening, and then travels alone until it is
  through: with at most five in flight the broker can tell duplicates and gaps apart.
Times are seconds of the event loop's clock, given by the caller.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ottla.model import TopicPartition
from ottla.records.builder import BatchBuilder, record_size_max
from ottla.records.compression import Codec
from ottla.records.reader import Header

SEQUENCE_MODULUS: Final = 2**31


class RecordMetadata(NamedTuple):
    """Where an acknowledged record is. ``offset`` is -1 with acks=0."""

    topic: str
    partition: int
    offset: int
    timestamp: int


class Delivery:
    """The fate of many records together."""

    __slots__ = ("_future", "_pending", "acknowledged", "error")

    def __init__(self) -> None:
        self.acknowledged = 0
        self.error: Exception | None = None
        self._pending = 0
        self._future: asyncio.Future[None] | None = None

    @property
    def pending(self) -> int:
        """Records whose fate is open."""
        return self._pending

    async def wait(self) -> int:
        """Wait until no record's fate is open; the number acknowledged. Raises the first error there was."""
        while self._pending:
            self._future = asyncio.get_running_loop().create_future()
            await self._future
        if self.error is not None:
            raise self.error
        return self.acknowledged

    def expect(self, records: int) -> None:
        """Count records in."""
        self._pending += records

    def settle(self, records: int, error: Exception | None) -> None:
        """Count records out."""
        self._pending -= records
        if error is None:
            self.acknowledged += records
        elif self.error is None:
            self.error = error
        if not self._pending and self._future is not None and not self._future.done():
            self._future.set_result(None)


class Batch:
    """Records of one partition that travel together."""

    __slots__ = ("_built", "_deliveries", "_futures", "attempts", "builder", "created_at", "full", "number", "place")

    def __init__(self, place: TopicPartition, codec: Codec, now: float, number: int) -> None:
        self.place = place
        self.number = number
        self.builder = BatchBuilder(codec=codec)
        self.created_at = now
        self.attempts = 0
        self.full = False
        self._futures: list[tuple[int, int, asyncio.Future[RecordMetadata]]] = []
        self._deliveries: dict[Delivery, int] = {}
        self._built: bytes | None = None

    def promise(self, timestamp: int, future: asyncio.Future[RecordMetadata]) -> None:
        """Resolve ``future`` with the last appended record's place."""
        self._futures.append((self.builder.count - 1, timestamp, future))

    def count_in(self, delivery: Delivery, records: int) -> None:
        self._deliveries[delivery] = self._deliveries.get(delivery, 0) + records
        delivery.expect(records)

    def encoded(self) -> bytes:
        """The batch as it is sent, the same every time."""
        if self._built is None:
            self._built = self.builder.build()
        return self._built

    def acknowledge(self, base_offset: int, log_append_time: int) -> None:
        topic, partition = self.place
        for index, timestamp, future in self._futures:
            if not future.done():
                offset = base_offset + index if base_offset >= 0 else -1
                stamped = log_append_time if log_append_time >= 0 else timestamp
                future.set_result(RecordMetadata(topic, partition, offset, stamped))
        for delivery, records in self._deliveries.items():
            delivery.settle(records, None)

    def fail(self, error: Exception) -> None:
        for _, _, future in self._futures:
            if not future.done():
                future.set_exception(error)
        for delivery, records in self._deliveries.items():
            delivery.settle(records, error)


class PartitionQueue:
    """Batches of one partition: waiting, then in flight."""

    __slots__ = ("in_flight", "muted_until", "next_sequence", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Batch] = deque()
        self.in_flight: list[Batch] = []
        self.next_sequence = 0
        self.muted_until = 0.0

    def put_back(self, batch: Batch, muted_until: float) -> None:
        """Queue a batch that was sent before for another try, in the order batches were opened."""
        self.muted_until = max(self.muted_until, muted_until)
        position = sum(1 for other in self.waiting if other.number < batch.number)
        self.waiting.insert(position, batch)

    def may_send(self, in_flight_max: int) -> bool:
        """Whether the head may go now: nothing overtakes a batch that is being tried again."""
        if not self.waiting or len(self.in_flight) >= in_flight_max:
            return False
        retried = self.waiting[0].attempts > 0 or any(batch.attempts > 1 for batch in self.in_flight)
        return not (retried and self.in_flight)


class Accumulator:
    """All partitions' queues, bounded by bytes."""

    def __init__(self, *, codec: Codec, batch_bytes: int, linger_seconds: float, buffer_bytes: int) -> None:
        self.codec = codec
        self.batch_bytes = batch_bytes
        self.linger_seconds = linger_seconds
        self.buffer_bytes = buffer_bytes
        self.buffered_bytes = 0
        self.flushing = False
        """While set, nothing lingers."""
        self._opened = 0
        self._queues: dict[TopicPartition, PartitionQueue] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing waits or flies."""
        return not any(queue.waiting or queue.in_flight for queue in self._queues.values())

    @property
    def full(self) -> bool:
        return self.buffered_bytes >= self.buffer_bytes

    def queue(self, place: TopicPartition) -> PartitionQueue:
        queue = self._queues.get(place)
        if queue is None:
            queue = self._queues[place] = PartitionQueue()
        return queue

    def queues(self) -> Iterator[tuple[TopicPartition, PartitionQueue]]:
        """Queues that hold anything, waiting or in flight."""
        return ((place, queue) for place, queue in self._queues.items() if queue.waiting or queue.in_flight)

    def room_for(self, place: TopicPartition, size: int, now: float) -> tuple[Batch, bool]:
        """The open batch of a partition with room for ``size`` bytes, and whether it was opened just now."""
        waiting = self.queue(place).waiting
        if waiting:
            batch = waiting[-1]
            if not batch.full and batch.attempts == 0:
                if batch.builder.estimated_size + size <= self.batch_bytes:
                    return batch, False
                batch.full = True
        self._opened += 1
        batch = Batch(place, self.codec, now, self._opened)
        waiting.append(batch)
        return batch, True

    def append(
        self,
        batch: Batch,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[Header],
    ) -> None:
        """Add a record to ``batch``, which ``room_for`` has given."""
        before = batch.builder.estimated_size
        batch.builder.append(timestamp, key, value, headers)
        self.buffered_bytes += batch.builder.estimated_size - before

    def release(self, batch: Batch) -> None:
        """A batch's fate is known: its bytes count no longer."""
        self.buffered_bytes -= batch.builder.estimated_size - _EMPTY_BYTES

    def due_at(self, queue: PartitionQueue) -> float:
        """When the head of a queue that waits should go."""
        head = queue.waiting[0]
        if head.full or len(queue.waiting) > 1 or self.flushing or head.attempts > 0:
            return queue.muted_until
        return max(queue.muted_until, head.created_at + self.linger_seconds)

    def take(self, queue: PartitionQueue, producer_id: int, producer_epoch: int) -> Batch:
        """The head of a queue, numbered if it was not yet, now in flight."""
        batch = queue.waiting.popleft()
        batch.full = True
        if batch.attempts == 0 and producer_id >= 0:
            builder = batch.builder
            builder.producer_id, builder.producer_epoch = producer_id, producer_epoch
            builder.base_sequence = queue.next_sequence
            queue.next_sequence = (queue.next_sequence + builder.count) % SEQUENCE_MODULUS
        batch.attempts += 1
        queue.in_flight.append(batch)
        return batch

    def restart_sequences(self) -> list[Batch]:
        """A new producer id begins: number anew what was never sent, give up and return what was."""
        lost = []
        for queue in self._queues.values():
            assert not queue.in_flight, "sequences restart when nothing is in flight"
            lost += [batch for batch in queue.waiting if batch.attempts > 0]
            queue.waiting = deque(batch for batch in queue.waiting if batch.attempts == 0)
            queue.next_sequence = 0
        return lost

    def drop_all(self) -> list[Batch]:
        """Everything that waits or flies, taken out."""
        dropped = []
        for queue in self._queues.values():
            dropped += [*queue.in_flight, *queue.waiting]
            queue.in_flight.clear()
            queue.waiting.clear()
        return dropped


def size_of(key: bytes | None, value: bytes | None, headers: Iterable[Header]) -> int:
    """An upper bound of what a record adds to its batch."""
    return record_size_max(key, value, headers)


_EMPTY_BYTES: Final = BatchBuilder().estimated_size

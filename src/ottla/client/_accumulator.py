"""Records on their way: gathered into batches by partition, in order, until the sender takes them.

A batch keeps its records as columns and writes them down once, when it is sent: that is what makes a record cheap.

Invariants, by partition:
- Batches leave in the order they were opened. A batch gets its sequence numbers when it is first taken, without gaps.
- A batch that has to be sent again goes back in front, in the order of opening, and then travels alone until it is
  through: with at most five in flight the broker can tell duplicates and gaps apart.
- A batch that was given up after it was sent leaves a gap. Nothing new is sent before every batch sent with the old
  epoch has a fate; what the broker then refused for the gap is not in the log and is numbered anew in the next epoch.
Times are seconds of the event loop's clock, given by the caller.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Sequence
from itertools import groupby, repeat
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from ottla.model import TopicPartition
from ottla.records.batch import BATCH_OVERHEAD
from ottla.records.builder import BatchBuilder, batch_of_one
from ottla.records.compression import Codec
from ottla.records.reader import Header

if TYPE_CHECKING:
    from ottla.client._sender import Lane

SEQUENCE_MODULUS: Final = 2**31
EPOCH_MAX: Final = 2**15 - 1
NO_PRODUCER: Final = (-1, -1)
FEW: Final = 6
"""So many records are written one by one: a run of them would cost more."""


class RecordMetadata(Struct, frozen=True, gc=False):
    """Where an acknowledged record is. ``offset`` is -1 with acks=0."""

    topic: str
    partition: int
    offset: int
    timestamp: int


class Receipt(Struct, gc=False, eq=False):
    """What a record that was queued comes to: ``await`` it for its place, or ask without waiting.

    Cheaper than a future: nothing is done for it until somebody asks. Any number of tasks may wait for it.
    """

    _batch: "Batch"
    _index: int

    def __await__(self) -> Generator[Any, None, RecordMetadata]:
        batch = self._batch
        if not batch.settled:
            yield from batch.wait().__await__()
        if batch.error is not None:
            raise batch.error
        return batch.metadata(self._index)

    def done(self) -> bool:
        """Whether the record's fate is known."""
        return self._batch.settled

    def result(self) -> RecordMetadata:
        """Where the record is. Raises ``KafkaError`` if it failed and ``asyncio.InvalidStateError`` if it is open."""
        batch = self._batch
        if not batch.settled:
            raise asyncio.InvalidStateError("the record is still on its way")
        if batch.error is not None:
            raise batch.error
        return batch.metadata(self._index)

    def exception(self) -> Exception | None:
        """Why the record failed. Raises ``asyncio.InvalidStateError`` if its fate is open."""
        if not self._batch.settled:
            raise asyncio.InvalidStateError("the record is still on its way")
        return self._batch.error

    def count_in(self, delivery: "Delivery") -> None:
        """Have ``delivery`` count the record's fate."""
        if self._batch.settled:
            delivery.expect(1)
            delivery.settle(1, self._batch.error)
        else:
            self._batch.count_in(delivery, 1)

    def add_done_callback(self, callback: "Callable[[Receipt], object]") -> None:
        """Call ``callback`` with this receipt when the fate is known, at once if it is. It must not raise."""
        if self._batch.settled:
            callback(self)
        else:
            self._batch.call_when_settled(lambda: callback(self))


class Delivery:
    """The fate of many records together."""

    __slots__ = ("_pending", "_waiting", "acknowledged", "error")

    def __init__(self) -> None:
        self.acknowledged = 0
        self.error: Exception | None = None
        self._pending = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def pending(self) -> int:
        """Records whose fate is open."""
        return self._pending

    def __await__(self) -> Generator[Any, None, int]:
        return self.wait().__await__()

    async def wait(self) -> int:
        """Wait until no record's fate is open; the number acknowledged. Raises the first error there was."""
        while self._pending:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
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
        if not self._pending:
            _wake_all(self._waiting)


class Batch:
    """Records of one partition that travel together."""

    __slots__ = (
        "_base_offset",
        "_built",
        "_callbacks",
        "_deliveries",
        "_log_append_time",
        "_waiting",
        "attempts",
        "created_at",
        "error",
        "full",
        "headers",
        "keys",
        "number",
        "producer",
        "queue",
        "sequence",
        "settled",
        "size",
        "timestamps",
        "values",
    )

    def __init__(self, queue: "PartitionQueue", now: float, number: int) -> None:
        self.queue = queue
        self.number = number
        self.created_at = now
        self.attempts = 0
        self.full = False
        self.settled = False
        self.error: Exception | None = None
        self.size = BATCH_OVERHEAD
        """An upper bound of the bytes without compression."""
        self.timestamps: list[int] = []
        self.keys: list[bytes | None] | None = None
        """``None`` as long as no record has one."""
        self.values: list[bytes | None] = []
        self.headers: dict[int, Sequence[Header]] = {}
        """By index; most records have none."""
        self.producer = NO_PRODUCER
        """Producer id and epoch it was sent with."""
        self.sequence = -1
        self._base_offset = -1
        self._log_append_time = -1
        self._built: bytes | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._callbacks: list[Callable[[], object]] = []
        self._deliveries: dict[Delivery, int] = {}

    @property
    def place(self) -> TopicPartition:
        return self.queue.place

    @property
    def count(self) -> int:
        return len(self.values)

    def with_keys(self) -> list[bytes | None]:
        """The column of keys, there from now on."""
        if self.keys is None:
            self.keys = [None] * len(self.values)
        return self.keys

    def count_in(self, delivery: Delivery, records: int) -> None:
        self._deliveries[delivery] = self._deliveries.get(delivery, 0) + records
        delivery.expect(records)

    def call_when_settled(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)

    async def wait(self) -> None:
        """Wait until the fate is known."""
        while not self.settled:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def metadata(self, index: int) -> RecordMetadata:
        """Where a record of an acknowledged batch is."""
        topic, partition = self.queue.place
        offset = self._base_offset + index if self._base_offset >= 0 else -1
        stamped = self._log_append_time if self._log_append_time >= 0 else self.timestamps[index]
        return RecordMetadata(topic, partition, offset, stamped)

    def number_as(self, producer: tuple[int, int], sequence: int, *, transactional: bool) -> None:
        """Give producer id, epoch and first sequence: the batch is written down with them."""
        self.producer, self.sequence = producer, sequence
        self._built = self._write(transactional=transactional)

    def encoded(self) -> bytes:
        """The batch as it is sent, the same every time until it is numbered anew."""
        if self._built is None:
            self._built = self._write(transactional=False)
        return self._built

    def forget_numbers(self) -> None:
        """The broker has said that the batch is not in the log: it is as good as never sent."""
        self.attempts = 0
        self.producer, self.sequence, self._built = NO_PRODUCER, -1, None

    def settle(self, *, base_offset: int = -1, log_append_time: int = -1, error: Exception | None = None) -> None:
        """The fate is known. Tells everybody who waits."""
        if self.settled:
            return
        # Full: whoever was about to add another record opens a batch that still has a way to go.
        self.settled = self.full = True
        self.error = error
        self._base_offset, self._log_append_time = base_offset, log_append_time
        # Receipts ask for the timestamps only.
        self._built = None
        self.keys, self.values, self.headers = None, [], {}
        if self._waiting:
            _wake_all(self._waiting)
        for delivery, part in self._deliveries.items():
            delivery.settle(part, error)
        assert self.timestamps or not self._deliveries
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def _write(self, *, transactional: bool) -> bytes:
        if len(self.values) == 1 and self.queue.codec is Codec.NONE:
            return batch_of_one(
                self.timestamps[0],
                None if self.keys is None else self.keys[0],
                self.values[0],
                self.headers.get(0, ()),
                producer_id=self.producer[0],
                producer_epoch=self.producer[1],
                base_sequence=self.sequence,
                transactional=transactional,
            )
        builder = BatchBuilder(
            codec=self.queue.codec,
            level=self.queue.level,
            producer_id=self.producer[0],
            producer_epoch=self.producer[1],
            base_sequence=self.sequence,
            transactional=transactional,
        )
        keys, values, timestamps = self.keys, self.values, self.timestamps
        if self.headers or len(values) <= FEW:
            all_keys = keys or repeat(None, len(values))
            for index, (timestamp, key, value) in enumerate(zip(timestamps, all_keys, values, strict=True)):
                builder.append(timestamp, key, value, self.headers.get(index, ()))
            return builder.build()
        position, count = 0, len(values)
        if timestamps.count(timestamps[0]) == count:
            builder.extend(timestamps[0], keys, values)
            return builder.build()
        for timestamp, run in groupby(timestamps):
            end = position + sum(1 for _ in run)
            builder.extend(timestamp, None if keys is None else keys[position:end], values[position:end])
            position = end
        return builder.build()


class PartitionQueue:
    """Batches of one partition: waiting, then in flight."""

    __slots__ = (
        "codec",
        "gap",
        "in_flight",
        "lane",
        "level",
        "muted_until",
        "next_sequence",
        "place",
        "producer",
        "refused_from",
        "unproven",
        "waiting",
    )

    def __init__(self, place: TopicPartition, codec: Codec, level: int | None) -> None:
        self.place = place
        self.codec = codec
        self.level = level
        self.waiting: deque[Batch] = deque()
        self.in_flight: list[Batch] = []
        self.producer = NO_PRODUCER
        """Producer id and epoch the next batch is sent with."""
        self.next_sequence = 0
        self.gap = False
        """Set when numbers were used up by a batch that was given up."""
        self.unproven = True
        """Until the first batch with these numbers is acknowledged it travels alone: a broker that knows nothing of a
        producer takes whatever number comes first, and would refuse the true first one if that had to be sent again."""
        self.refused_from = 0
        """The first batch that the broker refused for the gap: nothing after it can be in the log either."""
        self.muted_until = 0.0
        self.lane: Lane | None = None
        """The lane that has it on its list."""

    def put_back(self, batch: Batch, muted_until: float) -> None:
        """Queue a batch that was sent before for another try, in the order batches were opened."""
        if 0 < self.refused_from <= batch.number:
            batch.forget_numbers()
        else:
            self.muted_until = max(self.muted_until, muted_until)
        position = sum(1 for other in self.waiting if other.number < batch.number)
        self.waiting.insert(position, batch)

    def refuse(self, batch: Batch) -> None:
        """The broker has refused a batch in flight for a gap before it: it and all after it go on in the next epoch."""
        self.gap = True
        self.refused_from = min(self.refused_from or batch.number, batch.number)
        self.in_flight.remove(batch)
        self.put_back(batch, 0.0)
        for other in self.waiting:
            if other.number > self.refused_from:
                other.forget_numbers()

    def may_send(self, in_flight_max: int) -> bool:
        """Whether the head may go now: nothing overtakes a batch that is being tried again."""
        if not self.waiting:
            return False
        head = self.waiting[0]
        if not self.in_flight:
            return not self.gap or head.attempts > 0
        if len(self.in_flight) >= in_flight_max or head.attempts > 0:
            return False
        if self.gap or (self.unproven and self.producer[0] >= 0):
            return False
        for batch in self.in_flight:  # noqa: SIM110 - of few; a generator would cost more than what it looks at
            if batch.attempts > 1:
                return False
        return True

    def close_gap(self) -> bool:
        """Begin the next epoch if no batch of the old one is open; whether a gap was closed."""
        if not self.gap or self.in_flight or any(batch.attempts for batch in self.waiting):
            return False
        producer_id, epoch = self.producer
        self.producer = (producer_id, epoch + 1) if 0 <= epoch < EPOCH_MAX else NO_PRODUCER
        self.next_sequence = 0
        self.gap = False
        self.unproven = True
        self.refused_from = 0
        return True

    def oldest_sent(self, batch: Batch) -> bool:
        """Whether every earlier batch that was sent has its fate."""
        return all(other.number >= batch.number for other in (*self.in_flight, *self.waiting) if other.attempts)


class Accumulator:
    """All partitions' queues, bounded by bytes."""

    def __init__(
        self,
        *,
        codec: Codec,
        batch_bytes: int,
        linger_seconds: float,
        buffer_bytes: int,
        level: int | None = None,
    ) -> None:
        self.codec = codec
        self.level = level
        self.batch_bytes = batch_bytes
        self.linger_seconds = linger_seconds
        self.buffer_bytes = buffer_bytes
        self.buffered_bytes = 0
        self.flushing = 0
        """While above zero, nothing lingers."""
        self.open: dict[int, Batch] = {}
        """Batches without a fate, by number, oldest first."""
        self.opened = 0
        """Batches so far."""
        self._queues: dict[TopicPartition, PartitionQueue] = {}

    @property
    def empty(self) -> bool:
        """Whether every batch has its fate."""
        return not self.open

    @property
    def full(self) -> bool:
        return self.buffered_bytes >= self.buffer_bytes

    def queue(self, place: TopicPartition) -> PartitionQueue:
        queue = self._queues.get(place)
        if queue is None:
            queue = self._queues[place] = PartitionQueue(place, self.codec, self.level)
        return queue

    def busy_queues(self) -> list[PartitionQueue]:
        """Queues that hold anything, waiting or in flight."""
        return [queue for queue in self._queues.values() if queue.waiting or queue.in_flight]

    def room_for(self, queue: PartitionQueue, size: int, now: float) -> tuple[Batch, bool]:
        """The open batch of a partition with room for ``size`` bytes, and whether it was opened just now."""
        waiting = queue.waiting
        if waiting:
            batch = waiting[-1]
            if not batch.full and batch.attempts == 0:
                if batch.size + size <= self.batch_bytes:
                    return batch, False
                batch.full = True
        self.opened += 1
        batch = Batch(queue, now, self.opened)
        self.open[batch.number] = batch
        waiting.append(batch)
        return batch, True

    def due_at(self, queue: PartitionQueue) -> float:
        """When the head of a queue that waits should go."""
        head = queue.waiting[0]
        if head.full or len(queue.waiting) > 1 or self.flushing or head.attempts > 0:
            return queue.muted_until
        lingered_at = head.created_at + self.linger_seconds
        return max(queue.muted_until, lingered_at)

    def take(self, queue: PartitionQueue, producer: tuple[int, int] = NO_PRODUCER, *, transactional: bool) -> Batch:
        """The head of a queue, numbered if it was not yet, now in flight. ``producer`` is for queues without one."""
        batch = queue.waiting.popleft()
        batch.full = True
        if batch.attempts == 0 and producer[0] >= 0:
            if queue.producer[0] != producer[0]:
                queue.producer, queue.next_sequence, queue.unproven = producer, 0, True
            batch.number_as(queue.producer, queue.next_sequence, transactional=transactional)
            queue.next_sequence = (queue.next_sequence + len(batch.values)) % SEQUENCE_MODULUS
        batch.attempts += 1
        queue.in_flight.append(batch)
        return batch

    def finish(self, batch: Batch) -> None:
        """A batch's fate is known: it is nowhere any longer."""
        queue = batch.queue
        if batch in queue.in_flight:
            queue.in_flight.remove(batch)
        elif batch in queue.waiting:
            queue.waiting.remove(batch)
        if self.open.pop(batch.number, None) is not None:
            self.buffered_bytes -= batch.size - BATCH_OVERHEAD

    def restart_sequences(self) -> None:
        """A new producer id or epoch for everybody (a transaction's end): all numbers begin anew."""
        for queue in self._queues.values():
            assert not queue.in_flight, "sequences restart when nothing is in flight"
            queue.producer, queue.next_sequence = NO_PRODUCER, 0
            queue.gap, queue.unproven, queue.refused_from = False, True, 0


def _wake_all(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)
    waiting.clear()

"""What a partition remembers of its producers: the ledger behind idempotence and the last stable offset.

Follows Kafka's producer state (KIP-98, KIP-890 markers). A producer's last five batches are kept, so that a retry is
answered with the offset its first attempt got; a batch must follow the one before it without a gap; a new epoch starts
at sequence 0; a producer nobody knows may start anywhere, for its state may have expired.

A snapshot keeps the last batch alone, and a broker that stops may leave up to five unanswered. Kafka refuses the retry
of the others as out of order, upon which an idempotent producer begins a new epoch and has them appended twice. Here
the log is asked for them (``recall``) when such a retry comes.

``check`` decides and changes nothing; ``record`` folds in a batch that *was* appended (by the leader after ``check``,
by a follower, by recovery) and checks nothing.

Invariants: the first offsets of ``ongoing`` transactions grow in the order of the dict; each belongs to the producer
with that ``transaction_first_offset``. A transaction is unstable until its marker lies below the high watermark.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from ottla.records.batch import (
    CONTROL_FLAG,
    NO_PRODUCER_EPOCH,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    SEQUENCE_MAX,
    TRANSACTIONAL_FLAG,
    BatchHeader,
)
from ottla.records.control import EndTransaction
from ottla.records.crc import crc32c
from ottla.records.origin import Origin
from ottla.wire.errors import ErrorCode, KafkaError

__all__ = [
    "BATCHES_RETAINED",
    "CompletedTransaction",
    "CorruptSnapshot",
    "Duplicate",
    "Origin",
    "ProducerSnapshotEntry",
    "ProducerState",
    "ProducerStateTable",
    "decode_snapshot",
    "encode_snapshot",
]

BATCHES_RETAINED: Final = 5
LATE_TRANSACTION_BUFFER_MS: Final = 5 * 60 * 1000
PRODUCER_ID_EXPIRATION_MS_DEFAULT: Final = 86_400_000
RETURN_MS: Final = 10 * 60 * 1000
"""So long a producer is still known after a load if nothing but its records' timestamps says that it has expired."""
NO_COORDINATOR_EPOCH: Final = -1
EPOCH_MAX: Final = 2**15 - 1
_CLIENT: Final = Origin.CLIENT
_REPLICATION: Final = Origin.REPLICATION
_MARKER_EPOCH_GROWS_FROM: Final = 2
"""From this ``transaction.version`` on every marker carries an epoch above that of the transaction's batches."""


class Duplicate(NamedTuple):
    """The batch is in the log already: this is where, and the maximum timestamp it has there."""

    base_offset: int
    last_offset: int
    timestamp: int


class RetainedBatch(NamedTuple):
    """What is remembered of one appended batch."""

    first_sequence: int
    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int

    @classmethod
    def of(cls, header: BatchHeader, offset: int) -> "RetainedBatch":
        """The batch that was appended at base ``offset``."""
        delta, first = header.last_offset_delta, header.base_sequence
        last = NO_SEQUENCE if first == NO_SEQUENCE else (first + delta) & SEQUENCE_MAX
        if first == NO_SEQUENCE:
            first = _sequence_before(last, delta)
        return cls(first, last, offset + delta, delta, header.max_timestamp)


class CompletedTransaction(Struct, frozen=True, kw_only=True):
    """A transaction that ``record`` saw its marker of. ``last_offset`` is the marker's; an aborted one goes into the
    transaction index together with ``last_stable_offset``, the offset below which all was decided at that point."""

    producer_id: int
    first_offset: int
    last_offset: int
    aborted: bool
    last_stable_offset: int


class ProducerSnapshotEntry(NamedTuple):
    """One producer in a ``.snapshot`` file; -1 stands for none. The fields in the order of the file."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int
    coordinator_epoch: int
    transaction_first_offset: int


class ProducerState:
    """One producer on one partition. Owned by the table, read by DescribeProducers."""

    __slots__ = (
        "abridged",
        "active_ms",
        "batches",
        "coordinator_epoch",
        "known_until_ms",
        "last_timestamp",
        "producer_epoch",
        "producer_id",
        "transaction_first_offset",
    )

    def __init__(self, producer_id: int) -> None:
        self.producer_id = producer_id
        self.producer_epoch = NO_PRODUCER_EPOCH
        self.coordinator_epoch = NO_COORDINATOR_EPOCH
        self.last_timestamp = NO_TIMESTAMP
        self.transaction_first_offset: int | None = None
        self.batches: deque[RetainedBatch] = deque(maxlen=BATCHES_RETAINED)
        self.abridged = False
        """Whether there may have been batches before those retained, as a snapshot leaves it."""
        self.active_ms = NO_TIMESTAMP
        """When it appended last by the wall clock; the records' timestamps may be anything. Not in snapshots."""
        self.known_until_ms = NO_TIMESTAMP
        """It does not expire before: out of a snapshot, which does not say when it appended last."""

    @property
    def last_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE

    @property
    def last_offset(self) -> int:
        return self.batches[-1].last_offset if self.batches else -1

    def duplicate_of(self, header: BatchHeader) -> Duplicate | None:
        if header.producer_epoch != self.producer_epoch:
            return None
        first = header.base_sequence
        last = NO_SEQUENCE if first == NO_SEQUENCE else (first + header.last_offset_delta) & SEQUENCE_MAX
        for batch in self.batches:
            if batch.first_sequence == first and batch.last_sequence == last:
                return Duplicate(batch.last_offset - batch.offset_delta, batch.last_offset, batch.timestamp)
        return None


class ProducerStateTable:
    """All producers of one partition."""

    __slots__ = ("_completed", "_ongoing", "_producers", "expiration_ms", "recall")

    def __init__(self, *, expiration_ms: int = PRODUCER_ID_EXPIRATION_MS_DEFAULT) -> None:
        self.expiration_ms = expiration_ms
        self.recall: Callable[[int, int], Sequence[BatchHeader]] = _nothing_recalled
        """The data batches of a producer id that lie below an offset and not far from it, in their order."""
        self._producers: dict[int, ProducerState] = {}
        self._ongoing: dict[int, int] = {}
        """First offset of each open transaction, ascending, and its producer id."""
        self._completed: dict[int, int] = {}
        """First offset of each transaction that is decided, and its marker's offset, until that is replicated."""

    def __len__(self) -> int:
        return len(self._producers)

    @property
    def producers(self) -> tuple[ProducerState, ...]:
        """For DescribeProducers, in no particular order."""
        return tuple(self._producers.values())

    def get(self, producer_id: int) -> ProducerState | None:
        return self._producers.get(producer_id)

    # Deciding

    def has_open_transaction(self, producer_id: int, producer_epoch: int) -> bool:
        """Whether the producer has written records of a transaction here that is not decided."""
        state = self._producers.get(producer_id)
        return (
            state is not None and state.transaction_first_offset is not None and state.producer_epoch == producer_epoch
        )

    def duplicate_of(self, header: BatchHeader) -> Duplicate | None:
        """Where the batch is, if it was appended before."""
        state = self._producers.get(header.producer_id)
        if state is None:
            return None
        duplicate = state.duplicate_of(header)
        if duplicate is not None or not state.abridged or header.producer_epoch != state.producer_epoch:
            return duplicate
        if _follows(header.base_sequence, state.last_sequence) or len(state.batches) == BATCHES_RETAINED:
            return None
        self._complete(state)
        return state.duplicate_of(header)

    def _complete(self, state: ProducerState) -> None:
        """Retain what a snapshot has left out."""
        state.abridged = False
        oldest = state.batches[0]
        base_offset = oldest.last_offset - oldest.offset_delta
        earlier = [
            RetainedBatch.of(header, header.base_offset)
            for header in self.recall(state.producer_id, base_offset)
            if header.producer_epoch == state.producer_epoch
        ]
        state.batches = deque([*earlier, *state.batches], maxlen=BATCHES_RETAINED)

    def check_epoch(self, producer_id: int, producer_epoch: int) -> None:
        """Raises ``KafkaError(INVALID_PRODUCER_EPOCH)`` for an epoch that has been left behind."""
        state = self._producers.get(producer_id)
        if state is not None and producer_epoch < state.producer_epoch:
            raise _stale_epoch(producer_id, producer_epoch, state, "smaller than")

    def check(self, header: BatchHeader, origin: Origin = Origin.CLIENT) -> Duplicate | None:
        """May this data batch be appended? ``None`` is yes; a ``Duplicate`` is answered and not appended again.

        Raises ``KafkaError``: INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_TXN_STATE. Only call it for
        batches with a producer id.
        """
        state = self._producers.get(header.producer_id)
        if state is None or origin is _REPLICATION:
            return None
        if origin is _CLIENT:
            duplicate = state.duplicate_of(header) if not state.abridged else self.duplicate_of(header)
            if duplicate is not None:
                return duplicate
        if header.producer_epoch < state.producer_epoch:
            raise _stale_epoch(header.producer_id, header.producer_epoch, state, "smaller than")
        if origin is _CLIENT:
            _check_sequence(header, state)
        if state.transaction_first_offset is not None and not header.attributes & TRANSACTIONAL_FLAG:
            raise KafkaError(
                ErrorCode.INVALID_TXN_STATE, f"Expected transactional write from producer {header.producer_id}"
            )
        return None

    def check_marker(
        self,
        header: BatchHeader,
        marker: EndTransaction,
        origin: Origin = Origin.COORDINATOR,
        *,
        transaction_version: int = 0,
    ) -> None:
        """May this transaction marker be appended?

        Raises ``KafkaError``: INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED. From transaction version 2 on a
        marker carries a higher epoch than the transaction; the same epoch without an open transaction is a retry.
        """
        state = self._producers.get(header.producer_id)
        if state is None or origin is Origin.REPLICATION:
            return
        epoch = header.producer_epoch
        if transaction_version >= _MARKER_EPOCH_GROWS_FROM:
            retried = state.transaction_first_offset is None or epoch == EPOCH_MAX
            if epoch < state.producer_epoch or (epoch == state.producer_epoch and not retried):
                raise _stale_epoch(header.producer_id, header.producer_epoch, state, "not above")
        elif epoch < state.producer_epoch:
            raise _stale_epoch(header.producer_id, header.producer_epoch, state, "smaller than")
        if marker.coordinator_epoch < state.coordinator_epoch:
            raise KafkaError(
                ErrorCode.TRANSACTION_COORDINATOR_FENCED,
                f"Invalid coordinator epoch for producer {header.producer_id}: {marker.coordinator_epoch} (zombie), "
                f"{state.coordinator_epoch} (current)",
            )

    # Folding in

    def record(
        self, header: BatchHeader, offset: int, now_ms: int, *, marker: EndTransaction | None = None
    ) -> CompletedTransaction | None:
        """Fold in a batch that was appended at base ``offset``. ``marker`` is what a control batch holds, if anything.

        Batches without producer id, and control batches without a marker (emptied by compaction, or not a
        transaction's), change nothing.
        """
        producer_id = header.producer_id
        attributes = header.attributes
        if producer_id < 0 or (marker is None and attributes & CONTROL_FLAG):
            return None
        state = self._producers.get(producer_id)
        if state is None:
            state = self._producers[producer_id] = ProducerState(producer_id)
        if state.producer_epoch != header.producer_epoch:
            state.batches.clear()
            state.abridged = False
            state.producer_epoch = header.producer_epoch
        state.last_timestamp = header.max_timestamp
        state.active_ms = now_ms
        if marker is not None:
            return self._record_marker(state, marker, offset)
        state.batches.append(RetainedBatch.of(header, offset))
        if attributes & TRANSACTIONAL_FLAG and state.transaction_first_offset is None:
            state.transaction_first_offset = offset
            self._ongoing[offset] = producer_id
        return None

    def _record_marker(self, state: ProducerState, marker: EndTransaction, offset: int) -> CompletedTransaction | None:
        first_offset = state.transaction_first_offset
        state.coordinator_epoch = marker.coordinator_epoch
        state.transaction_first_offset = None
        if first_offset is None:
            return None
        self._ongoing.pop(first_offset, None)
        self._completed[first_offset] = offset
        return CompletedTransaction(
            producer_id=state.producer_id,
            first_offset=first_offset,
            last_offset=offset,
            aborted=not marker.committed,
            last_stable_offset=next(iter(self._ongoing), offset + 1),
        )

    # Stability

    @property
    def first_undecided_offset(self) -> int | None:
        """Where the oldest open transaction begins."""
        return next(iter(self._ongoing), None)

    @property
    def first_unstable_offset(self) -> int | None:
        """Where the oldest transaction begins that is open, or decided by a marker that is not replicated yet.

        The last stable offset is this or the high watermark, whichever is smaller.
        """
        if not self._completed:
            return next(iter(self._ongoing), None)
        completed = min(self._completed)
        ongoing = next(iter(self._ongoing), completed)
        return min(completed, ongoing)

    def record_high_watermark(self, high_watermark: int) -> bool:
        """Decided transactions whose marker lies below it are stable; returns whether any became so."""
        return bool(self._completed) and self._drop_completed(high_watermark)

    def late_transaction(self, now_ms: int, max_transaction_timeout_ms: int) -> bool:
        """Whether the oldest open transaction has been idle for longer than any coordinator would let it."""
        producer_id = next(iter(self._ongoing.values()), None)
        if producer_id is None:
            return False
        last = self._producers[producer_id].last_timestamp
        return last > 0 and now_ms - last > max_transaction_timeout_ms + LATE_TRANSACTION_BUFFER_MS

    # Ageing, reloading

    def expire(self, now_ms: int) -> list[int]:
        """Forget producers idle for ``expiration_ms`` without an open transaction; returns their ids.

        Idle is measured by the later of their last record's timestamp (Kafka's measure) and their last append, so a
        producer of old data is not forgotten while it works.
        """
        expired = [
            state.producer_id
            for state in self._producers.values()
            if state.transaction_first_offset is None
            and now_ms >= state.known_until_ms
            and now_ms - max(state.last_timestamp, state.active_ms) >= self.expiration_ms
        ]
        for producer_id in expired:
            del self._producers[producer_id]
        return expired

    def snapshot(self) -> list[ProducerSnapshotEntry]:
        """What a ``.snapshot`` file keeps: of each producer the last batch only."""
        return [
            ProducerSnapshotEntry(
                producer_id=state.producer_id,
                producer_epoch=state.producer_epoch,
                last_sequence=state.last_sequence,
                last_offset=state.last_offset,
                offset_delta=state.batches[-1].offset_delta if state.batches else 0,
                timestamp=state.last_timestamp,
                coordinator_epoch=state.coordinator_epoch,
                transaction_first_offset=(
                    -1 if state.transaction_first_offset is None else state.transaction_first_offset
                ),
            )
            for state in self._producers.values()
        ]

    def load(self, entries: Iterable[ProducerSnapshotEntry], now_ms: int, written_ms: int = NO_TIMESTAMP) -> None:
        """Start again from a snapshot that was written at ``written_ms``; entries that have expired by ``now_ms`` are
        left out.

        A producer of old data has not expired for the timestamps of its records. When it appended last nobody knows,
        but not after the snapshot was written: where that is not long enough ago, it has ``RETURN_MS`` to come back.
        """
        self.clear()
        recent = now_ms - written_ms < self.expiration_ms
        for entry in entries:
            open_transaction = entry.transaction_first_offset >= 0
            if not open_transaction and not recent and now_ms - entry.timestamp >= self.expiration_ms:
                continue
            state = self._producers[entry.producer_id] = ProducerState(entry.producer_id)
            state.producer_epoch = entry.producer_epoch
            state.coordinator_epoch = entry.coordinator_epoch
            state.last_timestamp = entry.timestamp
            state.known_until_ms = now_ms + RETURN_MS if recent else NO_TIMESTAMP
            if entry.last_offset >= 0:
                first = _sequence_before(entry.last_sequence, entry.offset_delta)
                state.batches.append(RetainedBatch(first, *entry[2:6]))
                state.abridged = True
            if open_transaction:
                state.transaction_first_offset = entry.transaction_first_offset
                self._ongoing[entry.transaction_first_offset] = entry.producer_id
        self._ongoing = dict(sorted(self._ongoing.items()))

    def truncate_start(self, log_start_offset: int) -> None:
        """The log lost its records below; producers stay known, decided transactions below are no longer unstable."""
        self._drop_completed(log_start_offset)

    def clear(self) -> None:
        """Forget all: before a snapshot is loaded and the log behind it recorded again, or a log starts anew."""
        self._producers.clear()
        self._ongoing.clear()
        self._completed.clear()

    def _drop_completed(self, offset: int) -> bool:
        stable = [first for first, last in self._completed.items() if last < offset]
        for first in stable:
            del self._completed[first]
        return bool(stable)


def _check_sequence(header: BatchHeader, state: ProducerState) -> None:
    first = header.base_sequence
    if header.producer_epoch != state.producer_epoch:
        if first != 0 and state.producer_epoch != NO_PRODUCER_EPOCH:
            raise KafkaError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"Invalid sequence number for new epoch of producer {header.producer_id}: {header.producer_epoch} "
                f"(request epoch), {first} (seq. number), {state.producer_epoch} (current producer epoch)",
            )
        return
    last = state.last_sequence
    if not _follows(first, last):
        raise KafkaError(
            ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
            f"Out of order sequence number for producer {header.producer_id}: {first} (incoming seq. number), {last} "
            "(current end sequence number)",
        )


def _follows(first: int, last: int) -> bool:
    return first == last + 1 or (first == 0 and last == SEQUENCE_MAX)


def _nothing_recalled(_producer_id: int, _below: int) -> Sequence[BatchHeader]:
    return ()


def _stale_epoch(producer_id: int, producer_epoch: int, state: ProducerState, relation: str) -> KafkaError:
    return KafkaError(
        ErrorCode.INVALID_PRODUCER_EPOCH,
        f"Epoch of producer {producer_id} is {producer_epoch}, which is {relation} the last seen epoch "
        f"{state.producer_epoch}",
    )


def _sequence_before(sequence: int, decrement: int) -> int:
    """The inverse of counting up with a wrap: before 0 comes 2^31-1."""
    return sequence - decrement if sequence >= decrement else SEQUENCE_MAX - (decrement - sequence) + 1


# The .snapshot file: version i16, crc u32 (CRC-32C of what follows), count i32, entries of 46 bytes.

SNAPSHOT_VERSION: Final = 1
_SNAPSHOT_HEADER: Final = struct.Struct(">hIi")
_SNAPSHOT_CRC_END: Final = 6
_SNAPSHOT_COUNT: Final = struct.Struct(">i")
_SNAPSHOT_ENTRY: Final = struct.Struct(">qhiqiqiq")


class CorruptSnapshot(ValueError):
    """A producer snapshot that cannot be trusted; the log is read again from an older one."""


def encode_snapshot(entries: Iterable[ProducerSnapshotEntry]) -> bytes:
    """The bytes of a ``.snapshot`` file."""
    packed = [_SNAPSHOT_ENTRY.pack(*entry) for entry in entries]
    covered = _SNAPSHOT_COUNT.pack(len(packed)) + b"".join(packed)
    return _SNAPSHOT_HEADER.pack(SNAPSHOT_VERSION, crc32c(covered), len(packed)) + covered[_SNAPSHOT_COUNT.size :]


def decode_snapshot(data: bytes | bytearray | memoryview) -> list[ProducerSnapshotEntry]:
    """The entries of a ``.snapshot`` file. Raises ``CorruptSnapshot``."""
    if len(data) < _SNAPSHOT_HEADER.size:
        raise CorruptSnapshot(f"{len(data)} bytes are too few for a producer snapshot")
    version, crc, count = _SNAPSHOT_HEADER.unpack_from(data)
    if version != SNAPSHOT_VERSION:
        raise CorruptSnapshot(f"unknown producer snapshot version {version}")
    view = memoryview(data)
    computed = crc32c(view[_SNAPSHOT_CRC_END:])
    if crc != computed:
        raise CorruptSnapshot(f"producer snapshot is corrupt (stored crc {crc}, computed crc {computed})")
    entries = view[_SNAPSHOT_HEADER.size :]
    if count < 0 or count * _SNAPSHOT_ENTRY.size != len(entries):
        raise CorruptSnapshot(f"producer snapshot announces {count} entries in {len(entries)} bytes")
    return [ProducerSnapshotEntry(*fields) for fields in _SNAPSHOT_ENTRY.iter_unpack(entries)]

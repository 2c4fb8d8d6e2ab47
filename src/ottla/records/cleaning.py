"""Compaction's rule: which records of a batch stay, and what the batch they stay in looks like.

Follows Kafka's log cleaner (KIP-98 producers and transactions, KIP-534 delete horizons). A first pass over the dirty
part of a log fills an ``OffsetMap`` with the last offset of every key; a second one over the whole cleanable log asks a
``BatchCleaner`` about each batch. What is kept keeps its offset, timestamp and order; a batch keeps its first and last
offset, sequence and epochs, so that producers and coordinators find what they would have found.

- A record goes if the map has its key at a later offset, and at once if its transaction was aborted.
- A tombstone, and a marker whose transaction has no records left, stay for ``delete.retention.ms`` after the pass that
  saw them first. That pass writes the time down as the batch's base timestamp (attribute bit 6).
- The last batch of a producer the log still knows stays even with nothing in it, as does the last one of the cleanable
  part: they say how far sequences and offsets have come.

A batch that keeps all its records is passed on as it is.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

from msgspec import Struct

from ottla.records.batch import (
    BATCH_OVERHEAD,
    CODEC_MASK,
    CONTROL_FLAG,
    DELETE_HORIZON_FLAG,
    HEADER,
    LENGTH_OVERHEAD,
    LOG_APPEND_TIME_FLAG,
    NO_TIMESTAMP,
    TRANSACTIONAL_FLAG,
    BatchHeader,
    Codec,
    checksum,
)
from ottla.records.compression import compress
from ottla.records.control import ControlType, control_type
from ottla.records.last_record import LastRecord
from ottla.records.offset_map import OffsetMap
from ottla.records.outline import outline
from ottla.records.reader import read_body, read_records
from ottla.records.varint import read_varint, zigzag_varint

__all__ = ["AbortedRange", "BatchCleaner", "CleanedTransactions", "CleaningRules", "empty_batch"]


class AbortedRange(Protocol):
    """An aborted transaction, as the transaction index has it; ``last_offset`` is its marker's."""

    @property
    def producer_id(self) -> int: ...

    @property
    def first_offset(self) -> int: ...

    @property
    def last_offset(self) -> int: ...


class CleaningRules(Struct, frozen=True, kw_only=True):
    """What one cleaning of a log goes by. ``upper_offset`` is where its cleanable part ends."""

    now_ms: int
    delete_retention_ms: int
    upper_offset: int
    decompressed_bytes_max: int
    last_records: dict[int, LastRecord]
    """By producer id, of the producers the log still knows."""


# Transactions --------------------------------------------------------------------------------------------------------


class CleanedTransactions:
    """Which transaction the batch at hand belongs to, on the way from one end of a log to the other.

    ``aborted`` are those whose marker lies at ``start`` or above: one that ended before must not be met again.
    """

    __slots__ = ("_aborted", "_coming", "_committed", "_ongoing", "retained")

    def __init__(self, aborted: Iterable[AbortedRange], start: int) -> None:
        ahead = [found for found in aborted if found.last_offset >= start]
        self._aborted: Iterator[AbortedRange] = iter(sorted(ahead, key=lambda found: found.first_offset))
        self._coming = next(self._aborted, None)
        self._ongoing: dict[int, tuple[AbortedRange, list[int]]] = {}
        self._committed: dict[int, None] = {}
        self.retained: list[AbortedRange] = []
        """Aborted transactions that the batches met so far still need in the transaction index. Taken by the caller."""

    def is_aborted(self, header: BatchHeader) -> bool:
        """Whether the data batch belongs to an aborted transaction."""
        self._meet(header.last_offset)
        if not header.attributes & TRANSACTIONAL_FLAG:
            return False
        found = self._ongoing.get(header.producer_id)
        if found is not None:
            found[1].append(header.last_offset)
            del found[1][:-1]
            return True
        self._committed[header.producer_id] = None
        return False

    def is_spent(self, header: BatchHeader, key: bytes | None) -> bool:
        """Whether nothing of the transaction that the control batch ends is left; ``key`` is its record's, if any."""
        self._meet(header.last_offset)
        if key is None:
            return True
        match control_type(key):
            case ControlType.ABORT:
                found = self._ongoing.pop(header.producer_id, None)
                if found is not None and found[1]:
                    self.retained.append(found[0])
                    return False
                return True
            case ControlType.COMMIT:
                if header.producer_id in self._committed:
                    del self._committed[header.producer_id]
                    return False
                return True
            case _:
                return False

    def _meet(self, offset: int) -> None:
        while self._coming is not None and self._coming.first_offset <= offset:
            self._ongoing.setdefault(self._coming.producer_id, (self._coming, []))
            self._coming = next(self._aborted, None)


# The second pass -----------------------------------------------------------------------------------------------------


class BatchCleaner:
    """Decides about one batch after the other, in the order of the log."""

    __slots__ = ("_known", "_rules", "_transactions", "records_kept", "records_read")

    def __init__(self, rules: CleaningRules, known: OffsetMap, transactions: CleanedTransactions) -> None:
        self._rules = rules
        self._known = known
        self._transactions = transactions
        self.records_read = 0
        self.records_kept = 0

    def clean(self, header: BatchHeader, batch: memoryview) -> memoryview | bytearray | None:
        """What the batch becomes: ``batch`` itself, one with fewer records or a delete horizon, or nothing.

        Raises ``CorruptRecord``, ``DecompressedTooLarge`` among it, for a batch that cannot be read.
        """
        if header.attributes & CONTROL_FLAG:
            return self._clean_control(header, batch)
        if self._transactions.is_aborted(header):
            self.records_read += max(header.record_count, 0)
            return self._emptied(header)
        body = read_body(batch, header, limit=self._rules.decompressed_bytes_max)
        found = outline(header, body)
        self.records_read += len(found.keys)
        if not found.keys:
            return self._emptied(header)
        kept = self._known.survivors(found.offsets, found.keys)
        horizon = header.delete_horizon
        tombstones = set(found.tombstones) if found.tombstones else None
        if tombstones and horizon is not None and horizon <= self._rules.now_ms:
            latest = self._known.latest_offset
            kept = [index for index in kept if index not in tombstones or found.offsets[index] > latest]
        self.records_kept += len(kept)
        if not kept:
            return self._emptied(header)
        if tombstones and horizon is None and not tombstones.isdisjoint(kept):
            return _with_horizon(header, body, spans_of(kept, found.ends), self._horizon)
        if len(kept) == len(found.keys):
            return batch
        return _with_fewer(header, body, spans_of(kept, found.ends), len(kept))

    @property
    def _horizon(self) -> int:
        return self._rules.now_ms + self._rules.delete_retention_ms

    def _clean_control(self, header: BatchHeader, batch: memoryview) -> memoryview | bytearray | None:
        record = next(read_records(batch), None)
        self.records_read += record is not None
        spent = self._transactions.is_spent(header, None if record is None else record.key)
        horizon = header.delete_horizon
        if record is None or (spent and horizon is not None and horizon <= self._rules.now_ms):
            return self._emptied(header)
        self.records_kept += 1
        body = bytes(batch[BATCH_OVERHEAD:])
        if horizon is None and (spent or record.value is None):
            return _with_horizon(header, body, [(0, len(body))], self._horizon)
        return batch

    def _emptied(self, header: BatchHeader) -> bytearray | None:
        if header.next_offset == self._rules.upper_offset or self._is_last_of_producer(header):
            return empty_batch(header)
        return None

    def _is_last_of_producer(self, header: BatchHeader) -> bool:
        last = self._rules.last_records.get(header.producer_id) if header.producer_id >= 0 else None
        if last is None:
            return False
        if last.last_data_offset >= 0:
            return header.last_offset == last.last_data_offset
        return header.is_control and header.producer_epoch == last.producer_epoch


def spans_of(kept: list[int], ends: list[int]) -> list[tuple[int, int]]:
    """Where the kept records are in the body: records that follow each other make one span."""
    spans: list[tuple[int, int]] = []
    start = end = -1
    for index in kept:
        begin = ends[index - 1] if index else 0
        if begin != end:
            if start >= 0:
                spans.append((start, end))
            start = begin
        end = ends[index]
    spans.append((start, end))
    return spans


def empty_batch(header: BatchHeader) -> bytearray:
    """The batch without any record: offsets, sequence and epochs still speak for those it had."""
    kind = header.attributes & (LOG_APPEND_TIME_FLAG | TRANSACTIONAL_FLAG | CONTROL_FLAG)
    return _seal(header._replace(attributes=kind, base_timestamp=NO_TIMESTAMP, record_count=0), b"")


def _with_fewer(header: BatchHeader, body: bytes, spans: list[tuple[int, int]], count: int) -> bytearray:
    """Kept records stay as they are, byte for byte; the greatest timestamp may have gone with another."""
    max_timestamp = header.max_timestamp
    if not header.attributes & LOG_APPEND_TIME_FLAG:
        deltas = (delta for _, _, delta, _ in _timestamps(body, spans))
        max_timestamp = header.base_timestamp + max(deltas)
    kept = b"".join([body[start:end] for start, end in spans])
    return _seal(header._replace(max_timestamp=max_timestamp, record_count=count), kept)


def _with_horizon(header: BatchHeader, body: bytes, spans: list[tuple[int, int]], horizon: int) -> bytearray:
    """The horizon takes the place of the base timestamp, so every record's distance to it is written anew."""
    append_time = header.max_timestamp if header.attributes & LOG_APPEND_TIME_FLAG else None
    parts = bytearray()
    count, max_timestamp = 0, NO_TIMESTAMP
    for attributes, rest, delta, end in _timestamps(body, spans):
        timestamp = header.base_timestamp + delta if append_time is None else append_time
        max_timestamp = max(max_timestamp, timestamp)
        count += 1
        record = body[attributes : attributes + 1] + zigzag_varint[timestamp - horizon] + body[rest:end]
        parts += zigzag_varint[len(record)] + record
    changed = header._replace(
        attributes=header.attributes | DELETE_HORIZON_FLAG,
        base_timestamp=horizon,
        max_timestamp=max_timestamp,
        record_count=count,
    )
    return _seal(changed, parts)


def _timestamps(body: bytes, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int, int, int]]:
    """Of each record: where its attributes are, where what follows its timestamp delta is, the delta, its end."""
    for start, end in spans:
        position = start
        while position < end:
            size, attributes = read_varint(body, position)
            delta, rest = read_varint(body, attributes + 1)
            position = attributes + size
            yield attributes, rest, delta, position


def _seal(header: BatchHeader, body: bytes | bytearray) -> bytearray:
    """The batch of ``header`` around ``body``, compressed as it was; length and checksum made anew."""
    codec = Codec(header.attributes & CODEC_MASK)
    packed = body if codec is Codec.NONE else compress(codec, body)
    out = bytearray(BATCH_OVERHEAD) + packed
    sized = header._replace(batch_length=len(out) - LENGTH_OVERHEAD, crc=0)
    HEADER.pack_into(out, 0, *sized)
    HEADER.pack_into(out, 0, *sized._replace(crc=checksum(out)))
    return out

"""Fetched bytes into batches: checked, in order, without what transactions have aborted.

A batch is columns first (``ottla.records.scan``): where its fields lie. Records are made of them when somebody asks; of
one record there are columns only when somebody asks for those.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from struct import Struct as Packer
from typing import TYPE_CHECKING, Any, Final, overload

from msgspec import Struct

from ottla.model import TopicPartition
from ottla.records.batch import (
    BATCH_OVERHEAD,
    CODEC_MASK,
    CONTROL_FLAG,
    LENGTH_OVERHEAD,
    LOG_APPEND_TIME_FLAG,
    MAGIC,
    TRANSACTIONAL_FLAG,
    BatchHeader,
    iter_headers,
    last_header,
    read_header,
    verify_crc,
)
from ottla.records.reader import Header, read_body, read_header_fields, records_of
from ottla.records.scan import COMPILED, Fields, FieldsOfOne, gather, make_records, scan, scan_one, slices

if TYPE_CHECKING:
    import pyarrow

DECOMPRESSED_BYTES_MAX: Final = 256 * 1024 * 1024
"""Largest size one batch may decompress to; a broker that sends more is not trusted."""

_CONTROL_KEY: Final = Packer(">hh")
_ABORT: Final = 0
_HIDEABLE: Final = CONTROL_FLAG | TRANSACTIONAL_FLAG


class ConsumerRecord(Struct, frozen=True, gc=False):
    """A record as it was read. ``timestamp`` is milliseconds; headers are in the order they were sent."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()
    timestamp_type: int = 0
    """0: the producer's time, 1: when the broker appended it."""
    leader_epoch: int = -1


class BytesColumn(Sequence[bytes | None]):
    """The keys or the values of a batch. They stay where they lie until they are looked at.

    ``starts`` and ``sizes`` say where in ``data``; a size of -1 is null.
    """

    __slots__ = ("data", "sizes", "starts")

    def __init__(self, data: bytes | memoryview, starts: "array[int]", sizes: "array[int]") -> None:
        self.data = data
        self.starts = starts
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> bytes | None: ...
    @overload
    def __getitem__(self, index: slice) -> "BytesColumn": ...
    def __getitem__(self, index: int | slice) -> "bytes | BytesColumn | None":
        if isinstance(index, slice):
            return BytesColumn(self.data, self.starts[index], self.sizes[index])
        start, size = self.starts[index], self.sizes[index]
        return None if size < 0 else bytes(self.data[start : start + size])

    def __iter__(self) -> Iterator[bytes | None]:
        return iter(self.to_list())

    def to_list(self) -> list[bytes | None]:
        """All of them as objects."""
        return slices(bytes(self.data), self.starts, self.sizes)

    def joined(self) -> "tuple[bytearray, array[int]]":
        """All of them without gaps, and where each ends in that, from 0 on: one more number than there are fields."""
        joined, ends, _ = gather(self.data, self.starts, self.sizes)
        return joined, ends

    def to_arrow(self) -> "pyarrow.BinaryArray":
        """As an Arrow array of binary. Needs the extra ``arrow``."""
        pa = _pyarrow()
        joined, ends, nulls = gather(self.data, self.starts, self.sizes)
        valid = pa.py_buffer(_bitmap(self.sizes)) if nulls else None
        buffers = [valid, pa.py_buffer(ends), pa.py_buffer(joined)]
        return pa.Array.from_buffers(pa.binary(), len(self.sizes), buffers, null_count=nulls)


class RecordBatch(Sequence[ConsumerRecord]):
    """Records of one partition that lie together in its log: a sequence of records, and the same as columns.

    ``offsets`` and ``timestamps`` are arrays of 64-bit numbers, ``keys`` and ``values`` columns of bytes. Columns look
    into the broker's answer, which stays in memory as long as they do; records are objects of their own.
    """

    __slots__ = ("_body", "_columns", "_header", "_make", "_one", "_records", "next_offset", "partition", "topic")

    def __init__(
        self,
        place: tuple[str, int],
        header: BatchHeader,
        body: bytes | memoryview,
        fields: Fields | None,
        make: Callable[..., Any],
        *,
        one: FieldsOfOne | None = None,
    ) -> None:
        """Of the only record in ``body`` there may be ``one`` instead of ``fields``."""
        self.topic, self.partition = place
        self._header = header
        self._body = body
        self._columns = fields
        self._one = one
        self._make = make
        self._records: list[ConsumerRecord] | None = None
        self.next_offset = header.base_offset + header.last_offset_delta + 1
        """The offset after the batch. Compacted batches and those of transactions may leave numbers out."""

    @property
    def _fields(self) -> Fields:
        if self._columns is None:
            self._columns = scan(self._header, self._body)
        return self._columns

    @property
    def offsets(self) -> "array[int]":
        return self._fields[0]

    @property
    def timestamps(self) -> "array[int]":
        """Milliseconds."""
        return self._fields[1]

    @property
    def keys(self) -> BytesColumn:
        return BytesColumn(self._body, self._fields[2], self._fields[3])

    @property
    def values(self) -> BytesColumn:
        return BytesColumn(self._body, self._fields[4], self._fields[5])

    @property
    def headers(self) -> list[tuple[Header, ...]]:
        """The headers of each record."""
        where = self._fields[6]
        if not where:
            return [()] * len(self.offsets)
        body = self._body = bytes(self._body)
        return [read_header_fields(body, where[index]) if index in where else () for index in range(len(self.offsets))]

    @property
    def leader_epoch(self) -> int:
        return self._header.partition_leader_epoch

    @property
    def records(self) -> list[ConsumerRecord]:
        """The records as objects, made at the first use."""
        records = self._records
        if records is None:
            header, one = self._header, self._one
            kind = 1 if header.attributes & LOG_APPEND_TIME_FLAG else 0
            body = self._body = bytes(self._body)
            if one is None:
                names = (self.topic, self.partition, kind, header.partition_leader_epoch, read_header_fields)
                records = make_records(self._make, names, body, self._fields)
            else:
                offset, timestamp, key_start, key_size, value_start, value_size, headers_start = one
                key = body[key_start : key_start + key_size] if key_size >= 0 else None
                value = body[value_start : value_start + value_size] if value_size >= 0 else None
                headers = read_header_fields(body, (headers_start, len(body))) if headers_start >= 0 else ()
                place, epoch = (self.topic, self.partition), header.partition_leader_epoch
                records = [self._make(*place, offset, timestamp, key, value, headers, kind, epoch)]
            self._records = records
        return records

    def tail(self, first: int) -> "RecordBatch":
        """The batch without the records before number ``first``."""
        return RecordBatch(
            (self.topic, self.partition), self._header, self._body, _from(self._fields, first), self._make
        )

    def through(self, change: Callable[[ConsumerRecord], ConsumerRecord]) -> "RecordBatch":
        """The batch whose records go through ``change`` when they are made."""
        make = self._make
        return RecordBatch(
            (self.topic, self.partition),
            self._header,
            self._body,
            self._columns,
            lambda *fields: change(make(*fields)),
            one=self._one,
        )

    def __len__(self) -> int:
        return 1 if self._one is not None else len(self._fields[0])

    @overload
    def __getitem__(self, index: int) -> ConsumerRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[ConsumerRecord]: ...
    def __getitem__(self, index: int | slice) -> ConsumerRecord | list[ConsumerRecord]:
        return self.records[index]

    def __iter__(self) -> Iterator[ConsumerRecord]:
        return iter(self.records)

    def __repr__(self) -> str:
        return f"<RecordBatch {self.topic}-{self.partition}, {len(self)} records before offset {self.next_offset}>"

    def to_arrow(self) -> "pyarrow.RecordBatch":
        """Columns topic, partition, offset, timestamp, key, value, headers. Needs the extra ``arrow``."""
        pa = _pyarrow()
        count = len(self)
        columns = {
            "topic": pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([self.topic])),
            "partition": pa.array([self.partition] * count, pa.int32()),
            "offset": _numbers(self.offsets, pa.int64()),
            "timestamp": _numbers(self.timestamps, pa.timestamp("ms", tz="UTC")),
            "key": self.keys.to_arrow(),
            "value": self.values.to_arrow(),
        }
        pairs = pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))
        columns["headers"] = pa.array(
            [[{"name": name, "value": value} for name, value in headers] for headers in self.headers], pairs
        )
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


class Fetched(Struct, frozen=True):
    """What one answer brought of one partition: whole batches, from ``offset`` up to ``next_offset``."""

    place: TopicPartition
    data: memoryview
    offset: int
    next_offset: int = -1
    aborted: tuple[tuple[int, int], ...] = ()
    """(producer id, first offset) of transactions that were aborted, for readers of committed records."""
    only: BatchHeader | None = None
    """The header of the only batch, where it is known that there is but one."""


def only_header(data: memoryview) -> BatchHeader | None:
    """The header of the one whole batch that ``data`` is; ``None`` where it is anything else."""
    size = len(data)
    if size < BATCH_OVERHEAD:
        return None
    header = read_header(data)
    return header if header.magic == MAGIC and header.batch_length + LENGTH_OVERHEAD == size else None


def next_offset_after(data: memoryview, offset: int) -> tuple[int, int]:
    """Where to fetch next after ``data`` (``offset`` itself if it holds no whole batch), and the last leader epoch."""
    last = last_header(data)
    if last is None or last.next_offset <= offset:
        return offset, -1
    return last.next_offset, last.partition_leader_epoch


def iter_batches(
    fetched: Fetched, *, check_crcs: bool = True, make: Callable[..., Any] = ConsumerRecord
) -> Iterator[RecordBatch]:
    """The batches that hold records for the reader, from ``fetched.offset`` on. Raises ``CorruptRecord``."""
    aborted = AbortedTransactions(fetched.aborted)
    for position, header in iter_headers(fetched.data, partial_tail=True):
        batch = open_batch(fetched, header, position=position, aborted=aborted, check_crcs=check_crcs, make=make)
        if batch is not None:
            yield batch


def open_batch(
    fetched: Fetched,
    header: BatchHeader,
    *,
    position: int = 0,
    aborted: "AbortedTransactions | None" = None,
    check_crcs: bool,
    make: Callable[..., Any],
) -> RecordBatch | None:
    """The batch at ``position``, or ``None`` if it holds nothing for the reader. ``aborted`` is what has followed the
    batches before, where there are such. Raises ``CorruptRecord``."""
    data, offset = fetched.data, fetched.offset
    if header.base_offset + header.last_offset_delta < offset:
        return None
    if check_crcs:
        verify_crc(data, position, header)
    if header.attributes & _HIDEABLE:
        aborted = aborted or AbortedTransactions(fetched.aborted)
        if aborted.hides(data, position, header):
            return None
    if header.attributes & CODEC_MASK or not COMPILED:
        body: bytes | memoryview = read_body(data, header, position=position, limit=DECOMPRESSED_BYTES_MAX)
    else:
        body = data[position + BATCH_OVERHEAD : position + header.batch_length + LENGTH_OVERHEAD]
    if header.record_count == 1:
        one = scan_one(header, body)
        return RecordBatch(fetched.place, header, body, None, make, one=one) if one[0] >= offset else None
    fields = scan(header, body)
    if header.base_offset < offset:
        fields = _from(fields, bisect_left(fields[0], offset))
    return RecordBatch(fetched.place, header, body, fields, make) if fields[0] else None


class AbortedTransactions:
    """Follows the log in offset order and says what its reader must not see: markers, and what was aborted.

    A transaction of an aborted producer begins at the first offset that the broker names and ends at its marker.
    """

    __slots__ = ("_aborting", "_pending")

    def __init__(self, aborted: Iterable[tuple[int, int]]) -> None:
        self._pending = sorted(aborted, key=lambda entry: entry[1], reverse=True)
        self._aborting: set[int] = set()

    def hides(self, data: memoryview, position: int, header: BatchHeader) -> bool:
        """Whether the batch at ``position`` is to be passed over. Asked about those of transactions and markers, in the
        order of the log; all others are not hidden.
        """
        while self._pending and self._pending[-1][1] <= header.last_offset:
            self._aborting.add(self._pending.pop()[0])
        if header.is_control:
            if header.producer_id in self._aborting and _is_abort(data, position, header):
                self._aborting.discard(header.producer_id)
            return True
        return header.is_transactional and header.producer_id in self._aborting


def _is_abort(data: memoryview, position: int, header: BatchHeader) -> bool:
    body = read_body(data, header, position=position, limit=DECOMPRESSED_BYTES_MAX)
    return any(
        record.key is not None
        and len(record.key) >= _CONTROL_KEY.size
        and _CONTROL_KEY.unpack_from(record.key)[1] == _ABORT
        for record in records_of(header, body)
    )


def _from(fields: Fields, first: int) -> Fields:
    """The fields without the records before number ``first``."""
    offsets, times, key_starts, key_sizes, value_starts, value_sizes, headers = fields
    return (
        offsets[first:],
        times[first:],
        key_starts[first:],
        key_sizes[first:],
        value_starts[first:],
        value_sizes[first:],
        {index - first: where for index, where in headers.items() if index >= first},
    )


def _bitmap(sizes: "array[int]") -> bytes:
    """Arrow's validity bits, the lowest first."""
    bits = bytearray((len(sizes) + 7) // 8)
    for index, size in enumerate(sizes):
        if size >= 0:
            bits[index >> 3] |= 1 << (index & 7)
    return bytes(bits)


def _numbers(values: "array[int]", kind: Any) -> Any:
    pa = _pyarrow()
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _pyarrow() -> Any:
    try:
        import pyarrow  # noqa: PLC0415 - an extra, and slow to load
    except ImportError as error:
        raise ImportError("Arrow needs the extra: pip install 'ottla[arrow]'") from error
    return pyarrow

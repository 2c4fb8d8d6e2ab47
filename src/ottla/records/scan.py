"""Where the fields of a batch's records lie: one pass over the varints, no object made of any record.

This module is written once and runs twice: as Python, and, where a compiler was at hand when Ottla was installed, as
the extension that Cython makes of it with the types in ``scan.pxd``; a property test holds both equal.

Compiled, nothing checks an index, so every read must be inside ``body`` by the code's own checks: a varint ends where
the body does, and a field's length is compared with what is left of its record before it is used.
"""

from array import array
from collections.abc import Callable
from typing import Any, Final

from ottla.records.batch import LOG_APPEND_TIME_FLAG, BatchHeader
from ottla.records.errors import CorruptRecord

__all__ = [
    "COMPILED",
    "RECORD_BYTES_MIN",
    "Fields",
    "FieldsOfOne",
    "gather",
    "make_records",
    "scan",
    "scan_one",
    "slices",
]

COMPILED: Final = not __file__.endswith(".py")
RECORD_BYTES_MIN: Final = 7
"""Length, attributes, two deltas, two lengths, header count: a byte each."""
TIMESTAMP_MAX: Final = 2**61
"""Nobody's milliseconds; sums of two below it stay in 64 bits."""
BASE_OFFSET_MAX: Final = 2**63 - 2**31
"""Nobody's offset; with any delta it stays in 64 bits."""

Fields = tuple[
    "array[int]", "array[int]", "array[int]", "array[int]", "array[int]", "array[int]", dict[int, tuple[int, int]]
]
"""Offsets, timestamps, key starts, key sizes, value starts, value sizes (-1: null), and by record number where its
headers begin and end, for records that have any. Starts count from the beginning of the body."""
FieldsOfOne = tuple[int, int, int, int, int, int, int]
"""The same of a single record, the last being where its headers begin (they end where the body does), or -1 if it has
none."""

_WIDE: Final = array("q", (0,))
_NARROW: Final = array("i", (0,))


def scan(header: BatchHeader, body: bytes | memoryview) -> Fields:  # noqa: C901, PLR0915 - varints are read in line
    """The fields of the records in ``body``, the decompressed records of a batch. Raises ``CorruptRecord``.

    Headers are not looked into.
    """
    count = header.record_count
    end = len(body)
    if count < 0 or count * RECORD_BYTES_MIN > end:
        raise CorruptRecord(f"batch announces {count} records in {end} bytes")
    places = _places(count)
    offsets, times, key_starts, key_sizes, value_starts, value_sizes, headers = places
    data = body
    base_offset, delta_max = header.base_offset, header.last_offset_delta
    base_time, append_time = _times(header)
    position, last_delta = 0, -1
    size_min, time_max = RECORD_BYTES_MIN - 1, TIMESTAMP_MAX
    for index in range(count):
        raw = data[position] if position < end else _past_end(index)
        position += 1
        if raw > 0x7F:
            raw, position = _long_varint(data, position, end, raw)
        start, size = position, (raw >> 1) ^ -(raw & 1)
        if size < size_min or size > end - start:
            raise CorruptRecord(f"record {index} announces {size} bytes, {end - start} are left")
        record_end = start + size
        raw = data[start + 1]
        position = start + 2
        if raw > 0x7F:
            raw, position = _long_varint(data, position, end, raw)
        time = (raw >> 1) ^ -(raw & 1)
        raw = data[position] if position < record_end else _past_end(index)
        position += 1
        if raw > 0x7F:
            raw, position = _long_varint(data, position, end, raw)
        delta = (raw >> 1) ^ -(raw & 1)
        if not last_delta < delta <= delta_max or not -time_max < time < time_max:
            raise CorruptRecord(f"record {index}: offset delta {delta} after {last_delta}, timestamp delta {time}")
        offsets[index] = base_offset + delta
        times[index] = base_time + time if append_time < 0 else append_time
        last_delta = delta
        raw = data[position] if position < record_end else _past_end(index)
        position += 1
        if raw > 0x7F:
            raw, position = _long_varint(data, position, end, raw)
        size = (raw >> 1) ^ -(raw & 1)
        key_starts[index], key_sizes[index] = position, size if 0 <= size <= record_end - position else -1
        if size > 0:
            position = position + size if size <= record_end - position else _past_end(index)
        raw = data[position] if position < record_end else _past_end(index)
        position += 1
        if raw > 0x7F:
            raw, position = _long_varint(data, position, end, raw)
        size = (raw >> 1) ^ -(raw & 1)
        value_starts[index], value_sizes[index] = position, size if 0 <= size <= record_end - position else -1
        if size > 0:
            position = position + size if size <= record_end - position else _past_end(index)
        if (data[position] if position < record_end else _past_end(index)) != 0:
            headers[index] = (position, record_end)
        elif position + 1 != record_end:
            raise CorruptRecord(f"record {index} has {record_end - position - 1} bytes behind its end")
        position = record_end
    if position != end:
        raise CorruptRecord(f"{end - position} bytes remain behind the last of {count} records")
    return places


def scan_one(header: BatchHeader, body: bytes | memoryview) -> FieldsOfOne:
    """``scan`` of a batch of one record, for which columns would cost more than what is in them."""
    end = len(body)
    data = body
    base_offset, delta_max = header.base_offset, header.last_offset_delta
    base_time, append_time = _times(header)
    size_min, time_max = RECORD_BYTES_MIN - 1, TIMESTAMP_MAX
    size, position = _varint(data, 0, end)
    if header.record_count != 1 or size < size_min or size != end - position:
        raise CorruptRecord(f"a record of {size} bytes where {header.record_count} have {end - position}")
    time, position = _varint(data, position + 1, end)
    delta, position = _varint(data, position, end)
    if not 0 <= delta <= delta_max or not -time_max < time < time_max:
        raise CorruptRecord(f"the only record has offset delta {delta}, timestamp delta {time}")
    key_size, key_start = _varint(data, position, end)
    position = key_start + key_size if 0 < key_size <= end - key_start else key_start
    value_size, value_start = _varint(data, position, end)
    position = value_start + value_size if 0 < value_size <= end - value_start else value_start
    if position >= end or key_size > end - key_start or value_size > end - value_start:
        _past_end(0)
    if data[position] != 0:
        headers_start = position
    elif position + 1 == end:
        headers_start = -1
    else:
        raise CorruptRecord(f"the only record has {end - position - 1} bytes behind its end")
    return (
        base_offset + delta,
        base_time + time if append_time < 0 else append_time,
        key_start,
        key_size if key_size >= 0 else -1,
        value_start,
        value_size if value_size >= 0 else -1,
        headers_start,
    )


def make_records(make: Callable[..., Any], names: tuple[Any, ...], body: bytes, fields: Fields) -> list[Any]:
    """``make(topic, partition, offset, timestamp, key, value, headers, timestamp_type, leader_epoch)`` of each record.

    ``names`` is topic, partition, timestamp type, leader epoch and the function that reads headers.
    """
    offsets, times, key_starts, key_sizes, value_starts, value_sizes, headers = fields
    topic, partition, kind, epoch, read_headers = names
    data = body
    nothing: tuple[Any, ...] = ()
    records = []
    for index in range(len(offsets)):
        start, size = key_starts[index], key_sizes[index]
        key = data[start : start + size] if size >= 0 else None
        start, size = value_starts[index], value_sizes[index]
        value = data[start : start + size] if size >= 0 else None
        some = read_headers(body, headers[index]) if headers and index in headers else nothing
        records.append(make(topic, partition, offsets[index], times[index], key, value, some, kind, epoch))
    return records


def gather(body: bytes | memoryview, starts: "array[int]", sizes: "array[int]") -> "tuple[bytearray, array[int], int]":
    """The fields themselves, laid one after the other; where each ends (from 0 on); how many are null.

    Raises ``IndexError`` for fields that are not inside ``body``, or more than it holds.
    """
    ends = _NARROW * (len(starts) + 1)
    room, compiled = len(body), COMPILED
    joined = bytearray(room)
    data, out, view = body, joined, memoryview(joined)
    starts_, sizes_, ends_ = starts, sizes, ends
    position = nulls = 0
    for index in range(len(starts_)):
        start, size = starts_[index], sizes_[index]
        if size < 0:
            nulls += 1
        elif size:
            if start < 0 or size > room - start or size > room - position:
                raise IndexError(f"field {index} is not inside the {room} bytes")
            if compiled:
                copy(out, position, data, start, size)  # type: ignore[name-defined]  # noqa: F821 - of the .pxd
            else:
                view[position : position + size] = data[start : start + size]
            position += size
        ends_[index + 1] = position
    del view
    del joined[position:]
    return joined, ends, nulls


def slices(body: bytes, starts: "array[int]", sizes: "array[int]") -> list[bytes | None]:
    """The fields as objects."""
    data = body
    starts_, sizes_ = starts, sizes
    parts: list[bytes | None] = []
    for index in range(len(starts_)):
        start, size = starts_[index], sizes_[index]
        parts.append(data[start : start + size] if size >= 0 else None)
    return parts


def _varint(data: bytes | memoryview, position: int, end: int) -> tuple[int, int]:
    """The number at ``position``, and where what follows it begins."""
    raw = data[position] if position < end else _past_end(0)
    position += 1
    if raw > 0x7F:
        raw, position = _long_varint(data, position, end, raw)
    return (raw >> 1) ^ -(raw & 1), position


def _long_varint(data: bytes | memoryview, position: int, end: int, raw: int) -> tuple[int, int]:
    """A varint of more than one byte, of which ``raw`` is the first: the number, not yet unfolded, and what follows."""
    raw &= 0x7F
    shift = 7
    while True:
        if position >= end:
            raise CorruptRecord("a varint exceeds the batch")
        byte = data[position]
        position += 1
        if shift == 63 and byte > 1:
            raise CorruptRecord(f"varint at position {position - 10} is longer than 64 bits")
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            return raw, position
        shift += 7


def _places(count: int) -> Fields:
    return (_WIDE * count, _WIDE * count, _NARROW * count, _NARROW * count, _NARROW * count, _NARROW * count, {})


def _times(header: BatchHeader) -> tuple[int, int]:
    """The base timestamp, and the time of appending or -1. What records count from must leave them room."""
    if header.base_offset > BASE_OFFSET_MAX:
        raise CorruptRecord(f"the base offset is {header.base_offset}")
    if not -TIMESTAMP_MAX < header.base_timestamp < TIMESTAMP_MAX:
        raise CorruptRecord(f"the base timestamp is {header.base_timestamp}")
    append_time = header.max_timestamp if header.attributes & LOG_APPEND_TIME_FLAG else -1
    return header.base_timestamp, append_time


def _past_end(index: int) -> int:
    raise CorruptRecord(f"a field exceeds record {index}")

"""The records of a batch, one after the other: decompressed within a limit, every announced length and count checked.

Only those who look into records come here: consumers, compaction, the replay of internal topics, produce-time rules
that need keys. The broker's produce and fetch paths do not.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from ottla.records.batch import (
    BATCH_OVERHEAD,
    LENGTH_OVERHEAD,
    LOG_APPEND_TIME_FLAG,
    MAGIC,
    BatchHeader,
    Codec,
    iter_headers,
    read_header,
)
from ottla.records.compression import DECOMPRESSED_BYTES_MAX, decompress
from ottla.records.errors import CorruptRecord
from ottla.records.scan import RECORD_BYTES_MIN
from ottla.records.varint import read_varint

__all__ = ["Header", "Record", "read_all_records", "read_body", "read_header_fields", "read_records", "records_of"]

_new_tuple: Final = tuple.__new__

Header = tuple[str, bytes | None]


class Record(NamedTuple):
    """A record as a reader sees it. Header keys that are not UTF-8 carry their bytes as lone surrogates."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()


def read_records(batch: bytes | bytearray | memoryview, *, limit: int = DECOMPRESSED_BYTES_MAX) -> Iterator[Record]:
    """The records of the one batch that ``batch`` begins with; ``limit`` bounds their decompressed bytes.

    Raises ``CorruptRecord`` (a ``KafkaError``) for anything that does not add up; verifying the checksum is the
    caller's.
    """
    header = read_header(batch)
    if header.magic != MAGIC:
        raise CorruptRecord(f"magic {header.magic} is not that of a record batch ({MAGIC})")
    return records_of(header, read_body(batch, header, limit=limit))


def read_all_records(
    batches: bytes | bytearray | memoryview, *, limit: int = DECOMPRESSED_BYTES_MAX
) -> Iterator[Record]:
    """The data records of whole batches that follow each other; control batches are skipped, a partial tail is left."""
    view = memoryview(batches)
    for position, header in iter_headers(view, partial_tail=True):
        if not header.is_control:
            yield from records_of(header, read_body(view, header, position=position, limit=limit))


def read_body(
    batch: bytes | bytearray | memoryview,
    header: BatchHeader,
    *,
    position: int = 0,
    limit: int = DECOMPRESSED_BYTES_MAX,
) -> bytes:
    """The decompressed records of the batch at ``position``, not parsed."""
    size = header.batch_length + LENGTH_OVERHEAD
    if not BATCH_OVERHEAD <= size <= len(batch) - position:
        raise CorruptRecord(f"batch size {size} does not fit the {len(batch) - position} bytes at hand")
    packed = memoryview(batch)[position + BATCH_OVERHEAD : position + size]
    codec = header.codec
    return bytes(packed) if codec is Codec.NONE else decompress(codec, packed, limit)


def records_of(header: BatchHeader, body: bytes) -> Iterator[Record]:
    """Parse ``body``, the decompressed records of a batch with this header."""
    count = header.record_count
    if count < 0 or count * RECORD_BYTES_MIN > len(body):
        raise CorruptRecord(f"batch announces {count} records in {len(body)} bytes")
    base_offset, base_timestamp = header.base_offset, header.base_timestamp
    append_time = header.max_timestamp if header.attributes & LOG_APPEND_TIME_FLAG else None
    delta_max = header.last_offset_delta
    position, end, last_delta = 0, len(body), -1
    for index in range(count):
        try:
            timestamp_delta, delta, key, value, headers, position = _read_record(body, position, end)
        except IndexError:
            raise CorruptRecord(f"record {index} of {count} exceeds the batch") from None
        if not last_delta < delta <= delta_max:
            raise CorruptRecord(f"record {index} has offset delta {delta} after {last_delta} up to {delta_max}")
        last_delta = delta
        timestamp = base_timestamp + timestamp_delta if append_time is None else append_time
        yield _new_tuple(Record, (base_offset + delta, timestamp, key, value, headers))
    if position != end:
        raise CorruptRecord(f"{end - position} bytes remain behind the last of {count} records")


def _read_record(  # noqa: C901, PLR0912, PLR0915 - varints of one and two bytes are read in line: half the time
    body: bytes, position: int, end: int
) -> tuple[int, int, bytes | None, bytes | None, tuple[Header, ...], int]:
    """Timestamp delta, offset delta, key, value, headers and the position behind them; ``IndexError`` past the end."""
    size = body[position]
    if size < 0x80:
        size = (size >> 1) ^ -(size & 1)
        start = position + 1
    else:
        size, start = read_varint(body, position)
    record_end = start + size
    if size < RECORD_BYTES_MIN - 1 or record_end > end:
        raise CorruptRecord(f"record at position {position} announces {size} bytes, {end - start} are left")
    number = body[start + 1]
    if number < 0x80:
        timestamp_delta = (number >> 1) ^ -(number & 1)
        position = start + 2
    else:
        timestamp_delta, position = read_varint(body, start + 1)
    number = body[position]
    if number < 0x80:
        delta = (number >> 1) ^ -(number & 1)
        position += 1
    else:
        delta, position = read_varint(body, position)
    key: bytes | None = None
    value: bytes | None = None
    number = body[position]
    if number < 0x80:
        number = (number >> 1) ^ -(number & 1)
        position += 1
    else:
        number, position = read_varint(body, position)
    if number >= 0:
        key = body[position : position + number]
        position += number
        if position > record_end:
            raise CorruptRecord(f"key of {number} bytes exceeds its record")
    number = body[position]
    if number < 0x80:
        number = (number >> 1) ^ -(number & 1)
        position += 1
    else:
        number, position = read_varint(body, position)
    if number >= 0:
        value = body[position : position + number]
        position += number
        if position > record_end:
            raise CorruptRecord(f"value of {number} bytes exceeds its record")
    headers: tuple[Header, ...] = ()
    if body[position]:
        count, position = read_varint(body, position)
        headers, position = _read_headers(body, position, record_end, count)
    else:
        position += 1
    if position != record_end:
        raise CorruptRecord(f"record announces {size} bytes and has {position - start}")
    return timestamp_delta, delta, key, value, headers, position


def read_header_fields(body: bytes, where: tuple[int, int]) -> tuple[Header, ...]:
    """The headers of a record that begin and end ``where`` says. Raises ``CorruptRecord``."""
    start, end = where
    try:
        count, position = read_varint(body, start)
        headers, position = _read_headers(body, position, end, count)
    except IndexError:
        raise CorruptRecord("record headers exceed the batch") from None
    if position != end:
        raise CorruptRecord(f"{end - position} bytes remain behind the headers of a record")
    return headers


def _read_headers(body: bytes, position: int, end: int, count: int) -> tuple[tuple[Header, ...], int]:
    if not 0 < count <= (end - position) // 2:
        raise CorruptRecord(f"record announces {count} headers in {end - position} bytes")
    headers: list[Header] = []
    for _ in range(count):
        key_size, position = read_varint(body, position)
        if not 0 <= key_size <= end - position:
            raise CorruptRecord(f"header key of {key_size} bytes does not fit its record")
        key = body[position : position + key_size].decode("utf-8", "surrogateescape")
        position += key_size
        value_size, position = read_varint(body, position)
        value: bytes | None = None
        if value_size >= 0:
            value = body[position : position + value_size]
            position += value_size
        if position > end:
            raise CorruptRecord(f"header value of {value_size} bytes does not fit its record")
        headers.append((key, value))
    return tuple(headers), position

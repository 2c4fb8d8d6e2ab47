"""The header of a record batch (magic 2): read, checked and stamped in place, the records never looked at.

A batch is stored and served as it was received. The broker owns two fields of it, base offset and partition leader
epoch, and both lie outside the checksum, which covers everything from the attributes to the end. Layout, big-endian::

     0 base_offset i64             21 attributes i16            43 producer_id i64
     8 batch_length i32            23 last_offset_delta i32     51 producer_epoch i16
    12 partition_leader_epoch i32  27 base_timestamp i64        53 base_sequence i32
    16 magic i8                    35 max_timestamp i64         57 record_count i32
    17 crc u32 (CRC-32C)                                        61 records

``batch_length`` counts from byte 12. Attributes: bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control,
6 delete horizon (the base timestamp then is the time at which compaction may drop the batch's tombstones).
"""

import struct
from collections import deque
from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from ottla.records.crc import crc32c
from ottla.records.errors import CorruptRecord
from ottla.wire.errors import ErrorCode, KafkaError

__all__ = [
    "BATCH_OVERHEAD",
    "LENGTH_OVERHEAD",
    "MAGIC",
    "NO_PRODUCER_EPOCH",
    "NO_PRODUCER_ID",
    "NO_SEQUENCE",
    "NO_TIMESTAMP",
    "BatchHeader",
    "Codec",
    "CorruptRecord",
    "TimestampType",
    "checksum",
    "iter_headers",
    "last_header",
    "magic_at",
    "next_sequence",
    "read_header",
    "stamp",
    "stamp_timestamp",
    "verify_crc",
]

BATCH_OVERHEAD: Final = 61
LENGTH_OVERHEAD: Final = 12
"""Bytes before those that ``batch_length`` counts."""
MAGIC: Final = 2
LENGTH_POSITION: Final = 8
MAGIC_POSITION: Final = 16
CRC_POSITION: Final = 17
ATTRIBUTES_POSITION: Final = 21
MAX_TIMESTAMP_POSITION: Final = 35

NO_PRODUCER_ID: Final = -1
NO_PRODUCER_EPOCH: Final = -1
NO_SEQUENCE: Final = -1
NO_TIMESTAMP: Final = -1
SEQUENCE_MAX: Final = 2**31 - 1

CODEC_MASK: Final = 0x07
LOG_APPEND_TIME_FLAG: Final = 0x08
TRANSACTIONAL_FLAG: Final = 0x10
CONTROL_FLAG: Final = 0x20
DELETE_HORIZON_FLAG: Final = 0x40

HEADER: Final = Struct(">qiibIhiqqqhii")
_unpack_header = HEADER.unpack_from
_unpack_length = Struct(">i4xb").unpack_from
_pack_i64 = Struct(">q").pack_into
_pack_i32 = Struct(">i").pack_into
_pack_u32 = Struct(">I").pack_into
_pack_i16 = Struct(">h").pack_into
_new_tuple = tuple.__new__


class Codec(IntEnum):
    """Compression codecs by their number in the batch attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


_CODECS: Final = tuple(Codec)


class TimestampType(IntEnum):
    """Who set the timestamps: the producer, or the broker when it appended."""

    CREATE_TIME = 0
    LOG_APPEND_TIME = 1


class BatchHeader(NamedTuple):
    """The 61 bytes before the records, as read; nothing is checked by having one."""

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.batch_length + LENGTH_OVERHEAD

    @property
    def codec(self) -> Codec:
        """Raises ``KafkaError(UNSUPPORTED_COMPRESSION_TYPE)`` for the three unassigned numbers."""
        try:
            return _CODECS[self.attributes & CODEC_MASK]
        except IndexError:
            number = self.attributes & CODEC_MASK
            raise KafkaError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"Unknown compression type id: {number}") from None

    @property
    def timestamp_type(self) -> TimestampType:
        return TimestampType.LOG_APPEND_TIME if self.attributes & LOG_APPEND_TIME_FLAG else TimestampType.CREATE_TIME

    @property
    def is_transactional(self) -> bool:
        return self.attributes & TRANSACTIONAL_FLAG != 0

    @property
    def is_control(self) -> bool:
        return self.attributes & CONTROL_FLAG != 0

    @property
    def last_sequence(self) -> int:
        if self.base_sequence == NO_SEQUENCE:
            return NO_SEQUENCE
        return next_sequence(self.base_sequence, self.last_offset_delta)

    @property
    def delete_horizon(self) -> int | None:
        """Milliseconds at which compaction may drop the batch's tombstones and markers, where it has set that."""
        return self.base_timestamp if self.attributes & DELETE_HORIZON_FLAG else None


Buffer = bytes | bytearray | memoryview


def read_header(buf: Buffer, position: int = 0) -> BatchHeader:
    """The header at ``position``. Raises ``CorruptRecord`` only where fewer than 61 bytes are left."""
    try:
        return _new_tuple(BatchHeader, _unpack_header(buf, position))
    except struct.error:
        raise CorruptRecord(
            f"{len(buf) - position} bytes at position {position} are fewer than a batch header of {BATCH_OVERHEAD}"
        ) from None


def magic_at(buf: Buffer, position: int = 0) -> int:
    """The format of the batch or message at ``position``: the same byte in every format. Needs 17 bytes."""
    return buf[position + MAGIC_POSITION]


def iter_headers(buf: Buffer, *, partial_tail: bool = False) -> Iterator[tuple[int, BatchHeader]]:
    """Yield ``(position, header)`` of batches that follow each other without a gap and lie wholly inside ``buf``.

    A batch that ``buf`` ends within is ``CorruptRecord``, or with ``partial_tail`` the quiet end (a fetch answer may be
    cut anywhere). Checked are length and magic; the checksum is ``verify_crc``'s.
    """
    position, end = 0, len(buf)
    while position < end:
        if partial_tail and end - position < BATCH_OVERHEAD:
            return
        header = read_header(buf, position)
        size = header.batch_length + LENGTH_OVERHEAD
        if size < BATCH_OVERHEAD:
            raise CorruptRecord(f"batch size {size} at position {position} is less than the overhead {BATCH_OVERHEAD}")
        if header.magic != MAGIC:
            raise CorruptRecord(f"magic {header.magic} at position {position} is not that of a record batch ({MAGIC})")
        if position + size > end:
            if partial_tail:
                return
            raise CorruptRecord(f"batch of {size} bytes at position {position} exceeds the {end - position} bytes left")
        yield position, header
        position += size


def last_header(buf: Buffer) -> BatchHeader | None:
    """The last that ``iter_headers`` finds where ``buf`` may be cut anywhere, without reading those before it."""
    position, last, end = 0, -1, len(buf) - BATCH_OVERHEAD
    while position <= end:
        length, magic = _unpack_length(buf, position + LENGTH_POSITION)
        if magic != MAGIC or length < BATCH_OVERHEAD - LENGTH_OVERHEAD:
            deque(iter_headers(buf, partial_tail=True), maxlen=0)  # raises, and says what is wrong
        following = position + length + LENGTH_OVERHEAD
        if following > end + BATCH_OVERHEAD:
            break
        last, position = position, following
    return None if last < 0 else read_header(buf, last)


def verify_crc(buf: Buffer, position: int, header: BatchHeader) -> None:
    """Raise ``CorruptRecord`` unless the checksum holds. ``buf`` must hold the whole batch."""
    computed = crc32c(
        memoryview(buf)[position + ATTRIBUTES_POSITION : position + header.batch_length + LENGTH_OVERHEAD]
    )
    if computed != header.crc:
        raise CorruptRecord(f"Record is corrupt (stored crc = {header.crc}, computed crc = {computed})")


def checksum(buf: Buffer) -> int:
    """The CRC-32C of the one whole batch that ``buf`` is."""
    return crc32c(memoryview(buf)[ATTRIBUTES_POSITION:])


def stamp(buf: bytearray | memoryview, position: int, *, base_offset: int, leader_epoch: int) -> None:
    """Write the two fields that are the broker's, in place; the checksum does not cover them."""
    _pack_i64(buf, position, base_offset)
    _pack_i32(buf, position + 12, leader_epoch)


def stamp_timestamp(
    buf: bytearray | memoryview, position: int, header: BatchHeader, kind: TimestampType, max_timestamp: int
) -> BatchHeader:
    """Set timestamp type and maximum in place and renew the checksum; the header as it reads then."""
    attributes = header.attributes & ~LOG_APPEND_TIME_FLAG
    if kind is TimestampType.LOG_APPEND_TIME:
        attributes |= LOG_APPEND_TIME_FLAG
    _pack_i16(buf, position + ATTRIBUTES_POSITION, attributes)
    _pack_i64(buf, position + MAX_TIMESTAMP_POSITION, max_timestamp)
    covered = memoryview(buf)[position + ATTRIBUTES_POSITION : position + header.batch_length + LENGTH_OVERHEAD]
    crc = crc32c(covered)
    _pack_u32(buf, position + CRC_POSITION, crc)
    return header._replace(attributes=attributes, max_timestamp=max_timestamp, crc=crc)


def next_sequence(sequence: int, increment: int = 1) -> int:
    """The sequence ``increment`` records later; after 2^31-1 comes 0."""
    return (sequence + increment) & SEQUENCE_MAX

"""Record batches written: what producers send, and what coordinators and the controller append."""

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final

from ottla.records.batch import (
    BATCH_OVERHEAD,
    CONTROL_FLAG,
    DELETE_HORIZON_FLAG,
    LENGTH_OVERHEAD,
    LOG_APPEND_TIME_FLAG,
    MAGIC,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    TRANSACTIONAL_FLAG,
    Codec,
)
from ottla.records.compression import compress
from ottla.records.crc import crc32c
from ottla.records.reader import Header, Record
from ottla.records.runs import encode_run
from ottla.records.varint import zigzag_varint

__all__ = ["NO_LEADER_EPOCH", "RECORD_OVERHEAD_MAX", "BatchBuilder", "batch_of_one", "build_batch", "record_size_max"]

NO_LEADER_EPOCH: Final = -1
RECORD_OVERHEAD_MAX: Final = 21
"""Most bytes a record without headers takes besides key and value."""

_PREFIX: Final = Struct(">qiibI")
_COVERED: Final = Struct(">hiqqqhii")
_varint = zigzag_varint


class BatchBuilder:
    """One batch in the making. ``append`` is the hot path; everything else happens in ``build``.

    Offsets count up from ``base_offset`` unless ``append`` is given one (compaction keeps gaps). With
    ``log_append_time`` the batch carries it as the timestamp of all its records; a ``delete_horizon`` takes the place
    of the base timestamp (KIP-534).
    """

    __slots__ = (
        "_attributes",
        "_base_timestamp",
        "_body",
        "_delta",
        "_head",
        "_max_timestamp",
        "base_offset",
        "base_sequence",
        "codec",
        "count",
        "leader_epoch",
        "level",
        "log_append_time",
        "producer_epoch",
        "producer_id",
    )

    def __init__(
        self,
        *,
        base_offset: int = 0,
        codec: Codec = Codec.NONE,
        level: int | None = None,
        leader_epoch: int = NO_LEADER_EPOCH,
        producer_id: int = NO_PRODUCER_ID,
        producer_epoch: int = NO_PRODUCER_EPOCH,
        base_sequence: int = NO_SEQUENCE,
        transactional: bool = False,
        control: bool = False,
        log_append_time: int | None = None,
        delete_horizon: int | None = None,
    ) -> None:
        self.base_offset = base_offset
        self.codec = codec
        self.level = level
        self.leader_epoch = leader_epoch
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.base_sequence = base_sequence
        self.log_append_time = log_append_time
        self.count = 0
        self._attributes = (
            codec
            | (TRANSACTIONAL_FLAG if transactional else 0)
            | (CONTROL_FLAG if control else 0)
            | (LOG_APPEND_TIME_FLAG if log_append_time is not None else 0)
            | (DELETE_HORIZON_FLAG if delete_horizon is not None else 0)
        )
        self._head = b""
        """The first run, which is often the whole batch, as it came: a copy less."""
        self._body = bytearray()
        self._delta = -1
        self._base_timestamp = delete_horizon
        self._max_timestamp = NO_TIMESTAMP

    @property
    def estimated_size(self) -> int:
        """Bytes of the batch if it were built now without compression."""
        return BATCH_OVERHEAD + len(self._head) + len(self._body)

    @property
    def next_offset(self) -> int:
        return self.base_offset + self._delta + 1

    @property
    def transactional(self) -> bool:
        return bool(self._attributes & TRANSACTIONAL_FLAG)

    @transactional.setter
    def transactional(self, value: bool) -> None:
        self._attributes = self._attributes & ~TRANSACTIONAL_FLAG | (TRANSACTIONAL_FLAG if value else 0)

    def append(
        self,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[Header] = (),
        *,
        offset: int | None = None,
    ) -> None:
        """Add a record. Timestamps are milliseconds; ``offset`` must exceed that of the record before."""
        base_timestamp = self._base_timestamp
        if base_timestamp is None:
            self._base_timestamp = base_timestamp = timestamp
        if timestamp > self._max_timestamp:  # noqa: PLR1730 - a third of the time of max()
            self._max_timestamp = timestamp
        if offset is None:
            delta = self._delta + 1
        else:
            delta = offset - self.base_offset
            assert delta > self._delta, (delta, self._delta)
        self._delta = delta
        self.count += 1
        record = b"\0" + _varint[timestamp - base_timestamp] + _varint[delta]
        record += b"\x01" if key is None else _varint[len(key)] + key
        record += b"\x01" if value is None else _varint[len(value)] + value
        record += _pack_headers(headers) if headers else b"\0"
        body = self._body
        body += _varint[len(record)]
        body += record

    def extend(self, timestamp: int, keys: Sequence[bytes | None] | None, values: Sequence[bytes | None]) -> None:
        """Add records of one timestamp without headers; ``keys`` of ``None`` stands for nulls. Much cheaper each."""
        if not values:
            return
        if self._base_timestamp is None:
            self._base_timestamp = timestamp
        self._max_timestamp = max(self._max_timestamp, timestamp)
        run = encode_run(keys, values, self._delta + 1, timestamp - self._base_timestamp)
        if self.count:
            self._body += run
        else:
            self._head = run
        self._delta += len(values)
        self.count += len(values)

    def build(self) -> bytes:
        """The batch; the builder may go on."""
        body: bytes | bytearray = self._head + self._body if self._body else self._head
        if self.codec is not Codec.NONE:
            body = compress(self.codec, body, self.level)
        covered = _COVERED.pack(
            self._attributes,
            self._delta,
            NO_TIMESTAMP if self._base_timestamp is None else self._base_timestamp,
            self._max_timestamp if self.log_append_time is None else self.log_append_time,
            self.producer_id,
            self.producer_epoch,
            self.base_sequence,
            self.count,
        )
        prefix = _PREFIX.pack(
            self.base_offset,
            BATCH_OVERHEAD - LENGTH_OVERHEAD + len(body),
            self.leader_epoch,
            MAGIC,
            crc32c(body, crc32c(covered)),
        )
        return b"".join((prefix, covered, body))


def build_batch(
    records: Iterable[Record | tuple[int, bytes | None, bytes | None]],
    *,
    base_offset: int = 0,
    codec: Codec = Codec.NONE,
    level: int | None = None,
    leader_epoch: int = NO_LEADER_EPOCH,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    transactional: bool = False,
) -> bytes:
    """A batch of ``records``: ``(timestamp, key, value)`` or ``Record``, whose offset is ignored, in order."""
    builder = BatchBuilder(
        base_offset=base_offset,
        codec=codec,
        level=level,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        transactional=transactional,
    )
    for record in records:
        if isinstance(record, Record):
            builder.append(record.timestamp, record.key, record.value, record.headers)
        else:
            builder.append(*record)
    return builder.build()


def batch_of_one(
    timestamp: int,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[Header] = (),
    *,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    transactional: bool = False,
) -> bytes:
    """What ``BatchBuilder`` makes of a single record, in half the time: for records sent as they come."""
    begin = b"\0\0\0\x01" if key is None else b"\0\0\0" + _varint[len(key)] + key
    begin += b"\x01" if value is None else _varint[len(value)]
    value = value or b""
    end = _pack_headers(headers) if headers else b"\0"
    size = _varint[len(begin) + len(value) + len(end)]
    attributes = TRANSACTIONAL_FLAG if transactional else 0
    latest = max(timestamp, NO_TIMESTAMP)
    fields = _COVERED.pack(attributes, 0, timestamp, latest, producer_id, producer_epoch, base_sequence, 1)
    covered = b"".join((fields, size, begin, value, end))
    length = _PREFIX.size - LENGTH_OVERHEAD + len(covered)
    return _PREFIX.pack(0, length, NO_LEADER_EPOCH, MAGIC, crc32c(covered)) + covered


def record_size_max(key: bytes | None, value: bytes | None, headers: Iterable[Header] = ()) -> int:
    """An upper bound of the bytes a record takes in a batch."""
    size = RECORD_OVERHEAD_MAX + len(key or b"") + len(value or b"")
    return size + (len(_pack_headers(headers)) if headers else 0)


def _pack_headers(headers: Iterable[Header]) -> bytes:
    parts: list[bytes] = []
    for key, value in headers:
        raw = key.encode("utf-8", "surrogateescape")
        parts.append(_varint[len(raw)] + raw + (b"\x01" if value is None else _varint[len(value)] + value))
    return _varint[len(parts)] + b"".join(parts)

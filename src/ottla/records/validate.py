"""Produce-time rules: may these batches enter the log, and as what bytes.

Follows Kafka 4.3's ``ProduceRequest.validateRecords``, ``UnifiedLog.analyzeAndValidateRecords`` and ``LogValidator`` in
order and error codes. The header and the checksum decide; records are decoded only where a rule cannot do without:
keys of compacted topics, ``message.timestamp.before.max.ms`` below its default, recompression, and naming the records
of a batch whose maximum timestamp is out of range. So, unlike Kafka, a client that lies within its own checksum
(a record count, a maximum timestamp below the real one) is found out by whoever reads the batch, not here.

Two steps: ``read_produce_batch`` finds the one batch of a Produce partition, ``validate`` holds batches against a
topic's ``ProduceRules``. Bytes change only where the topic asks for it: append time, a compression of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ottla.records.batch import (
    BATCH_OVERHEAD,
    CODEC_MASK,
    CONTROL_FLAG,
    LENGTH_OVERHEAD,
    LOG_APPEND_TIME_FLAG,
    MAGIC,
    NO_TIMESTAMP,
    BatchHeader,
    Codec,
    CorruptRecord,
    TimestampType,
    magic_at,
    read_header,
    stamp_timestamp,
    verify_crc,
)
from ottla.records.compression import DECOMPRESSED_BYTES_MAX, CompressionLevels, compress
from ottla.records.origin import Origin
from ottla.records.reader import Record, read_body, records_of
from ottla.records.rewrite import rewrite_batch
from ottla.wire.errors import ErrorCode, KafkaError

__all__ = [
    "Origin",
    "ProduceRules",
    "RecordError",
    "RecordsRejected",
    "Validated",
    "read_produce_batch",
    "validate",
]

LEGACY_OVERHEAD: Final = 14
"""The smallest message of any format; what announces less is corrupt."""
MAGIC_END: Final = 17
ZSTD_PRODUCE_VERSION: Final = 7
ERRORS_SHOWN: Final = 3
NO_LOG_APPEND_TIME: Final = -1
_INT64_MAX: Final = 2**63 - 1
_LAST_CODEC: Final = int(Codec.ZSTD)
_UNORDINARY: Final = LOG_APPEND_TIME_FLAG | CONTROL_FLAG


class RecordError(NamedTuple):
    """A record that made its batch fail, as Produce answers it."""

    batch_index: int
    message: str


class RecordsRejected(KafkaError):
    """A batch refused because of the records named."""

    def __init__(self, code: ErrorCode, message: str, record_errors: Sequence[RecordError]) -> None:
        super().__init__(code, message)
        self.record_errors = tuple(record_errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProduceRules:
    """What a topic asks of batches. One per topic configuration and origin, kept as long as that holds.

    ``codec`` is the topic's ``compression.type``, ``None`` for ``producer``: as it came.
    """

    origin: Origin = Origin.CLIENT
    max_message_bytes: int = 1_048_588
    segment_bytes: int = 1 << 30
    timestamp_type: TimestampType = TimestampType.CREATE_TIME
    timestamp_before_max_ms: int = _INT64_MAX
    timestamp_after_max_ms: int = 3_600_000
    compacted: bool = False
    codec: Codec | None = None
    levels: CompressionLevels = field(default_factory=CompressionLevels)
    decompressed_bytes_max: int = DECOMPRESSED_BYTES_MAX
    decodes_records: bool = field(init=False)
    """Whether every batch's records are looked at."""
    header_suffices: bool = field(init=False)
    """Whether a client's batch normally needs no more than its header and stays as it is: Kafka's defaults."""

    size_max: int = field(init=False)

    def __post_init__(self) -> None:
        create_time = self.timestamp_type is TimestampType.CREATE_TIME
        decodes_records = self.compacted or (create_time and self.timestamp_before_max_ms < _INT64_MAX)
        header_suffices = self.origin is Origin.CLIENT and create_time and self.codec is None and not decodes_records
        object.__setattr__(self, "decodes_records", decodes_records)
        object.__setattr__(self, "header_suffices", header_suffices)
        object.__setattr__(self, "size_max", min(self.max_message_bytes, self.segment_bytes))


class Validated(NamedTuple):
    """Batches ready to be stamped and appended. ``batches`` is writable; the caller's where nothing changed.

    ``log_append_time`` is -1 where the topic keeps the producer's timestamps.
    """

    batches: memoryview
    headers: Sequence[tuple[int, BatchHeader]]
    log_append_time: int
    max_timestamp: int


def read_produce_batch(records: bytes | bytearray | memoryview | None, api_version: int) -> BatchHeader:
    """The header of the one batch that a partition of a Produce request may hold.

    Raises ``KafkaError``: INVALID_RECORD for no batch, a second batch or an old message format; CORRUPT_MESSAGE for
    lengths that cannot be; UNSUPPORTED_COMPRESSION_TYPE for zstd before version 7. Bytes behind the batch that are too
    few for another one are ignored, as Kafka does: the batch ends at ``header.size``.
    """
    if records is not None and len(records) >= BATCH_OVERHEAD and api_version >= ZSTD_PRODUCE_VERSION:
        header = read_header(records)
        if header.magic == MAGIC and header.batch_length + LENGTH_OVERHEAD == len(records):
            return header
    size = _next_batch_size(records, 0) if records is not None else None
    if size is None or records is None:
        raise _invalid(f"Produce requests with version {api_version} must have at least one record batch per partition")
    if magic_at(records) != MAGIC:
        raise _invalid(
            f"Produce requests with version {api_version} are only allowed to contain record batches with magic "
            f"version {MAGIC}"
        )
    if size < BATCH_OVERHEAD:
        raise CorruptRecord(f"Batch size {size} is less than the overhead of a record batch ({BATCH_OVERHEAD})")
    header = read_header(records)
    if api_version < ZSTD_PRODUCE_VERSION and header.attributes & CODEC_MASK == Codec.ZSTD:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
            f"Produce requests with version {api_version} are not allowed to use ZStandard compression",
        )
    if len(records) > size and _next_batch_size(records, size) is not None:
        raise _invalid(
            f"Produce requests with version {api_version} are only allowed to contain exactly one record batch per "
            "partition"
        )
    return header


def validate(
    batches: bytes | bytearray | memoryview,
    headers: Sequence[tuple[int, BatchHeader]],
    rules: ProduceRules,
    now_ms: int,
) -> Validated:
    """Hold ``batches`` (positions and headers as read) against ``rules``. Raises ``KafkaError``, nothing changed then.

    Checksums are verified here, except for COORDINATOR batches, which never left this process. Clients have one batch.
    """
    view = batches if isinstance(batches, memoryview) else memoryview(batches)
    if rules.header_suffices and len(headers) == 1 and _is_ordinary(view, headers[0], rules, now_ms):
        header = headers[0][1]
        verify_crc(view, 0, header)
        return Validated(view, headers, NO_LOG_APPEND_TIME, header.max_timestamp)
    return _validate_each(view, headers, rules, now_ms)


def _validate_each(
    view: memoryview, headers: Sequence[tuple[int, BatchHeader]], rules: ProduceRules, now_ms: int
) -> Validated:
    """Rule by rule, in Kafka's order."""
    from_client = rules.origin is Origin.CLIENT
    if from_client:
        if len(headers) != 1:
            raise _invalid(f"{len(headers)} record batches instead of one")
        _check_client_header(headers[0][1])
    max_timestamp = NO_TIMESTAMP
    total = 0
    changed = False
    for position, header in headers:
        size = header.batch_length + LENGTH_OVERHEAD
        total += size
        if size > rules.max_message_bytes:
            raise _too_large(size, rules)
        if from_client:
            verify_crc(view, position, header)
            _check_client_fields(header)
            _check_records(view, position, header, rules, now_ms)
        if _changes(header, rules):
            changed = True
        if header.max_timestamp > max_timestamp:  # noqa: PLR1730 - a third of the time of max()
            max_timestamp = header.max_timestamp
    if total > rules.segment_bytes:
        raise KafkaError(
            ErrorCode.RECORD_LIST_TOO_LARGE,
            f"Message batch size is {total} bytes, which exceeds the segment size of {rules.segment_bytes}",
        )
    if changed:
        return _changed(view, headers, rules, now_ms)
    return _unchanged(view, headers, total, max_timestamp)


def _next_batch_size(records: bytes | bytearray | memoryview, position: int) -> int | None:
    """Bytes of the batch or message at ``position``, ``None`` where less than a whole one is left."""
    left = len(records) - position
    if left < LENGTH_OVERHEAD:
        return None
    length = int.from_bytes(records[position + 8 : position + LENGTH_OVERHEAD], "big", signed=True)
    if length < LEGACY_OVERHEAD:
        raise CorruptRecord(f"Record size {length} is less than the minimum record overhead ({LEGACY_OVERHEAD})")
    if left < MAGIC_END:
        return None
    magic = magic_at(records, position)
    if magic > MAGIC:
        raise CorruptRecord(f"Invalid magic found in record: {magic - 256 if magic > 127 else magic}")
    return length + LENGTH_OVERHEAD if length + LENGTH_OVERHEAD <= left else None


def _is_ordinary(view: memoryview, placed: tuple[int, BatchHeader], rules: ProduceRules, now_ms: int) -> bool:
    """Whether nothing in a client's batch but its checksum can fail: all the rules below in one expression.

    Where it says no, they are gone through one by one for the error to answer.
    """
    position, header = placed
    base_offset, batch_length, _, magic, _, attributes, last_delta, _, latest, producer_id, _, sequence, count = header
    size = len(view)
    return (
        position == base_offset == 0
        and magic == MAGIC
        and batch_length + LENGTH_OVERHEAD == size <= rules.size_max
        and attributes & _UNORDINARY == 0
        and attributes & CODEC_MASK <= _LAST_CODEC
        and count == last_delta + 1 > 0
        and (producer_id < 0 or sequence >= 0)
        and NO_TIMESTAMP <= latest <= now_ms + rules.timestamp_after_max_ms
        and not view.readonly
    )


def _check_client_header(header: BatchHeader) -> None:
    if header.base_offset != 0:
        raise _invalid(f"The baseOffset of the record batch should be 0, but it is {header.base_offset}")
    if header.magic != MAGIC:
        raise _invalid(f"Batch magic {header.magic} is not that of a record batch")
    if header.batch_length + LENGTH_OVERHEAD < BATCH_OVERHEAD:
        raise CorruptRecord(f"Batch length {header.batch_length} is less than the overhead of a record batch")


def _check_client_fields(header: BatchHeader) -> None:
    count = header.last_offset_delta + 1
    if count <= 0:
        raise _invalid(f"Batch has an invalid offset range: [0, {header.last_offset_delta}]")
    if header.record_count <= 0:
        raise _invalid(f"Invalid reported count for record batch: {header.record_count}")
    if header.record_count != count:
        raise _invalid(
            f"Inconsistent batch offset range [0, {header.last_offset_delta}] and count of records "
            f"{header.record_count}"
        )
    if header.attributes & CONTROL_FLAG:
        raise _invalid("Clients are not allowed to write control records")
    if header.producer_id >= 0 and header.base_sequence < 0:
        raise _invalid(
            f"Invalid sequence number {header.base_sequence} in record batch with producerId {header.producer_id}"
        )


def _check_records(view: memoryview, position: int, header: BatchHeader, rules: ProduceRules, now_ms: int) -> None:
    codec = header.codec
    late = False
    if rules.timestamp_type is TimestampType.CREATE_TIME:
        late = header.max_timestamp - now_ms > rules.timestamp_after_max_ms
        claims_append_time = header.max_timestamp == NO_TIMESTAMP and header.attributes & LOG_APPEND_TIME_FLAG
    else:
        claims_append_time = header.attributes & LOG_APPEND_TIME_FLAG
    if claims_append_time:
        message = "Invalid timestamp type in message. Producer should not set timestamp type to LogAppendTime."
        errors = [RecordError(index, message) for index in range(min(header.record_count, ERRORS_SHOWN))]
        raise _rejected(ErrorCode.INVALID_TIMESTAMP, errors)
    recompressed = rules.codec is not None and rules.codec is not codec
    if not (late or recompressed or rules.decodes_records):
        return
    errors, timestamps_failed = _record_errors(view, position, header, rules, now_ms)
    if errors:
        raise _rejected(ErrorCode.INVALID_TIMESTAMP if timestamps_failed else ErrorCode.INVALID_RECORD, errors)
    if late:
        raise _rejected(ErrorCode.INVALID_TIMESTAMP, [])


def _record_errors(
    view: memoryview, position: int, header: BatchHeader, rules: ProduceRules, now_ms: int
) -> tuple[list[RecordError], bool]:
    """The records at fault, and whether a timestamp was among the faults. What cannot be decoded is INVALID_RECORD."""
    errors: list[RecordError] = []
    timestamps_failed = False
    try:
        body = read_body(view, header, position=position, limit=rules.decompressed_bytes_max)
        for index, record in enumerate(records_of(header, body)):
            if rules.compacted and record.key is None:
                errors.append(RecordError(index, "Compacted topic cannot accept message without key"))
            elif rules.timestamp_type is TimestampType.CREATE_TIME and _out_of_range(record, rules, now_ms):
                timestamps_failed = True
                errors.append(RecordError(index, _range_message(record, rules, now_ms)))
    except CorruptRecord as error:
        raise _invalid(error.message or "record cannot be decoded") from error
    return errors, timestamps_failed


def _out_of_range(record: Record, rules: ProduceRules, now_ms: int) -> bool:
    if record.timestamp == NO_TIMESTAMP:
        return False
    age = now_ms - record.timestamp
    return age > rules.timestamp_before_max_ms or -age > rules.timestamp_after_max_ms


def _range_message(record: Record, rules: ProduceRules, now_ms: int) -> str:
    return (
        f"Timestamp {record.timestamp} of message with offset {record.offset} is out of range. The timestamp should be "
        f"within [{now_ms - rules.timestamp_before_max_ms}, {now_ms + rules.timestamp_after_max_ms}]"
    )


def _changes(header: BatchHeader, rules: ProduceRules) -> bool:
    """Whether the batch is stored as other bytes than it came in."""
    append_time = rules.timestamp_type is TimestampType.LOG_APPEND_TIME
    if append_time != (header.attributes & LOG_APPEND_TIME_FLAG != 0) or append_time:
        return True
    return _recompresses(header, rules)


def _recompresses(header: BatchHeader, rules: ProduceRules) -> bool:
    """Control batches that came uncompressed stay so."""
    target = rules.codec
    if target is None or header.attributes & CODEC_MASK == target:
        return False
    return not (header.attributes & CONTROL_FLAG and header.attributes & CODEC_MASK == Codec.NONE)


def _unchanged(
    view: memoryview, headers: Sequence[tuple[int, BatchHeader]], total: int, max_timestamp: int
) -> Validated:
    """The batches as they came, without what lay around them; copied only if they cannot be stamped."""
    if len(view) != total:
        first = headers[0][0] if headers else 0
        view = view[first : first + total]
        headers = [(position - first, header) for position, header in headers]
    if view.readonly:
        view = memoryview(bytearray(view))
    return Validated(view, headers, NO_LOG_APPEND_TIME, max_timestamp)


def _changed(
    view: memoryview, headers: Sequence[tuple[int, BatchHeader]], rules: ProduceRules, now_ms: int
) -> Validated:
    """The batches written anew: recompressed where the topic wants, then stamped with the append time."""
    out = bytearray()
    new_headers: list[tuple[int, BatchHeader]] = []
    append_time = rules.timestamp_type is TimestampType.LOG_APPEND_TIME
    max_timestamp = NO_TIMESTAMP
    for position, header in headers:
        start = len(out)
        new_header = header
        if _recompresses(header, rules) and rules.codec is not None:
            body = read_body(view, header, position=position, limit=rules.decompressed_bytes_max)
            packed = compress(rules.codec, body, rules.levels.of(rules.codec))
            out += rewrite_batch(header, packed, rules.codec)
            new_header = read_header(out, start)
            if new_header.size > rules.max_message_bytes:
                raise _too_large(new_header.size, rules)
        else:
            out += view[position : position + header.batch_length + LENGTH_OVERHEAD]
        timestamp = now_ms if append_time else header.max_timestamp
        new_header = stamp_timestamp(out, start, new_header, rules.timestamp_type, timestamp)
        new_headers.append((start, new_header))
        max_timestamp = max(max_timestamp, timestamp)
    return Validated(memoryview(out), new_headers, now_ms if append_time else NO_LOG_APPEND_TIME, max_timestamp)


def _invalid(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_RECORD, message)


def _too_large(size: int, rules: ProduceRules) -> KafkaError:
    return KafkaError(
        ErrorCode.MESSAGE_TOO_LARGE,
        f"The record batch size in the append is {size} bytes which exceeds the maximum configured value of "
        f"{rules.max_message_bytes}",
    )


def _rejected(code: ErrorCode, errors: Sequence[RecordError]) -> RecordsRejected:
    if code is ErrorCode.INVALID_TIMESTAMP:
        return RecordsRejected(code, "One or more records have been rejected due to invalid timestamp", errors)
    shown = "; ".join(f"{index}: {message}" for index, message in errors[:ERRORS_SHOWN])
    return RecordsRejected(
        code,
        f"One or more records have been rejected due to {len(errors)} record errors in total, and only showing the "
        f"first three errors at most: {shown}",
        errors,
    )

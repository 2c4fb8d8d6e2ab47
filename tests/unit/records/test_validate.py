"""Produce-time rules: error codes as Apache Kafka answers them, bytes changed only where the topic asks."""

import random
from collections.abc import Callable
from struct import pack_into

import pytest

from ottla.records.batch import (
    BatchHeader,
    Codec,
    TimestampType,
    checksum,
    iter_headers,
    read_header,
    stamp_timestamp,
    verify_crc,
)
from ottla.records.builder import BatchBuilder, build_batch
from ottla.records.compression import CompressionLevels
from ottla.records.origin import Origin
from ottla.records.reader import Record, read_records
from ottla.records.validate import ProduceRules, RecordsRejected, Validated, read_produce_batch, validate
from ottla.wire.errors import ErrorCode, KafkaError

NOW = 1_700_000_000_000
KEYED = [Record(0, NOW - n, b"k%d" % n, b"v" * 50, (("h", None),)) for n in range(5)]


def produced(**options: object) -> bytearray:
    return bytearray(build_batch(KEYED, **options))  # type: ignore[arg-type]


def resigned(raw: bytearray) -> bytearray:
    pack_into(">I", raw, 17, checksum(raw))
    return raw


def run(raw: bytes | bytearray | memoryview, now_ms: int = NOW, api_version: int = 12, **rules: object) -> Validated:
    header = read_produce_batch(raw, api_version)
    view = memoryview(raw)[: header.size]
    return validate(view, [(0, header)], ProduceRules(**rules), now_ms)  # type: ignore[arg-type]


def refused(raw: bytes | bytearray, **options: object) -> KafkaError:
    before = bytes(raw)
    with pytest.raises(KafkaError) as caught:
        run(raw, **options)  # type: ignore[arg-type]
    assert bytes(raw) == before
    return caught.value


def test_an_ordinary_batch_passes_in_the_caller_s_own_bytes() -> None:
    raw = produced(producer_id=7, producer_epoch=0, base_sequence=0)
    result = run(raw)
    assert result.batches.obj is raw
    assert (result.log_append_time, result.max_timestamp) == (-1, NOW)
    assert [(position, header.record_count) for position, header in result.headers] == [(0, 5)]
    assert not result.batches.readonly


def test_read_only_bytes_are_copied_for_stamping() -> None:
    result = run(bytes(produced()))
    assert not result.batches.readonly
    assert bytes(result.batches) == produced()


def test_ordinary_and_thorough_checks_agree() -> None:
    """The quick way is only a quick way: any flipped bit ends the same with it and without."""
    rng = random.Random(11)
    quick = ProduceRules()
    thorough = ProduceRules(timestamp_before_max_ms=2**63 - 2)
    assert quick.header_suffices
    assert not thorough.header_suffices
    original = produced(producer_id=7, producer_epoch=0, base_sequence=0)
    outcomes = set()
    for _ in range(1500):
        raw = bytearray(original)
        position = rng.choice((*range(8), *range(16, 61), rng.randrange(len(raw))))
        raw[position] ^= 1 << rng.randrange(8)
        if rng.random() < 0.8:
            resigned(raw)
        if read_header(raw).size != len(raw):
            continue
        results = []
        for rules in (quick, thorough):
            try:
                result = validate(memoryview(bytearray(raw)), [(0, read_header(raw))], rules, NOW)
                results.append((bytes(result.batches), result.log_append_time, result.max_timestamp))
            except KafkaError as error:
                results.append(error.code)
        lies = (ErrorCode.INVALID_RECORD, ErrorCode.INVALID_TIMESTAMP)
        if results[1] in lies and not isinstance(results[0], ErrorCode):
            continue  # what only decoding can tell
        assert results[0] == results[1], position
        outcomes.add(results[0] if isinstance(results[0], ErrorCode) else "passed")
    assert outcomes >= {"passed", ErrorCode.CORRUPT_MESSAGE, ErrorCode.INVALID_RECORD, ErrorCode.INVALID_TIMESTAMP}


def legacy(magic: int) -> bytearray:
    """A message set of one message without key and value."""
    body = bytes([0, 0, 0, 0, magic, 0]) + (bytes(8) if magic else b"") + b"\xff\xff\xff\xff" * 2
    return bytearray(bytes(8) + len(body).to_bytes(4, "big") + body)


READ_CASES: dict[str, tuple[Callable[[], bytes | bytearray | None], ErrorCode]] = {
    "null": (lambda: None, ErrorCode.INVALID_RECORD),
    "nothing": (lambda: b"", ErrorCode.INVALID_RECORD),
    "less than a length": (lambda: b"\0" * 11, ErrorCode.INVALID_RECORD),
    "cut": (lambda: produced()[:-1], ErrorCode.INVALID_RECORD),
    "cut before magic": (lambda: produced()[:16], ErrorCode.INVALID_RECORD),
    "two batches": (lambda: produced() + produced(), ErrorCode.INVALID_RECORD),
    "message format 0": (lambda: legacy(0), ErrorCode.INVALID_RECORD),
    "message format 1": (lambda: legacy(1), ErrorCode.INVALID_RECORD),
    "message format 3": (lambda: legacy(3), ErrorCode.CORRUPT_MESSAGE),
    "negative message format": (lambda: legacy(255), ErrorCode.CORRUPT_MESSAGE),
    "impossible length": (lambda: b"\0" * 40, ErrorCode.CORRUPT_MESSAGE),
    "batch smaller than its header": (
        lambda: bytes(8) + (20).to_bytes(4, "big") + bytes(4) + b"\x02" + bytes(15),
        ErrorCode.CORRUPT_MESSAGE,
    ),
}


@pytest.mark.parametrize(("build", "code"), READ_CASES.values(), ids=READ_CASES.keys())
def test_a_partition_holds_one_batch(build: Callable[[], bytes], code: ErrorCode) -> None:
    with pytest.raises(KafkaError) as caught:
        read_produce_batch(build(), 12)
    assert caught.value.code is code


def test_bytes_too_few_for_a_second_batch_are_ignored() -> None:
    raw = produced()
    result = run(raw + produced()[:40])
    assert bytes(result.batches) == raw


def test_zstd_needs_produce_7() -> None:
    raw = produced(codec=Codec.ZSTD)
    assert refused(raw, api_version=6).code is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    assert run(raw, api_version=7).max_timestamp == NOW
    assert run(produced(codec=Codec.LZ4), api_version=3).max_timestamp == NOW


def patched(offset: int, form: str, value: int) -> Callable[[], bytearray]:
    def build() -> bytearray:
        raw = produced(producer_id=7, producer_epoch=0, base_sequence=0)
        pack_into(form, raw, offset, value)
        return resigned(raw)

    return build


def damaged() -> bytearray:
    raw = produced()
    raw[80] ^= 1
    return raw


HEADER_CASES: dict[str, tuple[Callable[[], bytearray], ErrorCode]] = {
    "damaged": (damaged, ErrorCode.CORRUPT_MESSAGE),
    "base offset": (patched(0, ">q", 3), ErrorCode.INVALID_RECORD),
    "no offsets": (patched(23, ">i", -1), ErrorCode.INVALID_RECORD),
    "no records": (patched(57, ">i", 0), ErrorCode.INVALID_RECORD),
    "count and offsets differ": (patched(57, ">i", 4), ErrorCode.INVALID_RECORD),
    "control": (patched(21, ">h", 0x20), ErrorCode.INVALID_RECORD),
    "producer without sequence": (patched(53, ">i", -1), ErrorCode.INVALID_RECORD),
    "unassigned codec": (patched(21, ">h", 5), ErrorCode.UNSUPPORTED_COMPRESSION_TYPE),
    "too late": (patched(35, ">q", NOW + 3_600_001), ErrorCode.INVALID_TIMESTAMP),
}


@pytest.mark.parametrize(("build", "code"), HEADER_CASES.values(), ids=HEADER_CASES.keys())
def test_headers_are_checked(build: Callable[[], bytearray], code: ErrorCode) -> None:
    assert refused(build()).code is code


def test_size_limits() -> None:
    raw = produced()
    assert run(raw, max_message_bytes=len(raw)).max_timestamp == NOW
    assert refused(raw, max_message_bytes=len(raw) - 1).code is ErrorCode.MESSAGE_TOO_LARGE
    assert refused(raw, segment_bytes=len(raw) - 1).code is ErrorCode.RECORD_LIST_TOO_LARGE
    broken = damaged()
    assert refused(broken, max_message_bytes=10).code is ErrorCode.MESSAGE_TOO_LARGE


def test_records_from_the_future_are_named() -> None:
    raw = bytearray(build_batch([(NOW, b"", b""), (NOW + 3_600_001, b"", b""), (NOW + 3_600_000, b"", b"")]))
    error = refused(raw)
    assert isinstance(error, RecordsRejected)
    assert error.code is ErrorCode.INVALID_TIMESTAMP
    assert [record.batch_index for record in error.record_errors] == [1]


def test_records_from_the_past_are_refused_where_the_topic_says_so() -> None:
    raw = bytearray(build_batch([(NOW, b"", b""), (NOW - 1000, b"", b""), (-1, b"", b"")]))
    assert run(raw, timestamp_before_max_ms=1000).max_timestamp == NOW
    error = refused(raw, timestamp_before_max_ms=999)
    assert isinstance(error, RecordsRejected)
    assert (error.code, [record.batch_index for record in error.record_errors]) == (ErrorCode.INVALID_TIMESTAMP, [1])


def test_compacted_topics_want_keys() -> None:
    raw = bytearray(build_batch([(NOW, b"k", b""), (NOW, None, b""), (NOW, b"", b""), (NOW, None, b"")]))
    error = refused(raw, compacted=True)
    assert isinstance(error, RecordsRejected)
    assert (error.code, [record.batch_index for record in error.record_errors]) == (ErrorCode.INVALID_RECORD, [1, 3])
    assert run(produced(codec=Codec.SNAPPY), compacted=True).max_timestamp == NOW


def test_records_that_cannot_be_decoded_are_invalid_where_they_are_looked_at() -> None:
    raw = produced()
    raw[61] = 0x7F
    resigned(raw)
    assert run(raw).max_timestamp == NOW
    assert refused(raw, compacted=True).code is ErrorCode.INVALID_RECORD


def test_a_bomb_is_refused_where_records_are_looked_at() -> None:
    raw = bytearray(build_batch([(NOW, b"k", bytes(1_000_000))], codec=Codec.ZSTD))
    assert refused(raw, compacted=True, decompressed_bytes_max=100_000).code is ErrorCode.INVALID_RECORD


def test_append_time_topics_stamp() -> None:
    raw = produced()
    result = run(raw, now_ms=NOW + 10**9, timestamp_type=TimestampType.LOG_APPEND_TIME)
    header = read_header(result.batches)
    verify_crc(result.batches, 0, header)
    assert [header for _, header in result.headers] == [header]
    assert (result.log_append_time, result.max_timestamp) == (NOW + 10**9, NOW + 10**9)
    assert {record.timestamp for record in read_records(result.batches)} == {NOW + 10**9}
    assert raw == produced()


def test_producers_may_not_claim_append_time() -> None:
    raw = produced()
    stamp_timestamp(raw, 0, read_header(raw), TimestampType.LOG_APPEND_TIME, NOW)
    error = refused(raw, timestamp_type=TimestampType.LOG_APPEND_TIME)
    assert error.code is ErrorCode.INVALID_TIMESTAMP
    stored = run(raw)
    assert read_header(stored.batches).timestamp_type is TimestampType.CREATE_TIME
    verify_crc(stored.batches, 0, read_header(stored.batches))


@pytest.mark.parametrize("source", list(Codec))
@pytest.mark.parametrize("target", list(Codec))
def test_recompression(source: Codec, target: Codec) -> None:
    raw = produced(codec=source, producer_id=7, producer_epoch=1, base_sequence=9, transactional=True)
    result = run(raw, codec=target, levels=CompressionLevels(gzip=1, lz4=9, zstd=1))
    header = read_header(result.batches)
    verify_crc(result.batches, 0, header)
    assert header.codec is target
    assert [header for _, header in result.headers] == [header]
    assert list(read_records(result.batches)) == [record._replace(offset=n) for n, record in enumerate(KEYED)]
    kept = read_header(raw)
    same: list[Callable[[BatchHeader], object]] = [
        lambda h: h[6:],
        lambda h: h.is_transactional,
        lambda h: h.base_offset,
    ]
    assert all(of(header) == of(kept) for of in same)
    if source is target:
        assert result.batches.obj is raw


def test_a_batch_that_grows_too_large_by_recompression_is_refused() -> None:
    raw = bytearray(build_batch([(NOW, b"k", bytes(100_000))], codec=Codec.ZSTD))
    assert refused(raw, codec=Codec.NONE, max_message_bytes=1000).code is ErrorCode.MESSAGE_TOO_LARGE


def test_coordinators_may_write_control_batches_and_several_at_once() -> None:
    control = BatchBuilder(control=True, producer_id=4, producer_epoch=0, transactional=True)
    control.append(NOW, b"\0\0\0\1", b"\0\0\0\0\0\0")
    raw = bytearray(control.build() + produced())
    result = validate(raw, list(iter_headers(raw)), ProduceRules(origin=Origin.COORDINATOR, codec=Codec.GZIP), NOW)
    assert [header.codec for _, header in result.headers] == [Codec.NONE, Codec.GZIP]
    assert [header for _, header in iter_headers(result.batches)] == [header for _, header in result.headers]

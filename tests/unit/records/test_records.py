"""Builder and reader: round trips, and a reader that believes nothing."""

import random
from struct import pack_into

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.records.batch import Codec, CorruptRecord, read_header, verify_crc
from ottla.records.builder import BatchBuilder, batch_of_one, build_batch, record_size_max
from ottla.records.reader import Record, read_all_records, read_body, read_records, records_of
from ottla.records.varint import read_varint, zigzag_varint

RELAXED = settings(max_examples=150, deadline=None, derandomize=True, database=None)

blobs = st.one_of(st.none(), st.binary(max_size=300))
headers = st.lists(st.tuples(st.text(max_size=8), blobs), max_size=4).map(tuple)
records = st.lists(st.tuples(st.integers(0, 2**48), blobs, blobs, headers), min_size=1, max_size=30)


@given(records=records, codec=st.sampled_from(Codec), base_offset=st.integers(0, 2**60))
@RELAXED
def test_what_is_built_is_read(records: list[tuple[int, bytes, bytes, tuple]], codec: Codec, base_offset: int) -> None:
    builder = BatchBuilder(base_offset=base_offset, codec=codec)
    for record in records:
        builder.append(*record)
    raw = builder.build()
    header = read_header(raw)
    verify_crc(raw, 0, header)
    assert header.max_timestamp == max(record[0] for record in records)
    assert (header.record_count, header.last_offset_delta) == (len(records), len(records) - 1)
    assert list(read_records(raw)) == [Record(base_offset + index, *record) for index, record in enumerate(records)]
    if codec is Codec.NONE:
        assert builder.estimated_size == len(raw)
        assert len(raw) <= 61 + sum(record_size_max(*record[1:]) for record in records)


def test_offsets_may_have_gaps_but_not_fall() -> None:
    builder = BatchBuilder(base_offset=100)
    builder.append(1, b"a", b"")
    builder.append(2, b"b", b"", offset=150)
    builder.append(3, b"c", b"")
    assert builder.next_offset == 152
    assert [record.offset for record in read_records(builder.build())] == [100, 150, 151]
    with pytest.raises(AssertionError):
        builder.append(4, b"d", b"", offset=151)


def test_append_time_is_the_time_of_all_records() -> None:
    builder = BatchBuilder(log_append_time=777)
    builder.append(1, b"a", b"")
    builder.append(5, b"b", b"")
    assert [record.timestamp for record in read_records(builder.build())] == [777, 777]


def test_a_delete_horizon_keeps_timestamps() -> None:
    builder = BatchBuilder(delete_horizon=10_000)
    builder.append(1, b"a", None)
    raw = builder.build()
    assert read_header(raw).delete_horizon == 10_000
    assert [record.timestamp for record in read_records(raw)] == [1]


def test_header_keys_that_are_not_text_survive() -> None:
    builder = BatchBuilder()
    builder.append(1, None, b"", [(b"\xff\xfe".decode("utf-8", "surrogateescape"), b"x")])
    raw = builder.build()
    again = build_batch(read_records(raw))
    assert again == raw


def test_all_records_skip_control_batches_and_a_partial_tail() -> None:
    control = BatchBuilder(base_offset=1, control=True)
    control.append(0, b"\0\0\0\1", b"\0\0\0\0\0\0")
    raw = build_batch([(1, None, b"a")]) + control.build() + build_batch([(1, None, b"b")], base_offset=2)
    assert [(record.offset, record.value) for record in read_all_records(raw + raw[:65])] == [(0, b"a"), (2, b"b")]


@given(
    timestamp=st.integers(-(2**40), 2**40),
    key=st.none() | st.binary(max_size=200),
    value=st.none() | st.binary(max_size=200),
    headers=st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=3)), max_size=3),
    producer=st.sampled_from([(-1, -1, -1), (4000, 3, 17)]),
    transactional=st.booleans(),
)
def test_a_batch_of_one_is_the_same_bytes(
    timestamp: int,
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, bytes | None]],
    producer: tuple[int, int, int],
    *,
    transactional: bool,
) -> None:
    names = ("producer_id", "producer_epoch", "base_sequence")
    numbers = dict(zip(names, producer, strict=True))
    builder = BatchBuilder(**numbers, transactional=transactional)
    builder.append(timestamp, key, value, headers)
    assert batch_of_one(timestamp, key, value, headers, **numbers, transactional=transactional) == builder.build()


@given(number=st.integers(-(2**63), 2**63 - 1))
@RELAXED
def test_varints(number: int) -> None:
    encoded = zigzag_varint[number]
    assert read_varint(encoded, 0) == (number, len(encoded))


def test_endless_varint_is_corrupt() -> None:
    with pytest.raises(CorruptRecord):
        read_varint(b"\xff" * 11, 0)


def sample() -> bytearray:
    return bytearray(build_batch([Record(0, 1000 + n, b"key", b"value", (("h", b"x"),)) for n in range(4)]))


@pytest.mark.parametrize("count", [-1, 0, 3, 5, 2**31 - 1])
def test_a_false_count_is_corrupt(count: int) -> None:
    raw = sample()
    pack_into(">i", raw, 57, count)
    with pytest.raises(CorruptRecord):
        list(read_records(raw))


def test_deltas_beyond_the_header_are_corrupt() -> None:
    raw = sample()
    pack_into(">i", raw, 23, 2)
    with pytest.raises(CorruptRecord):
        list(read_records(raw))


@pytest.mark.parametrize("size", [0, 60, 10**6])
def test_a_size_that_is_not_there_is_corrupt(size: int) -> None:
    raw = sample()
    pack_into(">i", raw, 8, size - 12)
    with pytest.raises(CorruptRecord):
        list(read_records(raw))


@pytest.mark.parametrize("codec", [codec for codec in Codec if codec])
def test_garbage_is_not_decompressed(codec: Codec) -> None:
    raw = sample()
    raw[22] |= codec
    with pytest.raises(CorruptRecord):
        list(read_records(raw))


def test_damaged_records_raise_nothing_but_corrupt_record() -> None:
    """Every record parses, or says that it is corrupt: no other exception, whatever the bytes."""
    rng = random.Random(7)
    raw = sample()
    header, body = read_header(raw), read_body(raw, read_header(raw))
    survived = 0
    for _ in range(4000):
        damaged = bytearray(body)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        if rng.random() < 0.2:
            del damaged[rng.randrange(len(damaged)) :]
        try:
            list(records_of(header, bytes(damaged)))
            survived += 1
        except CorruptRecord:
            pass
    assert survived < 4000

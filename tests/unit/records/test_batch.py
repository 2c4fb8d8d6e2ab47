"""Batch headers: reading, iterating, checksums, stamping in place."""

import re
from struct import pack_into

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.records.batch import (
    BATCH_OVERHEAD,
    Codec,
    CorruptRecord,
    TimestampType,
    iter_headers,
    last_header,
    next_sequence,
    read_header,
    stamp,
    stamp_timestamp,
    verify_crc,
)
from ottla.records.builder import build_batch
from ottla.wire.errors import ErrorCode, KafkaError


def batch(count: int = 3, **options: object) -> bytearray:
    return bytearray(build_batch([(1000 + n, b"k%d" % n, b"v") for n in range(count)], **options))  # type: ignore[arg-type]


def test_header_reads_every_field() -> None:
    raw = batch(
        base_offset=70,
        leader_epoch=4,
        producer_id=9,
        producer_epoch=2,
        base_sequence=2**31 - 2,
        codec=Codec.GZIP,
        transactional=True,
    )
    header = read_header(raw)
    assert (header.base_offset, header.last_offset, header.next_offset) == (70, 72, 73)
    assert (header.partition_leader_epoch, header.magic, header.record_count) == (4, 2, 3)
    assert (header.producer_id, header.producer_epoch, header.base_sequence, header.last_sequence) == (
        9,
        2,
        2**31 - 2,
        0,
    )
    assert (header.base_timestamp, header.max_timestamp) == (1000, 1002)
    assert (header.codec, header.is_transactional, header.is_control) == (Codec.GZIP, True, False)
    assert header.timestamp_type is TimestampType.CREATE_TIME
    assert header.delete_horizon is None
    assert header.size == len(raw)


def test_header_is_read_at_a_position_and_from_too_few_bytes_not() -> None:
    raw = b"xx" + bytes(batch(base_offset=5))
    assert read_header(raw, 2).base_offset == 5
    with pytest.raises(CorruptRecord) as caught:
        read_header(raw[: BATCH_OVERHEAD + 1], 2)
    assert caught.value.code is ErrorCode.CORRUPT_MESSAGE


def test_unassigned_codec_is_refused() -> None:
    header = read_header(batch())._replace(attributes=5)
    with pytest.raises(KafkaError) as caught:
        _ = header.codec
    assert caught.value.code is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE


def test_iterating_batches_that_follow_each_other() -> None:
    first, second = batch(base_offset=0), batch(5, base_offset=3)
    placed = list(iter_headers(first + second))
    assert [(position, header.base_offset) for position, header in placed] == [(0, 0), (len(first), 3)]


@pytest.mark.parametrize("cut", [1, 11, 30, 60, 61, 70])
def test_a_partial_tail_is_an_error_or_the_end(cut: int) -> None:
    raw = batch() + batch()[:cut]
    assert len(list(iter_headers(raw, partial_tail=True))) == 1
    with pytest.raises(CorruptRecord):
        list(iter_headers(raw))


@given(
    counts=st.lists(st.integers(1, 5), max_size=4),
    cut=st.integers(0, 90),
    damage=st.none() | st.tuples(st.integers(0, 1000), st.integers(0, 255)),
)
def test_the_last_header_is_the_last_that_iterating_finds(
    counts: list[int], cut: int, damage: tuple[int, int] | None
) -> None:
    raw = b"".join(batch(count, base_offset=number * 10) for number, count in enumerate(counts))
    data = bytearray(raw[: len(raw) - cut] if cut < len(raw) else b"")
    if damage is not None and data:
        data[damage[0] % len(data)] = damage[1]
    try:
        expected = [None, *(header for _, header in iter_headers(data, partial_tail=True))][-1]
    except CorruptRecord as error:
        with pytest.raises(CorruptRecord, match=re.escape(str(error))):
            last_header(data)
    else:
        assert last_header(data) == expected


@pytest.mark.parametrize("length", [-1, 0, 48])
def test_impossible_lengths_are_corrupt_even_at_the_tail(length: int) -> None:
    raw = batch()
    pack_into(">i", raw, 8, length)
    with pytest.raises(CorruptRecord):
        list(iter_headers(raw, partial_tail=True))


@pytest.mark.parametrize("magic", [0, 1, 3, 255])
def test_other_formats_are_corrupt(magic: int) -> None:
    raw = batch()
    raw[16] = magic
    with pytest.raises(CorruptRecord):
        list(iter_headers(raw))


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_the_checksum_covers_all_but_what_the_broker_stamps(position: int, bit: int) -> None:
    raw = batch()
    position %= len(raw)
    raw[position] ^= 1 << bit
    header = read_header(raw)
    if position < 8 or 12 <= position < 17:
        verify_crc(raw, 0, header)
    elif position >= 17:
        with pytest.raises(CorruptRecord):
            verify_crc(raw, 0, header)


@pytest.mark.parametrize("kind", [bytearray, lambda raw: memoryview(bytearray(raw))])
def test_stamping_changes_offset_and_epoch_only(kind: type[bytearray]) -> None:
    raw = kind(batch())
    before = read_header(raw)
    stamp(raw, 0, base_offset=2**40, leader_epoch=17)
    after = read_header(raw)
    assert after == before._replace(base_offset=2**40, partition_leader_epoch=17)
    verify_crc(raw, 0, after)


def test_stamping_append_time_renews_the_checksum() -> None:
    raw = batch()
    returned = stamp_timestamp(raw, 0, read_header(raw), TimestampType.LOG_APPEND_TIME, 5555)
    header = read_header(raw)
    assert returned == header
    assert (header.timestamp_type, header.max_timestamp) == (TimestampType.LOG_APPEND_TIME, 5555)
    verify_crc(raw, 0, header)


def test_sequences_wrap() -> None:
    assert next_sequence(2**31 - 1) == 0
    assert next_sequence(2**31 - 3, 5) == 2
    assert next_sequence(7, 0) == 7

"""Fetched bytes into batches: abort filter, first offset, columns."""

from __future__ import annotations

from struct import pack_into

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ottla.client._decode import Fetched, iter_batches, next_offset_after
from ottla.model import TopicPartition
from ottla.records.batch import TimestampType, checksum, read_header, stamp_timestamp
from ottla.records.builder import BatchBuilder
from ottla.records.compression import Codec
from ottla.records.control import EndTransaction, end_transaction_batch
from ottla.records.errors import CorruptRecord

PLACE = TopicPartition("t", 0)


def batch(base: int, *values: bytes | None, producer: int = -1, codec: Codec = Codec.NONE) -> bytes:
    builder = BatchBuilder(base_offset=base, codec=codec, producer_id=producer, transactional=producer >= 0)
    if producer >= 0:
        builder.producer_epoch = 0
    for index, value in enumerate(values):
        builder.append(1000 + index, b"k" if index % 2 else None, value, [("h", value)])
    return bytes(builder.build())


def marker(base: int, producer: int, *, committed: bool) -> bytes:
    end = EndTransaction(committed, 0)
    return bytes(end_transaction_batch(end, producer_id=producer, producer_epoch=0, timestamp=0, base_offset=base))


def values(data: bytes, offset: int = 0, aborted: tuple[tuple[int, int], ...] = ()) -> list[bytes | None]:
    fetched = Fetched(PLACE, memoryview(data), offset, aborted=aborted)
    return [record.value for one in iter_batches(fetched) for record in one]


def test_aborted_transactions_are_left_out() -> None:
    log = b"".join(
        [
            batch(0, b"plain"),
            batch(1, b"a0", producer=7),
            batch(2, b"b0", producer=8),
            marker(3, 7, committed=False),
            batch(4, b"a1", producer=7),
            marker(5, 8, committed=True),
            marker(6, 7, committed=True),
            batch(7, b"a2", producer=7),
            marker(8, 7, committed=False),
        ]
    )
    assert values(log, aborted=((7, 1), (7, 7))) == [b"plain", b"b0", b"a1"]
    assert values(log) == [b"plain", b"a0", b"b0", b"a1", b"a2"]
    assert next_offset_after(memoryview(log), 0) == (9, -1)


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["write", "abort", "commit", "plain"])), min_size=1, max_size=30
    )
)
def test_abort_filter_is_what_a_model_says(steps: list[tuple[int, str]]) -> None:
    """The model knows each record's fate; the filter sees only bytes and where aborted transactions begin."""
    log, offset = b"", 0
    open_since: dict[int, int] = {}
    written: dict[int, list[bytes]] = {}
    aborted, dropped, everything = [], set(), []
    for producer, step in steps:
        value = b"%d" % offset
        if step == "plain":
            log += batch(offset, value)
            everything.append(value)
        elif step == "write":
            log += batch(offset, value, producer=producer)
            everything.append(value)
            open_since.setdefault(producer, offset)
            written.setdefault(producer, []).append(value)
        elif producer in open_since:
            log += marker(offset, producer, committed=step == "commit")
            first = open_since.pop(producer)
            if step == "abort":
                aborted.append((producer, first))
                dropped.update(written[producer])
            written.pop(producer)
        else:
            continue
        offset += 1
    assert values(log, aborted=tuple(aborted)) == [value for value in everything if value not in dropped]


@pytest.mark.parametrize("codec", list(Codec))
def test_a_batch_may_begin_before_the_offset(codec: Codec) -> None:
    log = batch(10, b"0", b"1", None, b"3", codec=codec) + batch(14, b"4", codec=codec)
    (first, second) = iter_batches(Fetched(PLACE, memoryview(log), 12))
    assert list(first.offsets) == [12, 13]
    assert list(first.timestamps) == [1002, 1003]
    assert list(first.values) == [None, b"3"]
    assert list(first.keys) == [None, b"k"]
    assert first.headers == [(("h", None),), (("h", b"3"),)]
    assert [record.headers for record in first] == first.headers
    assert first.next_offset == 14
    assert first.values[1] == b"3"
    assert list(first.values[1:]) == [b"3"]
    assert first.values.joined()[0] == b"3"
    assert list(first.values.joined()[1]) == [0, 0, 1]
    assert [record.offset for record in first.tail(1)] == [13]
    assert list(second.values) == [b"4"]


@pytest.mark.parametrize("codec", [Codec.NONE, Codec.ZSTD])
@pytest.mark.parametrize("columns_first", [False, True])
def test_a_batch_of_one_record_is_a_batch_like_others(codec: Codec, *, columns_first: bool) -> None:
    log = batch(10, b"x", codec=codec) + batch(11, None, codec=codec)
    first, second = iter_batches(Fetched(PLACE, memoryview(log), 10))
    if columns_first:
        assert (list(first.offsets), list(first.timestamps)) == ([10], [1000])
        assert (list(first.keys), list(first.values)) == ([None], [b"x"])
    assert len(first) == 1
    assert [(record.offset, record.timestamp, record.key, record.value) for record in first] == [(10, 1000, None, b"x")]
    assert first[0].headers == first.headers[0] == (("h", b"x"),)
    assert list(first.values) == [b"x"]
    assert list(second.values) == [second[0].value] == [None]
    assert [len(first.tail(0)), len(first.tail(1))] == [1, 0]
    changed = first.through(lambda record: replace(record, offset=99))
    assert [record.offset for record in changed] == [99]
    assert list(changed.offsets) == [10]
    assert next(iter_batches(Fetched(PLACE, memoryview(log), 11))).next_offset == 12


@pytest.mark.parametrize(("offset", "found"), [(9, [10]), (10, [10]), (11, []), (15, []), (16, [])])
def test_what_compaction_has_left_of_a_batch_may_be_one_record_before_the_offset(offset: int, found: list[int]) -> None:
    whole = bytearray(batch(10, b"x"))
    pack_into(">i", whole, 23, 5)  # its last offset is still that of what has gone
    pack_into(">I", whole, 17, checksum(whole))
    batches = list(iter_batches(Fetched(PLACE, memoryview(bytes(whole)), offset)))
    assert [record.offset for one in batches for record in one] == found
    assert all(one.next_offset == 16 for one in batches)


def test_a_batch_of_one_record_may_have_the_time_of_its_appending() -> None:
    whole = bytearray(batch(10, b"x"))
    stamp_timestamp(whole, 0, read_header(whole), TimestampType.LOG_APPEND_TIME, 77)
    (one,) = iter_batches(Fetched(PLACE, memoryview(bytes(whole)), 10))
    assert [(record.timestamp, record.timestamp_type) for record in one] == [(77, 1)]
    assert list(one.timestamps) == [77]


def test_a_damaged_batch_is_refused_and_a_cut_one_left() -> None:
    whole = batch(0, b"one") + batch(1, b"two")
    assert values(whole[:-3]) == [b"one"]
    damaged = bytearray(whole)
    damaged[-1] ^= 1
    with pytest.raises(CorruptRecord):
        values(bytes(damaged))


def test_arrow() -> None:
    pa = pytest.importorskip("pyarrow")
    log = batch(5, b"x", None, b"", b"yy")
    (one,) = iter_batches(Fetched(PLACE, memoryview(log), 5))
    table = one.to_arrow()
    assert table.num_rows == 4
    assert table.column("value").to_pylist() == [b"x", None, b"", b"yy"]
    assert table.column("key").to_pylist() == [None, b"k", None, b"k"]
    assert table.column("offset").to_pylist() == [5, 6, 7, 8]
    assert table.column("topic").to_pylist() == ["t"] * 4
    assert table.column("headers").to_pylist()[0] == [{"name": "h", "value": b"x"}]
    assert table.schema.field("timestamp").type == pa.timestamp("ms", tz="UTC")
    table.validate(full=True)

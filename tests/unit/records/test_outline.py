"""What compaction reads of records is what everybody else reads, and nothing it is given makes it fail otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.records.batch import read_header
from ottla.records.builder import BatchBuilder
from ottla.records.errors import CorruptRecord
from ottla.records.outline import outline
from ottla.records.reader import read_body, records_of

optional = st.one_of(st.none(), st.binary(max_size=200))
timestamps = st.integers(0, 2**41)


def batch_of(records: list, gaps: list[int], base_offset: int) -> bytes:
    builder = BatchBuilder(base_offset=base_offset)
    offset = base_offset
    for (timestamp, key, value, headers), gap in zip(records, gaps, strict=False):
        builder.append(timestamp, key, value, headers, offset=offset)
        offset += gap
    return builder.build()


@given(
    records=st.lists(
        st.tuples(timestamps, optional, optional, st.lists(st.tuples(st.text(max_size=3), optional), max_size=2)),
        max_size=150,
    ),
    gaps=st.lists(st.sampled_from([1, 1, 1, 63, 64, 8191, 8192, 70_000]), min_size=150, max_size=150),
    base_offset=st.integers(0, 2**50),
)
def test_it_agrees_with_the_reader(records, gaps, base_offset):
    batch = batch_of(records, gaps, base_offset)
    header = read_header(batch)
    body = read_body(batch, header)
    found = outline(header, body)
    expected = list(records_of(header, body))
    assert found.offsets == [record.offset for record in expected]
    assert found.keys == [record.key for record in expected]
    assert found.tombstones == [index for index, record in enumerate(expected) if record.value is None]
    ends = [0, *found.ends]
    for index, record in enumerate(expected):
        alone = header._replace(record_count=1)
        assert list(records_of(alone, body[ends[index] : ends[index + 1]])) == [record]


@given(
    count=st.integers(1, 8),
    places=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damage_is_a_corrupt_record_or_still_adds_up(count, places):
    batch = batch_of([(1000 + n, b"key-%d" % n, b"v" * 20, ()) for n in range(count)], [1] * count, 100)
    header = read_header(batch)
    body = bytearray(read_body(batch, header))
    for place, byte in places:
        body[place % len(body)] = byte
    try:
        found = outline(header, bytes(body))
    except CorruptRecord:
        return
    assert len(found.offsets) == len(found.keys) == len(found.ends) == count
    assert found.ends[-1] == len(body)
    assert found.offsets == sorted(set(found.offsets))
    assert header.base_offset <= found.offsets[0]
    assert found.offsets[-1] <= header.last_offset


@pytest.mark.parametrize("count", [-1, 2, 1000])
def test_a_wrong_count_is_noticed(count):
    batch = batch_of([(1000, b"key", b"value", ())], [1], 0)
    header = read_header(batch)
    with pytest.raises(CorruptRecord):
        outline(header._replace(record_count=count), read_body(batch, header))

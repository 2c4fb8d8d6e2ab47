"""How much of a log is dirty, how far it may be cleaned, and which segments become one."""

import pytest
from msgspec.structs import replace

from ottla.storage.cleanable import cleanable
from ottla.storage.cleaning import SegmentExtent, group_segments


@pytest.fixture
def log(open_log, batches, small):
    """Six segments of two batches, an offset a batch; timestamps 1000 to 1011."""
    log = open_log(config=replace(small, cleanup_policy=frozenset(("compact",))))
    for number in range(12):
        if number and number % 2 == 0:
            log.roll(0)
        batches.append(log, 1, timestamp=1_000 + number)
    return log


def bounds(log, point, stable=12, now_ms=2_000):
    found = cleanable(log, point, stable, now_ms)
    return found.first_dirty_offset, found.upper_offset, found.clean_bytes, found.cleanable_bytes


def test_a_log_that_was_never_cleaned_is_dirty_from_its_start(log):
    size = log.segments[0].size
    assert bounds(log, None) == (0, 10, 0, 5 * size)


def test_the_clean_point_parts_clean_from_dirty(log):
    size = log.segments[0].size
    assert bounds(log, 4) == (4, 10, 2 * size, 3 * size)
    # A segment that is cleaned in part counts for both.
    assert bounds(log, 5) == (5, 10, 3 * size, 3 * size)
    assert bounds(log, 10) == (10, 10, 5 * size, 0)


@pytest.mark.parametrize(("stable", "upper"), [(12, 10), (10, 10), (9, 8), (8, 8), (1, 0), (0, 0)])
def test_nothing_above_the_last_stable_offset(log, stable, upper):
    assert bounds(log, None, stable)[1] == upper


def test_a_clean_point_outside_the_log_does_not_count(log):
    assert not cleanable(log, 13, 12, 0).point_valid
    assert bounds(log, 13)[0] == 0
    log.advance_log_start(5)
    assert not cleanable(log, 4, 12, 0).point_valid
    assert bounds(log, 4)[0] == 5
    assert cleanable(log, 12, 12, 0).point_valid


def test_the_least_lag_holds_back_whole_segments(log):
    log.config = replace(log.config, min_compaction_lag_ms=100)
    assert bounds(log, None, now_ms=1_104)[1] == 4
    assert bounds(log, None, now_ms=1_105)[1] == 6
    assert bounds(log, None, now_ms=1_100)[1] == 0


def test_the_greatest_lag_makes_it_due(log):
    log.config = replace(log.config, max_compaction_lag_ms=500)
    assert not cleanable(log, None, 12, 1_500).due(1.0)
    late = cleanable(log, None, 12, 1_503)
    assert late.overdue_ms == 3
    assert late.due(1.0)
    # Nothing dirty, nothing due.
    assert not cleanable(log, 10, 12, 10_000).due(1.0)


def test_the_dirty_share_makes_it_due(log):
    assert cleanable(log, 4, 12, 0).ratio == pytest.approx(0.6)
    assert cleanable(log, 4, 12, 0).due(0.5)
    assert not cleanable(log, 4, 12, 0).due(0.6)


def extents(*sizes, offsets=100):
    return [
        SegmentExtent(base_offset=number * offsets, size=size, index_size=index, time_index_size=time_index)
        for number, (size, index, time_index) in enumerate(sizes)
    ]


def grouped(segments, upper=10**12, size_max=100, index_size_max=50):
    groups = group_segments(segments, size_max=size_max, index_size_max=index_size_max, upper_offset=upper)
    assert [segment for group in groups for segment in group] == segments
    return [len(group) for group in groups]


def test_segments_are_gathered_by_size():
    assert grouped(extents((40, 0, 0), (60, 0, 0), (1, 0, 0)), 300) == [2, 1]
    assert grouped(extents((400, 0, 0), (60, 0, 0), (40, 0, 0)), 300) == [1, 2]
    assert grouped([], 0) == []


def test_segments_are_gathered_by_their_indexes():
    assert grouped(extents((1, 30, 0), (1, 20, 0), (1, 1, 0)), 300) == [2, 1]
    assert grouped(extents((1, 0, 50), (1, 0, 1)), 300) == [1, 1]


def test_segments_are_gathered_as_far_as_an_index_reaches():
    far = extents((1, 0, 0), (1, 0, 0), (1, 0, 0), offsets=2**30)
    assert grouped(far, 3 * 2**30) == [2, 1]
    empty = extents((1, 0, 0), (1, 0, 0), (0, 0, 0), offsets=2**30)
    assert grouped(empty, 3 * 2**30) == [3]

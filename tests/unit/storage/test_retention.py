"""Retention by time and size together, segments that roll early by chance, and what a cleaning holds back."""

from msgspec.structs import replace

from ottla.model import TopicPartition
from ottla.storage.log import Cleaning, Log


def fill(log, batches, count=40, start=1_000):
    for number in range(count):
        batches.append(log, 1, timestamp=start + number)


def test_whichever_limit_gives_up_more_decides(open_log, batches, small):
    log = open_log()
    fill(log, batches)
    bases = [segment.base_offset for segment in log.segments]
    by_size = replace(small, retention_bytes=log.size - log.segments[0].size)
    by_time = replace(small, retention_ms=100)
    latest_of_third = log.segments[2].max_timestamp
    log.config = replace(by_time, retention_bytes=by_size.retention_bytes)
    assert log.retain(latest_of_third + 101, 40) == 3
    assert log.log_start_offset == bases[3]
    log.config = replace(by_time, retention_bytes=log.size - log.segments[0].size)
    assert log.retain(0, 40) == 1
    assert log.log_start_offset == bases[4]


def test_a_younger_segment_protects_those_behind_it(open_log, batches, small):
    log = open_log(config=replace(small, retention_ms=100))
    fill(log, batches, 10, start=5_000)
    log.roll(0)
    fill(log, batches, 10, start=1_000)
    assert log.retain(5_050, 20) == 0


def test_jitter_rolls_earlier_by_at_most_itself(tmp_path, batches, small):
    config = replace(small, segment_ms=10_000, segment_jitter_ms=4_000, segment_bytes=10**6)
    ages = set()
    for number in range(30):
        log = Log.open(tmp_path / f"jitter-{number}", TopicPartition("jitter", number), config)
        batches.append(log, 1, timestamp=0)
        for age in range(0, 10_500, 250):
            batches.append(log, 1, timestamp=age)
            if len(log.segments) > 1:
                ages.add(age)
                break
        else:
            raise AssertionError("never rolled")
        log.release()
    assert min(ages) > 6_000
    assert max(ages) <= 10_250
    assert len(ages) > 4


def test_what_must_be_compacted_soon_leaves_the_active_segment(open_log, batches, small):
    compacted = replace(small, cleanup_policy=frozenset(("compact",)), max_compaction_lag_ms=500)
    log = open_log(config=compacted)
    batches.append(log, timestamp=10_000)
    batches.append(log, timestamp=10_500)
    assert len(log.segments) == 1
    log.config = replace(small, max_compaction_lag_ms=500)
    batches.append(log, timestamp=10_501)
    assert len(log.segments) == 1
    log.config = compacted
    batches.append(log, timestamp=10_501)
    assert len(log.segments) == 2


def test_deleted_records_stay_deleted_after_a_restart(open_log, batches, small):
    log = open_log()
    fill(log, batches)
    log.advance_log_start(17)
    log.flush()
    assert log.retain(0, 40) > 0
    first = log.segments[0].base_offset
    log.close()
    again = open_log(clean_shutdown=True, recovery_point=40, log_start_offset=17)
    assert (again.log_start_offset, again.segments[0].base_offset) == (17, first)
    assert again.read(17, 1000, upper=40, at_least_one=True) is not None


def test_a_log_that_is_being_cleaned_keeps_its_segments(open_log, batches, small):
    log = open_log()
    fill(log, batches)
    log.config = replace(small, retention_bytes=0)
    aborted = []
    log.cleaning = Cleaning(lambda: aborted.append(True))
    assert log.retain(0, 40) == 0
    log.cleaning.abort()
    log.cleaning.abort()
    assert aborted == [True]
    log.cleaning = None
    assert log.retain(0, 40) > 0

"""Room behind the batches: written where flushes are small and frequent, gone where anybody else may look."""

import errno
import os

import pytest
from msgspec.structs import replace

from ottla.config.log import LogConfig
from ottla.storage.disk import Disk
from ottla.storage.errors import CorruptLogError
from ottla.storage.fill_ahead import (
    AHEAD_BYTES_FIRST,
    AHEAD_BYTES_MAX,
    AHEAD_BYTES_MIN,
    SMALL_FLUSH_BYTES,
    SMALL_FLUSHES_MIN,
)
from ottla.wire.errors import KafkaError


def flush_often(log, batches, times, *, size=40):
    """One append and one flush at a time, as group commit asks for them; returns the values."""
    values = []
    for _ in range(times):
        values += batches.append(log, size=size)
        log.fill_ahead.before_flush(log.active_segment, log.config.segment_bytes)
        log.flush()
    return values


def file_size(log):
    return os.path.getsize(log.active_segment.log_path)


@pytest.fixture
def log(open_log):
    return open_log(config=LogConfig(segment_bytes=10_000_000))


def test_small_flushes_in_a_row_get_room(log, batches, values_in):
    # The first flush of a segment is not counted: nothing is known of what it adds.
    written = flush_often(log, batches, SMALL_FLUSHES_MIN)
    assert file_size(log) == log.size
    written += flush_often(log, batches, 1)
    begun = log.size
    assert file_size(log) == begun + AHEAD_BYTES_MIN
    while log.size < begun + AHEAD_BYTES_MIN:
        assert file_size(log) == begun + AHEAD_BYTES_MIN
        written += flush_often(log, batches, 1, size=2000)
    assert file_size(log) > begun + AHEAD_BYTES_MIN
    assert list(values_in(log).values()) == written


def test_room_grows_with_the_flushes_up_to_a_limit(log, batches):
    flush_often(log, batches, SMALL_FLUSHES_MIN + 1, size=10_000)
    assert file_size(log) - log.size == pytest.approx(160_000, rel=0.05)
    flush_often(log, batches, 30, size=60_000)
    assert file_size(log) - log.size <= AHEAD_BYTES_MAX


def test_who_is_known_to_flush_in_small_steps_has_room_from_the_start_on(log, batches, values_in):
    log.fill_ahead.begin(log.active_segment, log.config.segment_bytes)
    assert (log.size, file_size(log)) == (0, AHEAD_BYTES_FIRST)
    written = flush_often(log, batches, 3)
    assert file_size(log) == AHEAD_BYTES_FIRST
    while log.size < AHEAD_BYTES_FIRST:
        written += flush_often(log, batches, 1, size=2000)
    assert file_size(log) > log.size
    assert list(values_in(log).values()) == written


def test_that_room_is_no_larger_than_a_segment_may_be(open_log):
    log = open_log(config=LogConfig(segment_bytes=1000))
    log.fill_ahead.begin(log.active_segment, log.config.segment_bytes)
    assert file_size(log) == 1000


def test_large_or_rare_flushes_get_none(log, batches):
    flush_often(log, batches, 3 * SMALL_FLUSHES_MIN, size=SMALL_FLUSH_BYTES)
    assert file_size(log) == log.size
    for _ in range(4):
        flush_often(log, batches, SMALL_FLUSHES_MIN - 1)
        flush_often(log, batches, 1, size=SMALL_FLUSH_BYTES)
    assert file_size(log) == log.size


def test_a_segment_is_never_longer_than_it_may_be(open_log, batches, small):
    log = open_log(config=replace(small, segment_bytes=5000, segment_index_bytes=4800))
    for _ in range(200):
        flush_often(log, batches, 1)
        assert file_size(log) <= 5000
    assert len(log.segments) > 3
    for segment in log.segments[:-1]:
        assert os.path.getsize(segment.log_path) == segment.size


def test_a_clean_close_and_a_truncation_leave_no_room(log, open_log, batches, values_in):
    written = flush_often(log, batches, 20)
    log.truncate_to(15)
    assert file_size(log) == log.size
    written = written[:15] + flush_often(log, batches, 20)
    assert file_size(log) > log.size
    log.close()
    assert file_size(log) == log.size
    again = open_log(config=log.config, clean_shutdown=True, recovery_point=35)
    assert list(values_in(again).values()) == written


@pytest.mark.parametrize("recovery_point_known", [True, False])
def test_after_a_kill_the_room_is_cut_and_nothing_is_missed(log, open_log, batches, values_in, recovery_point_known):
    written = flush_often(log, batches, 20)
    assert file_size(log) > log.size
    log.release()
    again = open_log(config=log.config, recovery_point=18, recovery_point_known=recovery_point_known)
    assert file_size(again) == again.size
    assert again.bytes_cut == 0
    assert list(values_in(again).values()) == written
    assert list(values_in(again).values()) + batches.append(again) == list(values_in(again).values())


def test_what_is_torn_within_the_room_is_cut_with_it(log, open_log, batches, values_in):
    written = flush_often(log, batches, 20)
    size = log.size
    log.release()
    with open(log.active_segment.log_path, "r+b") as file:
        file.seek(size + 100)
        file.write(b"of a page that was written and one before it that was not")
    again = open_log(config=log.config, recovery_point=18)
    assert file_size(again) == size
    assert again.bytes_cut > 0
    assert list(values_in(again).values()) == written


@pytest.mark.parametrize("index_lost", [False, True])
def test_a_cut_that_was_lost_at_a_roll_is_made_good(log, open_log, batches, values_in, index_lost):
    written = flush_often(log, batches, 20)
    sealed = log.active_segment
    log.roll(0)
    written += flush_often(log, batches, 2)
    log.release()
    os.truncate(sealed.log_path, sealed.size + 1000)
    if index_lost:
        os.truncate(sealed.offset_index.file.path, 13)
    again = open_log(config=log.config, recovery_point=20)
    assert os.path.getsize(sealed.log_path) == sealed.size
    assert list(values_in(again).values()) == written


def test_a_preallocated_file_has_its_room_already(open_log, batches, values_in):
    log = open_log(config=LogConfig(segment_bytes=1_000_000, preallocate=True))
    written = flush_often(log, batches, 20)
    log.roll(0)
    written += flush_often(log, batches, 20)
    active = log.active_segment
    with open(active.log_path, "rb") as file:
        assert file.read()[active.size :] == bytes(1_000_000 - active.size)
    log.release()
    again = open_log(config=log.config, recovery_point=38)
    assert again.bytes_cut == 0
    assert list(values_in(again).values()) == written


class StuckDisk(Disk):
    """From a moment on neither writes a whole buffer nor cuts a file."""

    stuck = False

    def write(self, fd, data, position):
        super().write(fd, data[:50] if self.stuck else data, position)
        if self.stuck:
            raise OSError(errno.ENOSPC, "no space left on device")

    def truncate(self, fd, size):
        if self.stuck:
            raise OSError(errno.ENOSPC, "no space left on device")
        super().truncate(fd, size)


def test_what_a_failed_write_left_is_cut_at_the_latest_when_the_segment_is_sealed(open_log, batches, values_in):
    disk = StuckDisk()
    log = open_log(config=LogConfig(), disk=disk)
    written = batches.append(log)
    sealed = log.active_segment
    disk.stuck = True
    with pytest.raises(KafkaError):
        batches.append(log)
    disk.stuck = False
    assert os.path.getsize(sealed.log_path) > sealed.size
    log.roll(0)
    assert os.path.getsize(sealed.log_path) == sealed.size
    assert list(values_in(log).values()) == written


def test_damage_below_the_recovery_point_is_not_taken_for_room(log, open_log, batches):
    flush_often(log, batches, 20)
    log.release()
    with open(log.active_segment.log_path, "r+b") as file:
        file.seek(log.size // 2)
        file.write(bytes(log.size - log.size // 2))
    with pytest.raises(CorruptLogError):
        open_log(config=log.config, recovery_point=20)


class FullDisk(Disk):
    """Has space for batches, none for room ahead."""

    tries = 0

    def write(self, fd, data, position):
        if len(data) >= AHEAD_BYTES_MIN:
            self.tries += 1
            super().write(fd, data[:100], position)
            raise OSError(errno.ENOSPC, "no space left on device")
        super().write(fd, data, position)


def test_a_full_disk_costs_the_room_and_nothing_else(open_log, batches, values_in):
    disk = FullDisk()
    log = open_log(config=LogConfig(segment_bytes=10_000_000), disk=disk)
    written = flush_often(log, batches, 200)
    assert file_size(log) == log.size
    assert disk.tries == 1
    assert list(values_in(log).values()) == written
    assert log.failure is None

import errno
import os
import struct

import pytest
from msgspec.structs import replace

from ottla.records.batch import iter_headers
from ottla.records.builder import BatchBuilder
from ottla.records.control import EndTransaction, end_transaction_batch
from ottla.storage.disk import Disk
from ottla.testing.crash_images import FaultyDisk
from ottla.wire.errors import ErrorCode, KafkaError


def files(log, suffix):
    return sorted(name for name in os.listdir(log.directory) if name.endswith(suffix))


def test_what_is_appended_is_read(open_log, batches, values_in):
    log = open_log()
    written = [value for _ in range(20) for value in batches.append(log, 3)]
    assert list(values_in(log).values()) == written
    assert list(values_in(log)) == list(range(60))
    assert log.log_end_offset == 60
    assert len(log.segments) > 3


def test_read_begins_with_the_batch_that_holds_the_offset(open_log, batches):
    log = open_log()
    for _ in range(3):
        batches.append(log, 4)
    region = log.read(6, 10_000, upper=12, at_least_one=False)
    assert [header.base_offset for _, header in iter_headers(region.pread())] == [4, 8]


@pytest.mark.parametrize("max_bytes", [1, 100, 250, 10_000])
def test_read_keeps_to_max_bytes_but_for_the_first_batch(open_log, batches, max_bytes):
    log = open_log()
    for _ in range(3):
        batches.append(log, 1)
    size = log.size // 3
    region = log.read(0, max_bytes, upper=3, at_least_one=True)
    assert len(region) == max(min(max_bytes, 3 * size), size)
    without = log.read(0, max_bytes, upper=3, at_least_one=False)
    assert (without is None) == (max_bytes < size)


def test_read_ends_at_upper(open_log, batches):
    log = open_log()
    for _ in range(6):
        batches.append(log, 2)
    for upper in (2, 4, 6, 8):
        region = log.read(0, 10_000, upper=upper, at_least_one=True)
        headers = [header for _, header in iter_headers(region.pread())]
        assert headers[-1].next_offset <= upper
        region.release()
    assert log.read(4, 10_000, upper=4, at_least_one=True) is None


def test_read_outside_the_log_is_out_of_range(open_log, batches):
    log = open_log()
    batches.append(log, 5)
    log.advance_log_start(2)
    for offset in (1, 6, -1):
        with pytest.raises(KafkaError) as raised:
            log.read(offset, 100, upper=5, at_least_one=True)
        assert raised.value.code is ErrorCode.OFFSET_OUT_OF_RANGE
    assert log.read(5, 100, upper=5, at_least_one=True) is None


def test_old_offsets_are_found_without_the_tail_cache(open_log, batches, values_in):
    log = open_log()
    written = [value for _ in range(30) for value in batches.append(log, 2)]
    log.close()
    again = open_log(clean_shutdown=True, recovery_point=60)
    assert list(values_in(again).values()) == written
    for offset in range(60):
        region = again.read(offset, 10_000, upper=60, at_least_one=True)
        header = next(iter_headers(region.pread()))[1]
        assert header.base_offset <= offset <= header.last_offset


def test_a_region_outlives_its_segment(open_log, batches, small):
    log = open_log()
    for _ in range(30):
        batches.append(log, 1)
    region = log.read(0, 10_000, upper=30, at_least_one=True)
    before = region.pread()
    log.config = replace(small, retention_bytes=0)
    assert log.retain(0, 30) > 1
    log.purge(10_000)
    assert not os.path.exists(os.path.join(log.directory, f"{0:020d}.log"))
    assert region.pread() == before
    log.release()
    assert region.pread() == before
    fd = region.fileno()
    region.release()
    region.release()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_roll_by_size_happens_before_the_batch_that_would_overflow(open_log, batches, small):
    log = open_log()
    for _ in range(40):
        batches.append(log, 1)
    assert all(segment.size <= small.segment_bytes for segment in log.segments)
    batch_size = log.segments[0].size // (log.segments[1].base_offset)
    assert log.segments[0].size + batch_size > small.segment_bytes


def test_roll_by_time_follows_the_records(open_log, batches, small):
    log = open_log(config=replace(small, segment_ms=500))
    batches.append(log, timestamp=10_000)
    batches.append(log, timestamp=10_500)
    assert len(log.segments) == 1
    batches.append(log, timestamp=10_501)
    assert [segment.base_offset for segment in log.segments] == [0, 2]


def test_roll_by_time_follows_the_clock_for_records_without_time(open_log, batches, small):
    log = open_log(config=replace(small, segment_ms=500), now_ms=1000)
    batches.append(log, timestamp=-1, now_ms=1100)
    batches.append(log, timestamp=-1, now_ms=1500)
    assert len(log.segments) == 1
    batches.append(log, timestamp=-1, now_ms=1501)
    assert len(log.segments) == 2


def test_roll_when_the_index_is_full(open_log, batches, small):
    log = open_log(config=replace(small, segment_bytes=1 << 20, segment_index_bytes=80, index_interval_bytes=0))
    for _ in range(30):
        batches.append(log, 1)
    assert len(log.segments) > 2
    for segment in log.segments[:-1]:
        assert segment.offset_index.file.count <= 10
        assert segment.time_index.file.count <= 6


def test_roll_when_offsets_leave_the_reach_of_the_base(open_log, batches):
    log = open_log()
    batches.append(log, 1)
    far, _ = batches.build(2**31, 1)
    log.append(far, list(iter_headers(far)), 0)
    assert [segment.base_offset for segment in log.segments] == [0, 2**31]


def test_index_entries_come_after_each_interval(open_log, batches, small):
    log = open_log(config=replace(small, segment_bytes=1 << 20, index_interval_bytes=250, segment_index_bytes=4096))
    sizes, position = [], 0
    for _ in range(12):
        before = log.size
        batches.append(log, 1, size=10)
        sizes.append((position, log.size - before))
        position = log.size
    expected, since = [], 0
    for offset, (at, size) in enumerate(sizes):
        if since > 250:
            expected.append((offset, at))
            since = 0
        since += size
    index = log.segments[0].offset_index
    assert [index.entry(slot) for slot in range(index.file.count)] == expected
    assert len(expected) >= 2
    log.close()
    with open(f"{log.directory}/{0:020d}.index", "rb") as file:
        assert file.read() == b"".join(struct.pack(">ii", *entry) for entry in expected)
    with open(f"{log.directory}/{0:020d}.timeindex", "rb") as file:
        entries = list(struct.iter_unpack(">qi", file.read()))
    assert entries[-1] == (1012, 11), "the last entry is the greatest timestamp"
    assert entries[:-1] == [(1001 + offset, offset) for offset, _ in expected]


def test_active_index_files_are_extended_and_trimmed_when_sealed(open_log, batches, small):
    log = open_log(config=replace(small, segment_index_bytes=1000, segment_bytes=1 << 20))
    batches.append(log)
    assert os.path.getsize(f"{log.directory}/{0:020d}.index") == 1000
    assert os.path.getsize(f"{log.directory}/{0:020d}.timeindex") == 996
    log.roll(0)
    assert os.path.getsize(f"{log.directory}/{0:020d}.index") == 0
    assert os.path.getsize(f"{log.directory}/{0:020d}.timeindex") == 12


def test_lookup_by_timestamp(open_log, batches):
    log = open_log()
    for second in range(40):
        batches.append(log, 2, timestamp=10_000 + second * 10)
    assert log.offset_for_timestamp(0, upper=80)[:2] == (10_000, 0)
    assert log.offset_for_timestamp(10_101, upper=80)[:2] == (10_110, 22)
    assert log.offset_for_timestamp(10_110, upper=80)[:2] == (10_110, 22)
    assert log.offset_for_timestamp(10_391, upper=80) is None
    assert log.offset_for_timestamp(10_110, upper=22) is None
    assert log.max_timestamp_offset[:2] == (10_390, 78)
    log.advance_log_start(25)
    assert log.offset_for_timestamp(0, upper=80)[:2] == (10_120, 25)


def test_lookup_by_timestamp_in_an_empty_log(open_log):
    log = open_log()
    assert log.offset_for_timestamp(0, upper=0) is None
    assert log.max_timestamp_offset is None


def test_truncation_drops_records_and_forgets_them_for_good(open_log, batches, values_in):
    log = open_log()
    written = [value for _ in range(30) for value in batches.append(log, 1, epoch=log.log_end_offset // 10)]
    log.flush()
    for offset in (25, 13, 12, 3):
        log.truncate_to(offset)
        assert log.log_end_offset == offset
        assert log.recovery_point == offset
        assert list(values_in(log).values()) == written[:offset]
        assert log.epochs.latest_epoch == (offset - 1) // 10
        written = written[:offset] + batches.append(log, 1, epoch=5)
        assert log.epochs.end_offset_for(5, log.log_end_offset) == (5, offset + 1)
        assert list(values_in(log).values()) == written
    again = open_log(recovery_point=3)
    assert list(values_in(again).values()) == written


def test_truncation_below_the_first_segment_starts_anew(open_log, batches, small, values_in):
    log = open_log()
    for _ in range(30):
        batches.append(log, 1)
    log.config = replace(small, retention_bytes=0)
    log.retain(0, 30)
    log.truncate_to(5)
    assert (log.log_start_offset, log.log_end_offset) == (5, 5)
    values = batches.append(log, 2)
    assert values_in(log) == {5: values[0], 6: values[1]}
    log.purge(5000)
    assert not [name for name in os.listdir(log.directory) if ".deleted" in name]


def test_truncation_takes_producers_back(open_log, batches):
    log = open_log()
    for sequence in range(0, 40, 2):
        batches.append(log, 2, producer=(7, 0, sequence))
    log.truncate_to(20)
    assert log.producers.get(7).last_sequence == 19
    log.truncate_to(0)
    assert log.producers.get(7) is None


def test_retention_by_size_keeps_at_least_that_much(open_log, batches, small):
    log = open_log()
    for _ in range(60):
        batches.append(log, 1)
    total = log.size
    log.config = replace(small, retention_bytes=2500)
    deleted = log.retain(0, 60)
    assert deleted > 0
    assert log.size >= 2500
    assert log.size - log.segments[0].size < 2500
    assert log.size < total
    assert log.log_start_offset == log.segments[0].base_offset
    assert log.retain(0, 60) == 0


def test_retention_by_time_rolls_when_all_is_old(open_log, batches, small):
    log = open_log()
    for _ in range(20):
        batches.append(log, 1, timestamp=1000)
    log.config = replace(small, retention_ms=100)
    assert log.retain(1100, 20) == 0
    segments = len(log.segments)
    assert log.retain(1101, 20) == segments
    assert (log.log_start_offset, log.log_end_offset, log.size) == (20, 20, 0)
    assert log.retain(1101, 20) == 0


def test_retention_stops_at_the_high_watermark(open_log, batches, small):
    log = open_log()
    for _ in range(40):
        batches.append(log, 1)
    log.config = replace(small, retention_bytes=0)
    second = log.segments[1].base_offset
    assert log.retain(0, second - 1) == 0
    assert log.retain(0, second) == 1


def test_compacted_topics_are_not_aged_but_lose_what_was_deleted(open_log, batches, small):
    log = open_log(config=replace(small, cleanup_policy=frozenset({"compact"}), retention_ms=1, retention_bytes=0))
    for _ in range(40):
        batches.append(log, 1, timestamp=1)
    assert log.retain(10**12, 40) == 0
    log.advance_log_start(log.segments[2].base_offset)
    assert log.retain(10**12, 40) == 2


def test_deleted_segments_wait_for_their_delay(open_log, batches, small):
    log = open_log()
    for _ in range(40):
        batches.append(log, 1)
    log.config = replace(small, retention_bytes=0)
    count = log.retain(5000, 40)
    assert len(files(log, ".log.deleted")) == count
    assert log.purge(5999) == 0
    assert log.purge(6000) >= 3 * count
    assert files(log, ".deleted") == []


def test_full_disk_refuses_the_append_and_space_brings_it_back(open_log, batches, values_in):
    full = False

    def gate(number, kind, path):
        if full and kind in {"write", "open", "truncate"} and not (kind == "truncate" and path.endswith(".log")):
            raise OSError(errno.ENOSPC, "No space left on device")

    log = open_log(disk=FaultyDisk(gate))
    written = [value for _ in range(5) for value in batches.append(log, 2)]
    full = True
    for _ in range(12):
        with pytest.raises(KafkaError) as raised:
            batches.append(log, 2)
        assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    assert log.failure is None
    assert list(values_in(log).values()) == written
    assert os.path.getsize(log.active_segment.log_path) == log.active_segment.size
    full = False
    for _ in range(20):
        written += batches.append(log, 2)
    assert list(values_in(log).values()) == written
    assert list(values_in(open_log()).values()) == written


def test_a_full_disk_during_a_roll_leaves_the_log_whole(open_log, batches, values_in):
    failing = 0

    def gate(number, kind, path):
        if failing and number >= failing:
            raise OSError(errno.ENOSPC, "No space left on device")

    log = open_log(disk=(disk := FaultyDisk(gate)))
    written = [value for _ in range(8) for value in batches.append(log, 1)]
    for ahead in range(1, 30):
        before = len(log.segments)
        while log.size % 1000 < 700 and len(log.segments) == before:
            written += batches.append(log, 1)
        failing = disk.calls + ahead
        try:
            for _ in range(4):
                written += batches.append(log, 2)
        except KafkaError:
            pass
        failing = 0
        assert log.failure is None
        assert list(values_in(log).values()) == written
    assert list(values_in(open_log()).values()) == written


def test_an_io_error_takes_the_log_offline(open_log, batches):
    def gate(number, kind, path):
        if broken and kind == "write":
            raise OSError(errno.EIO, "Input/output error")

    broken = False
    log = open_log(disk=FaultyDisk(gate))
    batches.append(log)
    broken = True
    with pytest.raises(KafkaError) as raised:
        batches.append(log)
    assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    broken = False
    for action in (
        lambda: batches.append(log),
        lambda: log.read(0, 100, upper=1, at_least_one=True),
    ):
        with pytest.raises(KafkaError) as raised:
            action()
        assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR


def test_aborted_transactions_are_indexed(open_log, batches, small):
    log = open_log()

    def transactional(producer_id, sequence):
        builder = BatchBuilder(
            base_offset=log.log_end_offset,
            leader_epoch=0,
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=sequence,
            transactional=True,
        )
        builder.append(1000, None, b"value")
        batch = builder.build()
        log.append(batch, list(iter_headers(batch)), 0)

    def end(producer_id, committed):
        batch = end_transaction_batch(
            EndTransaction(committed, 0),
            producer_id=producer_id,
            producer_epoch=0,
            timestamp=1000,
            base_offset=log.log_end_offset,
            leader_epoch=0,
        )
        log.append(batch, list(iter_headers(batch)), 0)

    def check(log):
        aborted = log.aborted_transactions(0, log.log_end_offset)
        assert [(entry.producer_id, entry.first_offset, entry.last_offset) for entry in aborted] == [
            (1, 0, 2),
            (3, first, last),
        ]
        assert log.aborted_transactions(3, first) == []
        assert len(log.aborted_transactions(0, 1)) == 1

    transactional(1, 0)  # 0
    transactional(2, 0)  # 1
    end(1, committed=False)  # 2
    end(2, committed=True)  # 3
    first = log.log_end_offset
    transactional(3, 0)
    for _ in range(20):
        batches.append(log)
    last = log.log_end_offset
    end(3, committed=False)
    assert len(log.segments) > 1
    check(log)
    assert len(files(log, ".txnindex")) == 2
    log.release()
    check(open_log())
    for name in files(log, ".txnindex"):
        os.unlink(os.path.join(log.directory, name))
    check(open_log())


def test_flush_is_due_by_count_and_by_time(open_log, batches, small):
    log = open_log(config=replace(small, flush_messages=3, flush_ms=100))
    assert not log.flush_ms_due(10**9)
    batches.append(log, 2, now_ms=1000)
    assert not log.flush_ms_due(1099)
    assert log.flush_ms_due(1100)
    assert not log.flush_messages_due
    batches.append(log, 1, now_ms=1050)
    assert log.flush_messages_due
    log.flush()
    assert not log.flush_ms_due(10**9)
    assert not log.flush_messages_due


def test_a_segment_that_goes_under_a_running_flush_is_not_missed(open_log, batches, small):
    """Retention runs on the loop while a flush runs in its thread; with high watermarks ahead of flushes they meet."""

    class BusyDisk(Disk):
        meanwhile = None

        def sync_data(self, fd):
            super().sync_data(fd)
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile is not None:
                meanwhile()

    disk = BusyDisk()
    log = open_log(disk=disk, config=replace(small, retention_bytes=0))
    for _ in range(30):
        batches.append(log)
    assert len(log.segments) > 2
    disk.meanwhile = lambda: log.retain(10**15, log.log_end_offset)
    assert log.flush() == 30
    assert log.log_start_offset > 0
    assert log.failure is None


def test_a_full_disk_does_not_end_retention(open_log, batches, small):
    def gate(number, kind, path):
        if full and kind in {"open", "write"}:
            raise OSError(errno.ENOSPC, "No space left on device")

    full = False
    log = open_log(disk=FaultyDisk(gate), config=replace(small, retention_bytes=1500))
    for number in range(30):
        batches.append(log, epoch=number // 3)
    full = True
    assert log.retain(0, 30) > 0
    assert log.failure is None
    assert log.epochs.entries[0].start_offset == log.log_start_offset
    full = False
    kept = log.epochs.entries
    log.close()
    assert open_log(clean_shutdown=True, recovery_point=30).epochs.entries == kept


def test_a_flush_that_comes_too_late_claims_nothing(open_log, batches):
    """The log was deleted while its flush was queued."""
    log = open_log()
    batches.append(log)
    log.release()
    assert log.flush() == 0


@pytest.mark.parametrize(("number", "fails"), [(errno.EIO, True), (errno.EMFILE, False)])
def test_a_disk_that_cannot_be_read_is_a_storage_error(open_log, batches, number, fails):
    class Unreadable(Disk):
        broken = False

        def read(self, fd, size, position):
            if self.broken:
                raise OSError(number, "broken")
            return super().read(fd, size, position)

    disk = Unreadable()
    log = open_log(disk=disk)
    for _ in range(30):
        batches.append(log)
    disk.broken = True
    for ask in (lambda: log.offset_for_timestamp(1005, upper=30), lambda: log.max_timestamp_offset):
        with pytest.raises(KafkaError) as raised:
            ask()
        assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    assert (log.failure is not None) is fails


def test_a_torn_transaction_index_of_a_later_segment_is_found_by_who_reads_an_earlier_one(open_log, batches):
    """A reader of committed records looks for aborted transactions behind what it has read."""
    log = open_log()
    builder = BatchBuilder(producer_id=1, producer_epoch=0, base_sequence=0, transactional=True)
    builder.append(1000, None, b"value")
    batch = builder.build()
    log.append(batch, list(iter_headers(batch)), 0)
    log.roll(0)
    marker = end_transaction_batch(
        EndTransaction(False, 0), producer_id=1, producer_epoch=0, timestamp=1000, base_offset=1, leader_epoch=0
    )
    log.append(marker, list(iter_headers(marker)), 0)
    log.roll(0)
    batches.append(log)
    log.close()
    (index,) = files(log, ".txnindex")
    os.truncate(os.path.join(log.directory, index), 33)
    log = open_log(clean_shutdown=True)
    log.read(0, 100, upper=1, at_least_one=True)
    assert [aborted[:3] for aborted in log.aborted_transactions(0, 3)] == [(1, 0, 1)]

"""Killed, or out of power, at any step of a cleaning: the log holds what it held, or what cleaning makes of it."""

import os
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from ottla.config.cleaner import CleanerConfig
from ottla.config.log import LogConfig
from ottla.model import TopicPartition, Uuid
from ottla.records.batch import iter_headers
from ottla.records.builder import BatchBuilder
from ottla.records.control import EndTransaction, end_transaction_batch
from ottla.records.reader import read_records
from ottla.storage.cleanable import cleanable, cleaning_job
from ottla.storage.cleaning import CleaningPass
from ottla.storage.disk import Disk
from ottla.storage.log import Log
from ottla.storage.log_store import LogStore
from ottla.testing.crash_images import FaultyDisk, Killed, RecordingDisk, build_image
from ottla.wire.errors import KafkaError

STRIDE = int(os.environ.get("OTTLA_KILL_STRIDE", "7"))
IMAGES = int(os.environ.get("OTTLA_CRASH_IMAGES", "300"))
PARTITION = TopicPartition("state", 0)
CONFIG = LogConfig(
    cleanup_policy=frozenset(("compact",)),
    segment_bytes=700,
    index_interval_bytes=100,
    segment_index_bytes=480,
    file_delete_delay_ms=0,
    delete_retention_ms=0,
)
TURNED_TO_DELETE = LogConfig(segment_bytes=700, index_interval_bytes=100, segment_index_bytes=480)


def open_store(root: Path, disk=None, config: LogConfig = CONFIG) -> LogStore:
    store = LogStore.open([str(root)], cluster_id="c", node_id=1, disk=disk, rng=Random(5))
    store.load(lambda _: config, now_ms=0)
    return store


def fill(log: Log, rng: Random) -> None:
    """A few segments: values, tombstones, an aborted and a committed transaction."""
    for number in range(rng.randint(8, 20)):
        builder = BatchBuilder(base_offset=log.log_end_offset, leader_epoch=0)
        for _ in range(rng.randint(1, 4)):
            value = None if rng.random() < 0.2 else f"v{number}".encode() * rng.randint(1, 20)
            builder.append(1_000 + number, rng.choice([b"a", b"b", b"c", b"d"]), value)
        append(log, builder.build())
        if rng.random() < 0.3:
            producer_id = rng.randint(1, 3)
            builder = BatchBuilder(
                base_offset=log.log_end_offset,
                leader_epoch=0,
                producer_id=producer_id,
                producer_epoch=0,
                base_sequence=0,
                transactional=True,
            )
            builder.append(1_000, rng.choice([b"a", b"b"]), b"of a transaction")
            append(log, builder.build())
            marker = EndTransaction(rng.random() < 0.5, 0)
            append(
                log,
                end_transaction_batch(
                    marker,
                    producer_id=producer_id,
                    producer_epoch=0,
                    timestamp=1_000,
                    base_offset=log.log_end_offset,
                    leader_epoch=0,
                ),
            )
    log.roll(0)


def append(log: Log, batch: bytes) -> None:
    log.append(batch, list(iter_headers(batch)), 0)


def view(log: Log) -> dict[bytes, bytes]:
    """The last committed value of every key."""
    coming = sorted(log.aborted_transactions(0, 2**62), key=lambda found: found.first_offset)
    aborted: set[int] = set()
    values: dict[bytes, bytes] = {}
    for segment in log.segments:
        for position, header in segment.headers():
            while coming and coming[0].first_offset <= header.last_offset:
                aborted.add(coming.pop(0).producer_id)
            if header.is_control:
                aborted.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in aborted):
                for record in read_records(segment.read(position, header.size)):
                    values.pop(record.key, None)
                    if record.value is not None:
                        values[record.key] = record.value
    return values


class Run:
    """Fills a log and cleans it twice; ``expected`` is what must be read at any moment after filling."""

    def __init__(self, root: Path, disk, seed: int, clean_log) -> None:
        self.root = root
        self.disk = disk
        self.rng = Random(seed)
        self.clean_log = clean_log
        self.expected: dict[bytes, bytes] | None = None
        self.end = 0

    def fill(self) -> None:
        store = open_store(self.root, self.disk)
        log = store.create(PARTITION, Uuid.random(Random(1)), CONFIG, now_ms=0)
        fill(log, self.rng)
        log.flush()
        store.checkpoint_recovery_points()
        self.expected, self.end = view(log), log.log_end_offset
        self.store, self.log = store, log

    def clean(self) -> None:
        point = self.clean_log(self.log, None, 5_000)
        assert point
        store = self.store
        store.record_clean_point(self.log, point)
        self.log.purge(0)
        self.clean_log(self.log, None, 6_000)
        self.log.purge(0)
        store.close()


def check(root: Path, run: Run, what: str, clean_log, config: LogConfig = CONFIG) -> None:
    store = open_store(root, FaultyDisk(lambda number, kind, path: None), config)
    assert store.offline_logs == {}, what
    log = store.get(PARTITION)
    assert log is not None, what
    assert log.log_end_offset == run.end, what
    assert view(log) == run.expected, what
    point = store.clean_point(log)
    if point is not None:
        keys = [
            record.key
            for segment in log.segments
            for position, header in segment.headers()
            if not header.is_control
            for record in read_records(segment.read(position, header.size))
            if record.offset < point
        ]
        assert len(keys) == len(set(keys)), f"{what}: said to be clean to {point}, and is not"
    clean_log(log, point, 7_000)
    assert view(log) == run.expected, what
    assert not list(Path(log.directory).glob("*.swap")), what
    store.close()
    again = open_store(root, FaultyDisk(lambda number, kind, path: None), config)
    assert view(again.get(PARTITION)) == run.expected, what
    again.close(clean=False)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_call(scratch, clean_log, seed, turned):
    counting = FaultyDisk(lambda number, kind, path: None)
    (scratch / "whole").mkdir()
    run = Run(scratch / "whole", counting, seed, clean_log)
    run.fill()
    first = counting.calls
    run.clean()
    assert counting.calls - first > 40
    for call in range(first + 1 + seed % STRIDE, counting.calls + 1, STRIDE):
        root = scratch / f"killed-{call}"
        root.mkdir()
        disk = FaultyDisk.dying_at(call)
        run = Run(root, disk, seed, clean_log)
        run.fill()
        with pytest.raises(Killed):
            run.clean()
        disk.bury()
        # A second death, in recovery, must be as good as one.
        for second in range(1, 30, 4):
            dying = FaultyDisk.dying_at(second)
            try:
                open_store(root, dying, TURNED_TO_DELETE if turned else CONFIG).close(clean=False)
            except Killed:
                pass
            dying.bury()
        check(root, run, f"seed {seed} call {call}", clean_log, TURNED_TO_DELETE if turned else CONFIG)


@pytest.mark.parametrize("part", range(2))
def test_out_of_power_at_any_moment(scratch, clean_log, part):
    for seed in range(part, max(IMAGES // 30, 4), 2):
        root = scratch / f"run-{seed}"
        root.mkdir()
        disk = RecordingDisk(str(root))
        run = Run(root, disk, seed, clean_log)
        run.fill()
        before = len(disk.record)
        run.clean()
        rng = Random(seed)
        for number in range(15):
            moment = rng.randint(before, len(disk.record))
            image = scratch / f"image-{seed}-{number}"
            build_image(disk.record, moment, str(image), seed * 1000 + number)
            check(image, run, f"seed {seed} image {number} moment {moment}", clean_log)


def noticed(scratch: Path, clean_log) -> bool:
    """Whether some image of a power cut shows a flaw."""
    for seed in range(12):
        root = scratch / f"run-{seed}"
        root.mkdir()
        disk = RecordingDisk(str(root))
        run = Run(root, disk, seed, clean_log)
        run.fill()
        before = len(disk.record)
        run.clean()
        rng = Random(seed)
        for number in range(10):
            moment = rng.randint(before, len(disk.record))
            image = scratch / f"image-{seed}-{number}"
            build_image(disk.record, moment, str(image), seed * 1000 + number)
            try:
                check(image, run, "", clean_log)
            except (AssertionError, KafkaError, ValueError):
                return True
    return False


def test_a_cleaned_segment_that_is_not_synced_is_caught(scratch, clean_log):
    with patch.object(RecordingDisk, "sync_path", unsynced):
        assert noticed(scratch, clean_log)


def test_a_clean_point_before_the_swap_is_durable_is_caught(scratch, clean_log):
    with patch.object(RecordingDisk, "sync_directory", lambda self, path: None):
        assert noticed(scratch, clean_log)


def test_a_swap_that_begins_with_the_old_segments_is_caught(scratch, clean_log):
    real = Log.replace_segments

    def replace(self, replaced, cleaned, now_ms):
        for segment in replaced:
            self.disk.unlink(segment.log_path)
        real(self, replaced, cleaned, now_ms)

    with patch.object(Log, "replace_segments", replace):
        assert noticed(scratch, clean_log)


def unsynced(self, path: str) -> None:
    """As if the cleaned files had not been synced; flushes of the log itself still are."""
    if not path.endswith(".cleaned"):
        Disk.sync_path(self, path)


def killed_everywhere(scratch: Path, prepare, clean, what: str, config: LogConfig) -> int:
    """Kill ``clean`` at each of its calls; the log must read the same afterwards. Returns how many calls there are."""
    calls = 2**31
    number = 0
    while number < calls:
        root = scratch / f"{what}-{number}"
        root.mkdir()
        disk = FaultyDisk(lambda call, kind, path: None)
        store = open_store(root, disk)
        log = store.create(PARTITION, Uuid.random(Random(1)), CONFIG, now_ms=0)
        prepare(log)
        log.flush()
        store.checkpoint_recovery_points()
        expected, begin = view(log), disk.calls

        def gate(call: int, kind: str, path: str, at: int = begin + number) -> None:
            if call > at:
                raise Killed(f"at {kind} of {path}")

        disk.gate = gate
        try:
            clean(log)
            calls = number
        except Killed:
            pass
        disk.gate = lambda call, kind, path: None
        disk.bury()
        again = open_store(root, FaultyDisk(lambda call, kind, path: None), config)
        assert again.offline_logs == {}, f"call {number}"
        assert view(again.get(PARTITION)) == expected, f"call {number}"
        again.close(clean=False)
        number += 1
    return number


def put(log: Log, *keys: bytes, size: int = 100) -> None:
    for key in keys:
        builder = BatchBuilder(base_offset=log.log_end_offset, leader_epoch=0)
        builder.append(1_000, key, b"%d" % log.log_end_offset * size)
        append(log, builder.build())


def test_what_a_cleaning_given_up_left_does_not_undo_the_next(scratch, clean_log):
    def prepare(log: Log) -> None:
        for key in (b"a", b"b", b"c", b"d"):
            put(log, key, key, b"x", size=150)
            log.roll(0)
        work = begin_pass(log)
        groups = work.groups()
        assert len(groups) > 2
        for group in groups:
            work.clean(group)
        assert len(list(Path(log.directory).glob("*.log.cleaned"))) == len(groups)
        # The first of them is of no segment any more: the next cleaning will not write over it.
        log.advance_log_start(log.segments[1].base_offset)
        assert log.retain(0, log.log_end_offset) == 1

    calls = killed_everywhere(scratch, prepare, lambda log: clean_log(log, None, 5_000), "given-up", CONFIG)
    assert calls > 50


def test_an_index_of_a_segment_that_was_being_replaced_is_no_loss(scratch, clean_log):
    """The cleaned segment ends before the segment whose index is left, and the topic is not compacted any more."""

    def prepare(log: Log) -> None:
        put(log, b"a")
        log.roll(0)
        put(log, b"b", b"b")
        log.roll(0)
        put(log, b"b", b"c", b"d", b"e", size=120)
        log.roll(0)

    def clean(log: Log) -> None:
        clean_log(log, None, 5_000)
        assert [segment.base_offset for segment in log.segments][:2] == [0, 3]

    killed_everywhere(scratch, prepare, clean, "index", TURNED_TO_DELETE)


def begin_pass(log: Log) -> CleaningPass:
    target = cleanable(log, None, log.log_end_offset, 5_000)
    cleaner = CleanerConfig.resolve({"log.cleaner.io.buffer.size": "2000"})
    work = CleaningPass(cleaning_job(log, target, cleaner, 5_000), log.disk, lambda moved: None)
    work.build_map()
    return work

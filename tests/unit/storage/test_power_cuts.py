"""What was acknowledged after a flush is there after a power cut, whatever else the disk kept: hundreds of legal
images.

A seeded workload runs on a recording disk. ``OTTLA_CRASH_IMAGES`` sets how many images are built (default 300).
"""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from ottla.config.log import LogConfig
from ottla.model import TopicPartition, Uuid
from ottla.storage.log import Log
from ottla.storage.log_store import LogStore
from ottla.testing.crash_images import FaultyDisk, RecordingDisk, build_image, notes_before
from ottla.wire.errors import KafkaError

IMAGES = int(os.environ.get("OTTLA_CRASH_IMAGES", "300"))
IMAGES_A_RUN = 5
CONFIG = LogConfig(
    segment_bytes=1500, index_interval_bytes=200, segment_index_bytes=480, file_delete_delay_ms=0, retention_bytes=4000
)
PARTITIONS = [TopicPartition("orders", 0), TopicPartition("orders", 1), TopicPartition("clicks", 0)]


class Workload:
    """Appends, flushes, rolls, truncates, ages and checkpoints; notes in the record what it may count on."""

    def __init__(self, root: Path, seed: int, batches, *, flush: bool = True) -> None:
        self.rng = Random(seed)
        self.disk = RecordingDisk(str(root))
        self.batches = batches
        self.flush = flush
        self.written: dict[TopicPartition, dict[int, set[bytes]]] = {}
        self.current: dict[TopicPartition, dict[int, bytes]] = {}

    def run(self, steps: int) -> None:
        store = open_store(str(self.disk.root), self.disk)
        for step in range(steps):
            partition = self.rng.choice(PARTITIONS)
            log = store.get(partition) or self._create(store, partition)
            self._append(log)
            action = self.rng.random()
            if action < 0.4:
                self._flush(log)
            elif action < 0.47:
                log.roll(step)
            elif action < 0.52:
                store.checkpoint_recovery_points()
            elif action < 0.57:
                self._truncate(log)
            elif action < 0.63:
                self._age(store, log)
            elif action < 0.66:
                log.epochs.assign(log.epochs.latest_epoch + 1, log.log_end_offset)
            elif action < 0.68:
                self.disk.note(("gone", partition, log.log_end_offset))
                store.delete(partition, now_ms=step)
                store.purge(step)
                self.current.pop(partition)
            elif action < 0.70:
                store.close()
                store = open_store(str(self.disk.root), self.disk)
            elif action < 0.74:
                kill(store)
                store = open_store(str(self.disk.root), self.disk)
        store.close(clean=self.rng.random() < 0.5)

    def _create(self, store: LogStore, partition: TopicPartition):
        topic_id = Uuid.random(Random(partition.topic))
        self.current[partition] = {}
        return store.create(partition, topic_id, CONFIG, now_ms=0)

    def _append(self, log) -> None:
        records = self.rng.randint(1, 4)
        epoch = max(log.epochs.latest_epoch, 0)
        for _ in range(self.rng.randint(1, 3)):
            base = log.log_end_offset
            values = self.batches.append(log, records, size=self.rng.randint(10, 400), epoch=epoch)
            for offset, value in enumerate(values, base):
                self.current[log.topic_partition][offset] = value
                self.written.setdefault(log.topic_partition, {}).setdefault(offset, set()).add(value)

    def _flush(self, log) -> None:
        self._write_ahead(log.active_segment)
        if self.flush:
            log.flush()
        else:
            log.mark_flushed(log.log_end_offset)
        self.disk.note(("flushed", log.topic_partition, log.log_end_offset, dict(self.current[log.topic_partition])))

    def _write_ahead(self, active) -> None:
        room = CONFIG.segment_bytes - active.size
        if room > 0 and self.rng.random() < 0.5:
            active.write_ahead(self.rng.randint(1, room))

    def _truncate(self, log) -> None:
        offset = self.rng.choice(boundaries(log))
        self.disk.note(("cut", log.topic_partition, offset))
        log.truncate_to(offset)
        current = self.current[log.topic_partition]
        self.current[log.topic_partition] = {at: value for at, value in current.items() if at < offset}

    def _age(self, store: LogStore, log) -> None:
        self.disk.note(("floor", log.topic_partition, log.log_end_offset))
        if self.rng.random() < 0.3:
            log.advance_log_start(self.rng.randint(log.log_start_offset, log.log_end_offset))
            store.checkpoint_log_starts()
        log.retain(0, log.recovery_point)
        log.purge(1)


def kill(store: LogStore) -> None:
    """End the process that has the store: the kernel keeps what was written, and nobody knows what was synced."""
    for log in store.logs.values():
        log.release()
    for directory in store.directories:
        directory.unlock()


def unsynced() -> FaultyDisk:
    """The power stays on while an image is looked at."""
    return FaultyDisk(lambda number, kind, path: None)


def boundaries(log) -> list[int]:
    """Where batches begin: a log is only ever truncated there."""
    return [header.base_offset for segment in log.segments for _, header in segment.headers()] + [log.log_end_offset]


def open_store(root: str, disk=None) -> LogStore:
    store = LogStore.open([root], cluster_id="c", node_id=1, disk=disk, rng=Random(5))
    store.load(lambda _: CONFIG, now_ms=0)
    return store


def promises(notes: list) -> dict[TopicPartition, tuple[int, dict[int, bytes]]]:
    """Of each partition, the records that must be there, from an offset below which they may be gone."""
    promised: dict[TopicPartition, tuple[int, dict[int, bytes]]] = {}
    for note in notes:
        kind, partition = note[:2]
        floor, records = promised.get(partition, (0, {}))
        if kind == "flushed":
            records = {offset: value for offset, value in note[3].items() if offset < note[2]}
        elif kind == "cut":
            records = {offset: value for offset, value in records.items() if offset < note[2]}
        elif kind == "floor":
            floor = max(floor, note[2])
        else:
            records = {}
        promised[partition] = (floor, records)
    return promised


def lost(root: str, workload: Workload, notes: list, values_in: Callable) -> list[str]:
    """What an image lacks of the promises, or has that was never written; it must also go on working."""
    flaws = []
    store = open_store(root, unsynced())
    flaws += [f"{partition} offline: {error}" for partition, error in store.offline_logs.items()]
    found = {partition: values_in(log) for partition, log in store.logs.items()}
    for partition, (floor, records) in promises(notes).items():
        for offset, value in records.items():
            if offset >= floor and found.get(partition, {}).get(offset) != value:
                flaws.append(f"{partition} lacks {offset}")
    for partition, values in found.items():
        for offset, value in values.items():
            if value not in workload.written[partition].get(offset, ()):
                flaws.append(f"{partition} has {value!r} at {offset}")
        log = store.logs[partition]
        expected = range(log.log_start_offset, log.log_end_offset)
        if list(values) != list(expected):
            flaws.append(f"{partition} has a hole in {expected}")
    for log in store.logs.values():
        values = workload.batches.append(log, 2, epoch=max(log.epochs.latest_epoch, 0))
        end = log.log_end_offset
        found[log.topic_partition] |= {end - 2: values[0], end - 1: values[1]}
    store.close()
    again = open_store(root, unsynced())
    if {partition: values_in(log) for partition, log in again.logs.items()} != found:
        flaws.append("a second start finds something else")
    again.close(clean=False)
    return flaws


def search(tmp_path: Path, seeds: range, new_batches, values_in, *, flush: bool = True, steps: int = 60) -> list[str]:
    """Build images of each seed's run until one shows a flaw; the flaws with their seed."""
    for seed in seeds:
        root = tmp_path / f"run-{seed}"
        root.mkdir()
        workload = Workload(root, seed, new_batches(), flush=flush)
        workload.run(steps)
        record = workload.disk.record
        rng = Random(seed)
        for number in range(IMAGES_A_RUN):
            moment = rng.randint(1, len(record))
            image = tmp_path / f"image-{seed}-{number}"
            build_image(record, moment, str(image), seed * 1000 + number)
            flaws = lost(str(image), workload, notes_before(record, moment), values_in)
            if flaws:
                return [f"seed {seed} image {number} moment {moment}: {flaw}" for flaw in flaws]
    return []


PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_acknowledged_is_lost(scratch, new_batches, values_in, part):
    runs = -(-IMAGES // (IMAGES_A_RUN * PARTS))
    assert search(scratch, range(part * runs, (part + 1) * runs), new_batches, values_in) == []


def noticed(*arguments: object, **options: object) -> list[str]:
    """Like ``search``; a reader that chokes on what was let pass has noticed, too."""
    try:
        return search(*arguments, **options)
    except KafkaError as error:
        return [str(error)]


def test_acknowledging_before_the_flush_is_caught(scratch, new_batches, values_in):
    assert noticed(scratch, range(10), new_batches, values_in, flush=False)


def test_a_forgotten_directory_sync_is_caught(scratch, new_batches, values_in):
    with patch.object(RecordingDisk, "sync_directory", lambda self, path: None):
        assert noticed(scratch, range(20), new_batches, values_in)


def test_a_recovery_that_trusts_checksums_blindly_is_caught(scratch, new_batches, values_in):
    with patch("ottla.storage.recovery.verify_crc", lambda buf, position, header: None):
        assert noticed(scratch, range(40), new_batches, values_in)


def test_a_recovery_point_that_runs_ahead_is_caught(scratch, new_batches, values_in):
    def append(self, batches, headers, now_ms):
        real(self, batches, headers, now_ms)
        self.mark_flushed(self.log_end_offset)

    real = Log.append
    with patch.object(Log, "append", append):
        assert noticed(scratch, range(20), new_batches, values_in)

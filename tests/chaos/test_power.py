"""The recorded node's disk: its journal survives the process, and says what a power cut may leave."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from harness.planted import BUGS
from harness.power import JournalDisk, cut_power, read_journal
from ottla.config.log import LogConfig
from ottla.model import TopicPartition, Uuid
from ottla.records.batch import iter_headers
from ottla.records.builder import build_batch
from ottla.storage.checkpoints import read_topic_id, write_topic_id
from ottla.storage.disk import Disk
from ottla.storage.log import Log
from ottla.testing.crash_images import PowerCut, RecordingDisk


@pytest.fixture
def root(tmp_path):
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture
def start(root, tmp_path):
    return lambda: JournalDisk(str(root), str(tmp_path / "journal"))


def put(disk, path, data, *, sync=True):
    fd = disk.open(str(path), create=True)
    disk.write(fd, data, 0)
    if sync:
        disk.sync(fd)
        disk.sync_directory(str(Path(path).parent))
    disk.close(fd)


def tree(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def image(tmp_path, keep):
    target = tmp_path / f"image-{keep}"
    PowerCut(read_journal(tmp_path / "journal").changes).write_image(str(target), Random(1), keep=keep)
    return tree(target)


def test_what_was_there_at_the_start_is_durable(start, root, tmp_path):
    (root / "sub").mkdir()
    (root / "sub" / "old").write_bytes(b"old")
    start()
    assert image(tmp_path, 0.0) == {"sub/old": b"old"}


def test_only_what_was_synced_has_to_survive(start, root, tmp_path):
    disk = start()
    put(disk, root / "safe", b"safe")
    put(disk, root / "lost", b"lost", sync=False)
    assert image(tmp_path, 0.0) == {"safe": b"safe"}
    assert image(tmp_path, 1.0) == tree(root) == {"safe": b"safe", "lost": b"lost"}


def test_a_killed_process_goes_on_with_what_it_had_not_synced(start, root, tmp_path):
    disk = start()
    disk.make_directory(str(root / "sub"))
    disk.sync_directory(str(root))
    put(disk, root / "sub" / "safe", b"safe")
    put(disk, root / "sub" / "lost", b"lost", sync=False)
    disk.rename(str(root / "sub" / "safe"), str(root / "sub" / "moved"))
    # The last steps before the kill are in the kernel, and not in the journal.
    (root / "sub" / "lost").write_bytes(b"lost and more")
    (root / "late").write_bytes(b"late")
    start()
    assert image(tmp_path, 0.0) == {"sub/safe": b"safe"}
    assert image(tmp_path, 1.0) == tree(root)
    put(start(), root / "after", b"after")
    assert image(tmp_path, 0.0) == {"sub/safe": b"safe", "after": b"after"} | {"late": b""}


def test_a_journal_may_end_in_the_middle_of_a_line(start, root, tmp_path):
    put(start(), root / "safe", b"safe")
    whole = read_journal(tmp_path / "journal").changes
    data = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(data[:-7])
    assert read_journal(tmp_path / "journal").changes == whole[:-1]


def test_a_cut_replaces_the_directory(start, root, tmp_path):
    disk = start()
    put(disk, root / "safe", b"safe")
    cut_power(root, tmp_path / "journal", seed=3)
    assert tree(root)["safe"] == b"safe"


@pytest.mark.parametrize("planted_bug", [None, "trust-what-recovery-found"])
def test_what_a_kill_left_unsynced_does_not_count_as_durable(tmp_path, monkeypatch, planted_bug):
    """A restart finds records that only the kernel has; then the power goes, before anything else is flushed."""
    monkeypatch.setattr(Log, "open", Log.open)
    if planted_bug is not None:
        BUGS[planted_bug]()
    root = tmp_path / "data"
    root.mkdir()
    disk = RecordingDisk(str(root))
    partition = TopicPartition("orders", 0)
    log = Log.open(root / "orders-0", partition, LogConfig(), disk=disk)
    for _ in range(2):
        batch = build_batch([(1, None, b"value")], base_offset=log.log_end_offset)
        log.append(batch, list(iter_headers(batch)), 0)
        if log.recovery_point == 0:
            log.flush()
    assert (log.recovery_point, log.log_end_offset) == (1, 2)
    log.release()
    found = Log.open(root / "orders-0", partition, LogConfig(), disk=disk, recovery_point=1)
    assert found.log_end_offset == 2
    counted = found.recovery_point
    found.release()
    PowerCut(disk.record).write_image(str(tmp_path / "image"), Random(1), keep=0.0)
    left = Log.open(tmp_path / "image" / "orders-0", partition, LogConfig(), recovery_point=1)
    lost = counted - left.log_end_offset
    left.release()
    assert lost == (0 if planted_bug is None else 1)


def test_what_a_killed_process_had_made_is_made_durable_by_the_next(tmp_path):
    """A new log is not flushed once before the kill; whoever goes on with it owes its files' names with the records."""
    root = tmp_path / "data"
    root.mkdir()
    disk = RecordingDisk(str(root))
    partition = TopicPartition("orders", 0)
    batch = build_batch([(1, None, b"value")])
    killed = Log.open(root / "orders-0", partition, LogConfig(), disk=disk)
    write_topic_id(disk, killed.directory, Uuid(b"orders-topic-id-"), durable=False)
    killed.append(batch, list(iter_headers(batch)), 0)
    killed.release()
    found = Log.open(root / "orders-0", partition, LogConfig(), disk=disk)
    assert found.flush() == 1
    found.release()
    PowerCut(disk.record).write_image(str(tmp_path / "image"), Random(1), keep=0.0)
    assert read_topic_id(Disk(), str(tmp_path / "image" / "orders-0")) == Uuid(b"orders-topic-id-")
    left = Log.open(tmp_path / "image" / "orders-0", partition, LogConfig(), recovery_point=1)
    assert left.log_end_offset == 1
    left.release()


def test_the_room_that_a_killed_process_cut_off_stays_cut(tmp_path):
    """A segment is sealed and not synced again before the kill: the cut of what was written ahead is not durable."""
    root = tmp_path / "data"
    root.mkdir()
    disk = RecordingDisk(str(root))
    partition = TopicPartition("orders", 0)

    def append(log):
        batch = build_batch([(1, None, b"value")], base_offset=log.log_end_offset)
        log.append(batch, list(iter_headers(batch)), 0)
        return len(batch)

    killed = Log.open(root / "orders-0", partition, LogConfig(), disk=disk)
    size = append(killed)
    killed.active_segment.write_ahead(1000)
    assert killed.flush() == 1
    killed.roll(0)
    killed.release()
    found = Log.open(root / "orders-0", partition, LogConfig(), disk=disk, recovery_point=1)
    append(found)
    found.flush()
    found.roll(0)
    append(found)
    assert found.flush() == 3
    found.release()
    PowerCut(disk.record).write_image(str(tmp_path / "image"), Random(1), keep=0.0)
    left = Log.open(tmp_path / "image" / "orders-0", partition, LogConfig(), recovery_point=3)
    assert [segment.size for segment in left.segments] == [size, size, size]
    left.release()

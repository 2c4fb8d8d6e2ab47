import os
import shutil
from binascii import crc32
from pathlib import Path

import pytest
from msgspec.structs import replace

from ottla.storage.errors import CorruptLogError


def fill(log, batches, count=30):
    return [value for _ in range(count) for value in batches.append(log, 1, epoch=log.log_end_offset // 12)]


def snapshot_of(directory):
    return {path.name: path.read_bytes() for path in sorted(Path(directory).iterdir())}


def overwrite(path, position, data):
    with open(path, "r+b") as file:
        file.seek(position)
        file.write(data)


def log_files(log):
    return sorted(name for name in os.listdir(log.directory) if name.endswith(".log"))


def test_unclean_restart_finds_everything_and_twice_the_same(open_log, batches, values_in):
    log = open_log()
    written = fill(log, batches)
    epochs = log.epochs.entries
    log.release()
    first = open_log(recovery_point=0)
    assert list(values_in(first).values()) == written
    assert first.epochs.entries == epochs
    first.release()
    before = snapshot_of(log.directory)
    second = open_log(recovery_point=0)
    assert list(values_in(second).values()) == written
    second.release()
    assert snapshot_of(log.directory) == before


def test_rebuilt_indexes_are_those_that_were_lost(open_log, batches):
    log = open_log()
    fill(log, batches)
    log.close()
    before = snapshot_of(log.directory)
    for name in before:
        if name.endswith(("index", ".snapshot")):
            os.unlink(os.path.join(log.directory, name))
    again = open_log(recovery_point=0)
    again.close()
    assert snapshot_of(log.directory) == before


@pytest.mark.parametrize("lost", [1, 30, 60, 70, 100])
def test_a_torn_tail_is_cut_at_the_last_whole_batch(open_log, batches, values_in, lost):
    log = open_log()
    written = fill(log, batches)
    active = log.active_segment
    size = active.size
    log.release()
    os.truncate(active.log_path, size - lost)
    again = open_log(recovery_point=5)
    assert list(values_in(again).values()) == written[:-1]
    assert again.bytes_cut == size - lost - again.active_segment.size
    assert again.recovery_point == 5
    more = batches.append(again, 2, epoch=9)
    again.release()
    assert list(values_in(open_log(recovery_point=5)).values()) == written[:-1] + more


def test_garbage_behind_the_end_is_cut(open_log, batches, values_in):
    log = open_log()
    written = fill(log, batches)
    log.release()
    with open(log.active_segment.log_path, "ab") as file:
        file.write(bytes(4096))
    assert list(values_in(open_log(recovery_point=30)).values()) == written


def test_damage_behind_the_recovery_point_cuts_and_drops_what_follows(open_log, batches, values_in):
    log = open_log()
    written = fill(log, batches)
    assert len(log.segments) >= 4
    victim = log.segments[1]
    log.release()
    overwrite(victim.log_path, victim.size - 3, b"\xff\xff")
    again = open_log(recovery_point=victim.base_offset)
    end = log.segments[2].base_offset - 1
    assert again.log_end_offset == end
    assert list(values_in(again).values()) == written[:end]
    assert again.epochs.latest_epoch == (end - 1) // 12
    assert len(again.segments) == 2


def test_damage_before_the_recovery_point_changes_nothing_and_says_where(open_log, batches):
    log = open_log()
    fill(log, batches)
    active = log.active_segment
    log.release()
    overwrite(active.log_path, 80, b"\xff\xff\xff")
    before = snapshot_of(log.directory)
    for _ in range(2):
        with pytest.raises(CorruptLogError) as raised:
            open_log(recovery_point=30)
        assert raised.value.path == active.log_path
        assert raised.value.position == 0
        assert active.log_path in str(raised.value)
    assert snapshot_of(log.directory) == before


def test_a_log_shorter_than_its_recovery_point_is_refused(open_log, batches):
    log = open_log()
    fill(log, batches)
    active = log.active_segment
    log.release()
    os.truncate(active.log_path, 0)
    for options in ({}, {"clean_shutdown": True}):
        with pytest.raises(CorruptLogError):
            open_log(recovery_point=30, **options)


def test_a_lost_segment_file_is_noticed_by_its_index(open_log, batches):
    log = open_log()
    fill(log, batches)
    os.unlink(log.segments[1].log_path)
    log.release()
    with pytest.raises(CorruptLogError, match="missing"):
        open_log(recovery_point=30)


@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "zero", "remove", "empty", "extend"])
@pytest.mark.parametrize("clean", [False, True])
def test_damaged_indexes_never_give_wrong_answers(open_log, batches, values_in, suffix, harm, clean):
    log = open_log()
    written = fill(log, batches)
    log.close()
    for segment in log.segments:
        path = segment.log_path.replace(".log", suffix)
        size = os.path.getsize(path)
        if harm == "remove":
            os.unlink(path)
        elif harm == "empty":
            os.truncate(path, 0)
        elif harm == "extend":
            os.truncate(path, size + 8 * 12)
        elif harm == "truncate":
            os.truncate(path, size - 5)
        elif harm == "zero":
            overwrite(path, 0, bytes(size))
        else:
            overwrite(path, size - 3, b"\x7f\xff\xff")
    again = open_log(recovery_point=30, clean_shutdown=clean)
    assert list(values_in(again).values()) == written
    for offset in range(30):
        assert again.offset_for_timestamp(1001 + offset, upper=30)[:2] == (1001 + offset, offset)


@pytest.mark.parametrize("harm", ["flip", "truncate", "zero", "remove"])
def test_damaged_batches_are_never_served(open_log, batches, harm):
    """Sealed segments are not read at start-up: the damage must be met when it is read, and be an error there."""
    log = open_log()
    fill(log, batches)
    log.close()
    victim = log.segments[1]
    if harm == "remove":
        os.unlink(victim.log_path)
    elif harm == "truncate":
        os.truncate(victim.log_path, victim.size - 10)
    elif harm == "zero":
        overwrite(victim.log_path, 200, bytes(200))
    else:
        overwrite(victim.log_path, 8, b"\x7f")
    with pytest.raises(CorruptLogError):  # noqa: PT012
        again = open_log(recovery_point=30, clean_shutdown=True)
        offset = victim.base_offset
        while offset < log.segments[2].base_offset:
            assert again.read(offset, 10_000, upper=30, at_least_one=True) is not None
            offset += 1


def test_an_unreadable_epoch_file_is_read_back_from_the_batches(open_log, batches):
    log = open_log()
    fill(log, batches)
    epochs = log.epochs.entries
    log.close()
    for content in (b"", b"garbage", b"0\n7\n0 0\n", b"0\n2\n3 0\n1 4\n", None):
        path = log.epochs.path
        if content is None:
            os.unlink(path)
        else:
            with open(path, "wb") as file:
                file.write(content)
        again = open_log(recovery_point=30, clean_shutdown=True)
        assert again.epochs.entries == epochs
        again.close()


@pytest.mark.parametrize("harm", ["flip", "truncate", "zero", "remove"])
def test_producers_survive_damaged_snapshots(open_log, batches, harm):
    log = open_log()
    for sequence in range(0, 60, 2):
        batches.append(log, 2, producer=(7, 3, sequence))
    log.close()
    for name in os.listdir(log.directory):
        path = os.path.join(log.directory, name)
        if name.endswith(".snapshot"):
            if harm == "remove":
                os.unlink(path)
            elif harm == "truncate":
                os.truncate(path, 12)
            elif harm == "zero":
                overwrite(path, 0, bytes(os.path.getsize(path)))
            else:
                overwrite(path, 20, b"\xff\xff")
    again = open_log(recovery_point=60, clean_shutdown=True)
    assert again.producers.get(7).last_sequence == 59
    assert again.producers.get(7).producer_epoch == 3


def test_producers_come_back_from_the_snapshot_and_the_batches_behind_it(open_log, batches):
    log = open_log()
    for sequence in range(0, 60, 2):
        batches.append(log, 2, producer=(7, 3, sequence))
    log.release()
    again = open_log(recovery_point=40)
    assert again.producers.get(7).last_sequence == 59
    assert f"{60:020d}.snapshot" in os.listdir(log.directory)


def test_log_start_offset_is_honoured(open_log, batches, values_in):
    log = open_log()
    written = fill(log, batches)
    log.close()
    again = open_log(recovery_point=30, log_start_offset=17)
    assert again.log_start_offset == 17
    assert list(values_in(again).values()) == written[17:]
    assert again.epochs.entries[0].start_offset == 17


def test_a_log_wholly_below_its_start_offset_starts_over(open_log, batches, values_in):
    log = open_log()
    fill(log, batches)
    log.release()
    again = open_log(recovery_point=10, log_start_offset=50)
    assert (again.log_start_offset, again.log_end_offset) == (50, 50)
    values = batches.append(again, 1)
    assert values_in(again) == {50: values[0]}


def test_leftovers_of_deletion_and_cleaning_are_removed(open_log, batches, values_in):
    log = open_log()
    written = fill(log, batches)
    log.release()
    names = [f"{0:020d}.log.deleted", f"{3:020d}.index.deleted", f"{5:020d}.log.cleaned", f"{9:020d}.log.swap"]
    kept = "00000000000000000004-0000000001.checkpoint.deleted"
    for name in (*names, kept, f"{77777:020d}.index"):
        with open(os.path.join(log.directory, name), "wb") as file:
            file.write(b"x")
    again = open_log(recovery_point=0)
    assert list(values_in(again).values()) == written
    left = os.listdir(log.directory)
    assert kept in left
    assert not set(names) & set(left)
    assert f"{77777:020d}.index" not in left


def test_an_interrupted_swap_is_finished(open_log, batches, values_in, tmp_path):
    log = open_log()
    written = fill(log, batches)
    log.close()
    first, second, third = log.segments[:3]
    merged = tmp_path / "merged"
    with open(merged, "wb") as target:
        for segment in (first, second):
            with open(segment.log_path, "rb") as source:
                shutil.copyfileobj(source, target)
    os.rename(merged, first.log_path + ".swap")
    again = open_log(recovery_point=30)
    assert [segment.base_offset for segment in again.segments[:2]] == [first.base_offset, third.base_offset]
    assert list(values_in(again).values()) == written


def test_old_message_formats_are_refused_not_cut(open_log, batches):
    log = open_log()
    fill(log, batches)
    active = log.active_segment
    log.release()
    with open(active.log_path, "rb") as file:
        size = int.from_bytes(file.read(12)[8:])
        message = b"\x01" + file.read(size)[5:]
    overwrite(active.log_path, 12, crc32(message).to_bytes(4) + message)
    before = snapshot_of(log.directory)
    with pytest.raises(CorruptLogError, match="format 1"):
        open_log(recovery_point=0)
    assert snapshot_of(log.directory) == before


def test_preallocated_segments_are_cut_when_sealed_and_recovered(open_log, batches, small, values_in):
    log = open_log(config=replace(small, preallocate=True))
    written = fill(log, batches)
    assert os.path.getsize(log.segments[0].log_path) == log.segments[0].size
    assert os.path.getsize(log.active_segment.log_path) == small.segment_bytes
    log.release()
    assert list(values_in(open_log(recovery_point=0)).values()) == written

import asyncio
import errno
import os
import threading

import pytest

from ottla.storage.group_commit import GroupCommit
from ottla.storage.log import Log
from ottla.testing.crash_images import FaultyDisk
from ottla.wire.errors import ErrorCode, KafkaError


class SlowDisk(FaultyDisk):
    """Counts data syncs and holds each until told."""

    def __init__(self) -> None:
        super().__init__(lambda number, kind, path: None)
        self.syncs = 0
        self.go = threading.Semaphore(0)
        self.error: OSError | None = None
        self.entered = threading.Event()

    def sync_data(self, fd: int) -> None:
        self.entered.set()
        self.go.acquire()
        self.syncs += 1
        if self.error is not None:
            raise self.error


def failed(path, error):
    raise AssertionError(f"{path}: {error}")


async def in_thread(call, *arguments):
    return await asyncio.to_thread(call, *arguments)


def test_an_append_is_acknowledged_after_its_flush(open_log, batches):
    async def scenario():
        disk = SlowDisk()
        log = open_log(disk=disk)
        commit = GroupCommit(on_failed=failed)
        batches.append(log, 3)
        waiting = commit.wait_flushed(log, 3)
        await in_thread(disk.entered.wait)
        assert not waiting.done()
        disk.go.release()
        await asyncio.wait_for(waiting, 5)
        assert log.recovery_point == 3
        assert commit.wait_flushed(log, 3).done()
        commit.close()

    asyncio.run(scenario())


def test_all_that_wait_during_a_flush_share_the_next(open_log, batches):
    async def scenario():
        disk = SlowDisk()
        log = open_log(disk=disk)
        commit = GroupCommit(on_failed=failed)
        batches.append(log)
        first = commit.wait_flushed(log, 1)
        await in_thread(disk.entered.wait)
        later = []
        for _ in range(50):
            batches.append(log, size=1)
            later.append(commit.wait_flushed(log, log.log_end_offset))
        disk.go.release()
        await asyncio.wait_for(first, 5)
        assert not any(future.done() for future in later), "what was appended after a flush began is not covered by it"
        for _ in range(60):
            disk.go.release()
        await asyncio.wait_for(asyncio.gather(*later), 5)
        segments = len(log.segments)
        assert disk.syncs == 1 + segments
        assert commit.rounds == 2
        commit.close()

    asyncio.run(scenario())


def test_after_a_failed_flush_nothing_is_acknowledged(open_log, batches):
    async def scenario():
        failures = []
        disk = SlowDisk()
        log = open_log(disk=disk)
        commit = GroupCommit(on_failed=lambda path, error: failures.append((path, error.errno)))
        disk.error = OSError(errno.EIO, "Input/output error")
        for _ in range(100):
            disk.go.release()
        batches.append(log)
        with pytest.raises(KafkaError) as raised:
            await asyncio.wait_for(commit.wait_flushed(log, 1), 5)
        assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
        assert failures[0] == (log.log_directory, errno.EIO)
        disk.error = None
        with pytest.raises(KafkaError):
            await asyncio.wait_for(commit.wait_flushed(log, 1), 5)
        with pytest.raises(KafkaError):
            batches.append(log)
        assert log.recovery_point == 0
        commit.close()

    asyncio.run(scenario())


def test_another_log_of_the_failed_directory_is_refused_too(open_log, batches, tmp_path, small):
    async def scenario():
        from ottla.model import TopicPartition

        disk = SlowDisk()
        log = open_log(disk=disk)
        other = Log.open(tmp_path / "clicks-0", TopicPartition("clicks", 0), small)
        commit = GroupCommit(on_failed=lambda path, error: None)
        disk.error = OSError(errno.EIO, "Input/output error")
        for _ in range(10):
            disk.go.release()
        batches.append(log)
        with pytest.raises(KafkaError):
            await asyncio.wait_for(commit.wait_flushed(log, 1), 5)
        batches.append(other)
        with pytest.raises(KafkaError):
            await asyncio.wait_for(commit.wait_flushed(other, 1), 5)
        other.release()
        commit.close()

    asyncio.run(scenario())


def test_close_finishes_what_is_queued(open_log, batches):
    async def scenario():
        log = open_log()
        commit = GroupCommit(on_failed=failed)
        batches.append(log)
        waiting = commit.wait_flushed(log, 1)
        await in_thread(commit.close)
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_a_truncated_append_is_not_acknowledged(open_log, batches):
    async def scenario():
        disk = SlowDisk()
        log = open_log(disk=disk)
        commit = GroupCommit(on_failed=failed)
        for _ in range(100):
            disk.go.release()
        batches.append(log)
        batches.append(log)
        log.truncate_to(1)
        with pytest.raises(KafkaError) as raised:
            await asyncio.wait_for(commit.wait_flushed(log, 2), 5)
        assert raised.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER
        commit.close()

    asyncio.run(scenario())


def test_concurrent_appends_and_flushes_lose_nothing(open_log, batches, values_in):
    async def scenario():
        log = open_log()
        before = threading.enumerate()
        commit = GroupCommit(on_failed=failed)
        written = []

        async def produce():
            for _ in range(40):
                written.extend(batches.append(log, 1))
                end = log.log_end_offset
                await asyncio.wait_for(commit.wait_flushed(log, end), 10)
                assert log.recovery_point >= end

        await asyncio.gather(*(produce() for _ in range(5)))
        assert list(values_in(log).values()) == written
        await in_thread(commit.close)
        assert not [thread for thread in threading.enumerate() if "ottla" in thread.name and thread not in before]
        assert os.path.exists(log.directory)

    asyncio.run(scenario())

import asyncio
import errno
import os
import select
import threading
import time
from functools import partial

import pytest

from ottla.model import TopicPartition
from ottla.runtime.futures import settle
from ottla.storage.group_commit import GroupCommit
from ottla.storage.kernel_sync import KernelSync, Synced
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


def wait_flushed(commit, log, offset):
    future = asyncio.get_running_loop().create_future()
    commit.when_flushed(log, offset, partial(settle, future))
    return future


def test_an_append_is_acknowledged_after_its_flush(open_log, batches):
    async def scenario():
        disk = SlowDisk()
        log = open_log(disk=disk)
        commit = GroupCommit(on_failed=failed)
        batches.append(log, 3)
        waiting = wait_flushed(commit, log, 3)
        await in_thread(disk.entered.wait)
        assert not waiting.done()
        disk.go.release()
        await asyncio.wait_for(waiting, 5)
        assert log.recovery_point == 3
        await asyncio.wait_for(wait_flushed(commit, log, 3), 5)
        assert disk.syncs == 1
        commit.close()

    asyncio.run(scenario())


def test_a_new_log_is_settled_without_a_record(open_log, batches, tmp_path):
    async def scenario():
        synced = []

        def note(number, kind, path):
            if kind.startswith("sync"):
                synced.append(os.path.basename(path))

        log = open_log(disk=FaultyDisk(note))
        log.note_created()
        log.epochs.assign(0, 0)
        commit = GroupCommit(on_failed=failed)
        await asyncio.wait_for(commit.wait_settled(log), 5)
        assert {"orders-0", os.path.basename(tmp_path)} <= set(synced)
        synced.clear()
        batches.append(log)
        await asyncio.wait_for(wait_flushed(commit, log, 1), 5)
        assert synced == [os.path.basename(log.active_segment.log_path)]
        commit.close()

    asyncio.run(scenario())


def test_a_log_of_a_failed_directory_is_not_settled(open_log, batches):
    async def scenario():
        disk = SlowDisk()
        disk.error = OSError(errno.EIO, "the disk is gone")
        log = open_log(disk=disk)
        disk.go.release(10)
        errors = []
        commit = GroupCommit(on_failed=lambda path, error: errors.append(error))
        for _ in range(2):
            with pytest.raises(KafkaError) as caught:
                await asyncio.wait_for(commit.wait_settled(log), 5)
            assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
        assert errors == [disk.error]
        commit.close()

    asyncio.run(scenario())


def test_all_that_wait_during_a_flush_share_the_next(open_log, batches):
    async def scenario():
        disk = SlowDisk()
        log = open_log(disk=disk)
        commit = GroupCommit(on_failed=failed)
        batches.append(log)
        first = wait_flushed(commit, log, 1)
        await in_thread(disk.entered.wait)
        later = []
        for _ in range(50):
            batches.append(log, size=1)
            later.append(wait_flushed(commit, log, log.log_end_offset))
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
            await asyncio.wait_for(wait_flushed(commit, log, 1), 5)
        assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
        assert failures[0] == (log.log_directory, errno.EIO)
        disk.error = None
        with pytest.raises(KafkaError):
            await asyncio.wait_for(wait_flushed(commit, log, 1), 5)
        with pytest.raises(KafkaError):
            batches.append(log)
        assert log.recovery_point == 0
        commit.close()

    asyncio.run(scenario())


def test_another_log_of_the_failed_directory_is_refused_too(open_log, another_log, batches):
    async def scenario():
        disk = SlowDisk()
        log, other = open_log(disk=disk), another_log()
        commit = GroupCommit(on_failed=lambda path, error: None)
        disk.error = OSError(errno.EIO, "Input/output error")
        for _ in range(10):
            disk.go.release()
        batches.append(log)
        with pytest.raises(KafkaError):
            await asyncio.wait_for(wait_flushed(commit, log, 1), 5)
        batches.append(other)
        with pytest.raises(KafkaError):
            await asyncio.wait_for(wait_flushed(commit, other, 1), 5)
        commit.close()

    asyncio.run(scenario())


def test_close_finishes_what_is_queued(open_log, batches):
    async def scenario():
        log = open_log()
        commit = GroupCommit(on_failed=failed)
        batches.append(log)
        waiting = wait_flushed(commit, log, 1)
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
            await asyncio.wait_for(wait_flushed(commit, log, 2), 5)
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
                await asyncio.wait_for(wait_flushed(commit, log, end), 10)
                assert log.recovery_point >= end

        await asyncio.gather(*(produce() for _ in range(5)))
        assert list(values_in(log).values()) == written
        await in_thread(commit.close)
        assert not [thread for thread in threading.enumerate() if "ottla" in thread.name and thread not in before]
        assert os.path.exists(log.directory)

    asyncio.run(scenario())


class StubKernel:
    """A kernel queue whose syncs end when the test says so."""

    def __init__(self, takes: int = 128) -> None:
        self.takes = takes
        self.submitted: list[tuple[int, int]] = []
        self.rounds = 0
        self.closed = False
        self._ended: list[Synced] = []
        self._event = os.eventfd(0, os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._event

    def submit(self, syncs):
        taken = [] if self.closed else list(syncs[: self.takes])
        self.submitted += taken
        self.rounds += bool(taken)
        return len(taken)

    def end(self, error: int = 0) -> None:
        self._ended += [Synced(token, error) for token, _ in self.submitted]
        self.submitted.clear()
        os.eventfd_write(self._event, 1)

    def reap(self):
        os.eventfd_read(self._event)
        ended, self._ended = self._ended, []
        return ended

    def close(self):
        self.closed = True
        self.end()
        ended, self._ended = self._ended, []
        return ended

    def close_descriptor(self) -> None:
        os.close(self._event)


@pytest.fixture
def another_log(tmp_path, small):
    """A log of the same directory that stays open beside the one of ``open_log``."""
    log = Log.open(tmp_path / "clicks-0", TopicPartition("clicks", 0), small)
    yield lambda: log
    log.release()


async def settled(open_log, batches, commit, **options):
    """A log whose files are all durable: from here on only its active segment's file needs syncs."""
    log = open_log(**options)
    batches.append(log)
    await in_thread(log.flush)
    assert log.begin_flush() is not None
    return log


def test_one_round_of_the_kernel_serves_all_appends_of_a_turn(open_log, batches):
    async def scenario():
        kernel = StubKernel()
        commit = GroupCommit(on_failed=failed, open_kernel=lambda: kernel)
        log = await settled(open_log, batches, commit)
        waiting = []
        for _ in range(3):
            batches.append(log)
            waiting.append(wait_flushed(commit, log, log.log_end_offset))
        await asyncio.sleep(0.01)
        assert len(kernel.submitted) == 1
        batches.append(log)
        late = wait_flushed(commit, log, log.log_end_offset)
        await asyncio.sleep(0.01)
        assert not any(future.done() for future in waiting)
        kernel.end()
        await asyncio.wait_for(asyncio.gather(*waiting), 5)
        assert not late.done(), "what was appended after the sync began is not covered by it"
        assert log.recovery_point == log.log_end_offset - 1
        kernel.end()
        await asyncio.wait_for(late, 5)
        assert log.recovery_point == log.log_end_offset
        assert kernel.rounds == 2
        commit.close()
        await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_a_sync_that_fails_in_the_kernel_ends_all_acknowledgement(open_log, batches):
    async def scenario():
        kernel, failures = StubKernel(), []
        commit = GroupCommit(
            on_failed=lambda path, error: failures.append((path, error.errno)), open_kernel=lambda: kernel
        )
        log = await settled(open_log, batches, commit)
        batches.append(log)
        waiting = wait_flushed(commit, log, log.log_end_offset)
        await asyncio.sleep(0.01)
        kernel.end(errno.EIO)
        with pytest.raises(KafkaError) as raised:
            await asyncio.wait_for(waiting, 5)
        assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
        assert failures == [(log.log_directory, errno.EIO)]
        assert log.recovery_point == log.log_end_offset - 1
        with pytest.raises(KafkaError):
            await asyncio.wait_for(wait_flushed(commit, log, log.log_end_offset), 5)
        commit.close()
        await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_what_the_kernel_does_not_take_goes_to_threads(open_log, batches):
    async def scenario():
        kernel = StubKernel(takes=0)
        commit = GroupCommit(on_failed=failed, open_kernel=lambda: kernel)
        log = await settled(open_log, batches, commit)
        batches.append(log)
        await asyncio.wait_for(wait_flushed(commit, log, log.log_end_offset), 5)
        assert log.recovery_point == log.log_end_offset
        log.roll(0)
        batches.append(log)
        assert log.begin_flush() is None, "a new segment needs its directory synced too"
        await asyncio.wait_for(wait_flushed(commit, log, log.log_end_offset), 5)
        commit.close()
        await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_a_sync_in_the_kernel_does_not_vouch_for_what_was_truncated_under_it(open_log, batches):
    async def scenario():
        kernel = StubKernel()
        commit = GroupCommit(on_failed=failed, open_kernel=lambda: kernel)
        log = await settled(open_log, batches, commit)
        batches.append(log)
        waiting = wait_flushed(commit, log, 2)
        await asyncio.sleep(0.01)
        log.truncate_to(1)
        batches.append(log)
        kernel.end()
        with pytest.raises(KafkaError) as raised:
            await asyncio.wait_for(waiting, 5)
        assert raised.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert log.recovery_point == 1
        commit.close()
        await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_close_waits_for_the_kernel_and_hands_the_rest_to_threads(open_log, batches):
    async def scenario():
        kernel = StubKernel()
        commit = GroupCommit(on_failed=failed, open_kernel=lambda: kernel)
        log = await settled(open_log, batches, commit)
        batches.append(log)
        running = wait_flushed(commit, log, log.log_end_offset)
        await asyncio.sleep(0.01)
        batches.append(log)
        queued = wait_flushed(commit, log, log.log_end_offset)
        await in_thread(commit.close)
        await asyncio.wait_for(asyncio.gather(running, queued), 5)
        assert kernel.closed

    asyncio.run(scenario())


def test_the_real_kernel_syncs_and_reports_errors(tmp_path):
    kernel = KernelSync.open()
    if kernel is None:
        pytest.skip("this system has no asynchronous syncs")
    paths = [tmp_path / f"file-{number}" for number in range(5)]
    files = [path.open("wb", buffering=0) for path in paths]
    for file in files:
        file.write(b"x" * 4096)
    read_end, write_end = os.pipe()
    try:
        assert kernel.submit([(number, file.fileno()) for number, file in enumerate(files)]) == 5
        ended = []
        while len(ended) < 5:
            select.select([kernel.fileno()], [], [], 5)
            ended += kernel.reap()
        assert sorted(ended) == [Synced(number, 0) for number in range(5)]
        assert kernel.in_flight == 0
        # A pipe cannot be synced: refused when submitted, like a kernel that does not know the command.
        assert kernel.submit([(7, write_end)]) == 0
        assert kernel.submit([(8, files[0].fileno())]) == 1
        assert kernel.close() == [Synced(8, 0)]
        assert kernel.submit([(9, files[0].fileno())]) == 0
    finally:
        kernel.close_descriptor()
        os.close(read_end)
        os.close(write_end)
        for file in files:
            file.close()


def test_the_kernel_is_not_asked_while_a_thread_has_yet_to_sync_the_directory(open_log, batches):
    """A segment whose name may be lost is not durable, whatever the sync of its file says."""

    class SlowDirectories(FaultyDisk):
        def __init__(self) -> None:
            super().__init__(lambda number, kind, path: None)
            self.entered, self.go, self.holds = threading.Event(), threading.Event(), False

        def sync_path(self, path: str) -> None:
            if self.holds and os.path.isdir(path):
                self.entered.set()
                self.go.wait(5)
            super().sync_path(path)

    async def scenario():
        disk = SlowDirectories()
        log = open_log(disk=disk)
        batches.append(log)
        await in_thread(log.flush)
        log.roll(0)
        disk.holds = True
        flushing = asyncio.ensure_future(in_thread(log.flush))
        await in_thread(disk.entered.wait, 5)
        batches.append(log)
        assert log.begin_flush() is None
        disk.go.set()
        await flushing
        assert log.begin_flush() is not None

    asyncio.run(scenario())


def test_a_round_that_ends_while_the_kernel_closes_begins_no_other(open_log, batches):
    class SlowToClose(StubKernel):
        def close(self):
            self.closed = True
            self.end()
            time.sleep(0.1)  # the loop hears of the end of the round meanwhile
            return []

    async def scenario():
        kernel = SlowToClose()
        commit = GroupCommit(on_failed=failed, open_kernel=lambda: kernel)
        log = await settled(open_log, batches, commit)
        batches.append(log)
        running = wait_flushed(commit, log, log.log_end_offset)
        await asyncio.sleep(0.01)
        batches.append(log)
        queued = wait_flushed(commit, log, log.log_end_offset)
        await in_thread(commit.close)
        await asyncio.wait_for(asyncio.gather(running, queued), 5)
        assert kernel.rounds == 1

    asyncio.run(scenario())


class Told:
    """Collects what becomes of flushes that nobody waits for."""

    def __init__(self, commit, log):
        self.commit, self.log, self.outcomes = commit, log, []

    def append(self, batches):
        batches.append(self.log)
        self.commit.when_flushed(self.log, self.log.log_end_offset, self.outcomes.append, awaited=False)


async def rested(open_log, batches, commit, kernel, **options):
    """A log of which something rests, because something else that nobody waited for went just now."""
    told = Told(commit, await settled(open_log, batches, commit, **options))
    told.append(batches)
    await asyncio.sleep(0)
    assert len(kernel.submitted) == 1, "the first goes at once"
    kernel.end()
    while not told.outcomes:
        await asyncio.sleep(0)
    told.append(batches)
    return told


@pytest.fixture
def long_rest(monkeypatch):
    monkeypatch.setattr("ottla.storage.group_commit.REST_SECONDS", 30.0)


def test_what_nobody_waits_for_rests_until_somebody_does(open_log, batches, long_rest):
    async def scenario():
        kernel = StubKernel()
        commit = GroupCommit(on_failed=failed, open_kernel=lambda: kernel)
        told = await rested(open_log, batches, commit, kernel)
        await asyncio.sleep(0.05)
        assert not kernel.submitted
        commit.hurry(told.log)
        commit.hurry(told.log)
        await asyncio.sleep(0.01)
        assert len(kernel.submitted) == 1
        kernel.end()
        await asyncio.sleep(0.01)
        assert told.outcomes == [None, None]
        assert told.log.recovery_point == told.log.log_end_offset
        commit.close()
        await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_what_rests_of_a_log_goes_with_what_somebody_waits_for(open_log, batches, long_rest):
    async def scenario():
        kernel = StubKernel()
        commit = GroupCommit(on_failed=failed, open_kernel=lambda: kernel)
        told = await rested(open_log, batches, commit, kernel)
        batches.append(told.log)
        waiting = wait_flushed(commit, told.log, told.log.log_end_offset)
        await asyncio.sleep(0.01)
        assert len(kernel.submitted) == 1
        kernel.end()
        await asyncio.wait_for(waiting, 5)
        assert told.outcomes == [None, None]
        assert kernel.rounds == 2
        commit.close()
        await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_a_rest_ends_by_itself_for_all_logs_in_one_round(open_log, another_log, batches, monkeypatch):
    monkeypatch.setattr("ottla.storage.group_commit.REST_SECONDS", 0.2)

    async def scenario():
        kernel = StubKernel()
        commit = GroupCommit(on_failed=failed, open_kernel=lambda: kernel)
        other = Told(commit, await settled(another_log, batches, commit))
        told = await rested(open_log, batches, commit, kernel)
        other.append(batches)
        assert not kernel.submitted
        async with asyncio.timeout(5):
            while not kernel.submitted:
                await asyncio.sleep(0.01)
        assert len(kernel.submitted) == 2
        kernel.end()
        await asyncio.sleep(0.01)
        assert (told.outcomes, other.outcomes) == ([None, None], [None])
        assert kernel.rounds == 2
        commit.close()
        await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_nothing_rests_when_the_end_is_near(open_log, batches, long_rest):
    async def scenario():
        kernel = StubKernel()
        commit = GroupCommit(on_failed=failed, open_kernel=lambda: kernel)
        told = await rested(open_log, batches, commit, kernel)
        commit.drain()
        await asyncio.sleep(0)
        assert len(kernel.submitted) == 1
        told.append(batches)
        await in_thread(commit.close)
        assert told.log.recovery_point == told.log.log_end_offset
        await asyncio.sleep(0.01)
        assert told.outcomes == [None, None, None]

    asyncio.run(scenario())


def test_what_rests_when_its_directory_fails_is_told_so(open_log, another_log, batches, long_rest):
    async def scenario():
        kernel, failures = StubKernel(), []
        commit = GroupCommit(on_failed=lambda path, error: failures.append(error.errno), open_kernel=lambda: kernel)
        other = await settled(another_log, batches, commit)
        told = await rested(open_log, batches, commit, kernel)
        batches.append(other)
        waiting = wait_flushed(commit, other, other.log_end_offset)
        await asyncio.sleep(0.01)
        kernel.end(errno.EIO)
        with pytest.raises(KafkaError):
            await asyncio.wait_for(waiting, 5)
        commit.hurry(told.log)
        await asyncio.sleep(0.01)
        assert failures == [errno.EIO]
        assert not kernel.submitted
        assert [error and error.code for error in told.outcomes] == [None, ErrorCode.KAFKA_STORAGE_ERROR]
        commit.close()
        await asyncio.sleep(0.01)

    asyncio.run(scenario())

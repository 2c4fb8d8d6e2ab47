"""Making appends durable off the event loop: one flush serves all who wait.

Appends that arrive while a flush runs are taken together by the next. The loop never waits for the disk. Where a log
needs nothing but its active segment's file on disk, which is nearly always, and the kernel syncs by itself
(``kernel_sync``), rounds of such logs go there with one call. The rest, a fresh segment or directory, and everything on
other systems, goes to the lane of its log directory: a thread that takes all that is queued, flushes the logs
concerned, each once, and wakes the loop once.

What nobody waits for (records of acks=1 producers, say, that no consumer is out for) rests for a while after the last
of its kind, so that its rounds do not follow each other without a pause, and goes at once when somebody does:
``hurry``.

After a flush has failed nothing of that directory is acknowledged again: the kernel may have dropped what it could not
write and then report success.
"""

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic, sleep
from typing import Final, NamedTuple

from ottla.runtime.futures import settle
from ottla.runtime.turn import Turn, of_running_loop
from ottla.storage.errors import storage_error
from ottla.storage.kernel_sync import KernelSync, Synced
from ottla.storage.log import Log, PendingFlush
from ottla.wire.errors import ErrorCode, KafkaError

SERIAL_FLUSHES_MAX: Final = 8
"""So many logs are synced one after the other: six small ones took 0.75 ms so, and 0.68 ms in parallel at twice the
CPU, because threads that share an interpreter have to hand it over for each file."""
PARALLEL_FLUSHES: Final = 4
"""Files synced at the same time in one directory; several small ones cost little more than one."""
REST_SECONDS: Final = 0.005
"""Between two rounds that nobody waits for (decision 0010)."""
DESCRIPTORS_WAIT_SECONDS: Final = 30.0
DESCRIPTORS_RETRY_SECONDS: Final = 0.05


Resolve = Callable[[KafkaError | None], None]


class Waiter(NamedTuple):
    """Somebody who waits until ``log`` is durable below ``offset``; without ``resolve`` nobody does, but flush it."""

    log: Log
    offset: int
    resolve: Resolve | None


class GroupCommit:
    """The lanes of all log directories. Made on the loop it serves; ``close`` ends its threads."""

    def __init__(
        self, *, on_failed: Callable[[str, OSError], None], open_kernel: Callable[[], KernelSync | None] | None = None
    ) -> None:
        """``on_failed(log directory, error)`` is called on the loop at the first failed flush of a directory.

        ``open_kernel`` is called at the first flush, and what it gives is closed with this.
        """
        self._turn = of_running_loop()
        self._on_failed = on_failed
        self._lanes: dict[str, _Lane] = {}
        self._failed: set[str] = set()
        self._open_kernel = open_kernel
        self._kernel: _KernelRounds | None = None
        self._resting: dict[Log, list[tuple[int, Resolve]]] = {}
        self._rests_until = 0.0
        self._wakes_soon = False
        self._draining = False
        self.rounds = 0
        """Flush rounds that have ended."""

    def wait_settled(self, log: Log) -> asyncio.Future[None]:
        """Done when what is new of ``log``, its names above all, is durable, records or not; fails
        with KAFKA_STORAGE_ERROR."""
        future: asyncio.Future[None] = self._turn.loop.create_future()
        if self._has_failed(log):
            settle(future, self._verdict(log, log.log_end_offset))
        else:
            self._queue(Waiter(log, log.log_end_offset, partial(settle, future)))
        return future

    def when_flushed(self, log: Log, offset: int, resolve: Resolve, *, awaited: bool = True) -> None:
        """Call ``resolve`` when all records of ``log`` below ``offset`` are durable, or with what came in between
        (KAFKA_STORAGE_ERROR, truncated): on the loop, in the step that learns of it; never within this one.

        Where it is not ``awaited`` it may rest for ``REST_SECONDS``, until somebody calls ``hurry``.
        """
        if awaited:
            self.hurry(log)
        if self._has_failed(log) or log.recovery_point >= offset:
            self._turn.at_end(partial(resolve, self._verdict(log, offset)))
        elif awaited or self._may_begin():
            self._add(Waiter(log, offset, resolve))
        else:
            self._resting.setdefault(log, []).append((offset, resolve))

    def hurry(self, log: Log) -> None:
        """Somebody waits for ``log`` by now: what rests of it is flushed at once. On the loop."""
        for offset, resolve in self._resting.pop(log, ()):
            self.when_flushed(log, offset, resolve)

    def flush_soon(self, log: Log) -> None:
        """Flush ``log`` without anybody waiting: a segment was sealed."""
        if not self._has_failed(log):
            self._add(Waiter(log, log.log_end_offset, None))

    def drain(self) -> None:
        """From here on nothing rests. On the loop, before ``close``."""
        self._draining = True
        self._end_rests()

    def close(self) -> None:
        """Finish the rounds that are queued and end the threads. Blocking, for as long as a flush takes; any thread."""
        if self._kernel is not None:
            self._kernel.close()
        for lane in self._lanes.values():
            lane.queue.put(None)
        for lane in self._lanes.values():
            lane.thread.join()
            lane.pool.shutdown()
        self._lanes.clear()

    def _has_failed(self, log: Log) -> bool:
        return log.failure is not None or (bool(self._failed) and log.log_directory in self._failed)

    def _may_begin(self) -> bool:
        """Whether what nobody waits for may be flushed now; if not, all that rests is, as soon as it may."""
        loop = self._turn.loop
        now = loop.time()
        if now >= self._rests_until or self._draining:
            self._rests_until = now + REST_SECONDS
            return True
        if not self._wakes_soon:
            self._wakes_soon = True
            loop.call_at(self._rests_until, self._turn.run, self._wake)
        return False

    def _wake(self) -> None:
        self._wakes_soon = False
        if self._resting:
            self._rests_until = self._turn.loop.time() + REST_SECONDS
            self._end_rests()

    def _end_rests(self) -> None:
        for log in tuple(self._resting):
            self.hurry(log)

    def _add(self, waiter: Waiter) -> None:
        log = waiter.log
        log.fill_ahead.before_flush(log.active_segment, log.config.segment_bytes)
        if self._open_kernel is not None:
            self._begin_with_kernel(self._open_kernel)
        if self._kernel is not None:
            self._kernel.add(waiter)
        else:
            self._queue(waiter)

    def _begin_with_kernel(self, open_kernel: Callable[[], KernelSync | None]) -> None:
        self._open_kernel = None
        kernel = open_kernel()
        if kernel is not None:
            self._kernel = _KernelRounds(kernel, self._turn, self._queue, self._finish)

    def _queue(self, waiter: Waiter) -> None:
        self._lane(waiter.log).queue.put(waiter)

    def _lane(self, log: Log) -> "_Lane":
        directory = log.log_directory
        lane = self._lanes.get(directory)
        if lane is None:
            lane = self._lanes[directory] = _Lane(directory, self._turn, self._finish)
        return lane

    def _finish(self, directory: str, waiters: list[Waiter], error: Exception | None) -> None:
        """On the loop: a round has ended."""
        self.rounds += 1
        if error is None:
            for log, offset, resolve in waiters:
                if resolve is not None:
                    resolve(self._verdict(log, offset))
            return
        self._failed.add(directory)
        if isinstance(error, OSError):
            self._on_failed(directory, error)
        for log, _, resolve in waiters:
            if isinstance(error, OSError):
                log.fail(error)
            if resolve is not None:
                resolve(storage_error(f"{directory} could not be flushed: {error}"))

    def _verdict(self, log: Log, offset: int) -> KafkaError | None:
        if self._has_failed(log):
            return storage_error(f"{log.log_directory} is offline")
        if log.recovery_point < offset:
            return KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "the records were truncated")
        return None


class _KernelRounds:
    """One round at a time, of all directories; what arrives meanwhile forms the next. Lives on the loop."""

    def __init__(
        self,
        kernel: KernelSync,
        turn: Turn,
        pass_on: Callable[[Waiter], None],
        finish: Callable[[str, list[Waiter], Exception | None], None],
    ) -> None:
        self._kernel = kernel
        self._turn = turn
        self._pass_on = pass_on
        self._finish = finish
        self._waiting: list[Waiter] = []
        self._running: dict[int, tuple[PendingFlush, list[Waiter]]] = {}
        self._begin_soon = False
        self._closed = False
        self._closing = Lock()
        """Between the loop and ``close``, which may come from any thread."""
        turn.loop.add_reader(kernel.fileno(), turn.run, self._on_synced)

    def add(self, waiter: Waiter) -> None:
        with self._closing:
            if self._closed:
                self._pass_on(waiter)
                return
            self._waiting.append(waiter)
        if not self._running and not self._begin_soon:
            # Not now: whatever else this turn appends shares the round.
            self._begin_soon = True
            self._turn.at_end(self._begin)

    def close(self) -> None:
        """Wait for the round that runs; what waits for the next goes to the lanes. Any thread."""
        with self._closing:
            self._closed = True
            self._give_up(self._waiting)
            self._waiting = []
        ended = self._kernel.close()
        try:
            self._turn.run_from_thread(partial(self._end, ended))
        except RuntimeError:
            # The loop has been closed: nobody waits any more.
            self._kernel.close_descriptor()

    def _end(self, ended: list[Synced]) -> None:
        self._turn.loop.remove_reader(self._kernel.fileno())
        self._kernel.close_descriptor()
        self._settle(ended)

    def _begin(self) -> None:
        self._begin_soon = False
        with self._closing:
            waiting, self._waiting = self._waiting, []
            self._submit(waiting)

    def _submit(self, waiting: list[Waiter]) -> None:
        by_log: dict[int, list[Waiter]] = {}
        for waiter in waiting:
            by_log.setdefault(id(waiter.log), []).append(waiter)
        syncs: list[tuple[int, int]] = []
        for token, waiters in by_log.items():
            pending = waiters[0].log.begin_flush()
            if pending is None:
                self._give_up(waiters)
            else:
                self._running[token] = pending, waiters
                syncs.append((token, pending.handle.fd))
        taken = self._kernel.submit(syncs)
        for token, _ in syncs[taken:]:
            self._give_up(self._running.pop(token)[1])

    def _give_up(self, waiters: list[Waiter]) -> None:
        for waiter in waiters:
            self._pass_on(waiter)

    def _on_synced(self) -> None:
        self._settle(self._kernel.reap())
        if self._waiting and not self._running and not self._begin_soon:
            self._begin()

    def _settle(self, ended: list[Synced]) -> None:
        for token, code in ended:
            pending, waiters = self._running.pop(token)
            log = waiters[0].log
            if code == 0:
                log.end_flush(pending)
                self._finish(log.log_directory, waiters, None)
            else:
                self._finish(log.log_directory, waiters, OSError(code, os.strerror(code), pending.handle.path))


class _Lane:
    """One log directory's queue and the thread that serves it."""

    def __init__(
        self,
        directory: str,
        turn: Turn,
        finish: Callable[[str, list[Waiter], Exception | None], None],
    ) -> None:
        self.directory = directory
        self.queue: SimpleQueue[Waiter | None] = SimpleQueue()
        self.pool = ThreadPoolExecutor(PARALLEL_FLUSHES, thread_name_prefix="ottla-flush")
        self._turn = turn
        self._finish = finish
        self._failure: Exception | None = None
        self.thread = Thread(target=self._serve, name="ottla-group-commit", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        open_ = True
        while open_:
            waiters, open_ = self._take()
            if not waiters:
                continue
            if self._failure is None:
                try:
                    self._flush_patiently(waiters)
                except Exception as error:  # whatever it is: these waiters must not be acknowledged
                    self._failure = error
            try:
                self._turn.run_from_thread(partial(self._finish, self.directory, waiters, self._failure))
            except RuntimeError:
                return  # The loop has been closed: nobody waits any more.

    def _take(self) -> tuple[list[Waiter], bool]:
        """Everything queued, at least one; and whether the lane goes on."""
        waiters = []
        item = self.queue.get()
        while item is not None:
            waiters.append(item)
            try:
                item = self.queue.get_nowait()
            except Empty:
                return waiters, True
        return waiters, False

    def _flush_patiently(self, waiters: list[Waiter]) -> None:
        """Too many open files say nothing against the disk: nothing has been synced in vain, so it is tried again."""
        deadline = monotonic() + DESCRIPTORS_WAIT_SECONDS
        while True:
            try:
                self._flush(waiters)
                return
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE} or monotonic() >= deadline:
                    raise
            sleep(DESCRIPTORS_RETRY_SECONDS)

    def _flush(self, waiters: list[Waiter]) -> None:
        if len(waiters) == 1:
            waiters[0].log.flush()
            return
        logs = {id(waiter.log): waiter.log for waiter in waiters}
        if len(logs) <= SERIAL_FLUSHES_MAX:
            for log in logs.values():
                log.flush()
            return
        for _ in self.pool.map(Log.flush, logs.values()):
            pass

"""Moves replicas from one log directory of this broker to another while they serve (AlterReplicaLogDirs, KIP-113).

A move copies batches as they are, a chunk at a time in a worker thread, until the future log has caught up. The last
step belongs to the loop and is one synchronous block: what was appended meanwhile is copied, everything is flushed, and
the partition goes on with the new log. So whatever was acknowledged or read is as durable there as it was.

A move that is interrupted, by a stop or a kill, goes on after the next start. One that is asked to go elsewhere, or
back, is given up.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from ottla.broker.partition import Partition
from ottla.broker.partitions import Partitions
from ottla.model import TopicPartition, Uuid
from ottla.records.batch import iter_headers, read_header
from ottla.runtime.clock import Clock
from ottla.runtime.supervisor import Supervisor
from ottla.runtime.telemetry import get_logger
from ottla.storage.errors import storage_error
from ottla.storage.log import Log
from ottla.storage.log_directory import LogDirectory
from ottla.storage.log_store import LogStore
from ottla.storage.names import FUTURE_DIRECTORY_SUFFIX, NAME_BYTES_MAX
from ottla.storage.region import FileRegion
from ottla.wire.errors import ErrorCode, KafkaError

log = get_logger(__name__)

CHUNK_BYTES: Final = 1 << 20
RETRY_SECONDS: Final = 5.0
PACE_SECONDS: Final = 0.2
UNTHROTTLED: Final = 2**63 - 1
LAST_CHUNK_BYTES: Final = 64 * 1024
"""A future log that lacks no more than this is taken to the end on the loop."""
CATCH_UP_ROUNDS_MAX: Final = 1000
"""So often the end is chased in the thread, where appends outrun it, before the loop does it."""

Report = Callable[[Uuid, int, Uuid], None]


class _Given(Exception):
    """The move has lost its purpose: cancelled, or the partition is gone or offline."""


class ReplicaMoves:
    """``report`` tells the controller where a replica lies; ``bytes_per_second`` is the throttle as it is now."""

    def __init__(
        self,
        *,
        store: LogStore,
        partitions: Partitions,
        supervisor: Supervisor,
        clock: Clock,
        report: Report,
        bytes_per_second: Callable[[], int],
        moves_max: int,
    ) -> None:
        self._store = store
        self._partitions = partitions
        self._supervisor = supervisor
        self._clock = clock
        self._report = report
        self._bytes_per_second = bytes_per_second
        self._moves: dict[TopicPartition, _Move] = {}
        self._slots = asyncio.Semaphore(max(moves_max, 1))

    def alter(self, key: TopicPartition, path: str) -> None:
        """Move a replica to the log directory ``path``; to the one it lies in: give up its move. Raises
        ``KafkaError``."""
        if len(f"{key}.{'0' * 32}{FUTURE_DIRECTORY_SUFFIX}") > NAME_BYTES_MAX:
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, "The topic name is too long.")
        directory = self._store.directory_named(path)
        if directory is None:
            raise KafkaError(ErrorCode.LOG_DIR_NOT_FOUND, f"Log dir {path} is not found in the config.")
        if directory.failure is not None:
            raise storage_error(f"Log directory {path} is offline")
        if path in self._store.cordoned:
            raise KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"Log directory {path} is cordoned")
        partition = self._hosted(key, path)
        move = self._moves.get(key)
        if move is not None:
            if move.future.log_directory == path:
                return
            self._cancel(key, move)
        if partition.log.log_directory != path:
            self._begin(partition, directory)

    def resume(self) -> None:
        """After a start: go on with the moves that were under way."""
        for key, future in list(self._store.futures.logs.items()):
            try:
                partition = self._partitions.get(key.topic, key.partition)
            except KafkaError as error:
                log.warning("a future log that nobody needs is removed", partition=key, reason=error.message)
                self._store.futures.discard(future, now_ms=self._clock.now_ms())
                continue
            if future.topic_id != partition.topic_id or future.log_directory == partition.log.log_directory:
                self._store.futures.discard(future, now_ms=self._clock.now_ms())
            else:
                self._spawn(partition, future)

    def _hosted(self, key: TopicPartition, path: str) -> Partition:
        try:
            partition = self._partitions.get(key.topic, key.partition)
        except KafkaError as error:
            if error.code is ErrorCode.KAFKA_STORAGE_ERROR:
                raise
            # The replica may be about to come: then it goes there.
            self._store.preferred_directories[key] = path
            if error.code is ErrorCode.NOT_LEADER_OR_FOLLOWER:
                raise KafkaError(ErrorCode.REPLICA_NOT_AVAILABLE, error.message) from error
            raise
        if partition.log.failure is not None:
            raise storage_error(f"Partition {key} is offline")
        return partition

    def _begin(self, partition: Partition, directory: LogDirectory) -> None:
        current = partition.log
        future = self._store.futures.create(
            current, directory, first_batch_offset(current), now_ms=self._clock.now_ms()
        )
        self._spawn(partition, future)

    def _spawn(self, partition: Partition, future: Log) -> None:
        move = _Move(partition, future)
        self._moves[partition.topic_partition] = move
        log.info("moving a replica", partition=partition.topic_partition, to=future.log_directory)
        self._supervisor.spawn(self._run(move), f"move {partition.topic_partition}")

    def _cancel(self, key: TopicPartition, move: "_Move") -> None:
        """Its task removes the future log as soon as no thread writes to it."""
        move.cancelled = True
        del self._moves[key]
        self._store.futures.logs.pop(key, None)

    async def _run(self, move: "_Move") -> None:
        key, future = move.partition.topic_partition, move.future
        try:
            async with self._slots:
                await self._move_patiently(move)
            log.info("moved a replica", partition=key, to=future.log_directory)
        except _Given as reason:
            log.info("a move of a replica ends", partition=key, reason=str(reason))
            if move.partition.log.failure is None:
                self._store.futures.discard(future, now_ms=self._clock.now_ms())
        except KafkaError as error:
            log.warning("a move of a replica is interrupted", partition=key, reason=error.message)
        except OSError as error:
            log.error("a move of a replica failed", partition=key, reason=error)
            future.failure = future.failure or error
            self._store.fail_directory(future.log_directory, error)
        finally:
            if self._moves.get(key) is move:
                del self._moves[key]

    async def _move_patiently(self, move: "_Move") -> None:
        """A full disk is a reason to wait, not to end: what has been copied stays."""
        while True:
            try:
                await self._move(move)
                return
            except KafkaError as error:
                if move.source.failure is not None or move.future.failure is not None:
                    raise
                log.warning(
                    "a move of a replica is put off", partition=move.source.topic_partition, reason=error.message
                )
            await asyncio.sleep(RETRY_SECONDS)

    async def _move(self, move: "_Move") -> None:
        await self._copy_to(move, CHUNK_BYTES)
        await asyncio.to_thread(move.future.flush)
        self._check(move)
        await asyncio.to_thread(self._store.futures.move_in, move.future)
        for _ in range(CATCH_UP_ROUNDS_MAX):
            await self._copy_to(move, LAST_CHUNK_BYTES)
            await asyncio.to_thread(move.future.flush)
            self._check(move)
            if not move.must_start_over and move.lag <= LAST_CHUNK_BYTES:
                break
        self._finish(move)

    async def _copy_to(self, move: "_Move", bytes_max: int) -> None:
        """Copy until the end of the log as it then is."""
        while True:
            self._check(move)
            if move.must_start_over:
                await self._start_over(move)
                continue
            region = move.next_region(bytes_max)
            if region is None:
                return
            await asyncio.to_thread(append_region, move.future, region, self._clock.now_ms())
            await self._pace(len(region))

    async def _pace(self, copied: float) -> None:
        """Wait as long as the throttle wants, which may change meanwhile."""
        while copied > 0 and (rate := self._bytes_per_second()) < UNTHROTTLED:
            seconds = min(copied / max(rate, 1), PACE_SECONDS)
            await asyncio.sleep(seconds)
            copied -= max(rate, 1) * seconds

    async def _start_over(self, move: "_Move") -> None:
        """Records that were copied have been taken back, or deleted before they were copied: begin anew."""
        source = move.source
        move.shrunk = source.shrunk
        start = first_batch_offset(source)
        await asyncio.to_thread(move.future.truncate_fully_and_start_at, start, self._clock.now_ms())

    def _check(self, move: "_Move") -> None:
        if move.cancelled:
            raise _Given("it was asked to go elsewhere")
        key = move.partition.topic_partition
        if self._store.logs.get(key) is not move.source or self._store.futures.logs.get(key) is not move.future:
            raise _Given("the partition is gone")
        if move.source.failure is not None or move.future.failure is not None:
            raise storage_error("a log directory is offline")

    def _finish(self, move: "_Move") -> None:
        """The last step: nothing is appended while it runs."""
        partition, future, source = move.partition, move.future, move.source
        now_ms = self._clock.now_ms()
        while (region := move.next_region(CHUNK_BYTES)) is not None:
            append_region(future, region, now_ms)
        future.advance_log_start(source.log_start_offset)
        future.config = source.config
        if future.recovery_point < future.log_end_offset:
            future.flush()
        self._store.futures.replace(future, now_ms=now_ms)
        partition.replace_log(future)
        self._report(partition.topic_id, partition.topic_partition.partition, self._store.directory_id(future))


class _Move:
    """One replica on its way. ``shrunk`` is how often the source had been cut when the copy began."""

    __slots__ = ("cancelled", "future", "partition", "shrunk", "source")

    def __init__(self, partition: Partition, future: Log) -> None:
        self.partition = partition
        self.source = partition.log
        self.future = future
        self.shrunk = self.source.shrunk
        self.cancelled = False
        if future.log_end_offset > self.source.log_end_offset:
            # What the source lost in a crash the future log must not keep.
            self.shrunk = -1

    @property
    def must_start_over(self) -> bool:
        """Whether records that were copied have been taken back, or deleted before they were copied."""
        if self.shrunk != self.source.shrunk:
            return True
        end = self.future.log_end_offset
        return end < self.source.log_start_offset and end < first_batch_offset(self.source)

    @property
    def lag(self) -> int:
        """Bytes that are missing, or more than enough of them to copy another chunk."""
        region = self.next_region(2 * LAST_CHUNK_BYTES)
        return 0 if region is None else len(region)

    def next_region(self, bytes_max: int) -> FileRegion | None:
        """Whole batches behind what has been copied, the last one perhaps cut."""
        source = self.source
        offset = max(self.future.log_end_offset, source.log_start_offset)
        return source.read(offset, bytes_max, upper=source.log_end_offset, at_least_one=True)


def first_batch_offset(source: Log) -> int:
    """Where the first batch begins that is not deleted: the log may start within it."""
    start = source.log_start_offset
    region = source.read(start, 1, upper=source.log_end_offset, at_least_one=True)
    # Where compaction has left a gap the batch begins above.
    return start if region is None else read_header(region.pread()).base_offset


def append_region(future: Log, region: FileRegion, now_ms: int) -> None:
    """Append the whole batches of ``region``. Blocking. Raises ``OSError``, and ``KafkaError`` for a full disk."""
    data = region.pread()
    headers = list(iter_headers(data, partial_tail=True))
    position, last = headers[-1]
    future.append(memoryview(data)[: position + last.size], headers, now_ms)

"""One partition's log: segments in a directory, appended at the end, read anywhere, truncated and aged.

All methods belong to the event loop's thread and do not block on the disk's own time, except ``flush``, which waits
for it and belongs into a worker thread (it may run while the loop appends). ``append`` takes batches that the caller
has checked and stamped: it writes them, keeps indexes, leader epochs and producer state in step, and rolls segments
when due.

Invariants: ``log_start_offset <= log_end_offset``; ``recovery_point <= log_end_offset`` and all below it is durable;
segments are sorted and only the last one is active.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from threading import Lock
from typing import NamedTuple, Protocol, Self

from ottla.config.log import LogConfig
from ottla.model import TopicPartition, Uuid
from ottla.records.batch import BatchHeader
from ottla.records.control import read_end_transaction
from ottla.records.reader import read_records
from ottla.runtime.telemetry import get_logger
from ottla.storage.condemned import CondemnedFiles
from ottla.storage.disk import Disk
from ottla.storage.errors import SHORTAGES, storage_error
from ottla.storage.fill_ahead import FillAhead
from ottla.storage.leader_epochs import LeaderEpochCache
from ottla.storage.names import SWAP_SUFFIX
from ottla.storage.offset_index import RELATIVE_OFFSET_MAX
from ottla.storage.producer_snapshots import ProducerSnapshots
from ottla.storage.recall import earlier_batches
from ottla.storage.recovery import LoadedLog, LogHints, load_log, replay_up_to
from ottla.storage.region import FileHandle, FileRegion
from ottla.storage.retention import expired_segments
from ottla.storage.segment import Segment
from ottla.storage.txn_index import AbortedTransaction
from ottla.transactions.producer_state import CompletedTransaction, ProducerStateTable
from ottla.wire.errors import ErrorCode, KafkaError

_log = get_logger("ottla.storage.log")


class TimestampOffset(NamedTuple):
    """A record found by its timestamp."""

    timestamp: int
    offset: int
    leader_epoch: int


class LogEvents(Protocol):
    """What a log tells its store, on the event loop's thread."""

    def log_rolled(self, log: "Log") -> None:
        """A segment was sealed: it should be flushed soon, whatever the flush policy."""

    def log_shrinking(self, log: "Log") -> None:
        """``recovery_point`` has been lowered and records are about to go: the checkpoint must not claim them."""

    def log_failed(self, log: "Log", error: OSError) -> None:
        """The disk failed under the log: its whole log directory is to go offline."""


class PendingFlush(NamedTuple):
    """A sync under way: the file that has to reach the disk, and up to where the log is durable when it has."""

    handle: FileHandle
    end_offset: int
    truncations: int


class Cleaning:
    """A cleaning of a log under way. It is aborted by whatever else shortens, moves or closes the log."""

    def __init__(self, on_aborted: Callable[[], None]) -> None:
        self.aborted = False
        self._on_aborted = on_aborted

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            self._on_aborted()


class Log:
    """A partition's log. Open one with ``Log.open``."""

    def __init__(
        self, directory: str, topic_partition: TopicPartition, config: LogConfig, disk: Disk, loaded: LoadedLog
    ) -> None:
        self.directory = directory
        self.log_directory = os.path.dirname(directory)
        """The log directory (of ``log.dirs``) that holds the partition."""
        self.topic_partition = topic_partition
        self.topic_id: Uuid | None = None
        self.config = config
        self.disk = disk
        self.epochs: LeaderEpochCache = loaded.epochs
        self.epochs.on_written = self._note_unsynced
        self.producers: ProducerStateTable = loaded.producers
        self.log_start_offset = loaded.log_start_offset
        self.log_end_offset = loaded.log_end_offset
        self.recovery_point = loaded.recovery_point
        """All records below it are durable. Advanced by ``flush`` from its thread."""
        self.bytes_cut = loaded.bytes_cut
        """What recovery dropped at the end of the log when it was opened."""
        self.shrunk = 0
        """How often records at the end of the log were taken back."""
        self.events: LogEvents | None = None
        self.failure: BaseException | None = None
        """Set once: nothing is appended, read or acknowledged any more."""
        self.cleaning: Cleaning | None = None
        """Set while the log is being cleaned: its oldest segments stay then."""
        self.segments: list[Segment] = loaded.segments
        self.producers.recall = partial(earlier_batches, self.segments)
        self._bases = [segment.base_offset for segment in loaded.segments]
        self._active = loaded.segments[-1]
        self._snapshots: ProducerSnapshots = loaded.snapshots
        self._condemned = CondemnedFiles(disk)
        self._unsynced: dict[str, None] = dict.fromkeys(loaded.unsynced)
        self.fill_ahead = FillAhead()
        self._flush_lock = Lock()
        self._recovery_point_lock = Lock()
        self._released = False
        self._jitter = Random(str(topic_partition))
        self._roll_jitter_ms = self._next_jitter()
        self.unflushed_since_ms = 0
        """When the first record was appended that is not durable yet."""

    @classmethod
    def open(
        cls,
        directory: str | Path,
        topic_partition: TopicPartition,
        config: LogConfig,
        *,
        disk: Disk | None = None,
        now_ms: int = 0,
        clean_shutdown: bool = False,
        recovery_point: int = 0,
        recovery_point_known: bool = True,
        log_start_offset: int = 0,
    ) -> Self:
        """Open or create the log in ``directory``; the directory is made if need be. Blocking.

        Without hints every batch is checked. Raises ``CorruptLogError`` where records below ``recovery_point`` are
        damaged, and ``OSError``. Where ``recovery_point_known`` is false, damage that good batches follow counts as
        that.
        """
        disk = disk or Disk()
        path = str(directory)
        created = not disk.is_directory(path)
        if created:
            disk.make_directories(path)
        hints = LogHints(
            clean_shutdown=clean_shutdown,
            recovery_point=recovery_point,
            recovery_point_known=recovery_point_known,
            log_start_offset=log_start_offset,
            now_ms=now_ms,
        )
        log = cls(path, topic_partition, config, disk, load_log(disk, path, config, hints))
        if created:
            log._note_unsynced(os.path.dirname(path))
        return log

    # Appending -------------------------------------------------------------------------------------------------------

    def append(
        self, batches: bytes | bytearray | memoryview, headers: Sequence[tuple[int, BatchHeader]], now_ms: int
    ) -> None:
        """Append whole batches that lie without gaps in ``batches``; ``headers`` are theirs *as stamped*, with
        positions.

        Offsets must begin at ``log_end_offset`` or above and grow. Leader epochs and producers are recorded here.
        Raises ``KafkaError(KAFKA_STORAGE_ERROR)``: nothing was appended; where the disk was full the log goes on, after
        any other error it has failed with its directory.
        """
        first = headers[0][1]
        last = headers[-1][1]
        last_offset = last.base_offset + last.last_offset_delta
        if self.recovery_point == self.log_end_offset:
            self.unflushed_since_ms = now_ms
        assert first.base_offset >= self.log_end_offset, "offsets must grow"
        if self.failure is not None:
            raise storage_error(f"{self.directory} is offline")
        active = self._active
        try:
            if active.size and self._roll_due(active, len(batches), headers, now_ms):
                active = self.roll(now_ms, first.base_offset)
            active.append(batches, headers)
        except OSError as error:
            raise self._broken(error) from error
        for position, header in headers:
            if header.partition_leader_epoch > self.epochs.latest_epoch:
                self._assign_epoch(header)
            if header.producer_id >= 0:
                self._record_producer(batches, position, header, now_ms)
        self.log_end_offset = last_offset + 1

    def _roll_due(self, active: Segment, size: int, headers: Sequence[tuple[int, BatchHeader]], now_ms: int) -> bool:
        config = self.config
        if size > config.segment_bytes - active.size or active.indexes_full:
            return True
        last = headers[-1][1]
        if last.base_offset + last.last_offset_delta - active.base_offset > RELATIVE_OFFSET_MAX:
            return True
        timestamp = last.max_timestamp if len(headers) == 1 else max(header.max_timestamp for _, header in headers)
        age_ms = active.age_ms(now_ms, timestamp) + self._roll_jitter_ms
        if age_ms > config.segment_ms:
            return True
        # What must be compacted by then must have left the active segment.
        return age_ms > config.max_compaction_lag_ms and config.compact

    def _next_jitter(self) -> int:
        jitter = min(self.config.segment_jitter_ms, self.config.segment_ms)
        return self._jitter.randrange(jitter) if jitter > 0 else 0

    def _assign_epoch(self, header: BatchHeader) -> None:
        try:
            self.epochs.assign(header.partition_leader_epoch, header.base_offset)
        except OSError as error:
            # Found again from the batch; only a disk that refuses writes for good is a failure, which the next write
            # meets.
            _log.warning("leader epochs not written", path=self.epochs.path, reason=error)

    def _record_producer(
        self, batches: bytes | bytearray | memoryview, position: int, header: BatchHeader, now_ms: int
    ) -> None:
        marker = None
        if header.is_control:
            marker = read_end_transaction(memoryview(batches)[position : position + header.size])
        completed = self.producers.record(header, header.base_offset, now_ms, marker=marker)
        if completed is not None and completed.aborted:
            self._index_abort(completed)

    def _index_abort(self, completed: CompletedTransaction) -> None:
        aborted = AbortedTransaction(
            completed.producer_id, completed.first_offset, completed.last_offset, completed.last_stable_offset
        )
        index = self._active.txn_index
        try:
            index.append(aborted)
        except OSError as error:
            raise self._broken(error, recoverable=False) from error
        self._note_unsynced(index.path)

    def _broken(self, error: OSError, *, recoverable: bool = True) -> KafkaError:
        if not (recoverable and error.errno in SHORTAGES):
            self.fail(error)
        return storage_error(f"{self.topic_partition} could not be written in {self.directory}: {error}")

    def unreadable(self, error: OSError) -> KafkaError:
        """What to tell a reader; the log has failed unless only file descriptors or memory were short."""
        if error.errno not in SHORTAGES:
            self.fail(error)
        return storage_error(f"{self.topic_partition} could not be read in {self.directory}: {error}")

    def fail(self, error: OSError) -> None:
        """The disk cannot be trusted any more."""
        if self.failure is None:
            self.failure = error
            self.abort_cleaning()
            if self.events is not None:
                self.events.log_failed(self, error)

    def roll(self, now_ms: int, base_offset: int | None = None) -> Segment:
        """Seal the active segment and begin a new one; returns it. Does nothing where the active one is empty.

        Raises ``OSError`` with the active segment as it was.
        """
        old = self._active
        base = max(self.log_end_offset, base_offset or 0)
        if not old.size:
            return old
        new = None
        try:
            new = Segment.create(
                self.disk,
                self.directory,
                base,
                index_interval_bytes=self.config.index_interval_bytes,
                index_bytes_max=self.config.segment_index_bytes,
            )
            if self.config.preallocate:
                new.preallocate(self.config.segment_bytes)
            cut = old.seal()
        except OSError:
            self._undo_roll(old, base)
            raise
        new.created_ms = now_ms
        self._take_snapshot(base)
        # A cut that is lost would leave a segment with no batch at its end, and others behind it.
        for path in (*old.paths[0 if cut else 1 :], self.directory):
            self._note_unsynced(path)
        self.segments.append(new)
        self._bases.append(base)
        self._active = new
        self._roll_jitter_ms = self._next_jitter()
        if self.events is not None:
            self.events.log_rolled(self)
        return new

    def _undo_roll(self, old: Segment, base: int) -> None:
        ghost = Segment(self.disk, self.directory, base, 0, index_interval_bytes=self.config.index_interval_bytes)
        for path in ghost.paths:
            self.disk.unlink_if_exists(path)
        if not old.active:
            old.activate(self.config.segment_index_bytes)
            old.begin_tail(self.log_end_offset)

    def _take_snapshot(self, offset: int) -> None:
        if offset <= max(self._snapshots.last, 0):
            return
        try:
            self._note_unsynced(self._snapshots.write(offset, self.producers))
        except OSError as error:
            # Recovery reads further back then.
            _log.warning("producer snapshot not written", directory=self.directory, offset=offset, reason=error)

    # Reading ---------------------------------------------------------------------------------------------------------

    def read(self, offset: int, max_bytes: int, *, upper: int, at_least_one: bool) -> FileRegion | None:
        """The bytes of the batches from the one that holds ``offset``, up to ``max_bytes``, not reaching ``upper``.

        They may end within a batch. ``None`` where there is nothing below ``upper``, or where the first batch alone is
        larger than ``max_bytes`` and ``at_least_one`` does not ask for it all the same. Raises
        ``KafkaError(OFFSET_OUT_OF_RANGE)`` outside ``[log_start_offset, log_end_offset]``, and ``CorruptLogError``.
        """
        if not self.log_start_offset <= offset <= self.log_end_offset:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"Received request for offset {offset} for partition {self.topic_partition}, but we only have log "
                f"segments from {self.log_start_offset} to {self.log_end_offset}.",
            )
        if offset >= upper:
            return None
        if self.failure is not None:
            raise storage_error(f"{self.directory} is offline")
        try:
            return self._read(offset, max_bytes, upper, at_least_one)
        except OSError as error:
            raise self.unreadable(error) from error

    def _read(self, offset: int, max_bytes: int, upper: int, at_least_one: bool) -> FileRegion | None:
        segments = self.segments
        slot = len(segments) - 1
        if offset < self._active.base_offset:
            slot = bisect_right(self._bases, offset) - 1
        while True:
            segment = segments[slot]
            location = segment.locate(offset)
            if location is not None:
                break
            slot += 1
            if slot == len(segments):
                return None
        if slot + 1 < len(segments):
            whole = upper >= segments[slot + 1].base_offset
        else:
            whole = upper >= self.log_end_offset
        position, first_size = location
        available = (segment.size if whole else self._position_of(segment, upper)) - position
        if available <= 0:
            return None
        if max_bytes < available:
            if max_bytes >= first_size:
                available = max_bytes
            elif at_least_one:
                available = min(first_size, available)
            else:
                return None
        return FileRegion(segment.handle, position, available, segment.base_offset)

    @staticmethod
    def _position_of(segment: Segment, offset: int) -> int:
        location = segment.locate(offset)
        return segment.size if location is None else location.position

    def offset_for_timestamp(self, timestamp: int, *, upper: int) -> TimestampOffset | None:
        """The first record at or after ``timestamp`` that lies below ``upper``. Reads and unpacks one batch or more.

        Raises ``KafkaError(KAFKA_STORAGE_ERROR)``, as ``max_timestamp_offset`` does.
        """
        try:
            return self._offset_for_timestamp(timestamp, upper)
        except OSError as error:
            raise self.unreadable(error) from error

    def _offset_for_timestamp(self, timestamp: int, upper: int) -> TimestampOffset | None:
        for segment in self.segments:
            if segment.max_timestamp < timestamp:
                continue
            for position, header in segment.headers(segment.position_for_timestamp(timestamp)):
                if header.max_timestamp < timestamp or header.last_offset < self.log_start_offset:
                    continue
                if header.base_offset >= upper:
                    return None
                for record in read_records(segment.read(position, header.size)):
                    if record.timestamp >= timestamp and record.offset >= self.log_start_offset:
                        found = TimestampOffset(record.timestamp, record.offset, header.partition_leader_epoch)
                        return found if record.offset < upper else None
        return None

    @property
    def max_timestamp_offset(self) -> TimestampOffset | None:
        """The first record that has the greatest timestamp of the log; ``None`` where no record has one."""
        try:
            return self._max_timestamp_offset()
        except OSError as error:
            raise self.unreadable(error) from error

    def _max_timestamp_offset(self) -> TimestampOffset | None:
        best: Segment | None = None
        for segment in self.segments:
            if segment.max_timestamp >= 0 and (best is None or segment.max_timestamp > best.max_timestamp):
                best = segment
        if best is None:
            return None
        location = best.locate(best.max_timestamp_offset)
        if location is None:
            return None
        position = location.position
        header = next(best.headers(position))[1]
        for record in read_records(best.read(position, header.size)):
            if record.timestamp == header.max_timestamp:
                return TimestampOffset(record.timestamp, record.offset, header.partition_leader_epoch)
        return None

    def aborted_transactions(self, start: int, upper: int) -> list[AbortedTransaction]:
        """The aborted transactions that touch ``[start, upper)``, for a reader of committed records. Raises ``OSError``
        and ``CorruptLogError``."""
        found: list[AbortedTransaction] = []
        for segment in self.segments[max(bisect_right(self._bases, start) - 1, 0) :]:
            more, complete = segment.aborted_transactions(start, upper)
            found.extend(more)
            if complete:
                break
        return found

    # Shortening ------------------------------------------------------------------------------------------------------

    def truncate_to(self, offset: int, now_ms: int = 0) -> None:
        """Drop all records at ``offset`` and above; nothing where the log ends below. Raises ``OSError``."""
        if offset >= self.log_end_offset:
            return
        if offset < self._bases[0]:
            self.truncate_fully_and_start_at(offset, now_ms)
            return
        self.abort_cleaning()
        self.shrunk += 1
        with self._flush_lock:
            self._lower_recovery_point(offset)
            kept = bisect_right(self._bases, offset)
            self._condemn(self.segments[: kept - 1 : -1], now_ms)
            del self.segments[kept:], self._bases[kept:]
            self._active = self.segments[-1]
            self._active.truncate_to(offset, self.config.segment_index_bytes, now_ms)
            # What is cut must not come back behind what is appended next.
            self.disk.sync_directory(self.directory)
            self._active.sync()
            self.log_end_offset = offset
            self.log_start_offset = min(self.log_start_offset, offset)
            self.epochs.truncate_from_end(offset)
            self._reload_producers(now_ms)

    def truncate_fully_and_start_at(self, offset: int, now_ms: int = 0) -> None:
        """Drop everything; the log begins and ends at ``offset``. Raises ``OSError``."""
        self.abort_cleaning()
        self.shrunk += 1
        with self._flush_lock:
            self._lower_recovery_point(offset)
            # The last first, so that a crash half way leaves a log that only lost its end.
            for segment in reversed(self.segments):
                self._condemn([segment], now_ms)
            self.disk.sync_directory(self.directory)
            self._active = Segment.create(
                self.disk,
                self.directory,
                offset,
                index_interval_bytes=self.config.index_interval_bytes,
                index_bytes_max=self.config.segment_index_bytes,
            )
            self._active.created_ms = now_ms
            self.segments[:] = [self._active]
            self._bases[:] = [offset]
            self.log_start_offset = self.log_end_offset = offset
            self._note_unsynced(self.directory)
            self.epochs.clear()
            self.producers.clear()
            self._snapshots.remove_after(-1)

    def _lower_recovery_point(self, offset: int) -> None:
        if self.recovery_point > offset:
            self.recovery_point = offset
            if self.events is not None:
                self.events.log_shrinking(self)

    def _reload_producers(self, now_ms: int) -> None:
        end = self.log_end_offset
        self._snapshots.remove_after(end)
        replay_up_to(end, self._snapshots, self.segments, self.producers, now_ms)

    def advance_log_start(self, offset: int) -> None:
        """Records below ``offset`` are gone for readers (DeleteRecords); ``retain`` frees their segments.

        Raises ``KafkaError(OFFSET_OUT_OF_RANGE)`` beyond the end of the log.
        """
        if offset > self.log_end_offset:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"Cannot increment the log start offset to {offset} of partition {self.topic_partition} since it is "
                f"larger than the high watermark {self.log_end_offset}",
            )
        if offset > self.log_start_offset:
            self.log_start_offset = offset
            try:
                self.epochs.truncate_from_start(offset)
            except OSError as error:
                raise self._broken(error) from error
            self.producers.truncate_start(offset)

    def retain(self, now_ms: int, upper: int) -> int:
        """Delete the oldest segments that retention gives up and that lie below ``upper``; returns how many.

        ``upper`` is the high watermark. Their files are renamed now and unlinked by ``purge``. A log that is being
        cleaned keeps its segments until it is done. Raises ``OSError``.
        """
        count = expired_segments(self, now_ms, upper) if self.cleaning is None else 0
        if not count:
            return 0
        if count == len(self.segments):
            self.roll(now_ms)
        # Readers learn of it before the files change their names.
        self.advance_log_start(self._bases[count])
        self._condemn(self.segments[:count], now_ms)
        del self.segments[:count], self._bases[:count]
        self._note_unsynced(self.directory)
        return count

    def replace_segments(self, replaced: Sequence[Segment], cleaned: Segment, now_ms: int) -> None:
        """Put a segment whose files are durable under ``.cleaned`` names in the place of those it was made from.

        A crash at any step leaves the old ones or the new one, none of it lost. It is settled when the directory has
        been synced, which is the caller's. Raises ``OSError``: the log must then not be trusted.
        """
        slot = self.segments.index(replaced[0])
        end = slot + len(replaced)
        assert self.segments[slot:end] == list(replaced), "the segments have changed"
        assert self.segments[end].base_offset <= self.recovery_point, "cleaned beyond what is durable"
        cleaned.rename(SWAP_SUFFIX)
        self._condemn(replaced, now_ms, snapshot_kept=cleaned.base_offset)
        cleaned.rename("")
        self.segments[slot:end] = [cleaned]
        self._bases[slot:end] = [cleaned.base_offset]

    def abort_cleaning(self) -> None:
        """Nothing is swapped in from now on by the cleaning under way, if there is one."""
        if self.cleaning is not None:
            self.cleaning.abort()

    def _condemn(self, segments: Sequence[Segment], now_ms: int, snapshot_kept: int = -1) -> None:
        for segment in segments:
            paths = segment.paths
            if segment.base_offset != snapshot_kept:
                self._snapshots.forget(segment.base_offset)
                paths = (*paths, self._snapshots.path(segment.base_offset))
            for path in self._condemned.add(paths, now_ms + self.config.file_delete_delay_ms):
                self._unsynced.pop(path, None)
            segment.close()

    def purge(self, now_ms: int) -> int:
        """Unlink condemned files whose time has come; returns how many. Blocking where files are large; any thread."""
        return self._condemned.purge(now_ms)

    # Durability ------------------------------------------------------------------------------------------------------

    def _note_unsynced(self, path: str) -> None:
        self._unsynced[path] = None

    def note_created(self, *files: str) -> None:
        """The directory is new: it, its name and these files in it become durable with the next flush."""
        for path in (*files, self.directory, os.path.dirname(self.directory)):
            self._note_unsynced(path)

    def flush(self, through: int | None = None) -> int:
        """Make all records below ``through`` (by default the end) durable; returns the new ``recovery_point``.

        Blocking: call it in a worker thread; the event loop may append meanwhile. Raises ``OSError``: the directory
        must then not be trusted again, for the kernel may have dropped what it could not write.
        """
        with self._flush_lock:
            if self._released or (through is not None and through <= self.recovery_point):
                return self.recovery_point
            end = self.log_end_offset
            unsynced = list(self._unsynced)
            segments = self.segments[:]
            for segment in reversed(segments):
                segment.sync()
                if segment.base_offset <= self.recovery_point:
                    break
            for path in unsynced:
                # First out of the list: whoever changes the file meanwhile puts it back.
                self._unsynced.pop(path, None)
                try:
                    self.disk.sync_path(path)
                except OSError:
                    self._unsynced[path] = None
                    raise
            if not self._released:
                self._raise_recovery_point(end)
            return self.recovery_point

    def begin_flush(self) -> PendingFlush | None:
        """What somebody else has to sync so that all records so far are durable; ``None`` where that is more than the
        active segment's file (a new segment, a new directory): ``flush`` then. Not blocking, on the loop."""
        # A flush under way has taken paths off the list that it has yet to sync.
        if not self._flush_lock.acquire(blocking=False):
            return None
        try:
            handle = self._active.open_handle
            if self._unsynced or self._released or handle is None or self._active.base_offset > self.recovery_point:
                return None
            return PendingFlush(handle, self.log_end_offset, self.shrunk)
        finally:
            self._flush_lock.release()

    def end_flush(self, pending: PendingFlush) -> None:
        """``pending.handle`` has been synced. What was truncated meanwhile is not vouched for. On the loop."""
        if pending.truncations == self.shrunk and not self._released:
            self._raise_recovery_point(pending.end_offset)

    def _raise_recovery_point(self, offset: int) -> None:
        # The loop and the thread of ``flush`` may both be here.
        with self._recovery_point_lock:
            self.recovery_point = max(self.recovery_point, offset)

    @property
    def flush_messages_due(self) -> bool:
        """Whether ``flush.messages`` asks for a flush, now that the last append was as large as it was."""
        return self.log_end_offset - self.recovery_point >= self.config.flush_messages

    def flush_ms_due(self, now_ms: int) -> bool:
        """Whether ``flush.ms`` asks for a flush."""
        return self.log_end_offset > self.recovery_point and now_ms - self.unflushed_since_ms >= self.config.flush_ms

    def mark_flushed(self, offset: int) -> None:
        """Take note that somebody else has made all below ``offset`` durable."""
        self._raise_recovery_point(min(offset, self.log_end_offset))

    @property
    def size(self) -> int:
        """Bytes of batches in all segments."""
        return sum(segment.size for segment in self.segments)

    @property
    def active_segment(self) -> Segment:
        return self._active

    # Life ------------------------------------------------------------------------------------------------------------

    def moved(self, directory: str) -> None:
        """The partition's directory has been renamed."""
        self.abort_cleaning()
        self._unsynced = {
            os.path.join(directory, os.path.basename(path)) if os.path.dirname(path) == self.directory else path: None
            for path in self._unsynced
            if path != self.directory
        }
        self._note_unsynced(directory)
        self.directory = directory
        self.log_directory = os.path.dirname(directory)
        self._snapshots.directory = directory
        self.epochs.moved(directory)
        for segment in self.segments:
            segment.moved(directory)

    def close(self, *, clean: bool = True) -> None:
        """Let go of the files. A clean close leaves the directory as Kafka leaves it at shutdown, durable. Blocking."""
        if clean and self.failure is None:
            if self.epochs.unwritten:
                self.epochs.write()
            self._active.seal()
            self._take_snapshot(self.log_end_offset)
            for path in self._active.paths[1:]:
                if self.disk.exists(path):
                    self._note_unsynced(path)
            self.flush()
        self.release()

    def release(self) -> None:
        """Close all files, changing nothing on the disk. Flushes do nothing from now on, and say so."""
        self._released = True
        self.abort_cleaning()
        for segment in self.segments:
            segment.close()

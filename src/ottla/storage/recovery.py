"""Opening a partition's directory: what may be trusted, what is rebuilt, what is cut, what takes the partition offline.

After a clean shutdown nothing is read but the last headers. Otherwise every batch from the segment that holds the
recovery point on is checked: up to the recovery point the bytes were durable, so damage there is ``CorruptLogError``
and nothing is changed; beyond it a torn tail is what a crash leaves, and the log is cut at the last good batch, as
Kafka does. Where the recovery point should be known and is not, its checkpoint being unreadable, damage that good
batches follow is taken for damage of what was durable. Indexes and producer state of the checked segments are built
anew; sealed segments below are checked when first used.

Leftovers of an interrupted change are finished or undone first: ``.deleted`` and ``.cleaned`` files go, ``.swap``
files take the place of the segments they replace. Loading twice gives the same result.
"""

import os
from binascii import crc32
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from mmap import mmap
from typing import Final

from msgspec import Struct

from ottla.config.log import LogConfig
from ottla.records.batch import (
    BATCH_OVERHEAD,
    LENGTH_OVERHEAD,
    MAGIC,
    BatchHeader,
    CorruptRecord,
    read_header,
    verify_crc,
)
from ottla.records.control import EndTransaction, read_end_transaction
from ottla.runtime.telemetry import get_logger
from ottla.storage.checkpoints import MalformedFile
from ottla.storage.disk import Disk
from ottla.storage.errors import CorruptLogError
from ottla.storage.leader_epochs import LeaderEpochCache
from ottla.storage.names import (
    CLEANED_SUFFIX,
    DELETED_SUFFIX,
    FILLER,
    INDEX_SUFFIXES,
    LEADER_EPOCH_CHECKPOINT,
    LOG_SUFFIX,
    METADATA_SNAPSHOT_DELETED_SUFFIX,
    PARTITION_METADATA,
    SNAPSHOT_SUFFIX,
    SWAP_SUFFIX,
    parse_segment_file,
    segment_file,
)
from ottla.storage.offset_index import RELATIVE_OFFSET_MAX
from ottla.storage.producer_snapshots import ProducerSnapshots
from ottla.storage.segment import SCAN_READ_BYTES, Segment
from ottla.storage.txn_index import AbortedTransaction
from ottla.transactions.producer_state import ProducerStateTable

_log = get_logger("ottla.storage.recovery")

MAGIC_BYTE: Final = bytes((MAGIC,))
MAGIC_OFFSET: Final = 16
"""Where in a batch its magic is."""


class LogHints(Struct, frozen=True, kw_only=True):
    """What the log directory's checkpoints say of a log, and the time."""

    clean_shutdown: bool
    recovery_point: int
    recovery_point_known: bool = True
    log_start_offset: int
    now_ms: int


class LoadedLog(Struct, kw_only=True):
    """The parts of an opened log. ``bytes_cut`` is what recovery dropped at its end."""

    segments: list[Segment]
    snapshots: ProducerSnapshots
    producers: ProducerStateTable
    epochs: LeaderEpochCache
    log_start_offset: int
    log_end_offset: int
    recovery_point: int
    bytes_cut: int = 0
    unsynced: list[str] = []


class Verdict(Struct, frozen=True, kw_only=True):
    """How far a segment's bytes are good: ``flaw`` says why they are not beyond ``size``."""

    size: int
    next_offset: int
    flaw: str | None
    unsupported: bool = False


def load_log(disk: Disk, directory: str, config: LogConfig, hints: LogHints) -> LoadedLog:
    """Open a partition's directory. Raises ``CorruptLogError`` or ``OSError``; what is durable is as it was then."""
    return _Loader(disk, directory, config, hints).load()


def replay(segment: Segment, start: int, table: ProducerStateTable, now_ms: int) -> None:
    """Fold the batches of ``segment`` that end at ``start`` or later into ``table``; aborts are not indexed."""
    location = segment.locate(start)
    if location is None:
        return
    for position, header in segment.headers(location.position):
        if header.producer_id >= 0:
            table.record(header, header.base_offset, now_ms, marker=marker_in(segment, position, header))


def replay_up_to(
    offset: int, snapshots: ProducerSnapshots, segments: Sequence[Segment], table: ProducerStateTable, now_ms: int
) -> int:
    """Have ``table`` hold the producers as of ``offset``: the best snapshot, then the batches behind it. Returns where
    the snapshot was."""
    loaded = snapshots.load(offset, table, now_ms)
    if loaded < offset:
        for segment, following in zip(segments, [*segments[1:], None], strict=True):
            if segment.base_offset < offset and (following is None or following.base_offset > loaded):
                replay(segment, max(loaded, segment.base_offset), table, now_ms)
    return loaded


def marker_in(segment: Segment, position: int, header: BatchHeader) -> EndTransaction | None:
    """The transaction marker in a control batch of the segment, if it is one."""
    return read_end_transaction(segment.read(position, header.size)) if header.is_control else None


def rebuild_indexes(segment: Segment, config: LogConfig, table: ProducerStateTable, now_ms: int) -> None:
    """Write a segment's indexes anew from its batches; ``table`` holds the producers at its base and moves to its
    end."""
    segment.begin_rebuild(config.segment_index_bytes)
    for position, header in segment.headers():
        segment.index_batch(position, header)
        if header.producer_id >= 0:
            marker = marker_in(segment, position, header)
            completed = table.record(header, header.base_offset, now_ms, marker=marker)
            if completed is not None and completed.aborted:
                segment.txn_index.append(
                    AbortedTransaction(
                        completed.producer_id,
                        completed.first_offset,
                        completed.last_offset,
                        completed.last_stable_offset,
                    )
                )


def verify(segment: Segment, expected_offset: int) -> Verdict:
    """Check every batch: length, magic, order of offsets, checksum. Reads the whole segment."""
    position = 0
    for window, at, header in _batches(segment):
        if isinstance(header, str):
            return Verdict(size=position, next_offset=expected_offset, flaw=header)
        if 0 <= header.magic < MAGIC and _is_old_message(window[at : at + header.size]):
            reason = f"message format {header.magic} is not supported"
            return Verdict(size=position, next_offset=expected_offset, flaw=reason, unsupported=True)
        flaw = _flaw_of(segment, header, expected_offset)
        if flaw is None:
            try:
                verify_crc(window, at, header)
            except CorruptRecord as error:
                flaw = error.message or "checksum"
        if flaw is not None:
            return Verdict(size=position, next_offset=expected_offset, flaw=flaw)
        position += header.size
        expected_offset = header.next_offset
    return Verdict(size=position, next_offset=expected_offset, flaw=None)


def _is_old_message(message: memoryview) -> bool:
    """Whether it is a message of format 0 or 1, by its checksum: where a write was torn the magic may be 0 as well."""
    crc = int.from_bytes(message[LENGTH_OVERHEAD : LENGTH_OVERHEAD + 4])
    return crc == crc32(message[LENGTH_OVERHEAD + 4 :])


def _flaw_of(segment: Segment, header: BatchHeader, expected_offset: int) -> str | None:
    if header.magic != MAGIC:
        return f"magic {header.magic} is not that of a record batch"
    if header.base_offset < expected_offset:
        return f"base offset {header.base_offset} where {expected_offset} or more must come"
    if header.last_offset_delta < 0:
        return f"last offset delta {header.last_offset_delta}"
    if header.last_offset - segment.base_offset > RELATIVE_OFFSET_MAX:
        return f"offset {header.last_offset} is out of reach of the segment's base {segment.base_offset}"
    return None


def _batches(segment: Segment) -> Iterator[tuple[memoryview, int, BatchHeader | str]]:
    """``(window, position in it, header)`` of every batch, whole in the window; a text in place of a header that
    lies."""
    position, end = 0, segment.size
    window, window_at = memoryview(b""), 0
    while position < end:
        at = position - window_at
        if at + BATCH_OVERHEAD > len(window):
            window, window_at, at = memoryview(segment.read(position, SCAN_READ_BYTES)), position, 0
        if len(window) - at < BATCH_OVERHEAD:
            yield window, at, f"{end - position} bytes are no whole batch header"
            return
        header = read_header(window, at)
        size = header.batch_length + LENGTH_OVERHEAD
        if size < BATCH_OVERHEAD or position + size > end:
            yield window, at, f"batch size {size} with {end - position} bytes left"
            return
        if at + size > len(window):
            window, window_at, at = memoryview(segment.read(position, max(size, SCAN_READ_BYTES))), position, 0
        yield window, at, header
        position += size


def cut_room(segment: Segment, position: int) -> bool:
    """Cut the segment at ``position`` if nothing follows but what was written ahead, or zeros, which is what
    preallocated files are of. Returns whether it did."""
    fillers = {b"\0", FILLER}
    at = position
    while at < segment.size and fillers:
        window = segment.read(at, min(SCAN_READ_BYTES, segment.size - at))
        fillers = {filler for filler in fillers if window and window.count(filler) == len(window)}
        at += len(window)
    if fillers:
        segment.cut(position)
    return bool(fillers)


def good_batch_after(disk: Disk, segment: Segment, verdict: Verdict) -> bool:
    """Whether anywhere behind the flaw a whole batch with a true checksum begins: damage rather than a torn write."""
    content = disk.map(segment.log_path)
    try:
        return finds_good_batch(content, verdict.size, verdict.next_offset)
    finally:
        if not isinstance(content, bytes):
            content.close()


def finds_good_batch(content: mmap | bytes, position: int, offset: int) -> bool:
    """Whether a whole batch of ``offset`` or later begins anywhere behind the one at ``position``."""
    at = content.find(MAGIC_BYTE, position + MAGIC_OFFSET)
    while at >= 0:
        position = at - MAGIC_OFFSET
        header = content[position : position + BATCH_OVERHEAD]
        if len(header) < BATCH_OVERHEAD:
            return False
        found = read_header(header)
        if 0 <= found.base_offset - offset <= RELATIVE_OFFSET_MAX and found.size >= BATCH_OVERHEAD:
            batch = content[position : position + found.size]
            try:
                if len(batch) == found.size:
                    verify_crc(batch, 0, found)
                    return True
            except CorruptRecord:
                pass
        at = content.find(MAGIC_BYTE, at + 1)
    return False


class _Loader:
    """One load; its steps in order."""

    def __init__(self, disk: Disk, directory: str, config: LogConfig, hints: LogHints) -> None:
        self.disk = disk
        self.directory = directory
        self.config = config
        self.hints = hints
        self.sizes: dict[str, int] = {}
        self.segments: list[Segment] = []
        self.unsynced: list[str] = []
        self.producers = ProducerStateTable()
        self.epochs = LeaderEpochCache(disk, directory, self.unsynced.append)
        self.snapshots = ProducerSnapshots(disk, directory, ())
        self.bytes_cut = 0
        self.swapped = False
        """Whether a cleaned segment was found half-way to its place."""
        self.replayed = False
        """Whether ``producers`` stands at the end of the log already."""

    def load(self) -> LoadedLog:
        self._settle_leftovers()
        self._find_segments()
        epochs_known = self._load_epochs()
        end = self._recover() if self._suspect() else self._trusted_end()
        start = self._start(end)
        if start > end:
            end = self._start_over(start)
        self._activate(end)
        if not epochs_known:
            self._find_epochs()
        self.epochs.truncate_from_end(end)
        self.epochs.truncate_from_start(start)
        self._load_producers(end)
        clean = self.hints.clean_shutdown and not self.bytes_cut
        if not self.hints.clean_shutdown:
            self._doubt_names()
        return LoadedLog(
            segments=self.segments,
            snapshots=self.snapshots,
            producers=self.producers,
            epochs=self.epochs,
            log_start_offset=start,
            log_end_offset=end,
            recovery_point=end if clean else min(self.hints.recovery_point, end),
            bytes_cut=self.bytes_cut,
            unsynced=self.unsynced,
        )

    # Files -----------------------------------------------------------------------------------------------------------

    def _settle_leftovers(self) -> None:
        names = [entry.name for entry in self.disk.entries(self.directory) if not entry.is_directory]
        cleaned = [name for name in names if name.endswith(CLEANED_SUFFIX)]
        split_from = min((_offset_in(name) for name in cleaned), default=2**63)
        swaps = []
        for name in names:
            if name.endswith((DELETED_SUFFIX, CLEANED_SUFFIX)):
                # Snapshots of the metadata log are its own to remove.
                if not name.endswith(METADATA_SNAPSHOT_DELETED_SUFFIX):
                    self._unlink(name)
            elif name.endswith(SWAP_SUFFIX):
                if _offset_in(name) >= split_from:
                    self._unlink(name)
                else:
                    swaps.append(name)
        if swaps:
            self.swapped = True
            self._finish_swap(swaps)

    def _finish_swap(self, swaps: list[str]) -> None:
        """Segments a compaction had replaced are dropped, and the ones that replace them get their names."""
        first, end = 2**63, -1
        for name in swaps:
            base = _offset_in(name)
            if name == segment_file(base, LOG_SUFFIX + SWAP_SUFFIX):
                path = os.path.join(self.directory, name)
                # What was at the base goes in any case, even for an empty segment: its indexes are of other batches.
                first, end = min(first, base), max(end, base + 1, self._end_of_swap(path, base))
        for entry in self.disk.entries(self.directory):
            parsed = parse_segment_file(entry.name)
            if parsed and not entry.name.endswith(SWAP_SUFFIX) and first <= parsed[0] < end:
                _log.info("dropping a segment file that compaction replaced", name=entry.name)
                self._unlink(entry.name)
        for name in swaps:
            path = os.path.join(self.directory, name)
            self.disk.rename(path, path.removesuffix(SWAP_SUFFIX))
        self.disk.sync_directory(self.directory)

    def _end_of_swap(self, path: str, base: int) -> int:
        data = self.disk.read_file(path)
        position, end = 0, base
        while position + BATCH_OVERHEAD <= len(data):
            header = read_header(data, position)
            if header.size < BATCH_OVERHEAD or position + header.size > len(data):
                break
            position, end = position + header.size, header.next_offset
        return end

    def _find_segments(self) -> None:
        orphans: list[str] = []
        snapshots = []
        entries = [entry for entry in self.disk.entries(self.directory) if not entry.is_directory]
        self.sizes = {entry.name: entry.size for entry in entries}
        for name, size in self.sizes.items():
            parsed = parse_segment_file(name)
            if parsed is None:
                continue
            base, suffix = parsed
            if suffix == LOG_SUFFIX:
                self.segments.append(self._segment(base, size))
            elif suffix == SNAPSHOT_SUFFIX:
                snapshots.append(base)
            elif suffix in INDEX_SUFFIXES and segment_file(base, LOG_SUFFIX) not in self.sizes:
                orphans.append(name)
        self.snapshots.offsets = sorted(snapshots)
        self._refuse_missing_log(orphans)
        for name in orphans:
            _log.warning("dropping an index without its log", directory=self.directory, name=name)
            self._unlink(name)

    def _refuse_missing_log(self, orphans: list[str]) -> None:
        """An index in the middle of durable offsets whose log is gone: the records are gone, and not by our doing.

        Deletion takes the log's name first, but only ever from the front, or behind the recovery point; compaction,
        which may leave such an index anywhere, is left its freedom.
        """
        if self.config.compact or self.swapped or not self.segments:
            return
        first = self.segments[0].base_offset
        durable = self.hints.recovery_point if self.hints.recovery_point_known else self.segments[-1].base_offset
        for name in orphans:
            base = _offset_in(name)
            if first < base < durable:
                path = os.path.join(self.directory, segment_file(base, LOG_SUFFIX))
                raise CorruptLogError(path, 0, "the file is missing, its index is there")

    def _segment(self, base: int, size: int) -> Segment:
        segment = Segment(self.disk, self.directory, base, size, index_interval_bytes=self.config.index_interval_bytes)
        segment.created_ms = self.hints.now_ms
        segment.rebuild = self._rebuild
        segment.checked = False
        return segment

    def _rebuild(self, segment: Segment) -> None:
        """Rebuild the indexes of a segment whose batches were durable, when they are first needed and found unusable.

        Raises ``CorruptLogError`` where the batches are damaged.
        """
        _log.warning("rebuilding indexes", path=segment.log_path)
        verdict = verify(segment, segment.base_offset)
        if verdict.flaw is not None and not cut_room(segment, verdict.size):
            raise CorruptLogError(segment.log_path, verdict.size, verdict.flaw)
        producers = ProducerStateTable()
        self._replay_up_to(segment.base_offset, producers)
        rebuild_indexes(segment, self.config, producers, self.hints.now_ms)
        if not segment.active:
            segment.seal()

    def _unlink(self, name: str) -> None:
        self.disk.unlink_if_exists(os.path.join(self.directory, name))

    def _load_epochs(self) -> bool:
        try:
            self.epochs.load()
        except MalformedFile as error:
            _log.warning("leader epochs unreadable, reading them from the batches", reason=error)
            return False
        return bool(self.epochs.entries) or not any(segment.size for segment in self.segments)

    # The end of the log ----------------------------------------------------------------------------------------------

    def _suspect(self) -> bool:
        """Whether the tail has to be checked: no clean shutdown, or one that the files belie."""
        if not self.hints.clean_shutdown:
            return True
        if not self.segments:
            return False
        last = self.segments[-1]
        try:
            last.next_offset()
        except CorruptLogError as error:
            _log.warning("tail damaged after a clean shutdown", reason=error)
            last.checked = False
            return True
        return False

    def _trusted_end(self) -> int:
        end = self.segments[-1].next_offset() if self.segments else max(self.hints.log_start_offset, 0)
        self._refuse_short_log(end)
        return end

    def _refuse_short_log(self, end: int) -> None:
        if end < self.hints.recovery_point and self.hints.recovery_point > self.hints.log_start_offset:
            last = self.segments[-1] if self.segments else None
            path = last.log_path if last else self.directory
            reason = f"the log ends at offset {end}, below {self.hints.recovery_point} that was durable"
            raise CorruptLogError(path, last.size if last else 0, reason)

    def _recover(self) -> int:
        """Check the segments from the recovery point on, cut the tail, rebuild indexes; returns the end of the log."""
        if not self.segments:
            self._refuse_short_log(0)
            return max(self.hints.log_start_offset, 0)
        bases = [segment.base_offset for segment in self.segments]
        first = max(bisect_right(bases, self.hints.recovery_point) - 1, 0)
        if first:
            self._cut_ahead(self.segments[first - 1])
        verdicts = self._verify_from(first)
        end = verdicts[-1].next_offset
        kept = first + len(verdicts)
        for segment in self.segments[kept:]:
            self._drop(segment)
        if kept < len(self.segments):
            # Durable before the cut: a segment behind a cut one would look like the next one after a gap.
            self.disk.sync_directory(self.directory)
            del self.segments[kept:]
        self._cut(self.segments[-1], verdicts[-1])
        self._rebuild_from(first)
        return end

    def _verify_from(self, first: int) -> list[Verdict]:
        """A verdict for each segment up to the first with a flaw. Raises before anything has been changed."""
        verdicts = []
        end = self.segments[first].base_offset
        for segment in self.segments[first:]:
            if segment.base_offset > end >= self.hints.recovery_point and not self.config.compact:
                # The segment before lost its last batches, whole: what follows them was not durable either. Compaction,
                # which leaves such gaps on purpose, is trusted with them.
                self._refuse_if_unknown(segment, Verdict(size=0, next_offset=end, flaw=f"offset {end} is missing"))
                break
            if segment.base_offset < end and segment.base_offset >= self.hints.recovery_point:
                # A truncation whose renames were lost: the segment before has been appended to since.
                self._refuse_if_unknown(segment, Verdict(size=0, next_offset=end, flaw="it overlaps the one before"))
                break
            if segment.base_offset < end:
                raise CorruptLogError(
                    segment.log_path, 0, f"it overlaps the segment before, which ends at offset {end}"
                )
            verdict = verify(segment, segment.base_offset)
            verdicts.append(verdict)
            end = verdict.next_offset
            if verdict.flaw is not None:
                if verdict.unsupported or end < self.hints.recovery_point:
                    raise CorruptLogError(segment.log_path, verdict.size, verdict.flaw)
                self._refuse_if_unknown(segment, verdict)
                break
        else:
            self._refuse_short_log(end)
        return verdicts

    def _refuse_if_unknown(self, segment: Segment, verdict: Verdict) -> None:
        """The log is about to be cut: without a recovery point, only where nothing but a torn write would go."""
        if self.hints.recovery_point_known:
            return
        behind = self.segments[self.segments.index(segment) + 1 :]
        if not any(other.size for other in behind) and not good_batch_after(self.disk, segment, verdict):
            return
        raise CorruptLogError(
            segment.log_path,
            verdict.size,
            f"{verdict.flaw}. Good batches follow, and the checkpoint of what was durable is unreadable",
            durable_to=verdict.next_offset + 1,
        )

    def _cut(self, segment: Segment, verdict: Verdict) -> None:
        if verdict.flaw is None or cut_room(segment, verdict.size):
            return
        surplus = segment.size - verdict.size
        _log.warning(
            "cutting the torn end of a log",
            path=segment.log_path,
            position=verdict.size,
            offset=verdict.next_offset,
            bytes_cut=surplus,
            good_batches_follow=good_batch_after(self.disk, segment, verdict),
            reason=verdict.flaw,
        )
        self.bytes_cut += surplus
        segment.cut(verdict.size)

    def _cut_ahead(self, segment: Segment) -> None:
        """All of ``segment`` was durable, but it may have been sealed just then, and the cut of the room behind its
        batches lost, or made by a process that was killed before it synced it."""
        try:
            segment.next_offset()
        except CorruptLogError as error:
            cut_room(segment, error.position)
        self.unsynced.append(segment.log_path)

    def _drop(self, segment: Segment) -> None:
        _log.warning("dropping a segment behind the torn end", path=segment.log_path, bytes_cut=segment.size)
        self.bytes_cut += segment.size
        segment.close()
        for path in segment.paths:
            self.disk.unlink_if_exists(path)

    def _rebuild_from(self, first: int) -> None:
        base = self.segments[first].base_offset
        self._replay_up_to(base, self.producers)
        self.snapshots.remove_after(base)
        self.replayed = True
        for segment in self.segments[first:]:
            rebuild_indexes(segment, self.config, self.producers, self.hints.now_ms)
            for _, header in segment.headers():
                if header.partition_leader_epoch > self.epochs.latest_epoch:
                    self.epochs.assign(header.partition_leader_epoch, header.base_offset)
            if segment is not self.segments[-1]:
                segment.seal()
                self.unsynced.extend(path for path in segment.paths if self.disk.exists(path))
                self._snapshot(self.segments[self.segments.index(segment) + 1].base_offset)

    def _replay_up_to(self, offset: int, producers: ProducerStateTable) -> int:
        return replay_up_to(offset, self.snapshots, self.segments, producers, self.hints.now_ms)

    def _doubt_names(self) -> None:
        """The process before may have been killed ahead of the first sync of what it had made; segments are synced from
        the recovery point on in any case."""
        self.unsynced += (os.path.join(self.directory, name) for name in (PARTITION_METADATA, LEADER_EPOCH_CHECKPOINT))
        self.unsynced += (self.directory, os.path.dirname(self.directory))

    # The rest --------------------------------------------------------------------------------------------------------

    def _start(self, end: int) -> int:
        checkpoint = self.hints.log_start_offset
        return max(checkpoint, self.segments[0].base_offset) if self.segments else max(checkpoint, end)

    def _start_over(self, start: int) -> int:
        """All that is left lies below the log start offset: records that were deleted on purpose."""
        for segment in self.segments:
            self._drop(segment)
        self.segments.clear()
        self.snapshots.remove_after(-1)
        self.epochs.clear()
        self.producers.clear()
        self.replayed = True
        return start

    def _activate(self, end: int) -> None:
        if not self.segments:
            segment = Segment.create(
                self.disk,
                self.directory,
                end,
                index_interval_bytes=self.config.index_interval_bytes,
                index_bytes_max=self.config.segment_index_bytes,
            )
            segment.created_ms = self.hints.now_ms
            self.segments.append(segment)
            self.unsynced.append(self.directory)
        active = self.segments[-1]
        active.activate(self.config.segment_index_bytes)
        active.begin_tail(end)
        active.bytes_since_index_entry = 0

    def _find_epochs(self) -> None:
        """Epochs as the batches tell them: slow, for a lost or damaged file only."""
        self.epochs.truncate_from_end(-1)
        for segment in self.segments:
            for _, header in segment.headers():
                if header.partition_leader_epoch > self.epochs.latest_epoch:
                    self.epochs.assign(header.partition_leader_epoch, header.base_offset)

    def _load_producers(self, end: int) -> None:
        """Producers at the end of the log, from the best snapshot on; the result is a snapshot of its own."""
        self.snapshots.remove_after(end)
        self.snapshots.remove_strays(segment.base_offset for segment in self.segments)
        if not self.replayed:
            self._replay_up_to(end, self.producers)
        self._snapshot(end)

    def _snapshot(self, offset: int) -> None:
        if offset > max(self.snapshots.last, 0):
            self.unsynced.append(self.snapshots.write(offset, self.producers))


def _offset_in(name: str) -> int:
    parsed = parse_segment_file(name)
    return parsed[0] if parsed else 2**63

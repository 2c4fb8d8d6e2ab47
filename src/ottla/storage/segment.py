"""One segment of a log: a ``.log`` file of record batches and the indexes into it.

A segment is *active* (appended to, its indexes growing) or *sealed*. Sealed ones open their files on first use. The
active one remembers where its latest batches are, so that a consumer at the tail is served without a system call.
"""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from ottla.records.batch import BATCH_OVERHEAD, LENGTH_OVERHEAD, MAGIC, BatchHeader, read_header
from ottla.storage.disk import Disk
from ottla.storage.errors import CorruptLogError
from ottla.storage.names import (
    FILLER,
    LOG_SUFFIX,
    OFFSET_INDEX_SUFFIX,
    SEGMENT_SUFFIXES,
    TIME_INDEX_SUFFIX,
    TXN_INDEX_SUFFIX,
    segment_file,
)
from ottla.storage.offset_index import OffsetIndex
from ottla.storage.region import FileHandle
from ottla.storage.time_index import NO_TIMESTAMP, TimeIndex
from ottla.storage.txn_index import AbortedTransaction, TransactionIndex

TAIL_BATCHES_MAX: Final = 1024
HEADER_READ_BYTES: Final = 4096
SCAN_READ_BYTES: Final = 1 << 20


class Location(NamedTuple):
    """Where a batch is: byte position in the ``.log``, bytes of the batch."""

    position: int
    size: int


class Segment:
    """The files that begin at ``base_offset``. Owned by one ``Log``; not thread-safe but where it says so."""

    __slots__ = (
        "_disk",
        "_first_timestamp",
        "_handle",
        "_max_timestamp",
        "_max_timestamp_offset",
        "_tail_floor",
        "_tail_last_offsets",
        "_tail_positions",
        "active",
        "base_offset",
        "bytes_since_index_entry",
        "checked",
        "closed",
        "created_ms",
        "directory",
        "filled_to",
        "index_interval_bytes",
        "indexes_full",
        "mark",
        "offset_index",
        "rebuild",
        "size",
        "time_index",
        "txn_index",
    )

    def __init__(
        self, disk: Disk, directory: str, base_offset: int, size: int, *, index_interval_bytes: int, mark: str = ""
    ) -> None:
        self._disk = disk
        self.directory = directory
        self.mark = mark
        """Behind the names of all files: of a segment that is not in its place yet."""
        self.base_offset = base_offset
        self.size = size
        """Bytes of batches in the ``.log``; the file is longer only where it was preallocated, or written ahead."""
        self.filled_to = 0
        """Where the room ends that is behind the batches; no more than ``size`` where there is none."""
        self.active = False
        self.index_interval_bytes = index_interval_bytes
        self.bytes_since_index_entry = 0
        self.indexes_full = False
        """No index entry fits any more: time for a new segment."""
        self.created_ms = 0
        self.rebuild: Callable[[Segment], None] | None = None
        """Writes the indexes anew when they turn out to be unusable."""
        self.checked = True
        """The indexes can be used; not known of those found at start."""
        self.closed = False
        """Given up by its log: deleted, or shut down."""
        self.offset_index = OffsetIndex(disk, self._path(OFFSET_INDEX_SUFFIX), base_offset)
        self.time_index = TimeIndex(disk, self._path(TIME_INDEX_SUFFIX), base_offset)
        self.txn_index = TransactionIndex(disk, self._path(TXN_INDEX_SUFFIX))
        self._handle: FileHandle | None = None
        self._first_timestamp: int | None = None
        self._max_timestamp: int | None = None
        self._max_timestamp_offset = base_offset
        self._tail_floor = base_offset
        self._tail_last_offsets: list[int] = []
        self._tail_positions: list[int] = []

    @classmethod
    def create(
        cls,
        disk: Disk,
        directory: str,
        base_offset: int,
        *,
        index_interval_bytes: int,
        index_bytes_max: int,
        mark: str = "",
    ) -> "Segment":
        """A new active segment with empty files. Whatever had their names is emptied."""
        segment = cls(disk, directory, base_offset, 0, index_interval_bytes=index_interval_bytes, mark=mark)
        fd = disk.open(segment.log_path, create=True)
        segment._handle = FileHandle(disk, segment.log_path, fd)
        disk.truncate(fd, 0)
        segment._max_timestamp = NO_TIMESTAMP
        segment.offset_index.file.reset(index_bytes_max)
        segment.time_index.reset(index_bytes_max)
        segment.txn_index.reset()
        segment.active = True
        segment._note_fullness()
        return segment

    # Names and files -------------------------------------------------------------------------------------------------

    @property
    def log_path(self) -> str:
        return self._path(LOG_SUFFIX)

    @property
    def paths(self) -> tuple[str, ...]:
        """All files a segment can have; the transaction index often is not there."""
        return tuple(self._path(suffix) for suffix in SEGMENT_SUFFIXES)

    @property
    def handle(self) -> FileHandle:
        """The open ``.log``; opened here where it was not."""
        handle = self._handle
        if handle is None:
            handle = self._handle = FileHandle(self._disk, self.log_path, self._disk.open(self.log_path))
        return handle

    @property
    def open_handle(self) -> FileHandle | None:
        """The ``.log`` where it is open already."""
        return self._handle

    def _path(self, suffix: str) -> str:
        return os.path.join(self.directory, segment_file(self.base_offset, suffix) + self.mark)

    # Appending -------------------------------------------------------------------------------------------------------

    def append(self, batches: bytes | bytearray | memoryview, headers: Sequence[tuple[int, BatchHeader]]) -> None:
        """Write whole batches at the end and note them in the indexes.

        Raises ``OSError`` with the file and the indexes as they were, or as good: what was written beyond ``size`` is
        cut again, and if even that fails it is past the end for readers and for the next append.
        """
        start = self.size
        self._write_behind(batches)
        if not start:
            self._first_timestamp = headers[0][1].max_timestamp
        interval = self.index_interval_bytes
        since = self.bytes_since_index_entry
        max_timestamp = self._max_timestamp
        assert max_timestamp is not None, "not an active segment"
        for at, header in headers:
            position = start + at
            last_offset = header.base_offset + header.last_offset_delta
            if header.max_timestamp > max_timestamp:
                self._max_timestamp = max_timestamp = header.max_timestamp
                self._max_timestamp_offset = last_offset
            if since > interval:
                self._index(last_offset, position)
                since = 0
            since += header.batch_length + LENGTH_OVERHEAD
            self._tail_last_offsets.append(last_offset)
            self._tail_positions.append(position)
        self.bytes_since_index_entry = since
        self.size = start + len(batches)
        if len(self._tail_positions) > TAIL_BATCHES_MAX:
            self._shorten_tail()

    def _write_behind(self, data: bytes | bytearray | memoryview) -> None:
        """Write ``data`` behind the batches. Raises ``OSError`` with the file cut to them, or as good."""
        try:
            self._disk.write(self.handle.fd, data, self.size)
        except OSError:
            # Any part of it may be in the file, and stays there if the cut fails too: until the segment is sealed.
            self.filled_to = max(self.filled_to, self.size + len(data))
            self.cut(self.size)
            raise

    def _index(self, last_offset: int, position: int) -> None:
        """Add entries; where the disk has no room for them the segment does without, the log being what counts."""
        if self.indexes_full:
            return
        try:
            self.offset_index.append(last_offset, position)
            self.time_index.maybe_append(self.max_timestamp, self._max_timestamp_offset)
        except OSError:
            pass
        self._note_fullness()

    def _note_fullness(self) -> None:
        self.indexes_full = self.offset_index.full or self.time_index.full

    def _shorten_tail(self) -> None:
        half = TAIL_BATCHES_MAX // 2
        self._tail_floor = self._tail_last_offsets[half - 1] + 1
        del self._tail_last_offsets[:half]
        del self._tail_positions[:half]

    def index_batch(self, position: int, header: BatchHeader) -> None:
        """Note a batch that is in the file already: recovery builds the indexes anew with it."""
        if header.max_timestamp > self.max_timestamp:
            self._max_timestamp = header.max_timestamp
            self._max_timestamp_offset = header.last_offset
        if self.bytes_since_index_entry > self.index_interval_bytes:
            self._index(header.last_offset, position)
            self.bytes_since_index_entry = 0
        self.bytes_since_index_entry += header.size

    # Finding ---------------------------------------------------------------------------------------------------------

    def locate(self, offset: int) -> Location | None:
        """The first batch that ends at ``offset`` or later; ``None`` where the segment has none.

        Raises ``CorruptLogError`` where the headers on the way do not make sense.
        """
        if offset >= self._tail_floor and self._tail_positions:
            slot = bisect_left(self._tail_last_offsets, offset)
            positions = self._tail_positions
            if slot == len(positions):
                return None
            after = positions[slot + 1] if slot + 1 < len(positions) else self.size
            return Location(positions[slot], after - positions[slot])
        for position, header in self.headers(self._batch_position(lambda index: index.lookup(offset))):
            if header.base_offset + header.last_offset_delta >= offset:
                return Location(position, header.batch_length + LENGTH_OVERHEAD)
        return None

    def headers_up_to(self, end: int, size: int) -> Iterator[tuple[int, BatchHeader]]:
        """The batches that lie in the last ``size`` bytes before position ``end``, and perhaps a few before those.

        Raises as ``headers`` does.
        """
        for position, header in self.headers(self._batch_position(lambda index: index.lookup_position(end - size))):
            if position >= end:
                break
            yield position, header

    def _batch_position(self, look: Callable[[OffsetIndex], tuple[int, int]]) -> int:
        """Where a batch begins, by what ``look`` finds in the index."""
        self.check_indexes()
        entry = look(self.offset_index)
        if entry[1] and not self._points_at_batch(*entry):
            self._rebuild_indexes()
            entry = look(self.offset_index)
        return entry[1]

    def _points_at_batch(self, last_offset: int, position: int) -> bool:
        """Whether an index entry is true: indexes have no checksum, and a wrong one would skip records."""
        if position + BATCH_OVERHEAD > self.size:
            return False
        header = read_header(self.read(position, BATCH_OVERHEAD))
        return header.magic == MAGIC and header.last_offset == last_offset

    def position_for_timestamp(self, timestamp: int) -> int:
        """Where to begin looking for the first record at or after ``timestamp``."""
        self.check_indexes()
        found, offset = self.time_index.lookup(timestamp)
        if found >= 0 and not self._has_timestamp(offset, found):
            self._rebuild_indexes()
            found, offset = self.time_index.lookup(timestamp)
        location = self.locate(offset) if found >= 0 else None
        return location.position if location is not None else 0

    def _has_timestamp(self, offset: int, timestamp: int) -> bool:
        """Whether a time index entry is true."""
        location = self.locate(offset)
        if location is None:
            return False
        header = read_header(self.read(location.position, BATCH_OVERHEAD))
        return header.max_timestamp == timestamp and header.base_offset <= offset

    def headers(self, position: int = 0) -> Iterator[tuple[int, BatchHeader]]:
        """The batches from ``position``, which one must begin at, to the end of the segment; only headers are read.

        Raises ``CorruptLogError``: every byte below ``size`` belongs to a whole batch.
        """
        fd = self.handle.fd
        end = self.size
        window, window_at = b"", 0
        while position < end:
            at = position - window_at
            if at < 0 or at + BATCH_OVERHEAD > len(window):
                window, window_at, at = (
                    self._disk.read(fd, min(HEADER_READ_BYTES, end - position), position),
                    position,
                    0,
                )
                if len(window) < BATCH_OVERHEAD:
                    raise CorruptLogError(self.log_path, position, f"{end - position} bytes are no whole batch header")
            header = read_header(window, at)
            size = header.batch_length + LENGTH_OVERHEAD
            if size < BATCH_OVERHEAD or header.magic != MAGIC or position + size > end or header.last_offset_delta < 0:
                raise CorruptLogError(self.log_path, position, f"no batch begins here ({header})")
            yield position, header
            position += size

    def read(self, position: int, size: int) -> bytes:
        return self._disk.read(self.handle.fd, size, position)

    def next_offset(self) -> int:
        """The offset after the last batch; ``base_offset`` in an empty segment. Reads from the last index entry on."""
        self.check_indexes()
        following = self.base_offset
        for _, header in self.headers(self.offset_index.last()[1]):
            following = header.next_offset
        return following

    @property
    def max_timestamp(self) -> int:
        """Greatest timestamp in the segment; -1 where no batch has one."""
        if self._max_timestamp is None:
            self.check_indexes()
            self._max_timestamp, self._max_timestamp_offset = self.time_index.last()
        return self._max_timestamp

    @property
    def max_timestamp_offset(self) -> int:
        """Last offset of the first batch that has the greatest timestamp."""
        assert self.max_timestamp is not None
        return self._max_timestamp_offset

    @property
    def first_timestamp(self) -> int:
        """Greatest timestamp of the first batch, by which the segment's age is measured; -1 where it has none."""
        if self._first_timestamp is None:
            if not self.size:
                return NO_TIMESTAMP
            self._first_timestamp = next(self.headers())[1].max_timestamp
        return self._first_timestamp

    def age_ms(self, now_ms: int, timestamp: int) -> int:
        """How long the segment has been filled, by the records' time where they have one, else by the clock."""
        first = self.first_timestamp
        return timestamp - first if first >= 0 else now_ms - self.created_ms

    @property
    def modified_ms(self) -> int:
        return self._disk.modified_ms(self.log_path)

    def aborted_transactions(self, start: int, upper: int) -> tuple[list[AbortedTransaction], bool]:
        """As ``TransactionIndex.collect``, of a segment that nobody may have looked at since the start."""
        try:
            return self.txn_index.collect(start, upper)
        except ValueError:
            # Checked only now: to check beforehand would map the indexes of a whole log for one read.
            self.check_indexes()
            return self.txn_index.collect(start, upper)

    def check_indexes(self) -> None:
        """Make sure the indexes of a segment found at start can be used, once, by rebuilding them where they cannot."""
        if self.checked:
            return
        self.checked = True
        try:
            flaw = self.offset_index.flaw(self.size) or self.time_index.flaw(self.size)
            if flaw is None:
                self.txn_index.entries()
        except (FileNotFoundError, ValueError) as error:
            flaw = str(error)
        if flaw is None and self.offset_index.file.size and not self._points_at_batch(*self.offset_index.last()):
            flaw = "the last entry of the offset index points at no batch"
        if flaw is None and self.time_index.file.size:
            timestamp, offset = self.time_index.last()
            if not self._has_timestamp(offset, timestamp):
                flaw = "the last entry of the time index is untrue"
        if flaw is not None:
            self._rebuild_indexes()

    def _rebuild_indexes(self) -> None:
        if self.rebuild is None:
            raise CorruptLogError(self.offset_index.file.path, 0, "an entry of the index is untrue")
        self.rebuild(self)

    # Life ------------------------------------------------------------------------------------------------------------

    def activate(self, index_bytes_max: int) -> None:
        """Take appends: the indexes grow again."""
        self.check_indexes()
        assert self.max_timestamp >= NO_TIMESTAMP
        self.offset_index.file.grow(index_bytes_max)
        self.time_index.file.grow(index_bytes_max)
        if not self.active:
            self._tail_floor = 2**63 - 1 if self.size else self.base_offset
        self.active = True
        self._note_fullness()

    def begin_tail(self, next_offset: int) -> None:
        """Appends go on at ``next_offset``: what is below is found through the index."""
        self._tail_floor = next_offset
        self._tail_last_offsets.clear()
        self._tail_positions.clear()

    def preallocate(self, size: int) -> None:
        self._disk.truncate(self.handle.fd, size)
        self.filled_to = size

    def write_ahead(self, count: int) -> None:
        """Write ``count`` bytes of room behind the batches. Raises ``OSError`` as ``append`` does."""
        self._write_behind(FILLER * count)
        self.filled_to = max(self.filled_to, self.size + count)

    def seal(self) -> bool:
        """Close the segment for appends: the time index gets its last entry, the indexes are cut to their entries, and
        the ``.log`` to its batches. Returns whether there was anything behind them."""
        self.time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset)
        self.offset_index.file.trim()
        self.time_index.file.trim()
        longer = self.filled_to > self.size
        if longer:
            self.cut(self.size)
        self.active = False
        self._tail_last_offsets = []
        self._tail_positions = []
        self._tail_floor = 2**63 - 1
        return longer

    def begin_rebuild(self, index_bytes_max: int) -> None:
        """Empty the indexes for ``index_batch``; ``seal`` or ``activate`` ends it."""
        self.checked = True
        self.offset_index.file.reset(index_bytes_max)
        self.time_index.reset(index_bytes_max)
        self.txn_index.reset()
        self.bytes_since_index_entry = 0
        self._note_fullness()
        self._max_timestamp = NO_TIMESTAMP
        self._max_timestamp_offset = self.base_offset
        self._first_timestamp = None

    def cut(self, size: int) -> None:
        """Cut the ``.log`` to its first ``size`` bytes; the indexes are the caller's."""
        self._disk.truncate(self.handle.fd, size)
        self.size = size
        self.filled_to = 0

    def truncate_to(self, offset: int, index_bytes_max: int, now_ms: int) -> None:
        """Drop the batches that reach ``offset`` or beyond, and take appends there."""
        location = self.locate(offset)
        if not self.active:
            self.activate(index_bytes_max)
        self.offset_index.truncate_to(offset)
        self.time_index.truncate_to(offset)
        self.txn_index.truncate_to(offset)
        if location is not None:
            self.cut(location.position)
        if not self.size:
            self.created_ms = now_ms
            self._first_timestamp = None
        self.bytes_since_index_entry = 0
        self._note_fullness()
        self.begin_tail(offset)
        self._reread_max_timestamp()

    def _reread_max_timestamp(self) -> None:
        self._max_timestamp, self._max_timestamp_offset = self.time_index.last()
        start = self.offset_index.lookup(self._max_timestamp_offset)[1]
        for _, header in self.headers(start):
            if header.max_timestamp > self._max_timestamp:
                self._max_timestamp = header.max_timestamp
                self._max_timestamp_offset = header.last_offset

    def sync(self) -> None:
        """Make the batches durable. May be called from any thread, also while batches are appended.

        A segment that is deleted or closed under the flush needs none.
        """
        try:
            handle = self._handle if self.closed else self.handle
        except FileNotFoundError:
            if self.closed:
                return
            raise
        if handle is not None:
            self._disk.sync_data(handle.fd)

    def moved(self, directory: str) -> None:
        """The directory has a new name; open files stay open."""
        self.directory = directory
        self.offset_index.file.renamed(self._path(OFFSET_INDEX_SUFFIX))
        self.time_index.file.renamed(self._path(TIME_INDEX_SUFFIX))
        self.txn_index.path = self._path(TXN_INDEX_SUFFIX)

    def rename(self, mark: str) -> None:
        """Give the files another mark, the ``.log`` first; they need not be open."""
        sources = self.paths
        self.mark = mark
        for source, target in zip(sources, self.paths, strict=True):
            try:
                self._disk.rename(source, target)
            except FileNotFoundError:
                continue
        self.moved(self.directory)

    def close(self) -> None:
        """Let go of the files; regions that are still out keep theirs."""
        self.closed = True
        self._handle = None
        self.offset_index.file.close()
        self.time_index.file.close()
        self.txn_index.close()

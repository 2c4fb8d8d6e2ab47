"""One cleaning of a log: its segments read twice, and written again without the records that compaction drops.

``CleaningPass`` runs wherever it does not disturb, in a process of its own as a rule, and changes nothing that is in
use: a cleaned segment lies beside those it is made from under ``.cleaned`` names, durable, until the log itself puts it
in their place (``Log.replace_segments``) and says so. Which records stay is ``records.cleaning``'s to say; which logs
are cleaned, and how far, is decided by ``storage.cleanable``.

A batch whose header or checksum lies is ``CorruptLogError``, one that cannot be unpacked within the limit
``CorruptRecord``: then nothing of the segment it is in has been changed.
"""

import os
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from ottla.records.batch import (
    BATCH_OVERHEAD,
    CONTROL_FLAG,
    LENGTH_OVERHEAD,
    MAGIC,
    BatchHeader,
    read_header,
    verify_crc,
)
from ottla.records.cleaning import BatchCleaner, CleanedTransactions, CleaningRules
from ottla.records.errors import CorruptRecord
from ottla.records.offset_map import OffsetMap
from ottla.records.reader import read_body, read_records
from ottla.storage.cleaning_orders import CleanedSegment, CleaningJob
from ottla.storage.disk import Disk
from ottla.storage.errors import CorruptLogError
from ottla.storage.names import (
    CLEANED_SUFFIX,
    LOG_SUFFIX,
    OFFSET_INDEX_SUFFIX,
    TIME_INDEX_SUFFIX,
    segment_file,
)
from ottla.storage.offset_index import RELATIVE_OFFSET_MAX
from ottla.storage.segment import Segment
from ottla.storage.txn_index import AbortedTransaction

SYNC_INTERVAL_BYTES: Final = 4 * 1024 * 1024
"""Written to the disk as often, so that nobody else's flush waits behind a whole segment."""


class CleaningStuck(Exception):
    """The offset map has no room for the keys of a single batch, so no cleaning would come further."""


class SegmentExtent(Struct, frozen=True, kw_only=True):
    """A segment as far as grouping asks: bytes of batches and of index entries."""

    base_offset: int
    size: int
    index_size: int
    time_index_size: int


class CleaningPass:
    """The steps of one cleaning: ``build_map``, then ``clean`` each of ``groups``, in this order.

    ``moved(bytes)`` is called after every read and write: to slow down, or to give up by raising.
    """

    def __init__(self, job: CleaningJob, disk: Disk, moved: Callable[[int], None]) -> None:
        self.job = job
        self.map = OffsetMap(job.entries_max, job.first_dirty_offset)
        self._disk = disk
        self._moved = moved
        self._aborted = list(job.aborted_above)
        self._cleaner: BatchCleaner | None = None
        self._transactions = CleanedTransactions((), 0)

    def build_map(self) -> int:
        """Read the dirty part; returns the offset up to which the log can be cleaned now.

        Raises ``CorruptLogError``, ``CorruptRecord``, ``CleaningStuck``, ``OSError`` and what ``moved`` raises.
        """
        job = self.job
        self.drop_leftovers()
        for base, _ in job.segments:
            self._aborted += Segment(self._disk, job.directory, base, 0, index_interval_bytes=0).txn_index.entries()
        transactions = CleanedTransactions(self._aborted, job.first_dirty_offset)
        for slot, (base, size) in enumerate(job.segments):
            following = job.segments[slot + 1][0] if slot + 1 < len(job.segments) else job.upper_offset
            if following <= job.first_dirty_offset:
                continue
            if not self._map_segment(base, size, transactions):
                break
            self.map.pass_over(following - 1)
        if self.map.latest_offset < job.first_dirty_offset:
            raise CleaningStuck(f"a batch at offset {job.first_dirty_offset} has more keys than {job.entries_max}")
        first = job.segments[0][0]
        self._transactions = CleanedTransactions(self._aborted, first)
        rules = CleaningRules(
            now_ms=job.now_ms,
            delete_retention_ms=job.delete_retention_ms,
            upper_offset=job.upper_offset,
            decompressed_bytes_max=job.decompressed_bytes_max,
            last_records=job.last_records,
        )
        self._cleaner = BatchCleaner(rules, self.map, self._transactions)
        return self.map.latest_offset + 1

    def drop_leftovers(self) -> None:
        """Of an earlier cleaning that was given up: recovery would take them for a sign that a swap had not begun."""
        for entry in self._disk.entries(self.job.directory):
            if entry.name.endswith(CLEANED_SUFFIX):
                self._disk.unlink_if_exists(os.path.join(self.job.directory, entry.name))

    def _map_segment(self, base: int, size: int, transactions: CleanedTransactions) -> bool:
        for header, batch in self._batches(base, size):
            if header.last_offset < self.job.first_dirty_offset:
                continue
            if header.attributes & CONTROL_FLAG:
                record = next(read_records(batch), None)
                transactions.is_spent(header, None if record is None else record.key)
            elif not transactions.is_aborted(header):
                if not self.map.index(header, read_body(batch, header, limit=self.job.decompressed_bytes_max)):
                    return False
                continue
            self.map.pass_over(header.last_offset)
        return True

    def groups(self) -> list[list[SegmentExtent]]:
        """The segments to clean, in runs that become one segment each."""
        sizes = {entry.name: entry.size for entry in self._disk.entries(self.job.directory)}
        segments = [
            SegmentExtent(
                base_offset=base,
                size=size,
                index_size=sizes.get(segment_file(base, OFFSET_INDEX_SUFFIX), 0),
                time_index_size=sizes.get(segment_file(base, TIME_INDEX_SUFFIX), 0),
            )
            for base, size in self.job.segments
            if base <= self.map.latest_offset
        ]
        return group_segments(
            segments,
            size_max=self.job.segment_bytes,
            index_size_max=self.job.segment_index_bytes,
            upper_offset=self.job.upper_offset,
        )

    def clean(self, group: list[SegmentExtent]) -> CleanedSegment:
        """Write the one segment that the group becomes; durable when this returns. Raises as ``build_map`` does, and
        leaves none then."""
        cleaned = Segment.create(
            self._disk,
            self.job.directory,
            group[0].base_offset,
            index_interval_bytes=self.job.index_interval_bytes,
            index_bytes_max=self.job.segment_index_bytes,
            mark=CLEANED_SUFFIX,
        )
        try:
            return self._clean_into(cleaned, group)
        except Exception:
            for path in cleaned.paths:
                self._disk.unlink_if_exists(path)
            raise
        finally:
            cleaned.close()

    def _clean_into(self, cleaned: Segment, group: list[SegmentExtent]) -> CleanedSegment:
        cleaner = self._cleaner
        assert cleaner is not None, "build_map comes first"
        read, kept = cleaner.records_read, cleaner.records_kept
        out = _Output(cleaned, self.job.io_bytes, self._moved)
        for extent in group:
            for header, batch in self._batches(extent.base_offset, extent.size):
                result = cleaner.clean(header, batch)
                if result is batch:
                    out.add(header, batch)
                elif result is not None:
                    out.add(read_header(result), result)
        out.write()
        for aborted in self._transactions.retained:
            assert isinstance(aborted, AbortedTransaction)
            cleaned.txn_index.append(aborted)
        self._transactions.retained.clear()
        cleaned.seal()
        for path in cleaned.paths:
            self._disk.sync_path(path)
        source = os.path.join(self.job.directory, segment_file(group[-1].base_offset, LOG_SUFFIX))
        # Retention judges a segment without timestamps by it.
        self._disk.set_modified_ms(cleaned.log_path, self._disk.modified_ms(source))
        self._disk.sync_directory(self.job.directory)
        return CleanedSegment(
            base_offset=cleaned.base_offset,
            size=cleaned.size,
            replaces=[extent.base_offset for extent in group],
            bytes_read=sum(extent.size for extent in group),
            records_read=cleaner.records_read - read,
            records_kept=cleaner.records_kept - kept,
        )

    def _batches(self, base: int, size: int) -> Iterator[tuple[BatchHeader, memoryview]]:
        """Every batch of a segment, checked as far as can be without unpacking it."""
        path = os.path.join(self.job.directory, segment_file(base, LOG_SUFFIX))
        fd = self._disk.open(path, writable=False)
        try:
            position, at, expected = 0, 0, base
            window = memoryview(b"")
            while position < size:
                if at + BATCH_OVERHEAD > len(window):
                    window, at = self._read(fd, position, min(self.job.io_bytes, size - position)), 0
                if len(window) < BATCH_OVERHEAD:
                    raise CorruptLogError(path, position, f"{size - position} bytes are no whole batch header")
                header = read_header(window, at)
                length = header.batch_length + LENGTH_OVERHEAD
                if not BATCH_OVERHEAD <= length <= size - position or header.magic != MAGIC:
                    raise CorruptLogError(path, position, f"no batch begins here ({header})")
                if at + length > len(window):
                    window, at = self._read(fd, position, min(max(length, self.job.io_bytes), size - position)), 0
                self._check(path, position, header, expected, window[at : at + length])
                yield header, window[at : at + length]
                expected = header.next_offset
                position += length
                at += length
        finally:
            self._disk.close(fd)

    def _check(self, path: str, position: int, header: BatchHeader, expected: int, batch: memoryview) -> None:
        if len(batch) < header.size:
            raise CorruptLogError(path, position, f"{len(batch)} bytes are left of a batch of {header.size}")
        if header.base_offset < expected or header.last_offset_delta < 0:
            raise CorruptLogError(path, position, f"offsets {header.base_offset} to {header.last_offset} are not due")
        try:
            verify_crc(batch, 0, header)
        except CorruptRecord as error:
            raise CorruptLogError(path, position, error.message or "checksum") from error

    def _read(self, fd: int, position: int, size: int) -> memoryview:
        data = memoryview(self._disk.read(fd, size, position))
        self._moved(len(data))
        return data


class _Output:
    """What is written to a cleaned segment, gathered to whole writes."""

    def __init__(self, segment: Segment, io_bytes: int, moved: Callable[[int], None]) -> None:
        self._segment = segment
        self._io_bytes = io_bytes
        self._moved = moved
        self._pending = bytearray()
        self._headers: list[tuple[int, BatchHeader]] = []
        self._unsynced = 0

    def add(self, header: BatchHeader, batch: memoryview | bytearray) -> None:
        self._headers.append((len(self._pending), header))
        self._pending += batch
        if len(self._pending) >= self._io_bytes:
            self.write()

    def write(self) -> None:
        size = len(self._pending)
        if not size:
            return
        self._segment.append(self._pending, self._headers)
        self._pending = bytearray()
        self._headers = []
        self._unsynced += size
        if self._unsynced >= SYNC_INTERVAL_BYTES:
            self._segment.sync()
            self._unsynced = 0
        self._moved(size)


def group_segments(
    segments: list[SegmentExtent], *, size_max: int, index_size_max: int, upper_offset: int
) -> list[list[SegmentExtent]]:
    """Runs of segments that fit into one: by their present sizes, and by the offsets an index can hold."""
    groups: list[list[SegmentExtent]] = []
    size = index_size = time_index_size = 0
    for number, segment in enumerate(segments):
        following = segments[number + 1].base_offset if number + 1 < len(segments) else upper_offset
        size += segment.size
        index_size += segment.index_size
        time_index_size += segment.time_index_size
        if (
            groups
            and size <= size_max
            and max(index_size, time_index_size) <= index_size_max
            and (not segment.size or following - 1 - groups[-1][0].base_offset <= RELATIVE_OFFSET_MAX)
        ):
            groups[-1].append(segment)
        else:
            groups.append([segment])
            size, index_size, time_index_size = segment.size, segment.index_size, segment.time_index_size
    return groups

"""The ``.snapshot`` files of a log: which there are, writing one, and coming back from the best of them.

A snapshot named for offset N holds the producers as the batches below N left them. One is written where a segment
begins and where the log ends at a clean shutdown.
"""

import os
from bisect import bisect_right, insort
from collections.abc import Iterable

from ottla.runtime.telemetry import get_logger
from ottla.storage.disk import Disk
from ottla.storage.names import SNAPSHOT_SUFFIX, segment_file
from ottla.transactions.producer_state import (
    CorruptSnapshot,
    ProducerSnapshotEntry,
    ProducerStateTable,
    decode_snapshot,
    encode_snapshot,
)

_log = get_logger("ottla.storage.recovery")


class ProducerSnapshots:
    """The snapshot files in one partition's directory."""

    __slots__ = ("_disk", "directory", "offsets")

    def __init__(self, disk: Disk, directory: str, offsets: Iterable[int]) -> None:
        self._disk = disk
        self.directory = directory
        self.offsets = sorted(offsets)

    def path(self, offset: int) -> str:
        return os.path.join(self.directory, segment_file(offset, SNAPSHOT_SUFFIX))

    @property
    def last(self) -> int:
        """Offset of the latest snapshot; -1 where there is none."""
        return self.offsets[-1] if self.offsets else -1

    def write(self, offset: int, table: ProducerStateTable) -> str:
        """Write the snapshot of ``offset``, unsynced, and return its path. Raises ``OSError`` and leaves none then."""
        path = self.path(offset)
        fd = self._disk.open(path, create=True)
        try:
            self._disk.truncate(fd, 0)
            self._disk.write(fd, encode_snapshot(table.snapshot()), 0)
        except OSError:
            self._disk.unlink_if_exists(path)
            raise
        finally:
            self._disk.close(fd)
        if offset not in self.offsets:
            insort(self.offsets, offset)
        return path

    def load(self, offset_max: int, table: ProducerStateTable, now_ms: int) -> int:
        """Load the latest readable snapshot at or below ``offset_max``; returns its offset, -1 and no producers if
        none.

        Unreadable ones are deleted: an older one and the log behind it say the same.
        """
        for offset in reversed(self.offsets[: bisect_right(self.offsets, offset_max)]):
            entries = self._read(offset)
            if entries is not None:
                table.load(entries, now_ms, self._disk.modified_ms(self.path(offset)))
                return offset
        table.clear()
        return -1

    def remove_after(self, offset: int) -> None:
        for later in self.offsets[bisect_right(self.offsets, offset) :]:
            self.remove(later)

    def remove_strays(self, base_offsets: Iterable[int]) -> None:
        """Keep those where a segment begins, and the latest if it lies behind them all."""
        bases = set(base_offsets)
        last_base = max(bases, default=-1)
        for offset in list(self.offsets):
            if offset not in bases and not (offset == self.last and offset > last_base):
                self.remove(offset)

    def remove(self, offset: int) -> None:
        self._disk.unlink_if_exists(self.path(offset))
        self.forget(offset)

    def forget(self, offset: int) -> None:
        if offset in self.offsets:
            self.offsets.remove(offset)

    def _read(self, offset: int) -> list[ProducerSnapshotEntry] | None:
        path = self.path(offset)
        try:
            return decode_snapshot(self._disk.read_file(path))
        except (CorruptSnapshot, FileNotFoundError) as error:
            _log.warning("producer snapshot unusable", path=path, reason=error)
            self.remove(offset)
            return None

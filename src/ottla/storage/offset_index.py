"""``.index``: eight-byte entries, offset relative to the segment's base (i32) and position in its ``.log`` (i32).

An entry holds the *last* offset of the batch that begins at its position. One is written for the first batch after
every ``index.interval.bytes``, so a lookup gives a place at or before the one wanted, from which headers are read.
"""

from bisect import bisect_right
from struct import Struct
from typing import Final

from ottla.storage.disk import Disk
from ottla.storage.index_file import IndexFile

ENTRY: Final = Struct(">ii")
RELATIVE_OFFSET_MAX: Final = 2**31 - 1


class OffsetIndex:
    """Offsets of one segment to positions."""

    __slots__ = ("base_offset", "file")

    def __init__(self, disk: Disk, path: str, base_offset: int) -> None:
        self.file = IndexFile(disk, path, ENTRY)
        self.base_offset = base_offset

    @property
    def full(self) -> bool:
        return self.file.growing and self.file.size + ENTRY.size > self.file.bytes_max

    def append(self, last_offset: int, position: int) -> None:
        self.file.append(last_offset - self.base_offset, position)

    def lookup(self, offset: int) -> tuple[int, int]:
        """The greatest entry at or below ``offset`` as ``(offset, position)``; ``(base, 0)`` where there is none."""
        slot = self._slot(offset - self.base_offset)
        if slot < 0:
            return self.base_offset, 0
        relative, position = self.entry(slot)
        return self.base_offset + relative, position

    def lookup_position(self, position: int) -> tuple[int, int]:
        """The greatest entry at or below ``position`` in the ``.log``, as ``lookup`` gives it."""
        slot = bisect_right(range(self.file.count), position, key=lambda slot: self.entry(slot)[1]) - 1
        if slot < 0:
            return self.base_offset, 0
        relative, found = self.entry(slot)
        return self.base_offset + relative, found

    def last(self) -> tuple[int, int]:
        """The last entry as ``(offset, position)``; ``(base, 0)`` where there is none."""
        count = self.file.count
        if not count:
            return self.base_offset, 0
        relative, position = self.entry(count - 1)
        return self.base_offset + relative, position

    def entry(self, slot: int) -> tuple[int, int]:
        relative, position = ENTRY.unpack_from(self.file.load(), slot * ENTRY.size)
        return relative, position

    def truncate_to(self, offset: int) -> None:
        """Drop the entries of ``offset`` and above."""
        self.file.truncate_to(self._slot(offset - 1 - self.base_offset) + 1)

    def flaw(self, log_size: int) -> str | None:
        """What makes the index unusable for a log of ``log_size`` bytes; found at the price of its last entry."""
        data = self.file.load()
        if len(data) % ENTRY.size:
            return f"{len(data)} bytes are not whole entries of {ENTRY.size}"
        if not self.file.size:
            return None
        relative, position = self.entry(self.file.count - 1)
        if relative <= 0 and self.file.count > 1:
            return f"its last entry points at relative offset {relative}"
        if not 0 <= position < max(log_size, 1) or relative < 0:
            return f"its last entry points at position {position} of {log_size} bytes"
        return None

    def _slot(self, relative: int) -> int:
        data = self.file.load()
        unpack = ENTRY.unpack_from
        low, high = 0, self.file.size // ENTRY.size
        while low < high:
            middle = (low + high) // 2
            if unpack(data, middle * ENTRY.size)[0] <= relative:
                low = middle + 1
            else:
                high = middle
        return low - 1

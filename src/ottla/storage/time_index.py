"""``.timeindex``: twelve-byte entries, the greatest timestamp so far (i64) and the relative offset it came with (i32).

Written beside an offset index entry where the timestamp has grown, and once more when the segment is sealed: the last
entry is the segment's greatest timestamp, by which retention judges it.
"""

from struct import Struct
from typing import Final

from ottla.storage.disk import Disk
from ottla.storage.index_file import IndexFile

ENTRY: Final = Struct(">qi")
NO_TIMESTAMP: Final = -1


class TimeIndex:
    """Timestamps of one segment to offsets."""

    __slots__ = ("_last_timestamp", "base_offset", "file")

    def __init__(self, disk: Disk, path: str, base_offset: int) -> None:
        self.file = IndexFile(disk, path, ENTRY)
        self.base_offset = base_offset
        self._last_timestamp: int | None = None

    @property
    def full(self) -> bool:
        # The last place is kept for the entry of the sealed segment.
        return self.file.growing and self.file.size + 2 * ENTRY.size > self.file.bytes_max

    def maybe_append(self, timestamp: int, offset: int) -> None:
        """Add an entry if the timestamp is greater than the last one's."""
        last = self._last_timestamp
        if last is None:
            last = self.last()[0]
        if timestamp > last:
            self.file.append(timestamp, offset - self.base_offset)
            last = timestamp
        self._last_timestamp = last

    def lookup(self, timestamp: int) -> tuple[int, int]:
        """The greatest entry at or below ``timestamp`` as ``(timestamp, offset)``; ``(-1, base)`` where none is."""
        data = self.file.load()
        low, high = 0, self.file.size // ENTRY.size
        while low < high:
            middle = (low + high) // 2
            if ENTRY.unpack_from(data, middle * ENTRY.size)[0] <= timestamp:
                low = middle + 1
            else:
                high = middle
        return self.entry(low - 1) if low else (NO_TIMESTAMP, self.base_offset)

    def last(self) -> tuple[int, int]:
        """The last entry as ``(timestamp, offset)``; ``(-1, base)`` where there is none."""
        count = self.file.count
        return self.entry(count - 1) if count else (NO_TIMESTAMP, self.base_offset)

    def entry(self, slot: int) -> tuple[int, int]:
        timestamp, relative = ENTRY.unpack_from(self.file.load(), slot * ENTRY.size)
        return timestamp, self.base_offset + relative

    def reset(self, bytes_max: int) -> None:
        self._last_timestamp = None
        self.file.reset(bytes_max)

    def truncate_to(self, offset: int) -> None:
        """Drop the entries of ``offset`` and above."""
        self._last_timestamp = None
        low, high = 0, self.file.count
        while low < high:
            middle = (low + high) // 2
            if self.entry(middle)[1] < offset:
                low = middle + 1
            else:
                high = middle
        self.file.truncate_to(low)

    def flaw(self, log_size: int) -> str | None:
        """What makes the index unusable for a log of ``log_size`` bytes, judged by its ends."""
        data = self.file.load()
        if len(data) % ENTRY.size:
            return f"{len(data)} bytes are not whole entries of {ENTRY.size}"
        if not self.file.size:
            return "it is empty" if log_size else None
        timestamp = self.last()[0]
        if timestamp < 0 or (self.file.count > 1 and timestamp <= self.entry(0)[0]):
            return f"its last timestamp is {timestamp}"
        return None

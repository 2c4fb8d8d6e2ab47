"""``.txnindex``: the aborted transactions that end in a segment; the file exists only where there are any.

Entries of 34 bytes: version i16 (0), producer id, first offset, last offset, last stable offset (i64 each), in the
order of the abort markers.
"""

from struct import Struct
from typing import Final, NamedTuple

from ottla.storage.disk import Disk

ENTRY: Final = Struct(">hqqqq")
VERSION: Final = 0


class AbortedTransaction(NamedTuple):
    """One aborted transaction; ``last_stable_offset`` as it was after the marker."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class TransactionIndex:
    """The aborted transactions of one segment: few, so all in memory once read."""

    __slots__ = ("_disk", "_entries", "path")

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._entries: list[AbortedTransaction] | None = None
        self.path = path

    def entries(self) -> list[AbortedTransaction]:
        """Raises ``ValueError`` where the file is not what its length or version promise."""
        if self._entries is None:
            self._entries = self._read() if self._disk.exists(self.path) else []
        return self._entries

    def append(self, aborted: AbortedTransaction) -> None:
        """Written through at once; raises ``OSError``."""
        entries = self.entries()
        fd = self._disk.open(self.path, create=True)
        try:
            self._disk.write(fd, ENTRY.pack(VERSION, *aborted), len(entries) * ENTRY.size)
        finally:
            self._disk.close(fd)
        entries.append(aborted)

    def collect(self, start: int, upper: int) -> tuple[list[AbortedTransaction], bool]:
        """The transactions that touch ``[start, upper)``, and whether later segments can have no more of them."""
        found = []
        for aborted in self.entries():
            if aborted.last_offset >= start and aborted.first_offset < upper:
                found.append(aborted)
            if aborted.last_stable_offset >= upper:
                return found, True
        return found, False

    def truncate_to(self, offset: int) -> None:
        """Drop the transactions whose marker is at ``offset`` or above."""
        kept = [aborted for aborted in self.entries() if aborted.last_offset < offset]
        if len(kept) == len(self.entries()):
            return
        fd = self._disk.open(self.path, create=True)
        try:
            self._disk.truncate(fd, len(kept) * ENTRY.size)
        finally:
            self._disk.close(fd)
        self._entries = kept

    def reset(self) -> None:
        """Begin anew, whatever the file holds."""
        self._disk.unlink_if_exists(self.path)
        self._entries = []

    def close(self) -> None:
        self._entries = None

    def _read(self) -> list[AbortedTransaction]:
        data = self._disk.read_file(self.path)
        if len(data) % ENTRY.size:
            raise ValueError(f"{self.path}: {len(data)} bytes are not whole entries of {ENTRY.size}")
        entries = []
        for version, *fields in ENTRY.iter_unpack(data):
            if version != VERSION:
                raise ValueError(f"{self.path}: unknown entry version {version}")
            entries.append(AbortedTransaction(*fields))
        return entries

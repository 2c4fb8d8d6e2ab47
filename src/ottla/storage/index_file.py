"""An index file: fixed-size entries, sorted, on disk as Kafka has them.

The index of the active segment *grows*: its file is extended with a hole to ``segment.index.bytes`` and trimmed when
the segment is sealed, as in Kafka. Its entries live in memory and reach the file in runs; a crash may lose them because
recovery rebuilds the index of every segment it does not trust. A sealed index is mapped when first asked. The file is
written with ``pwrite`` rather than through the mapping: on a full disk that is an error, not a SIGBUS.
"""

import mmap
from struct import Struct
from typing import Final

from ottla.storage.disk import Disk

UNWRITTEN_BYTES_MAX: Final = 4096


class IndexFile:
    """The entries of one index and their way to the file."""

    __slots__ = ("_disk", "_written", "bytes_max", "data", "entry", "growing", "path", "size")

    def __init__(self, disk: Disk, path: str, entry: Struct) -> None:
        self._disk = disk
        self._written = 0
        self.path = path
        self.entry = entry
        self.data: bytearray | mmap.mmap | bytes | None = None
        self.size = 0
        """Bytes of entries."""
        self.growing = False
        self.bytes_max = 0

    def load(self) -> bytearray | mmap.mmap | bytes:
        """The entries, mapped in on first use. Raises ``FileNotFoundError`` where there is no file."""
        if self.data is None:
            self.data = self._disk.map(self.path)
            self.size = len(self.data) - len(self.data) % self.entry.size
        return self.data

    @property
    def count(self) -> int:
        if self.data is None:
            self.load()
        return self.size // self.entry.size

    def grow(self, bytes_max: int) -> None:
        """Take entries from now on; the file is extended to ``bytes_max``, rounded down to whole entries."""
        if not isinstance(self.data, bytearray):
            found = self.load() if self.data is not None or self._disk.exists(self.path) else b""
            entries = bytearray(found[: self.size])
            self._drop()
            self.data = entries
            self.size = self._written = len(entries)
        bytes_max = max(bytes_max - bytes_max % self.entry.size, self.size)
        if not self.growing or bytes_max != self.bytes_max:
            self.growing = True
            self.bytes_max = bytes_max
            self._resize_file(bytes_max)

    def reset(self, bytes_max: int) -> None:
        """Forget all entries and take new ones."""
        self._drop()
        self.data = bytearray()
        self.size = self._written = 0
        self.bytes_max = bytes_max - bytes_max % self.entry.size
        self.growing = True
        self._resize_file(0, self.bytes_max)

    def append(self, *fields: int) -> None:
        data = self.data
        assert isinstance(data, bytearray)
        data += self.entry.pack(*fields)
        self.size = len(data)
        if self.size - self._written >= UNWRITTEN_BYTES_MAX:
            self.write_out()

    def write_out(self) -> None:
        """Bring the entries into the file. Raises ``OSError``; the entries then stay in memory."""
        if not self.growing or self._written == self.size:
            return
        assert isinstance(self.data, bytearray)
        fd = self._disk.open(self.path, create=True)
        try:
            self._disk.write(fd, bytes(self.data[self._written :]), self._written)
        finally:
            self._disk.close(fd)
        self._written = self.size

    def trim(self) -> None:
        """Write out and cut the file to its entries: the index takes no more."""
        if not self.growing:
            return
        self.write_out()
        self._resize_file(self.size)
        self.growing = False
        self._drop()

    def truncate_to(self, count: int) -> None:
        """Keep the first ``count`` entries. Only while growing."""
        assert isinstance(self.data, bytearray)
        del self.data[count * self.entry.size :]
        if self._written > len(self.data):
            # The cut entries must not stand behind the end: a file that is never trimmed would show them again.
            self._resize_file(len(self.data), self.bytes_max)
            self._written = len(self.data)
        self.size = len(self.data)

    def renamed(self, path: str) -> None:
        self.path = path

    def close(self) -> None:
        """Unmap. A later use maps again."""
        self._drop()

    def _drop(self) -> None:
        if isinstance(self.data, mmap.mmap):
            self.data.close()
        self.data = None

    def _resize_file(self, *sizes: int) -> None:
        """Give the file these sizes, one after the other: cut first, then extended, what was cut reads as zeros."""
        fd = self._disk.open(self.path, create=True)
        try:
            for size in sizes:
                self._disk.truncate(fd, size)
        finally:
            self._disk.close(fd)

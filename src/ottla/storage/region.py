"""A run of bytes in a segment, handed out to be sent: it keeps the file open for as long as somebody holds it."""

from ottla.storage.disk import Disk


class FileHandle:
    """An open file that closes itself when its last holder lets go.

    The segment is one holder, each unsent region and each running flush another: so a segment may be deleted, or its
    log closed, while an answer that carries its bytes is still going out.
    """

    __slots__ = ("disk", "fd", "path")

    def __init__(self, disk: Disk, path: str, fd: int) -> None:
        self.disk = disk
        self.path = path
        self.fd = fd

    def __del__(self) -> None:
        if self.fd >= 0:
            self.disk.close(self.fd)


class FileRegion:
    """``len(region)`` bytes of ``fileno()`` from ``position``; readable until ``release``, which may come twice."""

    __slots__ = ("_handle", "_size", "base_offset", "position")

    def __init__(self, handle: FileHandle, position: int, size: int, base_offset: int) -> None:
        self._handle: FileHandle | None = handle
        self._size = size
        self.position = position
        self.base_offset = base_offset
        """Base offset of the segment the bytes are in."""

    def __len__(self) -> int:
        return self._size

    def fileno(self) -> int:
        if self._handle is None:
            raise ValueError("the region has been released")
        return self._handle.fd

    def pread(self, size: int | None = None, start: int = 0) -> bytes:
        """Up to ``size`` bytes (by default all) of the region from its byte ``start``. Raises ``OSError``."""
        wanted = self._size - start if size is None else min(size, self._size - start)
        if self._handle is None:
            raise ValueError("the region has been released")
        return self._handle.disk.read(self._handle.fd, wanted, self.position + start)

    def release(self) -> None:
        self._handle = None

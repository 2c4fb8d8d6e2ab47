"""Every call into the file system. Tests replace it: one that fails, one that records what was durable when.

Paths are ``str``; positions and sizes are bytes. All methods raise ``OSError`` and nothing else. None takes a lock, so
threads may call in at the same time.
"""

import errno
import fcntl
import mmap
import os
import shutil
from typing import NamedTuple, TypeAlias

from ottla.storage.kernel_sync import KernelSync

Bytes: TypeAlias = bytes | bytearray | memoryview


class FileEntry(NamedTuple):
    """One name in a directory."""

    name: str
    is_directory: bool
    size: int


class Disk:
    """The real file system."""

    __slots__ = ()

    # Files -----------------------------------------------------------------------------------------------------------

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> int:
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        return os.open(path, flags | os.O_CREAT if create else flags, 0o644)

    def close(self, fd: int) -> None:
        os.close(fd)

    def write(self, fd: int, data: Bytes, position: int) -> None:
        """Write all of ``data``; a short write is continued. After an error any part of it may be in the file."""
        written = os.pwrite(fd, data, position)
        size = memoryview(data).nbytes
        while written < size:
            more = os.pwrite(fd, memoryview(data).cast("B")[written:], position + written)
            if more <= 0:
                raise OSError(errno.EIO, "write made no progress")
            written += more

    def read(self, fd: int, size: int, position: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end of the file."""
        data = os.pread(fd, size, position)
        if len(data) == size or not data:
            return data
        parts = [data]
        got = len(data)
        while got < size:
            data = os.pread(fd, size - got, position + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to ``size``, or extend it with a hole."""
        os.ftruncate(fd, size)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def modified_ms(self, path: str) -> int:
        return os.stat(path).st_mtime_ns // 1_000_000

    def set_modified_ms(self, path: str, modified_ms: int) -> None:
        os.utime(path, ns=(modified_ms * 1_000_000, modified_ms * 1_000_000))

    def sync_data(self, fd: int) -> None:
        """Return when the file's bytes, and the size needed to read them, survive a power cut."""
        os.fdatasync(fd)

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def kernel_sync(self) -> KernelSync | None:
        """A queue that does what ``sync_data`` does without a thread, where the system has one. Whoever replaces
        ``sync_data`` has none."""
        return KernelSync.open()

    def map(self, path: str) -> mmap.mmap | bytes:
        """The file's content for reading, paged in where touched."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            return mmap.mmap(fd, size, prot=mmap.PROT_READ) if size else b""
        finally:
            os.close(fd)

    # Names -----------------------------------------------------------------------------------------------------------

    def rename(self, source: str, target: str) -> None:
        """Atomic; replaces ``target``. Durable once the directory is synced."""
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def make_directory(self, path: str) -> None:
        os.mkdir(path)

    def make_directories(self, path: str) -> None:
        """Like ``mkdir -p``."""
        if not os.path.isdir(path):
            parent = os.path.dirname(path)
            if parent and parent != path:
                self.make_directories(parent)
            self.make_directory(path)

    def remove_directory(self, path: str) -> None:
        """An empty one."""
        os.rmdir(path)

    def remove_tree(self, path: str) -> None:
        """Unlink a directory and all in it. Missing files are not an error."""
        for entry in self.entries(path):
            below = os.path.join(path, entry.name)
            if entry.is_directory:
                self.remove_tree(below)
            else:
                self.unlink(below)
        self.remove_directory(path)

    def sync_directory(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def entries(self, path: str) -> list[FileEntry]:
        """What is in a directory, by name."""
        with os.scandir(path) as found:
            listed = [
                FileEntry(entry.name, entry.is_dir(follow_symlinks=True), entry.stat().st_size) for entry in found
            ]
        listed.sort()
        return listed

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(path)

    def lock(self, path: str) -> int:
        """Take the lock file for this process and return its descriptor. Raises ``BlockingIOError`` where another has
        it.

        Both kinds of lock are taken: ``flock`` also keeps out this process's own second try, and the record lock is
        the one a Java broker takes.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in {errno.EACCES, errno.EAGAIN}:
                raise BlockingIOError(errno.EAGAIN, "locked by another process", path) from error
            raise
        return fd

    def usage(self, path: str) -> tuple[int, int]:
        """``(total, usable)`` bytes of the volume that holds ``path``."""
        usage = shutil.disk_usage(path)
        return usage.total, usage.free

    # Composed of the above -------------------------------------------------------------------------------------------

    def read_file(self, path: str) -> bytes:
        fd = self.open(path, writable=False)
        try:
            return self.read(fd, self.size(fd), 0)
        finally:
            self.close(fd)

    def sync_path(self, path: str) -> None:
        """Sync a file or directory by name; one that is gone needs no sync."""
        try:
            if self.is_directory(path):
                self.sync_directory(path)
                return
            fd = self.open(path, writable=False)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            self.sync(fd)
        finally:
            self.close(fd)

    def replace_file(self, path: str, data: bytes, *, durable: bool) -> None:
        """Write ``path`` anew by way of ``path.tmp``: a crash leaves the old or the new content.

        Without ``durable`` file and directory are left for the caller to sync; a power cut before that may leave an
        empty file.
        """
        temporary = path + ".tmp"
        fd = self.open(temporary, create=True)
        try:
            self.truncate(fd, 0)
            self.write(fd, data, 0)
            if durable:
                self.sync(fd)
        finally:
            self.close(fd)
        self.rename(temporary, path)
        if durable:
            self.sync_directory(os.path.dirname(path))

    def unlink_if_exists(self, path: str) -> bool:
        try:
            self.unlink(path)
        except FileNotFoundError:
            return False
        return True

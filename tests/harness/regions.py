"""File regions for tests of what sends them."""

from __future__ import annotations

from pathlib import Path


class CountedRegion:
    """A file region that counts its releases."""

    def __init__(self, path: Path, position: int, size: int) -> None:
        self._file = path.open("rb")
        self.position = position
        self._size = size
        self.released = 0

    def __len__(self) -> int:
        return self._size

    def fileno(self) -> int:
        return self._file.fileno()

    def release(self) -> None:
        self.released += 1
        self._file.close()

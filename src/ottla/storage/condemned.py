"""Files on their way out: renamed to ``.deleted`` at once, unlinked when readers have had their time
(``file.delete.delay.ms``)."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ottla.storage.disk import Disk
from ottla.storage.names import DELETED_SUFFIX


class _Condemned(NamedTuple):
    due_ms: int
    paths: tuple[str, ...]


class CondemnedFiles:
    """Those of one log. ``purge`` may be called from any thread."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._waiting: deque[_Condemned] = deque()

    def add(self, paths: Iterable[str], due_ms: int) -> list[str]:
        """Rename what is there of ``paths``; returns which had been there. Raises ``OSError``."""
        found = []
        try:
            for path in paths:
                try:
                    self._disk.rename(path, path + DELETED_SUFFIX)
                except FileNotFoundError:
                    continue
                found.append(path)
        finally:
            self._waiting.append(_Condemned(due_ms, tuple(path + DELETED_SUFFIX for path in found)))
        return found

    def purge(self, now_ms: int) -> int:
        """Unlink what is due; returns how many files went. Blocking where they are large. Raises ``OSError``."""
        removed = 0
        while self._waiting and self._waiting[0].due_ms <= now_ms:
            removed += sum(self._disk.unlink_if_exists(path) for path in self._waiting.popleft().paths)
        return removed

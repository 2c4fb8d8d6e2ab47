"""Power cuts of a whole node: what it writes is recorded beside it, and a cut leaves a legal image of that record.

The recording is `ottla.testing.crash_images`, kept in a journal file so that it outlives a killed process. The size of
the journal is a clock that the node and its clients share: what was acknowledged when the journal had n bytes is owed
by every image of n bytes or more.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ottla.testing.crash_images import Change, RecordingDisk, build_image

SYNC_SECONDS = 0.005
JOURNAL = "OTTLA_JOURNAL"


class _Journal(list[Change]):
    """A record that is written through; the kernel keeps it when the process dies."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def append(self, change: Change) -> None:
        # Positions of syncs count changes, so the list has to grow; its bytes need not be kept twice.
        super().append(change._replace(data=b""))
        os.write(self._fd, pickle.dumps(tuple(change), protocol=5))


class JournalDisk(RecordingDisk):
    """A recording disk whose record is a file."""

    def __init__(self, root: str, journal: str) -> None:
        self._journal = _Journal(journal)
        super().__init__(root)

    def _synced(self, node: int) -> None:
        """As slow as a disk without a battery: only what was there before the wait is covered."""
        with self._lock:
            began = len(self.record)
        time.sleep(SYNC_SECONDS)
        with self._lock:
            self.record.append(Change("sync", node, began))

    @property  # type: ignore[override]  # the record is one for good
    def record(self) -> Any:
        return self._journal

    @record.setter
    def record(self, _: Iterable[Change]) -> None:
        """The empty list that a recording begins with."""


def record_disk() -> None:
    """Make the node that is about to start keep the journal that the environment names."""
    from ottla.broker import node

    root, journal = sys.argv[sys.argv.index("--data") + 1], os.environ[JOURNAL]
    os.makedirs(root, exist_ok=True)
    node.Disk = lambda: JournalDisk(root, journal)  # type: ignore[assignment,misc]


def read_journal(path: Path, size: int | None = None) -> list[Change]:
    """The changes in the first `size` bytes of a journal."""
    changes = []
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size if size is None else size
        while file.tell() < end:
            try:
                changes.append(Change(*pickle.load(file)))
            except (EOFError, pickle.UnpicklingError):  # the process died in the middle of a line
                break
            if file.tell() > end:
                changes.pop()
    return changes


def cut_power(data: Path, journal: Path, seed: int) -> None:
    """Replace the directory of a dead node by what a power cut at its last moment may have left."""
    image = data.with_name(data.name + ".image")
    record = read_journal(journal)
    build_image(record, len(record), str(image), seed)
    shutil.rmtree(data)
    image.rename(data)

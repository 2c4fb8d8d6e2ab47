"""Power cuts of a whole node: what it writes is recorded beside it, and a cut leaves a legal image of that record.

The recording is `ottla.testing.crash_images`, kept in a journal file so that it outlives a killed process. Every line
of it carries the machine's monotonic clock, which the node shares with its clients: what they were told before a moment
is owed by every image of that moment.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ottla.testing.crash_images import Change, Content, RecordingDisk, build_image

SYNC_SECONDS = 0.01
JOURNAL = "OTTLA_JOURNAL"


class _JournalFile(list[Change]):
    """A record that is written through; the kernel keeps it when the process dies."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def append(self, change: Change) -> None:
        self.remember(change)
        os.write(self._fd, pickle.dumps((time.monotonic_ns(), *change), protocol=5))

    def remember(self, change: Change) -> None:
        """Count a change that is in the file; its bytes need not be kept twice."""
        super().append(change._replace(data=b""))


class JournalDisk(RecordingDisk):
    """A recording disk whose record is a file.

    A node that was killed goes on with its journal: what it had not synced then is not synced now, though the kernel
    still has it.
    """

    def __init__(self, root: str, journal: str) -> None:
        known = read_journal(Path(journal)).changes if os.path.exists(journal) else []
        self._journal = _JournalFile(journal)
        self._known = known
        self._sync_seconds = 0.0
        super().__init__(root)
        self._known = []
        self._sync_seconds = SYNC_SECONDS

    def _adopt(self, path: str, node: int) -> None:
        if not self._known:
            super()._adopt(path, node)
            return
        contents: dict[int, Content] = {}
        for change in self._known:
            self._journal.remember(change)
            replay(change, self._names, contents)
        self._nodes = 1 + max(change.node for change in self._known)
        self._compare(path, node, contents)

    def _compare(self, path: str, node: int, contents: dict[int, Content]) -> None:
        """Enter what the dead process did last, and had not entered yet."""
        there = {entry.name: entry for entry in os.scandir(path)}
        for name in self._names[node].keys() - there.keys():
            self._change_names(path, (name, None))
        for name, entry in sorted(there.items()):
            if name not in self._names[node]:
                self._create(entry.path, directory=entry.is_dir())
            child = self._names[node][name]
            if entry.is_dir():
                self._compare(entry.path, child, contents)
                continue
            found = Path(entry.path).read_bytes()
            if found != contents.get(child, Content()).read():
                self.record.append(Change("write", child, 0, found))
                self.record.append(Change("truncate", child, len(found)))

    def _synced(self, node: int) -> None:
        """As slow as a disk without a battery: only what was there before the wait is covered."""
        with self._lock:
            began = len(self.record)
        time.sleep(self._sync_seconds)
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


def replay(change: Change, names: dict[int, dict[str, int]], contents: dict[int, Content]) -> None:
    """What a running system sees after a change, synced or not."""
    if change.kind == "directory":
        names[change.node] = {}
    elif change.kind == "names":
        for name, target in change.names:
            names[change.node].pop(name, None)
            if target is not None:
                names[change.node][name] = target
    elif change.kind in ("write", "truncate"):
        contents.setdefault(change.node, Content()).apply(change)


class Journal(NamedTuple):
    """What a node wrote, and when: two lists of the same length."""

    moments: list[int]
    changes: list[Change]


def read_journal(path: Path) -> Journal:
    """All of a journal; the last line may be half written."""
    journal = Journal([], [])
    with path.open("rb") as file, contextlib.suppress(EOFError, pickle.UnpicklingError):
        while True:
            moment, *change = pickle.load(file)
            journal.moments.append(moment)
            journal.changes.append(Change(*change))
    return journal


def cut_power(data: Path, journal: Path, seed: int) -> None:
    """Replace the directory of a dead node by what a power cut at its last moment may have left."""
    image = data.with_name(data.name + ".image")
    record = read_journal(journal).changes
    build_image(record, len(record), str(image), seed)
    shutil.rmtree(data)
    image.rename(data)

"""Disks for tests of durability: one that dies, one that fails, and one that knows what a power cut may leave.

``RecordingDisk`` writes down every change and every sync below its root. ``build_image`` then makes, for a moment in
that record and a seed, a directory such as a machine could find after losing power at that moment:

- what was written to a file before a sync of it began, and that sync has returned, is there;
- of later writes and size changes each may be there, not be there, or be there in part (by sectors of 512 bytes);
- names made, changed or removed since the last sync of their directory: the first few of them happened, the rest not.

That is stricter than most file systems: syncing a new file does not make its name durable.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from threading import RLock
from typing import Final, NamedTuple

from ottla.storage.disk import Bytes, Disk

SECTOR_BYTES: Final = 512


class Killed(BaseException):
    """The process is dead: nothing of it runs on, no clean-up either."""


class FaultyDisk(Disk):
    """A disk that asks before every change. ``gate(call number, kind, path)`` may raise, or let it pass.

    A write that raises has written ``short`` of its bytes before. Nothing is really synced: a test that kills a process
    does not cut the power.
    """

    def __init__(self, gate: Callable[[int, str, str], None], *, short: float = 0.5) -> None:
        self.gate = gate
        self.short = short
        self.calls = 0
        self._paths: dict[int, str] = {}
        self._locks: list[int] = []

    @classmethod
    def dying_at(cls, call: int) -> "FaultyDisk":
        """Dead from the change number ``call`` on."""

        def gate(number: int, kind: str, path: str) -> None:
            if number >= call:
                raise Killed(f"at {kind} of {path}")

        return cls(gate)

    def kernel_sync(self) -> None:
        """Syncs pass the gate like all else."""

    def bury(self) -> None:
        """Release the locks, as the end of a killed process does."""
        for fd in tuple(self._locks):
            self.close(fd)

    def lock(self, path: str) -> int:
        fd = super().lock(path)
        self._locks.append(fd)
        return fd

    def close(self, fd: int) -> None:
        if fd in self._locks:
            self._locks.remove(fd)
        super().close(fd)

    def _ask(self, kind: str, path: str) -> None:
        self.calls += 1
        self.gate(self.calls, kind, path)

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> int:
        if create:
            self._ask("open", path)
        fd = super().open(path, create=create, writable=writable)
        self._paths[fd] = path
        return fd

    def write(self, fd: int, data: Bytes, position: int) -> None:
        try:
            self._ask("write", self._paths[fd])
        except (OSError, Killed):
            part = memoryview(data).cast("B")[: int(len(data) * self.short)]
            if part:
                super().write(fd, part, position)
            raise
        super().write(fd, data, position)

    def truncate(self, fd: int, size: int) -> None:
        self._ask("truncate", self._paths[fd])
        super().truncate(fd, size)

    def sync_data(self, fd: int) -> None:
        self._ask("sync", self._paths[fd])

    def sync(self, fd: int) -> None:
        self._ask("sync", self._paths[fd])

    def sync_directory(self, path: str) -> None:
        self._ask("sync_directory", path)

    def rename(self, source: str, target: str) -> None:
        self._ask("rename", source)
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self._ask("unlink", path)
        super().unlink(path)

    def make_directory(self, path: str) -> None:
        self._ask("make_directory", path)
        super().make_directory(path)

    def remove_directory(self, path: str) -> None:
        self._ask("remove_directory", path)
        super().remove_directory(path)


class Change(NamedTuple):
    """One step of the record. ``node`` is the file or directory it concerns; the rest depends on the kind."""

    kind: str
    node: int
    position: int = 0
    data: bytes = b""
    names: tuple[tuple[str, int | None], ...] = ()
    """For a directory: names and what they stand for afterwards; ``None``: nothing. All of them or none."""
    note: object = None


ROOT: Final = 0


class RecordingDisk(Disk):
    """The real disk, with a record of all that changes below ``root``. Thread-safe.

    What lies there at the start opens the record, and counts as durable.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.record: list[Change] = []
        self._lock = RLock()
        self._nodes = 1
        self._names: dict[int, dict[str, int]] = {ROOT: {}}
        self._fds: dict[int, int] = {}
        self._adopt(self.root, ROOT)

    def _adopt(self, path: str, node: int) -> None:
        """Enter a directory that was there before."""
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            self._create(entry.path, directory=entry.is_dir())
            child = self._names[node][entry.name]
            if entry.is_dir():
                self._adopt(entry.path, child)
            else:
                with open(entry.path, "rb") as file:
                    self.record.append(Change("write", child, 0, file.read()))
                self._synced(child)
        self._synced(node)

    def kernel_sync(self) -> None:
        """Syncs are on the record."""

    def note(self, what: object) -> None:
        """Put a mark into the record: an acknowledgement, say."""
        with self._lock:
            self.record.append(Change("note", ROOT, note=what))

    def _node(self, path: str) -> int:
        node = ROOT
        relative = os.path.relpath(os.path.abspath(path), self.root)
        if relative != ".":
            for name in relative.split(os.sep):
                node = self._names[node][name]
        return node

    def _change_names(self, directory: str, *names: tuple[str, int | None]) -> None:
        node = self._node(directory)
        for name, target in names:
            if target is None:
                self._names[node].pop(name, None)
            else:
                self._names[node][name] = target
        self.record.append(Change("names", node, names=names))

    def _create(self, path: str, *, directory: bool) -> None:
        node = self._nodes
        self._nodes += 1
        if directory:
            self._names[node] = {}
        self.record.append(Change("directory" if directory else "file", node))
        self._change_names(os.path.dirname(path), (os.path.basename(path), node))

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> int:
        with self._lock:
            new = create and not os.path.exists(path)
            fd = super().open(path, create=create, writable=writable)
            if new:
                self._create(path, directory=False)
            self._fds[fd] = self._node(path)
            return fd

    def lock(self, path: str) -> int:
        with self._lock:
            new = not os.path.exists(path)
            fd = super().lock(path)
            if new:
                self._create(path, directory=False)
            return fd

    def write(self, fd: int, data: Bytes, position: int) -> None:
        with self._lock:
            super().write(fd, data, position)
            self.record.append(Change("write", self._fds[fd], position, bytes(data)))

    def truncate(self, fd: int, size: int) -> None:
        with self._lock:
            super().truncate(fd, size)
            self.record.append(Change("truncate", self._fds[fd], size))

    def sync_data(self, fd: int) -> None:
        self._synced(self._fds[fd])

    def sync(self, fd: int) -> None:
        self._synced(self._fds[fd])

    def sync_directory(self, path: str) -> None:
        with self._lock:
            node = self._node(path)
        self._synced(node)

    def _synced(self, node: int) -> None:
        """What a sync covers is what had been written when it began. None happens: the record is what counts."""
        with self._lock:
            began = len(self.record)
            self.record.append(Change("sync", node, began))

    def rename(self, source: str, target: str) -> None:
        with self._lock:
            super().rename(source, target)
            assert os.path.dirname(source) == os.path.dirname(target), "names move within a directory"
            node = self._node(source)
            names = (os.path.basename(source), None), (os.path.basename(target), node)
            self._change_names(os.path.dirname(source), *names)

    def unlink(self, path: str) -> None:
        with self._lock:
            super().unlink(path)
            self._change_names(os.path.dirname(path), (os.path.basename(path), None))

    def make_directory(self, path: str) -> None:
        with self._lock:
            super().make_directory(path)
            self._create(path, directory=True)

    def remove_directory(self, path: str) -> None:
        with self._lock:
            super().remove_directory(path)
            self._change_names(os.path.dirname(path), (os.path.basename(path), None))


@dataclass(slots=True)
class Content:
    """What is in a file: some bytes, and zeros from there to its size, which nobody has to keep or to write. An index
    that was made as long as it may grow is almost nothing else."""

    data: bytearray = field(default_factory=bytearray)
    size: int = 0

    def apply(self, change: Change) -> None:
        """Carry out a write or a truncation."""
        if change.kind == "truncate":
            del self.data[change.position :]
            self.size = change.position
            return
        end = change.position + len(change.data)
        if len(self.data) < change.position:
            self.data.extend(bytes(change.position - len(self.data)))
        self.data[change.position : end] = change.data
        self.size = max(self.size, end)

    def read(self) -> bytes:
        """All of it."""
        return bytes(self.data) + bytes(self.size - len(self.data))

    def copy(self) -> "Content":
        """Another one like it."""
        return Content(bytearray(self.data), self.size)


@dataclass(slots=True)
class _File:
    content: Content = field(default_factory=Content)
    pending: list[tuple[int, Change]] = field(default_factory=list)


@dataclass(slots=True)
class _Directory:
    names: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[int, Change]] = field(default_factory=list)


class PowerCut:
    """What is on the platters at one moment of a record."""

    def __init__(self, record: list[Change]) -> None:
        self.nodes: dict[int, _File | _Directory] = {ROOT: _Directory()}
        for at, change in enumerate(record):
            if change.kind == "file":
                self.nodes[change.node] = _File()
            elif change.kind == "directory":
                self.nodes[change.node] = _Directory()
            elif change.kind == "sync":
                self._settle(self.nodes[change.node], change.position)
            elif change.kind != "note":
                self.nodes[change.node].pending.append((at, change))

    def _settle(self, node: _File | _Directory, began: int) -> None:
        kept = []
        for at, change in node.pending:
            if at >= began:
                kept.append((at, change))
            elif isinstance(node, _File):
                node.content.apply(change)
            else:
                _rename(node.names, change)
        node.pending = kept

    def write_image(self, target: str, rng: Random, *, keep: float) -> None:
        """Lay out what is durable and, of the rest, what chance keeps: with probability ``keep`` each."""
        self._write_directory(ROOT, target, rng, keep)

    def _write_directory(self, node: int, target: str, rng: Random, keep: float) -> None:
        directory = self.nodes[node]
        assert isinstance(directory, _Directory)
        names = dict(directory.names)
        for _, change in directory.pending:
            if rng.random() >= keep:
                break
            _rename(names, change)
        os.makedirs(target, exist_ok=True)
        for name, child in names.items():
            path = os.path.join(target, name)
            below = self.nodes[child]
            if isinstance(below, _Directory):
                self._write_directory(child, path, rng, keep)
            else:
                survivors = _survivors(below, rng, keep)
                with open(path, "wb") as file:
                    file.write(survivors.data)
                    file.truncate(survivors.size)


def build_image(record: list[Change], moment: int, target: str, seed: int) -> None:
    """Make in ``target`` a legal image of a power cut after the first ``moment`` steps of the record."""
    rng = Random(seed)
    keep = rng.choice((0.0, 0.3, 0.5, 0.9, 1.0))
    PowerCut(record[:moment]).write_image(target, rng, keep=keep)


def notes_before(record: list[Change], moment: int) -> list[object]:
    """The marks put into the record up to a moment."""
    return [change.note for change in record[:moment] if change.kind == "note"]


def _survivors(file: _File, rng: Random, keep: float) -> Content:
    content = file.content.copy()
    for _, change in file.pending:
        if rng.random() < keep:
            content.apply(change)
        elif change.kind == "write" and rng.random() < 0.5:
            _apply_torn(content, change, rng)
    return content


def _apply_torn(content: Content, change: Change, rng: Random) -> None:
    """Some sectors of a write reached the disk; the file's size tells of all, or only of those."""
    end = change.position + len(change.data)
    at = change.position
    while at < end:
        following = min((at // SECTOR_BYTES + 1) * SECTOR_BYTES, end)
        if rng.random() < 0.5:
            part = change.data[at - change.position : following - change.position]
            content.apply(Change("write", change.node, at, part))
        at = following


def _rename(names: dict[str, int], change: Change) -> None:
    for name, target in change.names:
        if target is None:
            names.pop(name, None)
        else:
            names[name] = target

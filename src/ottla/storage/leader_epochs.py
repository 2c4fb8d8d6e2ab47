"""Which leader epoch began at which offset: ``leader-epoch-checkpoint`` and what followers ask of it.

Follows KIP-101 and KIP-279. Entries grow in epoch and in start offset. The file is replaced at every change but synced
with the next flush of the log: what a power cut takes of it is found again in the batches, which carry their epoch.
"""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

from ottla.runtime.telemetry import get_logger
from ottla.storage.checkpoints import MalformedFile, decode_lines, encode_lines
from ottla.storage.disk import Disk
from ottla.storage.errors import SHORTAGES
from ottla.storage.names import LEADER_EPOCH_CHECKPOINT

_log = get_logger("ottla.storage.log")

UNDEFINED: Final = -1


class EpochStart(NamedTuple):
    """The first offset that was written in an epoch."""

    epoch: int
    start_offset: int


class LeaderEpochCache:
    """The epochs of one log, in memory and in its file."""

    __slots__ = ("_disk", "_entries", "latest_epoch", "on_written", "path", "unwritten")

    def __init__(self, disk: Disk, directory: str, on_written: Callable[[str], None] | None = None) -> None:
        self._disk = disk
        self._entries: list[EpochStart] = []
        self.on_written = on_written
        self.path = os.path.join(directory, LEADER_EPOCH_CHECKPOINT)
        self.latest_epoch = UNDEFINED
        """-1 where the log has no epoch yet."""
        self.unwritten = False
        """The file lags behind: there was no room for it."""

    @property
    def entries(self) -> tuple[EpochStart, ...]:
        return tuple(self._entries)

    def load(self) -> None:
        """Read the file; no file is no epochs. Raises ``MalformedFile``."""
        try:
            data = self._disk.read_file(self.path)
        except FileNotFoundError:
            return
        entries = []
        for fields in decode_lines(self.path, data):
            try:
                epoch, start_offset = fields
                entries.append(EpochStart(int(epoch), int(start_offset)))
            except ValueError as error:
                raise MalformedFile(f"{self.path}: malformed entry {' '.join(fields)!r}") from error
        for before, after in pairwise(entries):
            if after.epoch <= before.epoch or after.start_offset < before.start_offset:
                raise MalformedFile(f"{self.path}: epoch {after.epoch} does not follow epoch {before.epoch}")
        self._set(entries)

    def assign(self, epoch: int, start_offset: int) -> None:
        """Epoch ``epoch`` begins at ``start_offset``. Entries that contradict it, left by a deposed leader, are
        dropped."""
        entries = self._entries
        if entries and entries[-1].epoch == epoch and start_offset >= entries[-1].start_offset:
            return
        kept = [entry for entry in entries if entry.epoch < epoch and entry.start_offset < start_offset]
        self._set([*kept, EpochStart(epoch, start_offset)])
        self._write()

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """``(epoch, end offset)`` of the largest epoch at or below ``epoch``; ``(-1, -1)`` where it is unknown.

        The end offset is the start of the next epoch, for the latest one the end of the log.
        """
        entries = self._entries
        if epoch == UNDEFINED or not entries or epoch > entries[-1].epoch:
            return UNDEFINED, UNDEFINED
        if epoch == entries[-1].epoch:
            return epoch, log_end_offset
        after = bisect_right(entries, epoch, key=lambda entry: entry.epoch)
        floor = entries[after - 1].epoch if after else epoch
        return floor, entries[after].start_offset

    def epoch_at(self, offset: int) -> int:
        """The epoch in which ``offset`` was written; -1 where it is unknown."""
        after = bisect_right(self._entries, offset, key=lambda entry: entry.start_offset)
        return self._entries[after - 1].epoch if after else UNDEFINED

    def truncate_from_end(self, end_offset: int) -> None:
        """The log ends at ``end_offset`` now."""
        kept = [entry for entry in self._entries if entry.start_offset < end_offset]
        if len(kept) != len(self._entries):
            self._set(kept)
            self._write()

    def truncate_from_start(self, start_offset: int) -> None:
        """The log begins at ``start_offset`` now: the epoch in force there begins there, older ones are forgotten."""
        later = bisect_right(self._entries, start_offset, key=lambda entry: entry.start_offset)
        if later and (later > 1 or self._entries[0].start_offset < start_offset):
            in_force = EpochStart(self._entries[later - 1].epoch, start_offset)
            self._set([in_force, *self._entries[later:]])
            self._write()

    def clear(self) -> None:
        if self._entries:
            self._set([])
            self._write()

    def previous_epoch(self, epoch: int) -> int:
        """The largest known epoch below ``epoch``; -1 where there is none."""
        before = bisect_left(self._entries, epoch, key=lambda entry: entry.epoch)
        return self._entries[before - 1].epoch if before else UNDEFINED

    def moved(self, directory: str) -> None:
        self.path = os.path.join(directory, LEADER_EPOCH_CHECKPOINT)

    def write(self) -> None:
        """Write the file as it stands, also where it did not exist."""
        self._write()

    def _set(self, entries: list[EpochStart]) -> None:
        self._entries = entries
        self.latest_epoch = entries[-1].epoch if entries else UNDEFINED

    def _write(self) -> None:
        lines = [f"{entry.epoch} {entry.start_offset}" for entry in self._entries]
        try:
            self._disk.replace_file(self.path, encode_lines(lines), durable=False)
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            # The batches carry their epochs too. A full disk must not end what may free it.
            _log.warning("leader epochs not written", path=self.path, reason=error)
            self.unwritten = True
            return
        self.unwritten = False
        if self.on_written is not None:
            self.on_written(self.path)

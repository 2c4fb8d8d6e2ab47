"""What the machine remembers of its own log: where it ends, how far it is on disk, at which offset each epoch began."""

from bisect import bisect_right
from collections.abc import Iterable


class LogLedger:
    """Offsets and epochs of the local log. Invariants: epochs and start offsets rise; flushed <= end."""

    __slots__ = ("_epochs", "_starts", "end_offset", "flushed_offset", "start_offset")

    def __init__(self, *, start_offset: int = 0, end_offset: int = 0, epochs: Iterable[tuple[int, int]] = ()) -> None:
        self.start_offset = start_offset
        self.end_offset = end_offset
        self.flushed_offset = end_offset
        self._epochs: list[int] = []
        self._starts: list[int] = []
        for epoch, start in epochs:
            self._epochs.append(epoch)
            self._starts.append(start)

    @property
    def last_epoch(self) -> int:
        """Epoch of the last record; 0 of an empty log."""
        return self._epochs[-1] if self._epochs else 0

    def record_append(self, *, epoch: int, record_count: int) -> int:
        """Returns the base offset of what was appended."""
        base = self.end_offset
        if not self._epochs or epoch > self._epochs[-1]:
            self._epochs.append(epoch)
            self._starts.append(base)
        self.end_offset = base + record_count
        return base

    def record_flush(self, end_offset: int) -> None:
        self.flushed_offset = max(self.flushed_offset, min(end_offset, self.end_offset))

    def truncate_to(self, offset: int) -> None:
        if offset >= self.end_offset:
            return
        assert offset >= self.start_offset, "a log is never truncated below its snapshot"
        self.end_offset = offset
        self.flushed_offset = min(self.flushed_offset, offset)
        while self._starts and self._starts[-1] >= self.end_offset:
            self._starts.pop()
            self._epochs.pop()

    def end_offset_for(self, epoch: int) -> tuple[int, int]:
        """The largest known epoch <= ``epoch`` and the offset at which it ended; (0, start offset) below all."""
        index = bisect_right(self._epochs, epoch)
        if index == 0:
            return (epoch if epoch == 0 else 0, self.start_offset)
        end = self._starts[index] if index < len(self._starts) else self.end_offset
        return self._epochs[index - 1], end

    def is_prefix(self, *, epoch: int, offset: int) -> bool:
        """Whether a log that ends at ``offset`` with a record of ``epoch`` is a prefix of this one."""
        if offset == self.start_offset == 0:
            return True
        found, end = self.end_offset_for(epoch)
        return found == epoch and offset <= end

    def is_behind_or_equal(self, *, epoch: int, offset: int) -> bool:
        """Whether a log that ends so is at least as new as this one: the condition of every vote."""
        return (epoch, offset) >= (self.last_epoch, self.end_offset)

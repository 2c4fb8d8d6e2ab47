"""Many named deadlines that are moved far more often than they pass.

Moving a deadline later costs one dictionary store: the heap keeps the earlier time and corrects itself when that comes
up. So a heartbeat that extends a session is O(1), however many members wait.
"""

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


class Deadlines(Generic[KeyT]):
    """One deadline per key, in wall-clock milliseconds; equal times come out in the order they were set."""

    __slots__ = ("_due", "_heap", "_queued", "_sequence")

    def __init__(self) -> None:
        self._due: dict[KeyT, int] = {}
        self._queued: dict[KeyT, int] = {}
        self._heap: list[tuple[int, int, KeyT]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._due)

    def schedule(self, key: KeyT, at_ms: int) -> None:
        """Set or move the deadline of ``key``."""
        self._due[key] = at_ms
        queued = self._queued.get(key)
        if queued is None or at_ms < queued:
            self._push(key, at_ms)

    def cancel(self, key: KeyT) -> None:
        self._due.pop(key, None)

    def at(self, key: KeyT) -> int | None:
        return self._due.get(key)

    def next(self) -> int | None:
        """A time at or before the earliest deadline; ``None`` when there is none. Never goes past a deadline."""
        while self._heap:
            at_ms, _, key = self._heap[0]
            if self._queued.get(key) == at_ms:
                if key in self._due:
                    return at_ms
                del self._queued[key]
            heappop(self._heap)
        return None

    def pop(self, now_ms: int) -> KeyT | None:
        """Take one key whose deadline has passed."""
        while self._heap and self._heap[0][0] <= now_ms:
            at_ms, _, key = heappop(self._heap)
            if self._queued.get(key) != at_ms:
                continue
            del self._queued[key]
            due = self._due.get(key)
            if due is None:
                continue
            if due <= now_ms:
                del self._due[key]
                return key
            self._push(key, due)
        return None

    def _push(self, key: KeyT, at_ms: int) -> None:
        self._queued[key] = at_ms
        self._sequence += 1
        heappush(self._heap, (at_ms, self._sequence, key))

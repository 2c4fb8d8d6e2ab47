"""Purgatory: requests that wait for an offset or for data, woken by the append that satisfies them, never polled.

``OffsetWaiters`` holds the acknowledgements of one partition, ``DataWaiters`` its fetches. Both are touched only from
the event loop, so an advance and the waiters it wakes are one atomic step.
"""

from collections.abc import Callable
from heapq import heappop, heappush

from ottla.wire.errors import KafkaError

Resolve = Callable[[KafkaError | None], None]


class OffsetWaiters:
    """Callbacks that wait until an offset has been passed. Mostly arrives in order; a heap keeps it right if not."""

    __slots__ = ("_heap", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Resolve]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, offset: int, resolve: Resolve) -> None:
        """Call ``resolve(None)`` once ``advance`` reaches ``offset``, or ``resolve(error)`` if the wait fails."""
        self._sequence += 1
        heappush(self._heap, (offset, self._sequence, resolve))

    def advance(self, offset: int) -> None:
        heap = self._heap
        while heap and heap[0][0] <= offset:
            heappop(heap)[2](None)

    def fail(self, error: KafkaError) -> None:
        heap, self._heap = self._heap, []
        for _, _, resolve in heap:
            resolve(error)


class DataWaiters:
    """Callbacks of fetches that want to know of every advance; each gets the number of bytes that became visible."""

    __slots__ = ("_callbacks",)

    def __init__(self) -> None:
        self._callbacks: dict[int, Callable[[int], None]] = {}

    def __len__(self) -> int:
        return len(self._callbacks)

    def add(self, key: int, callback: Callable[[int], None]) -> None:
        self._callbacks[key] = callback

    def discard(self, key: int) -> None:
        self._callbacks.pop(key, None)

    def notify(self, visible_bytes: int) -> None:
        for callback in tuple(self._callbacks.values()):
            callback(visible_bytes)

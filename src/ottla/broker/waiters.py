"""Purgatory: requests that wait for an offset or for data, woken by the append that satisfies them, never polled.

``OffsetWaiters`` holds the acknowledgements of one partition, ``DataWaiters`` its fetches. Both are touched only from
the event loop, so an advance and the waiters it wakes are one atomic step.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

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


class DataWaiter(Protocol):
    """A fetch that waits."""

    def advanced(self, visible_bytes: int, /) -> None:
        """So many bytes became visible; zero stands for a change that is worth a look at once: leadership lost, log
        offline, a transaction's end."""

    def foreseen(self) -> None:
        """All that is appended is about to become visible: time to prepare."""


class DataWaiters:
    """Fetches that want to know of every advance."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: dict[DataWaiter, None] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, waiter: DataWaiter) -> None:
        self._waiters[waiter] = None

    def discard(self, waiter: DataWaiter) -> None:
        self._waiters.pop(waiter, None)

    def notify(self, visible_bytes: int) -> None:
        for waiter in tuple(self._waiters):
            waiter.advanced(visible_bytes)

    def announce(self) -> None:
        for waiter in tuple(self._waiters):
            waiter.foreseen()

"""Pauses between tries: exponential with jitter, so that many clients do not come back in the same instant."""

from random import Random


class Backoff:
    """``next_seconds()`` grows from ``initial`` to ``longest``; ``reset`` after a success."""

    __slots__ = ("_attempts", "_initial", "_longest", "_rng")

    def __init__(self, rng: Random, *, initial: float = 0.1, longest: float = 1.0) -> None:
        self._rng = rng
        self._initial = initial
        self._longest = longest
        self._attempts = 0

    def next_seconds(self) -> float:
        pause = min(self._longest, self._initial * 2.0 ** min(self._attempts, 16))
        self._attempts += 1
        return pause * self._rng.uniform(0.8, 1.2)

    def reset(self) -> None:
        self._attempts = 0

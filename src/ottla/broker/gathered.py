"""Commands that wait a moment, so that one batch carries what they write.

Offset commits come by the hundred, each of a few dozen bytes. Written one by one, each costs a batch, an append and,
where the log is flushed, a share of a sync; gathered, one of each serves them all. Nobody waits longer for it: what
gathers while an earlier batch is on its way to the disk could not have joined it, and goes with the next.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from ottla.model import Decision
from ottla.runtime.turn import of_running_loop

RecordT = TypeVar("RecordT")

ADAPTIVE_LINGER: Final = -1
ADAPTIVE_SECONDS_MAX: Final = 0.005
"""How long commands gather at most while earlier ones are not acknowledged: a replica may take its time."""


class Gathered(Generic[RecordT]):
    """What gathers for one driver, by the token it is parked under. Belongs to the loop.

    ``linger_ms`` as in ``group.coordinator.append.linger.ms``: -1 until the present callback of the loop is through, or
    until what was written before is acknowledged (``flush``); 0 not at all; else for so long.
    """

    __slots__ = ("_decisions", "_linger_ms", "_timer", "_write")

    def __init__(self, linger_ms: int, write: Callable[[list[tuple[int, Decision[RecordT, object]]]], None]) -> None:
        self._linger_ms = linger_ms
        self._write = write
        self._decisions: list[tuple[int, Decision[RecordT, object]]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, token: int, decision: "Decision[RecordT, object]", *, writing: bool) -> None:
        """Have it written with the others. ``writing``: something written before is not acknowledged yet."""
        self._decisions.append((token, decision))
        if self._linger_ms == 0:
            self.flush()
        elif len(self._decisions) == 1:
            self._wait(writing)

    def flush(self) -> None:
        """Write what has gathered, now."""
        if not self._decisions:
            return
        decisions = self._decisions
        self.discard()
        self._write(decisions)

    def discard(self) -> None:
        """Forget what has gathered."""
        self._decisions = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, writing: bool) -> None:
        turn = of_running_loop()
        if self._linger_ms < 0 and not writing:
            turn.at_end(self.flush)
            return
        seconds = ADAPTIVE_SECONDS_MAX if self._linger_ms < 0 else self._linger_ms / 1000
        self._timer = turn.loop.call_later(seconds, turn.run, self.flush)

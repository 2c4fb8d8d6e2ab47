"""The end of a turn: what has to run after the present callback of the event loop, but not in a turn of its own.

``call_soon`` costs a whole turn, a poll of all sockets included. What a read socket or a finished sync leads to, a
flush to begin, a fetch to look again, an answer to set, has to wait only until that callback is through. Four of those
lie on the way of a record from its producer to its consumer.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from threading import local
from typing import Final

Callback = Callable[[], None]


class Turn:
    """Belongs to one loop and is used on it only; ``of_running_loop`` finds it."""

    __slots__ = ("_callbacks", "_loop", "_runs")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._callbacks: deque[Callback] = deque()
        self._runs = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    @property
    def runs(self) -> bool:
        """Whether ``at_end`` still comes in the present callback."""
        return self._runs

    def run(self, callback: Callback) -> None:
        """Call ``callback``, for the loop, and then what it left for the end."""
        if self._runs:
            callback()
            return
        self._runs = True
        try:
            callback()
        finally:
            self._finish()

    def run_from_thread(self, callback: Callback) -> None:
        """The same from any thread, in the loop's next turn. Raises ``RuntimeError`` where the loop has been closed."""
        self._loop.call_soon_threadsafe(self.run, callback)

    def at_end(self, callback: Callback) -> None:
        """Call ``callback`` when the present ``run`` is through, after what was left before it; outside of one, in the
        loop's next turn. What it raises reaches the loop's exception handler."""
        if not self._runs and not self._callbacks:
            self._loop.call_soon(self._finish)
        self._callbacks.append(callback)

    def _finish(self) -> None:
        callbacks = self._callbacks
        self._runs = True
        try:
            while callbacks:
                callback = callbacks.popleft()
                try:
                    callback()
                except Exception as error:
                    self._loop.call_exception_handler(
                        {"message": f"at the end of a turn: {callback!r}", "exception": error}
                    )
        finally:
            self._runs = False


class _Current(local):
    turn: Turn | None = None


_current: Final = _Current()


def of_running_loop() -> Turn:
    """The turn of the loop that runs in this thread. Raises ``RuntimeError`` where none does."""
    loop = asyncio.get_running_loop()
    turn = _current.turn
    if turn is None or turn.loop is not loop:
        turn = _current.turn = Turn(loop)
    return turn

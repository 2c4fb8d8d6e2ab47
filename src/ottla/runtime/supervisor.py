"""Every task of a node lives here: nothing runs unowned, and a task that dies of a bug takes the node down with it.

The first failure is kept in ``failure``; whoever runs the node waits on it beside its stop signal.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from ottla.runtime.telemetry import get_logger

log = get_logger(__name__)


class Supervisor:
    """Owns a set of tasks on the running loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a task. An exception that leaves it is a failure of the node; cancellation is not."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def fail(self, error: BaseException) -> None:
        """Report a failure found outside a task (a broken invariant in a callback)."""
        if not self.failure.done():
            log.error("node failed", error=repr(error), exc_info=error)
            self.failure.set_result(error)

    async def stop(self) -> None:
        """Cancel what still runs and wait for it."""
        self._stopping = True
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self._stopping:
            self.fail(error)

"""Where a blocking client lives: an event loop in a thread of its own.

The caller's thread only waits. So a blocking client may be used from any thread, from several at once, and where
another event loop is running: in a notebook, beside trio or gevent. What the client calls back (serializers,
partitioners, interceptors) runs in its thread and must not call the client; only ``on_consume`` runs where the
records are taken, since that is where they are made.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final, ParamSpec, TypeVar

from ottla.client._accumulator import Receipt, RecordMetadata
from ottla.runtime.loop import new_event_loop

P = ParamSpec("P")
T = TypeVar("T")

HANDED_OVER_MAX: Final = 20_000
"""Records a thread may be ahead of the loop."""


class Portal:
    """A running event loop, to be called from other threads. Starts when it is first used."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine that runs in the loop; an interrupted wait cancels it."""
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        except BaseException:
            coroutine.close()
            raise
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a plain function in the loop's thread."""

        async def called() -> T:
            return function(*args, **kwargs)

        return self.run(called())

    def start_soon(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a coroutine nobody waits for; it must not raise."""
        loop = self._running()
        asyncio.run_coroutine_threadsafe(function(), loop)

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """An asynchronous iterator as a plain one."""

        async def following() -> T:
            return await anext(items)

        try:
            while True:
                try:
                    item = self.run(following())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if isinstance(items, AsyncGenerator):
                self.run(_close(items))

    @contextmanager
    def context(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """An asynchronous context manager as a plain one."""
        value = self.run(_enter(manager))
        try:
            yield value
        except BaseException as error:
            if not self.run(_leave(manager, error)):
                raise
        else:
            self.run(_leave(manager, None))

    def check_caller(self) -> None:
        """Raises ``RuntimeError`` in the loop's own thread, which would wait for itself."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("a blocking client cannot be called from what it calls back")

    def close(self) -> None:
        """End the loop and its thread."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            self._closed = True
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        self.check_caller()
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            if self._loop is None:
                self._loop = new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
            return self._loop


class HandOver:
    """Records from many threads to the loop, many at a time: one wake-up for all that have gathered."""

    def __init__(self, portal: Portal, send: Callable[..., Coroutine[Any, Any, Receipt]]) -> None:
        self._portal = portal
        self._send = send
        self._queue: deque[tuple[tuple[Any, ...], dict[str, Any], Future[RecordMetadata]]] = deque()
        self._changed = threading.Condition()
        self._draining = False

    def put(self, args: tuple[Any, ...], options: dict[str, Any]) -> Future[RecordMetadata]:
        """Queue a record; waits while the loop is far behind."""
        self._portal.check_caller()
        future: Future[RecordMetadata] = Future()
        with self._changed:
            while len(self._queue) >= HANDED_OVER_MAX:
                self._changed.wait()
            self._queue.append((args, options, future))
            start = not self._draining
            self._draining = True
        if start:
            try:
                self._portal.start_soon(self._drain)
            except RuntimeError:
                with self._changed:
                    self._queue.clear()
                    self._draining = False
                    self._changed.notify_all()
                raise
        return future

    def wait_empty(self) -> None:
        """Wait until the loop has taken everything."""
        self._portal.check_caller()
        with self._changed:
            while self._queue or self._draining:
                self._changed.wait()

    async def _drain(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    self._draining = False
                    self._changed.notify_all()
                    return
                taken = [self._queue.popleft() for _ in range(min(len(self._queue), 1_000))]
                self._changed.notify_all()
            for args, options, future in taken:
                try:
                    receipt = await self._send(*args, **options)
                except Exception as error:
                    future.set_exception(error)
                else:
                    receipt.add_done_callback(lambda done, future=future: _settle(future, done))  # type: ignore[misc]


def _settle(future: Future[RecordMetadata], receipt: Receipt) -> None:
    error = receipt.exception()
    if not future.set_running_or_notify_cancel():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(receipt.result())


def given(arguments: dict[str, Any]) -> dict[str, Any]:
    """What an ``__init__`` was called with, of its ``locals()``: all of it is passed on."""
    return {name: value for name, value in arguments.items() if name != "self"}


async def _enter(manager: AbstractAsyncContextManager[T]) -> T:
    return await manager.__aenter__()


async def _leave(manager: AbstractAsyncContextManager[Any], error: BaseException | None) -> bool | None:
    if error is None:
        return await manager.__aexit__(None, None, None)
    try:
        return await manager.__aexit__(type(error), error, error.__traceback__)
    except BaseException as raised:
        if raised is error:
            return False
        raise


async def _close(items: AsyncGenerator[Any, Any]) -> None:
    await items.aclose()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()

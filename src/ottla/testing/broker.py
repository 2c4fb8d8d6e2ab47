"""A broker in a thread of its own, with an event loop of its own.

So clients of every kind work in the same process: blocking C clients do not stop the broker, and asyncio tests do not
share a loop with it. Data lives in a temporary directory and goes with the broker.
"""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from ottla.broker.node import Node
from ottla.client import Admin
from ottla.config.broker import BrokerConfig
from ottla.runtime.loop import new_event_loop

T = TypeVar("T")

START_SECONDS: Final = 60.0
CALL_SECONDS: Final = 30.0

TEST_SETTINGS: Final = {
    "listeners": "PLAINTEXT://127.0.0.1:0",
    # Nothing here has to survive a power cut.
    "ottla.flush": "never",
    # Fewer logs to open when the first group or transaction comes.
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    # Tests may want to see a session time out.
    "group.min.session.timeout.ms": "1",
}


class KafkaBroker:
    """A broker for tests: ``with KafkaBroker() as kafka`` starts it; after the block it and its data are gone.

    ``config`` holds Kafka's broker settings over those that make tests fast. All methods may be called from any thread
    but the broker's own.
    """

    def __init__(self, *, config: Mapping[str, str] | None = None) -> None:
        self._config = dict(config or {})
        self._names = count(1)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready: Future[str] = Future()
        self._admin: Admin | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` for clients."""
        if self._thread is None or not self._ready.done():
            raise RuntimeError("the broker is not running")
        return self._ready.result(timeout=0)

    def start(self) -> None:
        """Start and wait until it serves. Raises what the start failed with."""
        if self._thread is not None:
            raise RuntimeError("the broker runs already")
        self._ready = Future()
        self._failure = None
        self._thread = threading.Thread(target=self._run, name="ottla broker", daemon=True)
        self._thread.start()
        try:
            self._ready.result(timeout=START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop and remove the data. Raises what the broker failed of in the meantime, if it did."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._stop is not None:
            # A loop that has ended by itself needs no telling.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        thread.join(timeout=CALL_SECONDS)
        if thread.is_alive():
            raise RuntimeError(f"the broker did not stop within {CALL_SECONDS:g} s")
        if self._failure is not None and self._ready.exception(timeout=0) is None:
            raise self._failure

    def topic(self, name: str = "test", *, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Create a topic that no other test has; its name begins with ``name``."""
        unique = f"{name}-{next(self._names)}"
        self._call(self._create_topic(unique, partitions, config or {}))
        return unique

    def reset(self) -> None:
        """Delete every topic, and every group that has no members."""
        self._call(self._reset())

    def _run(self) -> None:
        directory = tempfile.mkdtemp(prefix="ottla-test-")
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(self._serve(directory))
        except BaseException as error:  # raised where start or stop waits
            self._failure = error
            if not self._ready.done():
                self._ready.set_exception(error)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    async def _serve(self, directory: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        config = BrokerConfig.parse({**TEST_SETTINGS, **self._config, "log.dirs": directory})
        node = Node(config, ephemeral=True)
        await node.start()
        self._ready.set_result(node.bootstrap)
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(node.wait_stopped(), name="watch the node")
                await self._stop.wait()
                watch.cancel()
        finally:
            if self._admin is not None:
                await self._admin.__aexit__(None, None, None)
                self._admin = None
            await node.stop()

    async def _connected_admin(self) -> Admin:
        if self._admin is None:
            self._admin = await Admin(self.bootstrap_servers, client_id="ottla-testing").__aenter__()
        return self._admin

    async def _create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        admin = await self._connected_admin()
        await admin.create_topic(name, partitions=partitions, replication_factor=1, config=config)

    async def _reset(self) -> None:
        admin = await self._connected_admin()
        topics = [topic.name for topic in await admin.list_topics()]
        if topics:
            await admin.delete_topics(topics)
        await admin.delete_empty_groups()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run on the broker's loop, wait here."""
        if self._thread is None or self._loop is None or not self._thread.is_alive():
            coroutine.close()
            raise RuntimeError("the broker is not running")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=CALL_SECONDS)

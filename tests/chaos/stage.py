"""What a workload plays on: the cluster behind its proxy, the partitions, the history; and the thread of a worker."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from chaos.history import BEGINS, ENDS, RUN, Event, History, Key, Place, Send, Value, read_record
from harness.proxy import Proxy
from harness.raw import RawConnection, RawRecord

PATIENCE_SECONDS = 90.0
DRAIN_SECONDS = 60.0
RAW_SECONDS = 4.0
"""Patience of raw clients with one answer; shorter than most faults are long."""


class Stage:
    """Shared by all workers of a run; methods may be called from any thread."""

    def __init__(
        self, history: History, *, proxy: Proxy, node_port: int, seed: int, rate: float, records: int = 0
    ) -> None:
        self.history = history
        self.bootstrap = f"127.0.0.1:{proxy.port}"
        self.seed = seed
        self.rate = rate
        """Operations a second that all workers of a workload aim at together."""
        self.records = records
        """How many values workloads with an end of their own write."""
        self.copiers: list[Any] = []
        """Client programs that the nemesis may kill."""
        self._origins = {target: source for source, target in history.header.copies.items()}
        self.proxy = proxy
        self._node_port = node_port
        known = (event.p for event in history.events if isinstance(event.p, int))
        self._processes = itertools.count(1 + max(known, default=0))
        self._values: dict[Key, itertools.count[int]] = defaultdict(lambda: itertools.count(1))
        self._lock = threading.Lock()

    def place(self, key: Key) -> Place:
        """The partition of a key."""
        return self.history.header.keys[key]

    def key_of(self, topic: str, partition: int) -> Key:
        """The key of a partition."""
        return next(key for key, place in self.history.header.keys.items() if place == (topic, partition))

    def keys(self, topic: str) -> list[Key]:
        """All partitions of a topic."""
        return [key for key, place in self.history.header.keys.items() if place[0] == topic]

    def new_process(self) -> int:
        """A process number that nobody had."""
        with self._lock:
            return next(self._processes)

    def new_send(self, key: Key, amount: int = 0) -> Send:
        """A value of this key that nobody sent."""
        with self._lock:
            return Send(key, None, next(self._values[key]), amount)

    def values_of(self, key: Key, records: Iterable[RawRecord]) -> list[tuple[int, Value]]:
        """Offsets and values of records that were read; a copy carries the key of its original."""
        owner = self._origins.get(key, key)
        return [(record.offset, read_record(owner, record.value)) for record in records]

    def connect(self) -> RawConnection:
        """A raw connection through the proxy."""
        return RawConnection("127.0.0.1", self.proxy.port, timeout=RAW_SECONDS)

    def connect_directly(self) -> RawConnection:
        """A raw connection past the proxy: for preparations and for the last read."""
        return RawConnection("127.0.0.1", self._node_port, timeout=30.0)


class Lost(Exception):
    """A client cannot know what became of its operation: it goes on as another process."""


class Worker(threading.Thread):
    """One client of a run: lives one session, and so one process number, after another, until told to end.

    Workers of a later wave are told to end when those of the waves before have ended.

    `session` returns when the client is to be replaced, or raises `Lost`; anything else it raises fails the run.
    """

    wave = 0
    has_operations = True
    """Whether it can be seen in the history that it gets on."""
    patience = DRAIN_SECONDS
    """Seconds it may take to get the last answers it waits for."""
    makes_up_seconds = 0.0
    """How much of the time in which it was held up it makes up for, by going on without pauses."""

    def __init__(self, stage: Stage, name: str, *, workers: int = 1) -> None:
        super().__init__(name=name, daemon=True)
        self.stage = stage
        self.history = stage.history
        self.dice = random.Random(f"{name} {stage.seed}")
        self.enough = threading.Event()
        self.gone = threading.Event()
        """Nobody waits any more for what this worker is not answered."""
        self.failure: BaseException | None = None
        self.process = 0
        self.pause = workers / stage.rate
        self._due_at = 0.0

    def run(self) -> None:
        if self.has_operations:
            self.history.mark(RUN, BEGINS, worker=self.name)
        try:
            while not self.enough.is_set():
                self.process = self.stage.new_process()
                try:
                    self.session()
                except Lost:
                    self.enough.wait(0.1)
        except BaseException as failure:  # the run raises it again
            self.failure = failure
        self.history.mark(RUN, ENDS, worker=self.name)

    def session(self) -> None:
        """Be one process."""
        raise NotImplementedError

    def wait(self, operations: int = 1) -> bool:
        """Keep to the rate after so many operations; whether there is more to do."""
        now = time.monotonic()
        self._due_at = max(self._due_at or now, now - self.makes_up_seconds)
        self._due_at += self.dice.expovariate(1 / (self.pause * operations))
        return not self.enough.wait(max(0.0, self._due_at - now))

    def invoke(self, f: str, steps: Sequence[Any] = ()) -> Event:
        """Begin an operation."""
        return self.history.invoke(self.process, f, steps, worker=self.name)

    def wrong_answer(self, text: str) -> None:
        """The broker answered what it must not answer: this worker has nothing to do any more."""
        self.history.alarm(self.process, text, worker=self.name)
        self.enough.wait()

    def finish(self, patience: float) -> bool:
        """Wait for the end, asked for by `enough`, and pass on what went wrong; whether it came to an end."""
        self.join(patience)
        ended = not self.is_alive()
        self.gone.set()
        self.join(PATIENCE_SECONDS)
        if self.failure is not None:
            raise self.failure
        assert not self.is_alive(), f"{self.name} hangs"
        return ended


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll; whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True

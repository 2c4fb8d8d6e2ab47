"""Load that knows what it did: idempotent producers with five batches in flight, and readers, all through restarts.

A producer keeps every batch it was not answered for and sends exactly the same bytes again after a reconnect, as real
clients do; so a broker that forgets, repeats or shuffles cannot hide behind the client.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.history import History, Place, make_value
from harness.raw import (
    PRODUCE,
    RETRIABLE,
    ProtocolFailure,
    RawConnection,
    Reader,
    build_batch,
    parse_produce,
    produce_body,
    retry,
)

IN_FLIGHT_MAX = 5
PATIENCE_SECONDS = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    values: Sequence[bytes]
    encoded: bytes


class Worker(threading.Thread):
    """A thread that stops when told and keeps the exception it died of."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.enough = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.work()
        except BaseException as failure:  # the main thread raises it again
            self.failure = failure

    def work(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Ask for the end, wait for it, and pass on what went wrong."""
        self.enough.set()
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive(), f"{self.name} hangs"
        if self.failure is not None:
            raise self.failure


class ProducingWorker(Worker):
    """One idempotent producer on one partition, acks=all."""

    def __init__(
        self, name: str, connect: Callable[[], RawConnection], place: Place, history: History, seed: int
    ) -> None:
        super().__init__(name)
        self._connect = connect
        self._place = place
        self._history = history
        self._random = random.Random(seed)
        self._next = 0
        self._waiting: deque[_Batch] = deque()
        self._producer: tuple[int, int] | None = None
        # Kafka takes any sequence number from a producer it does not know: the first batch has to arrive alone.
        self._in_flight_max = 1

    def work(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.enough.is_set() or self._waiting:
            before = len(self._waiting), self._next
            try:
                with self._connect() as connection:
                    self._one_connection(connection)
            except (OSError, ProtocolFailure) as failure:
                if isinstance(failure, ProtocolFailure) and failure.code not in {None, *RETRIABLE}:
                    self._history.record_failure(self._place, f"{self.name}: {failure}")
                    return
                time.sleep(0.02)
            if before != (len(self._waiting), self._next):
                deadline = time.monotonic() + PATIENCE_SECONDS
            elif time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} made no progress")

    def _one_connection(self, connection: RawConnection) -> None:
        if self._producer is None:
            self._producer = connection.init_producer()
        try:
            for batch in self._waiting:
                self._send(connection, batch)
            while self._waiting or not self.enough.is_set():
                while len(self._waiting) < self._in_flight_max and not self.enough.is_set():
                    self._waiting.append(self._new_batch())
                    self._send(connection, self._waiting[-1])
                if self._waiting:
                    self._take_answer(connection)
        except (BrokenPipeError, ConnectionResetError):
            # The broker hung up, perhaps after answering: a node that stops cleanly finishes what it began.
            while self._waiting:
                self._take_answer(connection)
            raise

    def _send(self, connection: RawConnection, batch: _Batch) -> None:
        connection.send(PRODUCE, 3, produce_body(*self._place, batch.encoded, acks=-1))

    def _take_answer(self, connection: RawConnection) -> None:
        base = parse_produce(Reader(connection.receive()[1]))
        done = self._waiting.popleft()
        self._in_flight_max = IN_FLIGHT_MAX
        self._history.record_acknowledged(self._place, base, done.values)

    def _new_batch(self) -> _Batch:
        assert self._producer is not None
        count = self._random.randint(1, 5)
        values = [make_value(self.name, self._next + n, self._random.randint(0, 300)) for n in range(count)]
        producer_id, epoch = self._producer
        encoded = build_batch(values, producer_id=producer_id, epoch=epoch, sequence=self._next)
        self._next += count
        self._history.record_sent(self._place, values)
        return _Batch(values=values, encoded=encoded)


class ReadingWorker(Worker):
    """Follows one partition from its start; what it saw once must stay."""

    def __init__(self, name: str, connect: Callable[[], RawConnection], place: Place, history: History) -> None:
        super().__init__(name)
        self._connect = connect
        self._place = place
        self._history = history

    def work(self) -> None:
        position = 0
        while not self.enough.is_set():
            try:
                with self._connect() as connection:
                    while not self.enough.is_set():
                        _, records = connection.fetch(*self._place, position, max_wait_ms=50)
                        for record in records:
                            self._history.record_live_read(self._place, record.offset, record.value or b"")
                            position = record.offset + 1
            except OSError:
                time.sleep(0.02)
            except ProtocolFailure as failure:
                if failure.code is not None and failure.code not in RETRIABLE:
                    self._history.record_failure(self._place, f"reading at {position}: {failure}")
                    return
                time.sleep(0.02)


def read_to_end(connection: RawConnection, place: Place, history: History) -> None:
    """The last read of a run."""
    end = retry(lambda: connection.end_offset(*place))
    position = 0
    while position < end:
        _, records = retry(lambda start=position: connection.fetch(*place, start, max_wait_ms=500))
        if not records:
            history.record_failure(place, f"nothing to read at {position}, though the end is {end}")
            return
        for record in records:
            history.record_final_read(place, record.offset, record.value or b"")
        position = records[-1].offset + 1

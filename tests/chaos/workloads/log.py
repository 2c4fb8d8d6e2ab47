"""Idempotent producers with five batches in flight, and readers: the plain log, byte by byte.

Everything here speaks the protocol itself. A producer keeps every batch it was not answered for and sends exactly the
same bytes again after a reconnect, as real clients do; so a broker that forgets, repeats or shuffles cannot hide behind
a client, and no outcome is ever unknown. Readers verify every checksum.
"""

from __future__ import annotations

import time
from collections import deque

from msgspec import Struct

from chaos.history import Event, Key, Poll, Send, Watch, make_record
from chaos.stage import Stage, Worker
from harness.raw import (
    PRODUCE,
    RETRIABLE,
    ProtocolFailure,
    RawConnection,
    Reader,
    build_batch,
    parse_produce,
    produce_body,
)

IN_FLIGHT_MAX = 5
SIZES = (0, 300)
RECONNECT_SECONDS, REREAD_SECONDS = 0.03, 0.1


class Batch(Struct, frozen=True, kw_only=True):
    """What is sent again, byte for byte, until it is answered."""

    invoked: Event
    sends: list[Send]
    encoded: bytes


class Pipeline(Worker):
    """One producer on one partition; it lives as one process from beginning to end.

    What it is asked to send a second it sends on average, outages included: applications do not wait for the broker.
    """

    makes_up_seconds = 30.0

    def __init__(self, stage: Stage, name: str, key: Key, workers: int) -> None:
        super().__init__(stage, name, workers=workers)
        self.key = key
        self.sent = 0
        self.records_a_batch = (1, 5)
        self._waiting: deque[Batch] = deque()
        self._producer: tuple[int, int] | None = None
        self._sequence = 0
        # Kafka takes any sequence number from a producer it does not know: the first batch has to arrive alone.
        self._in_flight_max = 1

    def session(self) -> None:
        while (self.has_more() or self._waiting) and not self.gone.is_set():
            try:
                with self.stage.connect() as connection:
                    self._one_connection(connection)
            except (OSError, ProtocolFailure) as failure:
                if isinstance(failure, ProtocolFailure) and failure.code not in {None, *RETRIABLE}:
                    first = self._waiting[0].sends[0].value if self._waiting else "nothing"
                    self.wrong_answer(f"sending {first} and what follows to key {self.key}: {failure}")
                    return
                time.sleep(RECONNECT_SECONDS)

    def has_more(self) -> bool:
        """Whether there is more to send."""
        return not self.enough.is_set()

    def _one_connection(self, connection: RawConnection) -> None:
        if self._producer is None:
            self._producer = connection.init_producer()
        for batch in self._waiting:
            self._send(connection, batch)
        try:
            while self._waiting or (self.has_more() and not self.gone.is_set()):
                for _ in range(0 if self._waiting else self.dice.randint(1, self._in_flight_max)):
                    if self.has_more():
                        self._waiting.append(self.new_batch())
                        self._send(connection, self._waiting[-1])
                sent = len(self._waiting)
                while self._waiting:
                    self._take_answer(connection)
                self.wait(max(sent, 1))
        except (BrokenPipeError, ConnectionResetError):
            # The broker hung up, perhaps after answering: a node that stops cleanly finishes what it began.
            while self._waiting:
                self._take_answer(connection)
            raise

    def new_batch(self) -> Batch:
        """The next records, under the next sequence numbers."""
        assert self._producer is not None
        sends = [self.stage.new_send(self.key) for _ in range(self.dice.randint(*self.records_a_batch))]
        records = [make_record(self.key, int(send.value), self.name, self.dice.randint(*SIZES)) for send in sends]
        producer_id, epoch = self._producer
        encoded = build_batch(records, producer_id=producer_id, epoch=epoch, sequence=self._sequence)
        self._sequence += len(sends)
        self.sent += len(sends)
        return Batch(invoked=self.invoke("send", sends), sends=sends, encoded=encoded)

    def _send(self, connection: RawConnection, batch: Batch) -> None:
        connection.send(PRODUCE, 3, produce_body(*self.stage.place(self.key), batch.encoded, acks=-1))

    def _take_answer(self, connection: RawConnection) -> None:
        base = parse_produce(Reader(connection.receive()[1]))
        done = self._waiting.popleft()
        self._in_flight_max = IN_FLIGHT_MAX
        sent = [Send(send.key, base + delta, send.value) for delta, send in enumerate(done.sends)]
        self.history.complete(done.invoked, "ok", sent)


class Follower(Worker):
    """Reads one partition from its start, and what it is told of the high watermark."""

    def __init__(self, stage: Stage, name: str, key: Key, *, committed: bool = False) -> None:
        super().__init__(stage, name)
        self.key = key
        self.position = 0
        self.seen = 0
        self._committed = committed

    def session(self) -> None:
        self.history.complete(self.invoke("assign"), "ok")
        while not self.enough.is_set():
            try:
                with self.stage.connect() as connection:
                    while not self.enough.is_set():
                        self._poll(connection)
            except OSError:
                time.sleep(REREAD_SECONDS)
            except ProtocolFailure as failure:
                if failure.code is not None and failure.code not in RETRIABLE:
                    self.wrong_answer(f"reading key {self.key} at {self.position}: {failure}")
                    return
                time.sleep(REREAD_SECONDS)

    def _poll(self, connection: RawConnection) -> None:
        invoked = self.invoke("poll")
        try:
            fetched = connection.read(
                *self.stage.place(self.key), self.position, max_wait_ms=100, committed=self._committed
            )
        except (OSError, ProtocolFailure) as failure:
            self.history.complete(invoked, "fail", err=str(failure))
            raise
        records = self.stage.values_of(self.key, fetched.records)
        self.position = fetched.next_offset
        self.seen += len(records)
        steps: list[Poll | Watch] = [Watch("hw", self.key, fetched.high_watermark)]
        if self._committed:
            steps.append(Watch("lso", self.key, fetched.stable_offset))
        self.history.complete(invoked, "ok", [*steps, Poll({self.key: records})] if records else steps)

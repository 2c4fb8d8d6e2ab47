"""What clients asked for and what they were told: one JSON line an event, written as it happens.

An operation is an `invoke` and, later, `ok`, `fail` or `info` with `of` naming the invocation. `fail` is only for what
certainly had no effect; whoever cannot know (a timeout, a lost connection) says `info`, and goes on under a new process
number. So within one process, operations are in order.

A key is a small integer that stands for a partition; a value is a number that is written once per key. Records carry
both, who wrote them, and a checksum: a reader needs no other knowledge to notice a wrong byte or a wrong partition.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, Self

import msgspec
from msgspec import Struct

Key = int
Value = int | str
"""A number, or the text of something that nobody can have written."""
Place = tuple[str, int]
Kind = Literal["invoke", "ok", "fail", "info"]

NEMESIS = "nemesis"
RUN = "run"
BEGINS, ENDS = "begins", "ends"
"""Marks of a worker's life."""


class Send(Struct, array_like=True, tag="s", frozen=True):
    """`["s", key, offset or null, value, amount]`; amounts of one transaction add up to nothing (the bank)."""

    key: Key
    offset: int | None
    value: Value
    amount: int = 0


class Poll(Struct, array_like=True, tag="p", frozen=True):
    """`["p", {key: [[offset, value], ...]}]`: what one poll returned, in its order."""

    records: dict[Key, list[tuple[int, Value]]]


class Watch(Struct, array_like=True, tag="w", frozen=True):
    """`["w", what, key, number]`: what must never go back. `what` is `hw`, `lso`, `epoch`, `end`, `committed GROUP`."""

    what: str
    key: Key
    number: int


Step = Send | Poll | Watch


class Event(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """One line of a history. `t` is in nanoseconds since the run began."""

    i: int
    t: int
    p: int | str
    ty: Kind
    f: str
    v: tuple[Step, ...] = ()
    of: int | None = None
    w: str = ""
    """The worker, which outlives its processes."""
    reb: tuple[Key, ...] = ()
    """Partitions that came or went in a rebalance meanwhile."""
    c: int | None = None
    """When a transaction was asked to commit."""
    err: str = ""


class Header(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """The first line: what the rules have to know."""

    keys: dict[Key, Place]
    seed: int = 0
    isolation: Literal["read_committed", "read_uncommitted"] = "read_committed"
    copies: dict[Key, Key] = {}
    """Which key's values are copied to which, exactly once."""
    stuck_seconds: float = 60.0
    """How long a worker may go without a success while nothing is broken."""
    about: str = ""

    def name(self, key: Key | None) -> str:
        """`topic-partition`."""
        place = self.keys.get(key) if key is not None else None
        return f"{place[0]}-{place[1]}" if place else f"key {key}"


class History:
    """A header and events, in order; every method may be called from any thread."""

    def __init__(self, header: Header, path: Path | None = None) -> None:
        self.header = header
        self.path = path
        self.events: list[Event] = []
        self.alarmed = False
        """Somebody was told what nobody may be told: there is no point in going on."""
        self.began = time.monotonic_ns()
        self._lock = threading.Lock()
        self._encoder = msgspec.json.Encoder()
        self._file: IO[bytes] | None = None
        if path is not None:
            self._file = path.open("wb")
            self._write(header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Flush and close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def now(self) -> int:
        """Nanoseconds since the run began."""
        return time.monotonic_ns() - self.began

    def until(self, moment: int, path: Path) -> History:
        """What was known at a moment of the monotonic clock, as a history of its own that goes on from there."""
        early = History(self.header, path)
        early.began = time.monotonic_ns() - (moment - self.began)
        for event in self.events:
            if event.t >= moment - self.began:
                break
            early.events.append(event)
            early._write(event)
        return early

    def invoke(self, process: int | str, f: str, steps: Iterable[Step] = (), *, worker: str = "") -> Event:
        """Something is about to be asked for."""
        return self._add(process, "invoke", f, steps, w=worker)

    def complete(self, invoked: Event, ty: Kind, steps: Iterable[Step] | None = None, **more: Any) -> Event:
        """It ended; without `steps` nothing more is known than what was asked for."""
        return self._add(invoked.p, ty, invoked.f, steps or (), of=invoked.i, w=invoked.w, **more)

    def alarm(self, process: int | str, text: str, *, worker: str = "") -> None:
        """The broker answered what it must not answer."""
        self.complete(self.invoke(process, "wrong-answer", worker=worker), "ok", err=text)
        self.alarmed = True

    def mark(self, process: str, f: str, text: str = "", *, worker: str = "") -> Event:
        """A fault, or a phase of the run or of a worker."""
        return self._add(process, "info", f, (), err=text, w=worker)

    def _add(self, process: int | str, ty: Kind, f: str, steps: Iterable[Step], **more: Any) -> Event:
        with self._lock:
            event = Event(i=len(self.events), t=self.now(), p=process, ty=ty, f=f, v=tuple(steps), **more)
            self.events.append(event)
            self._write(event)
            return event

    def _write(self, line: Struct) -> None:
        if self._file is not None:
            self._file.write(self._encoder.encode(line) + b"\n")


def load(path: Path) -> History:
    """Read a history file again."""
    lines = path.read_bytes().splitlines()
    history = History(msgspec.json.decode(lines[0], type=Header))
    history.path = path
    decoder = msgspec.json.Decoder(Event)
    history.events = [decoder.decode(line) for line in lines[1:]]
    return history


class Operation(Struct, kw_only=True, eq=False):
    """An invocation with its end."""

    invoked: Event
    completed: Event | None

    @property
    def index(self) -> int:
        return self.invoked.i

    @property
    def process(self) -> int | str:
        return self.invoked.p

    @property
    def f(self) -> str:
        return self.invoked.f

    @property
    def type(self) -> Kind:
        return self.completed.ty if self.completed is not None else "info"

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is known to have been done: the end knows offsets and polls, the invocation only intentions."""
        return self.completed.v if self.completed is not None and self.completed.v else self.invoked.v

    @property
    def rebalanced(self) -> tuple[Key, ...]:
        return self.completed.reb if self.completed is not None else ()

    def sends(self) -> Iterator[Send]:
        return (step for step in self.steps if isinstance(step, Send))

    def polls(self) -> Iterator[Poll]:
        return (step for step in self.steps if isinstance(step, Poll))


def operations(events: Iterable[Event]) -> list[Operation]:
    """The clients' operations in order of invocation."""
    found: dict[int, Operation] = {}
    for event in events:
        if event.ty == "invoke":
            found[event.i] = Operation(invoked=event, completed=None)
        elif event.of is not None:
            found[event.of].completed = event
    return list(found.values())


def make_record(key: Key, value: int, writer: str, size: int = 0) -> bytes:
    """`key/value/writer/pad/checksum`, at least `size` bytes."""
    body = f"{key}/{value}/{writer}/".encode()
    body += b"." * max(0, size - len(body) - 9) + b"/"
    return body + b"%08x" % zlib.crc32(body)


def read_record(key: Key, record: bytes | None) -> Value:
    """The value in a record of partition `key`; a text where it cannot have been written there."""
    body, mark, checksum = (record or b"").rpartition(b"/")
    if not mark or checksum != b"%08x" % zlib.crc32(body + b"/"):
        return f"damaged {record!r:.80}"
    owner, value, writer = body.split(b"/")[:3]
    return int(value) if int(owner) == key else f"value {value.decode()} of key {owner.decode()} by {writer.decode()}"

"""What was sent, acknowledged and read, and the verdict over it.

The promise under test: an acknowledged record is never lost, changed, duplicated or reordered. Every value says who
sent it and as which of that sender's records, and carries its own checksum: a reader needs no other knowledge.
"""

from __future__ import annotations

import threading
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Place = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken rule."""

    rule: str
    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.rule} in {self.place[0]}-{self.place[1]}: {self.text}"


@dataclass(slots=True)
class History:
    """Events of one run; methods may be called from any thread."""

    sent: dict[Place, dict[bytes, None]] = field(default_factory=lambda: defaultdict(dict))
    acknowledged: dict[Place, dict[bytes, int]] = field(default_factory=lambda: defaultdict(dict))
    live_reads: dict[Place, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))
    final_reads: dict[Place, list[tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(list))
    found: list[Violation] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record_sent(self, place: Place, values: Sequence[bytes]) -> None:
        """The values are about to go out for the first time."""
        with self._lock:
            self.sent[place].update(dict.fromkeys(values))

    def record_acknowledged(self, place: Place, base_offset: int, values: Sequence[bytes]) -> None:
        """The broker said that the values stand at `base_offset` and after."""
        with self._lock:
            for delta, value in enumerate(values):
                known = self.acknowledged[place].setdefault(value, base_offset + delta)
                if known != base_offset + delta:
                    self._report(
                        "inconsistent offset", place, f"{value!r} acknowledged at {known} and {base_offset + delta}"
                    )

    def record_live_read(self, place: Place, offset: int, value: bytes) -> None:
        """A reader saw the value while the run went on."""
        with self._lock:
            known = self.live_reads[place].setdefault(offset, value)
            if known != value:
                self._report("inconsistent offset", place, f"offset {offset} read as {known!r} and as {value!r}")

    def record_final_read(self, place: Place, offset: int, value: bytes) -> None:
        """The last reader, after everything healed, saw the value."""
        with self._lock:
            self.final_reads[place].append((offset, value))

    def record_failure(self, place: Place, text: str) -> None:
        """The broker answered what it must not answer."""
        with self._lock:
            self._report("wrong answer", place, text)

    @property
    def acknowledged_count(self) -> int:
        """How many values were acknowledged so far."""
        with self._lock:
            return sum(map(len, self.acknowledged.values()))

    def _report(self, rule: str, place: Place, text: str) -> None:
        self.found.append(Violation(rule=rule, place=place, text=text))


def verdict(history: History) -> list[Violation]:
    """Every broken rule; an empty list means the promise was kept."""
    violations = list(history.found)
    for place in sorted(history.sent.keys() | history.final_reads.keys()):
        violations += _judge(history, place)
    return violations


def _judge(history: History, place: Place) -> list[Violation]:
    reads = history.final_reads[place]
    violations = [Violation(rule=rule, place=place, text=text) for rule, text in _broken_order(reads)]
    where: dict[bytes, int] = {}
    for offset, value in reads:
        if not intact(value) or value not in history.sent[place]:
            text = f"offset {offset} holds {value[:60]!r}, which nobody sent"
            violations.append(Violation(rule="changed", place=place, text=text))
        elif value in where:
            text = f"{label(value)!r} at {where[value]} and {offset}"
            violations.append(Violation(rule="duplicated", place=place, text=text))
        else:
            where[value] = offset
    return violations + [
        Violation(rule=rule, place=place, text=text) for rule, text in _broken_words(history, place, where)
    ]


def _broken_order(reads: Sequence[tuple[int, bytes]]) -> Iterator[tuple[str, str]]:
    """Offsets rise, and so do the numbers of each sender (a repeated number is a duplicate, not a disorder)."""
    if any(later[0] <= earlier[0] for earlier, later in pairwise(reads)):
        yield "reordered", "offsets do not rise"
    last_of: dict[bytes, int] = {}
    seen: set[bytes] = set()
    for offset, value in reads:
        if intact(value) and value not in seen:
            seen.add(value)
            sender, number = sender_of(value), number_of(value)
            if number < last_of.get(sender, -1):
                yield "reordered", f"{label(value)!r} at {offset} after number {last_of[sender]}"
            last_of[sender] = max(number, last_of.get(sender, -1))


def _broken_words(history: History, place: Place, where: Mapping[bytes, int]) -> Iterator[tuple[str, str]]:
    """What the broker said before, in acknowledgements and to readers, holds in the end."""
    for value, offset in history.acknowledged[place].items():
        if value not in where:
            yield "lost", f"{label(value)!r} was acknowledged at {offset}"
        elif where[value] != offset:
            yield "inconsistent offset", f"{label(value)!r} acknowledged at {offset}, read at {where[value]}"
    for offset, value in history.live_reads[place].items():
        if where.get(value) != offset:
            yield "unread", f"{label(value)!r} was read at {offset} before, and is now at {where.get(value)}"


def make_value(sender: str, number: int, size: int = 0) -> bytes:
    """`sender:number:pad:checksum`."""
    body = f"{sender}:{number}:".encode()
    body += b"." * max(0, size - len(body) - 9) + b":"
    return body + b"%08x" % zlib.crc32(body)


def intact(value: bytes) -> bool:
    """Whether the value is one that `make_value` made."""
    body, mark, checksum = value.rpartition(b":")
    return bool(mark) and checksum == b"%08x" % zlib.crc32(body + b":")


def label(value: bytes) -> bytes:
    """Sender and number."""
    return b":".join(value.split(b":")[:2])


def sender_of(value: bytes) -> bytes:
    """Who sent it."""
    return value.split(b":")[0]


def number_of(value: bytes) -> int:
    """Which of its sender's records it is."""
    return int(value.split(b":")[1])

"""A history turned around: who wrote each value, who read it, and the order in which values lie in each partition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise

from chaos.history import NEMESIS, RUN, Event, History, Key, Operation, Send, Value, operations

Edges = dict[Operation, dict[Operation, str]]
"""From an operation to those that depend on it, each with the reason."""


class Index:
    """What the rules look things up in.

    The order of a partition comes from every poll, those of aborted transactions too (nobody may be shown what is not
    safe), and from sends that have certainly been committed. Offsets may have holes; places in the order have none.
    """

    def __init__(self, history: History) -> None:
        self.header = history.header
        self.operations = operations(event for event in history.events if event.p not in (NEMESIS, RUN))
        self.marks = [event for event in history.events if event.p in (NEMESIS, RUN)]
        self.writers: dict[Key, dict[Value, Operation]] = defaultdict(dict)
        self.readers: dict[Key, dict[Value, list[Operation]]] = defaultdict(lambda: defaultdict(list))
        self.evidence: dict[Key, dict[int, dict[Value, list[Operation]]]] = defaultdict(lambda: defaultdict(dict))
        for operation in self.operations:
            for send in operation.sends():
                self.writers[send.key].setdefault(send.value, operation)
            for poll in operation.polls():
                for key, records in poll.records.items():
                    for offset, value in records:
                        self.readers[key][value].append(operation)
                        self.evidence[key][offset].setdefault(value, []).append(operation)
        for source, target in self.header.copies.items():
            self.writers[target] = self.writers[source]
        for operation in self.operations:
            if self.committed(operation):
                for send in operation.sends():
                    if send.offset is not None:
                        self.evidence[send.key][send.offset].setdefault(send.value, []).append(operation)
        self.order: dict[Key, list[Value]] = {}
        self.offset_of: dict[Key, dict[Value, list[int]]] = {}
        self.place_of: dict[Key, dict[Value, int]] = {}
        for key, offsets in self.evidence.items():
            self._put_in_order(key, offsets)

    def _put_in_order(self, key: Key, offsets: dict[int, dict[Value, list[Operation]]]) -> None:
        order = self.order[key] = []
        where = self.offset_of[key] = defaultdict(list)
        place = self.place_of[key] = {}
        for offset in sorted(offsets):
            for value in offsets[offset]:
                where[value].append(offset)
                place[value] = len(order)
                order.append(value)

    def committed(self, operation: Operation) -> bool:
        """Whether its writes certainly took effect: it was told so, or somebody read one of them."""
        if operation.type == "info":
            return any(send.value in self.readers[send.key] for send in operation.sends())
        return operation.type == "ok"

    def acknowledged(self) -> Iterator[tuple[Operation, Send]]:
        """Every write that certainly took effect."""
        for operation in self.operations:
            if self.committed(operation):
                for send in operation.sends():
                    yield operation, send

    def by_process(self) -> dict[int | str, list[Operation]]:
        """The operations of each process."""
        found: dict[int | str, list[Operation]] = defaultdict(list)
        for operation in self.operations:
            found[operation.process].append(operation)
        return found

    @property
    def caught_up(self) -> Event | None:
        """The mark after which everything was read once more, if the run came that far."""
        return next((mark for mark in self.marks if mark.f == "caught-up"), None)

    @cached_property
    def written_after(self) -> Edges:
        """Who wrote right behind whom (Jepsen's ww)."""
        found: Edges = defaultdict(dict)
        for key, order in self.order.items():
            writers = self.writers[key]
            known = [value for value in order if value in writers and self.committed(writers[value])]
            for one, other in pairwise(known):
                if writers[one] is not writers[other]:
                    reason = f"{other} follows {one} in {self.header.name(key)}"
                    found[writers[one]].setdefault(writers[other], reason)
        return found

    @cached_property
    def read_from(self) -> Edges:
        """Who read what another has written (Jepsen's wr)."""
        found: Edges = defaultdict(dict)
        for key, values in self.readers.items():
            for value, readers in values.items():
                writer = self.writers[key].get(value)
                for reader in readers if writer is not None else ():
                    if reader is not writer:
                        found[writer].setdefault(reader, f"{value} of {self.header.name(key)} was read")
        return found

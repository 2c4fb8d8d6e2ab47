"""The verdict over a history: every rule, the counter-examples, and the figures of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from chaos.history import NEMESIS, History, Operation
from chaos.index import Index
from chaos.rules import RULES, Violation


class Verdict(Struct, kw_only=True, frozen=True):
    """What broke (`bad`), what is allowed and only counted (`normal`), and how much was looked at."""

    bad: tuple[Violation, ...]
    normal: tuple[Violation, ...]
    operations: Counter[str]
    faults: Counter[str]
    acknowledged: int
    indeterminate: int
    read: int
    reads_of_a_value: Counter[int]
    """How often values were polled by subscribed processes (Jepsen's consume-counts)."""

    @property
    def kept(self) -> bool:
        return not self.bad

    @property
    def rules(self) -> set[str]:
        """The names of the broken rules."""
        return {violation.rule for violation in self.bad}


def check(history: History) -> Verdict:
    """Hold every rule against the history."""
    index = Index(history)
    found = [
        Violation(
            text=one.text, key=one.key, values=one.values, operations=one.operations, rule=rule.name, bad=rule.bad
        )
        for rule in RULES.values()
        for one in rule.find(index)
    ]
    return Verdict(
        bad=tuple(one for one in found if one.bad),
        normal=tuple(one for one in found if not one.bad),
        operations=Counter(f"{operation.f} {operation.type}" for operation in index.operations),
        faults=Counter(mark.f for mark in index.marks if mark.p == NEMESIS and mark.f != "heal"),
        acknowledged=sum(1 for _ in index.acknowledged()),
        indeterminate=sum(
            sum(1 for _ in operation.sends())
            for operation in index.operations
            if operation.type == "info" and not index.committed(operation)
        ),
        read=sum(len(values) for values in index.readers.values()),
        reads_of_a_value=_consume_counts(index.operations),
    )


def _consume_counts(operations: Iterable[Operation]) -> Counter[int]:
    subscribed: set[int | str] = set()
    polled: Counter[tuple[int, int | str]] = Counter()
    for operation in operations:
        if operation.f == "subscribe":
            subscribed.add(operation.process)
        elif operation.f == "assign":
            subscribed.discard(operation.process)
        elif operation.process in subscribed and operation.type == "ok":
            for poll in operation.polls():
                polled.update((key, value) for key, records in poll.records.items() for _, value in records)
    return Counter(polled.values())

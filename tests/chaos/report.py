"""A verdict for people: the figures in a few lines, and each counter-example as the few events that matter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from chaos.checker import Verdict
from chaos.history import NEMESIS, RUN, Event, Header, History, Operation, Poll, Send, Step, Value
from chaos.rules import RULES, Violation

SHOWN_MAX = 3
"""Counter-examples per rule; the rest are counted."""
AROUND = 2
"""Records shown on either side of the one that matters."""


def summary(history: History, verdict: Verdict) -> str:
    """The whole report."""
    lines = [_headline(history, verdict)]
    lines.append(f"  operations   {_counts(verdict.operations)}")
    lines.append(f"  faults       {_counts(verdict.faults) or 'none'}")
    lines.append(
        f"  values       {verdict.acknowledged} written{_rate(history, verdict)}, {verdict.read} read, "
        f"{verdict.indeterminate} undecided"
    )
    if verdict.reads_of_a_value:
        lines.append(f"  consumed     {_counts({f'{n}x': c for n, c in sorted(verdict.reads_of_a_value.items())})}")
    if verdict.normal:
        lines.append(f"  allowed      {_counts(_by_rule(verdict.normal))}")
    for rule, found in _by_rule(verdict.bad).items():
        shown = [violation for violation in verdict.bad if violation.rule == rule][:SHOWN_MAX]
        lines.append("")
        lines.append(f"{rule}: {found} x. The promise: {RULES[rule].promise}")
        for violation in shown:
            lines += explain(history, violation)
    if history.path is not None:
        lines.append(f"  history      {history.path}")
    return "\n".join(lines)


def explain(history: History, violation: Violation) -> Iterator[str]:
    """One counter-example: what, where, and the events that show it."""
    where = f" in {history.header.name(violation.key)}" if violation.key is not None else ""
    yield f"  * {violation.rule}{where}: {violation.text}"
    events = sorted({event.i: event for event in _events(history, violation)}.values(), key=lambda event: event.i)
    for event in events:
        yield f"      {_line(history.header, event, violation)}"
    if events and history.path is not None:
        numbers = ", ".join(str(event.i + 2) for event in events)
        yield f"      (lines {numbers} of {history.path})"


def _headline(history: History, verdict: Verdict) -> str:
    seconds = history.events[-1].t / 1e9 if history.events else 0.0
    word = "KEPT" if verdict.kept else f"BROKEN ({_counts(_by_rule(verdict.bad))})"
    return f"{word}: {history.header.about or 'history'}, seed {history.header.seed}, {seconds:.1f} s"


def _rate(history: History, verdict: Verdict) -> str:
    """How many values a second, from the beginning of the load to its end, outages included."""
    at = {event.f: event.t for event in history.events if event.p == RUN and event.f in ("start", "end")}
    if len(at) < 2:
        return ""
    return f" ({verdict.acknowledged / max(1, at['end'] - at['start']) * 1e9:.0f}/s)"


def _by_rule(violations: Iterable[Violation]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for violation in violations:
        counts[violation.rule] = counts.get(violation.rule, 0) + 1
    return counts


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _events(history: History, violation: Violation) -> Iterator[Event]:
    """Both ends of each operation, and the faults between the first and the last of them."""
    ends = [event for operation in violation.operations for event in _ends(operation)]
    yield from ends
    if ends:
        first, last = min(event.i for event in ends), max(event.i for event in ends)
        faults = [event for event in history.events[first : last + 1] if event.p == NEMESIS]
        yield from faults[: SHOWN_MAX * 2]


def _ends(operation: Operation) -> Iterator[Event]:
    if operation.completed is None or (operation.invoked.v and not operation.completed.v):
        yield operation.invoked
    if operation.completed is not None:
        yield operation.completed


def _line(header: Header, event: Event, violation: Violation) -> str:
    who = event.p if isinstance(event.p, str) else f"p{event.p}"
    worker = f" ({event.w})" if event.w and event.w != who else ""
    text = " ".join(filter(None, (_step(header, step, violation) for step in event.v)))
    note = f" {event.err}" if event.err else ""
    return f"{event.t / 1e9:+9.3f} s  {who + worker:<16} {event.f:<10} {event.ty:<6} {text}{note}".rstrip()


def _step(header: Header, step: Step, violation: Violation) -> str:
    if isinstance(step, Send):
        at = "" if step.offset is None else f"@{step.offset}"
        return f"{header.name(step.key)} <- {step.value}{at}"
    if isinstance(step, Poll):
        found = {key: _near(records, violation.values) for key, records in step.records.items()}
        return " ".join(f"{header.name(key)} -> {near}" for key, near in found.items())
    shown = violation.key in (None, step.key)
    return f"{step.what} of {header.name(step.key)} = {step.number}" if shown else ""


def _near(records: Sequence[tuple[int, Value]], values: Sequence[Value]) -> str:
    """The records around those that matter; `..` stands for the others."""
    matter = [at for at, (_, value) in enumerate(records) if value in values]
    shown = sorted({near for at in matter for near in range(at - AROUND, at + AROUND + 1) if 0 <= near < len(records)})
    if not shown:
        return f"{len(records)} values"
    parts = ["..."] if shown[0] > 0 else []
    for before, at in zip([shown[0], *shown], shown, strict=False):
        parts += ["..."] if at > before + 1 else []
        parts.append(f"{records[at][1]}@{records[at][0]}")
    return " ".join(parts + (["..."] if shown[-1] < len(records) - 1 else []))

"""The promises, each as one function that finds where it was broken. Pure: an index in, violations out.

The first line of a rule's docstring is what a counter-example says about it. `bad=False` marks what Kafka allows and a
report only counts. To add a rule, write a function here and decorate it; then write the history that breaks it, and
its innocent twin, in `test_rules.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from msgspec import Struct

from chaos.cycles import components, short_cycle
from chaos.history import BEGINS, ENDS, Event, Key, Operation, Send, Value, Watch
from chaos.index import Edges, Index


class Violation(Struct, kw_only=True, frozen=True):
    """One place where a rule is broken, and what to look at in the history."""

    text: str
    key: Key | None = None
    values: tuple[Value, ...] = ()
    operations: tuple[Operation, ...] = ()
    rule: str = ""
    bad: bool = True


class Rule(Struct, kw_only=True, frozen=True):
    """A named promise."""

    name: str
    promise: str
    bad: bool
    find: Callable[[Index], Iterable[Violation]]


RULES: dict[str, Rule] = {}
FOR_EVER = 1 << 62
Finder = Callable[[Index], Iterator[Violation]]


def rule(name: str, *, bad: bool = True) -> Callable[[Finder], Finder]:
    """Enter a rule into the table."""

    def enter(find: Finder) -> Finder:
        RULES[name] = Rule(name=name, promise=(find.__doc__ or "").partition("\n")[0], bad=bad, find=find)
        return find

    return enter


# -- what stands where ----------------------------------------------------------------------------------------------


@rule("inconsistent-offsets")
def inconsistent_offsets(index: Index) -> Iterator[Violation]:
    """An offset of a partition holds one value for ever, whoever wrote or reads it."""
    for key, offsets in index.evidence.items():
        for offset, values in offsets.items():
            if len(values) > 1:
                yield Violation(
                    key=key,
                    text=f"offset {offset} holds {' and '.join(map(str, values))}",
                    values=tuple(values),
                    operations=tuple(seen[0] for seen in values.values()),
                )


@rule("duplicate")
def duplicate(index: Index) -> Iterator[Violation]:
    """A value that was sent once lies at one offset (producers are idempotent)."""
    for key, values in index.offset_of.items():
        for value, offsets in values.items():
            if len(offsets) > 1:
                seen = [index.evidence[key][offset][value][0] for offset in offsets]
                yield Violation(
                    key=key,
                    text=f"value {value} lies at offsets {', '.join(map(str, offsets))}",
                    values=(value,),
                    operations=tuple(seen),
                )


@rule("stranger")
def stranger(index: Index) -> Iterator[Violation]:
    """What is read was sent, to this partition and with these bytes."""
    for key, values in index.readers.items():
        for value, readers in values.items():
            if value not in index.writers[key]:
                offset = index.offset_of[key][value][0]
                yield Violation(
                    key=key,
                    text=f"offset {offset} holds {value}, which nobody sent there",
                    values=(value,),
                    operations=(readers[0],),
                )


# -- what must be there, and what must not --------------------------------------------------------------------------


def _unread(index: Index) -> Iterator[tuple[Operation, Send, bool]]:
    """Writes that took effect and were never read; whether later ones were read."""
    highest: dict[Key, int] = {}
    for key, values in index.readers.items():
        highest[key] = max((index.place_of[key][value] for value in values), default=-1)
    for operation, send in index.acknowledged():
        if not index.readers[send.key].get(send.value):
            place = index.place_of.get(send.key, {}).get(send.value)
            yield operation, send, place is not None and place <= highest.get(send.key, -1)


@rule("lost-write")
def lost_write(index: Index) -> Iterator[Violation]:
    """A write that took effect is read by whoever reads past it."""
    for operation, send, passed in _unread(index):
        if passed:
            order, readers = index.order[send.key], index.readers[send.key]
            after = range(index.place_of[send.key][send.value] + 1, len(order))
            later = next(order[place] for place in after if readers.get(order[place]))
            yield Violation(
                key=send.key,
                text=f"value {send.value}, at offset {send.offset}, was never read, but {later} behind it was",
                values=(send.value, later),
                operations=(operation, readers[later][0]),
            )


@rule("unseen")
def unseen(index: Index) -> Iterator[Violation]:
    """After everything healed, and the last reader came to the end, every write that took effect has been read."""
    if index.caught_up is None:
        return
    for operation, send, passed in _unread(index):
        if not passed:
            yield Violation(
                key=send.key,
                text=f"value {send.value}, acknowledged at offset {send.offset}, was not there in the end",
                values=(send.value,),
                operations=(operation,),
            )


@rule("G1a")
def aborted_read(index: Index) -> Iterator[Violation]:
    """What certainly failed, or was aborted, is never read."""
    for key, values in index.readers.items():
        for value, readers in values.items():
            writer = index.writers[key].get(value)
            if writer is None or writer.type != "fail":
                continue
            if writer.f == "txn" and index.header.isolation == "read_uncommitted":
                continue
            yield Violation(
                key=key,
                text=f"value {value} was read at offset {index.offset_of[key][value][0]}, but its writer failed",
                values=(value,),
                operations=(writer, readers[0]),
            )


@rule("precommitted-read")
def precommitted_read(index: Index) -> Iterator[Violation]:
    """A transaction does not read what it has itself sent and not yet committed."""
    if index.header.isolation == "read_uncommitted":
        return
    for operation in index.operations:
        own = {(send.key, send.value) for send in operation.sends()}
        for key, _, value in _polled(operation):
            if (key, value) in own:
                yield Violation(
                    key=key, text=f"value {value} was read inside", values=(value,), operations=(operation,)
                )


@rule("early-read")
def early_read(index: Index) -> Iterator[Violation]:
    """A reader of committed data sees nothing of a transaction that has not yet been asked to commit."""
    if index.header.isolation == "read_uncommitted":
        return
    for key, values in index.readers.items():
        for value, readers in values.items():
            writer = index.writers[key].get(value)
            asked = writer.completed.c if writer is not None and writer.completed is not None else None
            for reader in readers if asked is not None else ():
                if writer is not reader and reader.completed is not None and reader.completed.t < asked:
                    text = f"value {value} was read {(asked - reader.completed.t) / 1e6:.1f} ms before the commit"
                    yield Violation(key=key, text=text, values=(value,), operations=(writer, reader))
                    break


@rule("torn")
def torn(index: Index) -> Iterator[Violation]:
    """In the end, all of a transaction can be read or nothing of it."""
    if index.caught_up is None:
        return
    for operation in index.operations:
        sends = list(operation.sends()) if operation.f == "txn" else []
        missing = [send for send in sends if send.value not in index.readers[send.key]]
        if missing and len(missing) < len(sends):
            text = f"{len(sends) - len(missing)} of {len(sends)} values are there; value {missing[0].value} is not"
            yield Violation(
                key=missing[0].key,
                text=text,
                values=tuple(send.value for send in sends),
                operations=(operation,),
            )


@rule("bank-total")
def bank_total(index: Index) -> Iterator[Violation]:
    """Money moves between accounts and is never made or lost."""
    if index.caught_up is None:
        return
    total, moved = 0, []
    for operation in index.operations:
        visible = [send for send in operation.sends() if send.amount and index.readers[send.key].get(send.value)]
        change = sum(send.amount * len(index.offset_of[send.key][send.value]) for send in visible)
        total += change
        if change:
            moved.append(operation)
    if total:
        yield Violation(text=f"the accounts add up to {total}, not 0", operations=tuple(moved[:3]))


# -- the order in which one process sees and writes -----------------------------------------------------------------


def _polled(operation: Operation) -> Iterator[tuple[Key, int, Value]]:
    for poll in operation.polls():
        for key, records in poll.records.items():
            for offset, value in records:
                yield key, offset, value


def _place(index: Index, key: Key, offset: int, value: Value) -> int:
    """Where a record lies; a value that lies twice is looked for by its offset."""
    if len(index.offset_of[key][value]) == 1:
        return index.place_of[key][value]
    before = index.order[key][: index.place_of[key][value]]
    at = index.offset_of[key][value].index(offset)
    return [place for place, other in enumerate([*before, value]) if other == value][at]


def _jumps(index: Index, wanted: str) -> Iterator[tuple[str, Violation]]:
    """Successive polls of one process that skip values or go back; yields the mode of the consumer with each."""
    for found in index.by_process().values():
        last: dict[Key, tuple[int, Value, Operation]] = {}
        mode = "assign"
        for operation in found:
            if operation.f in ("assign", "subscribe"):
                mode, last = operation.f, {}
                continue
            if operation.type != "ok":
                continue
            firsts: dict[Key, tuple[int, Value]] = {}
            lasts: dict[Key, tuple[int, Value, Operation]] = {}
            for key, offset, value in _polled(operation):
                firsts.setdefault(key, (offset, value))
                lasts[key] = (offset, value, operation)
            for key in operation.rebalanced:
                last.pop(key, None)
            for key, (offset, value) in firsts.items():
                if key in last:
                    yield from _jump(index, wanted, mode, (key, *last[key]), (offset, value, operation))
            last |= lasts


def _jump(
    index: Index,
    wanted: str,
    mode: str,
    before: tuple[Key, int, Value, Operation],
    after: tuple[int, Value, Operation],
) -> Iterator[tuple[str, Violation]]:
    key, offset, value, earlier = before
    here, there = _place(index, key, offset, value), _place(index, key, after[0], after[1])
    if wanted == "skip" and there > here + 1:
        skipped = tuple(index.order[key][here + 1 : there])
        text = f"from value {value} at {offset} to {after[1]} at {after[0]}, past {len(skipped)} others: {skipped[0]}"
        values: tuple[Value, ...] = (value, skipped[0], after[1])
    elif wanted == "back" and there <= here:
        text = f"from value {value} at {offset} back to {after[1]} at {after[0]}"
        values = (value, after[1])
    else:
        return
    seen = (earlier,) if earlier is after[2] else (earlier, after[2])
    yield mode, Violation(key=key, text=text, values=values, operations=seen)


@rule("poll-skip")
def poll_skip(index: Index) -> Iterator[Violation]:
    """A consumer with assigned partitions does not pass over values from one poll to the next."""
    yield from (violation for mode, violation in _jumps(index, "skip") if mode == "assign")


@rule("nonmonotonic-poll")
def nonmonotonic_poll(index: Index) -> Iterator[Violation]:
    """A consumer with assigned partitions does not go back from one poll to the next."""
    yield from (violation for mode, violation in _jumps(index, "back") if mode == "assign")


@rule("subscribed-poll-skip", bad=False)
def subscribed_poll_skip(index: Index) -> Iterator[Violation]:
    """A subscribed consumer passed over values: others may have had the partition meanwhile."""
    yield from (violation for mode, violation in _jumps(index, "skip") if mode == "subscribe")


@rule("subscribed-nonmonotonic-poll", bad=False)
def subscribed_nonmonotonic_poll(index: Index) -> Iterator[Violation]:
    """A subscribed consumer went back: to the committed offset, say."""
    yield from (violation for mode, violation in _jumps(index, "back") if mode == "subscribe")


def _inner_jumps(index: Index, wanted: str) -> Iterator[Violation]:
    for operation in index.operations:
        last: dict[Key, tuple[int, Value]] = {}
        for key, offset, value in _polled(operation):
            if key in last and key not in operation.rebalanced:
                before = (key, *last[key], operation)
                for _, violation in _jump(index, wanted, "", before, (offset, value, operation)):
                    yield violation
            last[key] = (offset, value)


@rule("int-poll-skip")
def int_poll_skip(index: Index) -> Iterator[Violation]:
    """Within one operation no poll passes over values."""
    yield from _inner_jumps(index, "skip")


@rule("int-nonmonotonic-poll")
def int_nonmonotonic_poll(index: Index) -> Iterator[Violation]:
    """Within one operation no poll goes back."""
    yield from _inner_jumps(index, "back")


Pair = tuple[tuple[Operation, Send], tuple[Operation, Send]]


def _successive_sends(index: Index) -> Iterator[Pair]:
    """Each pair of writes to one partition that one process made one after the other, as far as they took effect."""
    for found in index.by_process().values():
        last: dict[Key, tuple[Operation, Send]] = {}
        for operation in found:
            if index.committed(operation):
                for send in operation.sends():
                    if send.value in index.place_of.get(send.key, {}):
                        if send.key in last:
                            yield last[send.key], (operation, send)
                        last[send.key] = operation, send


def _reversed(index: Index, *, inside: bool) -> Iterator[Violation]:
    for (earlier, one), (later, other) in _successive_sends(index):
        place = index.place_of[one.key]
        if (earlier is later) == inside and place[other.value] <= place[one.value]:
            offsets = index.offset_of[one.key]
            yield Violation(
                key=one.key,
                text=f"value {one.value} lies at {offsets[one.value][-1]}, {other.value}, sent later, at "
                f"{offsets[other.value][-1]}",
                values=(one.value, other.value),
                operations=(earlier,) if inside else (earlier, later),
            )


@rule("nonmonotonic-send")
def nonmonotonic_send(index: Index) -> Iterator[Violation]:
    """What one producer sent earlier lies before what it sent later."""
    yield from _reversed(index, inside=False)


@rule("int-nonmonotonic-send")
def int_nonmonotonic_send(index: Index) -> Iterator[Violation]:
    """What was sent within one operation lies in that order."""
    yield from _reversed(index, inside=True)


@rule("int-send-skip", bad=False)
def int_send_skip(index: Index) -> Iterator[Violation]:
    """Values of others lie between those of one operation: Kafka does not keep them together."""
    for (earlier, one), (later, other) in _successive_sends(index):
        place = index.place_of[one.key]
        if earlier is later and place[other.value] > place[one.value] + 1:
            text = f"others lie between {one.value} and {other.value}"
            yield Violation(key=one.key, text=text, values=(one.value, other.value), operations=(earlier,))


# -- dependencies of operations on each other -----------------------------------------------------------------------


def _cycles(edges: Edges) -> Iterator[tuple[list[Operation], str]]:
    graph = {node: list(children) for node, children in edges.items()}
    for component in components(graph):
        cycle = short_cycle(graph, component)
        reasons = [edges[one][other] for one, other in pairwise([*cycle, cycle[0]])]
        yield cycle, "; ".join(reasons)


@rule("G0", bad=False)
def write_cycle(index: Index) -> Iterator[Violation]:
    """Transactions lie interleaved in several partitions: Kafka does not isolate writers from each other."""
    for cycle, text in _cycles(index.written_after):
        yield Violation(text=text, operations=tuple(cycle))


@rule("G1c", bad=False)
def mixed_cycle(index: Index) -> Iterator[Violation]:
    """A cycle of reads and writes: allowed, as writers may interleave."""
    both: Edges = defaultdict(dict)
    for edges, kind in ((index.written_after, "ww"), (index.read_from, "wr")):
        for node, children in edges.items():
            for child, reason in children.items():
                both[node].setdefault(child, f"{kind}: {reason}")
    for cycle, text in _cycles(both):
        if "wr: " in text and "ww: " in text:
            yield Violation(text=text, operations=tuple(cycle))


@rule("G1c-wr")
def read_cycle(index: Index) -> Iterator[Violation]:
    """No two transactions have each read what the other wrote, not even by way of third ones."""
    if index.header.isolation == "read_uncommitted":
        return
    for cycle, text in _cycles(index.read_from):
        yield Violation(text=text, operations=tuple(cycle))


# -- what only rises, what is answered, and when --------------------------------------------------------------------


@rule("went-back")
def went_back(index: Index) -> Iterator[Violation]:
    """High watermark, stable offset, leader epoch, end and committed offsets, once told, never go back."""
    known: dict[tuple[str, Key], tuple[int, Operation]] = {}
    floors: dict[int, dict[tuple[str, Key], tuple[int, Operation]]] = {}
    moments: list[tuple[Event, Operation]] = []
    for operation in index.operations:
        if operation.type == "ok" and any(isinstance(step, Watch) for step in operation.steps):
            assert operation.completed is not None
            moments += [(operation.invoked, operation), (operation.completed, operation)]
    for event, operation in sorted(moments, key=lambda moment: moment[0].i):
        if event is operation.invoked:
            floors[operation.index] = dict(known)
            continue
        floor = floors.pop(operation.index)
        for step in operation.steps:
            if isinstance(step, Watch):
                about = step.what, step.key
                before, witness = floor.get(about, (step.number, operation))
                if step.number < before:
                    text = f"{step.what} was {before} and is {step.number}"
                    yield Violation(key=step.key, text=text, operations=(witness, operation))
                if step.number >= known.get(about, (step.number, None))[0]:
                    known[about] = step.number, operation


@rule("wrong-answer")
def wrong_answer(index: Index) -> Iterator[Violation]:
    """No client is given an answer that a correct client can do nothing with."""
    for operation in index.operations:
        if operation.f == "wrong-answer" and operation.completed is not None:
            yield Violation(text=operation.completed.err, operations=(operation,))


@rule("stuck")
def stuck(index: Index) -> Iterator[Violation]:
    """When nothing is broken, every worker gets on."""
    for mark in index.marks:
        if mark.f == "stuck":
            yield Violation(text=mark.err)
    limit = int(index.header.stuck_seconds * 1e9)
    successes: dict[str, list[int]] = defaultdict(list)
    for operation in index.operations:
        if operation.completed is not None and operation.type in ("ok", "fail"):
            successes[operation.invoked.w].append(operation.completed.t)
    for worker, (born, gone) in _lives(index.marks).items():
        for healed, broken in _calm(index.marks):
            begin, end = max(healed, born), min(broken, gone)
            moments = [begin, *(moment for moment in successes[worker] if begin < moment < end), end]
            longest = max(later - earlier for earlier, later in pairwise(moments))
            if longest > limit:
                yield Violation(text=f"{worker} got nowhere for {longest / 1e9:.0f} s with nothing broken")


def _lives(marks: Iterable[Event]) -> dict[str, tuple[int, int]]:
    """When each worker began and ended."""
    lives: dict[str, tuple[int, int]] = {}
    for mark in marks:
        if mark.f == BEGINS:
            lives[mark.w] = mark.t, FOR_EVER
        elif mark.f == ENDS and mark.w in lives:
            lives[mark.w] = lives[mark.w][0], mark.t
    return lives


def _calm(marks: Iterable[Event]) -> Iterator[tuple[int, int]]:
    """From each healing to the next fault or the end of the load."""
    began: int | None = None
    for mark in marks:
        if mark.f in ("heal", "start"):
            began = mark.t
        elif began is not None and not mark.w:
            yield began, mark.t
            began = None


@rule("copy")
def copy(index: Index) -> Iterator[Violation]:
    """What was copied exactly once is in the copy as it is in the original: all of it, once, in order."""
    if index.caught_up is None:
        return
    for source, target in index.header.copies.items():
        wanted = [value for value in index.order.get(source, ()) if index.readers[source][value]]
        got = [value for value in index.order.get(target, ()) if index.readers[target][value]]
        if wanted != got:
            yield _difference(index, source, target, (wanted, got))


def _difference(index: Index, source: Key, target: Key, both: tuple[list[Value], list[Value]]) -> Violation:
    wanted, got = both
    at = next((at for at, pair in enumerate(zip(wanted, got, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(wanted), len(got)) if at is None else at
    values = tuple(dict.fromkeys([*wanted[at : at + 1], *got[at : at + 1]]))
    found = [index.readers[source].get(value, [])[:1] + index.readers[target].get(value, [])[-1:] for value in values]
    return Violation(
        key=target,
        text=f"{len(wanted)} values in {index.header.name(source)}, {len(got)} in the copy; at place {at} stands "
        f"{got[at] if at < len(got) else 'nothing'} for {wanted[at] if at < len(wanted) else 'nothing'}",
        values=values,
        operations=tuple(operation for pair in found for operation in pair),
    )

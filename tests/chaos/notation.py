"""Small histories written by hand, one operation a line: the notation of the checker's own tests.

    1 send ok 0<5@7          process 1 sent value 5 to key 0 and was told offset 7 (`0<5`: it was told nothing)
    2 poll ok 0>5@7,6@8      process 2 polled values 5 and 6
    3 txn fail 0<6 1>2@2     a transaction that sent and polled, and was certainly aborted
    4 watch ok hw:0=8        process 4 was told a high watermark
    3 txn invoke 0<6         only the beginning; a later line of process 3 is its end
    ! kill                   a fault; `! start`, `! end` and `! caught-up` are phases of the run
    ! begins w1              the life of worker w1 begins, or `! ends`; it is process 1's worker

Behind the steps: `reb:0` (key 0 was rebalanced), `commit:4` (the commit was asked for in second 4), `+30` behind a send
(money), `: text` (what went wrong). Line n happens in second n.
"""

from __future__ import annotations

import re

from chaos.history import BEGINS, ENDS, NEMESIS, RUN, Event, Header, History, Poll, Send, Step, Watch

SECOND = 1_000_000_000
PHASES = ("start", "heal", "end", "caught-up", BEGINS, ENDS)
_SEND = re.compile(r"(\d+)<(\d+)(?:@(\d+))?([+-]\d+)?$")
_POLL = re.compile(r"(\d+)>([\w@,]*)$")
_WATCH = re.compile(r"(\w+):(\d+)=(\d+)$")
_RECORD = re.compile(r"(\w+)@(\d+)")


def parse(text: str, **header: object) -> History:
    """The history that `text` describes."""
    history = History(Header(keys={key: ("t", key) for key in range(10)}, **header))  # type: ignore[arg-type]
    pending: dict[int, Event] = {}
    for second, line in enumerate(text.strip().splitlines(), 1):
        words, _, error = line.strip().partition(" : ")
        if words.startswith("!"):
            mark = words[1:].strip()
            phase, _, worker = mark.partition(" ")
            _add(history, second, p=RUN if phase in PHASES else NEMESIS, ty="info", f=phase, w=worker)
            continue
        process, f, kind, *steps = words.split()
        fields: dict[str, object] = {"v": tuple(step for step in map(_step, steps) if step is not None), "err": error}
        fields |= {name: value for step in steps for name, value in _option(step)}
        number = int(process)
        if kind == "invoke" or number not in pending:
            asked = tuple(step for step in map(_step, steps) if isinstance(step, Send))
            pending[number] = _add(history, second, p=number, ty="invoke", f=f, v=asked, w=f"w{number}")
        if kind != "invoke":
            fields["w"] = f"w{number}"
            _add(history, second, p=number, ty=kind, f=f, of=pending.pop(number).i, **fields)
    return history


def _add(history: History, second: int, **fields: object) -> Event:
    event = Event(i=len(history.events), t=second * SECOND, **fields)  # type: ignore[arg-type]
    history.events.append(event)
    return event


def _step(word: str) -> Step | None:
    if found := _SEND.match(word):
        key, value, offset, amount = found.groups()
        return Send(int(key), None if offset is None else int(offset), int(value), int(amount or 0))
    if found := _POLL.match(word):
        records = [(int(offset), int(value) if value.isdigit() else value) for value, offset in _RECORD.findall(word)]
        return Poll({int(found[1]): records})
    if found := _WATCH.match(word):
        return Watch(found[1], int(found[2]), int(found[3]))
    return None


def _option(word: str) -> list[tuple[str, object]]:
    name, _, value = word.partition(":")
    if name == "reb":
        return [("reb", tuple(map(int, value.split(","))))]
    return [("c", int(value) * SECOND)] if name == "commit" else []

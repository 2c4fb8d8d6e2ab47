"""`ottla` with one bug planted: `python tests/harness/planted.py BUG start ...`.

A check that passes on these is no check. The bugs are planted from outside, by replacing methods before the command
runs; the product has no switches for them.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

RECORD_DISK = "record-disk"
"""No bug, but planted the same way: a node that can be made to lose power."""
BUGS: dict[str, Callable[[], None]] = {}


def bug(plant: Callable[[], None]) -> Callable[[], None]:
    """Enter a bug into the table under its name with dashes."""
    BUGS[plant.__name__.replace("_", "-")] = plant
    return plant


@bug
def acknowledge_without_appending() -> None:
    """Now and then records are acknowledged and thrown away."""
    from ottla.broker.partition import Partition

    _every(40, Partition, "append", lambda self, before: self.log.truncate_to(before))


@bug
def forget_duplicates() -> None:
    """A retried batch is appended once more."""
    from ottla.transactions.producer_state import ProducerStateTable

    ProducerStateTable.check = lambda *_, **__: None


@bug
def window_of_one() -> None:
    """Only the last batch of a producer is known again."""
    from ottla.transactions.producer_state import ProducerState

    original = ProducerState.duplicate_of

    def duplicate_of(self: Any, header: Any) -> Any:
        found = original(self, header)
        return found if found is not None and found.last_offset == self.last_offset else None

    ProducerState.duplicate_of = duplicate_of


@bug
def answer_with_a_wrong_offset() -> None:
    """Every fortieth answer is off by one."""
    from ottla.broker.partition import Partition

    original, calls = Partition.append, itertools.count(1)

    @wraps(original)
    def append(self: Any, *arguments: Any, **named: Any) -> Any:
        result = original(self, *arguments, **named)
        off = int(next(calls) % 40 == 0)
        return result._replace(base_offset=result.base_offset + off)

    Partition.append = append


@bug
def drop_the_last_batch_at_start() -> None:
    """Recovery takes one good batch for a torn one."""
    from ottla.storage.log import Log

    original = Log.open

    @wraps(original)
    def opened(*arguments: Any, **named: Any) -> Any:
        log = original(*arguments, **named)
        if log.topic_partition.topic.startswith("chaos") and log.log_end_offset > log.log_start_offset:
            log.truncate_to(log.log_end_offset - 1)
        return log

    Log.open = opened


@bug
def acknowledge_before_flush() -> None:
    """What is written counts, whatever `ottla.flush` says."""
    from ottla.broker.partition import Partition

    Partition._counted_offset = lambda self, _isr: self.log.log_end_offset


@bug
def ignore_failed_flush() -> None:
    """The disk said no, and nobody listened."""
    from ottla.storage.disk import Disk

    for name in ("sync_data", "sync", "sync_directory"):
        setattr(Disk, name, _deaf(getattr(Disk, name)))


def _deaf(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def call(*arguments: Any) -> None:
        try:
            original(*arguments)
        except OSError:
            pass

    return call


def _every(times: int, owner: Any, name: str, then: Callable[[Any, int], None]) -> None:
    original, calls = getattr(owner, name), itertools.count(1)

    @wraps(original)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        before = self.log.log_end_offset
        result = original(self, *arguments, **named)
        if next(calls) % times == 0 and self.topic_partition.topic.startswith("chaos"):
            then(self, before)
        return result

    setattr(owner, name, call)


def planted_command(*bugs: str) -> list[str]:
    """The command that runs Ottla with these bugs."""
    return [sys.executable, str(Path(__file__).resolve()), "+".join(bugs)]


def _plant(names: str) -> None:
    for name in names.split("+"):
        if name == RECORD_DISK:
            from harness.power import record_disk

            record_disk()
        else:
            BUGS[name]()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    _plant(sys.argv.pop(1))
    from ottla.cli.main import main

    sys.exit(main())

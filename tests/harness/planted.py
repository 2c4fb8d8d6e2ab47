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
def trust_what_recovery_found() -> None:
    """What a killed process left in the kernel counts as durable after the restart."""
    from ottla.storage.log import Log

    original = Log.open

    @wraps(original)
    def opened(*arguments: Any, **named: Any) -> Any:
        log = original(*arguments, **named)
        log.recovery_point = log.log_end_offset
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


@bug
def raise_the_high_watermark_early() -> None:
    """Readers are shown what the disk may not have yet; acknowledgements still wait."""
    from ottla.broker.partition import Partition

    original = Partition._appended

    @wraps(original)
    def appended(self: Any, ledger: Any) -> None:
        original(self, ledger)
        self.data_waiters.notify(1)

    Partition.high_watermark = property(lambda self: self.log.log_end_offset)
    Partition._appended = appended


@bug
def serve_a_changed_byte() -> None:
    """Every fortieth append reaches the disk with a bit flipped."""
    from ottla.storage.log import Log

    original, calls = Log.append, itertools.count(1)

    @wraps(original)
    def append(self: Any, batches: Any, *arguments: Any) -> Any:
        if self.topic_partition.topic.startswith("chaos") and next(calls) % 40 == 0:
            batches = bytearray(batches)
            batches[-2] ^= 1
        return original(self, batches, *arguments)

    Log.append = append


@bug
def commit_for_any_generation() -> None:
    """Whoever names a member's id may commit in its name."""
    from ottla.groups.classic.group import ClassicGroup

    ClassicGroup.check_commit = lambda *_, **__: None


@bug
def commit_for_any_member_epoch() -> None:
    """The same in groups of KIP-848."""
    from ottla.groups.consumer.group import ConsumerGroup

    ConsumerGroup.check_commit = lambda *_, **__: None


@bug
def acknowledge_commits_without_writing() -> None:
    """Every tenth OffsetCommit is answered and forgotten."""
    from ottla.groups.shard import GroupShard
    from ottla.model.machine import Decision

    original, calls = GroupShard.commit_offsets, itertools.count(1)

    @wraps(original)
    def commit_offsets(self: Any, *arguments: Any) -> Any:
        decision = original(self, *arguments)
        return Decision(response=decision.response) if next(calls) % 10 == 0 else decision

    GroupShard.commit_offsets = commit_offsets


@bug
def stable_offset_ignores_open_transactions() -> None:
    """Readers of committed data are shown everything below the high watermark."""
    from ottla.broker.partition import Partition

    Partition.last_stable_offset = property(lambda self: self.high_watermark)


@bug
def forget_aborted_transactions() -> None:
    """A fetch does not say which transactions were aborted."""
    from ottla.broker.partition import Partition

    Partition.aborted_transactions = lambda *_: []


@bug
def forget_open_transactions_at_start() -> None:
    """After a restart nothing is undecided any more."""
    from ottla.storage.log import Log

    original = Log.open

    @wraps(original)
    def opened(*arguments: Any, **named: Any) -> Any:
        log = original(*arguments, **named)
        log.producers._ongoing.clear()
        return log

    Log.open = opened


@bug
def marker_of_the_wrong_type() -> None:
    """Every tenth commit is marked as an abort, or the other way round."""
    from ottla.broker.transaction_markers import LocalMarkers

    original, calls = LocalMarkers.write, itertools.count(1)

    @wraps(original)
    async def write(self: Any, marker: Any, partitions: Any) -> Any:
        if next(calls) % 10 == 0:
            end = type(marker.end)(committed=not marker.end.committed, coordinator_epoch=marker.end.coordinator_epoch)
            marker = marker._replace(end=end)
        return await original(self, marker, partitions)

    LocalMarkers.write = write


@bug
def mark_half_of_a_transaction() -> None:
    """The first partition of a transaction gets the right marker, the others the opposite."""
    from ottla.broker.transaction_markers import LocalMarkers

    original = LocalMarkers.write

    @wraps(original)
    async def write(self: Any, marker: Any, partitions: Any) -> Any:
        end = type(marker.end)(committed=not marker.end.committed, coordinator_epoch=marker.end.coordinator_epoch)
        opposite = marker._replace(end=end)
        first = await original(self, marker, partitions[:1])
        return first | await original(self, opposite, partitions[1:])

    LocalMarkers.write = write


@bug
def end_transactions_of_any_epoch() -> None:
    """EndTxn believes a request that was sent for the transaction before (KAFKA-17754)."""
    from msgspec.structs import replace

    from ottla.transactions.shard import TransactionShard

    original = TransactionShard.end_transaction

    @wraps(original)
    def end_transaction(self: Any, command: Any, now_ms: int) -> Any:
        known = self._existing(command.transactional_id)
        return original(self, replace(command, producer_epoch=known.producer_epoch), now_ms)

    TransactionShard.end_transaction = end_transaction


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

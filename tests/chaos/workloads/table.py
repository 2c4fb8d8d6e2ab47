"""The workloads by name, each with what it needs and why one would run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from chaos.history import Key
from chaos.stage import Stage, Worker
from chaos.workloads.log import Follower, Observer, Pipeline

TRANSACTORS = 4


class Workload(Struct, kw_only=True, frozen=True):
    """Topics with their partitions, and the workers on them."""

    name: str
    about: str
    partitions: dict[str, int]
    workers: Callable[[Stage, Sequence[Key]], list[Worker]]


def _log(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    producers = [Pipeline(stage, f"producer-{n}", keys[n % len(keys)], 2 * len(keys)) for n in range(2 * len(keys))]
    followers = [Follower(stage, f"follower-{key}", key) for key in keys]
    return [*producers, *followers, Observer(stage, "observer", list(keys))]


def _transactions(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    from chaos.workloads.transactions import Transactor

    workers = [Transactor(stage, f"transactor-{number}", keys, workers=TRANSACTORS) for number in range(TRANSACTORS)]
    followers = [Follower(stage, f"committed-{key}", key, committed=True) for key in keys]
    return [*workers, *followers, Observer(stage, "txn-observer", list(keys))]


def _bank(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    from chaos.workloads.transactions import Transactor

    return [
        Transactor(stage, f"teller-{number}", keys, workers=TRANSACTORS, bank=True) for number in range(TRANSACTORS)
    ]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="log",
            about="idempotent producers, five batches in flight, exact retries; readers; watermarks",
            partitions={"chaos-log": 3},
            workers=_log,
        ),
        Workload(
            name="txn",
            about="transactions of sends and polls; aborted, slow and deserted ones; readers of committed data",
            partitions={"chaos-txn": 3},
            workers=_transactions,
        ),
        Workload(
            name="bank",
            about="transactions that move money between partitions",
            partitions={"chaos-bank": 4},
            workers=_bank,
        ),
    )
}

"""The workloads by name, each with what it needs and why one would run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from chaos.history import Key
from chaos.stage import Stage, Worker
from chaos.workloads.log import Follower, Pipeline
from chaos.workloads.probes import Committed, Ends

TRANSACTORS, MEMBERS, CLIENTS = 4, 3, 4
GROUP = "chaos-members"


class Workload(Struct, kw_only=True, frozen=True):
    """Topics with their partitions, and the workers on them."""

    name: str
    about: str
    partitions: dict[str, int]
    workers: Callable[[Stage, Sequence[Key]], list[Worker]]


def _log(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    producers = [Pipeline(stage, f"producer-{n}", keys[n % len(keys)], 2 * len(keys)) for n in range(2 * len(keys))]
    followers = [Follower(stage, f"follower-{key}", key) for key in keys]
    return [*producers, *followers, Ends(stage, "observer", list(keys))]


def _transactions(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    from chaos.workloads.transactions import Transactor

    workers = [Transactor(stage, f"transactor-{number}", keys, workers=TRANSACTORS) for number in range(TRANSACTORS)]
    followers = [Follower(stage, f"committed-{key}", key, committed=True) for key in keys]
    return [*workers, *followers, Ends(stage, "txn-observer", list(keys))]


def _bank(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    from chaos.workloads.transactions import Transactor

    return [
        Transactor(stage, f"teller-{number}", keys, workers=TRANSACTORS, bank=True) for number in range(TRANSACTORS)
    ]


def _group(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    from chaos.workloads.groups import Ghost, Member

    producers = [Pipeline(stage, f"group-producer-{key}", key, 2 * len(keys)) for key in keys]
    members = [Member(stage, f"member-{number}", keys, group=GROUP, workers=MEMBERS) for number in range(MEMBERS)]
    return [*producers, *members, Ghost(stage, "ghost", members), Committed(stage, "offsets", keys, GROUP)]


def _mixed(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    from chaos.workloads.mixed import Client

    return [Client(stage, f"client-{number}", keys, workers=CLIENTS) for number in range(CLIENTS)]


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
            name="mixed",
            about="librdkafka sending and polling, assigned and subscribed by turns",
            partitions={"chaos-mixed": 3},
            workers=_mixed,
        ),
        Workload(
            name="group",
            about="a group whose members come and go and commit; a ghost of an old generation",
            partitions={"chaos-group": 4},
            workers=_group,
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

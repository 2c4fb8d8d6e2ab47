"""The workloads by name, each with what it needs and why one would run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from chaos.history import Key
from chaos.stage import Stage, Worker
from chaos.workloads.log import Follower, Pipeline
from chaos.workloads.probes import Committed, Ends

TRANSACTORS, MEMBERS, CLIENTS = 4, 3, 4
GROUP, NEXT_GROUP = "chaos-members", "chaos-next-members"


class Workload(Struct, kw_only=True, frozen=True):
    """Topics with their partitions, and the workers on them."""

    name: str
    about: str
    partitions: dict[str, int]
    workers: Callable[[Stage, Sequence[Key]], list[Worker]]
    copies: dict[str, str] = {}
    """Topics of which the other is an exact copy in the end."""


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

    names = [f"teller-{number}" for number in range(TRANSACTORS)]
    tellers = [Transactor(stage, name, keys, workers=TRANSACTORS, bank=True) for name in names]
    return [*tellers, *(Follower(stage, f"auditor-{key}", key, committed=True) for key in keys)]


def _group(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    from chaos.workloads.groups import CLASSIC

    return _members(stage, keys, GROUP, CLASSIC)


def _next_group(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    from chaos.workloads.groups import NEXT

    return _members(stage, keys, NEXT_GROUP, NEXT)


def _members(stage: Stage, keys: Sequence[Key], group: str, protocol: str) -> list[Worker]:
    from chaos.workloads.groups import Ghost, Member

    producers = [Pipeline(stage, f"{group}-producer-{key}", key, 2 * len(keys)) for key in keys]
    members = [
        Member(stage, f"{group}-{number}", keys, group=group, workers=MEMBERS, protocol=protocol)
        for number in range(MEMBERS)
    ]
    return [
        *producers,
        *members,
        Ghost(stage, f"{group}-ghost", members),
        Committed(stage, f"{group}-offsets", keys, group),
    ]


def _mixed(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    from chaos.workloads.mixed import Client

    return [Client(stage, f"client-{number}", keys, workers=CLIENTS) for number in range(CLIENTS)]


def _late(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    from chaos.workloads.late import LATE_GROUP, LateTransactor

    followers = [Follower(stage, f"late-reader-{key}", key, committed=True) for key in keys]
    return [LateTransactor(stage, "late", keys), *followers, Committed(stage, "late-offsets", keys, LATE_GROUP)]


def _copy(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    from chaos.workloads.copies import copying

    return copying(stage, keys)


def _java_copy(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    from chaos.workloads.copies import copying

    return copying(stage, keys, java=True)


def _copying(name: str, partitions: int, about: str, make: Callable[[Stage, Sequence[Key]], list[Worker]]) -> Workload:
    source, target = f"chaos-{name}-source", f"chaos-{name}-target"
    topics = {source: partitions, target: partitions}
    return Workload(name=name, about=about, partitions=topics, workers=make, copies={source: target})


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="log",
            about="idempotent producers, five batches in flight, exact retries; readers; watermarks",
            partitions={"chaos-log": 4},
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
            name="group-next",
            about="the same by the protocol of KIP-848",
            partitions={"chaos-group-next": 4},
            workers=_next_group,
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
        Workload(
            name="late",
            about="requests of transactions that arrive after their second attempt (KAFKA-17754); run it alone",
            partitions={"chaos-late": 2},
            workers=_late,
        ),
        _copying("copy", 3, "an exactly-once copy by a program that gets killed, and live readers", _copy),
        _copying("copy-one", 1, "the same with one partition", _copy),
        _copying("copy-java", 1, "the same by Apache Kafka's TransactionalMessageCopier", _java_copy),
    )
}
GROUPS = {"all": ("log", "mixed", "group", "group-next", "txn", "bank")}


class UnknownWorkload(ValueError):
    """A name that is neither a workload nor a group of them."""


def workloads_named(names: Sequence[str]) -> list[Workload]:
    """The workloads of these names; groups count for all of theirs."""
    found: dict[str, Workload] = {}
    for name in names:
        if name not in WORKLOADS and name not in GROUPS:
            raise UnknownWorkload(f"{name} is none of {', '.join([*WORKLOADS, *GROUPS])}")
        found |= {one: WORKLOADS[one] for one in GROUPS.get(name, (name,))}
    return list(found.values())

"""What is right and wrong with a running cluster, in words: for `cluster health` and `doctor`."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from ottla.cli.rows import ClusterHealth, ClusterInfo, HealthRow

if TYPE_CHECKING:
    from ottla.client import Admin, TopicMetadata

QUORUM_SILENCE_MS: Final = 10_000
DISK_FREE_MIN: Final = 0.05
TRANSACTION_AGE_MS: Final = 15 * 60_000
NAMES_SHOWN: Final = 5
STUCK_STATES: Final = frozenset(("PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling"))


def ok(check: str, finding: str) -> HealthRow:
    return HealthRow(check=check, healthy=True, severity="ok", finding=finding, fix=None)


def warning(check: str, finding: str, fix: str | None = None) -> HealthRow:
    return HealthRow(check=check, healthy=True, severity="warning", finding=finding, fix=fix)


def problem(check: str, finding: str, fix: str | None = None) -> HealthRow:
    return HealthRow(check=check, healthy=False, severity="error", finding=finding, fix=fix)


def verdict(rows: list[HealthRow]) -> ClusterHealth:
    return ClusterHealth(healthy=all(row.healthy for row in rows), checks=rows)


async def judge_cluster(admin: "Admin", *, deep: bool = False) -> ClusterHealth:
    """Everything that can be asked; ``deep`` looks for hanging transactions and groups that cannot settle too."""
    from ottla.cli.calls import cluster as calls

    info = await calls.describe_cluster(admin)
    topics = await admin.list_topics(internal=True)
    rows = [_controller(info), *_brokers(info), *_partitions(topics, len(info.brokers))]
    checks: list[tuple[str, Callable[[], Awaitable[list[HealthRow]]]]] = [
        ("quorum", lambda: _quorum(admin)),
        ("log directories", lambda: _directories(admin)),
    ]
    if deep:
        checks += [
            ("leaders", lambda: _balance(info)),
            ("groups", lambda: _groups(admin)),
            ("transactions", lambda: _transactions(admin)),
        ]
    for name, check in checks:
        rows += await _guarded(name, check)
    return verdict(rows)


async def _guarded(name: str, check: Callable[[], Awaitable[list[HealthRow]]]) -> list[HealthRow]:
    """One question that cannot be answered does not keep the others from being asked."""
    from ottla.client import ErrorCode, KafkaError

    try:
        return await check()
    except KafkaError as error:
        if error.code is ErrorCode.UNSUPPORTED_VERSION:
            return [warning(name, "the brokers do not tell")]
        return [problem(name, f"cannot be looked at: {error}")]
    except ConnectionError as error:
        return [problem(name, f"cannot be looked at: {error}", "see whether that broker runs and is reachable.")]


def _controller(info: ClusterInfo) -> HealthRow:
    if info.controller < 0:
        return problem(
            "controller", "there is none", "a majority of the controllers has to run: `ottla cluster quorum`."
        )
    return ok("controller", f"broker {info.controller}")


def _brokers(info: ClusterInfo) -> list[HealthRow]:
    fenced = [one.node_id for one in info.brokers if one.fenced]
    if fenced:
        fix = "start it, or look at its log: it does not reach the controller."
        return [problem("brokers", f"fenced: {_names(fenced)}", fix)]
    return [ok("brokers", f"{len(info.brokers)} alive")]


def _partitions(topics: "Sequence[TopicMetadata]", brokers: int) -> list[HealthRow]:
    leaderless, behind, one_replica, total = [], [], 0, 0
    for topic in topics:
        for one in topic.partitions.values():
            total += 1
            name = f"{topic.name}-{one.partition}"
            if one.leader < 0:
                leaderless.append(name)
            elif len(one.isr) < len(one.replicas):
                behind.append(name)
            one_replica += len(one.replicas) == 1
    rows = []
    if leaderless:
        fix = "start a broker that is in their replicas: `ottla topic describe`. Until then they take and give nothing."
        rows.append(problem("partitions", f"{len(leaderless)} without a leader: {_names(leaderless)}", fix))
    if behind:
        fix = "a broker of their replicas is down or slow; `ottla topic describe` shows who is not in ISR."
        rows.append(problem("partitions", f"{len(behind)} under-replicated: {_names(behind)}", fix))
    if not rows:
        rows.append(ok("partitions", f"all {total} have a leader and all their replicas"))
    if one_replica and brokers > 1:
        rows.append(
            warning(
                "replication",
                f"{one_replica} of {total} partitions have one replica in a cluster of {brokers} brokers",
                "create topics with --replicas 3.",
            )
        )
    return rows


async def _quorum(admin: "Admin") -> list[HealthRow]:
    from ottla.cli.calls.cluster import describe_quorum

    found = await describe_quorum(admin)
    if found.leader < 0:
        return [problem("quorum", "no leader", "a majority of the voters has to run.")]
    newest = max((one.last_fetch_ms or 0 for one in found.replicas), default=0)
    voters = [one for one in found.replicas if one.role != "observer"]
    silent = [
        one.node_id
        for one in found.replicas
        if one.role != "leader" and newest - (one.last_caught_up_ms or 0) > QUORUM_SILENCE_MS
    ]
    if silent:
        fix = "look at these nodes: they do not fetch the metadata log."
        return [problem("quorum", f"behind for more than {QUORUM_SILENCE_MS // 1000} s: {_names(silent)}", fix)]
    rows = [ok("quorum", f"leader {found.leader}, {len(voters)} voters, {len(found.replicas) - len(voters)} observers")]
    if len(voters) == 2:
        rows.append(warning("quorum", "two voters survive no failure", "run one voter, or three."))
    return rows


async def _directories(admin: "Admin") -> list[HealthRow]:
    from ottla.cli.calls.cluster import log_directories

    rows, size = [], 0
    found = await log_directories(admin)
    for one in found:
        size += one.size
        where = f"{one.directory} of broker {one.broker}"
        if one.error is not None:
            rows.append(problem("log directories", f"{where} is offline: {one.error}", "look at the disk and the log."))
        elif one.total_bytes and one.usable_bytes is not None and one.usable_bytes < one.total_bytes * DISK_FREE_MIN:
            fix = "make room, add a directory, or lower retention.ms and retention.bytes."
            rows.append(problem("log directories", f"the disk of {where} is nearly full", fix))
    return rows or [ok("log directories", f"all {len(found)} online, {size:,} bytes")]


async def _balance(info: ClusterInfo) -> list[HealthRow]:
    loads = [one.leaders for one in info.brokers if not one.fenced]
    if len(loads) > 1 and max(loads) > 2 * (sum(loads) / len(loads)) and max(loads) - min(loads) > 10:
        return [warning("leaders", f"unevenly spread: {max(loads)} on one broker, {min(loads)} on another")]
    return [ok("leaders", "evenly spread")]


async def _groups(admin: "Admin") -> list[HealthRow]:
    from ottla.cli.calls.groups import list_groups

    rows = await list_groups(admin)
    stuck = [row.group for row in rows if row.state in STUCK_STATES]
    if stuck:
        fix = "look again in a minute; a member that joins and leaves all the time keeps a group from settling."
        return [warning("groups", f"{len(stuck)} of {len(rows)} are rebalancing: {_names(stuck)}", fix)]
    return [ok("groups", f"{len(rows)}, none of them rebalancing")]


async def _transactions(admin: "Admin") -> list[HealthRow]:
    from ottla.cli.calls.transactions import hanging
    from ottla.model import TopicPartition

    places = [
        TopicPartition(topic.name, number)
        for topic in await admin.list_topics(internal=True)
        for number, one in topic.partitions.items()
        if one.leader >= 0
    ]
    stuck = await hanging(admin, places, TRANSACTION_AGE_MS, int(time.time() * 1000))
    if stuck:
        names = _names([f"{row.topic}-{row.partition}" for row in stuck])
        fix = "`ottla txn find-hanging` shows them, `ottla txn abort` ends one."
        return [problem("transactions", f"{len(stuck)} that nobody will end hold up readers of: {names}", fix)]
    return [ok("transactions", "none hanging")]


def _names(names: list[str] | list[int]) -> str:
    shown = ", ".join(map(str, names[:NAMES_SHOWN]))
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"

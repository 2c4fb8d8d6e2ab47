"""What is right and wrong with a running cluster, in words: for `cluster health` and `doctor`."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from ottla.cli.rows import ClusterHealth, ClusterInfo, HealthRow, Quorum

if TYPE_CHECKING:
    from ottla.client import Admin, TopicMetadata
    from ottla.model import TopicPartition

QUORUM_SILENCE_MS: Final = 10_000
CLOCK_SKEW_MS: Final = 5_000
FUTURE_MS: Final = 5 * 60_000
PLAUSIBLE_MS: Final = 978_307_200_000
"""The year 2001: milliseconds before it are mostly seconds by mistake."""
DISK_FREE_MIN: Final = 0.05
TRANSACTION_AGE_MS: Final = 15 * 60_000
NAMES_SHOWN: Final = 5
UPGRADED: Final = ("metadata.version", "group.version", "transaction.version")
STUCK_STATES: Final = frozenset(("PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling"))


def ok(check: str, finding: str) -> HealthRow:
    return HealthRow(check=check, healthy=True, severity="ok", finding=finding, fix=None)


def warning(check: str, finding: str, fix: str) -> HealthRow:
    """What works, and will surprise somebody."""
    return HealthRow(check=check, healthy=True, severity="warning", finding=finding, fix=fix)


def problem(check: str, finding: str, fix: str) -> HealthRow:
    """What does not work."""
    return HealthRow(check=check, healthy=False, severity="error", finding=finding, fix=fix)


def verdict(rows: list[HealthRow]) -> ClusterHealth:
    return ClusterHealth(healthy=all(row.healthy for row in rows), checks=rows)


async def judge_cluster(admin: "Admin", *, deep: bool = False) -> ClusterHealth:
    """Everything that can be asked; ``deep`` looks at versions, settings, times, groups and transactions too."""
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
            ("versions", lambda: _versions(admin)),
            ("writing", lambda: _writing(admin, topics)),
            ("times", lambda: _times(admin, topics)),
            ("groups", lambda: _groups(admin)),
            ("transactions", lambda: _transactions(admin, topics)),
        ]
    for name, check in checks:
        rows += await _guarded(name, check)
    return verdict(rows)


async def _guarded(name: str, check: Callable[[], Awaitable[list[HealthRow]]]) -> list[HealthRow]:
    """One question that cannot be answered does not keep the others from being asked."""
    from ottla.cli.failures import fix_of
    from ottla.client import ErrorCode, KafkaError

    try:
        return await check()
    except KafkaError as error:
        if error.code is ErrorCode.UNSUPPORTED_VERSION:
            return [ok(name, "the brokers are too old to tell")]
        fix = fix_of(error.code) or f"`ottla explain {error.code.name}` says what this means."
        return [problem(name, f"cannot be looked at: {error}", fix)]
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
        return [problem("brokers", f"fenced: {shown_names(fenced)}", fix)]
    return [ok("brokers", f"{len(info.brokers)} alive")]


def _partitions(topics: "Sequence[TopicMetadata]", brokers: int) -> list[HealthRow]:
    leaderless, behind, one_replica, total = [], [], 0, 0
    missing: set[int] = set()
    for topic in topics:
        for one in topic.partitions.values():
            total += 1
            name = f"{topic.name}-{one.partition}"
            if one.leader < 0:
                leaderless.append(name)
            elif len(one.isr) < len(one.replicas):
                behind.append(name)
                missing |= set(one.replicas) - set(one.isr)
            one_replica += len(one.replicas) == 1
    rows = []
    if leaderless:
        fix = "start a broker that is in their replicas: `ottla topic describe`. Until then they take and give nothing."
        rows.append(problem("partitions", f"{len(leaderless)} without a leader: {shown_names(leaderless)}", fix))
    if behind:
        who = shown_names(sorted(missing))
        fix = f"these brokers are down, slow, or have a directory offline: {who}; look at their logs."
        rows.append(problem("partitions", f"{len(behind)} under-replicated: {shown_names(behind)}", fix))
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
    clock = _clock(found, int(time.time() * 1000))
    newest = max((one.last_fetch_ms or 0 for one in found.replicas), default=0)
    voters = [one for one in found.replicas if one.role != "observer"]
    silent = [
        one.node_id
        for one in found.replicas
        if one.role != "leader" and newest - (one.last_caught_up_ms or 0) > QUORUM_SILENCE_MS
    ]
    if silent:
        fix = "look at these nodes: they do not fetch the metadata log."
        behind = f"behind for more than {QUORUM_SILENCE_MS // 1000} s: {shown_names(silent)}"
        return [problem("quorum", behind, fix), *clock]
    rows = [ok("quorum", f"leader {found.leader}, {len(voters)} voters, {len(found.replicas) - len(voters)} observers")]
    if len(voters) == 2:
        rows.append(warning("quorum", "two voters survive no failure", "run one voter, or three."))
    return [*rows, *clock]


def _clock(quorum: Quorum, now_ms: int) -> list[HealthRow]:
    """The leader of the quorum says what time it has."""
    leader = next((one for one in quorum.replicas if one.node_id == quorum.leader), None)
    if leader is None or leader.last_fetch_ms is None:
        return []
    ahead = leader.last_fetch_ms - now_ms
    if abs(ahead) <= CLOCK_SKEW_MS:
        return [ok("clock", "controller and this machine agree")]
    said = f"the controller is {abs(ahead) / 1000:,.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine"
    return [warning("clock", said, "set both by NTP: retention, time seeks and tokens go by the clock.")]


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
        spread = f"unevenly spread: {max(loads)} on one broker, {min(loads)} on another"
        fix = "let preferred leaders lead again: auto.leader.rebalance.enable, or Admin.elect_leaders."
        return [warning("leaders", spread, fix)]
    return [ok("leaders", "evenly spread")]


async def _versions(admin: "Admin") -> list[HealthRow]:
    from ottla.cli.calls.cluster import features

    lower, level = [], None
    for one in await features(admin):
        if one.feature == "metadata.version":
            level = one.finalized
        if one.feature in UPGRADED and one.finalized < one.max_supported:
            lower.append(f"{one.feature} {one.finalized} of {one.max_supported}")
    if lower:
        fix = "when every broker is upgraded, raise it with Admin.update_features or `kafka-features upgrade`."
        return [warning("versions", f"the cluster is held at {', '.join(lower)}", fix)]
    return [ok("versions", f"metadata.version {level}, nothing held back")]


async def _writing(admin: "Admin", topics: "Sequence[TopicMetadata]") -> list[HealthRow]:
    """Partitions that take nothing with acks=all, and those whose acks=all means less than was asked for."""
    from ottla.client import ConfigResource, KafkaError

    found = await admin.describe_configs(
        [ConfigResource("topic", topic.name) for topic in topics], names=["min.insync.replicas"]
    )
    fewer, refused = [], []
    for topic in topics:
        entries = found.get(ConfigResource("topic", topic.name))
        if entries is None or isinstance(entries, KafkaError):
            continue
        wanted = max((int(one.value) for one in entries if one.value is not None), default=1)
        for one in topic.partitions.values():
            if len(one.replicas) < wanted:
                fewer.append(f"{topic.name}-{one.partition}")
            # Brokers ask for no more copies than there are replicas.
            if len(one.isr) < min(wanted, len(one.replicas)):
                refused.append(f"{topic.name}-{one.partition}")
    rows = []
    if refused:
        fix = "start the brokers that are missing from ISR: `ottla topic describe`."
        rows.append(problem("writing", f"{len(refused)} refuse acks=all, too few in sync: {shown_names(refused)}", fix))
    if fewer:
        said = f"{len(fewer)} have fewer replicas than min.insync.replicas, which then means less: {shown_names(fewer)}"
        fix = "give them more replicas, or set min.insync.replicas to what they have."
        rows.append(warning("writing", said, fix))
    return rows or [ok("writing", "every partition takes acks=all as far as replicas go")]


async def _times(admin: "Admin", topics: "Sequence[TopicMetadata]") -> list[HealthRow]:
    """Newest timestamps that cannot be: of the future, or seconds where milliseconds belong."""
    from ottla.client import KafkaError

    now_ms = int(time.time() * 1000)
    own = led([topic for topic in topics if not topic.internal])
    newest = await admin.list_offsets(dict.fromkeys(own, "max_timestamp"))
    times = {place: one.timestamp for place, one in newest.items() if not isinstance(one, KafkaError)}
    future = sorted(str(place) for place, at in times.items() if at > now_ms + FUTURE_MS)
    past = sorted(str(place) for place, at in times.items() if 0 <= at < PLAUSIBLE_MS)
    rows = []
    if future:
        fix = "set the clocks of their producers; message.timestamp.after.max.ms refuses such records."
        rows.append(
            warning("times", f"records from the future, which retention keeps too long: {shown_names(future)}", fix)
        )
    if past:
        fix = "timestamps are milliseconds: mend their producers; message.timestamp.before.max.ms refuses such records."
        rows.append(
            warning("times", f"no record newer than 2001, which retention deletes at once: {shown_names(past)}", fix)
        )
    return rows or [ok("times", "no record is from the future")]


async def _groups(admin: "Admin") -> list[HealthRow]:
    from ottla.cli.calls.groups import list_groups

    groups = await list_groups(admin)
    rows = []
    stuck = [row.group for row in groups if row.state in STUCK_STATES]
    if stuck:
        fix = "look again in a minute; a member that joins and leaves all the time keeps a group from settling."
        rows.append(warning("groups", f"{len(stuck)} of {len(groups)} are rebalancing: {shown_names(stuck)}", fix))
    # A group without a protocol never has members: its offsets are somebody's who assigns partitions by hand.
    idle = [
        row.group
        for row in groups
        if row.state == "Empty" and row.protocol_type and row.type in ("classic", "consumer")
    ]
    rows += await _idle_groups(admin, idle)
    return rows or [ok("groups", f"{len(groups)}, none of them rebalancing or left alone with a lag")]


async def _idle_groups(admin: "Admin", names: list[str]) -> list[HealthRow]:
    """Groups without members that have not read all, or whose place retention has taken away."""
    from ottla.cli.calls.groups import bounds, committed_offsets

    committed = {name: await committed_offsets(admin, name) for name in names}
    starts, ends = await bounds(admin, {place for offsets in committed.values() for place in offsets})
    waiting, overtaken = [], []
    for name, offsets in committed.items():
        lag = sum(max(0, ends[place] - offset) for place, offset in offsets.items() if place in ends)
        if lag:
            waiting.append(f"{name} (lag {lag:,})")
        if any(place in starts and offset < starts[place] for place, offset in offsets.items()):
            overtaken.append(name)
    rows = []
    if waiting:
        fix = "start their consumers; what nobody needs any more goes with `ottla group delete NAME`."
        rows.append(warning("groups", f"{len(waiting)} without members and with a lag: {shown_names(waiting)}", fix))
    if overtaken:
        fix = "choose where they go on: `ottla group seek NAME --to start`; and keep records longer: retention.ms."
        rows.append(warning("groups", f"records are gone before they were read, of: {shown_names(overtaken)}", fix))
    return rows


def led(topics: "Sequence[TopicMetadata]") -> "list[TopicPartition]":
    """The partitions that have a leader to ask."""
    from ottla.model import TopicPartition

    return [
        TopicPartition(topic.name, number)
        for topic in topics
        for number, one in topic.partitions.items()
        if one.leader >= 0
    ]


async def _transactions(admin: "Admin", topics: "Sequence[TopicMetadata]") -> list[HealthRow]:
    from ottla.cli.calls.transactions import hanging

    stuck = await hanging(admin, led(topics), TRANSACTION_AGE_MS, int(time.time() * 1000))
    if stuck:
        names = shown_names([f"{row.topic}-{row.partition}" for row in stuck])
        fix = "`ottla txn find-hanging` shows them, `ottla txn abort` ends one."
        return [problem("transactions", f"{len(stuck)} that nobody will end hold up readers of: {names}", fix)]
    return [ok("transactions", "none hanging")]


def shown_names(names: list[str] | list[int]) -> str:
    """The first of them, and how many more there are."""
    shown = ", ".join(map(str, names[:NAMES_SHOWN]))
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"

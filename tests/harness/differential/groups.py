"""Classic groups and committed offsets: the life of a member, and everything that is refused."""

from __future__ import annotations

import time
from typing import Any

from harness.differential.topics import make
from harness.twins import Case, Steps, Twin
from ottla.model import Uuid
from ottla.wire.messages.delete_groups_request import DeleteGroupsRequest
from ottla.wire.messages.describe_groups_request import DescribeGroupsRequest
from ottla.wire.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.wire.messages.heartbeat_request import HeartbeatRequest
from ottla.wire.messages.join_group_request import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.wire.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from ottla.wire.messages.list_groups_request import ListGroupsRequest
from ottla.wire.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.wire.messages.offset_delete_request import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.wire.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from ottla.wire.messages.sync_group_request import SyncGroupRequest, SyncGroupRequestAssignment

# A consumer's metadata, version 0, no topics: Apache Kafka looks inside and never answers where it cannot read it.
SUBSCRIPTION = b"\0\0" + b"\0\0\0\0" + b"\xff\xff\xff\xff"


def ready(twin: Twin) -> None:
    """Wait until the coordinators serve; a fresh Apache node makes the offsets topic on the first question."""
    for group in ("a", "b", "c", "d", "e", "f"):
        for _ in range(400):
            found = twin.call(FindCoordinatorRequest(key=group), 3)
            if found.error_code == 0 and twin.call(_join(group + "-none", member="x"), 5).error_code == 25:
                break
            time.sleep(0.05)


def _join(group: str, *, member: str = "", session: int = 10_000, **rest: Any) -> JoinGroupRequest:
    names = rest.pop("names", ("range", "roundrobin"))
    protocols = [JoinGroupRequestProtocol(name=name, metadata=SUBSCRIPTION) for name in names]
    rest.setdefault("protocol_type", "consumer")
    if rest.pop("rebalance", True):
        rest.setdefault("rebalance_timeout_ms", 10_000)
    return JoinGroupRequest(group_id=group, member_id=member, session_timeout_ms=session, protocols=protocols, **rest)


def join_errors(twin: Twin) -> Steps:
    ready(twin)
    for version in range(10):
        rebalance = {"rebalance": version >= 1}

        def ask(label: str, request: JoinGroupRequest, version: int = version) -> tuple[str, Any]:
            return f"v{version} {label}", twin.ask(request, version)

        yield ask("empty group", _join("", **rebalance))
        yield ask("stranger", _join("a", member="nobody", **rebalance))
        yield ask("session too short", _join("a", session=5, **rebalance))
        yield ask("session too long", _join("a", session=10**8, **rebalance))
        yield ask("no protocols", _join(f"join-none-{version}", names=(), **rebalance))
        yield ask("no protocol type", _join(f"join-none-{version}", protocol_type="", **rebalance))
        if version >= 5:
            yield ask("static stranger", _join("a", member="nobody", group_instance_id="i", **rebalance))


def instance_ids(twin: Twin) -> Steps:
    """Names of static members that no topic could have."""
    ready(twin)
    for version in range(5, 10):
        for instance in ("", ".", "..", "a/b", "a b", "\n", "i" * 300):
            group = f"instance-{version}-{len(instance)}-{ord((instance or '0')[0])}-{instance[1:2] == '/'}"
            label = f"v{version} {instance[:5]!r}"
            first = twin.call(_join(group, group_instance_id=instance), version)
            yield f"{label} join", twin.plain(first)
            member, generation = first.member_id, first.generation_id
            sync = _sync(version, group, member, generation, group_instance_id=instance)
            yield f"{label} sync", twin.ask(sync, 5)
            beat = HeartbeatRequest(
                group_id=group, member_id=member, generation_id=generation, group_instance_id=instance
            )
            yield f"{label} beat", twin.ask(beat, 4)
            leave = LeaveGroupRequest(group_id=group, members=[MemberIdentity(group_instance_id=instance)])
            yield f"{label} leave", twin.ask(leave, 5)


def lives(twin: Twin) -> Steps:
    """One member: join, sync, beat, all the ways to be wrong, leave."""
    ready(twin)
    for version in range(10):
        group = f"life-{version}"
        rebalance = {"rebalance": version >= 1}
        first = twin.call(_join(group, **rebalance), version)
        yield f"v{version} first join", twin.plain(first)
        if first.error_code == 79:
            first = twin.call(_join(group, member=first.member_id), version)
            yield f"v{version} second join", twin.plain(first)
        member, generation = first.member_id, first.generation_id
        yield from _as_member(twin, version, group, (member, generation))
        other = _join(group, member="nobody", **rebalance)
        yield f"v{version} join of a stranger", twin.ask(other, version)
        wrong = _join(group, protocol_type="connect", **rebalance)
        yield f"v{version} other type", twin.ask(wrong, version)
        wrong = _join(group, names=("sticky",), **rebalance)
        yield f"v{version} other protocols", twin.ask(wrong, version)
        again = twin.ask(_join(group, member=member, **rebalance), version)
        yield f"v{version} rejoin", again
        yield f"v{version} old sync", twin.ask(_sync(version, group, member, generation), min(version, 5))
        describe = DescribeGroupsRequest(groups=[group, "no-such-group", ""])
        yield f"v{version} described", _by_id(twin.ask(describe, min(version, 6)))
        yield (
            f"v{version} not deleted",
            twin.ask(DeleteGroupsRequest(groups_names=[group, "no", ""]), version % 3, unordered=True),
        )
        yield from _leaving(twin, version, group, member)


def _sync(version: int, group: str, member: str, generation: int, **rest: Any) -> SyncGroupRequest:
    if version >= 5:
        rest = {"protocol_type": "consumer", "protocol_name": "range", **rest}
    given = [SyncGroupRequestAssignment(member_id=member, assignment=b"given")]
    return SyncGroupRequest(group_id=group, member_id=member, generation_id=generation, assignments=given, **rest)


def _as_member(twin: Twin, version: int, group: str, who: tuple[str, int]) -> Steps:
    member, generation = who
    sync, beat = min(version, 5), min(version, 4)
    yield f"v{version} sync stranger", twin.ask(_sync(sync, group, "nobody", generation), sync)
    yield f"v{version} sync generation", twin.ask(_sync(sync, group, member, generation + 1), sync)
    yield f"v{version} sync no group", twin.ask(_sync(sync, "", member, generation), sync)
    yield f"v{version} sync other group", twin.ask(_sync(sync, "no-such-group", member, generation), sync)
    if sync >= 5:
        for label, rest in (("type", {"protocol_type": "connect"}), ("name", {"protocol_name": "sticky"})):
            yield f"v{version} sync {label}", twin.ask(_sync(sync, group, member, generation, **rest), sync)
    yield f"v{version} beat before sync", twin.ask(_beat(group, member, generation), beat)
    yield f"v{version} sync", twin.ask(_sync(sync, group, member, generation), sync)
    yield f"v{version} sync again", twin.ask(_sync(sync, group, member, generation), sync)
    for label, request in (
        ("", _beat(group, member, generation)),
        ("stranger", _beat(group, "nobody", generation)),
        ("generation", _beat(group, member, generation + 1)),
        ("old generation", _beat(group, member, generation - 1)),
        ("no group", _beat("", member, generation)),
        ("other group", _beat("no-such-group", member, generation)),
    ):
        yield f"v{version} beat {label}", twin.ask(request, beat)


def _beat(group: str, member: str, generation: int) -> HeartbeatRequest:
    return HeartbeatRequest(group_id=group, member_id=member, generation_id=generation)


def _leaving(twin: Twin, version: int, group: str, member: str) -> Steps:
    leave = min(version, 5)
    for label, name, who in (
        ("stranger", group, "nobody"),
        ("no group", "", member),
        ("other group", "no-such-group", member),
        ("", group, member),
        ("again", group, member),
    ):
        if leave >= 3:
            request = LeaveGroupRequest(group_id=name, members=[MemberIdentity(member_id=who)])
        else:
            request = LeaveGroupRequest(group_id=name, member_id=who)
        yield f"v{version} leave {label}", twin.ask(request, leave)
    yield f"v{version} empty", twin.ask(DescribeGroupsRequest(groups=[group]), min(version, 6))
    yield f"v{version} deleted", twin.ask(DeleteGroupsRequest(groups_names=[group]), version % 3)
    yield f"v{version} deleted again", twin.ask(DeleteGroupsRequest(groups_names=[group]), version % 3)


def static_members(twin: Twin) -> Steps:
    ready(twin)
    for version in (5, 7, 9):
        group = f"static-{version}"
        first = twin.call(_join(group, group_instance_id="one"), version)
        yield f"v{version} join", twin.plain(first)
        sync = _sync(5, group, first.member_id, first.generation_id, group_instance_id="one")
        yield f"v{version} sync", twin.ask(sync, 5)
        second = twin.call(_join(group, group_instance_id="one"), version)
        yield f"v{version} comes back", twin.plain(second)
        for label, member in (("old", first.member_id), ("new", second.member_id), ("unknown", "nobody")):
            beat = HeartbeatRequest(
                group_id=group, member_id=member, generation_id=second.generation_id, group_instance_id="one"
            )
            yield f"v{version} beat of {label}", twin.ask(beat, 4)
        beat.group_instance_id = "two"
        yield f"v{version} beat of other instance", twin.ask(beat, 4)
        fenced = _join(group, member=first.member_id, group_instance_id="one")
        yield f"v{version} join as old", twin.ask(fenced, version)
        leave = LeaveGroupRequest(
            group_id=group,
            members=[
                MemberIdentity(member_id=first.member_id, group_instance_id="one"),
                MemberIdentity(group_instance_id="two"),
                MemberIdentity(group_instance_id="one"),
            ],
        )
        yield f"v{version} leave", twin.ask(leave, 5)


def _commit(version: int, group: str, topic: str, twin: Twin, **rest: Any) -> OffsetCommitRequest:
    rows = [
        OffsetCommitRequestPartition(partition_index=index, committed_offset=offset, committed_metadata=text)
        for index, offset, text in rest.pop("rows", ((0, 5, "text"),))
    ]
    by_id = version >= 10
    entry = OffsetCommitRequestTopic(
        name="" if by_id else topic,
        topic_id=twin.ids.get(topic, Uuid(b"\x01" * 16)) if by_id else Uuid.ZERO,
        partitions=rows,
    )
    return OffsetCommitRequest(group_id=group, topics=[entry], **rest)


def commits(twin: Twin) -> Steps:
    topic = make(twin, "commits", 2)
    ready(twin)
    for version in range(2, 11):
        group = f"commit-{version}"

        def ask(label: str, *, version: int = version, group: str = group, topic: str = topic, **rest: Any) -> Any:
            return f"v{version} {label}", twin.ask(_commit(version, group, topic, twin, **rest), version)

        yield ask("simple")
        yield ask("both", rows=((0, 6, None), (1, 7, "")))
        yield ask("empty group", group="")
        yield ask("member without group", member_id="nobody", generation_id_or_member_epoch=1)
        yield ask("generation alone", generation_id_or_member_epoch=3)
        yield ask("member alone", member_id="nobody")
        yield ask("new group, generation", group=f"commit-new-{version}", generation_id_or_member_epoch=3)
        yield ask("partition", rows=((9, 1, ""), (0, 1, "")))
        yield ask("negative offset", rows=((0, -1, ""),))
        yield ask("more negative offset", rows=((0, -9, ""),))
        yield ask("long text", rows=((0, 1, "x" * 4097), (1, 8, "x" * 4096)))
        yield ask("twice", rows=((0, 20, "a"), (0, 21, "b")))
        yield ask("topic", topic="no-such-topic")
        if version >= 7:
            yield ask("instance", group_instance_id="one")
        yield f"v{version} nothing", twin.ask(OffsetCommitRequest(group_id=group), version)
        yield f"v{version} reads", twin.ask(_fetch_offsets(8, group, topic, (0, 1, 9), twin), 8)


def _fetch_offsets(version: int, group: str, topic: str, parts: tuple[int, ...], twin: Twin, **rest: Any) -> Any:
    if version < 8:
        return OffsetFetchRequest(
            group_id=group, topics=[OffsetFetchRequestTopic(name=topic, partition_indexes=list(parts))], **rest
        )
    by_id = version >= 10
    entry = OffsetFetchRequestTopics(
        name="" if by_id else topic,
        topic_id=twin.ids.get(topic, Uuid(b"\x01" * 16)) if by_id else Uuid.ZERO,
        partition_indexes=list(parts),
    )
    return OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=[entry])], **rest)


def offset_fetches(twin: Twin) -> Steps:
    topic = make(twin, "offset-fetches", 2)
    ready(twin)
    yield "commit", twin.ask(_commit(8, "reader", topic, twin), 8)
    for version in range(1, 11):
        for label, group, name, parts in (
            ("known", "reader", topic, (0,)),
            ("more", "reader", topic, (1, 0, 9, -1)),
            ("twice", "reader", topic, (0, 0)),
            ("topic", "reader", "no-such-topic", (0,)),
            ("group", "no-such-group", topic, (0,)),
            ("empty group", "", topic, (0,)),
            ("no partitions", "reader", topic, ()),
        ):
            yield f"v{version} {label}", twin.ask(_fetch_offsets(version, group, name, parts, twin), version)
        if version >= 7:
            stable = _fetch_offsets(version, "reader", topic, (0,), twin, require_stable=True)
            yield f"v{version} stable", twin.ask(stable, version)
        for group in ("reader", "no-such-group", ""):
            if version < 8:
                everything = OffsetFetchRequest(group_id=group, topics=None if version >= 2 else [])
            else:
                everything = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=None)])
            yield f"v{version} all of {group!r}", twin.ask(everything, version)
        if version >= 8:
            groups = [OffsetFetchRequestGroup(group_id=name, topics=None) for name in ("reader", "no", "reader")]
            yield f"v{version} many", twin.ask(OffsetFetchRequest(groups=groups), version, unordered=True)
            yield f"v{version} none", twin.ask(OffsetFetchRequest(groups=[]), version)
        if version >= 9:
            for member, epoch in (("nobody", 1), ("nobody", -1), (None, 1)):
                request = _fetch_offsets(version, "reader", topic, (0,), twin)
                request.groups[0].member_id, request.groups[0].member_epoch = member, epoch
                yield f"v{version} as {member} {epoch}", twin.ask(request, version)


def offset_deletes(twin: Twin) -> Steps:
    topic = make(twin, "offset-deletes", 2)
    ready(twin)
    yield "commit", twin.ask(_commit(8, "deleter", topic, twin, rows=((0, 1, ""), (1, 2, ""))), 8)
    for label, group, name, parts in (
        ("topic", "deleter", "no-such-topic", (0,)),
        ("partition", "deleter", topic, (9, -1)),
        ("group", "no-such-group", topic, (0,)),
        ("empty group", "", topic, (0,)),
        ("one", "deleter", topic, (1,)),
        ("again", "deleter", topic, (1,)),
        ("last", "deleter", topic, (0,)),
        ("after the last", "deleter", topic, (0,)),
    ):
        rows = [OffsetDeleteRequestPartition(partition_index=index) for index in parts]
        topics = [OffsetDeleteRequestTopic(name=name, partitions=rows)]
        yield label, twin.ask(OffsetDeleteRequest(group_id=group, topics=topics), 0, unordered=True)
        yield f"{label}: left", twin.ask(_fetch_offsets(8, "deleter", topic, (0, 1), twin), 8)


def lists(twin: Twin) -> Steps:
    ready(twin)
    twin.call(_commit(8, "listed", make(twin, "listed"), twin), 8)
    for version in range(6):
        yield f"v{version}", _only(twin.ask(ListGroupsRequest(), version))
        if version >= 4:
            for states in (["Empty"], ["empty"], ["Stable"], ["Nonsense"], ["Empty", "Stable"]):
                yield f"v{version} {states}", _only(twin.ask(ListGroupsRequest(states_filter=states), version))
        if version >= 5:
            for types in (["classic"], ["Classic"], ["consumer"], ["nonsense"]):
                yield f"v{version} {types}", _only(twin.ask(ListGroupsRequest(types_filter=types), version))
    for version in range(7):
        for operations in (False, True) if version >= 3 else (False,):
            request = DescribeGroupsRequest(
                groups=["listed", "no", "", "listed"], include_authorized_operations=operations
            )
            yield f"v{version} described {operations}", _by_id(twin.ask(request, version))


def _by_id(answer: Any) -> Any:
    if isinstance(answer, dict):
        answer["groups"].sort(key=lambda row: row["group_id"])
    return answer


def _only(answer: Any) -> Any:
    if isinstance(answer, dict):
        answer["groups"] = [row for row in answer["groups"] if row["group_id"] == "listed"]
    return answer


CASES: tuple[Case, ...] = (
    join_errors,
    instance_ids,
    lives,
    static_members,
    commits,
    offset_fetches,
    offset_deletes,
    lists,
)

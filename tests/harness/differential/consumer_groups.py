"""Groups of the consumer protocol: members' lives, refusals, reconciliation, static members, expressions, migration."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harness.differential.groups import _commit, _fetch_offsets, ready
from harness.differential.topics import make
from harness.twins import Case, Steps, Twin, in_order
from ottla.model import Uuid
from ottla.wire import encode
from ottla.wire.messages.consumer_group_describe_request import ConsumerGroupDescribeRequest
from ottla.wire.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest, TopicPartitions
from ottla.wire.messages.consumer_protocol_subscription import ConsumerProtocolSubscription, TopicPartition
from ottla.wire.messages.create_partitions_request import CreatePartitionsRequest, CreatePartitionsTopic
from ottla.wire.messages.create_topics_request import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.delete_groups_request import DeleteGroupsRequest
from ottla.wire.messages.describe_groups_request import DescribeGroupsRequest
from ottla.wire.messages.heartbeat_request import HeartbeatRequest
from ottla.wire.messages.incremental_alter_configs_request import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.wire.messages.join_group_request import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.wire.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from ottla.wire.messages.list_groups_request import ListGroupsRequest
from ottla.wire.messages.offset_delete_request import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.wire.messages.sync_group_request import SyncGroupRequest, SyncGroupRequestAssignment

GROUP_RESOURCE = 32


def _beat(group: str, member: str = "m", epoch: int = 0, **rest: Any) -> ConsumerGroupHeartbeatRequest:
    """A heartbeat; a joining one says everything."""
    if epoch == 0:
        rest = {"rebalance_timeout_ms": 30_000, "topic_partitions": [], **rest}
        if rest.get("subscribed_topic_regex") is None:
            rest.setdefault("subscribed_topic_names", ["no-such-topic"])
    return ConsumerGroupHeartbeatRequest(group_id=group, member_id=member, member_epoch=epoch, **rest)


def _owned(twin: Twin, topic: str, *partitions: int) -> list[TopicPartitions]:
    return [TopicPartitions(topic_id=twin.ids[topic], partitions=list(partitions))] if partitions else []


def _ask(twin: Twin, request: Any, version: int = 1) -> Any:
    return twin.ask(request, version, unordered=True)


def _described(twin: Twin, *groups: str, version: int = 1, **rest: Any) -> Any:
    return _ask(twin, ConsumerGroupDescribeRequest(group_ids=list(groups), **rest), version)


def refusals(twin: Twin) -> Steps:
    """Everything that is wrong before a group is looked at."""
    ready(twin)
    for version in (0, 1):
        for label, request in (
            ("no group", _beat("")),
            ("blank group", _beat("  ")),
            ("no member, later", _beat("r", "", 3)),
            ("no member, leaving", _beat("r", "", -1)),
            ("no timeout", _beat("r", rebalance_timeout_ms=-1)),
            ("owned null", _beat("r", topic_partitions=None)),
            ("owned", _beat("r", topic_partitions=[TopicPartitions(topic_id=Uuid.ONE, partitions=[0])])),
            ("nothing subscribed", _beat("r", subscribed_topic_names=None)),
            ("blank instance", _beat("r", instance_id="")),
            ("blank rack", _beat("r", rack_id=" ")),
            ("assignor", _beat("r", server_assignor="mine")),
            ("epoch -3", _beat("r", "m", -3)),
            ("static leave without instance", _beat("r", "m", -2)),
            ("unknown group", _beat("no-such-group", "m", 1)),
            ("leave unknown group", _beat("no-such-group", "m", -1)),
            ("static leave unknown group", _beat("no-such-group", "m", -2, instance_id="i")),
        ):
            yield f"v{version} {label}", _ask(twin, request, version)
        if version == 1:
            yield "v1 no member, joining", _ask(twin, _beat("r", ""), version)
        yield f"v{version} described", _described(twin, "no", "", "no", version=version)


def lives(twin: Twin) -> Steps:
    """One member: joins, beats, is wrong in every way, commits, leaves."""
    topic = make(twin, "consumer-life", 3)
    ready(twin)
    for version in (0, 1):
        group = f"consumer-life-{version}"

        def ask(label: str, request: Any, version: int = version) -> tuple[str, Any]:
            return f"v{version} {label}", _ask(twin, request, version)

        joined = twin.call(_beat(group, "" if version == 0 else "me", subscribed_topic_names=[topic]), version)
        yield f"v{version} joins", in_order(twin.plain(joined))
        me, epoch = joined.member_id, joined.member_epoch
        yield ask("beat", _beat(group, me, epoch))
        yield ask("beat, owned", _beat(group, me, epoch, topic_partitions=_owned(twin, topic, 0, 1, 2)))
        full = {"rebalance_timeout_ms": 30_000, "topic_partitions": _owned(twin, topic, 0, 1, 2)}
        yield ask("full", _beat(group, me, epoch, subscribed_topic_names=[topic], **full))
        yield ask("epoch ahead", _beat(group, me, epoch + 1))
        yield ask("epoch behind", _beat(group, me, epoch - 1))
        yield ask("epoch far behind, subset", _beat(group, me, epoch - 1, topic_partitions=_owned(twin, topic, 0)))
        yield ask("stranger", _beat(group, "stranger", epoch))
        yield ask("unknown instance", _beat(group, me, epoch, instance_id="i"))
        yield ask("rejoins", _beat(group, me, subscribed_topic_names=[topic]))
        yield ask("other rack", _beat(group, me, epoch, rack_id="r1"))
        yield ask("assignor range", _beat(group, me, epoch, server_assignor="range"))
        yield f"v{version} described", _described(twin, group, version=version, include_authorized_operations=True)
        yield from _looked_at(twin, version, group)
        yield from _offsets(twin, group, topic, (me, epoch))
        yield ask("leaves as stranger", _beat(group, "stranger", -1))
        yield ask("leaves as static", _beat(group, me, -1, instance_id="i"))
        yield ask("leaves", _beat(group, me, -1))
        yield ask("leaves again", _beat(group, me, -1))
        yield ask("beats when gone", _beat(group, me, epoch))
        yield f"v{version} described empty", _described(twin, group, version=version)
        yield f"v{version} commits when empty", twin.ask(_commit(9, group, topic, twin), 9)
        yield f"v{version} deleted", twin.ask(DeleteGroupsRequest(groups_names=[group]), 2)
        yield f"v{version} described gone", _described(twin, group, version=version)


def _looked_at(twin: Twin, version: int, group: str) -> Steps:
    for shape in (5, 6):
        yield f"v{version} classic describe {shape}", twin.ask(DescribeGroupsRequest(groups=[group]), shape)
    for label, filters in (
        ("consumer", {"types_filter": ["consumer"]}),
        ("classic", {"types_filter": ["classic"]}),
        ("Consumer Stable", {"types_filter": ["Consumer"], "states_filter": ["stable"]}),
        ("Empty", {"states_filter": ["Empty"]}),
    ):
        answer = twin.ask(ListGroupsRequest(**filters), 5)
        answer["groups"] = [row for row in answer["groups"] if row["group_id"] == group]
        yield f"v{version} listed {label}", answer
    yield f"v{version} not deleted", twin.ask(DeleteGroupsRequest(groups_names=[group]), 2)


def _offsets(twin: Twin, group: str, topic: str, who: tuple[str, int]) -> Steps:
    me, epoch = who
    for version in (8, 9, 10):
        for label, member, its_epoch in (
            ("right", me, epoch),
            ("ahead", me, epoch + 1),
            ("behind", me, epoch - 1),
            ("stranger", "stranger", epoch),
            ("admin", "", -1),
        ):
            request = _commit(version, group, topic, twin, member_id=member, generation_id_or_member_epoch=its_epoch)
            yield f"{group} commit v{version} {label}", twin.ask(request, version)
    for version in (8, 9, 10):
        for label, named, its_epoch in (("right", me, epoch), ("ahead", me, epoch + 1), ("admin", None, -1)):
            if version < 9 and named is not None:
                continue
            request = _fetch_offsets(version, group, topic, (0,), twin)
            request.groups[0].member_id, request.groups[0].member_epoch = named, its_epoch
            yield f"{group} fetch v{version} {label}", twin.ask(request, version)
    for name in (topic, "no-such-topic"):
        rows = [OffsetDeleteRequestPartition(partition_index=0)]
        request = OffsetDeleteRequest(group_id=group, topics=[OffsetDeleteRequestTopic(name=name, partitions=rows)])
        yield f"{group} offset delete {name}", twin.ask(request, 0)


def reconciliation(twin: Twin) -> Steps:
    """Two members: one gives up half, the other waits for it."""
    topic = make(twin, "consumer-pair", 4)
    ready(twin)
    group = "consumer-pair"
    names = {"subscribed_topic_names": [topic]}
    first = twin.call(_beat(group, "a", **names), 1)
    yield "a joins", in_order(twin.plain(first))
    yield "b joins", _ask(twin, _beat(group, "b", **names))
    yield "b beats early", _ask(twin, _beat(group, "b", 3, topic_partitions=[]))
    yield "assigning", _described(twin, group)
    yield "a hears", _ask(twin, _beat(group, "a", 2, topic_partitions=_owned(twin, topic, 0, 1, 2, 3)))
    yield "a is slow", _ask(twin, _beat(group, "a", 2, topic_partitions=_owned(twin, topic, 0, 1, 2, 3)))
    yield "a is silent", _ask(twin, _beat(group, "a", 2))
    yield "reconciling", _described(twin, group)
    for version, label, epoch in ((9, "during", 2), (10, "ahead", 3)):
        request = _commit(version, group, topic, twin, member_id="a", generation_id_or_member_epoch=epoch)
        yield f"a commits {label}", twin.ask(request, version)
    rows = ((3, 1, ""),)
    commit = _commit(9, group, topic, twin, member_id="a", generation_id_or_member_epoch=2, rows=rows)
    yield "a commits what it revokes", twin.ask(commit, 9)
    yield "a has revoked", _ask(twin, _beat(group, "a", 2, topic_partitions=_owned(twin, topic, 0, 1)))
    yield "a lost the answer", _ask(twin, _beat(group, "a", 2, topic_partitions=_owned(twin, topic, 0, 1)))
    for label, partition in (("kept", 0), ("given up", 3)):
        old = _commit(9, group, topic, twin, member_id="a", generation_id_or_member_epoch=2, rows=((partition, 1, ""),))
        yield f"a commits in its old epoch, {label}", twin.ask(old, 9)
    yield "b gets them", _ask(twin, _beat(group, "b", 3, topic_partitions=[]))
    yield "stable", _described(twin, group)
    new = _commit(9, group, topic, twin, member_id="b", generation_id_or_member_epoch=2, rows=((3, 1, ""),))
    yield "b commits in an epoch before it had it", twin.ask(new, 9)
    other = make(twin, "consumer-pair-other", 2)
    time.sleep(0.5)  # Apache Kafka's coordinator hears of topics after everybody else.
    subscribed = {"subscribed_topic_names": [other], "topic_partitions": _owned(twin, topic, 2, 3)}
    yield "b subscribes elsewhere", _ask(twin, _beat(group, "b", 3, **subscribed))
    yield "b has let go", _ask(twin, _beat(group, "b", 3, topic_partitions=[]))
    yield "a gets all", _ask(twin, _beat(group, "a", 3, topic_partitions=_owned(twin, topic, 0, 1)))
    yield "a beats", _ask(twin, _beat(group, "a", 4))
    yield "apart", _described(twin, group)
    yield "b leaves", _ask(twin, _beat(group, "b", -1))
    yield "a moves on", _ask(twin, _beat(group, "a", 4))
    yield "a leaves", _ask(twin, _beat(group, "a", -1))


def metadata(twin: Twin) -> Steps:
    """Topics that appear and grow."""
    topic = make(twin, "consumer-grows", 1)
    later = "consumer-later"
    ready(twin)
    group = "consumer-metadata"
    yield "joins", _ask(twin, _beat(group, "a", subscribed_topic_names=[topic, later]))
    grow = CreatePartitionsRequest(topics=[CreatePartitionsTopic(name=topic, count=3)], timeout_ms=10_000)
    twin.call(grow, 3)
    time.sleep(0.5)
    yield "after growth", _ask(twin, _beat(group, "a", 2))
    answer = twin.call(
        CreateTopicsRequest(topics=[CreatableTopic(name=later, num_partitions=2, replication_factor=1)]), 7
    )
    twin.ids[later] = answer.topics[0].topic_id
    time.sleep(0.5)
    yield "after creation", _ask(twin, _beat(group, "a", 3))
    yield "quiet again", _ask(twin, _beat(group, "a", 4))
    yield "described", _described(twin, group)
    yield "leaves", _ask(twin, _beat(group, "a", -1))


def static_members(twin: Twin) -> Steps:
    topic = make(twin, "consumer-static", 2)
    ready(twin)
    group = "consumer-static"
    names = {"subscribed_topic_names": [topic]}
    yield "joins", _ask(twin, _beat(group, "a", instance_id="one", **names))
    yield "joins again as another", _ask(twin, _beat(group, "b", instance_id="one", **names))
    yield "joins again as itself", _ask(twin, _beat(group, "a", instance_id="one", **names))
    yield "beats", _ask(twin, _beat(group, "a", 2, instance_id="one"))
    yield "beats without instance", _ask(twin, _beat(group, "a", 2))
    yield "another beats", _ask(twin, _beat(group, "b", 2, instance_id="one"))
    yield "another leaves", _ask(twin, _beat(group, "b", -2, instance_id="one"))
    yield "unknown instance leaves", _ask(twin, _beat(group, "a", -2, instance_id="two"))
    yield "is away", _ask(twin, _beat(group, "a", -2, instance_id="one"))
    yield "described away", _described(twin, group)
    commit = _commit(9, group, topic, twin, member_id="a", generation_id_or_member_epoch=2, group_instance_id="one")
    yield "commits while away", twin.ask(commit, 9)
    yield "beats while away", _ask(twin, _beat(group, "a", 2, instance_id="one"))
    yield "is back", _ask(twin, _beat(group, "b", instance_id="one", **names))
    yield "old id beats", _ask(twin, _beat(group, "a", 2, instance_id="one"))
    yield "described back", _described(twin, group)
    yield "a second instance", _ask(twin, _beat(group, "c", instance_id="two", **names))
    yield (
        "first gives up",
        _ask(twin, _beat(group, "b", 2, instance_id="one", topic_partitions=_owned(twin, topic, 0, 1))),
    )
    yield (
        "first has given up",
        _ask(twin, _beat(group, "b", 2, instance_id="one", topic_partitions=_owned(twin, topic, 0))),
    )
    yield "second gets", _ask(twin, _beat(group, "c", 3, instance_id="two", topic_partitions=[]))
    yield (
        "removed by an administrator",
        twin.ask(LeaveGroupRequest(group_id=group, members=[MemberIdentity(group_instance_id="two")]), 5),
    )
    yield "leaves for good", _ask(twin, _beat(group, "b", -1, instance_id="one"))
    yield "described empty", _described(twin, group)


def expressions(twin: Twin) -> Steps:
    one = make(twin, "expr-a1", 1)
    make(twin, "expr-b1", 1)
    ready(twin)
    for label, regex in (
        ("bracket", "a[b"),
        ("paren", "a(b"),
        ("repeat", "*a"),
        ("nested", "a**"),
        ("count", "a{3,1}"),
        ("escape", "a\\"),
        ("unknown escape", "\\y"),
        ("range", "[z-a]"),
        ("class", "[[:nope:]]"),
        ("perl", "(?=a)"),
        ("name", "(?P<n"),
        ("property", "\\p{Nope}"),
    ):
        request = _beat(f"expr-{label}", "a", subscribed_topic_regex=regex)
        yield f"invalid {label}", _ask(twin, request)
    group = "expr"
    regex = {"subscribed_topic_regex": "expr-a[0-9]+"}
    first = twin.call(_beat(group, "a", **regex), 1)
    yield "joins", in_order(twin.plain(first))
    yield "assigned", _until(twin, lambda epoch: _beat(group, "a", epoch), first.member_epoch, one)
    yield "described", _described(twin, group)
    yield "second of the same", _ask(twin, _beat(group, "b", **regex))
    yield "empty expression", _ask(twin, _beat(group, "b", 4, subscribed_topic_regex="", topic_partitions=[]))
    yield "described without", _described(twin, group)
    for name in ("a", "b"):
        yield f"{name} leaves", _ask(twin, _beat(group, name, -1))


def _until(twin: Twin, beat: Callable[[int], Any], epoch: int, topic: str) -> Any:
    """Heartbeats until there is an assignment of the topic; expressions are resolved behind the scenes."""
    for _ in range(100):
        answer = twin.call(beat(epoch), 1)
        assert answer.error_code == 0, answer
        epoch = answer.member_epoch
        rows = answer.assignment.topic_partitions if answer.assignment is not None else []
        if any(row.topic_id == twin.ids[topic] for row in rows):
            return in_order(twin.plain(answer))
        time.sleep(0.05)
    return "never"


def batching(twin: Twin) -> Steps:
    """A group with an assignment interval of its own: who comes within it waits for the next target."""
    topic = make(twin, "consumer-batch", 2)
    ready(twin)
    group = "consumer-batch"
    settings = {
        "consumer.assignment.interval.ms": "15000",
        "consumer.heartbeat.interval.ms": "7000",
    }
    for name, value in (*settings.items(), ("consumer.session.timeout.ms", "1")):
        config = AlterableConfig(name=name, config_operation=0, value=value)
        resource = AlterConfigsResource(resource_type=GROUP_RESOURCE, resource_name=group, configs=[config])
        answer = twin.ask(IncrementalAlterConfigsRequest(resources=[resource]), 1)
        yield f"set {name}", [row["error_code"] for row in answer["responses"]]
    time.sleep(0.3)
    yield "a joins", _ask(twin, _beat(group, "a", subscribed_topic_names=[topic]))
    yield "b joins", _ask(twin, _beat(group, "b", subscribed_topic_names=[topic]))
    yield "described", _described(twin, group)
    yield "a beats", _ask(twin, _beat(group, "a", 2))
    for name in ("a", "b"):
        yield f"{name} leaves", _ask(twin, _beat(group, name, -1))


def _subscription(twin: Twin, topic: str, owned: tuple[int, ...] = (), version: int = 3) -> bytes:
    rows = [TopicPartition(topic=topic, partitions=list(owned))] if owned else []
    body = ConsumerProtocolSubscription(topics=[topic], owned_partitions=rows)
    return version.to_bytes(2, "big") + encode(body, version)


def _join(
    twin: Twin, group: str, topic: str, *, member: str = "", owned: tuple[int, ...] = (), **rest: Any
) -> JoinGroupRequest:
    names = rest.pop("names", ("range", "cooperative-sticky"))
    raw = rest.pop("metadata", _subscription(twin, topic, owned))
    rest = {"protocol_type": "consumer", "session_timeout_ms": 10_000, "rebalance_timeout_ms": 20_000, **rest}
    protocols = [JoinGroupRequestProtocol(name=name, metadata=raw) for name in names]
    return JoinGroupRequest(group_id=group, member_id=member, protocols=protocols, **rest)


def _sync(group: str, member: str, generation: int, **rest: Any) -> SyncGroupRequest:
    rest = {"protocol_type": "consumer", "protocol_name": "range", **rest}
    return SyncGroupRequest(group_id=group, member_id=member, generation_id=generation, **rest)


def classic_members(twin: Twin) -> Steps:
    """A classic member inside a consumer group, until the group turns classic."""
    topic = make(twin, "consumer-mixed", 4)
    ready(twin)
    group = "consumer-mixed"
    yield "a joins", _ask(twin, _beat(group, "a", subscribed_topic_names=[topic]))
    yield "wrong type", twin.ask(_join(twin, group, topic, protocol_type="connect"), 9)
    yield "wrong session", twin.ask(_join(twin, group, topic, session_timeout_ms=1), 9)
    first = twin.call(_join(twin, group, topic), 9)
    yield "c asks", twin.plain(first)
    member = first.member_id
    joined = twin.call(_join(twin, group, topic, member=member), 9)
    yield "c joins", twin.plain(joined)
    yield "other protocols", twin.ask(_join(twin, group, topic, member="x", names=("none",)), 9)
    yield "stranger syncs", twin.ask(_sync(group, "stranger", 3), 5)
    yield "a syncs", twin.ask(_sync(group, "a", 2), 5)
    yield "a beats classic", twin.ask(HeartbeatRequest(group_id=group, member_id="a", generation_id=2), 4)
    yield "c syncs wrong generation", twin.ask(_sync(group, member, 9), 5)
    yield "c syncs wrong protocol", twin.ask(_sync(group, member, 3, protocol_name="none"), 5)
    yield "c syncs wrong type", twin.ask(_sync(group, member, 3, protocol_type="connect"), 5)
    yield "c syncs", twin.ask(_sync(group, member, 3), 5)
    classic_beat = HeartbeatRequest(group_id=group, member_id=member, generation_id=3)
    yield "c beats", twin.ask(classic_beat, 4)
    yield "described mixed", _described(twin, group)
    yield "a gives up", _ask(twin, _beat(group, "a", 2, topic_partitions=_owned(twin, topic, 0, 1, 2, 3)))
    yield "a has given up", _ask(twin, _beat(group, "a", 2, topic_partitions=_owned(twin, topic, 0, 1)))
    yield "c is called", twin.ask(classic_beat, 4)
    yield "c rejoins", twin.ask(_join(twin, group, topic, member=member), 9)
    yield "c syncs again", twin.ask(_sync(group, member, 3), 5)
    for version, generation in ((7, 3), (9, 3), (9, 2), (9, 4)):
        commit = _commit(
            version, group, topic, twin, member_id=member, generation_id_or_member_epoch=generation, rows=((2, 1, ""),)
        )
        yield f"c commits v{version} in {generation}", twin.ask(commit, version)
    yield "a leaves", _ask(twin, _beat(group, "a", -1))
    yield "classic now", twin.ask(DescribeGroupsRequest(groups=[group]), 6)
    yield "not a consumer group", _described(twin, group)
    yield "c beats on", twin.ask(classic_beat, 4)
    yield "c leaves", twin.ask(LeaveGroupRequest(group_id=group, members=[MemberIdentity(member_id=member)]), 5)
    yield "empty classic", twin.ask(DescribeGroupsRequest(groups=[group]), 6)
    yield "a is back", _ask(twin, _beat(group, "a", subscribed_topic_names=[topic]))
    yield "a is gone", _ask(twin, _beat(group, "a", -1))
    yield "classic takes over", twin.ask(_join(twin, group, topic), 3)


def upgrades(twin: Twin) -> Steps:
    """A classic group that a member of the consumer protocol joins."""
    topic = make(twin, "consumer-upgrade", 2)
    ready(twin)
    group = "consumer-upgrade"
    joined = twin.call(_join(twin, group, topic, names=("range",)), 3)
    member, generation = joined.member_id, joined.generation_id
    everything = b"\0\3" + b"\0\0\0\1" + len(topic).to_bytes(2, "big") + topic.encode() + b"\0\0\0\2\0\0\0\0\0\0\0\1"
    given = [SyncGroupRequestAssignment(member_id=member, assignment=everything + b"\xff\xff\xff\xff")]
    yield "classic syncs", twin.ask(_sync(group, member, generation, assignments=given), 5)
    yield "unknown epoch", _ask(twin, _beat(group, "a", 1))
    yield "leaves unknown", _ask(twin, _beat(group, "a", -1))
    yield "a joins", _ask(twin, _beat(group, "a", subscribed_topic_names=[topic]))
    yield "described", _described(twin, group)
    yield "classic is called", twin.ask(HeartbeatRequest(group_id=group, member_id=member, generation_id=generation), 4)
    rejoined = twin.call(_join(twin, group, topic, member=member, names=("range",), owned=(0, 1)), 3)
    yield "classic rejoins", twin.plain(rejoined)
    yield "classic syncs less", twin.ask(_sync(group, member, rejoined.generation_id), 5)
    rejoined = twin.call(_join(twin, group, topic, member=member, names=("range",), owned=(0,)), 3)
    yield "classic rejoins without", twin.plain(rejoined)
    yield "classic syncs half", twin.ask(_sync(group, member, rejoined.generation_id), 5)
    yield "a gets half", _ask(twin, _beat(group, "a", 2, topic_partitions=[]))
    yield "described settled", _described(twin, group)
    yield "a leaves", _ask(twin, _beat(group, "a", -1))
    yield "classic again", twin.ask(DescribeGroupsRequest(groups=[group]), 6)
    other = "consumer-upgrade-connect"
    twin.call(_join(twin, other, topic, protocol_type="connect", names=("range",)), 3)
    yield "not a group of consumers", _ask(twin, _beat(other, "a", subscribed_topic_names=[topic]))
    custom = "consumer-upgrade-custom"
    joined = twin.call(_join(twin, custom, topic, names=("range",)), 3)
    given = [SyncGroupRequestAssignment(member_id=joined.member_id, assignment=everything + b"\0\0\0\1x")]
    twin.call(_sync(custom, joined.member_id, joined.generation_id, assignments=given), 5)
    yield "a custom assignor", _ask(twin, _beat(custom, "a", subscribed_topic_names=[topic]))


CASES: tuple[Case, ...] = (
    refusals,
    lives,
    reconciliation,
    metadata,
    static_members,
    expressions,
    batching,
    classic_members,
    upgrades,
)

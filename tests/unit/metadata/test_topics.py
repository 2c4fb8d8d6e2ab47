"""Creating, growing and deleting topics: what is written, what is refused, in which order."""

from collections.abc import Callable
from typing import Any

import pytest

from ottla.metadata.controller.partitions import MorePartitions
from ottla.metadata.controller.state import Problem
from ottla.metadata.controller.topics import CreateTopics, NewTopic, TopicDeletion, TopicRef, topic_name_problem
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode, KafkaError


def create(cluster: Any, *topics: NewTopic, **options: Any) -> list[Any]:
    outcomes: list[Any] = cluster.take(cluster.controller.create_topics(CreateTopics(topics=topics, **options)))
    return outcomes


def test_a_topic_is_written_as_topic_configs_partitions(one: Any) -> None:
    start = len(one.log)
    (outcome,) = create(one, NewTopic(name="t", partitions=2, replication_factor=1, configs=(("retention.ms", "5"),)))
    assert outcome.problem is None
    assert one.written(start) == ["Topic", "Config", "Partition", "Partition"]
    assert [record.version for record in one.log[start:]] == [0, 0, 2, 2]
    partition = one.image.partition("t", 1)
    assert (partition.replicas, partition.isr, partition.leader, partition.leader_epoch) == ((1,), (1,), 1, 0)
    assert partition.directories == one.image.brokers[1].log_dirs
    assert one.image.topic_config("t") == {"retention.ms": "5"}
    assert {entry.name: entry.value for entry in outcome.configs}["retention.ms"] == "5"


def test_defaults_and_validation_only(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster(default_partitions=4)
    cluster.join(1)
    start = len(cluster.log)
    (outcome,) = create(cluster, NewTopic(name="t"), validate_only=True)
    assert (outcome.problem, outcome.partitions, outcome.replication_factor) == (None, 4, 1)
    assert cluster.log[start:] == []
    assert "t" not in cluster.image.topics


@pytest.mark.parametrize(
    ("topic", "code", "words"),
    [
        (NewTopic(name=""), ErrorCode.INVALID_TOPIC_EXCEPTION, "empty string"),
        (NewTopic(name=".."), ErrorCode.INVALID_TOPIC_EXCEPTION, "'..' is not allowed"),
        (NewTopic(name="a" * 250), ErrorCode.INVALID_TOPIC_EXCEPTION, "longer than the max allowed length 249"),
        (NewTopic(name="a b"), ErrorCode.INVALID_TOPIC_EXCEPTION, "other than ASCII alphanumerics"),
        (NewTopic(name="é"), ErrorCode.INVALID_TOPIC_EXCEPTION, "other than ASCII alphanumerics"),
        (NewTopic(name="old.topic"), ErrorCode.INVALID_TOPIC_EXCEPTION, "collides with existing topic: old_topic"),
        (NewTopic(name="old_topic"), ErrorCode.TOPIC_ALREADY_EXISTS, "Topic 'old_topic' already exists."),
        (NewTopic(name="t", configs=(("retention.ms", None),)), ErrorCode.INVALID_CONFIG, "Null value not supported"),
        (NewTopic(name="t", configs=(("nonsense", "1"),)), ErrorCode.INVALID_CONFIG, "nonsense"),
        (NewTopic(name="t", configs=(("retention.ms", "x"),)), ErrorCode.INVALID_CONFIG, "retention.ms"),
        (NewTopic(name="t", replication_factor=0), ErrorCode.INVALID_REPLICATION_FACTOR, "larger than 0"),
        (NewTopic(name="t", replication_factor=2), ErrorCode.INVALID_REPLICATION_FACTOR, "only 1 broker(s)"),
        (NewTopic(name="t", partitions=0), ErrorCode.INVALID_PARTITIONS, "non-positive"),
        (
            NewTopic(name="t", partitions=1, assignments=((0, (1,)),)),
            ErrorCode.INVALID_REQUEST,
            "numPartitions was not set to -1",
        ),
        (
            NewTopic(name="t", replication_factor=1, assignments=((0, (1,)),)),
            ErrorCode.INVALID_REQUEST,
            "replication factor was not set to -1",
        ),
        (NewTopic(name="t", assignments=((0, (1,)), (0, (1,)))), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "multiple"),
        (NewTopic(name="t", assignments=((1, (1,)),)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "consecutive 0-based"),
        (NewTopic(name="t", assignments=((0, ()),)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "empty replica list"),
        (NewTopic(name="t", assignments=((0, (1, 1)),)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "more than once"),
        (NewTopic(name="t", assignments=((0, (7,)),)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "no such broker"),
    ],
)
def test_refusals(one: Any, topic: NewTopic, code: ErrorCode, words: str) -> None:
    create(one, NewTopic(name="old_topic"))
    start = len(one.log)
    (outcome,) = create(one, topic)
    assert outcome.problem.code is code
    assert words in outcome.problem.message
    assert one.log[start:] == []


def test_one_refusal_does_not_hold_up_the_others(one: Any) -> None:
    outcomes = create(one, NewTopic(name="bad name"), NewTopic(name="good"))
    assert [outcome.problem is None for outcome in outcomes] == [False, True]
    assert list(one.image.topics) == ["good"]


def test_a_request_may_not_ask_for_too_many_partitions(one: Any) -> None:
    with pytest.raises(KafkaError) as raised:
        create(one, NewTopic(name="a", partitions=6000), NewTopic(name="b", partitions=6000))
    assert raised.value.code is ErrorCode.POLICY_VIOLATION


def test_a_name_is_free_again_after_deletion(one: Any) -> None:
    (first,) = create(one, NewTopic(name="a.b", configs=(("retention.ms", "5"),)))
    unknown = Uuid(bytes(range(16)))
    assert one.take(one.controller.delete_topics([TopicRef(topic_id=first.topic_id), TopicRef(topic_id=unknown)])) == [
        TopicDeletion(
            topic_id=unknown, problem=Problem(ErrorCode.UNKNOWN_TOPIC_ID, "This server does not host this topic ID.")
        ),
        TopicDeletion(name="a.b", topic_id=first.topic_id),
    ]
    assert one.image.topics == {}
    assert one.image.topic_config("a.b") == {}
    (second,) = create(one, NewTopic(name="a_b"))
    assert second.problem is None
    assert second.topic_id != first.topic_id


def test_what_is_meant_twice_is_deleted_by_neither(one: Any) -> None:
    make = [NewTopic(name=name) for name in ("by-name", "both-ways", "id-twice", "name-twice")]
    ids = {outcome.name: outcome.topic_id for outcome in create(one, *make)}
    asked = [
        TopicRef(name="by-name"),
        *(TopicRef(topic_id=ids["both-ways"]), TopicRef(name="both-ways")),
        *[TopicRef(topic_id=ids["id-twice"])] * 2,
        TopicRef(name="id-twice"),
        *[TopicRef(name="name-twice")] * 2,
        TopicRef(name="name-twice", topic_id=ids["name-twice"]),
        TopicRef(),
    ]
    outcomes = one.take(one.controller.delete_topics(asked))
    assert [outcome.name for outcome in outcomes if outcome.problem is None] == ["by-name"]
    assert sorted((outcome.name or "", outcome.problem.message) for outcome in outcomes if outcome.problem) == [
        ("", "Duplicate topic id."),
        ("", "Neither topic name nor id were specified."),
        ("both-ways", "The provided topic name maps to an ID that was already supplied."),
        ("id-twice", "The provided topic name maps to an ID that was already supplied."),
        ("name-twice", "Duplicate topic name."),
        ("name-twice", "You may not specify both topic name and topic id."),
    ]
    assert sorted(one.image.topics) == ["both-ways", "id-twice", "name-twice"]


def test_partitions_are_added(one: Any) -> None:
    create(one, NewTopic(name="t", partitions=2))
    wanted = [
        MorePartitions(name="t", count=4),
        MorePartitions(name="gone", count=4),
        MorePartitions(name="t2", count=1),
    ]
    create(one, NewTopic(name="t2", partitions=2))
    outcomes = dict(one.take(one.controller.create_partitions(wanted)))
    assert outcomes["t"] is None
    assert outcomes["gone"].code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert outcomes["t2"] == (
        ErrorCode.INVALID_PARTITIONS,
        "The topic t2 currently has 2 partition(s); 1 would not be an increase.",
    )
    assert len(one.image.topics["t"].partitions) == 4
    same = dict(one.take(one.controller.create_partitions([MorePartitions(name="t", count=4)])))
    assert same["t"].message == "Topic already has 4 partition(s)."
    by_hand = MorePartitions(name="t", count=6, assignments=((1,),))
    (refused,) = one.take(one.controller.create_partitions([by_hand]))
    assert refused[1].code is ErrorCode.INVALID_REPLICA_ASSIGNMENT


def test_replicas_are_spread_over_racks_and_brokers(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster()
    cluster.join(1, 2, 3, 4, 5, 6, racks={1: "a", 2: "a", 3: "b", 4: "b", 5: "c", 6: "c"})
    create(cluster, NewTopic(name="t", partitions=60, replication_factor=3))
    partitions = cluster.image.topics["t"].partitions
    rack_of = {broker: registration.rack for broker, registration in cluster.image.brokers.items()}
    assert all(len({rack_of[replica] for replica in partition.replicas}) == 3 for partition in partitions)
    leads = [sum(1 for partition in partitions if partition.leader == broker) for broker in range(1, 7)]
    assert min(leads) >= 6
    holds = [sum(1 for partition in partitions if broker in partition.replicas) for broker in range(1, 7)]
    assert max(holds) - min(holds) <= 6


def test_fenced_brokers_hold_replicas_but_do_not_lead(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster()
    cluster.join(1)
    cluster.register(2)
    create(cluster, NewTopic(name="t", partitions=4, replication_factor=2))
    for partition in cluster.image.topics["t"].partitions:
        assert partition.replicas == (1, 2)
        assert (partition.leader, partition.isr) == (1, (1,))
    (nobody,) = create(cluster, NewTopic(name="u", assignments=((0, (2,)),)))
    assert nobody.problem.code is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert "fenced or in controlled shutdown" in nobody.problem.message


def test_names() -> None:
    assert topic_name_problem("orders.v1_2-x") is None
    assert topic_name_problem("a" * 249) is None

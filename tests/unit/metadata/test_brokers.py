"""Registration, heartbeats, fencing and controlled shutdown, with what they do to partitions."""

from collections.abc import Callable
from typing import Any

import pytest

from ottla.metadata.controller.isr import IsrProposal
from ottla.metadata.controller.topics import CreateTopics, NewTopic
from ottla.wire.errors import ErrorCode, KafkaError


def topic(cluster: Any, name: str = "t", **options: Any) -> None:
    options = {"partitions": 1, "replication_factor": 1} | options
    (outcome,) = cluster.take(cluster.controller.create_topics(CreateTopics(topics=(NewTopic(name=name, **options),))))
    assert outcome.problem is None, outcome.problem


def test_a_fresh_log_begins_as_apache_kafka_begins_it(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster()
    names = [getattr(record.message, "name", None) for record in cluster.log]
    assert cluster.written() == ["BeginTransaction", *["FeatureLevel"] * 6, "Config", "EndTransaction"]
    assert names[:9] == [
        "Bootstrap records",
        "metadata.version",
        "eligible.leader.replicas.version",
        "group.version",
        "share.version",
        "streams.version",
        "transaction.version",
        "min.insync.replicas",
        None,
    ]


def test_an_old_metadata_version_knows_no_transactions(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster(levels={"metadata.version": 12})
    assert cluster.written() == ["FeatureLevel"]
    cluster.join(1)
    topic(cluster)
    assert {type(r.message).__name__: r.version for r in cluster.log}["PartitionRecord"] == 0
    assert {type(r.message).__name__: r.version for r in cluster.log}["RegisterBrokerRecord"] == 2


def test_the_epoch_is_the_offset_of_the_registration(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster()
    offset = cluster.controller.state.next_offset
    assert cluster.register(1) == offset
    assert cluster.image.brokers[1].fenced
    first = cluster.beat(1, want_fence=True, cordoned_log_dirs=())
    assert (first.is_fenced, first.is_caught_up) == (True, True)
    assert not cluster.beat(1, cordoned_log_dirs=()).is_fenced
    assert cluster.written()[-3:] == ["RegisterBroker", "BrokerRegistrationChange", "BrokerRegistrationChange"]
    assert [record.version for record in cluster.log[-3:]] == [4, 3, 0]
    assert not cluster.beat(1, cordoned_log_dirs=()).is_fenced
    assert len(cluster.written()) == 12, "a heartbeat without news writes nothing"


def test_a_broker_behind_its_own_registration_stays_fenced(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster()
    epoch = cluster.register(1)
    reply = cluster.controller.heartbeat(_heartbeat(cluster, metadata_offset=epoch - 1), cluster.now_ms).response
    assert reply.is_fenced
    assert not reply.is_caught_up


def _heartbeat(cluster: Any, **fields: Any) -> Any:
    from ottla.metadata.controller.brokers import Heartbeat

    return Heartbeat(broker_id=1, broker_epoch=cluster.epochs[1], **fields)


def test_a_second_incarnation_waits_for_the_first_to_be_silent(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster()
    cluster.join(1)
    with pytest.raises(KafkaError) as raised:
        cluster.register(1, run=1)
    assert raised.value.code is ErrorCode.DUPLICATE_BROKER_REGISTRATION
    cluster.advance(9001)
    assert cluster.register(1, run=1) > 0


def test_who_speaks_for_another_incarnation_is_refused(one: Any) -> None:
    one.epochs[1] -= 1
    with pytest.raises(KafkaError) as raised:
        one.beat(1)
    assert raised.value.code is ErrorCode.STALE_BROKER_EPOCH


def test_a_broker_that_cannot_do_what_the_cluster_does_is_refused(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster(levels={"metadata.version": 30, "transaction.version": 3})
    with pytest.raises(KafkaError) as raised:
        cluster.register(1)
    assert raised.value.code is ErrorCode.UNSUPPORTED_VERSION
    assert "finalized version 3 of transaction.version" in str(raised.value.message)


def test_silence_fences_and_moves_leaders(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster()
    cluster.join(1, 2, 3)
    topic(cluster, assignments=((0, (1, 2, 3)),), partitions=-1, replication_factor=-1)
    cluster.advance(8000)
    cluster.beat(2)
    cluster.beat(3)
    cluster.advance(1000)
    partition = cluster.image.partition("t", 0)
    assert cluster.image.brokers[1].fenced
    assert (partition.leader, partition.isr, partition.leader_epoch) == (2, (2, 3), 1)
    cluster.beat(1)
    assert not cluster.image.brokers[1].fenced
    assert cluster.image.partition("t", 0).leader == 2


def test_controlled_shutdown_of_the_only_broker_and_its_return(one: Any) -> None:
    topic(one)
    start = len(one.log)
    assert not one.beat(1, want_shut_down=True).should_shut_down
    assert one.written(start) == ["BrokerRegistrationChange", "PartitionChange"]
    partition = one.image.partition("t", 0)
    assert (partition.leader, partition.isr, partition.elr, partition.last_known_elr) == (-1, (), (1,), (1,))
    assert one.beat(1, want_shut_down=True).should_shut_down
    assert one.image.brokers[1].fenced
    start = len(one.log)
    one.register(1, run=1, previous_epoch=one.epochs[1])
    one.beat(1)
    assert one.written(start) == ["RegisterBroker", "BrokerRegistrationChange", "PartitionChange"]
    partition = one.image.partition("t", 0)
    assert (partition.leader, partition.isr, partition.elr, partition.recovering) == (1, (1,), (), False)
    assert (partition.leader_epoch, partition.partition_epoch) == (2, 2)


def test_after_a_crash_the_last_known_leader_returns_uncleanly(one: Any) -> None:
    """Its log may lack what it acknowledged; nobody else has more. The record says so: RECOVERING."""
    topic(one)
    one.advance(9001)
    one.register(1, run=1)
    partition = one.image.partition("t", 0)
    assert (partition.leader, partition.isr, partition.elr, partition.last_known_elr) == (-1, (), (), (1,))
    one.beat(1)
    partition = one.image.partition("t", 0)
    assert (partition.leader, partition.isr, partition.recovering) == (1, (1,), True)


def test_a_replica_that_left_a_small_isr_stays_eligible(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster()
    cluster.join(1, 2)
    topic(
        cluster,
        assignments=((0, (1, 2)),),
        partitions=-1,
        replication_factor=-1,
        configs=(("min.insync.replicas", "2"),),
    )
    assert propose(cluster, ((1, -1),)).error is ErrorCode.NONE
    partition = cluster.image.partition("t", 0)
    assert (partition.isr, partition.elr, partition.leader_epoch, partition.partition_epoch) == ((1,), (2,), 0, 1)
    assert propose(cluster, ((1, -1), (2, cluster.epochs[2]))).error is ErrorCode.NONE
    assert cluster.image.partition("t", 0).elr == ()


def propose(cluster: Any, isr: tuple[tuple[int, int], ...], **fields: Any) -> Any:
    partition = cluster.image.partition("t", 0)
    proposal = {
        "topic_id": cluster.image.topics["t"].topic_id,
        "partition": 0,
        "leader_epoch": partition.leader_epoch,
        "partition_epoch": partition.partition_epoch,
        "new_isr": isr,
    } | fields
    (outcome,) = cluster.take(
        cluster.controller.alter_partition(
            broker_id=fields.pop("broker", 1), broker_epoch=cluster.epochs[1], proposals=[IsrProposal(**proposal)]
        )
    )
    return outcome


@pytest.mark.parametrize(
    ("isr", "fields", "code"),
    [
        (((1, -1),), {"leader_epoch": 5}, ErrorCode.NOT_CONTROLLER),
        (((1, -1),), {"partition_epoch": 5}, ErrorCode.NOT_CONTROLLER),
        (((1, -1),), {"leader_epoch": -1}, ErrorCode.FENCED_LEADER_EPOCH),
        (((1, -1),), {"partition_epoch": -1}, ErrorCode.INVALID_UPDATE_VERSION),
        (((2, -1),), {}, ErrorCode.INVALID_REQUEST),
        (((1, -1), (9, -1)), {}, ErrorCode.INVALID_REQUEST),
        (((1, -1), (2, 3)), {}, ErrorCode.INELIGIBLE_REPLICA),
        (((1, -1), (3, -1)), {}, ErrorCode.INELIGIBLE_REPLICA),
        (((1, -1),), {"partition": 4}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ],
)
def test_isr_proposals_that_are_refused(
    make_cluster: Callable[..., Any], isr: Any, fields: dict[str, Any], code: ErrorCode
) -> None:
    cluster = make_cluster()
    cluster.join(1, 2)
    cluster.register(3)
    topic(cluster, assignments=((0, (1, 2, 3)),), partitions=-1, replication_factor=-1)
    start = len(cluster.log)
    assert propose(cluster, isr, **fields).error is code
    assert cluster.log[start:] == []


def test_leaders_move_home(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster(broker_session_timeout_ms=10**9)
    cluster.join(1, 2)
    topic(cluster, assignments=((0, (1, 2)),), partitions=-1, replication_factor=-1)
    cluster.beat(1, want_fence=True)
    cluster.beat(1)
    assert cluster.image.partition("t", 0).leader == 2
    propose_as_leader = cluster.controller.alter_partition(
        broker_id=2,
        broker_epoch=cluster.epochs[2],
        proposals=[
            IsrProposal(
                topic_id=cluster.image.topics["t"].topic_id,
                partition=0,
                leader_epoch=1,
                partition_epoch=1,
                new_isr=((2, -1), (1, -1)),
            )
        ],
    )
    cluster.take(propose_as_leader)
    cluster.advance(300_000)
    assert cluster.image.partition("t", 0).leader == 1


def test_producer_ids_come_in_blocks(one: Any) -> None:
    blocks = [one.take(one.controller.allocate_producer_ids(broker_id=1, broker_epoch=one.epochs[1])) for _ in range(2)]
    assert [(block.first, block.length) for block in blocks] == [(0, 1000), (1000, 1000)]


def test_a_broker_is_forgotten(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster()
    cluster.join(1, 2)
    topic(cluster, assignments=((0, (2, 1)),), partitions=-1, replication_factor=-1)
    cluster.take(cluster.controller.unregister_broker(2))
    assert list(cluster.image.brokers) == [1]
    assert cluster.image.partition("t", 0).leader == 1

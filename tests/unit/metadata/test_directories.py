"""Replicas are assigned to log directories, and go with them."""

import pytest

from ottla.metadata.controller.directories import DirectoryAssignment
from ottla.metadata.controller.topics import CreateTopics, NewTopic
from ottla.metadata.image import DIRECTORY_UNASSIGNED
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode, KafkaError

FIRST, SECOND, STRANGE = (Uuid(bytes([number]) * 16) for number in (201, 202, 203))


@pytest.fixture
def two_dirs(make_cluster):
    """Broker 1 has two directories, broker 2 one; a topic with a partition on both."""
    cluster = make_cluster()
    cluster.register(1, log_dirs=(FIRST, SECOND))
    cluster.beat(1)
    cluster.join(2)
    assignments = ((0, (1, 2)), (1, (1, 2)))
    topic = NewTopic(name="t", partitions=-1, replication_factor=-1, assignments=assignments)
    created = cluster.take(cluster.controller.create_topics(CreateTopics(topics=(topic,))))
    assert created[0].problem is None, created
    return cluster


def assign(cluster, *rows, broker_id=1):
    topic_id = cluster.image.topics["t"].topic_id
    assignments = [
        DirectoryAssignment(topic_id=row[2] if len(row) > 2 else topic_id, partition=row[0], directory_id=row[1])
        for row in rows
    ]
    return cluster.take(
        cluster.controller.assign_replicas_to_dirs(
            broker_id=broker_id, broker_epoch=cluster.epochs[broker_id], assignments=assignments
        )
    )


def partitions(cluster):
    return cluster.image.topics["t"].partitions


def test_a_replica_is_unassigned_until_its_broker_reports(two_dirs):
    second = two_dirs.image.brokers[2].log_dirs[0]
    assert partitions(two_dirs)[0].directories == (DIRECTORY_UNASSIGNED, second)
    before = partitions(two_dirs)[0]
    assert assign(two_dirs, (0, FIRST), (1, SECOND)) == [ErrorCode.NONE, ErrorCode.NONE]
    after = partitions(two_dirs)[0]
    assert after.directories == (FIRST, second)
    assert partitions(two_dirs)[1].directories == (SECOND, second)
    assert after.leader_epoch == before.leader_epoch
    assert two_dirs.log[-1].version == 2
    written = len(two_dirs.log)
    assert assign(two_dirs, (0, FIRST)) == [ErrorCode.NONE]
    assert len(two_dirs.log) == written, "what is known is not written again"


def test_what_cannot_be_assigned_is_told_one_by_one(two_dirs):
    strange = Uuid(bytes([9]) * 16)
    assert assign(two_dirs, (0, FIRST, strange), (7, FIRST), (0, FIRST)) == [
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NONE,
    ]
    two_dirs.join(3)
    assert assign(two_dirs, (1, FIRST), broker_id=3) == [ErrorCode.NOT_LEADER_OR_FOLLOWER]
    with pytest.raises(KafkaError) as caught:
        two_dirs.take(two_dirs.controller.assign_replicas_to_dirs(broker_id=1, broker_epoch=99, assignments=[]))
    assert caught.value.code is ErrorCode.STALE_BROKER_EPOCH


def test_replicas_go_with_their_directory(two_dirs):
    assign(two_dirs, (0, FIRST), (1, SECOND))
    two_dirs.beat(1, offline_log_dirs=(FIRST,))
    assert (partitions(two_dirs)[0].leader, partitions(two_dirs)[0].isr) == (2, (2,))
    assert partitions(two_dirs)[1].leader == 1


def test_a_replica_reported_in_a_directory_that_is_gone_is_gone(two_dirs):
    assert assign(two_dirs, (0, STRANGE)) == [ErrorCode.NONE]
    assert partitions(two_dirs)[0].directories[0] == STRANGE
    assert (partitions(two_dirs)[0].leader, partitions(two_dirs)[0].isr) == (2, (2,))


def test_before_directories_were_invented_it_is_refused(make_cluster):
    cluster = make_cluster(levels={"metadata.version": 16})
    cluster.join(1)
    with pytest.raises(KafkaError) as caught:
        cluster.take(
            cluster.controller.assign_replicas_to_dirs(broker_id=1, broker_epoch=cluster.epochs[1], assignments=[])
        )
    assert caught.value.code is ErrorCode.UNSUPPORTED_VERSION

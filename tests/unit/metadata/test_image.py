"""Images and deltas: structure is shared, snapshots come back, contradictions are found."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from ottla.metadata.controller.configs import ConfigChange, ConfigOperation
from ottla.metadata.controller.topics import CreateTopics, NewTopic, TopicRef
from ottla.metadata.delta import ImageDelta, InconsistentLog, full_delta
from ottla.metadata.image import ClusterImage, ConfigResource, Provenance, ResourceType
from ottla.metadata.record import MetadataRecord, UnknownRecord, decode_record, encode_record
from ottla.metadata.snapshot import to_records
from ottla.model import Uuid
from ottla.wire.messages.access_control_entry_record import AccessControlEntryRecord
from ottla.wire.messages.clear_elr_record import ClearElrRecord
from ottla.wire.messages.client_quota_record import ClientQuotaRecord, EntityData
from ottla.wire.messages.delegation_token_record import DelegationTokenRecord
from ottla.wire.messages.partition_change_record import PartitionChangeRecord
from ottla.wire.messages.remove_access_control_entry_record import RemoveAccessControlEntryRecord
from ottla.wire.messages.remove_topic_record import RemoveTopicRecord
from ottla.wire.messages.topic_record import TopicRecord
from ottla.wire.messages.user_scram_credential_record import UserScramCredentialRecord

ID = Uuid(bytes(range(16)))


def fold(image: ClusterImage, *messages: Any) -> ClusterImage:
    delta = ImageDelta(image)
    for message in messages:
        delta.apply(MetadataRecord(message, 0))
    return delta.finish(Provenance())


def again(image: ClusterImage) -> ClusterImage:
    """The image by way of its snapshot, through bytes."""
    delta = ImageDelta(ClusterImage())
    for record in to_records(image):
        delta.apply(decode_record(encode_record(record)))
    return delta.finish(image.provenance)


def test_everything_survives_a_snapshot(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster()
    cluster.join(1, 2, racks={2: "r"})
    create = CreateTopics(topics=(NewTopic(name="t", partitions=3, configs=(("retention.ms", "5"),)),))
    cluster.take(cluster.controller.create_topics(create))
    cluster.take(cluster.controller.allocate_producer_ids(broker_id=1, broker_epoch=cluster.epochs[1]))
    cluster.beat(1, want_shut_down=True)
    change = ConfigChange(name="interval.ms", operation=ConfigOperation.SET, value="1000")
    resource = ConfigResource(ResourceType.CLIENT_METRICS, "m")
    cluster.take(cluster.controller.incremental_alter_configs([(resource, [change])]))
    image = fold(
        cluster.image,
        AccessControlEntryRecord(id=ID, resource_type=2, resource_name="t", principal="User:a", host="*"),
        UserScramCredentialRecord(name="u", mechanism=1, salt=b"s", stored_key=b"k", server_key=b"v", iterations=4096),
        ClientQuotaRecord(
            entity=[EntityData(entity_type="user", entity_name=None)], key="producer_byte_rate", value=1.5
        ),
        DelegationTokenRecord(owner="User:a", token_id="x"),
    )
    assert again(image) == image


def test_a_change_of_one_topic_shares_all_others(one: Any) -> None:
    topics = tuple(NewTopic(name=f"t{number}", partitions=2) for number in range(50))
    one.take(one.controller.create_topics(CreateTopics(topics=topics, describe_configs=False)))
    before = one.image
    target = before.topics["t7"]
    after = fold(before, PartitionChangeRecord(topic_id=target.topic_id, partition_id=1, leader=-1))
    assert after.topics["t7"].partitions[1].leader == -1
    assert after.topics["t7"].partitions[1].leader_epoch == target.partitions[1].leader_epoch + 1
    assert after.topics["t7"].partitions[0] is target.partitions[0]
    assert all(after.topics[name] is topic for name, topic in before.topics.items() if name != "t7")
    assert after.configs is before.configs
    assert after.brokers is before.brokers
    assert before.topics["t7"].partitions[1].leader == 1


def test_a_delta_tells_what_changed(one: Any) -> None:
    create = CreateTopics(topics=(NewTopic(name="old", partitions=2), NewTopic(name="gone")))
    one.take(one.controller.create_topics(create))
    old, gone = one.image.topics["old"], one.image.topics["gone"]
    delta = ImageDelta(one.image)
    records = [
        TopicRecord(name="new", topic_id=ID),
        PartitionChangeRecord(topic_id=old.topic_id, partition_id=1, isr=[]),
        RemoveTopicRecord(topic_id=gone.topic_id),
    ]
    for message in records:
        delta.apply(MetadataRecord(message, 0))
    image = delta.finish(Provenance(offset=9))
    assert [topic.name for topic in delta.created_topics()] == ["new"]
    changed = [(topic.name, index, was, now.isr) for topic, index, was, now in delta.changed_partitions()]
    assert changed == [("old", 1, old.partitions[1], ())]
    assert list(delta.deleted_topics.values()) == [gone]
    assert list(image.topics) == ["old", "new"]
    late = full_delta(image)
    assert [(topic.name, index, was) for topic, index, was, _ in late.changed_partitions()] == [
        ("old", 0, None),
        ("old", 1, None),
    ]


def test_a_topic_of_the_same_name_may_follow_in_one_delta(one: Any) -> None:
    one.take(one.controller.create_topics(CreateTopics(topics=(NewTopic(name="t"),))))
    first = one.image.topics["t"]
    image = fold(one.image, RemoveTopicRecord(topic_id=first.topic_id), TopicRecord(name="t", topic_id=ID))
    assert image.topics["t"].topic_id == ID
    assert list(image.topics_by_id) == [ID]
    image = fold(image, TopicRecord(name="u", topic_id=first.topic_id), RemoveTopicRecord(topic_id=first.topic_id))
    assert list(image.topics) == ["t"]


def test_eligible_leader_replicas_are_cleared(one: Any) -> None:
    one.take(one.controller.create_topics(CreateTopics(topics=(NewTopic(name="t"), NewTopic(name="u")))))
    one.beat(1, want_shut_down=True)
    only_t = fold(one.image, ClearElrRecord(topic_name="t"))
    assert (only_t.topics["t"].partitions[0].elr, only_t.topics["u"].partitions[0].elr) == ((), (1,))
    assert fold(one.image, ClearElrRecord()).topics["u"].partitions[0].elr == ()


def test_what_was_kept_is_removed_again() -> None:
    image = fold(ClusterImage(), AccessControlEntryRecord(id=ID))
    assert fold(image, RemoveAccessControlEntryRecord(id=ID)).acls == {}


@pytest.mark.parametrize(
    "messages",
    [
        [PartitionChangeRecord(topic_id=ID, partition_id=0)],
        [RemoveTopicRecord(topic_id=ID)],
        [TopicRecord(name="t", topic_id=ID), TopicRecord(name="t", topic_id=Uuid.ONE)],
        [TopicRecord(name="t", topic_id=ID), PartitionChangeRecord(topic_id=ID, partition_id=0)],
        [ClearElrRecord(topic_name="t")],
    ],
)
def test_contradictions_are_found(messages: list[Any]) -> None:
    with pytest.raises(InconsistentLog):
        fold(ClusterImage(), *messages)


@pytest.mark.parametrize("value", [b"", b"\x02\x0c\x00", b"\x01\x63\x00", b"\x01\x0c\x09"])
def test_unknown_frames_and_records_are_errors(value: bytes) -> None:
    with pytest.raises(UnknownRecord):
        decode_record(value)


@pytest.mark.parametrize("seed", range(30))
def test_replaying_the_log_gives_the_same_image(make_cluster: Callable[..., Any], seed: int) -> None:
    """Recovery is replay: in one go, in pieces, or from a snapshot half way."""
    cluster = make_cluster()
    cluster.join(1, 2, 3)
    rng = Random(seed)
    for number in range(rng.randint(1, 12)):
        match rng.randrange(4):
            case 0 | 1:
                topic = NewTopic(name=f"t{number}", partitions=rng.randint(1, 3), replication_factor=rng.randint(1, 3))
                cluster.take(cluster.controller.create_topics(CreateTopics(topics=(topic,), describe_configs=False)))
            case 2 if cluster.image.topics:
                doomed = TopicRef(topic_id=rng.choice(list(cluster.image.topics_by_id)))
                cluster.take(cluster.controller.delete_topics([doomed]))
            case _:
                cluster.beat(rng.randint(1, 3), want_fence=rng.random() < 0.5)
    cut = rng.randint(0, len(cluster.log))
    first = ImageDelta(ClusterImage())
    for record in cluster.log[:cut]:
        first.apply(record)
    second = ImageDelta(again(first.finish(Provenance())))
    for record in cluster.log[cut:]:
        second.apply(record)
    assert second.finish(Provenance()) == replace(cluster.image, provenance=Provenance())

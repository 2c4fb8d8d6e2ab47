"""Topics as consumer groups see them, from one image to the next."""

from struct import pack

from ottla.broker.group_topics import ImageTopics, changed_names
from ottla.groups.consumer.topics import group_hash, topic_hash
from ottla.groups.consumer.xxh3 import xxh3_64
from ottla.metadata.delta import ImageDelta
from ottla.metadata.image import BrokerRegistration, ClusterImage, PartitionImage, Provenance, TopicImage
from ottla.model import Uuid

ID = Uuid(bytes(range(16)))


def partition(*replicas):
    return PartitionImage(replicas=replicas, isr=replicas, leader=replicas[0], leader_epoch=0, partition_epoch=0)


def image_of(offset, *topics, racks=None):
    brokers = {
        number: BrokerRegistration(broker_id=number, epoch=0, incarnation_id=Uuid.ONE, rack=rack)
        for number, rack in (racks or {}).items()
    }
    return ClusterImage(
        provenance=Provenance(offset=offset),
        topics={topic.name: topic for topic in topics},
        topics_by_id={topic.topic_id: topic for topic in topics},
        brokers=brokers,
    )


def signed(value):
    return value - (1 << 64) if value >> 63 else value


def test_a_topic_hashes_as_kafka_describes_it():
    """Magic byte, id as two little-endian longs, name, partitions, and each partition's racks in order."""
    topic = TopicImage(name="ab", topic_id=ID, partitions=(partition(2, 1), partition(1)))
    topics = ImageTopics(image_of(1, topic, racks={1: "r1", 2: "q"}))
    text = b"a\0b\0" + pack("<i", 2)
    parts = b"\0" + bytes(range(7, -1, -1)) + bytes(range(15, 7, -1)) + text + pack("<i", 2)
    parts += pack("<i", 0) + pack("<i", 1) + b"q\0" + pack("<i", 1) + pack("<i", 2) + b"r\0001\0" + pack("<i", 2)
    parts += pack("<i", 1) + pack("<i", 2) + b"r\0001\0" + pack("<i", 2)
    assert topics.hash_of("ab") == signed(xxh3_64(parts))
    assert group_hash(topics, ["ab", "none"]) == signed(xxh3_64(pack("<q", topics.hash_of("ab"))))
    assert group_hash(topics, ["none"]) == 0


def test_hashes_are_kept_while_topic_and_racks_stay():
    topic = TopicImage(name="t", topic_id=ID, partitions=(partition(1),))
    image = image_of(1, topic, racks={1: "a"})
    topics = ImageTopics(image)
    first = topics.hash_of("t")
    same = topics.after(ImageDelta(image), image_of(2, topic, racks={1: "a"}))
    assert same.hash_of("t") == first
    assert same._hashes is topics._hashes
    moved = same.after(ImageDelta(image), image_of(3, topic, racks={1: "b"}))
    assert moved.hash_of("t") != first
    grown = TopicImage(name="t", topic_id=ID, partitions=(partition(1), partition(1)))
    assert same.after(ImageDelta(image), image_of(4, grown, racks={1: "a"})).hash_of("t") != first


def test_topics_are_found_by_name_and_id():
    topic = TopicImage(name="t", topic_id=ID, partitions=(partition(1), partition(1)))
    topics = ImageTopics(image_of(7, topic))
    assert topics.named("t") == topics.identified(ID)
    assert topics.named("t").partitions == 2
    assert topics.named("u") is topics.identified(Uuid.ONE) is None
    assert list(topics.names()) == ["t"]
    assert topics.version == 7


def test_names_of_changes_and_the_last_creation_follow_the_delta():
    topic = TopicImage(name="t", topic_id=ID, partitions=(partition(1),))
    image = image_of(1, topic)
    topics = ImageTopics(image, last_creation=1)
    delta = ImageDelta(image)
    delta.deleted_topics[ID] = topic
    after = topics.after(delta, image_of(5))
    assert changed_names(delta) == ("t",)
    assert after.last_creation == 1
    assert topic_hash(topics.named("t"), [[]]) == topics.hash_of("t")

"""A coordinator follows the leadership of its topic's partitions."""

import asyncio

from ottla.broker.coordinator_topic import CoordinatorTopic
from ottla.metadata.image import ClusterImage, PartitionImage, TopicImage
from ottla.model import Uuid


class Driver:
    def __init__(self):
        self.closed = False

    def start_if_empty(self):
        return True

    def close(self, error):
        self.closed = True


class Coordinators:
    def new_driver(self, partition, leader_epoch):
        return Driver()

    def on_loaded(self, index, driver):
        pass


class Partitions:
    def get(self, topic, partition):
        return object()


def image_of(topic_id, leader_epoch=0):
    partition = PartitionImage(replicas=(1,), isr=(1,), leader=1, leader_epoch=leader_epoch, partition_epoch=0)
    topic = TopicImage(name="__log", topic_id=Uuid(bytes([topic_id]) * 16), partitions=(partition,))
    return ClusterImage(topics={"__log": topic}, topics_by_id={topic.topic_id: topic})


def follow(*images):
    """The driver after each image."""

    async def main():
        topic = CoordinatorTopic(
            name="__log",
            node_id=1,
            coordinators=Coordinators(),
            partitions=Partitions(),
            describe=None,
            create=None,
            supervisor=None,
        )
        drivers = []
        for image in images:
            topic.on_image(image)
            drivers.append(topic.driver(0))
        return drivers

    return asyncio.run(main())


def test_the_same_term_keeps_its_machine_and_a_new_one_gets_another():
    first, second, third = follow(image_of(1), image_of(1), image_of(1, leader_epoch=1))
    assert first is second
    assert first.closed
    assert not third.closed


def test_a_namesake_that_takes_the_place_of_a_deleted_topic_gets_its_own_machine():
    """Both in one image, so the partition was never gone, and its leader epoch is the first one again."""
    old, new = follow(image_of(1), image_of(2))
    assert old.closed
    assert not new.closed

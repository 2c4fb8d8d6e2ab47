"""The topics of a metadata image as consumer groups look at them.

Hashes are kept from one image to the next for topics that did not change: a group of many topics compares its metadata
without hashing all of them again.
"""

from collections.abc import Collection, Mapping

from ottla.groups.consumer.topics import Topic, topic_hash
from ottla.metadata.delta import ImageDelta
from ottla.metadata.image import ClusterImage, TopicImage
from ottla.model import Uuid


class ImageTopics:
    """``Topics`` of one image. Immutable to its users; the cache of hashes is shared with its successors."""

    __slots__ = ("_by_id", "_by_name", "_hashes", "_racks", "last_creation", "version")

    def __init__(
        self, image: ClusterImage, *, last_creation: int = -1, hashes: dict[str, tuple[TopicImage, int]] | None = None
    ) -> None:
        self._by_name: Mapping[str, TopicImage] = image.topics
        self._by_id: Mapping[Uuid, TopicImage] = image.topics_by_id
        self._racks = {broker.broker_id: broker.rack for broker in image.brokers.values() if broker.rack is not None}
        self._hashes = {} if hashes is None else hashes
        self.version = image.provenance.offset
        self.last_creation = last_creation

    def after(self, delta: ImageDelta, image: ClusterImage) -> "ImageTopics":
        """The topics of the next image."""
        creates = self.last_creation < 0 or any(True for _ in delta.created_topics())
        last_creation = image.provenance.offset if creates else self.last_creation
        following = ImageTopics(image, last_creation=last_creation, hashes=self._hashes)
        if following._racks != self._racks:
            following._hashes = {}
        for topic in delta.deleted_topics.values():
            following._hashes.pop(topic.name, None)
        return following

    def named(self, name: str, /) -> Topic | None:
        return _topic(self._by_name.get(name))

    def identified(self, topic_id: Uuid, /) -> Topic | None:
        return _topic(self._by_id.get(topic_id))

    def names(self) -> Collection[str]:
        return self._by_name.keys()

    def hash_of(self, name: str, /) -> int:
        image = self._by_name[name]
        known = self._hashes.get(name)
        if known is not None and known[0] is image:
            return known[1]
        racks = [
            [self._racks[replica] for replica in partition.replicas if replica in self._racks]
            for partition in image.partitions
        ]
        topic = _topic(image)
        assert topic is not None, "the topic was just found"
        computed = topic_hash(topic, racks)
        self._hashes[name] = (image, computed)
        return computed


def _topic(image: TopicImage | None) -> Topic | None:
    if image is None:
        return None
    return Topic(name=image.name, topic_id=image.topic_id, partitions=len(image.partitions))


def changed_names(delta: ImageDelta) -> tuple[str, ...]:
    """The topics that are new, different or gone."""
    names = [topic.name for topic in delta.topics.values()]
    return tuple(dict.fromkeys(names + [topic.name for topic in delta.deleted_topics.values()]))

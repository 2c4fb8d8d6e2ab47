"""Topics for tests of consumer groups: a cluster that changes when told so."""

from __future__ import annotations

from collections.abc import Collection

from ottla.groups.consumer.topics import Topic, topic_hash
from ottla.model import Uuid


class ToldTopics:
    """`Topics` of a cluster without brokers; ids are made of the order of creation."""

    def __init__(self) -> None:
        self.version = 0
        self.last_creation = 0
        self._topics: dict[str, Topic] = {}
        self._created = 0
        self._hashes: dict[Topic, int] = {}

    def put(self, name: str, partitions: int) -> Topic:
        """Create a topic, or give it another number of partitions."""
        self.version += 1
        known = self._topics.get(name)
        if known is None:
            self._created += 1
            self.last_creation = self.version
        topic_id = Uuid(self._created.to_bytes(16, "big")) if known is None else known.topic_id
        self._topics[name] = Topic(name=name, topic_id=topic_id, partitions=partitions)
        return self._topics[name]

    def remove(self, name: str) -> None:
        """Delete a topic."""
        self.version += 1
        del self._topics[name]

    def named(self, name: str, /) -> Topic | None:
        return self._topics.get(name)

    def identified(self, topic_id: Uuid, /) -> Topic | None:
        return next((topic for topic in self._topics.values() if topic.topic_id == topic_id), None)

    def names(self) -> Collection[str]:
        return tuple(self._topics)

    def hash_of(self, name: str, /) -> int:
        topic = self._topics[name]
        if topic not in self._hashes:
            self._hashes[topic] = topic_hash(topic, [() for _ in range(topic.partitions)])
        return self._hashes[topic]

"""What a consumer group needs to know of the cluster's topics, and the hash that tells whether it changed.

The hash is Kafka's (streaming XXH3): over each topic its id, name, partitions and the racks of their replicas, and over
a group the hashes of its topics in the order of their names; a group without existing topics has hash 0.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from struct import Struct as Packer
from typing import Final, Protocol

from msgspec import Struct

from ottla.groups.consumer.xxh3 import xxh3_64
from ottla.model import Uuid

_HASH_VERSION: Final = b"\x00"
_INT32 = Packer("<i")
_INT64 = Packer("<q")


class Topic(Struct, frozen=True, kw_only=True):
    """A topic as the assignors see it."""

    name: str
    topic_id: Uuid
    partitions: int


class Topics(Protocol):
    """The topics of one metadata image."""

    @property
    def version(self) -> int:
        """The image's offset in the metadata log."""
        ...

    @property
    def last_creation(self) -> int:
        """The version in which a topic was created last."""
        ...

    def named(self, name: str, /) -> Topic | None: ...

    def identified(self, topic_id: Uuid, /) -> Topic | None: ...

    def names(self) -> Collection[str]: ...

    def hash_of(self, name: str, /) -> int:
        """``topic_hash`` of an existing topic."""
        ...


class NoTopics:
    """A cluster without topics: what a shard knows before it is told."""

    version = -1
    last_creation = -1

    def named(self, _name: str, /) -> None:
        return None

    def identified(self, _topic_id: Uuid, /) -> None:
        return None

    def names(self) -> Collection[str]:
        return ()

    def hash_of(self, name: str, /) -> int:
        raise AssertionError(f"there is no topic {name}")


def topic_hash(topic: Topic, racks: Iterable[Iterable[str]]) -> int:
    """Kafka's hash of a topic. ``racks``: for each partition the racks of its replicas."""
    return _signed(xxh3_64(b"".join(_parts(topic, racks))))


def group_hash(topics: Topics, names: Iterable[str]) -> int:
    """Kafka's hash of those of the named topics that exist."""
    existing = sorted(name for name in names if topics.named(name) is not None)
    if not existing:
        return 0
    return _signed(xxh3_64(b"".join(_INT64.pack(topics.hash_of(name)) for name in existing)))


def _parts(topic: Topic, racks: Iterable[Iterable[str]]) -> Iterator[bytes]:
    yield _HASH_VERSION
    yield topic.topic_id[7::-1] + topic.topic_id[:7:-1]
    yield _text(topic.name)
    yield _INT32.pack(topic.partitions)
    for partition, of_replicas in enumerate(racks):
        yield _INT32.pack(partition)
        for rack in sorted(of_replicas, key=_utf16):
            yield _INT32.pack(len(_utf16(rack)) // 2)
            yield _text(rack)


def _text(text: str) -> bytes:
    """A string as the streaming hash takes it: its UTF-16 units, then how many there were."""
    raw = _utf16(text, "little")
    return raw + _INT32.pack(len(raw) // 2)


def _utf16(text: str, order: str = "big") -> bytes:
    """Java's view of a string; big-endian bytes compare as Java compares strings."""
    return text.encode("utf-16-le" if order == "little" else "utf-16-be", "surrogatepass")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def topics_by_id(topics: Topics, names: Iterable[str]) -> Mapping[Uuid, Topic]:
    """Those of the named topics that exist."""
    found = (topics.named(name) for name in names)
    return {topic.topic_id: topic for topic in found if topic is not None}

"""The consumer protocol embedded in the classic one: what members put into JoinGroup, what they find in SyncGroup.

Its bytes are a version and a body. Versions after the newest known are read as that one, as Kafka's clients do.
"""

from collections.abc import Iterable, Mapping
from struct import Struct as Packer
from typing import Final

from ottla.groups.consumer.records import Assignment
from ottla.groups.consumer.topics import Topics
from ottla.model import Uuid
from ottla.wire import DecodeError, decode, encode
from ottla.wire.messages.consumer_protocol_assignment import ConsumerProtocolAssignment, TopicPartition
from ottla.wire.messages.consumer_protocol_subscription import ConsumerProtocolSubscription

_HEAD: Final = Packer(">h")


class CustomAssignor(ValueError):
    """An assignment carries data of its assignor's own, which the coordinator's assignors could not keep."""


def read_subscription(metadata: bytes) -> ConsumerProtocolSubscription:
    """Raises ``DecodeError``."""
    version = min(protocol_version(metadata), ConsumerProtocolSubscription.HIGHEST_VERSION)
    return decode(ConsumerProtocolSubscription, memoryview(metadata)[_HEAD.size :], version, allow_trailing=True)


def protocol_version(metadata: bytes) -> int:
    """Raises ``DecodeError``."""
    if len(metadata) < _HEAD.size:
        raise DecodeError("the embedded consumer protocol begins with its version")
    version: int = _HEAD.unpack_from(metadata)[0]
    if version < 0:
        raise DecodeError(f"the embedded consumer protocol has no version {version}")
    return version


def owned_partitions(subscription: ConsumerProtocolSubscription, topics: Topics) -> Mapping[Uuid, tuple[int, ...]]:
    """What a member says it owns, as far as the topics exist."""
    found = ((topics.named(row.topic), row.partitions) for row in subscription.owned_partitions)
    return {topic.topic_id: tuple(partitions) for topic, partitions in found if topic is not None}


def read_assignment(assignment: bytes, topics: Topics) -> Assignment:
    """A classic member's assignment, as far as its topics exist. Raises ``DecodeError`` or ``CustomAssignor``."""
    if not assignment:
        return {}
    version = min(protocol_version(assignment), ConsumerProtocolAssignment.HIGHEST_VERSION)
    read = decode(ConsumerProtocolAssignment, memoryview(assignment)[_HEAD.size :], version, allow_trailing=True)
    if read.user_data:
        raise CustomAssignor("userData from a custom assignor would be lost")
    found = ((topics.named(row.topic), row.partitions) for row in read.assigned_partitions)
    return {
        topic.topic_id: tuple(sorted(set(partitions)))
        for topic, partitions in found
        if topic is not None and partitions
    }


def write_assignment(assigned: Mapping[Uuid, Iterable[int]], topics: Topics, metadata: bytes) -> bytes:
    """An assignment in the version in which the member subscribed. Raises ``DecodeError`` where that cannot be told."""
    version = min(protocol_version(metadata), ConsumerProtocolAssignment.HIGHEST_VERSION)
    found = ((topics.identified(topic_id), partitions) for topic_id, partitions in assigned.items())
    body = ConsumerProtocolAssignment(
        assigned_partitions=[
            TopicPartition(topic=topic.name, partitions=list(partitions))
            for topic, partitions in found
            if topic is not None
        ]
    )
    return _HEAD.pack(version) + encode(body, version)

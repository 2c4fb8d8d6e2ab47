"""The bytes that members of a classic group send each other through the coordinator: subscription and assignment.

They are Java's ``ConsumerProtocol``: a version before the message; readers take what they know of a later one. Beside
it the sticky assignors put what they had into ``user_data``, because ``sticky`` members come with empty hands.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable
from struct import Struct
from typing import Final, TypeVar

from ottla.client._assignors import GroupMember
from ottla.model import TopicPartition
from ottla.wire import DecodeError, decode, encode
from ottla.wire.messages.consumer_protocol_assignment import ConsumerProtocolAssignment
from ottla.wire.messages.consumer_protocol_assignment import TopicPartition as AssignedTopic
from ottla.wire.messages.consumer_protocol_subscription import ConsumerProtocolSubscription
from ottla.wire.messages.consumer_protocol_subscription import TopicPartition as OwnedTopic

PROTOCOL_TYPE: Final = "consumer"

M = TypeVar("M", ConsumerProtocolSubscription, ConsumerProtocolAssignment)

_VERSION: Final = Struct(">h")
_I32: Final = Struct(">i")
_SUBSCRIPTION_VERSION: Final = 3
_ASSIGNMENT_VERSION: Final = 3


def encode_subscription(
    assignor: str,
    topics: Iterable[str],
    owned: Iterable[TopicPartition],
    *,
    generation: int,
    rack: str = "",
    cooperative: bool = False,
) -> bytes:
    """What a member tells the leader for one assignor. Only cooperative members own anything while they join."""
    owned = sorted(owned)
    user_data: bytes | None = None
    if assignor == "sticky":
        user_data = _encode_sticky(owned, generation)
    elif assignor == "cooperative-sticky":
        user_data = _I32.pack(generation)
    message = ConsumerProtocolSubscription(
        topics=sorted(topics),
        user_data=user_data,
        owned_partitions=[OwnedTopic(topic=name, partitions=numbers) for name, numbers in _by_topic(owned)]
        if cooperative
        else [],
        generation_id=generation,
        rack_id=rack or None,
    )
    return _VERSION.pack(_SUBSCRIPTION_VERSION) + encode(message, _SUBSCRIPTION_VERSION)


def decode_subscription(assignor: str, member_id: str, instance_id: str | None, data: bytes) -> GroupMember:
    """A member by what it said. Raises ``DecodeError``."""
    message = _decode(ConsumerProtocolSubscription, data, _SUBSCRIPTION_VERSION)
    owned = tuple(
        TopicPartition(topic.topic, number) for topic in message.owned_partitions for number in topic.partitions
    )
    generation = message.generation_id
    if assignor == "sticky" and message.user_data is not None:
        owned, generation = _decode_sticky(message.user_data)
    elif assignor == "cooperative-sticky" and generation < 0 and len(message.user_data or b"") >= _I32.size:
        (generation,) = _I32.unpack_from(message.user_data or b"")
    return GroupMember(
        member_id=member_id,
        instance_id=instance_id,
        topics=frozenset(message.topics),
        owned=owned,
        generation=generation,
        rack=message.rack_id or None,
    )


def encode_assignment(places: Iterable[TopicPartition]) -> bytes:
    """What the leader gives a member."""
    message = ConsumerProtocolAssignment(
        assigned_partitions=[AssignedTopic(topic=name, partitions=numbers) for name, numbers in _by_topic(places)]
    )
    return _VERSION.pack(_ASSIGNMENT_VERSION) + encode(message, _ASSIGNMENT_VERSION)


def decode_assignment(data: bytes) -> frozenset[TopicPartition]:
    """What a member got; no bytes are no partitions. Raises ``DecodeError``."""
    if not data:
        return frozenset()
    message = _decode(ConsumerProtocolAssignment, data, _ASSIGNMENT_VERSION)
    return frozenset(
        TopicPartition(topic.topic, number) for topic in message.assigned_partitions for number in topic.partitions
    )


def _decode(kind: type[M], data: bytes, highest: int) -> M:
    if len(data) < _VERSION.size:
        raise DecodeError(f"{len(data)} bytes hold no version")
    version = _VERSION.unpack_from(data)[0]
    if version < 0:
        raise DecodeError(f"version {version} of {kind.__name__}")
    return decode(kind, data[_VERSION.size :], min(version, highest), allow_trailing=True)


def _by_topic(places: Iterable[TopicPartition]) -> list[tuple[str, list[int]]]:
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for place in sorted(places):
        numbers[place.topic].append(place.partition)
    return list(numbers.items())


def _encode_sticky(owned: Iterable[TopicPartition], generation: int) -> bytes:
    topics = _by_topic(owned)
    out = bytearray(_I32.pack(len(topics)))
    for name, numbers in topics:
        raw = name.encode()
        out += _VERSION.pack(len(raw)) + raw + _I32.pack(len(numbers))
        for number in numbers:
            out += _I32.pack(number)
    return bytes(out + _I32.pack(generation))


def _decode_sticky(data: bytes) -> tuple[tuple[TopicPartition, ...], int]:
    """Previous assignment and generation; members that cannot be read had nothing, as Java holds it."""
    owned: list[TopicPartition] = []
    try:
        (topics,) = _I32.unpack_from(data)
        position = 4
        for _ in range(topics):
            (size,) = _VERSION.unpack_from(data, position)
            name = data[position + 2 : position + 2 + size].decode()
            position += 2 + size
            (count,) = _I32.unpack_from(data, position)
            position += 4
            if not 0 <= count <= (len(data) - position) // 4:
                return (), -1
            owned += [TopicPartition(name, _I32.unpack_from(data, position + 4 * index)[0]) for index in range(count)]
            position += 4 * count
        generation = _I32.unpack_from(data, position)[0] if position + 4 <= len(data) else -1
    except (ValueError, OverflowError, struct.error):
        return (), -1
    return tuple(owned), generation

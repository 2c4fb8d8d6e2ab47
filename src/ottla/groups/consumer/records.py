"""The records of consumer groups as values, and their bytes as Apache Kafka 4.3.1 writes them.

One type a record, named as Kafka names it; ``value is None`` is its tombstone. ``ConsumerGroupPartitionMetadata`` is
obsolete since the metadata hash took its place: logs of older brokers hold it, and only its tombstone is written.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from struct import Struct as Packer
from typing import Any, Final, NamedTuple, TypeAlias

from msgspec import Struct

from ottla.model import Uuid
from ottla.wire import DecodeError, decode, encode
from ottla.wire.messages.consumer_group_current_member_assignment_key import ConsumerGroupCurrentMemberAssignmentKey
from ottla.wire.messages.consumer_group_current_member_assignment_value import (
    ConsumerGroupCurrentMemberAssignmentValue,
    TopicPartitions,
)
from ottla.wire.messages.consumer_group_member_metadata_key import ConsumerGroupMemberMetadataKey
from ottla.wire.messages.consumer_group_member_metadata_value import (
    ClassicMemberMetadata,
    ClassicProtocol,
    ConsumerGroupMemberMetadataValue,
)
from ottla.wire.messages.consumer_group_metadata_key import ConsumerGroupMetadataKey
from ottla.wire.messages.consumer_group_metadata_value import ConsumerGroupMetadataValue
from ottla.wire.messages.consumer_group_partition_metadata_key import ConsumerGroupPartitionMetadataKey
from ottla.wire.messages.consumer_group_partition_metadata_value import ConsumerGroupPartitionMetadataValue
from ottla.wire.messages.consumer_group_regular_expression_key import ConsumerGroupRegularExpressionKey
from ottla.wire.messages.consumer_group_regular_expression_value import ConsumerGroupRegularExpressionValue
from ottla.wire.messages.consumer_group_target_assignment_member_key import ConsumerGroupTargetAssignmentMemberKey
from ottla.wire.messages.consumer_group_target_assignment_member_value import (
    ConsumerGroupTargetAssignmentMemberValue,
    TopicPartition,
)
from ottla.wire.messages.consumer_group_target_assignment_metadata_key import ConsumerGroupTargetAssignmentMetadataKey
from ottla.wire.messages.consumer_group_target_assignment_metadata_value import (
    ConsumerGroupTargetAssignmentMetadataValue,
)

Assignment: TypeAlias = Mapping[Uuid, tuple[int, ...]]
"""Partitions by topic, ascending; no topic without partitions."""
OwnedPartitions: TypeAlias = Mapping[Uuid, Mapping[int, int]]
"""Partitions by topic, each with the group's epoch at which its member got it."""

_HEAD = Packer(">h")
_VERSION: Final = 0


class MemberState(IntEnum):
    """Where a member is on its way to its target assignment, numbered as in the log."""

    STABLE = 0
    UNREVOKED_PARTITIONS = 1
    UNRELEASED_PARTITIONS = 2
    UNKNOWN = 127


class ClassicMembership(Struct, frozen=True, kw_only=True):
    """What a member that speaks the classic protocol joined with."""

    session_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]


class MemberMetadata(Struct, frozen=True, kw_only=True):
    """What a member says about itself. ``topics`` ascend; an empty ``regex`` is none."""

    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: tuple[str, ...] = ()
    regex: str = ""
    rebalance_timeout_ms: int = -1
    assignor: str | None = None
    classic: ClassicMembership | None = None


class CurrentAssignment(Struct, frozen=True, kw_only=True):
    """What a member holds, what it has yet to give up, and the epoch it has come to."""

    epoch: int = 0
    previous_epoch: int = -1
    state: MemberState = MemberState.STABLE
    assigned: OwnedPartitions = {}
    revoking: OwnedPartitions = {}


class GroupEpoch(Struct, frozen=True, kw_only=True):
    epoch: int
    metadata_hash: int = 0


class AssignmentEpoch(Struct, frozen=True, kw_only=True):
    """The group's epoch that the target assignment was computed for, and when."""

    epoch: int
    timestamp_ms: int = 0


class ResolvedRegex(Struct, frozen=True, kw_only=True):
    """The topics a regular expression matched in the image of ``version``. ``topics`` ascend."""

    topics: tuple[str, ...] = ()
    version: int = 0
    timestamp_ms: int = 0


class ConsumerGroupMetadata(NamedTuple):
    group_id: str
    value: GroupEpoch | None


class ConsumerGroupPartitionMetadata(NamedTuple):
    group_id: str
    value: bytes | None


class ConsumerGroupMemberMetadata(NamedTuple):
    group_id: str
    member_id: str
    value: MemberMetadata | None


class ConsumerGroupTargetAssignmentMetadata(NamedTuple):
    group_id: str
    value: AssignmentEpoch | None


class ConsumerGroupTargetAssignmentMember(NamedTuple):
    group_id: str
    member_id: str
    value: Assignment | None


class ConsumerGroupCurrentMemberAssignment(NamedTuple):
    group_id: str
    member_id: str
    value: CurrentAssignment | None


class ConsumerGroupRegularExpression(NamedTuple):
    group_id: str
    regex: str
    value: ResolvedRegex | None


ConsumerGroupRecord: TypeAlias = (
    ConsumerGroupMetadata
    | ConsumerGroupPartitionMetadata
    | ConsumerGroupMemberMetadata
    | ConsumerGroupTargetAssignmentMetadata
    | ConsumerGroupTargetAssignmentMember
    | ConsumerGroupCurrentMemberAssignment
    | ConsumerGroupRegularExpression
)


def encode_consumer_record(record: ConsumerGroupRecord) -> tuple[bytes, bytes | None]:
    """Key and value bytes."""
    match record:
        case ConsumerGroupMetadata(group_id, epoch):
            key: Any = ConsumerGroupMetadataKey(group_id=group_id)
            value: Any = None if epoch is None else _from_epoch(epoch)
        case ConsumerGroupPartitionMetadata(group_id, raw):
            return _key(ConsumerGroupPartitionMetadataKey(group_id=group_id)), raw
        case ConsumerGroupMemberMetadata(group_id, member_id, metadata):
            key = ConsumerGroupMemberMetadataKey(group_id=group_id, member_id=member_id)
            value = None if metadata is None else _from_metadata(metadata)
        case ConsumerGroupTargetAssignmentMetadata(group_id, target):
            key = ConsumerGroupTargetAssignmentMetadataKey(group_id=group_id)
            value = None if target is None else _from_assignment_epoch(target)
        case ConsumerGroupTargetAssignmentMember(group_id, member_id, assignment):
            key = ConsumerGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id)
            value = None if assignment is None else _from_assignment(assignment)
        case ConsumerGroupCurrentMemberAssignment(group_id, member_id, current):
            key = ConsumerGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member_id)
            value = None if current is None else _from_current(current)
        case ConsumerGroupRegularExpression(group_id, regex, resolved):
            key = ConsumerGroupRegularExpressionKey(group_id=group_id, regular_expression=regex)
            value = None if resolved is None else _from_resolved(resolved)
    return _key(key), None if value is None else _HEAD.pack(_VERSION) + encode(value, _VERSION)


def decode_consumer_record(kind: int, key: bytes, value: bytes | None) -> ConsumerGroupRecord | None:
    """Read a record back; ``None`` for a type that is not of consumer groups. Raises ``DecodeError`` on damage."""
    decoder = _DECODERS.get(kind)
    return None if decoder is None else decoder(key, value)


# -- to messages


def _key(key: Any) -> bytes:
    return _HEAD.pack(_TYPES[type(key)]) + encode(key, 0)


def _from_epoch(epoch: GroupEpoch) -> ConsumerGroupMetadataValue:
    return ConsumerGroupMetadataValue(epoch=epoch.epoch, metadata_hash=epoch.metadata_hash)


def _from_metadata(metadata: MemberMetadata) -> ConsumerGroupMemberMetadataValue:
    classic = metadata.classic
    return ConsumerGroupMemberMetadataValue(
        instance_id=metadata.instance_id,
        rack_id=metadata.rack_id,
        client_id=metadata.client_id,
        client_host=metadata.client_host,
        subscribed_topic_names=list(metadata.topics),
        subscribed_topic_regex=metadata.regex,
        rebalance_timeout_ms=metadata.rebalance_timeout_ms,
        server_assignor=metadata.assignor,
        classic_member_metadata=None
        if classic is None
        else ClassicMemberMetadata(
            session_timeout_ms=classic.session_timeout_ms,
            supported_protocols=[ClassicProtocol(name=name, metadata=raw) for name, raw in classic.protocols],
        ),
    )


def _from_assignment_epoch(target: AssignmentEpoch) -> ConsumerGroupTargetAssignmentMetadataValue:
    return ConsumerGroupTargetAssignmentMetadataValue(
        assignment_epoch=target.epoch, assignment_timestamp=target.timestamp_ms
    )


def _from_assignment(assignment: Assignment) -> ConsumerGroupTargetAssignmentMemberValue:
    return ConsumerGroupTargetAssignmentMemberValue(
        topic_partitions=[
            TopicPartition(topic_id=topic_id, partitions=list(partitions))
            for topic_id, partitions in assignment.items()
        ]
    )


def _from_current(current: CurrentAssignment) -> ConsumerGroupCurrentMemberAssignmentValue:
    return ConsumerGroupCurrentMemberAssignmentValue(
        member_epoch=current.epoch,
        previous_member_epoch=current.previous_epoch,
        state=int(current.state),
        assigned_partitions=_from_owned(current.assigned),
        partitions_pending_revocation=_from_owned(current.revoking),
    )


def _from_owned(owned: OwnedPartitions) -> list[TopicPartitions]:
    return [
        TopicPartitions(topic_id=topic_id, partitions=list(epochs), assignment_epochs=list(epochs.values()))
        for topic_id, epochs in owned.items()
    ]


def _from_resolved(resolved: ResolvedRegex) -> ConsumerGroupRegularExpressionValue:
    return ConsumerGroupRegularExpressionValue(
        topics=list(resolved.topics), version=resolved.version, timestamp=resolved.timestamp_ms
    )


# -- from messages


def _value(message: Any, value: bytes) -> Any:
    if len(value) < _HEAD.size:
        raise DecodeError("a coordinator record's value begins with its version")
    return decode(message, memoryview(value)[_HEAD.size :], _HEAD.unpack_from(value)[0])


def _name(message: Any, key: bytes) -> Any:
    return decode(message, memoryview(key)[_HEAD.size :], 0)


def _to_epoch(key: bytes, value: bytes | None) -> ConsumerGroupMetadata:
    group_id = _name(ConsumerGroupMetadataKey, key).group_id
    if value is None:
        return ConsumerGroupMetadata(group_id, None)
    read = _value(ConsumerGroupMetadataValue, value)
    return ConsumerGroupMetadata(group_id, GroupEpoch(epoch=read.epoch, metadata_hash=read.metadata_hash))


def _to_partition_metadata(key: bytes, value: bytes | None) -> ConsumerGroupPartitionMetadata:
    if value is not None:
        _value(ConsumerGroupPartitionMetadataValue, value)
    return ConsumerGroupPartitionMetadata(_name(ConsumerGroupPartitionMetadataKey, key).group_id, value)


def _to_metadata(key: bytes, value: bytes | None) -> ConsumerGroupMemberMetadata:
    name = _name(ConsumerGroupMemberMetadataKey, key)
    if value is None:
        return ConsumerGroupMemberMetadata(name.group_id, name.member_id, None)
    read: ConsumerGroupMemberMetadataValue = _value(ConsumerGroupMemberMetadataValue, value)
    classic = read.classic_member_metadata
    metadata = MemberMetadata(
        instance_id=read.instance_id,
        rack_id=read.rack_id,
        client_id=read.client_id,
        client_host=read.client_host,
        topics=ascending_names(read.subscribed_topic_names),
        regex=read.subscribed_topic_regex or "",
        rebalance_timeout_ms=read.rebalance_timeout_ms,
        assignor=read.server_assignor,
        classic=None
        if classic is None
        else ClassicMembership(
            session_timeout_ms=classic.session_timeout_ms,
            protocols=tuple((protocol.name, protocol.metadata) for protocol in classic.supported_protocols),
        ),
    )
    return ConsumerGroupMemberMetadata(name.group_id, name.member_id, metadata)


def _to_assignment_epoch(key: bytes, value: bytes | None) -> ConsumerGroupTargetAssignmentMetadata:
    group_id = _name(ConsumerGroupTargetAssignmentMetadataKey, key).group_id
    if value is None:
        return ConsumerGroupTargetAssignmentMetadata(group_id, None)
    read = _value(ConsumerGroupTargetAssignmentMetadataValue, value)
    target = AssignmentEpoch(epoch=read.assignment_epoch, timestamp_ms=read.assignment_timestamp)
    return ConsumerGroupTargetAssignmentMetadata(group_id, target)


def _to_assignment(key: bytes, value: bytes | None) -> ConsumerGroupTargetAssignmentMember:
    name = _name(ConsumerGroupTargetAssignmentMemberKey, key)
    if value is None:
        return ConsumerGroupTargetAssignmentMember(name.group_id, name.member_id, None)
    read: ConsumerGroupTargetAssignmentMemberValue = _value(ConsumerGroupTargetAssignmentMemberValue, value)
    assignment = {row.topic_id: tuple(sorted(set(row.partitions))) for row in read.topic_partitions if row.partitions}
    return ConsumerGroupTargetAssignmentMember(name.group_id, name.member_id, assignment)


def _to_current(key: bytes, value: bytes | None) -> ConsumerGroupCurrentMemberAssignment:
    name = _name(ConsumerGroupCurrentMemberAssignmentKey, key)
    if value is None:
        return ConsumerGroupCurrentMemberAssignment(name.group_id, name.member_id, None)
    read: ConsumerGroupCurrentMemberAssignmentValue = _value(ConsumerGroupCurrentMemberAssignmentValue, value)
    current = CurrentAssignment(
        epoch=read.member_epoch,
        previous_epoch=read.previous_member_epoch,
        state=_STATES.get(read.state, MemberState.UNKNOWN),
        assigned=_to_owned(read.assigned_partitions, read.member_epoch),
        revoking=_to_owned(read.partitions_pending_revocation, read.member_epoch),
    )
    return ConsumerGroupCurrentMemberAssignment(name.group_id, name.member_id, current)


def _to_owned(rows: Iterable[TopicPartitions], member_epoch: int) -> OwnedPartitions:
    """Where a partition has no epoch of its own (brokers before 4.3 wrote none) the member's stands for it."""
    owned = {}
    for row in rows:
        epochs: Iterable[int] = row.assignment_epochs or ()
        if row.assignment_epochs is None or len(row.assignment_epochs) != len(row.partitions):
            epochs = (max(member_epoch, 0) for _ in row.partitions)
        if row.partitions:
            owned[row.topic_id] = dict(zip(row.partitions, epochs, strict=True))
    return owned


def _to_resolved(key: bytes, value: bytes | None) -> ConsumerGroupRegularExpression:
    name = _name(ConsumerGroupRegularExpressionKey, key)
    if value is None:
        return ConsumerGroupRegularExpression(name.group_id, name.regular_expression, None)
    read: ConsumerGroupRegularExpressionValue = _value(ConsumerGroupRegularExpressionValue, value)
    resolved = ResolvedRegex(topics=ascending_names(read.topics), version=read.version, timestamp_ms=read.timestamp)
    return ConsumerGroupRegularExpression(name.group_id, name.regular_expression, resolved)


def ascending_names(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, in the order in which records keep them."""
    return tuple(sorted(set(names)))


_STATES: Final = {int(state): state for state in MemberState}
_TYPES: Final[Mapping[type, int]] = {
    ConsumerGroupMetadataKey: 3,
    ConsumerGroupPartitionMetadataKey: 4,
    ConsumerGroupMemberMetadataKey: 5,
    ConsumerGroupTargetAssignmentMetadataKey: 6,
    ConsumerGroupTargetAssignmentMemberKey: 7,
    ConsumerGroupCurrentMemberAssignmentKey: 8,
    ConsumerGroupRegularExpressionKey: 16,
}
_DECODERS: Final[Mapping[int, Callable[[bytes, bytes | None], ConsumerGroupRecord]]] = {
    3: _to_epoch,
    4: _to_partition_metadata,
    5: _to_metadata,
    6: _to_assignment_epoch,
    7: _to_assignment,
    8: _to_current,
    16: _to_resolved,
}

"""The records of ``__consumer_offsets`` as values, and their bytes as Apache Kafka 4.3.1 writes them.

A key is ``int16 type`` and its body, a value ``int16 version`` and its body, a tombstone a null value. Types: 0 and 1
committed offsets, 2 classic groups, 3 to 8 and 16 consumer groups (``consumer.records``). Share and streams groups are
carried as bytes: a shard that does not serve them still knows whose they are, and never drops them.
"""

import struct
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct

from ottla.groups.consumer.records import (
    ConsumerGroupCurrentMemberAssignment,
    ConsumerGroupMemberMetadata,
    ConsumerGroupMetadata,
    ConsumerGroupPartitionMetadata,
    ConsumerGroupRecord,
    ConsumerGroupRegularExpression,
    ConsumerGroupTargetAssignmentMember,
    ConsumerGroupTargetAssignmentMetadata,
    decode_consumer_record,
    encode_consumer_record,
)
from ottla.model import Uuid
from ottla.wire import DecodeError, decode, encode
from ottla.wire.messages.group_metadata_key import GroupMetadataKey
from ottla.wire.messages.group_metadata_value import GroupMetadataValue, MemberMetadata
from ottla.wire.messages.legacy_offset_commit_value import LegacyOffsetCommitValue
from ottla.wire.messages.offset_commit_key import OffsetCommitKey
from ottla.wire.messages.offset_commit_value import OffsetCommitValue

NO_PRODUCER: Final = -1
NO_EXPIRY: Final = -1
NO_LEADER_EPOCH: Final = -1

_TYPE = struct.Struct(">h")
_LEGACY_OFFSET_COMMIT = 0
_OFFSET_COMMIT = 1
_GROUP_METADATA = 2
_GROUP_METADATA_VERSION = 3
_OFFSET_COMMIT_VERSION = 4
_OFFSET_COMMIT_VERSION_WITH_EXPIRY = 1


class GroupKind(StrEnum):
    """What Kafka calls the type of a group."""

    CLASSIC = "classic"
    CONSUMER = "consumer"
    SHARE = "share"
    STREAMS = "streams"


class OffsetKey(NamedTuple):
    group_id: str
    topic: str
    partition: int


class CommittedOffset(NamedTuple):
    """One committed position. ``expire_timestamp`` is set only where the commit itself asked for a retention."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_timestamp: int
    expire_timestamp: int = NO_EXPIRY
    topic_id: Uuid = Uuid.ZERO


class OffsetRecord(NamedTuple):
    """A committed offset, or (``value is None``) its removal. Pending while its producer's transaction is open."""

    key: OffsetKey
    value: CommittedOffset | None
    producer_id: int = NO_PRODUCER


class StoredMember(Struct, frozen=True, kw_only=True):
    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    assignment: bytes


class StoredGroup(Struct, frozen=True, kw_only=True):
    """A classic group as its last completed rebalance left it."""

    protocol_type: str
    generation: int
    protocol: str | None
    leader: str | None
    state_timestamp: int
    members: tuple[StoredMember, ...] = ()


class ClassicGroupRecord(NamedTuple):
    group_id: str
    value: StoredGroup | None


class ForeignGroupRecord(NamedTuple):
    """A record of a group kind that is kept, not served."""

    kind: GroupKind
    type: int
    group_id: str
    key: bytes
    value: bytes | None


class TransactionMarker(NamedTuple):
    """The end of a producer's transaction: its pending offsets become visible, or never were."""

    producer_id: int
    committed: bool


ShardRecord: TypeAlias = (
    OffsetRecord | ClassicGroupRecord | ConsumerGroupRecord | ForeignGroupRecord | TransactionMarker
)
CONSUMER_GROUP_RECORDS: Final = (
    ConsumerGroupMetadata,
    ConsumerGroupPartitionMetadata,
    ConsumerGroupMemberMetadata,
    ConsumerGroupTargetAssignmentMetadata,
    ConsumerGroupTargetAssignmentMember,
    ConsumerGroupCurrentMemberAssignment,
    ConsumerGroupRegularExpression,
)

_FOREIGN_KINDS: Final = {
    **dict.fromkeys((10, 11, 12, 13, 14, 15), GroupKind.SHARE),
    **dict.fromkeys((17, 19, 20, 21, 22, 23), GroupKind.STREAMS),
}
FOREIGN_MEMBER_TYPES: Final = frozenset({10, 19})
"""Record types that stand for one member of a share or streams group."""


def encode_record(record: ShardRecord) -> tuple[bytes, bytes | None]:
    """Key and value bytes. Transaction markers are control batches and have none."""
    match record:
        case OffsetRecord():
            return _encode_offset(record)
        case ClassicGroupRecord():
            return _encode_group(record)
        case ForeignGroupRecord():
            return record.key, record.value
        case TransactionMarker():
            raise AssertionError("a transaction marker is a control batch")
        case _:
            return encode_consumer_record(record)


def decode_record(key: bytes, value: bytes | None, producer_id: int = NO_PRODUCER) -> ShardRecord | None:
    """Read a record back; ``None`` for a type this version does not know. Raises ``DecodeError`` on damage."""
    if len(key) < 2:
        raise DecodeError("a coordinator record's key begins with its type")
    (kind,) = _TYPE.unpack_from(key)
    if kind in (_LEGACY_OFFSET_COMMIT, _OFFSET_COMMIT):
        return _decode_offset(key, value, producer_id)
    if kind == _GROUP_METADATA:
        return _decode_group(key, value)
    foreign = _FOREIGN_KINDS.get(kind)
    if foreign is None:
        return decode_consumer_record(kind, key, value)
    return ForeignGroupRecord(foreign, kind, _leading_string(key), key, value)


def _encode_offset(record: OffsetRecord) -> tuple[bytes, bytes | None]:
    group_id, topic, partition = record.key
    key = _TYPE.pack(_OFFSET_COMMIT) + encode(OffsetCommitKey(group=group_id, topic=topic, partition=partition), 0)
    committed = record.value
    if committed is None:
        return key, None
    version = _OFFSET_COMMIT_VERSION
    if committed.expire_timestamp != NO_EXPIRY:
        version = _OFFSET_COMMIT_VERSION_WITH_EXPIRY
    value = OffsetCommitValue(
        offset=committed.offset,
        leader_epoch=committed.leader_epoch,
        metadata=committed.metadata,
        commit_timestamp=committed.commit_timestamp,
        expire_timestamp=committed.expire_timestamp,
        topic_id=committed.topic_id,
    )
    return key, _TYPE.pack(version) + encode(value, version)


def _decode_offset(key: bytes, value: bytes | None, producer_id: int) -> OffsetRecord:
    name = decode(OffsetCommitKey, memoryview(key)[2:], 0)
    offset_key = OffsetKey(name.group, name.topic, name.partition)
    if value is None:
        return OffsetRecord(offset_key, None, producer_id)
    if _TYPE.unpack_from(key)[0] == _LEGACY_OFFSET_COMMIT:
        legacy = decode(LegacyOffsetCommitValue, memoryview(value)[2:], _version(value))
        committed = CommittedOffset(legacy.offset, NO_LEADER_EPOCH, legacy.metadata, legacy.commit_timestamp)
        return OffsetRecord(offset_key, committed, producer_id)
    stored = decode(OffsetCommitValue, memoryview(value)[2:], _version(value))
    return OffsetRecord(
        offset_key,
        CommittedOffset(
            stored.offset,
            stored.leader_epoch,
            stored.metadata,
            stored.commit_timestamp,
            stored.expire_timestamp,
            stored.topic_id,
        ),
        producer_id,
    )


def _encode_group(record: ClassicGroupRecord) -> tuple[bytes, bytes | None]:
    key = _TYPE.pack(_GROUP_METADATA) + encode(GroupMetadataKey(group=record.group_id), 0)
    stored = record.value
    if stored is None:
        return key, None
    value = GroupMetadataValue(
        protocol_type=stored.protocol_type,
        generation=stored.generation,
        protocol=stored.protocol,
        leader=stored.leader,
        current_state_timestamp=stored.state_timestamp,
        members=[
            MemberMetadata(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                rebalance_timeout=member.rebalance_timeout_ms,
                session_timeout=member.session_timeout_ms,
                subscription=member.subscription,
                assignment=member.assignment,
            )
            for member in stored.members
        ],
    )
    return key, _TYPE.pack(_GROUP_METADATA_VERSION) + encode(value, _GROUP_METADATA_VERSION)


def _decode_group(key: bytes, value: bytes | None) -> ClassicGroupRecord:
    group_id = decode(GroupMetadataKey, memoryview(key)[2:], 0).group
    if value is None:
        return ClassicGroupRecord(group_id, None)
    stored = decode(GroupMetadataValue, memoryview(value)[2:], _version(value))
    return ClassicGroupRecord(
        group_id,
        StoredGroup(
            protocol_type=stored.protocol_type,
            generation=stored.generation,
            protocol=stored.protocol,
            leader=stored.leader,
            state_timestamp=stored.current_state_timestamp,
            members=tuple(_stored_member(member) for member in stored.members),
        ),
    )


def _stored_member(member: MemberMetadata) -> StoredMember:
    rebalance_timeout = member.rebalance_timeout
    return StoredMember(
        member_id=member.member_id,
        group_instance_id=member.group_instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        rebalance_timeout_ms=member.session_timeout if rebalance_timeout == -1 else rebalance_timeout,
        session_timeout_ms=member.session_timeout,
        subscription=member.subscription,
        assignment=member.assignment,
    )


def _version(value: bytes) -> int:
    if len(value) < 2:
        raise DecodeError("a coordinator record's value begins with its version")
    version: int = _TYPE.unpack_from(value)[0]
    return version


def _leading_string(key: bytes) -> str:
    """The first field of every group record's key: the group id."""
    if len(key) < 4:
        raise DecodeError("group id missing in a coordinator record's key")
    (length,) = _TYPE.unpack_from(key, 2)
    raw = key[4 : 4 + length]
    if length < 0 or len(raw) != length:
        raise DecodeError("group id cut short in a coordinator record's key")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError("group id is not UTF-8") from error

"""What a group shard is asked and what it answers: one value per command, free of wire versions.

Where the answer depends on what a client version understands, the command says so in a field of its own
(``requires_known_member_id``, ``unknown_group_error``).
"""

from collections.abc import Collection, Mapping

from msgspec import Struct

from ottla.groups.records import NO_PRODUCER
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode

UNKNOWN_MEMBER_ID = ""
NO_GENERATION = -1


class Join(Struct, frozen=True, kw_only=True):
    group_id: str
    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]
    """Name and metadata, in the member's order of preference."""
    session_timeout_ms: int
    rebalance_timeout_ms: int
    reason: str | None = None
    requires_known_member_id: bool = True
    supports_skipping_assignment: bool = True


class JoinedMember(Struct, frozen=True, kw_only=True):
    """What the leader learns about one member."""

    member_id: str
    group_instance_id: str | None
    metadata: bytes


class JoinResult(Struct, frozen=True, kw_only=True):
    error: ErrorCode = ErrorCode.NONE
    member_id: str = UNKNOWN_MEMBER_ID
    generation: int = NO_GENERATION
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    skip_assignment: bool = False
    members: tuple[JoinedMember, ...] = ()


class Sync(Struct, frozen=True, kw_only=True):
    group_id: str
    generation: int
    member_id: str
    group_instance_id: str | None = None
    protocol_type: str | None = None
    protocol: str | None = None
    assignments: tuple[tuple[str, bytes], ...] = ()
    """Member id and assignment; only the leader sends any."""


class SyncResult(Struct, frozen=True, kw_only=True):
    error: ErrorCode = ErrorCode.NONE
    protocol_type: str | None = None
    protocol: str | None = None
    assignment: bytes = b""


class Heartbeat(Struct, frozen=True, kw_only=True):
    group_id: str
    generation: int
    member_id: str
    group_instance_id: str | None = None


class LeavingMember(Struct, frozen=True, kw_only=True):
    member_id: str
    group_instance_id: str | None = None
    reason: str | None = None


class Leave(Struct, frozen=True, kw_only=True):
    group_id: str
    members: tuple[LeavingMember, ...]


class LeaveResult(Struct, frozen=True, kw_only=True):
    """One error per leaving member, in the order they were given."""

    error: ErrorCode = ErrorCode.NONE
    members: tuple[tuple[LeavingMember, ErrorCode], ...] = ()


class OffsetToCommit(Struct, frozen=True, kw_only=True):
    partition: int
    offset: int
    leader_epoch: int = -1
    metadata: str | None = None


class CommitOffsets(Struct, frozen=True, kw_only=True):
    """``topics``: name, id (zero where unknown) and partitions. ``unknown_group_error`` is what a member is told when
    its group is not here."""

    group_id: str
    topics: tuple[tuple[str, Uuid, tuple[OffsetToCommit, ...]], ...]
    member_id: str = UNKNOWN_MEMBER_ID
    group_instance_id: str | None = None
    generation_or_epoch: int = NO_GENERATION
    producer_id: int = NO_PRODUCER
    """Of whose transaction the commit is a part."""
    retention_ms: int | None = None
    unknown_group_error: ErrorCode = ErrorCode.GROUP_ID_NOT_FOUND
    knows_epochs: bool = True
    """Whether the client's version of the request can carry a member epoch."""


class CommitResult(Struct, frozen=True, kw_only=True):
    """Topic, id, and one error per partition; in the order of the command."""

    topics: tuple[tuple[str, Uuid, tuple[tuple[int, ErrorCode], ...]], ...]


class FetchOffsets(Struct, frozen=True, kw_only=True):
    """``topics is None`` asks for everything the group has committed."""

    group_id: str
    topics: tuple[tuple[str, Uuid, tuple[int, ...]], ...] | None
    member_id: str | None = None
    member_epoch: int = -1
    require_stable: bool = False


class FetchedOffset(Struct, frozen=True, kw_only=True):
    partition: int
    offset: int = -1
    leader_epoch: int = -1
    metadata: str = ""
    error: ErrorCode = ErrorCode.NONE


class FetchResult(Struct, frozen=True, kw_only=True):
    topics: tuple[tuple[str, Uuid, tuple[FetchedOffset, ...]], ...]


class DeleteOffsets(Struct, frozen=True, kw_only=True):
    group_id: str
    topics: tuple[tuple[str, tuple[int, ...]], ...]


class DeleteOffsetsResult(Struct, frozen=True, kw_only=True):
    topics: tuple[tuple[str, tuple[tuple[int, ErrorCode], ...]], ...]


class DescribedMember(Struct, frozen=True, kw_only=True):
    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


class DescribedGroup(Struct, frozen=True, kw_only=True):
    """A classic group. One that does not exist is described as Dead with GROUP_ID_NOT_FOUND."""

    group_id: str
    state: str
    protocol_type: str = ""
    protocol: str = ""
    members: tuple[DescribedMember, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    error_message: str | None = None


class ListedGroup(Struct, frozen=True, kw_only=True):
    group_id: str
    protocol_type: str
    state: str
    kind: str


class ConsumerHeartbeat(Struct, frozen=True, kw_only=True):
    """A heartbeat of the consumer protocol; what is ``None`` (or -1) has not changed since the last one."""

    group_id: str
    member_id: str
    member_epoch: int
    client_id: str
    client_host: str
    group_instance_id: str | None = None
    rack_id: str | None = None
    rebalance_timeout_ms: int = -1
    topics: tuple[str, ...] | None = None
    regex: str | None = None
    assignor: str | None = None
    owned: Mapping[Uuid, tuple[int, ...]] | None = None


class ConsumerHeartbeatResult(Struct, frozen=True, kw_only=True):
    """``assignment`` is ``None`` where the member knows it."""

    member_id: str
    member_epoch: int
    heartbeat_interval_ms: int = 0
    assignment: Mapping[Uuid, Collection[int]] | None = None


class DescribedConsumerMember(Struct, frozen=True, kw_only=True):
    """Partitions are told by topic id and name; topics that are gone are left out."""

    member_id: str
    member_epoch: int
    group_instance_id: str | None
    rack_id: str | None
    client_id: str
    client_host: str
    topics: tuple[str, ...]
    regex: str
    assigned: tuple[tuple[Uuid, str, tuple[int, ...]], ...]
    target: tuple[tuple[Uuid, str, tuple[int, ...]], ...]
    speaks_classic: bool


class DescribedConsumerGroup(Struct, frozen=True, kw_only=True):
    """A consumer group, or (``error``) why there is none to describe."""

    group_id: str
    state: str = ""
    epoch: int = 0
    assignment_epoch: int = 0
    assignor: str = ""
    members: tuple[DescribedConsumerMember, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    error_message: str | None = None

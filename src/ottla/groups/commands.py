"""What a group shard is asked and what it answers: one value per command, free of wire versions.

Where the answer depends on what a client version understands, the command says so in a field of its own
(``requires_known_member_id``, ``unknown_group_error``).
"""

from dataclasses import dataclass

from ottla.model import Uuid
from ottla.wire.errors import ErrorCode

UNKNOWN_MEMBER_ID = ""
NO_GENERATION = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedMember:
    """What the leader learns about one member."""

    member_id: str
    group_instance_id: str | None
    metadata: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinResult:
    error: ErrorCode = ErrorCode.NONE
    member_id: str = UNKNOWN_MEMBER_ID
    generation: int = NO_GENERATION
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    skip_assignment: bool = False
    members: tuple[JoinedMember, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    group_id: str
    generation: int
    member_id: str
    group_instance_id: str | None = None
    protocol_type: str | None = None
    protocol: str | None = None
    assignments: tuple[tuple[str, bytes], ...] = ()
    """Member id and assignment; only the leader sends any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    error: ErrorCode = ErrorCode.NONE
    protocol_type: str | None = None
    protocol: str | None = None
    assignment: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    group_id: str
    generation: int
    member_id: str
    group_instance_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavingMember:
    member_id: str
    group_instance_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    group_id: str
    members: tuple[LeavingMember, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveResult:
    """One error per leaving member, in the order they were given."""

    error: ErrorCode = ErrorCode.NONE
    members: tuple[tuple[LeavingMember, ErrorCode], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetToCommit:
    partition: int
    offset: int
    leader_epoch: int = -1
    metadata: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOffsets:
    """``topics``: name, id (zero where unknown) and partitions. ``unknown_group_error`` is what a member is told when
    its group is not here."""

    group_id: str
    topics: tuple[tuple[str, Uuid, tuple[OffsetToCommit, ...]], ...]
    member_id: str = UNKNOWN_MEMBER_ID
    group_instance_id: str | None = None
    generation_or_epoch: int = NO_GENERATION
    retention_ms: int | None = None
    unknown_group_error: ErrorCode = ErrorCode.GROUP_ID_NOT_FOUND


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitResult:
    """Topic, id, and one error per partition; in the order of the command."""

    topics: tuple[tuple[str, Uuid, tuple[tuple[int, ErrorCode], ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOffsets:
    """``topics is None`` asks for everything the group has committed."""

    group_id: str
    topics: tuple[tuple[str, Uuid, tuple[int, ...]], ...] | None
    member_id: str | None = None
    member_epoch: int = -1
    require_stable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedOffset:
    partition: int
    offset: int = -1
    leader_epoch: int = -1
    metadata: str = ""
    error: ErrorCode = ErrorCode.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchResult:
    topics: tuple[tuple[str, Uuid, tuple[FetchedOffset, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOffsets:
    group_id: str
    topics: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOffsetsResult:
    topics: tuple[tuple[str, tuple[tuple[int, ErrorCode], ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedMember:
    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedGroup:
    """A classic group. One that does not exist is described as Dead with GROUP_ID_NOT_FOUND."""

    group_id: str
    state: str
    protocol_type: str = ""
    protocol: str = ""
    members: tuple[DescribedMember, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    error_message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedGroup:
    group_id: str
    protocol_type: str
    state: str
    kind: str

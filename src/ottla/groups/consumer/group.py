"""A consumer group and its members, as their records say.

All of it is replicated: ``fold`` is the only mutator, and what it keeps besides the records are indexes over them. The
one soft thing is ``checked_epoch``: whether the group's metadata hash was compared with the topics as they are now.

Invariant: a partition has one owner an epoch. A member's partitions, those it has yet to revoke included, are entered
under its epoch; nobody else is given a partition that is entered.
"""

from collections.abc import Iterable, Mapping
from typing import Final, assert_never

from msgspec import Struct
from msgspec.structs import replace

from ottla.groups.consumer.records import (
    Assignment,
    ConsumerGroupCurrentMemberAssignment,
    ConsumerGroupMemberMetadata,
    ConsumerGroupMetadata,
    ConsumerGroupPartitionMetadata,
    ConsumerGroupRecord,
    ConsumerGroupRegularExpression,
    ConsumerGroupTargetAssignmentMember,
    ConsumerGroupTargetAssignmentMetadata,
    CurrentAssignment,
    MemberMetadata,
    MemberState,
    OwnedPartitions,
    ResolvedRegex,
)
from ottla.groups.consumer.subscriptions import Subscriptions
from ottla.groups.group import PartitionCheck
from ottla.groups.records import GroupKind, ShardRecord
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode, KafkaError

FIRST_EPOCH: Final = 1
LEAVE_EPOCH: Final = -1
STATIC_LEAVE_EPOCH: Final = -2
"""The epoch of a static member that is away and keeps its partitions."""
CONSUMER_PROTOCOL_TYPE: Final = "consumer"
_NO_ASSIGNMENT: Final[Assignment] = {}


class ConsumerMember(Struct, frozen=True, kw_only=True):
    """One member: what it says about itself, and how far it has come."""

    member_id: str
    metadata: MemberMetadata = MemberMetadata()
    current: CurrentAssignment = CurrentAssignment()

    @property
    def epoch(self) -> int:
        return self.current.epoch

    @property
    def instance_id(self) -> str | None:
        return self.metadata.instance_id

    @property
    def speaks_classic(self) -> bool:
        return self.metadata.classic is not None

    def is_reconciled_to(self, assignment_epoch: int) -> bool:
        return self.current.state is MemberState.STABLE and self.current.epoch == assignment_epoch


class ConsumerGroup:
    """The state of one consumer group."""

    __slots__ = (
        "_assignors",
        "_classic_protocols",
        "_has_partition_metadata",
        "_partition_epochs",
        "_target_owners",
        "assignment_epoch",
        "assignment_timestamp_ms",
        "checked_epoch",
        "classic_members",
        "epoch",
        "group_id",
        "members",
        "metadata_hash",
        "resolved",
        "static_members",
        "subscriptions",
        "targets",
    )

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.epoch = FIRST_EPOCH
        self.metadata_hash = 0
        self.checked_epoch: int | None = None
        self.assignment_epoch = FIRST_EPOCH
        self.assignment_timestamp_ms = 0
        self.members: dict[str, ConsumerMember] = {}
        self.static_members: dict[str, str] = {}
        self.targets: dict[str, Assignment] = {}
        self.resolved: dict[str, ResolvedRegex] = {}
        self.subscriptions = Subscriptions()
        self.classic_members = 0
        self._classic_protocols: dict[str, int] = {}
        self._assignors: dict[str, int] = {}
        self._partition_epochs: dict[Uuid, dict[int, int]] = {}
        self._target_owners: dict[Uuid, dict[int, str]] = {}
        self._has_partition_metadata = False

    # -- following the log

    def fold(self, record: ConsumerGroupRecord) -> None:
        match record:
            case ConsumerGroupMemberMetadata(_, member_id, metadata):
                self._fold_metadata(member_id, metadata)
            case ConsumerGroupCurrentMemberAssignment(_, member_id, current):
                self._fold_current(member_id, current)
            case ConsumerGroupTargetAssignmentMember(_, member_id, assignment):
                self._fold_target(member_id, assignment)
            case ConsumerGroupTargetAssignmentMetadata(_, target):
                self.assignment_epoch = LEAVE_EPOCH if target is None else target.epoch
                self.assignment_timestamp_ms = 0 if target is None else target.timestamp_ms
            case ConsumerGroupMetadata(_, group_epoch):
                if group_epoch is not None:
                    self.epoch, self.metadata_hash = group_epoch.epoch, group_epoch.metadata_hash
            case ConsumerGroupRegularExpression(_, regex, resolved):
                self._fold_regex(regex, resolved)
            case ConsumerGroupPartitionMetadata(_, value):
                self._has_partition_metadata = value is not None
            case _:
                assert_never(record)

    def _fold_metadata(self, member_id: str, metadata: MemberMetadata | None) -> None:
        old = self.members.get(member_id)
        if old is not None:
            self._discount(old)
        if metadata is not None:
            member = ConsumerMember(member_id=member_id) if old is None else old
            self._put(replace(member, metadata=metadata))
        elif old is not None:
            self._release(old.current)
            del self.members[member_id]

    def _put(self, member: ConsumerMember) -> None:
        metadata = member.metadata
        self.members[member.member_id] = member
        self.subscriptions.add(metadata)
        if metadata.instance_id is not None:
            self.static_members[metadata.instance_id] = member.member_id
        if metadata.assignor is not None:
            _step(self._assignors, metadata.assignor, 1)
        if metadata.classic is not None:
            self.classic_members += 1
            for name, _ in metadata.classic.protocols:
                _step(self._classic_protocols, name, 1)

    def _discount(self, member: ConsumerMember) -> None:
        metadata = member.metadata
        self.subscriptions.remove(metadata)
        if metadata.instance_id is not None and self.static_members.get(metadata.instance_id) == member.member_id:
            del self.static_members[metadata.instance_id]
        if metadata.assignor is not None:
            _step(self._assignors, metadata.assignor, -1)
        if metadata.classic is not None:
            self.classic_members -= 1
            for name, _ in metadata.classic.protocols:
                _step(self._classic_protocols, name, -1)

    def _fold_current(self, member_id: str, current: CurrentAssignment | None) -> None:
        old = self.members.get(member_id)
        if old is None:
            if current is None:
                return
            # A compacted log may hold it before what the member says about itself.
            old = ConsumerMember(member_id=member_id)
            self._put(old)
        self._release(old.current)
        if current is None:
            current = CurrentAssignment(epoch=LEAVE_EPOCH, previous_epoch=LEAVE_EPOCH)
        self._occupy(current.assigned, current.epoch)
        self._occupy(current.revoking, current.epoch)
        self.members[member_id] = replace(old, current=current)

    def _occupy(self, owned: OwnedPartitions, epoch: int) -> None:
        for topic_id, partitions in owned.items():
            epochs = self._partition_epochs.setdefault(topic_id, {})
            for partition in partitions:
                entered = epochs.get(partition)
                if entered is None or entered < epoch:
                    epochs[partition] = epoch

    def _release(self, current: CurrentAssignment) -> None:
        """Take the member's entries out; a later owner's, under a later epoch, stay."""
        for owned in (current.assigned, current.revoking):
            for topic_id, partitions in owned.items():
                epochs = self._partition_epochs.get(topic_id)
                if epochs is None:
                    continue
                for partition in partitions:
                    if epochs.get(partition) == current.epoch:
                        del epochs[partition]
                if not epochs:
                    del self._partition_epochs[topic_id]

    def _fold_target(self, member_id: str, assignment: Assignment | None) -> None:
        for topic_id, partitions in self.targets.pop(member_id, _NO_ASSIGNMENT).items():
            owners = self._target_owners.get(topic_id, {})
            for partition in partitions:
                if owners.get(partition) == member_id:
                    del owners[partition]
            if not owners:
                self._target_owners.pop(topic_id, None)
        if assignment is None:
            return
        self.targets[member_id] = assignment
        for topic_id, partitions in assignment.items():
            self._target_owners.setdefault(topic_id, {}).update(dict.fromkeys(partitions, member_id))

    def _fold_regex(self, regex: str, resolved: ResolvedRegex | None) -> None:
        old = self.resolved.pop(regex, None)
        if old is not None:
            self.subscriptions.remove_matches(old.topics)
        if resolved is not None:
            self.resolved[regex] = resolved
            self.subscriptions.add_matches(resolved.topics)

    # -- the view of every kind of group

    @property
    def kind(self) -> GroupKind:
        return GroupKind.CONSUMER

    @property
    def state_name(self) -> str:
        if not self.members:
            return "Empty"
        if self.epoch > self.assignment_epoch:
            return "Assigning"
        is_stable = all(member.is_reconciled_to(self.assignment_epoch) for member in self.members.values())
        return "Stable" if is_stable else "Reconciling"

    @property
    def protocol_type_name(self) -> str:
        return CONSUMER_PROTOCOL_TYPE

    @property
    def is_empty(self) -> bool:
        return not self.members

    def is_subscribed_to(self, topic: str) -> bool:
        return topic in self.subscriptions

    def expiry_base(self, commit_timestamp: int) -> int | None:
        return commit_timestamp

    def check_offset_delete(self) -> None:
        """Offsets of topics without a subscriber may be deleted at any time."""

    def check_delete(self) -> None:
        if self.members:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP)

    def tombstones(self, replaced: Mapping[str, str] | None = None) -> list[ShardRecord]:
        """What removes the group from the log. ``replaced``: new ids of members that got one in this very step."""
        names = {} if replaced is None else replaced
        members = [names.get(member_id, member_id) for member_id in self.members]
        return [
            *(ConsumerGroupCurrentMemberAssignment(self.group_id, member_id, None) for member_id in members),
            *(ConsumerGroupTargetAssignmentMember(self.group_id, member_id, None) for member_id in members),
            ConsumerGroupTargetAssignmentMetadata(self.group_id, None),
            *(ConsumerGroupMemberMetadata(self.group_id, member_id, None) for member_id in members),
            *(ConsumerGroupRegularExpression(self.group_id, regex, None) for regex in self.resolved),
            ConsumerGroupPartitionMetadata(self.group_id, None),
            ConsumerGroupMetadata(self.group_id, None),
        ]

    # -- members

    def member(self, member_id: str) -> ConsumerMember:
        """Raises UNKNOWN_MEMBER_ID."""
        member = self.members.get(member_id)
        if member is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {self.group_id}."
            )
        return member

    def static_member(self, instance_id: str | None) -> ConsumerMember | None:
        member_id = None if instance_id is None else self.static_members.get(instance_id)
        return None if member_id is None else self.members[member_id]

    def target_of(self, member: ConsumerMember) -> Assignment:
        """The member's target; a static member that came back under a new id takes over that of its old one."""
        known_as = member.member_id
        if member.instance_id is not None:
            known_as = self.static_members.get(member.instance_id, known_as)
        return self.targets.get(known_as, _NO_ASSIGNMENT)

    def is_taken(self, topic_id: Uuid, partition: int) -> bool:
        """Whether some member holds the partition or has yet to revoke it."""
        return partition in self._partition_epochs.get(topic_id, ())

    def is_targeted(self, topic_id: Uuid, partition: int) -> bool:
        """Whether the partition is in somebody's target assignment."""
        return partition in self._target_owners.get(topic_id, ())

    def waits_for_partitions(self, member: ConsumerMember) -> bool:
        """Whether others still hold partitions of the member's target."""
        if member.current.state is not MemberState.UNRELEASED_PARTITIONS:
            return False
        return any(
            partition not in member.current.assigned.get(topic_id, ()) and self.is_taken(topic_id, partition)
            for topic_id, partitions in self.targets.get(member.member_id, _NO_ASSIGNMENT).items()
            for partition in partitions
        )

    def assignor_with(self, old: ConsumerMember | None, new: ConsumerMember | None) -> str | None:
        """The assignor most members ask for once ``old`` has become ``new``."""
        counts = dict(self._assignors)
        for member, step in ((old, -1), (new, 1)):
            if member is not None and member.metadata.assignor is not None:
                _step(counts, member.metadata.assignor, step)
        return max(counts, key=counts.__getitem__, default=None)

    @property
    def metadata_is_fresh(self) -> bool:
        """Whether the topics were looked at since they changed; a look whose records got lost does not count."""
        return self.checked_epoch is not None and self.checked_epoch <= self.epoch

    @property
    def has_partition_metadata(self) -> bool:
        """Whether the log still holds the obsolete record."""
        return self._has_partition_metadata

    def supports_classic(self, protocol_type: str, protocols: Iterable[str]) -> bool:
        """Whether a classic member with these protocols can be in the group."""
        if protocol_type != CONSUMER_PROTOCOL_TYPE:
            return False
        return any(self._classic_protocols.get(name, 0) == self.classic_members for name in protocols)

    # -- offsets

    def check_commit(
        self, *, member_id: str, group_instance_id: str | None, generation_or_epoch: int, knows_epochs: bool
    ) -> PartitionCheck | None:
        """An epoch that has passed is good for partitions the member has held since."""
        if generation_or_epoch < 0 and not self.members:
            return None
        member = self.member(member_id)
        if not member.speaks_classic and not knows_epochs:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_VERSION,
                "OffsetCommit version 9 or above must be used by members using the consumer group protocol",
            )
        if generation_or_epoch == member.epoch:
            return None
        what, code = _epoch_words(member)
        if generation_or_epoch > member.epoch:
            reason = f"Received {what} {generation_or_epoch} is newer than current member epoch {member.epoch}."
            raise KafkaError(code, reason)
        return _AssignedSince(member, generation_or_epoch)

    def check_fetch(self, member_id: str | None, member_epoch: int) -> None:
        """Raises ``KafkaError`` where a member asks for offsets with another epoch than its own."""
        if member_id is None and member_epoch < 0:
            return
        member = self.member(member_id or "")
        if member_epoch != member.epoch:
            what, code = _epoch_words(member)
            reason = f"The received {what} {member_epoch} does not match the expected member epoch {member.epoch}."
            raise KafkaError(code, reason)


class _AssignedSince:
    """``PartitionCheck`` for commits of an epoch before the member's own."""

    __slots__ = ("_epoch", "_member")

    def __init__(self, member: ConsumerMember, epoch: int) -> None:
        self._member = member
        self._epoch = epoch

    def __call__(self, topic: str, topic_id: Uuid, partition: int) -> None:
        current = self._member.current
        since = current.assigned.get(topic_id, {}).get(partition)
        if since is None:
            since = current.revoking.get(topic_id, {}).get(partition)
        what, code = _epoch_words(self._member)
        if since is None:
            reason = f"Partition {topic}-{partition} is not assigned or pending revocation for member."
            raise KafkaError(code, reason)
        if self._epoch < since:
            reason = (
                f"Received {what} {self._epoch} is older than assignment epoch {since}"
                f" for partition {topic}-{partition}."
            )
            raise KafkaError(code, reason)


def _epoch_words(member: ConsumerMember) -> tuple[str, ErrorCode]:
    if member.speaks_classic:
        return "generation id", ErrorCode.ILLEGAL_GENERATION
    return "member epoch", ErrorCode.STALE_MEMBER_EPOCH


def _step(counts: dict[str, int], key: str, step: int) -> None:
    count = counts.get(key, 0) + step
    if count > 0:
        counts[key] = count
    else:
        counts.pop(key, None)

"""The requests of members that speak the consumer protocol: heartbeats that join, say what changed, or leave.

State is in the group's records alone; soft are the deadlines, which a lost append may leave behind: one that finds
nothing to do does nothing. A member that is to go loses its deadlines with the decision, and gets a session back if the
record of it is lost.
"""

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from ottla.groups.classic.rebalance import DeadlineKey, Purpose
from ottla.groups.commands import ConsumerHeartbeat, ConsumerHeartbeatResult
from ottla.groups.consumer.context import ConsumerContext
from ottla.groups.consumer.group import LEAVE_EPOCH, STATIC_LEAVE_EPOCH, ConsumerGroup, ConsumerMember
from ottla.groups.consumer.migration import Migration
from ottla.groups.consumer.rebalance import Change, ConsumerRebalance
from ottla.groups.consumer.reconciliation import Reported
from ottla.groups.consumer.records import (
    ConsumerGroupCurrentMemberAssignment,
    ConsumerGroupMemberMetadata,
    ConsumerGroupMetadata,
    ConsumerGroupRecord,
    MemberMetadata,
    MemberState,
    OwnedPartitions,
    ascending_names,
)
from ottla.groups.consumer.regexes import RegexResolution
from ottla.groups.group import Turn
from ottla.wire.errors import ErrorCode, KafkaError


class ConsumerMembership:
    """The consumer groups of one shard."""

    __slots__ = ("_context", "_groups", "_migration", "_rebalance", "_regexes")

    def __init__(
        self,
        *,
        groups: dict[str, ConsumerGroup],
        context: ConsumerContext,
        rebalance: ConsumerRebalance,
        regexes: RegexResolution,
        migration: Migration,
    ) -> None:
        self._groups = groups
        self._context = context
        self._rebalance = rebalance
        self._regexes = regexes
        self._migration = migration

    # -- heartbeats

    def heartbeat(self, command: ConsumerHeartbeat, turn: Turn) -> ConsumerHeartbeatResult:
        """Raises ``KafkaError``."""
        if command.member_epoch in (LEAVE_EPOCH, STATIC_LEAVE_EPOCH):
            return self._leave(command, turn)
        is_joining = command.member_epoch == 0
        group = self._migration.consumer_group(command.group_id, turn, joining=is_joining)
        self._rebalance.check_room(group, command.member_id)
        before = self._member(group, command, turn)
        after = before
        metadata = _updated(before.metadata, command)
        if metadata != before.metadata:
            after = replace(before, metadata=metadata)
        after = self._rebalance.update(group, Change(before, after), command.owned, turn)
        self._migration.finish_upgrade(group, turn)
        self._context.extend_session(command.group_id, after.member_id, turn.now_ms)
        is_told = is_joining or _is_full(command) or after.current.assigned != before.current.assigned
        return ConsumerHeartbeatResult(
            member_id=after.member_id,
            member_epoch=after.epoch,
            heartbeat_interval_ms=self._context.times_of(command.group_id).heartbeat_interval_ms,
            assignment=after.current.assigned if is_told else None,
        )

    def _member(self, group: ConsumerGroup, command: ConsumerHeartbeat, turn: Turn) -> ConsumerMember:
        """Who the heartbeat is from: a member in its epoch, a new one, or a static one that came back."""
        member_id = command.member_id or self._context.new_member_id()
        is_joining = command.member_epoch == 0
        if command.group_instance_id is None:
            member = group.members.get(member_id)
            if member is None and is_joining:
                return ConsumerMember(member_id=member_id)
            member = group.member(member_id)
            _check_epoch(member, command)
            return member
        existing = group.static_member(command.group_instance_id)
        if not is_joining:
            existing = owner_of(existing, command.group_instance_id, member_id)
            _check_epoch(existing, command)
            return existing
        if existing is None:
            return group.members.get(member_id, ConsumerMember(member_id=member_id))
        if existing.epoch != STATIC_LEAVE_EPOCH and not existing.speaks_classic:
            raise KafkaError(
                ErrorCode.UNRELEASED_INSTANCE_ID,
                f"Static member {member_id} with instance id {command.group_instance_id} cannot join the group"
                f" because the instance id is owned by {existing.member_id} member.",
            )
        return self._rebalance.replace_static(group, existing, member_id, turn)

    def _leave(self, command: ConsumerHeartbeat, turn: Turn) -> ConsumerHeartbeatResult:
        group = self._existing(command.group_id)
        result = ConsumerHeartbeatResult(member_id=command.member_id, member_epoch=command.member_epoch)
        if command.group_instance_id is None:
            self._remove(group, [group.member(command.member_id)], turn)
            return result
        static = group.static_member(command.group_instance_id)
        member = owner_of(static, command.group_instance_id, command.member_id)
        if command.member_epoch != STATIC_LEAVE_EPOCH:
            self._remove(group, [member], turn)
            return result
        # It keeps its place and its partitions, as if it had had them for ever, until it is back or its session ends.
        held = {topic_id: dict.fromkeys(epochs, 0) for topic_id, epochs in member.current.assigned.items()}
        away = replace(member.current, epoch=STATIC_LEAVE_EPOCH, assigned=held, revoking={})
        turn.write(ConsumerGroupCurrentMemberAssignment(group.group_id, member.member_id, away))
        return result

    def _existing(self, group_id: str) -> ConsumerGroup:
        group = self._groups.get(group_id)
        if group is None:
            raise self._migration.not_a_consumer_group(group_id)
        return group

    def _remove(self, group: ConsumerGroup, members: list[ConsumerMember], turn: Turn) -> None:
        """Members leave or are fenced; if only classic ones are left, the group may become a classic one."""
        if not self._migration.downgrade_without(group, members, turn):
            self._rebalance.fence(group, members, turn)

    def remove_members(self, group: ConsumerGroup, members: list[ConsumerMember], turn: Turn) -> None:
        """The same for members that asked in the classic protocol."""
        if members:
            self._remove(group, members, turn)

    # -- deadlines

    def on_deadline(self, key: DeadlineKey, turn: Turn) -> None:
        group = self._groups.get(key.group_id)
        if key.purpose is Purpose.CONSUMER_REGEX:
            self._regexes.on_deadline(group, key.group_id, turn)
            return
        member = None if group is None else group.members.get(key.member_id)
        if group is None or member is None:
            return
        if key.purpose is Purpose.CONSUMER_REVOCATION and not _must_revoke(member):
            return
        self._remove(group, [member], turn)

    def on_loaded(self, turn: Turn) -> None:
        """Every member gets a fresh session, and a fresh time to revoke what it was asked to."""
        for group in self._groups.values():
            for member in group.members.values():
                self._context.extend_session(group.group_id, member.member_id, turn.now_ms)
                if _must_revoke(member) and not member.speaks_classic:
                    at_ms = turn.now_ms + member.metadata.rebalance_timeout_ms
                    self._context.await_revocation(group.group_id, member.member_id, at_ms)

    def on_topics_changed(self, names: Iterable[str]) -> None:
        """These topics came, went or have other partitions: their groups look at them with the next heartbeat."""
        changed = tuple(names)
        for group in self._groups.values():
            if any(name in group.subscriptions for name in changed):
                group.checked_epoch = None

    # -- records

    def fold(self, record: ConsumerGroupRecord, *, create: Callable[[str], ConsumerGroup]) -> None:
        """Follow one record. ``create`` makes room for a group that the record is the first of."""
        group = self._groups.get(record.group_id)
        if group is None:
            if record.value is None:
                return
            group = create(record.group_id)
        group.fold(record)
        if record.value is None and isinstance(record, ConsumerGroupMetadata):
            self._regexes.forget(record.group_id)
            del self._groups[record.group_id]

    def revert(self, record: ConsumerGroupRecord, turn: Turn) -> None:
        """A record could not be written: a member that should have gone lives for another session."""
        if isinstance(record, ConsumerGroupMemberMetadata) and record.value is None:
            group = self._groups.get(record.group_id)
            key = DeadlineKey(Purpose.CONSUMER_SESSION, record.group_id, record.member_id)
            if group is None or record.member_id not in group.members:
                return
            if self._context.deadlines.at(key) is None:
                self._context.extend_session(record.group_id, record.member_id, turn.now_ms)


def owner_of(existing: ConsumerMember | None, instance_id: str, member_id: str) -> ConsumerMember:
    """The static member, if it is this one. Raises UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID."""
    if existing is None:
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
    if existing.member_id != member_id:
        raise KafkaError(
            ErrorCode.FENCED_INSTANCE_ID,
            f"Static member {member_id} with instance id {instance_id} was fenced by member {existing.member_id}.",
        )
    return existing


def _must_revoke(member: ConsumerMember) -> bool:
    """Whether the member has partitions to give up; one that went for a moment has, with that, given them up."""
    return member.current.state is MemberState.UNREVOKED_PARTITIONS and member.epoch != STATIC_LEAVE_EPOCH


def _check_epoch(member: ConsumerMember, command: ConsumerHeartbeat) -> None:
    """A member must be in its epoch, or in the one before if the answer that moved it on may have been lost."""
    received = command.member_epoch
    if received in (0, member.epoch):
        return
    if received > member.epoch:
        how = "greater"
    elif received == member.current.previous_epoch and _is_within(command.owned, member.current.assigned):
        return
    else:
        how = "smaller"
    raise KafkaError(
        ErrorCode.FENCED_MEMBER_EPOCH,
        f"The consumer group member has a {how} member epoch ({received}) than the one known by the group coordinator"
        f" ({member.epoch}). The member must abandon all its partitions and rejoin.",
    )


def _is_within(owned: Reported | None, assigned: OwnedPartitions) -> bool:
    if owned is None:
        return False
    return all(
        topic_id in assigned and all(partition in assigned[topic_id] for partition in partitions)
        for topic_id, partitions in owned.items()
    )


def _is_full(command: ConsumerHeartbeat) -> bool:
    """Whether the member says everything: it lost track, and is told everything too."""
    subscribes = command.topics is not None or command.regex is not None
    return command.rebalance_timeout_ms != -1 and subscribes and command.owned is not None


def _updated(metadata: MemberMetadata, command: ConsumerHeartbeat) -> MemberMetadata:
    """What the member is after this heartbeat; what it does not say stays."""
    rebalance_timeout_ms = command.rebalance_timeout_ms
    return MemberMetadata(
        instance_id=metadata.instance_id if command.group_instance_id is None else command.group_instance_id,
        rack_id=metadata.rack_id if command.rack_id is None else command.rack_id,
        client_id=command.client_id,
        client_host=command.client_host,
        topics=metadata.topics if command.topics is None else ascending_names(command.topics),
        regex=metadata.regex if command.regex is None else command.regex,
        rebalance_timeout_ms=metadata.rebalance_timeout_ms if rebalance_timeout_ms == -1 else rebalance_timeout_ms,
        assignor=metadata.assignor if command.assignor is None else command.assignor,
        classic=None,
    )

"""Members that speak the classic protocol inside a consumer group: their joins, syncs, heartbeats and leaves.

They take part in the group's epochs (their generation is their member epoch) and in its target assignment; nobody waits
for anybody. A join moves the member towards its target and is answered at once, a sync tells it what it has, a
heartbeat tells it to join again when there is more to do: to revoke first, where its last join named what it owns.
"""

from typing import Final

from msgspec.structs import replace

from ottla.groups.classic.rebalance import Purpose
from ottla.groups.commands import Heartbeat, Join, JoinResult, Leave, LeaveResult, LeavingMember, Sync, SyncResult
from ottla.groups.consumer.context import ConsumerContext
from ottla.groups.consumer.group import CONSUMER_PROTOCOL_TYPE, ConsumerGroup, ConsumerMember
from ottla.groups.consumer.membership import ConsumerMembership, owner_of
from ottla.groups.consumer.migration import Migration
from ottla.groups.consumer.protocol import owned_partitions, read_subscription, write_assignment
from ottla.groups.consumer.rebalance import Change, ConsumerRebalance
from ottla.groups.consumer.reconciliation import Reported
from ottla.groups.consumer.records import ClassicMembership, MemberMetadata, MemberState, ascending_names
from ottla.groups.group import Turn
from ottla.groups.settings import MigrationPolicy
from ottla.wire import DecodeError
from ottla.wire.errors import ErrorCode, KafkaError

_MALFORMED: Final = "the embedded consumer protocol is malformed"


class ClassicMembers:
    """The classic side of the consumer groups of one shard. Every method raises ``KafkaError`` to refuse."""

    __slots__ = ("_context", "_membership", "_migration", "_rebalance")

    def __init__(
        self,
        *,
        context: ConsumerContext,
        rebalance: ConsumerRebalance,
        migration: Migration,
        membership: ConsumerMembership,
    ) -> None:
        self._context = context
        self._rebalance = rebalance
        self._migration = migration
        self._membership = membership

    # -- join

    def join(self, group: ConsumerGroup, command: Join, token: int, turn: Turn) -> None:
        """Answers by ``turn.reply(token, JoinResult)`` in this very turn."""
        if self._context.consumer.migration_policy is MigrationPolicy.DISABLED:
            raise KafkaError(
                ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
                f"Cannot join the consumer group {group.group_id} with the classic protocol"
                " because the group migration is disabled.",
            )
        is_unknown = not command.member_id
        member_id = command.member_id or self._context.new_member_id()
        self._rebalance.check_room(group, member_id)
        if not group.supports_classic(command.protocol_type, (name for name, _ in command.protocols)):
            reason = f"Member {member_id}'s protocols are not supported."
            raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, reason)
        if is_unknown and command.requires_known_member_id and command.group_instance_id is None:
            turn.reply(token, JoinResult(error=ErrorCode.MEMBER_ID_REQUIRED, member_id=member_id))
            return
        metadata, reported = self._read(command)
        replaced = group.static_member(command.group_instance_id)
        before = self._member(group, command, member_id, replaced, turn)
        after = replace(before, metadata=_merged(before.metadata, metadata))
        if replaced is not None and self._migration.is_downgrade(group, replaced):
            after = self._downgrade(group, Change(before, after), replaced, reported, turn)
        else:
            after = self._rebalance.update(group, Change(before, after), reported, turn)
            self._await_sync(group, command, after, turn)
        turn.reply(
            token,
            JoinResult(
                member_id=after.member_id,
                generation=after.epoch,
                protocol_type=CONSUMER_PROTOCOL_TYPE,
                protocol=command.protocols[0][0],
            ),
        )

    def _read(self, command: Join) -> tuple[MemberMetadata, Reported]:
        """What the member says of itself, and what it says it owns."""
        try:
            subscription = read_subscription(command.protocols[0][1])
        except DecodeError as error:
            raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, _MALFORMED) from error
        metadata = MemberMetadata(
            instance_id=command.group_instance_id,
            rack_id=subscription.rack_id or None,
            client_id=command.client_id,
            client_host=command.client_host,
            topics=ascending_names(subscription.topics),
            rebalance_timeout_ms=command.rebalance_timeout_ms,
            classic=ClassicMembership(session_timeout_ms=command.session_timeout_ms, protocols=command.protocols),
        )
        return metadata, owned_partitions(subscription, self._context.topics)

    def _member(
        self, group: ConsumerGroup, command: Join, member_id: str, static: ConsumerMember | None, turn: Turn
    ) -> ConsumerMember:
        instance_id = command.group_instance_id
        if instance_id is None or (static is None and not command.member_id):
            return group.members.get(member_id, ConsumerMember(member_id=member_id))
        if command.member_id:
            return owner_of(static, instance_id, member_id)
        assert static is not None, "a new static member was dealt with above"
        return self._rebalance.replace_static(group, static, member_id, turn)

    def _downgrade(
        self,
        group: ConsumerGroup,
        change: Change,
        replaced: ConsumerMember,
        reported: Reported,
        turn: Turn,
    ) -> ConsumerMember:
        """The member takes the place of the last one that spoke the consumer protocol: the group turns classic."""
        subscription_changed, epoch = self._rebalance.write_changes(group, change, turn)
        after = change.after
        must_rebalance = group.assignment_epoch < epoch
        if not must_rebalance:
            goal = (group.assignment_epoch, group.target_of(after))
            after = self._rebalance.move_member(
                group, after, goal, reported, turn, subscription_changed=subscription_changed
            )
        self._migration.downgrade_with(group, replaced, after, turn, must_rebalance=must_rebalance)
        return after

    def _await_sync(self, group: ConsumerGroup, command: Join, member: ConsumerMember, turn: Turn) -> None:
        """The member has joined, and has its rebalance timeout to ask for its assignment."""
        group_id, member_id = group.group_id, member.member_id
        self._context.cancel(Purpose.CONSUMER_JOIN, group_id, member_id)
        self._context.extend_session(group_id, member_id, turn.now_ms, command.session_timeout_ms)
        self._context.await_sync(group_id, member_id, turn.now_ms + command.rebalance_timeout_ms)

    # -- sync, heartbeat, leave

    def sync(self, group: ConsumerGroup, command: Sync, token: int, turn: Turn) -> None:
        """Answers by ``turn.reply(token, SyncResult)`` in this very turn."""
        member = _member(group, command.member_id, command.group_instance_id)
        classic = _classic_side(member, command.generation)
        _check_protocol(member, classic, command)
        if group.assignment_epoch > member.epoch and member.current.state is not MemberState.UNREVOKED_PARTITIONS:
            self._await_join(group, member, turn)
            raise KafkaError(
                ErrorCode.REBALANCE_IN_PROGRESS,
                f"A new rebalance is triggered in group {group.group_id} and member {member.member_id} should rejoin"
                " to catch up.",
            )
        try:
            assignment = write_assignment(member.current.assigned, self._context.topics, classic.protocols[0][1])
        except DecodeError as error:
            raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, _MALFORMED) from error
        self._context.cancel(Purpose.CONSUMER_SYNC, group.group_id, member.member_id)
        self._context.extend_session(group.group_id, member.member_id, turn.now_ms, classic.session_timeout_ms)
        turn.reply(
            token,
            SyncResult(protocol_type=command.protocol_type, protocol=command.protocol, assignment=assignment),
        )

    def heartbeat(self, group: ConsumerGroup, command: Heartbeat, turn: Turn) -> ErrorCode:
        member = _member(group, command.member_id, command.group_instance_id)
        classic = _classic_side(member, command.generation)
        self._context.extend_session(group.group_id, member.member_id, turn.now_ms, classic.session_timeout_ms)
        state = member.current.state
        if (
            member.epoch < group.assignment_epoch
            or state is MemberState.UNREVOKED_PARTITIONS
            or (state is MemberState.UNRELEASED_PARTITIONS and not group.waits_for_partitions(member))
        ):
            self._await_join(group, member, turn)
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def _await_join(self, group: ConsumerGroup, member: ConsumerMember, turn: Turn) -> None:
        at_ms = turn.now_ms + member.metadata.rebalance_timeout_ms
        self._context.await_join(group.group_id, member.member_id, at_ms)

    def leave(self, group: ConsumerGroup, command: Leave, turn: Turn) -> LeaveResult:
        results: list[tuple[LeavingMember, ErrorCode]] = []
        leaving: dict[str, ConsumerMember] = {}
        for one in command.members:
            try:
                member = _leaving(group, one)
            except KafkaError as error:
                results.append((one, error.code))
            else:
                results.append((one, ErrorCode.NONE))
                leaving[member.member_id] = member
        self._membership.remove_members(group, list(leaving.values()), turn)
        return LeaveResult(members=tuple(results))


def _merged(known: MemberMetadata, said: MemberMetadata) -> MemberMetadata:
    """What a join says, and what it cannot say as it was. A join leaves the server's assignor and expression behind."""
    return replace(
        said,
        instance_id=known.instance_id if said.instance_id is None else said.instance_id,
        rack_id=known.rack_id if said.rack_id is None else said.rack_id,
        assignor=known.assignor,
    )


def _member(group: ConsumerGroup, member_id: str, instance_id: str | None) -> ConsumerMember:
    if instance_id is None:
        return group.member(member_id)
    return owner_of(group.static_member(instance_id), instance_id, member_id)


def _classic_side(member: ConsumerMember, generation: int) -> ClassicMembership:
    """What the member joined with. Raises UNKNOWN_MEMBER_ID for a member of the other protocol, ILLEGAL_GENERATION."""
    classic = member.metadata.classic
    if classic is None:
        reason = f"Member {member.member_id} does not use the classic protocol."
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, reason)
    if generation != member.epoch:
        raise KafkaError(
            ErrorCode.ILLEGAL_GENERATION,
            f"The request generation id {generation} is not equal to the member epoch {member.epoch}"
            f" of member {member.member_id}.",
        )
    return classic


def _check_protocol(member: ConsumerMember, classic: ClassicMembership, command: Sync) -> None:
    name = classic.protocols[0][0]
    for told, known in ((command.protocol_type, CONSUMER_PROTOCOL_TYPE), (command.protocol, name)):
        if told is not None and told != known:
            raise KafkaError(
                ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
                f"Member {member.member_id} syncs with {told}, and joined with {known}.",
            )


def _leaving(group: ConsumerGroup, one: LeavingMember) -> ConsumerMember:
    """An administrator may name a static member by its instance id alone."""
    if one.group_instance_id is None:
        return group.member(one.member_id)
    static = group.static_member(one.group_instance_id)
    known_as = one.member_id
    if not known_as and static is not None:
        known_as = static.member_id
    return owner_of(static, one.group_instance_id, known_as)

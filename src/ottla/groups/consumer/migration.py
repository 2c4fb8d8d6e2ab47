"""Groups that change their protocol: a classic group becomes a consumer group and the reverse, empty or with members.

A consumer-protocol member that joins a classic group of consumers upgrades it: its members go on in their protocol,
inside the consumer group. When the last member that speaks the consumer protocol goes, the group becomes a classic one
again. Both are the old group's tombstones and the new group's records in one batch, so there is always one of them.
"""

from collections.abc import Iterable, Sequence

from ottla.groups.classic.group import ClassicGroup, ClassicMember, ClassicState
from ottla.groups.classic.rebalance import Rebalance
from ottla.groups.commands import JoinResult, SyncResult
from ottla.groups.consumer.context import ConsumerContext
from ottla.groups.consumer.group import CONSUMER_PROTOCOL_TYPE, ConsumerGroup, ConsumerMember
from ottla.groups.consumer.protocol import CustomAssignor, read_assignment, read_subscription, write_assignment
from ottla.groups.consumer.records import (
    Assignment,
    AssignmentEpoch,
    ClassicMembership,
    ConsumerGroupCurrentMemberAssignment,
    ConsumerGroupMemberMetadata,
    ConsumerGroupMetadata,
    ConsumerGroupRecord,
    ConsumerGroupTargetAssignmentMember,
    ConsumerGroupTargetAssignmentMetadata,
    CurrentAssignment,
    GroupEpoch,
    MemberMetadata,
    MemberState,
    ascending_names,
)
from ottla.groups.consumer.topics import group_hash
from ottla.groups.group import Turn
from ottla.groups.records import ShardRecord
from ottla.wire import DecodeError
from ottla.wire.errors import ErrorCode, KafkaError


class Migration:
    """Between the two maps of groups of one shard. ``foreign`` tells of ids that a third kind of group has."""

    __slots__ = ("_classic", "_consumer", "_context", "_foreign", "_rebalance")

    def __init__(
        self,
        *,
        context: ConsumerContext,
        consumer: dict[str, ConsumerGroup],
        classic: dict[str, ClassicGroup],
        foreign: Iterable[str],
        rebalance: Rebalance,
    ) -> None:
        self._context = context
        self._consumer = consumer
        self._classic = classic
        self._foreign = foreign
        self._rebalance = rebalance

    def consumer_group(self, group_id: str, turn: Turn, *, joining: bool) -> ConsumerGroup:
        """The group a heartbeat is meant for; a member that joins may bring it into being. Raises GROUP_ID_NOT_FOUND.

        A group that is new with this command is not known to the shard before its records are folded.
        """
        group = self._consumer.get(group_id)
        if group is not None:
            return group
        classic = self._classic.get(group_id)
        if group_id in self._foreign or (not joining and classic is not None):
            raise self.not_a_consumer_group(group_id)
        if not joining:
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Consumer group {group_id} not found.")
        if classic is None:
            return ConsumerGroup(group_id)
        if classic.state is ClassicState.EMPTY:
            turn.records += classic.tombstones()
            return ConsumerGroup(group_id)
        return self._upgrade(classic, turn)

    def not_a_consumer_group(self, group_id: str) -> KafkaError:
        if group_id in self._classic or group_id in self._foreign:
            return KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a consumer group.")
        return KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")

    # -- up

    def _upgrade(self, classic: ClassicGroup, turn: Turn) -> ConsumerGroup:
        self._check_upgrade(classic)
        records = self._upgraded(classic)
        turn.records += classic.tombstones()
        turn.records += records
        group = ConsumerGroup(classic.group_id)
        for record in records:
            group.fold(record)
        return group

    def finish_upgrade(self, group: ConsumerGroup, turn: Turn) -> None:
        """The command that upgraded the group, if it did, will be carried out: its members change over."""
        classic = self._classic.get(group.group_id)
        if classic is None:
            return
        for member in classic.members.values():
            # Parked requests belong to the protocol that ends here; their clients join again.
            token = classic.take_join(member)
            if token is not None:
                turn.reply(token, JoinResult(error=ErrorCode.REBALANCE_IN_PROGRESS, member_id=member.member_id))
            token, member.sync_token = member.sync_token, None
            if token is not None:
                turn.reply(token, SyncResult(error=ErrorCode.REBALANCE_IN_PROGRESS))
            self._context.extend_session(classic.group_id, member.member_id, turn.now_ms, member.session_timeout_ms)

    def _check_upgrade(self, classic: ClassicGroup) -> None:
        reason = None
        if not self._context.consumer.migration_policy.allows_upgrade:
            reason = "online upgrade is disabled"
        elif not classic.uses_consumer_protocol:
            reason = "the group does not use the consumer embedded protocol"
        elif len(classic.members) > self._context.consumer.max_size:
            reason = "the group size exceeds the consumer group maximum size"
        if reason is not None:
            raise _cannot_upgrade(classic, f"{reason}.")

    def _upgraded(self, classic: ClassicGroup) -> list[ConsumerGroupRecord]:
        """The classic group's generation as a consumer group's: epoch, target and what members hold are the same."""
        group_id, epoch = classic.group_id, classic.generation
        protocol = classic.protocol if classic.protocol is not None else classic.select_protocol()
        try:
            members = {
                member.member_id: (
                    _upgraded_metadata(member, protocol),
                    read_assignment(member.assignment, self._context.topics),
                )
                for member in classic.members.values()
            }
        except DecodeError as error:
            raise _cannot_upgrade(classic, "the embedded consumer protocol is malformed.") from error
        except CustomAssignor as error:
            reason = (
                "an unsupported custom assignor is in use."
                " Please refer to the documentation or switch to a default assignor before re-attempting the upgrade."
            )
            raise _cannot_upgrade(classic, reason) from error
        names = dict.fromkeys(topic for metadata, _ in members.values() for topic in metadata.topics)
        metadata_hash = group_hash(self._context.topics, names)
        return [
            *(
                ConsumerGroupMemberMetadata(group_id, member_id, metadata)
                for member_id, (metadata, _) in members.items()
            ),
            ConsumerGroupMetadata(group_id, GroupEpoch(epoch=epoch, metadata_hash=metadata_hash)),
            *(
                ConsumerGroupTargetAssignmentMember(group_id, member_id, held)
                for member_id, (_, held) in members.items()
            ),
            ConsumerGroupTargetAssignmentMetadata(group_id, AssignmentEpoch(epoch=epoch)),
            *(
                ConsumerGroupCurrentMemberAssignment(group_id, member_id, _holding(held, epoch))
                for member_id, (_, held) in members.items()
            ),
        ]

    # -- down

    def downgrade_without(self, group: ConsumerGroup, leaving: Sequence[ConsumerMember], turn: Turn) -> bool:
        """Make the group a classic one where only classic members stay behind ``leaving``, and rebalance it."""
        gone = {member.member_id for member in leaving}
        stay = [member for member in group.members.values() if member.member_id not in gone]
        if not stay or not all(member.speaks_classic for member in stay):
            return False
        if not self._may_downgrade(len(stay)):
            return False
        try:
            self._downgrade(group, stay, group.tombstones(), turn, must_rebalance=True)
        except KafkaError:
            # What a member joined with cannot be read: its group stays what it is.
            return False
        return True

    def is_downgrade(self, group: ConsumerGroup, replaced: ConsumerMember) -> bool:
        """Whether a classic member that takes over ``replaced`` leaves no member of the consumer protocol."""
        if replaced.speaks_classic or group.classic_members != len(group.members) - 1:
            return False
        return self._may_downgrade(len(group.members))

    def downgrade_with(
        self,
        group: ConsumerGroup,
        replaced: ConsumerMember,
        joining: ConsumerMember,
        turn: Turn,
        *,
        must_rebalance: bool,
    ) -> None:
        """Make the group a classic one, ``joining`` in the place of ``replaced``."""
        stay = [member for member in group.members.values() if member.member_id != replaced.member_id]
        tombstones = group.tombstones({replaced.member_id: joining.member_id})
        self._downgrade(group, [*stay, joining], tombstones, turn, must_rebalance=must_rebalance)

    def _may_downgrade(self, members: int) -> bool:
        policy = self._context.consumer.migration_policy
        return policy.allows_downgrade and members <= self._context.settings.max_size

    def _downgrade(
        self,
        group: ConsumerGroup,
        members: Sequence[ConsumerMember],
        tombstones: Iterable[ShardRecord],
        turn: Turn,
        *,
        must_rebalance: bool,
    ) -> None:
        classic = ClassicGroup(group.group_id, turn.now_ms)
        classic.state = ClassicState.STABLE
        classic.generation = group.epoch
        for member in members:
            classic.add(_downgraded(member), CONSUMER_PROTOCOL_TYPE)
        classic.protocol = classic.select_protocol()
        classic.subscribed_topics = classic.subscriptions()
        try:
            for member in members:
                heir = classic.members[member.member_id]
                target = group.target_of(member)
                heir.assignment = write_assignment(target, self._context.topics, heir.metadata(classic.protocol))
        except DecodeError as error:
            raise KafkaError(
                ErrorCode.GROUP_ID_NOT_FOUND, f"Cannot downgrade the classic group {group.group_id}: {error}."
            ) from error
        turn.records += tombstones
        for member in group.members.values():
            self._context.forget_member(group.group_id, member.member_id)
        turn.write(classic.to_record({heir.member_id: heir.assignment for heir in classic.members.values()}))
        # Soft state, ahead of its record like that of any new classic group: it is taken back if the append fails.
        self._classic[group.group_id] = classic
        for heir in classic.members.values():
            self._rebalance.extend_session(classic, heir, turn.now_ms)
        if must_rebalance:
            self._rebalance.prepare(classic, turn)


def _cannot_upgrade(classic: ClassicGroup, reason: str) -> KafkaError:
    message = f"Cannot upgrade classic group {classic.group_id} to consumer group because {reason}"
    return KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, message)


def _upgraded_metadata(member: ClassicMember, protocol: str) -> MemberMetadata:
    subscription = read_subscription(member.metadata(protocol))
    return MemberMetadata(
        instance_id=member.group_instance_id,
        rack_id=subscription.rack_id or None,
        client_id=member.client_id,
        client_host=member.client_host,
        topics=ascending_names(subscription.topics),
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        classic=ClassicMembership(session_timeout_ms=member.session_timeout_ms, protocols=member.protocols),
    )


def _holding(held: Assignment, epoch: int) -> CurrentAssignment:
    assigned = {topic_id: dict.fromkeys(partitions, epoch) for topic_id, partitions in held.items()}
    return CurrentAssignment(epoch=epoch, previous_epoch=epoch, state=MemberState.STABLE, assigned=assigned)


def _downgraded(member: ConsumerMember) -> ClassicMember:
    metadata = member.metadata
    assert metadata.classic is not None, "only classic members are left"
    return ClassicMember(
        member_id=member.member_id,
        group_instance_id=metadata.instance_id,
        client_id=metadata.client_id,
        client_host=metadata.client_host,
        rebalance_timeout_ms=metadata.rebalance_timeout_ms,
        session_timeout_ms=metadata.classic.session_timeout_ms,
        protocols=metadata.classic.protocols,
    )

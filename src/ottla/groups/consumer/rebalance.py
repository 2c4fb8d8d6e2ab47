"""How a consumer group follows its members: epochs, target assignments, reconciliation, members that go.

One ``ConsumerRebalance`` serves all groups of a shard, for members of both protocols. Everything is decided from the
group as it was before the command: the records that are written change it afterwards. A command's records come in
Kafka's order: the member, the group's epoch, the target assignment, the member's current assignment.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from ottla.groups.assignors import ASSIGNORS
from ottla.groups.assignors.spec import GroupSpec, MemberSpec
from ottla.groups.classic.rebalance import Purpose
from ottla.groups.consumer.context import ConsumerContext
from ottla.groups.consumer.group import ConsumerGroup, ConsumerMember
from ottla.groups.consumer.reconciliation import Goal, Reported, reconcile
from ottla.groups.consumer.records import (
    Assignment,
    AssignmentEpoch,
    ConsumerGroupCurrentMemberAssignment,
    ConsumerGroupMemberMetadata,
    ConsumerGroupMetadata,
    ConsumerGroupPartitionMetadata,
    ConsumerGroupRegularExpression,
    ConsumerGroupTargetAssignmentMember,
    ConsumerGroupTargetAssignmentMetadata,
    CurrentAssignment,
    GroupEpoch,
    MemberState,
)
from ottla.groups.consumer.regexes import RegexResolution
from ottla.groups.consumer.subscriptions import Subscriptions
from ottla.groups.consumer.topics import Topic, group_hash
from ottla.groups.group import Turn
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode, KafkaError


class Change(NamedTuple):
    """A member before and after what it says in a command. ``before`` is a blank one for a new member."""

    before: ConsumerMember
    after: ConsumerMember


class ConsumerRebalance:
    """The rebalance protocol of consumer groups."""

    __slots__ = ("_context", "_regexes")

    def __init__(self, context: ConsumerContext, regexes: RegexResolution) -> None:
        self._context = context
        self._regexes = regexes

    # -- members that come, change and go

    def check_room(self, group: ConsumerGroup, member_id: str) -> None:
        """Raises GROUP_MAX_SIZE_REACHED."""
        limit = self._context.consumer.max_size
        if len(group.members) >= limit and member_id not in group.members:
            raise KafkaError(
                ErrorCode.GROUP_MAX_SIZE_REACHED,
                f"The consumer group has reached its maximum capacity of {limit} members.",
            )

    def replace_static(self, group: ConsumerGroup, old: ConsumerMember, member_id: str, turn: Turn) -> ConsumerMember:
        """A static member is back under a new id: the new member has what the old one had, and starts from epoch 0."""
        new = replace(old, member_id=member_id, current=replace(old.current, epoch=0, previous_epoch=0))
        _write_removal(group, old, turn)
        turn.write(ConsumerGroupMemberMetadata(group.group_id, member_id, new.metadata))
        target = group.targets.get(old.member_id, {})
        turn.write(ConsumerGroupTargetAssignmentMember(group.group_id, member_id, target))
        turn.write(ConsumerGroupCurrentMemberAssignment(group.group_id, member_id, new.current))
        return new

    def update(self, group: ConsumerGroup, change: Change, reported: Reported | None, turn: Turn) -> ConsumerMember:
        """Take over what a member says, see whether the group needs a new target, and move the member towards it."""
        subscription_changed, epoch = self.write_changes(group, change, turn)
        target_epoch, target = self._update_target(group, epoch, change, turn)
        return self.move_member(
            group, change.after, (target_epoch, target), reported, turn, subscription_changed=subscription_changed
        )

    def write_changes(self, group: ConsumerGroup, change: Change, turn: Turn) -> tuple[bool, int]:
        """Write the member and, where it matters to others, the group's next epoch.

        Returns whether the member's subscription changed, and the group's epoch.
        """
        before, after = change
        if after.metadata != before.metadata:
            turn.write(ConsumerGroupMemberMetadata(group.group_id, after.member_id, after.metadata))
        names_changed = after.metadata.topics != before.metadata.topics
        regex = self._regexes.update(group, before.metadata.regex, after.metadata.regex, turn)
        epoch = group.epoch
        must_bump = names_changed or regex.is_resolved
        if must_bump or not group.metadata_is_fresh:
            epoch = self._update_epoch(group, change, turn, must_bump=must_bump)
        return names_changed or regex.has_changed, epoch

    def fence(self, group: ConsumerGroup, members: Sequence[ConsumerMember], turn: Turn) -> None:
        """These members are out: their partitions are free at once, and the others get a new target."""
        for member in members:
            _write_removal(group, member, turn)
            self._context.forget_member(group.group_id, member.member_id)
        subscriptions = group.subscriptions.copy()
        for member in members:
            subscriptions.remove(member.metadata)
        for regex in group.resolved:
            if not subscriptions.members_with(regex):
                turn.write(ConsumerGroupRegularExpression(group.group_id, regex, None))
                subscriptions.remove_matches(group.resolved[regex].topics)
        metadata_hash = group_hash(self._context.topics, subscriptions.topics())
        turn.write(
            ConsumerGroupMetadata(group.group_id, GroupEpoch(epoch=group.epoch + 1, metadata_hash=metadata_hash))
        )

    # -- epochs

    def _update_epoch(self, group: ConsumerGroup, change: Change, turn: Turn, *, must_bump: bool) -> int:
        """Compare the group's topics with the metadata as it is; a difference, or ``must_bump``, is a new epoch."""
        subscriptions = _subscriptions_after(group, change)
        metadata_hash = group_hash(self._context.topics, subscriptions.topics())
        epoch = group.epoch
        if must_bump or metadata_hash != group.metadata_hash:
            epoch += 1
            turn.write(ConsumerGroupMetadata(group.group_id, GroupEpoch(epoch=epoch, metadata_hash=metadata_hash)))
        group.checked_epoch = epoch
        if group.has_partition_metadata:
            turn.write(ConsumerGroupPartitionMetadata(group.group_id, None))
        return epoch

    def _update_target(self, group: ConsumerGroup, epoch: int, change: Change, turn: Turn) -> tuple[int, Assignment]:
        """The assignment epoch and the member's target, computed anew if the group has moved on and it is time."""
        after = change.after
        if group.assignment_epoch >= epoch or not self._may_assign(group, turn.now_ms):
            return group.assignment_epoch, group.target_of(after)
        settings = self._context.consumer
        name = group.assignor_with(change.before, after) or settings.assignors[0]
        members = {member.member_id: member for member in group.members.values()}
        old = group.static_member(after.instance_id)
        if old is not None and old.member_id != after.member_id:
            del members[old.member_id]
        members[after.member_id] = after
        targets = ASSIGNORS.get(name, ASSIGNORS[settings.assignors[0]])(self._spec(group, change, members))
        for member_id in members:
            target = targets.get(member_id, {})
            if target != group.targets.get(member_id):
                turn.write(ConsumerGroupTargetAssignmentMember(group.group_id, member_id, target))
        turn.write(
            ConsumerGroupTargetAssignmentMetadata(
                group.group_id, AssignmentEpoch(epoch=epoch, timestamp_ms=turn.now_ms)
            )
        )
        return epoch, targets.get(after.member_id, {})

    def _may_assign(self, group: ConsumerGroup, now_ms: int) -> bool:
        """Assignments keep a distance, so that members that come together are assigned together."""
        interval_ms = self._context.times_of(group.group_id).assignment_interval_ms
        last_ms = group.assignment_timestamp_ms
        return last_ms == 0 or interval_ms == 0 or now_ms >= last_ms + interval_ms

    def _spec(self, group: ConsumerGroup, change: Change, members: dict[str, ConsumerMember]) -> GroupSpec:
        subscribed = _SubscribedTopics(group, self._context.topics.named)
        specs = {
            member_id: MemberSpec(
                topics=subscribed.of(member), instance_id=member.instance_id, target=group.target_of(member)
            )
            for member_id, member in members.items()
        }
        return GroupSpec(
            members=specs,
            is_homogeneous=_subscriptions_after(group, change).is_homogeneous(len(members)),
            partitions=subscribed.partitions,
            is_targeted=group.is_targeted,
        )

    # -- reconciliation

    def move_member(
        self,
        group: ConsumerGroup,
        member: ConsumerMember,
        goal: tuple[int, Assignment],
        reported: Reported | None,
        turn: Turn,
        *,
        subscription_changed: bool,
    ) -> ConsumerMember:
        """Bring a member closer to its target, and write it where that changed something."""
        target_epoch, target = goal
        if not subscription_changed and member.is_reconciled_to(target_epoch):
            return member
        current = reconcile(
            member.current,
            Goal(
                epoch=target_epoch,
                target=target,
                is_subscribed=self._is_subscribed(group, member),
                is_taken=group.is_taken,
            ),
            reported,
            subscription_changed=subscription_changed,
        )
        if current == member.current:
            return member
        turn.write(ConsumerGroupCurrentMemberAssignment(group.group_id, member.member_id, current))
        self._watch_revocation(group, member, current, turn.now_ms)
        return replace(member, current=current)

    def _is_subscribed(self, group: ConsumerGroup, member: ConsumerMember) -> Callable[[Uuid], bool]:
        identified = self._context.topics.identified
        names = frozenset(_topic_names(group, member))

        def is_subscribed(topic_id: Uuid) -> bool:
            topic = identified(topic_id)
            return topic is not None and topic.name in names

        return is_subscribed

    def _watch_revocation(
        self, group: ConsumerGroup, member: ConsumerMember, current: CurrentAssignment, now_ms: int
    ) -> None:
        """A member that must give up partitions has its rebalance timeout for it. Classic ones have a join timeout."""
        if member.speaks_classic:
            return
        if current.state is MemberState.UNREVOKED_PARTITIONS:
            at_ms = now_ms + member.metadata.rebalance_timeout_ms
            self._context.await_revocation(group.group_id, member.member_id, at_ms)
        else:
            self._context.cancel(Purpose.CONSUMER_REVOCATION, group.group_id, member.member_id)


class _SubscribedTopics:
    """The topics of members as ids; members that subscribe to the same share the work."""

    __slots__ = ("_group", "_known", "_named", "partitions")

    def __init__(self, group: ConsumerGroup, named: Callable[[str], Topic | None]) -> None:
        self._group = group
        self._named = named
        self._known: dict[tuple[tuple[str, ...], str], frozenset[Uuid]] = {}
        self.partitions: dict[Uuid, int] = {}
        """How many partitions each topic of the members seen so far has."""

    def of(self, member: ConsumerMember) -> frozenset[Uuid]:
        key = (member.metadata.topics, member.metadata.regex)
        known = self._known.get(key)
        if known is None:
            topics = [self._named(name) for name in _topic_names(self._group, member)]
            existing = {topic.topic_id: topic.partitions for topic in topics if topic is not None}
            self.partitions.update(existing)
            known = self._known[key] = frozenset(existing)
        return known


def _topic_names(group: ConsumerGroup, member: ConsumerMember) -> Iterable[str]:
    resolved = group.resolved.get(member.metadata.regex) if member.metadata.regex else None
    return member.metadata.topics if resolved is None else (*member.metadata.topics, *resolved.topics)


def _subscriptions_after(group: ConsumerGroup, change: Change) -> Subscriptions:
    subscriptions = group.subscriptions.copy()
    before, after = change
    subscriptions.remove(before.metadata)
    subscriptions.add(after.metadata)
    regex = before.metadata.regex
    if regex and not subscriptions.members_with(regex) and regex in group.resolved:
        subscriptions.remove_matches(group.resolved[regex].topics)
    return subscriptions


def _write_removal(group: ConsumerGroup, member: ConsumerMember, turn: Turn) -> None:
    turn.write(ConsumerGroupCurrentMemberAssignment(group.group_id, member.member_id, None))
    turn.write(ConsumerGroupTargetAssignmentMember(group.group_id, member.member_id, None))
    turn.write(ConsumerGroupMemberMetadata(group.group_id, member.member_id, None))

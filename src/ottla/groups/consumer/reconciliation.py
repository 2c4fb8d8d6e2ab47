"""How a member gets from what it holds to its target assignment, one heartbeat at a time.

Stable -> (partitions to give up?) UnrevokedPartitions, in its old epoch, until its heartbeats no longer name them
-> the target's epoch with every free partition; UnreleasedPartitions while others still hold some of them -> Stable.
A pure function of the member, the target and what the heartbeat says; the caller writes the result where it differs.
"""

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

from msgspec import Struct

from ottla.groups.consumer.records import Assignment, CurrentAssignment, MemberState, OwnedPartitions
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode, KafkaError

Reported: TypeAlias = Mapping[Uuid, Collection[int]]
"""What a heartbeat says the member owns."""


class Goal(Struct, frozen=True, kw_only=True):
    """Where a member is to go, and what it may take."""

    epoch: int
    target: Assignment
    is_subscribed: Callable[[Uuid], bool]
    """Whether the member subscribes to the topic now; a target may be older than that."""
    is_taken: Callable[[Uuid, int], bool]
    """Whether some member, this one included, holds the partition."""


def reconcile(
    current: CurrentAssignment, goal: Goal, reported: Reported | None, *, subscription_changed: bool
) -> CurrentAssignment:
    """The member's next state, the same one where there is nothing to do.

    ``reported is None``: the heartbeat does not say. Raises FENCED_MEMBER_EPOCH for a state of a later release.
    """
    match current.state:
        case MemberState.STABLE:
            if current.epoch != goal.epoch:
                return _advance(current, goal, reported, current.epoch)
        case MemberState.UNREVOKED_PARTITIONS:
            if not _still_owns(current.revoking, reported):
                return _advance(current, goal, reported, current.epoch)
        case MemberState.UNRELEASED_PARTITIONS:
            return _advance(current, goal, reported, current.epoch)
        case MemberState.UNKNOWN:
            if reported is None or reported:
                raise KafkaError(
                    ErrorCode.FENCED_MEMBER_EPOCH,
                    "The consumer group member is in a unknown state."
                    " The member must abandon all its partitions and rejoin.",
                )
            return _advance(current, goal, reported, goal.epoch)
    return _drop_unsubscribed(current, goal, reported) if subscription_changed else current


def _advance(
    current: CurrentAssignment, goal: Goal, reported: Reported | None, revoking_epoch: int
) -> CurrentAssignment:
    """The next step towards the target. Who has partitions to give up stays in ``revoking_epoch`` until it has."""
    assigned: dict[Uuid, Mapping[int, int]] = {}
    revoking: dict[Uuid, Mapping[int, int]] = {}
    gained: dict[Uuid, list[int]] = {}
    is_waiting = False
    for topic_id in dict.fromkeys((*goal.target, *current.assigned)):
        wanted = goal.target.get(topic_id, ()) if goal.is_subscribed(topic_id) else ()
        held = current.assigned.get(topic_id, {})
        if len(held) == len(wanted) and all(partition in held for partition in wanted):
            if held:
                assigned[topic_id] = held
            continue
        kept = {partition: held[partition] for partition in wanted if partition in held}
        given_up = {partition: epoch for partition, epoch in held.items() if partition not in kept}
        # What the member itself has just revoked is entered under its name, and free for it.
        own = current.revoking.get(topic_id, {})
        missing = [partition for partition in wanted if partition not in kept]
        free = [partition for partition in missing if partition in own or not goal.is_taken(topic_id, partition)]
        is_waiting = is_waiting or len(free) < len(missing)
        if kept:
            assigned[topic_id] = kept
        if given_up:
            revoking[topic_id] = given_up
        if free:
            gained[topic_id] = free
    if revoking and _still_owns(revoking, reported):
        return _step(current, revoking_epoch, MemberState.UNREVOKED_PARTITIONS, assigned, revoking)
    for topic_id, partitions in gained.items():
        assigned[topic_id] = {**assigned.get(topic_id, {}), **dict.fromkeys(partitions, goal.epoch)}
    state = MemberState.UNRELEASED_PARTITIONS if is_waiting else MemberState.STABLE
    return _step(current, goal.epoch, state, assigned, {})


def _drop_unsubscribed(current: CurrentAssignment, goal: Goal, reported: Reported | None) -> CurrentAssignment:
    """Have the member give up topics it no longer subscribes to, without waiting for a new target."""
    dropped = {topic_id: held for topic_id, held in current.assigned.items() if not goal.is_subscribed(topic_id)}
    if not dropped:
        return current
    assigned = {topic_id: held for topic_id, held in current.assigned.items() if topic_id not in dropped}
    revoking = dict(current.revoking)
    for topic_id, held in dropped.items():
        revoking[topic_id] = {**revoking.get(topic_id, {}), **held}
    if _still_owns(revoking, reported):
        return _step(current, current.epoch, MemberState.UNREVOKED_PARTITIONS, assigned, revoking)
    return _step(current, current.epoch, current.state, assigned, current.revoking)


def _step(
    current: CurrentAssignment,
    epoch: int,
    state: MemberState,
    assigned: OwnedPartitions,
    revoking: OwnedPartitions,
) -> CurrentAssignment:
    return CurrentAssignment(
        epoch=epoch, previous_epoch=current.epoch, state=state, assigned=assigned, revoking=revoking
    )


def _still_owns(revoking: OwnedPartitions, reported: Reported | None) -> bool:
    if reported is None:
        return True
    return any(
        partition in revoking.get(topic_id, ()) for topic_id, partitions in reported.items() for partition in partitions
    )

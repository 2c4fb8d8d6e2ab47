"""How a classic group goes from one generation to the next: prepare, wait for joins, hand out, wait for syncs.

One ``Rebalance`` serves all groups of a shard. Its methods work on soft state and on the ``Turn`` of the command that
led here: parked requests are answered, and records asked for, through it.
"""

from enum import Enum
from typing import NamedTuple

from ottla.groups.classic.group import ClassicGroup, ClassicMember, ClassicState
from ottla.groups.commands import JoinResult, SyncResult
from ottla.groups.deadlines import Deadlines
from ottla.groups.group import Turn
from ottla.groups.settings import GroupSettings
from ottla.wire.errors import ErrorCode


class Purpose(Enum):
    """What a deadline of a shard is for: a member's session, a group's join or sync phase, the expiry of offsets.

    Of consumer groups: a member's session, the revocation of its partitions, the join and sync of a member that speaks
    the classic protocol, the next slice of topics for the group's regular expressions.
    """

    SESSION = "session"
    JOIN = "join"
    SYNC = "sync"
    EXPIRY = "expiry"
    CONSUMER_SESSION = "consumer session"
    CONSUMER_REVOCATION = "consumer revocation"
    CONSUMER_JOIN = "consumer join"
    CONSUMER_SYNC = "consumer sync"
    CONSUMER_REGEX = "consumer regex"


class DeadlineKey(NamedTuple):
    """One deadline of a shard."""

    purpose: Purpose
    group_id: str = ""
    member_id: str = ""


class Rebalance:
    """The rebalance protocol of classic groups."""

    __slots__ = ("_deadlines", "_settings")

    def __init__(self, settings: GroupSettings, deadlines: Deadlines[DeadlineKey]) -> None:
        self._settings = settings
        self._deadlines = deadlines

    def reconfigure(self, settings: GroupSettings) -> None:
        self._settings = settings

    def prepare_or_complete(self, group: ClassicGroup, turn: Turn) -> None:
        """A member came, changed or went: start a rebalance, or see whether the running one is done."""
        if group.can_rebalance:
            self.prepare(group, turn)
        else:
            self.complete_if_all_joined(group, turn)

    def prepare(self, group: ClassicGroup, turn: Turn) -> None:
        """Start a rebalance: everybody has to join again. The first one of a group waits for more members."""
        if group.state is ClassicState.COMPLETING_REBALANCE:
            self.reset_assignments(group, ErrorCode.REBALANCE_IN_PROGRESS, turn)
        group.pending_sync.clear()
        self._deadlines.cancel(DeadlineKey(Purpose.SYNC, group.group_id))
        initial = group.state is ClassicState.EMPTY
        group.move_to(ClassicState.PREPARING_REBALANCE, turn.now_ms)
        if initial:
            delay_ms = self._settings.initial_rebalance_delay_ms
            group.initial_delay_left_ms = max(group.rebalance_timeout_ms - delay_ms, 0)
            self._deadlines.schedule(DeadlineKey(Purpose.JOIN, group.group_id), turn.now_ms + delay_ms)
        elif group.has_all_joined:
            self.complete_join(group, turn)
        else:
            self._await_joins(group, turn)

    def complete_if_all_joined(self, group: ClassicGroup, turn: Turn) -> None:
        """End the join phase early; the first rebalance of a group always waits for its delay."""
        if (
            group.state is ClassicState.PREPARING_REBALANCE
            and group.previous_state is not ClassicState.EMPTY
            and group.has_all_joined
        ):
            self.complete_join(group, turn)

    def on_join_deadline(self, group: ClassicGroup, turn: Turn) -> None:
        """The join phase ran out of time; the first one is extended while members keep arriving."""
        if group.state is not ClassicState.PREPARING_REBALANCE:
            return
        if group.previous_state is ClassicState.EMPTY and group.new_member_added and group.initial_delay_left_ms > 0:
            group.new_member_added = False
            delay_ms = min(self._settings.initial_rebalance_delay_ms, group.initial_delay_left_ms)
            group.initial_delay_left_ms -= delay_ms
            self._deadlines.schedule(DeadlineKey(Purpose.JOIN, group.group_id), turn.now_ms + delay_ms)
        else:
            self.complete_join(group, turn)

    def complete_join(self, group: ClassicGroup, turn: Turn) -> None:
        """End the join phase: dynamic members that did not come back are out, the rest form the next generation."""
        self._deadlines.cancel(DeadlineKey(Purpose.JOIN, group.group_id))
        group.new_member_added = False
        for member in group.not_rejoined():
            if member.group_instance_id is None:
                group.remove(member.member_id)
                self.end_session(group, member.member_id)
        if group.members and not group.elect_joined_leader():
            # Only absent static members are left: their sessions decide.
            self._await_joins(group, turn)
            return
        group.next_generation(turn.now_ms)
        if group.state is ClassicState.EMPTY:
            turn.write(group.to_record({}))
            return
        for member in group.members.values():
            token = group.take_join(member)
            if token is not None:
                turn.reply(token, generation_result(group, member, to_leader=True))
            self.extend_session(group, member, turn.now_ms)
            member.is_new = False
            group.pending_sync[member.member_id] = None
        self._deadlines.schedule(DeadlineKey(Purpose.SYNC, group.group_id), turn.now_ms + group.rebalance_timeout_ms)

    def on_sync_deadline(self, group: ClassicGroup, turn: Turn) -> None:
        """Members that took their generation but never asked for their assignment are out."""
        if group.state in (ClassicState.COMPLETING_REBALANCE, ClassicState.STABLE) and group.pending_sync:
            for member_id in list(group.pending_sync):
                group.remove(member_id)
                self.end_session(group, member_id)
            self.prepare(group, turn)

    def record_sync(self, group: ClassicGroup, member_id: str) -> None:
        """A member asked for its assignment."""
        group.pending_sync.pop(member_id, None)
        if not group.pending_sync:
            self._deadlines.cancel(DeadlineKey(Purpose.SYNC, group.group_id))

    def reset_assignments(self, group: ClassicGroup, error: ErrorCode, turn: Turn) -> None:
        """Take the assignments back and answer every parked sync with ``error``."""
        for member in group.members.values():
            member.assignment = b""
        self.answer_syncs(group, SyncResult(error=error), turn)

    def answer_syncs(self, group: ClassicGroup, result: SyncResult | dict[str, SyncResult], turn: Turn) -> None:
        """Answer the parked syncs, with one result or one a member; their sessions start anew."""
        for member in group.members.values():
            token, member.sync_token = member.sync_token, None
            if token is not None:
                turn.reply(token, result[member.member_id] if isinstance(result, dict) else result)
                self.extend_session(group, member, turn.now_ms)

    def extend_session(
        self, group: ClassicGroup, member: ClassicMember, now_ms: int, timeout_ms: int | None = None
    ) -> None:
        timeout_ms = member.session_timeout_ms if timeout_ms is None else timeout_ms
        self._deadlines.schedule(DeadlineKey(Purpose.SESSION, group.group_id, member.member_id), now_ms + timeout_ms)

    def await_return(self, group: ClassicGroup, member_id: str, at_ms: int) -> None:
        """Keep a handed-out member id until ``at_ms``; its client should join with it by then."""
        self._deadlines.schedule(DeadlineKey(Purpose.SESSION, group.group_id, member_id), at_ms)

    def end_session(self, group: ClassicGroup, member_id: str) -> None:
        self._deadlines.cancel(DeadlineKey(Purpose.SESSION, group.group_id, member_id))

    def forget(self, group: ClassicGroup) -> None:
        """Drop every deadline of a group that is gone."""
        self._deadlines.cancel(DeadlineKey(Purpose.JOIN, group.group_id))
        self._deadlines.cancel(DeadlineKey(Purpose.SYNC, group.group_id))
        for member_id in (*group.members, *group.pending_join):
            self.end_session(group, member_id)

    def _await_joins(self, group: ClassicGroup, turn: Turn) -> None:
        self._deadlines.schedule(DeadlineKey(Purpose.JOIN, group.group_id), turn.now_ms + group.rebalance_timeout_ms)


def generation_result(group: ClassicGroup, member: ClassicMember, *, to_leader: bool) -> JoinResult:
    """The current generation as ``member`` is told it; only the leader, where asked for, gets all members."""
    leads = to_leader and group.leader_id == member.member_id
    return JoinResult(
        member_id=member.member_id,
        generation=group.generation,
        protocol_type=group.protocol_type,
        protocol=group.protocol,
        leader=group.leader_id or "",
        members=group.joined_members() if leads else (),
    )

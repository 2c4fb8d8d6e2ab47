"""The requests of classic members: join, sync, heartbeat, leave; and what happens when one falls silent.

Joins and syncs are parked under their token and answered by the turn that completes their phase. Records: the empty
group when a group first appears, the whole group when its leader hands in the assignment, when a static member gets a
new id in a stable group, and when the last member is gone. ``fold`` turns the written assignment into the Stable
state, so a group is never Stable on an assignment that is not in the log.
"""

from random import Random

from ottla.groups.classic.group import ClassicGroup, ClassicMember, ClassicState
from ottla.groups.classic.rebalance import DeadlineKey, Rebalance, generation_result
from ottla.groups.commands import (
    UNKNOWN_MEMBER_ID,
    Heartbeat,
    Join,
    JoinResult,
    Leave,
    LeaveResult,
    LeavingMember,
    Sync,
    SyncResult,
)
from ottla.groups.deadlines import Deadlines
from ottla.groups.group import Turn
from ottla.groups.records import ClassicGroupRecord, StoredGroup
from ottla.groups.settings import GroupSettings
from ottla.wire.errors import ErrorCode, KafkaError


class Membership:
    """The classic groups of one shard."""

    __slots__ = ("_groups", "_random", "_rebalance", "_replaced", "_settings")

    def __init__(
        self,
        *,
        groups: dict[str, ClassicGroup],
        settings: GroupSettings,
        deadlines: Deadlines[DeadlineKey],
        random: Random,
    ) -> None:
        self._groups = groups
        self._settings = settings
        self._random = random
        self._rebalance = Rebalance(settings, deadlines)
        self._replaced: dict[str, tuple[str, ClassicMember]] = {}

    def reconfigure(self, settings: GroupSettings) -> None:
        self._settings = settings
        self._rebalance.reconfigure(settings)

    # -- join

    def join(self, command: Join, token: int, turn: Turn) -> None:
        """Always answers by ``turn.reply(token, JoinResult)``, at once or in a later turn."""
        error = self.join_error(command)
        if error is not None:
            turn.reply(token, JoinResult(error=error, member_id=command.member_id))
            return
        is_unknown = command.member_id == UNKNOWN_MEMBER_ID
        group = self._groups.get(command.group_id)
        if group is None:
            if not is_unknown:
                turn.reply(token, JoinResult(error=ErrorCode.UNKNOWN_MEMBER_ID, member_id=command.member_id))
                return
            group = self._groups[command.group_id] = ClassicGroup(command.group_id, turn.now_ms)
        if not self._has_room(group, command.member_id):
            group.remove(command.member_id)
            self._rebalance.end_session(group, command.member_id)
            turn.reply(token, JoinResult(error=ErrorCode.GROUP_MAX_SIZE_REACHED))
        elif not group.supports(command.protocol_type, command.protocols):
            turn.reply(token, JoinResult(error=ErrorCode.INCONSISTENT_GROUP_PROTOCOL, member_id=command.member_id))
        elif is_unknown:
            self._join_new(group, command, token, turn)
        elif command.member_id in group.pending_join and command.group_instance_id is None:
            self._add(group, command, command.member_id, token, turn)
        else:
            self._rejoin(group, command, token, turn)
        if not group.is_stored and not turn.records:
            turn.write(ClassicGroupRecord(group.group_id, _new_group(group)))

    @property
    def rebalance(self) -> Rebalance:
        """For groups that come from another protocol."""
        return self._rebalance

    def join_error(self, command: Join) -> ErrorCode | None:
        """What is wrong with a join whatever its group."""
        if not command.group_id:
            return ErrorCode.INVALID_GROUP_ID
        settings = self._settings
        if not settings.min_session_timeout_ms <= command.session_timeout_ms <= settings.max_session_timeout_ms:
            return ErrorCode.INVALID_SESSION_TIMEOUT
        return None

    def _has_room(self, group: ClassicGroup, member_id: str) -> bool:
        """During the join phase the parked joins count, so that an oversized group sheds its slowest members."""
        match group.state:
            case ClassicState.PREPARING_REBALANCE:
                member = group.members.get(member_id)
                is_parked = member is not None and member.join_token is not None
                return is_parked or group.awaiting_join < self._settings.max_size
            case ClassicState.COMPLETING_REBALANCE | ClassicState.STABLE:
                return member_id in group.members or len(group.members) < self._settings.max_size
            case _:
                return True

    def _join_new(self, group: ClassicGroup, command: Join, token: int, turn: Turn) -> None:
        instance_id = command.group_instance_id
        member_id = self._new_member_id(instance_id if instance_id is not None else command.client_id)
        if instance_id is not None and instance_id in group.static_members:
            self._replace_static(group, command, member_id, token, turn)
        elif instance_id is None and command.requires_known_member_id:
            # The client comes back with the id: a join whose answer gets lost leaves no dead member behind.
            group.pending_join[member_id] = None
            self._rebalance.await_return(group, member_id, turn.now_ms + command.session_timeout_ms)
            turn.reply(token, JoinResult(error=ErrorCode.MEMBER_ID_REQUIRED, member_id=member_id))
        else:
            self._add(group, command, member_id, token, turn)

    def _add(self, group: ClassicGroup, command: Join, member_id: str, token: int, turn: Turn) -> None:
        member = ClassicMember(
            member_id=member_id,
            group_instance_id=command.group_instance_id,
            client_id=command.client_id,
            client_host=command.client_host,
            rebalance_timeout_ms=command.rebalance_timeout_ms,
            session_timeout_ms=command.session_timeout_ms,
            protocols=command.protocols,
        )
        member.is_new = True
        member.join_token = token
        if group.state is ClassicState.PREPARING_REBALANCE and group.previous_state is ClassicState.EMPTY:
            group.new_member_added = True
        group.add(member, command.protocol_type)
        # Its client cannot send heartbeats yet; a join that stays parked this long was given up.
        self._rebalance.extend_session(group, member, turn.now_ms, self._settings.new_member_join_timeout_ms)
        self._rebalance.prepare_or_complete(group, turn)

    def _rejoin(self, group: ClassicGroup, command: Join, token: int, turn: Turn) -> None:
        try:
            group.check_member(command.member_id, command.group_instance_id)
        except KafkaError as error:
            turn.reply(token, JoinResult(error=error.code, member_id=command.member_id))
            return
        member = group.members[command.member_id]
        leads = group.leader_id == command.member_id
        is_same = member.protocols == command.protocols
        if group.state is ClassicState.COMPLETING_REBALANCE and is_same:
            # It missed the answer to its join; the generation stands.
            turn.reply(token, generation_result(group, member, to_leader=True))
        elif group.state is ClassicState.STABLE and is_same and not leads:
            turn.reply(token, generation_result(group, member, to_leader=False))
        else:
            # A leader that joins a stable group again wants a rebalance: it saw something its metadata does not show.
            self._park_again(group, member, command, token, turn)
            self._rebalance.prepare_or_complete(group, turn)

    def _park_again(self, group: ClassicGroup, member: ClassicMember, command: Join, token: int, turn: Turn) -> None:
        """Park this join; an older one of the same member, still parked, is told to come back."""
        older = group.take_join(member)
        if older is not None:
            turn.reply(older, JoinResult(error=ErrorCode.REBALANCE_IN_PROGRESS, member_id=member.member_id))
        group.update(member, command.protocols, command.rebalance_timeout_ms, command.session_timeout_ms)
        group.park_join(member, token)

    def _new_member_id(self, prefix: str) -> str:
        raw = bytearray(self._random.randbytes(16))
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        digits = raw.hex()
        return f"{prefix}-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    # -- static members

    def _replace_static(self, group: ClassicGroup, command: Join, member_id: str, token: int, turn: Turn) -> None:
        """An instance came back without its member id: it takes its old place, and the old id is fenced."""
        instance_id = command.group_instance_id
        assert instance_id is not None, "only static members are replaced"
        old = group.members[group.static_members[instance_id]]
        old_leader = group.leader_id or ""
        self._fence(group, old, turn)
        member = group.rename_static(instance_id, member_id)
        self._rebalance.end_session(group, old.member_id)
        group.update(member, command.protocols, command.rebalance_timeout_ms, command.session_timeout_ms)
        self._rebalance.extend_session(group, member, turn.now_ms)
        if group.state is ClassicState.STABLE and group.select_protocol() == group.protocol:
            self._replaced[group.group_id] = (member_id, old)
            turn.write(group.to_record({known.member_id: known.assignment for known in group.members.values()}))
            turn.reply(token, _replacement_result(group, member, command, old_leader))
            return
        group.park_join(member, token)
        if group.state is ClassicState.COMPLETING_REBALANCE:
            # The leader may be assigning to the old id this moment: start over.
            self._rebalance.prepare(group, turn)
        else:
            self._rebalance.prepare_or_complete(group, turn)

    def _fence(self, group: ClassicGroup, member: ClassicMember, turn: Turn) -> None:
        token = group.take_join(member)
        if token is not None:
            turn.reply(token, JoinResult(error=ErrorCode.FENCED_INSTANCE_ID, member_id=member.member_id))
        token, member.sync_token = member.sync_token, None
        if token is not None:
            turn.reply(token, SyncResult(error=ErrorCode.FENCED_INSTANCE_ID))

    # -- sync

    def sync(self, command: Sync, token: int, turn: Turn) -> None:
        """Always answers by ``turn.reply(token, SyncResult)``, at once or in a later turn."""
        group = self._groups.get(command.group_id)
        error = _sync_error(group, command)
        if error is not None:
            turn.reply(token, SyncResult(error=error))
            return
        assert group is not None, "checked with the command"
        member = group.members[command.member_id]
        self._rebalance.record_sync(group, member.member_id)
        if group.state is ClassicState.STABLE:
            turn.reply(token, _assignment_result(group, member.assignment))
            return
        older, member.sync_token = member.sync_token, token
        if older is not None:
            turn.reply(older, SyncResult(error=ErrorCode.REBALANCE_IN_PROGRESS))
        if group.leader_id == member.member_id:
            given = dict(command.assignments)
            assignments = {member_id: given.get(member_id, b"") for member_id in group.members}
            turn.write(group.to_record(assignments))
            results = {member_id: _assignment_result(group, given) for member_id, given in assignments.items()}
            self._rebalance.answer_syncs(group, results, turn)

    # -- heartbeat and leave

    def heartbeat(self, command: Heartbeat, turn: Turn) -> ErrorCode:
        group = self._groups.get(command.group_id)
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        try:
            group.check_member(command.member_id, command.group_instance_id)
        except KafkaError as error:
            return error.code
        if command.generation != group.generation:
            return ErrorCode.ILLEGAL_GENERATION
        self._rebalance.extend_session(group, group.members[command.member_id], turn.now_ms)
        if group.state is ClassicState.PREPARING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def record_activity(self, group: ClassicGroup, member_id: str, now_ms: int) -> None:
        """A commit is as good as a heartbeat while the group is stable or preparing."""
        member = group.members.get(member_id)
        if member is not None and group.state in (ClassicState.STABLE, ClassicState.PREPARING_REBALANCE):
            self._rebalance.extend_session(group, member, now_ms)

    def leave(self, command: Leave, turn: Turn) -> LeaveResult:
        group = self._groups.get(command.group_id)
        if group is None:
            unknown = ErrorCode.UNKNOWN_MEMBER_ID
            return LeaveResult(members=tuple((leaving, unknown) for leaving in command.members))
        results = tuple((leaving, self._leave(group, leaving, turn)) for leaving in command.members)
        if any(error is ErrorCode.NONE for _, error in results):
            if group.state in (ClassicState.STABLE, ClassicState.COMPLETING_REBALANCE):
                self._rebalance.prepare_or_complete(group, turn)
            else:
                self._rebalance.complete_if_all_joined(group, turn)
        return LeaveResult(members=results)

    def _leave(self, group: ClassicGroup, leaving: LeavingMember, turn: Turn) -> ErrorCode:
        """One member goes. An administrator may name a static member by its instance id alone."""
        member_id = leaving.member_id
        if member_id == UNKNOWN_MEMBER_ID:
            owner = group.static_members.get(leaving.group_instance_id or "")
            if owner is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            member_id = owner
        elif member_id in group.pending_join:
            group.remove(member_id)
            self._rebalance.end_session(group, member_id)
            return ErrorCode.NONE
        else:
            try:
                group.check_member(member_id, leaving.group_instance_id)
            except KafkaError as error:
                return error.code
        self._remove(group, group.members[member_id], turn)
        return ErrorCode.NONE

    # -- deadlines

    def on_session_deadline(self, group_id: str, member_id: str, turn: Turn) -> None:
        group = self._groups.get(group_id)
        if group is None:
            return
        if member_id in group.pending_join:
            group.remove(member_id)
        else:
            member = group.members.get(member_id)
            if member is None or member.is_excused:
                return
            self._remove(group, member, turn)
            if group.state is not ClassicState.PREPARING_REBALANCE:
                self._rebalance.prepare_or_complete(group, turn)
                return
        if group.state is ClassicState.PREPARING_REBALANCE and group.has_all_joined:
            self._rebalance.complete_join(group, turn)

    def on_join_deadline(self, group_id: str, turn: Turn) -> None:
        group = self._groups.get(group_id)
        if group is not None:
            self._rebalance.on_join_deadline(group, turn)

    def on_sync_deadline(self, group_id: str, turn: Turn) -> None:
        group = self._groups.get(group_id)
        if group is not None:
            self._rebalance.on_sync_deadline(group, turn)

    def _remove(self, group: ClassicGroup, member: ClassicMember, turn: Turn) -> None:
        self._rebalance.end_session(group, member.member_id)
        token = group.take_join(member)
        if token is not None:
            turn.reply(token, JoinResult(error=ErrorCode.UNKNOWN_MEMBER_ID))
        if member.sync_token is not None:
            turn.reply(member.sync_token, SyncResult(error=ErrorCode.UNKNOWN_MEMBER_ID))
        group.remove(member.member_id)

    # -- records

    def fold(self, record: ClassicGroupRecord, *, live: bool) -> None:
        """Follow one written record. ``live``: it was decided here, and the soft state is ahead of it."""
        group = self._groups.get(record.group_id)
        stored = record.value
        if stored is None:
            if group is not None:
                self._rebalance.forget(group)
                del self._groups[record.group_id]
        elif not live or group is None:
            self._groups[record.group_id] = ClassicGroup.from_stored(record.group_id, stored)
        else:
            group.is_stored = True
            self._replaced.pop(record.group_id, None)
            if group.state is ClassicState.COMPLETING_REBALANCE and stored.members:
                for written in stored.members:
                    group.members[written.member_id].assignment = written.assignment
                group.move_to(ClassicState.STABLE, stored.state_timestamp)

    def on_loaded(self, turn: Turn) -> None:
        """Every loaded member gets a fresh session; a group that is too large now rebalances to shed members."""
        for group in list(self._groups.values()):
            for member in group.members.values():
                self._rebalance.extend_session(group, member, turn.now_ms)
            if len(group.members) > self._settings.max_size:
                self._rebalance.prepare(group, turn)

    def revert(self, record: ClassicGroupRecord, turn: Turn) -> None:
        """A record could not be written: take back what the soft state did in advance."""
        group = self._groups.get(record.group_id)
        if group is None or record.value is None:
            return
        if not group.is_stored:
            self._rebalance.forget(group)
            del self._groups[record.group_id]
        elif group.state is ClassicState.COMPLETING_REBALANCE:
            self._rebalance.prepare(group, turn)
        else:
            replaced = self._replaced.pop(record.group_id, None)
            if replaced is not None:
                self._restore_static(group, *replaced, turn)

    def _restore_static(self, group: ClassicGroup, member_id: str, old: ClassicMember, turn: Turn) -> None:
        assert old.group_instance_id is not None, "only static members are replaced"
        self._rebalance.end_session(group, member_id)
        group.update(group.members[member_id], old.protocols, old.rebalance_timeout_ms, old.session_timeout_ms)
        restored = group.rename_static(old.group_instance_id, old.member_id)
        self._rebalance.extend_session(group, restored, turn.now_ms)


def _sync_error(group: ClassicGroup | None, command: Sync) -> ErrorCode | None:
    if not command.group_id:
        return ErrorCode.INVALID_GROUP_ID
    if group is None or group.state is ClassicState.EMPTY:
        return ErrorCode.UNKNOWN_MEMBER_ID
    try:
        group.check_member(command.member_id, command.group_instance_id)
    except KafkaError as error:
        return error.code
    if command.generation != group.generation:
        return ErrorCode.ILLEGAL_GENERATION
    for told, known in ((command.protocol_type, group.protocol_type), (command.protocol, group.protocol)):
        if told is not None and known is not None and told != known:
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    if group.state is ClassicState.PREPARING_REBALANCE:
        return ErrorCode.REBALANCE_IN_PROGRESS
    return None


def _assignment_result(group: ClassicGroup, assignment: bytes) -> SyncResult:
    return SyncResult(protocol_type=group.protocol_type, protocol=group.protocol, assignment=assignment)


def _replacement_result(group: ClassicGroup, member: ClassicMember, command: Join, old_leader: str) -> JoinResult:
    """A leader that comes back must not assign again: it is told so, or, too old to understand, shown its old id."""
    leads = group.leader_id == member.member_id
    can_skip = command.supports_skipping_assignment
    return JoinResult(
        member_id=member.member_id,
        generation=group.generation,
        protocol_type=group.protocol_type,
        protocol=group.protocol,
        leader=(group.leader_id or "") if can_skip else old_leader,
        skip_assignment=can_skip and leads,
        members=group.joined_members() if can_skip and leads else (),
    )


def _new_group(group: ClassicGroup) -> StoredGroup:
    timestamp = -1 if group.state_timestamp is None else group.state_timestamp
    return StoredGroup(protocol_type="", generation=0, protocol=None, leader=None, state_timestamp=timestamp)

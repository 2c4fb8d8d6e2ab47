"""The replicated machine of one ``__consumer_offsets`` partition: its groups, their offsets, their deadlines.

Commands decide and hand out records and answers; ``apply`` folds what was written. Membership of classic groups is soft
state and moves while deciding; ``on_append_failed`` takes such a step back when its record could not be written.
Replaying the log through ``apply`` and then ``on_loaded`` gives the same offsets and stored groups.
"""

from collections.abc import Iterable
from random import Random
from typing import TypeAlias, assert_never

from ottla.groups.classic.group import ClassicGroup, ClassicState
from ottla.groups.classic.membership import Membership
from ottla.groups.classic.rebalance import DeadlineKey, Purpose
from ottla.groups.commands import (
    CommitOffsets,
    CommitResult,
    ConsumerHeartbeat,
    DeleteOffsets,
    DeleteOffsetsResult,
    DescribedConsumerGroup,
    DescribedGroup,
    DescribedMember,
    FetchOffsets,
    FetchResult,
    Heartbeat,
    Join,
    JoinResult,
    Leave,
    LeaveResult,
    ListedGroup,
    OffsetToCommit,
    Sync,
)
from ottla.groups.consumer.classic_members import ClassicMembers
from ottla.groups.consumer.context import ConsumerContext
from ottla.groups.consumer.describe import describe_group
from ottla.groups.consumer.group import ConsumerGroup
from ottla.groups.consumer.membership import ConsumerMembership
from ottla.groups.consumer.migration import Migration
from ottla.groups.consumer.rebalance import ConsumerRebalance
from ottla.groups.consumer.regexes import RegexResolution
from ottla.groups.consumer.topics import Topics
from ottla.groups.deadlines import Deadlines
from ottla.groups.foreign import ForeignGroup
from ottla.groups.group import Group, PartitionCheck, Turn
from ottla.groups.offsets import OffsetTable
from ottla.groups.records import (
    CONSUMER_GROUP_RECORDS,
    NO_EXPIRY,
    ClassicGroupRecord,
    CommittedOffset,
    ForeignGroupRecord,
    GroupKind,
    OffsetKey,
    OffsetRecord,
    ShardRecord,
    TransactionMarker,
)
from ottla.groups.settings import GroupSettings
from ottla.model import Decision, Uuid
from ottla.wire.errors import ErrorCode, KafkaError

ShardDecision: TypeAlias = Decision[ShardRecord, object]


class GroupShard:
    """Everything one coordinator partition knows. Not usable before ``on_loaded``."""

    __slots__ = (
        "_classic",
        "_classic_members",
        "_consumer",
        "_consumers",
        "_context",
        "_deadlines",
        "_foreign",
        "_is_live",
        "_membership",
        "_offsets",
        "_settings",
    )

    def __init__(self, *, settings: GroupSettings, random: Random) -> None:
        self._settings = settings
        self._deadlines: Deadlines[DeadlineKey] = Deadlines()
        self._classic: dict[str, ClassicGroup] = {}
        self._foreign: dict[str, ForeignGroup] = {}
        self._offsets = OffsetTable()
        self._membership = Membership(groups=self._classic, settings=settings, deadlines=self._deadlines, random=random)
        self._consumer: dict[str, ConsumerGroup] = {}
        self._context = ConsumerContext(settings=settings, deadlines=self._deadlines, random=random)
        self._consumers, self._classic_members = self._build_consumers()
        self._is_live = False

    def _build_consumers(self) -> tuple[ConsumerMembership, ClassicMembers]:
        context = self._context
        regexes = RegexResolution(context)
        rebalance = ConsumerRebalance(context, regexes)
        migration = Migration(
            context=context,
            consumer=self._consumer,
            classic=self._classic,
            foreign=self._foreign.keys(),
            rebalance=self._membership.rebalance,
        )
        consumers = ConsumerMembership(
            groups=self._consumer, context=context, rebalance=rebalance, regexes=regexes, migration=migration
        )
        members = ClassicMembers(context=context, rebalance=rebalance, migration=migration, membership=consumers)
        return consumers, members

    def reconfigure(self, settings: GroupSettings) -> None:
        """Obey other limits and times from the next command on."""
        self._settings = settings
        self._membership.reconfigure(settings)
        self._context.settings = settings

    def see_topics(self, topics: Topics, changed: Iterable[str]) -> None:
        """Go by these topics from the next command on; ``changed`` names those that are new, different or gone."""
        self._context.topics = topics
        self._consumers.on_topics_changed(changed)

    # -- membership commands

    def join(self, command: Join, now_ms: int, token: int) -> ShardDecision:
        """Parked: answered with a ``JoinResult`` under ``token``, now or when the join phase is over."""
        turn = Turn(now_ms)
        consumer = self._consumer.get(command.group_id)
        other = self._foreign.get(command.group_id) or consumer
        if other is consumer and consumer is not None and not consumer.is_empty:
            return self._join_consumer_group(consumer, command, turn, token)
        if other is not None and (not other.is_empty or other.kind is GroupKind.SHARE):
            turn.reply(token, JoinResult(error=ErrorCode.INCONSISTENT_GROUP_PROTOCOL))
        else:
            self._membership.join(command, token, turn)
            if other is not None and command.group_id in self._classic:
                # An empty group of another kind makes room: a classic client has taken over its id.
                turn.records[:0] = other.tombstones()
        return _decision(turn)

    def _join_consumer_group(self, group: ConsumerGroup, command: Join, turn: Turn, token: int) -> ShardDecision:
        error = self._membership.join_error(command)
        if error is not None:
            turn.reply(token, JoinResult(error=error, member_id=command.member_id))
            return _decision(turn)
        try:
            self._classic_members.join(group, command, token, turn)
        except KafkaError as refused:
            turn = Turn(turn.now_ms)
            turn.reply(token, JoinResult(error=refused.code))
        return _decision(turn)

    def sync(self, command: Sync, now_ms: int, token: int) -> ShardDecision:
        """Parked: answered with a ``SyncResult`` under ``token``."""
        turn = Turn(now_ms)
        consumer = self._consumer.get(command.group_id)
        if consumer is None:
            self._membership.sync(command, token, turn)
        else:
            self._classic_members.sync(consumer, command, token, turn)
        return _decision(turn)

    def heartbeat(self, command: Heartbeat, now_ms: int) -> ShardDecision:
        """Answers with an ``ErrorCode``."""
        if not command.group_id:
            return Decision(response=ErrorCode.INVALID_GROUP_ID)
        turn = Turn(now_ms)
        consumer = self._consumer.get(command.group_id)
        if consumer is not None:
            return _decision(turn, self._classic_members.heartbeat(consumer, command, turn))
        return _decision(turn, self._membership.heartbeat(command, turn))

    def consumer_heartbeat(self, command: ConsumerHeartbeat, now_ms: int) -> ShardDecision:
        """Answers with a ``ConsumerHeartbeatResult``; raises ``KafkaError`` to refuse."""
        turn = Turn(now_ms)
        return _decision(turn, self._consumers.heartbeat(command, turn))

    def leave(self, command: Leave, now_ms: int) -> ShardDecision:
        """Answers with a ``LeaveResult``."""
        if not command.group_id:
            return Decision(response=LeaveResult(error=ErrorCode.INVALID_GROUP_ID))
        turn = Turn(now_ms)
        consumer = self._consumer.get(command.group_id)
        if consumer is not None:
            return _decision(turn, self._classic_members.leave(consumer, command, turn))
        return _decision(turn, self._membership.leave(command, turn))

    # -- offsets

    def commit_offsets(self, command: CommitOffsets, now_ms: int) -> ShardDecision:
        """Answers with a ``CommitResult``; raises ``KafkaError`` where the whole commit is refused."""
        check = self._check_commit(command)
        classic = self._classic.get(command.group_id)
        if classic is not None:
            self._membership.record_activity(classic, command.member_id, now_ms)
        return self._commit(command, now_ms, check)

    def commit_transactional_offsets(self, command: CommitOffsets, now_ms: int) -> ShardDecision:
        """The same as a part of a transaction; its records are to be written as a batch of that producer.

        Nobody else can have the partitions while the transaction of their reader is open, so a rebalance that is under
        way is no reason to refuse; and only who names a member is held to being one. Transactional clients know
        generations only, and are told of those also where a group has member epochs.
        """
        try:
            return self._commit(command, now_ms, self._check_transactional_commit(command))
        except KafkaError as error:
            if error.code is ErrorCode.STALE_MEMBER_EPOCH:
                raise KafkaError(ErrorCode.ILLEGAL_GENERATION) from error
            raise

    def _check_transactional_commit(self, command: CommitOffsets) -> PartitionCheck | None:
        names_nobody = not command.member_id and command.group_instance_id is None
        if names_nobody and command.generation_or_epoch < 0:
            return None
        group = self._group(command.group_id)
        if not isinstance(group, ClassicGroup):
            return self._check_commit(command)
        group.check_transactional_commit(
            member_id=command.member_id,
            group_instance_id=command.group_instance_id,
            generation=command.generation_or_epoch,
        )
        return None

    def _commit(self, command: CommitOffsets, now_ms: int, check: PartitionCheck | None) -> ShardDecision:
        expire = NO_EXPIRY if command.retention_ms is None else now_ms + command.retention_ms
        records: list[ShardRecord] = []
        topics = []
        for topic, topic_id, offsets in command.topics:
            results = []
            for wanted in offsets:
                error = self._offset_error(wanted)
                results.append((wanted.partition, error))
                if error is ErrorCode.NONE:
                    if check is not None:
                        check(topic, topic_id, wanted.partition)
                    committed = CommittedOffset(
                        wanted.offset, wanted.leader_epoch, wanted.metadata or "", now_ms, expire, topic_id
                    )
                    key = OffsetKey(command.group_id, topic, wanted.partition)
                    records.append(OffsetRecord(key, committed, command.producer_id))
            topics.append((topic, topic_id, tuple(results)))
        return Decision(records=tuple(records), response=CommitResult(topics=tuple(topics)))

    def _check_commit(self, command: CommitOffsets) -> PartitionCheck | None:
        group = self._group(command.group_id)
        if group is None:
            if command.generation_or_epoch >= 0:
                raise KafkaError(command.unknown_group_error)
            return None
        return group.check_commit(
            member_id=command.member_id,
            group_instance_id=command.group_instance_id,
            generation_or_epoch=command.generation_or_epoch,
            knows_epochs=command.knows_epochs,
        )

    def _offset_error(self, wanted: OffsetToCommit) -> ErrorCode:
        too_large = wanted.metadata is not None and len(wanted.metadata) > self._settings.offset_metadata_max_bytes
        return ErrorCode.OFFSET_METADATA_TOO_LARGE if too_large else ErrorCode.NONE

    def fetch_offsets(self, command: FetchOffsets) -> ShardDecision:
        """Answers with a ``FetchResult``; unknown groups have committed nothing."""
        if command.group_id in self._foreign and command.member_id and command.member_epoch >= 0:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        consumer = self._consumer.get(command.group_id)
        if consumer is not None:
            consumer.check_fetch(command.member_id, command.member_epoch)
        result: FetchResult = self._offsets.fetch(command)
        return Decision(response=result)

    def delete_offsets(self, command: DeleteOffsets) -> ShardDecision:
        """Answers with a ``DeleteOffsetsResult``; topics the group still reads are refused one by one."""
        if not command.group_id:
            raise KafkaError(ErrorCode.INVALID_GROUP_ID)
        group = self._existing(command.group_id)
        group.check_offset_delete()
        records: list[ShardRecord] = []
        topics = []
        for topic, partitions in command.topics:
            error = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if group.is_subscribed_to(topic) else ErrorCode.NONE
            topics.append((topic, tuple((partition, error) for partition in partitions)))
            if error is ErrorCode.NONE:
                keys = (OffsetKey(command.group_id, topic, partition) for partition in dict.fromkeys(partitions))
                records += [OffsetRecord(key, None) for key in keys if self._offsets.has_any(key)]
        return Decision(records=tuple(records), response=DeleteOffsetsResult(topics=tuple(topics)))

    def delete_topics(self, topics: Iterable[tuple[str, Uuid]]) -> ShardDecision:
        """Forget what was committed for topics that are gone."""
        records: list[ShardRecord] = []
        for topic, topic_id in topics:
            records += self._offsets.of_deleted_topic(topic, topic_id)
        return Decision(records=tuple(records), response=len(records), atomic=False)

    # -- whole groups

    def describe_groups(self, group_ids: Iterable[str]) -> ShardDecision:
        """Answers with a list of ``DescribedGroup``, in the order asked."""
        return Decision(response=[self._describe(group_id) for group_id in group_ids])

    def list_groups(self, states: frozenset[str], kinds: frozenset[str]) -> ShardDecision:
        """Answers with a list of ``ListedGroup``. Filters are lower case; an empty one lets everything through."""
        return Decision(
            response=[
                ListedGroup(
                    group_id=group.group_id,
                    protocol_type=group.protocol_type_name,
                    state=group.state_name,
                    kind=group.kind.value,
                )
                for group in self._all_groups()
                if (not states or group.state_name.lower() in states) and (not kinds or group.kind.value in kinds)
            ]
        )

    def delete_groups(self, group_ids: Iterable[str]) -> ShardDecision:
        """Answers with a list of (group id, ``ErrorCode``); a deleted group's offsets go with it."""
        records: list[ShardRecord] = []
        results = []
        for group_id in group_ids:
            error = ErrorCode.NONE
            try:
                group = self._existing(group_id)
                group.check_delete()
            except KafkaError as refused:
                error = refused.code
            else:
                records += [OffsetRecord(key, None) for key in self._offsets.keys_of(group_id)]
                records += group.tombstones()
            results.append((group_id, error))
        return Decision(records=tuple(records), response=results, atomic=False)

    def _describe(self, group_id: str) -> DescribedGroup:
        group = self._classic.get(group_id)
        is_other = group_id in self._foreign or group_id in self._consumer
        if group is None or is_other:
            reason = f"Group {group_id} is not a classic group." if is_other else None
            return DescribedGroup(
                group_id=group_id,
                state=ClassicState.DEAD.value,
                error=ErrorCode.GROUP_ID_NOT_FOUND,
                error_message=reason or f"Group {group_id} not found.",
            )
        is_stable = group.state is ClassicState.STABLE
        return DescribedGroup(
            group_id=group_id,
            state=group.state_name,
            protocol_type=group.protocol_type_name,
            protocol=(group.protocol or "") if is_stable else "",
            members=tuple(
                DescribedMember(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    metadata=member.metadata(group.protocol) if is_stable else b"",
                    assignment=member.assignment,
                )
                for member in group.members.values()
            ),
        )

    def describe_consumer_groups(self, group_ids: Iterable[str]) -> ShardDecision:
        """Answers with a list of ``DescribedConsumerGroup``, in the order asked."""
        return Decision(response=[self._describe_consumer_group(group_id) for group_id in group_ids])

    def _describe_consumer_group(self, group_id: str) -> DescribedConsumerGroup:
        group = self._consumer.get(group_id)
        if group is not None:
            return describe_group(group, self._context.topics, self._settings.consumer.assignors[0])
        reason = f"Group {group_id} not found."
        if self._group(group_id) is not None:
            reason = f"Group {group_id} is not a consumer group."
        return DescribedConsumerGroup(group_id=group_id, error=ErrorCode.GROUP_ID_NOT_FOUND, error_message=reason)

    # -- time

    def next_deadline(self) -> int | None:
        return self._deadlines.next()

    def on_deadline(self, now_ms: int) -> ShardDecision:
        """Handle one deadline that has passed; the caller comes again while ``next_deadline()`` lies in the past."""
        turn = Turn(now_ms)
        key = self._deadlines.pop(now_ms)
        if key is None:
            return _decision(turn)
        match key.purpose:
            case Purpose.EXPIRY:
                return self._expire(turn)
            case Purpose.SESSION:
                self._membership.on_session_deadline(key.group_id, key.member_id, turn)
            case Purpose.JOIN:
                self._membership.on_join_deadline(key.group_id, turn)
            case Purpose.SYNC:
                self._membership.on_sync_deadline(key.group_id, turn)
            case (
                Purpose.CONSUMER_SESSION
                | Purpose.CONSUMER_REVOCATION
                | Purpose.CONSUMER_JOIN
                | Purpose.CONSUMER_SYNC
                | Purpose.CONSUMER_REGEX
            ):
                self._consumers.on_deadline(key, turn)
            case _:
                assert_never(key.purpose)
        return _decision(turn)

    def _expire(self, turn: Turn) -> ShardDecision:
        """Remove offsets past their retention, and empty groups that have none left."""
        settings = self._settings
        self._deadlines.schedule(
            DeadlineKey(Purpose.EXPIRY), turn.now_ms + settings.offsets_retention_check_interval_ms
        )
        for group in self._all_groups():
            tombstones, nothing_left = self._offsets.expired(group, turn.now_ms, settings.offsets_retention_ms)
            turn.records += tombstones
            waits = isinstance(group, ClassicGroup) and bool(group.pending_join)
            if nothing_left and group.is_empty and group.kind is not GroupKind.SHARE and not waits:
                turn.records += group.tombstones()
        return Decision(records=tuple(turn.records), atomic=False)

    # -- the log

    def apply(self, record: ShardRecord, offset: int) -> None:
        match record:
            case OffsetRecord():
                self._offsets.fold(record, offset)
                if record.value is not None and self._group(record.key.group_id) is None:
                    self._add_simple_group(record.key.group_id)
            case ClassicGroupRecord():
                self._membership.fold(record, live=self._is_live)
            case ForeignGroupRecord():
                self._fold_foreign(record)
            case TransactionMarker():
                self._offsets.end_transaction(record)
            case _:
                self._consumers.fold(record, create=self._add_consumer_group)

    def on_loaded(self, now_ms: int) -> ShardDecision:
        """The log has been replayed: time starts for every member, and commands may come."""
        self._is_live = True
        turn = Turn(now_ms)
        self._membership.on_loaded(turn)
        self._consumers.on_loaded(turn)
        self._deadlines.schedule(
            DeadlineKey(Purpose.EXPIRY), now_ms + self._settings.offsets_retention_check_interval_ms
        )
        return _decision(turn)

    def on_append_failed(self, records: Iterable[ShardRecord], now_ms: int) -> ShardDecision:
        """These records could not be written: what was decided with them has not happened."""
        turn = Turn(now_ms)
        for record in records:
            if isinstance(record, ClassicGroupRecord):
                self._membership.revert(record, turn)
            elif isinstance(record, CONSUMER_GROUP_RECORDS):
                self._consumers.revert(record, turn)
        return _decision(turn)

    def _add_simple_group(self, group_id: str) -> None:
        """Offsets without a membership: the group exists as long as they do."""
        group = self._classic[group_id] = ClassicGroup(group_id, None)
        group.is_stored = True

    def _drop_simple_group(self, group_id: str) -> None:
        """The offsets turn out to be those of a group of another kind."""
        simple = self._classic.get(group_id)
        if simple is not None and simple.protocol_type is None and simple.is_empty:
            del self._classic[group_id]

    def _add_consumer_group(self, group_id: str) -> ConsumerGroup:
        self._drop_simple_group(group_id)
        group = self._consumer[group_id] = ConsumerGroup(group_id)
        return group

    def _fold_foreign(self, record: ForeignGroupRecord) -> None:
        group = self._foreign.get(record.group_id)
        if group is None:
            if record.value is None:
                return
            group = self._foreign[record.group_id] = ForeignGroup(record.group_id, record.kind)
            self._drop_simple_group(record.group_id)
        group.fold(record)
        if group.is_gone:
            del self._foreign[record.group_id]

    # -- lookups

    def _group(self, group_id: str) -> Group | None:
        return self._foreign.get(group_id) or self._consumer.get(group_id) or self._classic.get(group_id)

    def _existing(self, group_id: str) -> Group:
        group = self._group(group_id)
        if group is None:
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")
        return group

    def _all_groups(self) -> list[Group]:
        classic = [group for group_id, group in self._classic.items() if group_id not in self._foreign]
        return [*classic, *self._consumer.values(), *self._foreign.values()]


def _decision(turn: Turn, response: object = None) -> ShardDecision:
    return Decision(records=tuple(turn.records), response=response, replies=tuple(turn.replies))

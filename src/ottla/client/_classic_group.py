"""Membership by the classic protocol: join, sync, heartbeat; the leader assigns (KIP-62, 345, 394, 429).

Eager assignors give everything up before they join. With only cooperative ones, members keep what they own and a second
round moves what was taken away.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from ottla.client._assignors import Assignor, Racks
from ottla.client._backoff import Backoff
from ottla.client._cluster import Cluster
from ottla.client._commits import ConsumerGroupMetadata
from ottla.client._consumer_protocol import (
    PROTOCOL_TYPE,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from ottla.client._errors import error_of
from ottla.client._group import FATAL, Activity, GroupSettings, Ownership, logger
from ottla.client._group_coordinator import GROUP_LANE, GroupCoordinator
from ottla.model import TopicPartition
from ottla.wire import DecodeError
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.heartbeat_request import HeartbeatRequest
from ottla.wire.messages.heartbeat_response import HeartbeatResponse
from ottla.wire.messages.join_group_request import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.wire.messages.join_group_response import JoinGroupResponse
from ottla.wire.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from ottla.wire.messages.sync_group_request import SyncGroupRequest, SyncGroupRequestAssignment
from ottla.wire.messages.sync_group_response import SyncGroupResponse

MEMBERS_VERSION: Final = 3
"""From here on LeaveGroup names members in a list."""
JOIN_GRACE_SECONDS: Final = 5.0
"""What a join may take longer than the rebalance timeout, as Java's consumer has it."""


class ClassicMembership:
    """A member of a classic group."""

    def __init__(
        self,
        cluster: Cluster,
        coordinator: GroupCoordinator,
        ownership: Ownership,
        settings: GroupSettings,
        *,
        topics: Callable[[], frozenset[str]],
        activity: Activity,
    ) -> None:
        self._cluster = cluster
        self._coordinator = coordinator
        self._ownership = ownership
        self._settings = settings
        self._topics = topics
        self._activity = activity
        self._cooperative = all(assignor.cooperative for assignor in settings.assignors)
        self._member_id = ""
        self._generation = -1
        self._protocol = ""
        self._had: frozenset[TopicPartition] = frozenset()
        """What the last assignment gave, and its generation: what sticky members tell the leader."""
        self._had_generation = -1
        self._stable = False
        self._lost = False
        self._expired = False
        self._joined_topics: frozenset[str] = frozenset()
        self._due = asyncio.Event()
        self._due.set()
        self._snapshot: _Snapshot | None = None
        """As leader: what the assignment was made of."""
        self._stopping = False

    @property
    def identity(self) -> ConsumerGroupMetadata:
        return ConsumerGroupMetadata(
            group_id=self._settings.group_id,
            generation_id=self._generation,
            member_id=self._member_id,
            group_instance_id=self._settings.instance_id,
        )

    async def run(self) -> None:
        """Rebalance whenever it is due; the heartbeats go on beside, also while a listener takes its time."""
        async with asyncio.TaskGroup() as group:
            beats = group.create_task(self._beat(), name="group heartbeats")
            backoff = Backoff(self._cluster.rng, initial=0.05)
            while not self._stopping:
                await self._due.wait()
                if self._stopping:
                    break
                self._due.clear()
                try:
                    await self._rebalance()
                    backoff.reset()
                except (ConnectionError, KafkaError, DecodeError) as error:
                    if isinstance(error, KafkaError) and (error.code in FATAL):
                        beats.cancel()
                        raise
                    logger.info("group %s: joining again: %s", self._settings.group_id, error)
                    self._due.set()
                    await asyncio.sleep(backoff.next_seconds())
            beats.cancel()

    def subscription_changed(self) -> None:
        """Join again if the topics are others than those joined with, or if the leader would assign others now."""
        if self._joined_topics != self._topics() or (
            self._snapshot is not None and self._snapshot != self._look(self._snapshot.counts)
        ):
            self._due.set()

    def stop(self) -> None:
        self._stopping = True
        self._due.set()

    async def leave(self, seconds: float) -> None:
        """Static members stay: they come back under their name.

        Not on the group's own connection, where an unfinished join may be in the way.
        """
        if not self._member_id or self._settings.instance_id is not None:
            return
        member_id, self._member_id = self._member_id, ""
        self._generation, self._stable = -1, False
        member = MemberIdentity(member_id=member_id, reason="the consumer was closed")
        await self._coordinator.ask(
            ApiKey.LEAVE_GROUP,
            lambda version: (
                LeaveGroupRequest(group_id=self._settings.group_id, members=[member])
                if version >= MEMBERS_VERSION
                else LeaveGroupRequest(group_id=self._settings.group_id, member_id=member_id)
            ),
            code_of=_error_code,
            seconds=seconds,
        )

    # One rebalance

    async def _rebalance(self) -> None:
        if self._expired:
            await self._give_all_up(lost=True)
            await self._activity.wait_active()
            self._expired = False
        if self._lost or not self._cooperative:
            await self._give_all_up(lost=self._lost)
        else:
            topics = self._topics()
            await self._ownership.give_up([place for place in self._ownership.places if place.topic not in topics])
        self._lost = self._stable = False
        # What heartbeats have said meanwhile is answered by this join.
        self._due.clear()
        topics = self._topics()
        joined = await self._join(topics)
        self._joined_topics = topics
        assigned = await self._sync(joined)
        owned = self._ownership.places
        self._had, self._had_generation = assigned, self._generation
        self._stable = True
        if owned - assigned:
            await self._ownership.give_up(owned - assigned)
            # What was given up is free only now: its new owners get it in the next round.
            self._due.set()
        await self._ownership.take(assigned - owned)
        logger.info("group %s: generation %d, %d partitions", self._settings.group_id, self._generation, len(assigned))

    async def _give_all_up(self, *, lost: bool) -> None:
        await self._ownership.give_up(self._ownership.places, lost=lost)

    async def _join(self, topics: frozenset[str]) -> JoinGroupResponse:
        settings = self._settings
        while True:
            response: JoinGroupResponse = await self._coordinator.ask(
                ApiKey.JOIN_GROUP,
                lambda _: self._join_request(topics),
                code_of=_error_code,
                seconds=settings.rebalance_seconds + JOIN_GRACE_SECONDS,
                lane=GROUP_LANE,
            )
            code = ErrorCode.of(response.error_code)
            if code is ErrorCode.NONE:
                self._member_id, self._generation = response.member_id, response.generation_id
                self._protocol = response.protocol_name or ""
                return response
            if code is ErrorCode.MEMBER_ID_REQUIRED:
                self._member_id = response.member_id
                continue
            self._refused(code, "join")

    def _join_request(self, topics: frozenset[str]) -> JoinGroupRequest:
        settings = self._settings
        owned = self._ownership.places
        protocols = [
            JoinGroupRequestProtocol(
                name=assignor.name,
                metadata=encode_subscription(
                    assignor.name,
                    topics,
                    owned if self._cooperative else self._had,
                    generation=self._had_generation,
                    rack=settings.rack,
                    cooperative=self._cooperative,
                ),
            )
            for assignor in settings.assignors
        ]
        return JoinGroupRequest(
            group_id=settings.group_id,
            session_timeout_ms=int(settings.session_seconds * 1000),
            rebalance_timeout_ms=int(settings.rebalance_seconds * 1000),
            member_id=self._member_id,
            group_instance_id=settings.instance_id,
            protocol_type=PROTOCOL_TYPE,
            protocols=protocols,
        )

    async def _sync(self, joined: JoinGroupResponse) -> frozenset[TopicPartition]:
        assignments: dict[str, list[TopicPartition]] = {}
        self._snapshot = None
        if joined.leader == joined.member_id:
            assignments = await self._assign(joined)
        response: SyncGroupResponse = await self._coordinator.ask(
            ApiKey.SYNC_GROUP,
            lambda _: SyncGroupRequest(
                group_id=self._settings.group_id,
                generation_id=self._generation,
                member_id=self._member_id,
                group_instance_id=self._settings.instance_id,
                protocol_type=PROTOCOL_TYPE,
                protocol_name=self._protocol,
                assignments=[
                    SyncGroupRequestAssignment(member_id=member, assignment=encode_assignment(places))
                    for member, places in assignments.items()
                ],
            ),
            code_of=_error_code,
            seconds=self._settings.rebalance_seconds + JOIN_GRACE_SECONDS,
            lane=GROUP_LANE,
        )
        code = ErrorCode.of(response.error_code)
        if code is not ErrorCode.NONE:
            self._refused(code, "sync")
        return decode_assignment(response.assignment)

    async def _assign(self, joined: JoinGroupResponse) -> dict[str, list[TopicPartition]]:
        """As the leader: everybody's partitions. Nothing where the coordinator keeps the assignment (KIP-814)."""
        members = [
            decode_subscription(self._protocol, member.member_id, member.group_instance_id, member.metadata)
            for member in joined.members
        ]
        topics = frozenset().union(*(member.topics for member in members))
        await self._cluster.refresh(topics)
        self._snapshot = self._look(topics)
        if joined.skip_assignment:
            return {}
        return self._assignor().assign(members, self._snapshot.counts, self._cluster.racks(topics))

    def _assignor(self) -> Assignor:
        for assignor in self._settings.assignors:
            if assignor.name == self._protocol:
                return assignor
        raise KafkaError(
            ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"the group chose {self._protocol!r}, which was not offered"
        )

    def _look(self, topics: Iterable[str]) -> "_Snapshot":
        """Racks count only for who has one, as in Java's client: replicas that move are no reason to rebalance else."""
        known = {name: self._cluster.known_topic(name) for name in topics}
        counts = {name: 0 if topic is None else len(topic.partitions) for name, topic in known.items()}
        return _Snapshot(counts=counts, racks=self._cluster.racks(counts) if self._settings.rack else {})

    def _refused(self, code: ErrorCode, action: str) -> None:
        """Forget what the coordinator does not know any more, and raise."""
        if code is ErrorCode.UNKNOWN_MEMBER_ID:
            self._member_id = ""
        if code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
            self._generation, self._lost = -1, True
        raise error_of(code, f"group {self._settings.group_id!r}: {action} refused{_advice(code, self._settings)}")

    # Heartbeats

    async def _beat(self) -> None:
        while not self._stopping:
            await asyncio.sleep(self._settings.heartbeat_seconds)
            if not self._stable:
                continue
            if self._activity.idle_seconds() > self._settings.rebalance_seconds:
                await self._expire()
                continue
            try:
                response: HeartbeatResponse = await self._coordinator.ask(
                    ApiKey.HEARTBEAT,
                    lambda _: self._heartbeat(),
                    code_of=_error_code,
                    seconds=self._settings.session_seconds,
                    lane=GROUP_LANE,
                )
            except (ConnectionError, KafkaError) as error:
                logger.info("group %s: heartbeat: %s", self._settings.group_id, error)
                continue
            self._beaten(ErrorCode.of(response.error_code))

    def _heartbeat(self) -> HeartbeatRequest:
        return HeartbeatRequest(
            group_id=self._settings.group_id,
            generation_id=self._generation,
            member_id=self._member_id,
            group_instance_id=self._settings.instance_id,
        )

    def _beaten(self, code: ErrorCode) -> None:
        if code is ErrorCode.NONE or not self._stable:
            return
        if code is not ErrorCode.REBALANCE_IN_PROGRESS:
            self._lost = True
            if code is ErrorCode.UNKNOWN_MEMBER_ID:
                self._member_id = ""
            self._generation = -1
            self._stable = False
            if code in FATAL:
                raise error_of(code, f"group {self._settings.group_id!r}{_advice(code, self._settings)}")
        self._due.set()

    async def _expire(self) -> None:
        """The application has not come for records in time: leave, so that others get on with them (KIP-62)."""
        logger.warning(
            "group %s: no poll for more than max_poll_interval_ms (%d): leaving until there is one",
            self._settings.group_id,
            self._settings.rebalance_seconds * 1000,
        )
        self._expired, self._stable = True, False
        try:
            await self.leave(self._settings.heartbeat_seconds)
        except (ConnectionError, KafkaError) as error:
            logger.info("group %s: leave: %s", self._settings.group_id, error)
        self._member_id, self._generation = "", -1
        self._due.set()


class _Snapshot(Struct, frozen=True, kw_only=True):
    """The partitions of the group's topics: how many, and in which racks."""

    counts: Mapping[str, int]
    racks: Racks


def _error_code(response: JoinGroupResponse | SyncGroupResponse | HeartbeatResponse) -> int:
    return response.error_code


def _advice(code: ErrorCode, settings: GroupSettings) -> str:
    match code:
        case ErrorCode.FENCED_INSTANCE_ID:
            return f"; another consumer has joined as {settings.instance_id!r}"
        case ErrorCode.INCONSISTENT_GROUP_PROTOCOL:
            names = ", ".join(assignor.name for assignor in settings.assignors)
            return f"; the other members share none of the assignors {names} with this one"
        case ErrorCode.GROUP_MAX_SIZE_REACHED:
            return "; it has as many members as group.max.size allows"
        case _:
            return ""

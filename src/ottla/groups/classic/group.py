"""A classic group and its members: who is in, what they support, what state the rebalance is in.

Membership is soft state: it lives in memory between rebalances and is written as one ``StoredGroup`` when a rebalance
completes. Invariants: every static instance id maps to a present member; ``awaiting_join`` counts the members with a
parked join; a protocol counts as supported by all when its count equals the number of members.
"""

import struct
from collections.abc import Iterator
from enum import StrEnum
from struct import Struct
from typing import Final

from ottla.groups.commands import JoinedMember
from ottla.groups.records import ClassicGroupRecord, GroupKind, ShardRecord, StoredGroup, StoredMember
from ottla.wire.errors import ErrorCode, KafkaError

CONSUMER_PROTOCOL_TYPE: Final = "consumer"

Protocols = tuple[tuple[str, bytes], ...]


class ClassicState(StrEnum):
    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


_ENTERED_FROM: Final = {
    ClassicState.EMPTY: frozenset({ClassicState.PREPARING_REBALANCE}),
    ClassicState.PREPARING_REBALANCE: frozenset(
        {ClassicState.EMPTY, ClassicState.COMPLETING_REBALANCE, ClassicState.STABLE}
    ),
    ClassicState.COMPLETING_REBALANCE: frozenset({ClassicState.PREPARING_REBALANCE}),
    ClassicState.STABLE: frozenset({ClassicState.COMPLETING_REBALANCE}),
    ClassicState.DEAD: frozenset(ClassicState),
}


class ClassicMember:
    """One member. ``join_token`` and ``sync_token`` stand for its parked requests."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "group_instance_id",
        "is_new",
        "join_token",
        "member_id",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "sync_token",
    )

    def __init__(
        self,
        *,
        member_id: str,
        group_instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: Protocols,
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        self.assignment = assignment
        self.join_token: int | None = None
        self.sync_token: int | None = None
        self.is_new = False

    def metadata(self, protocol: str | None) -> bytes:
        for name, metadata in self.protocols:
            if name == protocol:
                return metadata
        raise AssertionError(f"member {self.member_id} does not support protocol {protocol}")

    @property
    def is_excused(self) -> bool:
        """Whether a missed heartbeat is no failure: the member waits for an answer. New members are never excused,
        or the leftovers of timed-out joins would pile up."""
        return not self.is_new and (self.join_token is not None or self.sync_token is not None)

    def renamed(self, member_id: str) -> "ClassicMember":
        return ClassicMember(
            member_id=member_id,
            group_instance_id=self.group_instance_id,
            client_id=self.client_id,
            client_host=self.client_host,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            session_timeout_ms=self.session_timeout_ms,
            protocols=self.protocols,
            assignment=self.assignment,
        )


class ClassicGroup:
    """The state of one classic group."""

    __slots__ = (
        "_protocol_counts",
        "awaiting_join",
        "generation",
        "group_id",
        "initial_delay_left_ms",
        "is_stored",
        "leader_id",
        "members",
        "new_member_added",
        "pending_join",
        "pending_sync",
        "previous_state",
        "protocol",
        "protocol_type",
        "state",
        "state_timestamp",
        "static_members",
        "subscribed_topics",
    )

    def __init__(self, group_id: str, now_ms: int | None) -> None:
        self.group_id = group_id
        self.state = ClassicState.EMPTY
        self.previous_state = ClassicState.DEAD
        self.state_timestamp: int | None = now_ms
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.generation = 0
        self.leader_id: str | None = None
        self.members: dict[str, ClassicMember] = {}
        self.static_members: dict[str, str] = {}
        self.pending_join: dict[str, None] = {}
        self.pending_sync: dict[str, None] = {}
        self.awaiting_join = 0
        self.new_member_added = False
        self.initial_delay_left_ms = 0
        self.subscribed_topics: frozenset[str] | None = None
        self.is_stored = False
        self._protocol_counts: dict[str, int] = {}

    @classmethod
    def from_stored(cls, group_id: str, stored: StoredGroup) -> "ClassicGroup":
        """The group as its last record left it."""
        timestamp = None if stored.state_timestamp == -1 else stored.state_timestamp
        group = cls(group_id, timestamp)
        group.state = ClassicState.STABLE if stored.members else ClassicState.EMPTY
        group.is_stored = True
        group.generation = stored.generation
        group.protocol_type = stored.protocol_type or None
        group.protocol = stored.protocol
        group.leader_id = stored.leader
        for member in stored.members:
            group.add(
                ClassicMember(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    rebalance_timeout_ms=member.rebalance_timeout_ms,
                    session_timeout_ms=member.session_timeout_ms,
                    protocols=((stored.protocol or "", member.subscription),),
                    assignment=member.assignment,
                ),
                stored.protocol_type,
            )
        group.subscribed_topics = group.subscriptions()
        return group

    def to_record(self, assignments: dict[str, bytes]) -> ClassicGroupRecord:
        """The group with ``assignments`` as it is to be stored."""
        return ClassicGroupRecord(
            self.group_id,
            StoredGroup(
                protocol_type=self.protocol_type or "",
                generation=self.generation,
                protocol=self.protocol,
                leader=self.leader_id,
                state_timestamp=-1 if self.state_timestamp is None else self.state_timestamp,
                members=tuple(
                    StoredMember(
                        member_id=member.member_id,
                        group_instance_id=member.group_instance_id,
                        client_id=member.client_id,
                        client_host=member.client_host,
                        rebalance_timeout_ms=member.rebalance_timeout_ms,
                        session_timeout_ms=member.session_timeout_ms,
                        subscription=member.metadata(self.protocol),
                        assignment=assignments[member.member_id],
                    )
                    for member in self.members.values()
                ),
            ),
        )

    # -- the view of every kind of group

    @property
    def kind(self) -> GroupKind:
        return GroupKind.CLASSIC

    @property
    def state_name(self) -> str:
        return self.state.value

    @property
    def protocol_type_name(self) -> str:
        return self.protocol_type or ""

    @property
    def is_empty(self) -> bool:
        return self.state is ClassicState.EMPTY

    @property
    def uses_consumer_protocol(self) -> bool:
        return self.protocol_type == CONSUMER_PROTOCOL_TYPE

    def is_subscribed_to(self, topic: str) -> bool:
        if self.subscribed_topics is not None:
            return topic in self.subscribed_topics
        return self.uses_consumer_protocol

    def expiry_base(self, commit_timestamp: int) -> int | None:
        if self.protocol_type is None:
            return commit_timestamp
        if self.state is ClassicState.EMPTY:
            return commit_timestamp if self.state_timestamp is None else self.state_timestamp
        knows_topics = self.uses_consumer_protocol and self.subscribed_topics is not None
        return commit_timestamp if knows_topics and self.state is ClassicState.STABLE else None

    def check_commit(
        self, *, member_id: str, group_instance_id: str | None, generation_or_epoch: int, knows_epochs: bool
    ) -> None:
        if generation_or_epoch < 0 and self.state is ClassicState.EMPTY:
            return
        if generation_or_epoch < 0 and not member_id and group_instance_id is None:
            # Only members commit while there are any: tools would overwrite their progress.
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        self.check_member(member_id, group_instance_id)
        if generation_or_epoch != self.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
        if self.state is ClassicState.COMPLETING_REBALANCE:
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)

    def check_transactional_commit(self, *, member_id: str, group_instance_id: str | None, generation: int) -> None:
        """Raises ``KafkaError`` where somebody who names a member or generation is not, or no longer, that."""
        if generation < 0 and (self.state is ClassicState.EMPTY or (not member_id and group_instance_id is None)):
            return
        self.check_member(member_id, group_instance_id)
        if generation != self.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)

    def check_offset_delete(self) -> None:
        if self.state is not ClassicState.EMPTY and not self.uses_consumer_protocol:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP)

    def check_delete(self) -> None:
        if self.state is not ClassicState.EMPTY:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP)

    def tombstones(self) -> list[ShardRecord]:
        return [ClassicGroupRecord(self.group_id, None)]

    # -- members

    def check_member(self, member_id: str, group_instance_id: str | None) -> None:
        """Raises UNKNOWN_MEMBER_ID, or FENCED_INSTANCE_ID where another member took over the instance id."""
        if group_instance_id is not None:
            owner = self.static_members.get(group_instance_id)
            if owner is None:
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
            if owner != member_id:
                raise KafkaError(ErrorCode.FENCED_INSTANCE_ID)
        if member_id not in self.members:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)

    def add(self, member: ClassicMember, protocol_type: str) -> None:
        if not self.members:
            self.protocol_type = protocol_type or None
        if self.leader_id is None:
            self.leader_id = member.member_id
        self.members[member.member_id] = member
        if member.group_instance_id is not None:
            self.static_members[member.group_instance_id] = member.member_id
        self._count_protocols(member, 1)
        if member.join_token is not None:
            self.awaiting_join += 1
        self.pending_join.pop(member.member_id, None)

    def remove(self, member_id: str) -> None:
        """Forget a member or a pending one; the next member in order leads if the leader goes."""
        member = self.members.pop(member_id, None)
        if member is not None:
            self._count_protocols(member, -1)
            if member.join_token is not None:
                self.awaiting_join -= 1
            if member.group_instance_id is not None:
                self.static_members.pop(member.group_instance_id, None)
        if self.leader_id == member_id:
            self.leader_id = next(iter(self.members), None)
        self.pending_join.pop(member_id, None)
        self.pending_sync.pop(member_id, None)

    def update(
        self, member: ClassicMember, protocols: Protocols, rebalance_timeout_ms: int, session_timeout_ms: int
    ) -> None:
        self._count_protocols(member, -1)
        member.protocols = protocols
        self._count_protocols(member, 1)
        member.rebalance_timeout_ms = rebalance_timeout_ms
        member.session_timeout_ms = session_timeout_ms

    def rename_static(self, group_instance_id: str, new_member_id: str) -> ClassicMember:
        """Give the instance a new member id; leadership, protocols and assignment stay, parked tokens do not."""
        old_member_id = self.static_members[group_instance_id]
        old = self.members.pop(old_member_id)
        if old.join_token is not None:
            self.awaiting_join -= 1
        member = old.renamed(new_member_id)
        self.members[new_member_id] = member
        self.static_members[group_instance_id] = new_member_id
        self.pending_sync.pop(old_member_id, None)
        if self.leader_id == old_member_id:
            self.leader_id = new_member_id
        return member

    def park_join(self, member: ClassicMember, token: int) -> None:
        if member.join_token is None:
            self.awaiting_join += 1
        member.join_token = token

    def take_join(self, member: ClassicMember) -> int | None:
        token = member.join_token
        if token is not None:
            member.join_token = None
            self.awaiting_join -= 1
        return token

    def not_rejoined(self) -> list[ClassicMember]:
        return [member for member in self.members.values() if member.join_token is None]

    @property
    def has_all_joined(self) -> bool:
        return self.awaiting_join == len(self.members) and not self.pending_join

    def elect_joined_leader(self) -> bool:
        """Keep the leader if it joined, else elect the first member that did. False when nobody has."""
        if self.leader_id is None:
            return False
        if self.members[self.leader_id].join_token is not None:
            return True
        for member in self.members.values():
            if member.join_token is not None:
                self.leader_id = member.member_id
                return True
        return False

    @property
    def rebalance_timeout_ms(self) -> int:
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    # -- protocols

    def supports(self, protocol_type: str, protocols: Protocols) -> bool:
        """Whether a member with these protocols can be in the group."""
        if self.state is ClassicState.EMPTY:
            return bool(protocol_type) and bool(protocols)
        return self.protocol_type == protocol_type and any(
            self._protocol_counts.get(name, 0) == len(self.members) for name, _ in protocols
        )

    def select_protocol(self) -> str:
        """The protocol with most votes among those all members support; the first to reach that count wins."""
        votes: dict[str, int] = {}
        everyone = len(self.members)
        for member in self.members.values():
            choice = next(name for name, _ in member.protocols if self._protocol_counts[name] == everyone)
            votes[choice] = votes.get(choice, 0) + 1
        return max(votes, key=votes.__getitem__)

    def joined_members(self) -> tuple[JoinedMember, ...]:
        return tuple(
            JoinedMember(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                metadata=member.metadata(self.protocol),
            )
            for member in self.members.values()
        )

    def subscriptions(self) -> frozenset[str] | None:
        """The topics its members subscribe to; ``None`` where the group's protocol does not tell."""
        if not self.uses_consumer_protocol:
            return None
        if not self.members:
            return frozenset()
        if self.protocol is None:
            return None
        try:
            return frozenset(
                topic for member in self.members.values() for topic in read_subscription(member.metadata(self.protocol))
            )
        except (struct.error, ValueError):
            return None

    # -- transitions

    def move_to(self, state: ClassicState, now_ms: int) -> None:
        assert self.state in _ENTERED_FROM[state], f"group {self.group_id} cannot go from {self.state} to {state}"
        self.previous_state, self.state = self.state, state
        self.state_timestamp = now_ms

    @property
    def can_rebalance(self) -> bool:
        return self.state in _ENTERED_FROM[ClassicState.PREPARING_REBALANCE]

    def next_generation(self, now_ms: int) -> None:
        self.generation += 1
        if self.members:
            self.protocol = self.select_protocol()
            self.subscribed_topics = self.subscriptions()
            self.move_to(ClassicState.COMPLETING_REBALANCE, now_ms)
        else:
            self.protocol = None
            self.subscribed_topics = self.subscriptions()
            self.move_to(ClassicState.EMPTY, now_ms)
        self.pending_sync.clear()

    def _count_protocols(self, member: ClassicMember, step: int) -> None:
        for name in dict.fromkeys(name for name, _ in member.protocols):
            self._protocol_counts[name] = self._protocol_counts.get(name, 0) + step


_INT16 = Struct(">h")
_INT32 = Struct(">i")


def read_subscription(metadata: bytes) -> Iterator[str]:
    """The topics of an embedded consumer-protocol subscription. Raises ``ValueError`` or ``struct.error`` on damage."""
    (version,) = _INT16.unpack_from(metadata)
    if version < 0:
        raise ValueError("negative subscription version")
    (count,) = _INT32.unpack_from(metadata, 2)
    if count < 0:
        raise ValueError("negative topic count")
    position = 6
    for _ in range(count):
        (length,) = _INT16.unpack_from(metadata, position)
        position += 2
        if length < 0 or position + length > len(metadata):
            raise ValueError("topic name cut short")
        yield metadata[position : position + length].decode("utf-8")
        position += length

"""The leader's ledger of one partition: its followers, the in-sync replicas and the high watermark.

Follows Kafka's leader rules (KIP-497 and later). The high watermark is the smallest log end offset among the *maximal*
in-sync set, which counts replicas proposed but not yet confirmed, and among caught-up replicas about to join; it never
falls, and does not move while the confirmed set is smaller than ``min.insync.replicas``. A change of the in-sync set is
proposed to the controller and counts as pending, pessimistically, until the controller answers or publishes.

With one replica all of it degenerates: nobody to wait for, the high watermark is the log's end.

Replicas are node ids. ``eligible(node_id, broker_epoch)`` says whether a broker may join: it is registered under that
epoch, not fenced and not shutting down. Invariant: the confirmed set is a subset of the maximal one.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, NamedTuple

from msgspec import Struct

from ottla.wire.errors import ErrorCode, KafkaError

__all__ = [
    "FetchFacts",
    "FollowerState",
    "IsrChange",
    "LeaderLedger",
    "LeaderRecoveryState",
    "PartitionState",
]

UNKNOWN_OFFSET: Final = -1
NO_BROKER_EPOCH: Final = -1
NEVER: Final = -(2**62)
REPLICA_LAG_TIME_MAX_MS_DEFAULT: Final = 30_000

Eligibility = Callable[[int, int], bool]


class LeaderRecoveryState(Enum):
    """Whether the leader was elected from outside the in-sync set and may lack records."""

    RECOVERED = 0
    RECOVERING = 1


class PartitionState(Struct, frozen=True, kw_only=True):
    """A partition as the controller has decided it."""

    leader_epoch: int
    partition_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    adding_replicas: tuple[int, ...] = ()
    removing_replicas: tuple[int, ...] = ()
    leader_recovery_state: LeaderRecoveryState = LeaderRecoveryState.RECOVERED


class IsrChange(Struct, frozen=True, kw_only=True):
    """A proposal for the controller (AlterPartition): the set wanted, with the broker epoch of each as last seen."""

    leader_epoch: int
    partition_epoch: int
    isr: tuple[int, ...]
    broker_epochs: tuple[int, ...]
    leader_recovery_state: LeaderRecoveryState = LeaderRecoveryState.RECOVERED


class FetchFacts(NamedTuple):
    """What a follower's fetch brought about: the new high watermark if it moved, a change to propose if it is due."""

    high_watermark: int | None
    isr_change: IsrChange | None


class FollowerState:
    """What the leader knows of one follower from its fetches."""

    __slots__ = (
        "broker_epoch",
        "last_caught_up_ms",
        "last_fetch_leader_end_offset",
        "last_fetch_ms",
        "log_end_offset",
        "log_start_offset",
    )

    def __init__(self) -> None:
        self.log_end_offset = UNKNOWN_OFFSET
        self.log_start_offset = UNKNOWN_OFFSET
        self.last_fetch_leader_end_offset = 0
        self.last_fetch_ms = NEVER
        self.last_caught_up_ms = NEVER
        self.broker_epoch = NO_BROKER_EPOCH

    def record_fetch(self, fetch_offset: int, log_start_offset: int, leader_end_offset: int, now_ms: int) -> None:
        """A follower that reaches what was the leader's end at its fetch before was caught up at that time."""
        if fetch_offset >= leader_end_offset:
            self.last_caught_up_ms = max(self.last_caught_up_ms, now_ms)
        elif fetch_offset >= self.last_fetch_leader_end_offset:
            self.last_caught_up_ms = max(self.last_caught_up_ms, self.last_fetch_ms)
        self.log_end_offset = fetch_offset
        self.log_start_offset = log_start_offset
        self.last_fetch_leader_end_offset = leader_end_offset
        self.last_fetch_ms = now_ms

    def reset(self, *, in_sync: bool, new_leader_epoch: bool, leader_end_offset: int, now_ms: int) -> None:
        """Leadership was renewed: members of the in-sync set get the benefit of the doubt for one lag time."""
        if new_leader_epoch:
            self.log_end_offset = UNKNOWN_OFFSET
            self.log_start_offset = UNKNOWN_OFFSET
            self.last_fetch_leader_end_offset = 0
            self.last_fetch_ms = NEVER
            self.last_caught_up_ms = now_ms if in_sync else NEVER
        else:
            self.last_fetch_leader_end_offset = leader_end_offset
            self.last_fetch_ms = now_ms if in_sync else NEVER
            self.last_caught_up_ms = now_ms if in_sync else NEVER

    def is_caught_up(self, leader_end_offset: int, now_ms: int, lag_time_max_ms: int) -> bool:
        return self.log_end_offset == leader_end_offset or now_ms - self.last_caught_up_ms <= lag_time_max_ms


class LeaderLedger:
    """What the leader of one partition keeps. Times are wall-clock milliseconds of this node."""

    __slots__ = (
        "_eligible",
        "_epoch_start_offset",
        "_followers",
        "_high_watermark",
        "_isr",
        "_log_end_offset",
        "_maximal_isr",
        "_now_ms",
        "_pending",
        "_state",
        "min_insync_replicas",
        "node_id",
        "replica_lag_time_max_ms",
    )

    def __init__(
        self,
        *,
        node_id: int,
        state: PartitionState,
        log_end_offset: int,
        high_watermark: int,
        now_ms: int,
        min_insync_replicas: int = 1,
        replica_lag_time_max_ms: int = REPLICA_LAG_TIME_MAX_MS_DEFAULT,
        eligible: Eligibility = lambda node_id, broker_epoch: True,
    ) -> None:
        """Become leader; ``high_watermark`` is the one known from the checkpoint or from following."""
        self.node_id = node_id
        self.min_insync_replicas = min_insync_replicas
        self.replica_lag_time_max_ms = replica_lag_time_max_ms
        self._eligible = eligible
        self._log_end_offset = log_end_offset
        self._high_watermark = min(high_watermark, log_end_offset)
        self._epoch_start_offset = log_end_offset
        self._now_ms = now_ms
        self._state = state
        self._pending: IsrChange | None = None
        self._followers: dict[int, FollowerState] = {}
        self._adopt(state, new_leader_epoch=True)
        self._advance()

    # What is known

    @property
    def high_watermark(self) -> int:
        return self._high_watermark

    @property
    def log_end_offset(self) -> int:
        return self._log_end_offset

    @property
    def leader_epoch(self) -> int:
        return self._state.leader_epoch

    @property
    def partition_epoch(self) -> int:
        return self._state.partition_epoch

    @property
    def replicas(self) -> tuple[int, ...]:
        return self._state.replicas

    @property
    def isr(self) -> tuple[int, ...]:
        """The confirmed in-sync replicas."""
        return self._state.isr

    @property
    def maximal_isr(self) -> tuple[int, ...]:
        """With the pending ones, ascending."""
        return tuple(sorted(self._maximal_isr))

    @property
    def pending_change(self) -> IsrChange | None:
        return self._pending

    @property
    def followers(self) -> dict[int, FollowerState]:
        """By node id; for reading."""
        return self._followers

    @property
    def effective_min_insync_replicas(self) -> int:
        """``min.insync.replicas``, but never more than there are replicas."""
        return min(self.min_insync_replicas, len(self._state.replicas))

    @property
    def is_under_min_isr(self) -> bool:
        return len(self._isr) < self.effective_min_insync_replicas

    def low_watermark(self, leader_log_start_offset: int) -> int:
        """The smallest log start offset of all live replicas: what DeleteRecords waits for."""
        lowest = leader_log_start_offset
        for node_id, follower in self._followers.items():
            if self._eligible(node_id, follower.broker_epoch):
                lowest = min(lowest, follower.log_start_offset)
        return lowest

    def check_acks_all(self) -> None:
        """Before an append with acks=all. Raises ``KafkaError(NOT_ENOUGH_REPLICAS)``."""
        if self.is_under_min_isr:
            raise KafkaError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"The size of the current ISR {sorted(self._isr)} is insufficient to satisfy the min.isr requirement "
                f"of {self.effective_min_insync_replicas}",
            )

    def acknowledgement(self, required_offset: int) -> ErrorCode | None:
        """What an append up to ``required_offset`` (exclusive) with acks=all may be told now, ``None`` is: wait."""
        if self._high_watermark < required_offset:
            return None
        if len(self._maximal_isr) < self.effective_min_insync_replicas:
            return ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND
        return ErrorCode.NONE

    # What happens

    def record_append(self, log_end_offset: int, now_ms: int | None = None) -> int | None:
        """The leader's log now ends there; the new high watermark if that moved it."""
        self._log_end_offset = log_end_offset
        if not self._followers and log_end_offset > self._high_watermark:
            self._high_watermark = log_end_offset
            return log_end_offset
        if now_ms is not None:
            self._now_ms = now_ms
        return self._advance()

    def record_fetch(
        self,
        replica_id: int,
        fetch_offset: int,
        now_ms: int,
        *,
        log_start_offset: int = UNKNOWN_OFFSET,
        broker_epoch: int = NO_BROKER_EPOCH,
    ) -> FetchFacts:
        """A follower fetched from ``fetch_offset``: it has everything below.

        Raises ``KafkaError``: UNKNOWN_LEADER_EPOCH for a node that is no replica as far as is known here,
        NOT_LEADER_OR_FOLLOWER for a broker that has registered again since.
        """
        follower = self._followers.get(replica_id)
        if follower is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_LEADER_EPOCH,
                f"node {replica_id} is not among the replicas {list(self._state.replicas)} of leader epoch "
                f"{self._state.leader_epoch}",
            )
        if NO_BROKER_EPOCH < broker_epoch < follower.broker_epoch:
            raise KafkaError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                f"fetch of node {replica_id} carries broker epoch {broker_epoch}, {follower.broker_epoch} is known",
            )
        self._now_ms = now_ms
        moved = follower.log_end_offset != fetch_offset
        follower.record_fetch(fetch_offset, log_start_offset, self._log_end_offset, now_ms)
        if broker_epoch > NO_BROKER_EPOCH:
            follower.broker_epoch = broker_epoch
        isr_change = self._propose_expansion(replica_id, follower)
        return FetchFacts(self._advance() if moved or isr_change else None, isr_change)

    def record_time(self, now_ms: int) -> int | None:
        """Time passed; replicas outside the set that fell behind hold the high watermark no longer."""
        self._now_ms = now_ms
        return self._advance()

    def isr_shrink_candidates(self, now_ms: int) -> tuple[int, ...]:
        """Members of the in-sync set that lag for too long. Nobody while a change is pending."""
        if self._pending is not None:
            return ()
        return tuple(
            node_id
            for node_id in self._state.isr
            if node_id != self.node_id
            and not self._followers[node_id].is_caught_up(self._log_end_offset, now_ms, self.replica_lag_time_max_ms)
        )

    def propose_shrink(self, now_ms: int) -> IsrChange | None:
        """The change without those who lag, now pending, or ``None`` if nobody does."""
        self._now_ms = now_ms
        lagging = self.isr_shrink_candidates(now_ms)
        if not lagging:
            return None
        return self._propose(node_id for node_id in self._state.isr if node_id not in lagging)

    def propose_recovered(self) -> IsrChange | None:
        """The change that tells the controller that this leader's recovery is over, if it was in one."""
        if self._pending is not None or self._state.leader_recovery_state is LeaderRecoveryState.RECOVERED:
            return None
        return self._propose(self._state.isr)

    def apply_partition_state(self, state: PartitionState, log_end_offset: int, now_ms: int) -> int | None:
        """The controller decided (by its metadata, or in answer to a proposal); the new high watermark if it moved.

        A state not newer than the known one changes nothing.
        """
        known = (self._state.leader_epoch, self._state.partition_epoch)
        if (state.leader_epoch, state.partition_epoch) <= known:
            return None
        self._log_end_offset = log_end_offset
        self._now_ms = now_ms
        new_leader_epoch = state.leader_epoch > self._state.leader_epoch
        if new_leader_epoch:
            self._epoch_start_offset = log_end_offset
        self._adopt(state, new_leader_epoch=new_leader_epoch)
        return self._advance()

    def drop_proposal(self, change: IsrChange) -> int | None:
        """The controller refused ``change``: it is no longer pending. The new high watermark if that moved it.

        Only for refusals after which the change cannot have been made; after a lost answer it stays pending and is
        sent again.
        """
        if self._pending != change:
            return None
        self._pending = None
        self._maximal_isr = self._isr
        return self._advance()

    # How

    def _adopt(self, state: PartitionState, *, new_leader_epoch: bool) -> None:
        self._state = state
        self._pending = None
        self._isr = frozenset(state.isr)
        self._maximal_isr = self._isr
        known = self._followers
        self._followers = {
            node_id: known.get(node_id) or FollowerState() for node_id in state.replicas if node_id != self.node_id
        }
        for node_id, follower in self._followers.items():
            if new_leader_epoch or node_id not in known:
                follower.reset(
                    in_sync=node_id in self._isr,
                    new_leader_epoch=True,
                    leader_end_offset=self._log_end_offset,
                    now_ms=self._now_ms,
                )

    def _advance(self) -> int | None:
        followers = self._followers
        target = self._log_end_offset
        if target <= self._high_watermark or len(self._isr) < self.effective_min_insync_replicas:
            return None
        for node_id, follower in followers.items():
            if follower.log_end_offset < target and self._is_waited_for(node_id, follower):
                target = follower.log_end_offset
        if target <= self._high_watermark:
            return None
        self._high_watermark = target
        return target

    def _is_waited_for(self, node_id: int, follower: FollowerState) -> bool:
        if node_id in self._maximal_isr:
            return True
        caught_up = follower.is_caught_up(self._log_end_offset, self._now_ms, self.replica_lag_time_max_ms)
        return caught_up and self._eligible(node_id, follower.broker_epoch)

    def _propose_expansion(self, replica_id: int, follower: FollowerState) -> IsrChange | None:
        """A follower joins once it has all that is committed and all that earlier leaders wrote."""
        if self._pending is not None or replica_id in self._isr:
            return None
        if follower.log_end_offset < max(self._high_watermark, self._epoch_start_offset):
            return None
        if not self._eligible(replica_id, follower.broker_epoch):
            return None
        return self._propose((*self._state.isr, replica_id))

    def _propose(self, isr: Iterable[int]) -> IsrChange:
        members = tuple(isr)
        change = IsrChange(
            leader_epoch=self._state.leader_epoch,
            partition_epoch=self._state.partition_epoch,
            isr=members,
            broker_epochs=tuple(
                NO_BROKER_EPOCH if node_id == self.node_id else self._followers[node_id].broker_epoch
                for node_id in members
            ),
        )
        self._pending = change
        self._maximal_isr = self._isr | frozenset(members)
        return change

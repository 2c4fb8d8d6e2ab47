"""KRaft as a protocol machine: ``step(event, now_ms) -> Effects`` (KIP-595, KIP-996; static voters, kraft.version 0).

Invariants, checked by the simulation: one leader an epoch; epoch and high watermark never fall; a majority of voters
has on disk what lies below the high watermark; what is committed never changes. The machine owns all timers (randomised
by the injected ``Random``) and tells the next by ``next_deadline``. A single voter elects itself in ``start`` by the
same steps as any other and commits alone, after its flush.

Not here yet: changing the voters (KIP-853) and fetching snapshots, which need a follower behind the log's start.
"""

from collections.abc import Callable
from random import Random
from typing import assert_never

from msgspec import Struct

from ottla.quorum.effects import (
    AnswerEpochChange,
    AnswerFetch,
    AnswerVote,
    Effects,
    LeaderChange,
    LogAppend,
    Persist,
    QuorumState,
    Refusal,
    RoleChange,
    Send,
    SendBeginQuorumEpoch,
    SendEndQuorumEpoch,
    SendFetch,
    SendVote,
)
from ottla.quorum.events import (
    BeginQuorumEpochRequested,
    EndQuorumEpochRequested,
    EpochChangeAnswered,
    Event,
    FetchAnswered,
    FetchFailed,
    FetchRequested,
    LogFlushed,
    Proposed,
    ResignRequested,
    Tick,
    VoteAnswered,
    VoteRequested,
)
from ottla.quorum.ledger import LogLedger
from ottla.quorum.progress import ReplicaProgress, majority_offset
from ottla.quorum.roles import Candidate, Follower, Leader, ParkedFetch, Prospective, Resigned, Role, Unattached


class RaftSettings(Struct, frozen=True, kw_only=True):
    """``controller.quorum.*``; times in milliseconds."""

    node_id: int
    voters: tuple[int, ...]
    election_timeout_ms: int = 1000
    fetch_timeout_ms: int = 2000
    election_backoff_max_ms: int = 1000
    request_timeout_ms: int = 2000
    retry_backoff_ms: int = 20


class Raft:
    """One node's view of the quorum. Readable at any time: ``epoch``, ``leader_id``, ``role``, ``high_watermark``."""

    def __init__(
        self, settings: RaftSettings, ledger: LogLedger, stored: QuorumState, *, rng: Random, high_watermark: int = 0
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.epoch = max(stored.epoch, ledger.last_epoch)
        self.voted_id = stored.voted_id if stored.epoch == self.epoch else None
        self.leader_id = stored.leader_id if stored.epoch == self.epoch else None
        self.high_watermark = high_watermark
        """-1 is never used: what a snapshot covers is committed, an empty log is committed up to 0."""
        self.role: Role = Unattached(election_deadline=0)
        self._rng = rng
        self._fetch_retry_at = 0
        self._fetch_in_flight_until: int | None = None
        self._out = _Pending()

    # --- entry points -------------------------------------------------------------------------------------------

    def start(self, now_ms: int) -> Effects:
        """The first step, from what was stored. An only voter leaves it as the leader."""
        deadline = self._election_deadline(now_ms)
        if self._is_only_voter():
            self._become_candidate(now_ms)
        elif self.leader_id == self.settings.node_id:
            self.role = Resigned(election_deadline=deadline, preferred_candidates=())
        elif self.leader_id is not None:
            self._become_follower(self.leader_id, now_ms)
        else:
            self.role = Unattached(election_deadline=deadline)
        self._drive_fetch(now_ms)
        return self._flush_effects()

    def step(self, event: Event, now_ms: int) -> Effects:
        """Fold one event; the effects are complete for it."""
        match event:
            case Tick():
                self._on_tick(now_ms)
            case Proposed():
                self._on_proposed(event)
            case LogFlushed():
                self.ledger.record_flush(event.end_offset)
                self._advance_high_watermark()
            case ResignRequested():
                self._on_resign(now_ms)
            case VoteRequested() | BeginQuorumEpochRequested() | EndQuorumEpochRequested() | FetchRequested():
                self._on_request(event, now_ms)
            case VoteAnswered() | EpochChangeAnswered() | FetchAnswered() | FetchFailed():
                self._on_answer(event, now_ms)
            case _:
                assert_never(event)
        self._drive_fetch(now_ms)
        return self._flush_effects()

    def _on_request(
        self,
        event: VoteRequested | BeginQuorumEpochRequested | EndQuorumEpochRequested | FetchRequested,
        now_ms: int,
    ) -> None:
        match event:
            case VoteRequested():
                self._on_vote_request(event, now_ms)
            case BeginQuorumEpochRequested():
                self._on_begin_epoch(event, now_ms)
            case EndQuorumEpochRequested():
                self._on_end_epoch(event, now_ms)
            case FetchRequested():
                self._on_fetch_request(event, now_ms)

    def _on_answer(self, event: VoteAnswered | EpochChangeAnswered | FetchAnswered | FetchFailed, now_ms: int) -> None:
        match event:
            case VoteAnswered():
                self._on_vote_answer(event, now_ms)
            case EpochChangeAnswered():
                self._on_epoch_change_answer(event, now_ms)
            case FetchAnswered():
                self._on_fetch_answer(event, now_ms)
            case FetchFailed():
                self._fetch_in_flight_until = None
                self._fetch_retry_at = now_ms + self.settings.retry_backoff_ms

    def next_deadline(self) -> int | None:
        """When ``Tick`` wants to run."""
        deadlines: list[int] = []
        match self.role:
            case Leader() as leader:
                deadlines.extend(fetch.deadline for fetch in leader.parked)
                if not self._is_only_voter():
                    deadlines.extend((leader.begin_epoch_deadline, leader.check_quorum_deadline))
            case Follower() as follower:
                if self._is_voter():
                    deadlines.append(follower.fetch_deadline)
            case role:
                if self._is_voter():
                    deadlines.append(role.election_deadline)
        if self._fetch_target() is not None:
            in_flight = self._fetch_in_flight_until
            deadlines.append(self._fetch_retry_at if in_flight is None else in_flight)
        return min(deadlines, default=None)

    @property
    def is_leader(self) -> bool:
        return isinstance(self.role, Leader)

    # --- timers -------------------------------------------------------------------------------------------------

    def _on_tick(self, now_ms: int) -> None:
        match self.role:
            case Leader() as leader:
                self._answer_parked(leader, now_ms)
                self._keep_leading(leader, now_ms)
            case Follower() as follower:
                if self._is_voter() and now_ms >= follower.fetch_deadline:
                    self._become_prospective(now_ms)
            case Prospective() | Candidate() as role:
                if now_ms >= role.election_deadline:
                    self._become_prospective(now_ms)
            case Unattached() | Resigned() as role:
                if self._is_voter() and now_ms >= role.election_deadline:
                    self._leave_resigned_epoch(role)
                    self._become_prospective(now_ms)
            case _:
                assert_never(self.role)
        in_flight = self._fetch_in_flight_until
        if in_flight is not None and now_ms >= in_flight:
            self._fetch_in_flight_until = None

    def _leave_resigned_epoch(self, role: Unattached | Resigned) -> None:
        """Who resigned may not lead the same epoch again: it moves on to the next, without having voted there."""
        if isinstance(role, Resigned):
            self.epoch += 1
            self.voted_id = None
            self.leader_id = None
            self._out.state_changed = True

    def _keep_leading(self, leader: Leader, now_ms: int) -> None:
        if self._is_only_voter():
            return
        if now_ms >= leader.check_quorum_deadline:
            horizon = now_ms - self._check_quorum_ms()
            alive = sum(
                1
                for voter, progress in leader.voters.items()
                if voter == self.settings.node_id or progress.last_fetch_ms > horizon
            )
            if alive < self._majority():
                self._on_resign(now_ms)
                return
            leader.check_quorum_deadline = now_ms + self._check_quorum_ms() // 2
        if now_ms >= leader.begin_epoch_deadline:
            leader.begin_epoch_deadline = now_ms + self.settings.fetch_timeout_ms // 2
            stale = now_ms - self.settings.fetch_timeout_ms // 2
            self._send_begin_epoch(
                lambda voter: voter not in leader.acknowledged or leader.voters[voter].last_fetch_ms < stale
            )

    def _check_quorum_ms(self) -> int:
        return self.settings.fetch_timeout_ms * 3 // 2

    # --- elections ----------------------------------------------------------------------------------------------

    def _become_prospective(self, now_ms: int) -> None:
        # The leader stays known: until the pre-vote is won this node has not given up on it.
        me = self.settings.node_id
        self.role = Prospective(granted={me}, rejected=set(), election_deadline=self._election_deadline(now_ms))
        self._note_role()
        self._ask_for_votes(pre_vote=True)
        if self._majority() == 1:
            self._become_candidate(now_ms)

    def _become_candidate(self, now_ms: int) -> None:
        me = self.settings.node_id
        self.epoch += 1
        self.voted_id = me
        self.leader_id = None
        self._out.state_changed = True
        self.role = Candidate(granted={me}, rejected=set(), election_deadline=self._election_deadline(now_ms))
        self._note_role()
        self._ask_for_votes(pre_vote=False)
        if self._majority() == 1:
            self._become_leader({me}, now_ms)

    def _become_leader(self, granted: set[int], now_ms: int) -> None:
        me, voters = self.settings.node_id, self.settings.voters
        self.leader_id = me
        self.voted_id = None
        self._out.state_changed = True
        start = self.ledger.end_offset
        leader = Leader(
            epoch_start_offset=start,
            voters={voter: ReplicaProgress() for voter in voters},
            acknowledged={me},
            begin_epoch_deadline=now_ms + self.settings.fetch_timeout_ms // 2,
            check_quorum_deadline=now_ms + self._check_quorum_ms(),
        )
        for progress in leader.voters.values():
            progress.last_fetch_ms = now_ms
        self.role = leader
        self._note_role()
        granting = tuple(sorted(granted))
        self._append(1, LeaderChange(leader_id=me, voters=voters, granting_voters=granting), epoch=self.epoch)
        self._send_begin_epoch(lambda voter: voter != me)

    def _become_follower(self, leader_id: int, now_ms: int) -> None:
        assert leader_id != self.settings.node_id, "a node does not follow itself"
        self.role = Follower(leader_id=leader_id, fetch_deadline=now_ms + self.settings.fetch_timeout_ms)
        if self.leader_id != leader_id:
            self.leader_id = leader_id
            self.voted_id = None
            self._out.state_changed = True
        self._fetch_in_flight_until = None
        self._fetch_retry_at = now_ms
        self._note_role()

    def _become_unattached(self, epoch: int, now_ms: int) -> None:
        self.epoch = epoch
        self.voted_id = None
        self.leader_id = None
        self._out.state_changed = True
        self.role = Unattached(election_deadline=self._election_deadline(now_ms))
        self._fetch_in_flight_until = None
        self._note_role()

    def _on_resign(self, now_ms: int) -> None:
        if not isinstance(self.role, Leader):
            return
        leader, me = self.role, self.settings.node_id
        by_progress = sorted((v for v in self.settings.voters if v != me), key=lambda v: -leader.voters[v].end_offset)
        preferred = tuple(by_progress)
        for fetch in leader.parked:
            self._refuse_fetch(fetch.token, Refusal.NOT_LEADER)
        self.role = Resigned(election_deadline=self._election_deadline(now_ms), preferred_candidates=preferred)
        self.leader_id = None
        self._note_role()
        for voter in preferred:
            self._out.send.append(SendEndQuorumEpoch(to=voter, epoch=self.epoch, preferred_candidates=preferred))

    def _ask_for_votes(self, *, pre_vote: bool) -> None:
        for voter in self._other_voters():
            self._out.send.append(
                SendVote(
                    to=voter,
                    epoch=self.epoch,
                    last_epoch=self.ledger.last_epoch,
                    last_offset=self.ledger.end_offset,
                    pre_vote=pre_vote,
                )
            )

    def _send_begin_epoch(self, wanted: Callable[[int], bool]) -> None:
        for voter in self._other_voters():
            if wanted(voter):
                self._out.send.append(SendBeginQuorumEpoch(to=voter, epoch=self.epoch))

    # --- votes --------------------------------------------------------------------------------------------------

    def _on_vote_request(self, event: VoteRequested, now_ms: int) -> None:
        if event.candidate_id not in self.settings.voters or event.last_epoch > event.epoch:
            self._answer_vote(event.token, granted=False, refusal=Refusal.INVALID_REQUEST)
            return
        if event.epoch < self.epoch:
            self._answer_vote(event.token, granted=False, refusal=Refusal.FENCED_LEADER_EPOCH)
            return
        if event.epoch > self.epoch and not event.pre_vote:
            self._become_unattached(event.epoch, now_ms)
        up_to_date = self.ledger.is_behind_or_equal(epoch=event.last_epoch, offset=event.last_offset)
        granted = up_to_date and (self._would_pre_vote() if event.pre_vote else self._may_vote_for(event.candidate_id))
        if granted and not event.pre_vote:
            self._record_vote(event.candidate_id, now_ms)
        self._answer_vote(event.token, granted=granted)

    def _would_pre_vote(self) -> bool:
        """A node that hears from a leader does not help to unseat it."""
        match self.role:
            case Leader():
                return False
            case Follower() as follower:
                return not follower.has_fetched
            case _:
                return True

    def _may_vote_for(self, candidate_id: int) -> bool:
        match self.role:
            case Unattached() | Prospective():
                if self.voted_id is not None:
                    return self.voted_id == candidate_id
                return self.leader_id is None
            case _:
                return False

    def _record_vote(self, candidate_id: int, now_ms: int) -> None:
        if self.voted_id != candidate_id:
            self.voted_id = candidate_id
            self._out.state_changed = True
        self.role = Unattached(election_deadline=self._election_deadline(now_ms))

    def _answer_vote(self, token: int, *, granted: bool, refusal: Refusal | None = None) -> None:
        self._out.send.append(
            AnswerVote(token=token, granted=granted, epoch=self.epoch, leader_id=self.leader_id, refusal=refusal)
        )

    def _on_vote_answer(self, event: VoteAnswered, now_ms: int) -> None:
        if self._learn(event.epoch, event.leader_id, now_ms) or event.request_epoch != self.epoch:
            return
        role = self.role
        if not isinstance(role, Prospective | Candidate) or event.pre_vote != isinstance(role, Prospective):
            return
        (role.granted if event.granted else role.rejected).add(event.sender)
        if len(role.granted) >= self._majority():
            if isinstance(role, Prospective):
                self._become_candidate(now_ms)
            else:
                self._become_leader(role.granted, now_ms)
        elif len(role.rejected) > len(self.settings.voters) - self._majority():
            self._lose_election(role, now_ms)

    def _lose_election(self, role: Prospective | Candidate, now_ms: int) -> None:
        if isinstance(role, Prospective) and self.leader_id is not None:
            self._become_follower(self.leader_id, now_ms)
        else:
            backoff = self._rng.randint(self.settings.retry_backoff_ms, self.settings.election_backoff_max_ms)
            role.election_deadline = min(role.election_deadline, now_ms + backoff)

    def _learn(self, epoch: int, leader_id: int | None, now_ms: int) -> bool:
        """Take up a newer epoch, or the leader of this one, from any answer. Returns whether the role changed."""
        if epoch < self.epoch:
            return False
        if epoch > self.epoch:
            self._become_unattached(epoch, now_ms)
            if leader_id is not None and leader_id != self.settings.node_id:
                self._become_follower(leader_id, now_ms)
            return True
        if leader_id is None or leader_id == self.settings.node_id or self.leader_id is not None:
            # Nothing new; in particular nothing that brings who stands for election back to the leader it lost.
            return False
        if isinstance(self.role, Leader | Resigned):
            return False
        self._become_follower(leader_id, now_ms)
        return True

    # --- announcements ------------------------------------------------------------------------------------------

    def _on_begin_epoch(self, event: BeginQuorumEpochRequested, now_ms: int) -> None:
        if event.epoch < self.epoch:
            self._answer_epoch(event.token, Refusal.FENCED_LEADER_EPOCH)
            return
        if event.leader_id not in self.settings.voters or event.leader_id == self.settings.node_id:
            self._answer_epoch(event.token, Refusal.INVALID_REQUEST)
            return
        if not self._learn(event.epoch, event.leader_id, now_ms):
            assert self.leader_id in (None, event.leader_id), "two leaders in one epoch"
            if isinstance(self.role, Prospective):
                # It was only slow: the leader is there.
                self._become_follower(event.leader_id, now_ms)
        self._answer_epoch(event.token)

    def _on_end_epoch(self, event: EndQuorumEpochRequested, now_ms: int) -> None:
        if event.epoch < self.epoch:
            self._answer_epoch(event.token, Refusal.FENCED_LEADER_EPOCH)
            return
        self._learn(event.epoch, event.leader_id, now_ms)
        self._answer_epoch(event.token)
        role = self.role
        if not isinstance(role, Follower) or role.leader_id != event.leader_id or not self._is_voter():
            return
        # The first in line stands at once; the others give it a head start that grows with their rank.
        self.leader_id = None
        self.role = Unattached(election_deadline=self._election_deadline(now_ms))
        self._note_role()
        if self.settings.node_id in event.preferred_candidates:
            rank = event.preferred_candidates.index(self.settings.node_id)
            span = min(self.settings.election_backoff_max_ms, 50 * (2**rank))
            delay = 0 if rank == 0 else self._rng.randint(span // 2, span)
            self.role.election_deadline = now_ms + delay
            if delay == 0:
                self._become_prospective(now_ms)

    def _answer_epoch(self, token: int, refusal: Refusal | None = None) -> None:
        self._out.send.append(
            AnswerEpochChange(token=token, epoch=self.epoch, leader_id=self.leader_id, refusal=refusal)
        )

    def _on_epoch_change_answer(self, event: EpochChangeAnswered, now_ms: int) -> None:
        if not self._learn(event.epoch, event.leader_id, now_ms) and isinstance(self.role, Leader):
            self.role.acknowledged.add(event.sender)

    # --- leading ------------------------------------------------------------------------------------------------

    def _on_proposed(self, event: Proposed) -> None:
        if not isinstance(self.role, Leader):
            return
        for record_count, payload in event.batches:
            self._append(record_count, payload, epoch=self.epoch)
        self._serve_parked(self.role, lambda fetch: fetch.fetch_offset < self.ledger.end_offset)

    def _on_fetch_request(self, event: FetchRequested, now_ms: int) -> None:
        leader = self.role
        if event.epoch < self.epoch:
            self._refuse_fetch(event.token, Refusal.FENCED_LEADER_EPOCH)
            return
        if event.epoch > self.epoch:
            self._refuse_fetch(event.token, Refusal.UNKNOWN_LEADER_EPOCH)
            return
        if not isinstance(leader, Leader):
            self._refuse_fetch(event.token, Refusal.NOT_LEADER)
            return
        if event.fetch_offset < self.ledger.start_offset:
            self._refuse_fetch(event.token, Refusal.OFFSET_OUT_OF_RANGE)
            return
        if not self.ledger.is_prefix(epoch=event.last_fetched_epoch, offset=event.fetch_offset):
            diverging = self.ledger.end_offset_for(event.last_fetched_epoch)
            self._answer_fetch(event.token, event.fetch_offset, diverging=diverging)
            return
        self._record_fetch(leader, event, now_ms)
        news = event.fetch_offset < self.ledger.end_offset or event.high_watermark < self.high_watermark
        if news or event.max_wait_ms <= 0:
            self._answer_fetch(event.token, event.fetch_offset)
        else:
            leader.parked.append(
                ParkedFetch(
                    token=event.token,
                    replica_id=event.replica_id,
                    fetch_offset=event.fetch_offset,
                    high_watermark=event.high_watermark,
                    deadline=now_ms + event.max_wait_ms,
                )
            )

    def _record_fetch(self, leader: Leader, event: FetchRequested, now_ms: int) -> None:
        if event.replica_id in leader.voters:
            if event.replica_id == self.settings.node_id:
                return
            progress = leader.voters[event.replica_id]
            leader.acknowledged.add(event.replica_id)
        else:
            progress = leader.observers.setdefault(event.replica_id, ReplicaProgress())
        progress.record_fetch(fetch_offset=event.fetch_offset, leader_end_offset=self.ledger.end_offset, now_ms=now_ms)
        self._advance_high_watermark()

    def _advance_high_watermark(self) -> None:
        leader = self.role
        if not isinstance(leader, Leader):
            return
        leader.voters[self.settings.node_id].end_offset = self.ledger.flushed_offset
        candidate = majority_offset(progress.end_offset for progress in leader.voters.values())
        # Records of earlier epochs commit only together with one of this epoch (Raft, section 5.4.2).
        if candidate <= leader.epoch_start_offset or candidate <= self.high_watermark:
            return
        self._raise_high_watermark(candidate)
        self._serve_parked(leader, lambda fetch: fetch.high_watermark < self.high_watermark)

    def _raise_high_watermark(self, offset: int) -> None:
        self.high_watermark = offset
        self._out.commit_through = offset

    def _serve_parked(self, leader: Leader, ready: Callable[[ParkedFetch], bool]) -> None:
        waiting: list[ParkedFetch] = []
        for fetch in leader.parked:
            if ready(fetch):
                self._answer_fetch(fetch.token, fetch.fetch_offset)
            else:
                waiting.append(fetch)
        leader.parked = waiting

    def _answer_parked(self, leader: Leader, now_ms: int) -> None:
        self._serve_parked(leader, lambda fetch: now_ms >= fetch.deadline)

    def _answer_fetch(self, token: int, from_offset: int, *, diverging: tuple[int, int] | None = None) -> None:
        self._out.send.append(
            AnswerFetch(
                token=token,
                epoch=self.epoch,
                leader_id=self.leader_id,
                from_offset=from_offset,
                upper=from_offset if diverging else self.ledger.end_offset,
                high_watermark=self.high_watermark,
                diverging=diverging,
            )
        )

    def _refuse_fetch(self, token: int, refusal: Refusal) -> None:
        self._out.send.append(AnswerFetch(token=token, epoch=self.epoch, leader_id=self.leader_id, refusal=refusal))

    def _append(self, record_count: int, payload: object, *, epoch: int) -> None:
        base = self.ledger.record_append(epoch=epoch, record_count=record_count)
        self._out.append.append(LogAppend(base_offset=base, record_count=record_count, epoch=epoch, payload=payload))

    # --- following ----------------------------------------------------------------------------------------------

    def _on_fetch_answer(self, event: FetchAnswered, now_ms: int) -> None:
        self._fetch_in_flight_until = None
        self._fetch_retry_at = now_ms + (self.settings.retry_backoff_ms if event.refused else 0)
        if self._learn(event.epoch, event.leader_id, now_ms) or event.request_epoch != self.epoch:
            return
        follower = self.role
        if not isinstance(follower, Follower) or event.refused or event.sender != follower.leader_id:
            return
        follower.has_fetched = True
        follower.fetch_deadline = now_ms + self.settings.fetch_timeout_ms
        if event.diverging is not None:
            self._truncate_to_common(event.diverging)
        elif event.fetch_offset == self.ledger.end_offset:
            for batch in event.batches:
                self._append(batch.record_count, batch.payload, epoch=batch.epoch)
            # Flushed before the next fetch goes out: that fetch says so to the leader.
            self.ledger.record_flush(self.ledger.end_offset)
            self._out.flush = bool(event.batches)
            committed = min(event.high_watermark, self.ledger.end_offset)
            if committed > self.high_watermark:
                self._raise_high_watermark(committed)

    def _truncate_to_common(self, diverging: tuple[int, int]) -> None:
        epoch, end_offset = diverging
        _, local_end = self.ledger.end_offset_for(epoch)
        target = min(end_offset, local_end)
        assert target >= self.high_watermark, "committed records never diverge"
        if target < self.ledger.end_offset:
            self.ledger.truncate_to(target)
            self._out.truncate_to = target

    def _drive_fetch(self, now_ms: int) -> None:
        target = self._fetch_target()
        if target is None or self._fetch_in_flight_until is not None or now_ms < self._fetch_retry_at:
            return
        self._fetch_in_flight_until = now_ms + self.settings.request_timeout_ms
        self._out.send.append(
            SendFetch(
                to=target,
                epoch=self.epoch,
                fetch_offset=self.ledger.end_offset,
                last_fetched_epoch=self.ledger.last_epoch,
                high_watermark=self.high_watermark,
            )
        )

    def _fetch_target(self) -> int | None:
        match self.role:
            case Follower() as follower:
                return follower.leader_id
            case Unattached() if not self._is_voter():
                return self.settings.voters[self._rng.randrange(len(self.settings.voters))]
            case _:
                return None

    # --- small words --------------------------------------------------------------------------------------------

    def _is_voter(self) -> bool:
        return self.settings.node_id in self.settings.voters

    def _is_only_voter(self) -> bool:
        return self.settings.voters == (self.settings.node_id,)

    def _other_voters(self) -> list[int]:
        return [voter for voter in self.settings.voters if voter != self.settings.node_id]

    def _majority(self) -> int:
        return len(self.settings.voters) // 2 + 1

    def _election_deadline(self, now_ms: int) -> int:
        timeout = self.settings.election_timeout_ms
        return now_ms + timeout + self._rng.randrange(timeout)

    def _note_role(self) -> None:
        leading = isinstance(self.role, Leader)
        self._out.role = RoleChange(
            role=type(self.role).__name__.lower(),
            epoch=self.epoch,
            leader_id=self.leader_id,
            leading=leading,
            epoch_start_offset=self.role.epoch_start_offset if isinstance(self.role, Leader) else -1,
        )

    def _flush_effects(self) -> Effects:
        out, self._out = self._out, _Pending()
        state: QuorumState | None = None
        if out.state_changed:
            state = QuorumState(epoch=self.epoch, leader_id=self.leader_id, voted_id=self.voted_id)
        persist = Persist(
            quorum_state=state,
            truncate_to=out.truncate_to,
            append=tuple(out.append),
            flush=out.flush,
        )
        return Effects(persist=persist, send=tuple(out.send), commit_through=out.commit_through, role=out.role)


class _Pending:
    """The effects of the step under way."""

    __slots__ = ("append", "commit_through", "flush", "role", "send", "state_changed", "truncate_to")

    def __init__(self) -> None:
        self.state_changed = False
        self.truncate_to: int | None = None
        self.append: list[LogAppend] = []
        self.flush = False
        self.send: list[Send] = []
        self.commit_through: int | None = None
        self.role: RoleChange | None = None

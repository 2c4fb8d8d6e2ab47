"""What happens to the Raft machine. Requests carry a ``token`` by which the shell finds whom to answer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed; due timers fire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteRequested:
    token: int
    candidate_id: int
    epoch: int
    last_epoch: int
    last_offset: int
    pre_vote: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteAnswered:
    sender: int
    epoch: int
    leader_id: int | None
    granted: bool
    request_epoch: int
    pre_vote: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginQuorumEpochRequested:
    token: int
    leader_id: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndQuorumEpochRequested:
    token: int
    leader_id: int
    epoch: int
    preferred_candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochChangeAnswered:
    """The answer to BeginQuorumEpoch or EndQuorumEpoch."""

    sender: int
    epoch: int
    leader_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequested:
    token: int
    replica_id: int
    epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    high_watermark: int
    max_wait_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedBatch:
    record_count: int
    epoch: int
    payload: object


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchAnswered:
    """``refused``: the sender does not lead that epoch; ``diverging``: (epoch, end offset) to truncate to."""

    sender: int
    request_epoch: int
    fetch_offset: int
    epoch: int
    leader_id: int | None
    refused: bool = False
    diverging: tuple[int, int] | None = None
    high_watermark: int = -1
    batches: tuple[FetchedBatch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchFailed:
    """No answer: connection lost or timed out."""

    sender: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """The leader's own batches, in order: (record count, payload). Without effect where this node does not lead."""

    batches: tuple[tuple[int, object], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFlushed:
    """The local log is on disk up to ``end_offset`` (exclusive)."""

    end_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResignRequested:
    """Graceful stop: a leader hands over."""


Event = (
    Tick
    | VoteRequested
    | VoteAnswered
    | BeginQuorumEpochRequested
    | EndQuorumEpochRequested
    | EpochChangeAnswered
    | FetchRequested
    | FetchAnswered
    | FetchFailed
    | Proposed
    | LogFlushed
    | ResignRequested
)

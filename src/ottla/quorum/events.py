"""What happens to the Raft machine. Requests carry a ``token`` by which the shell finds whom to answer."""

from msgspec import Struct


class Tick(Struct, frozen=True, kw_only=True):
    """Time has passed; due timers fire."""


class VoteRequested(Struct, frozen=True, kw_only=True):
    token: int
    candidate_id: int
    epoch: int
    last_epoch: int
    last_offset: int
    pre_vote: bool


class VoteAnswered(Struct, frozen=True, kw_only=True):
    sender: int
    epoch: int
    leader_id: int | None
    granted: bool
    request_epoch: int
    pre_vote: bool


class BeginQuorumEpochRequested(Struct, frozen=True, kw_only=True):
    token: int
    leader_id: int
    epoch: int


class EndQuorumEpochRequested(Struct, frozen=True, kw_only=True):
    token: int
    leader_id: int
    epoch: int
    preferred_candidates: tuple[int, ...]


class EpochChangeAnswered(Struct, frozen=True, kw_only=True):
    """The answer to BeginQuorumEpoch or EndQuorumEpoch."""

    sender: int
    epoch: int
    leader_id: int | None


class FetchRequested(Struct, frozen=True, kw_only=True):
    token: int
    replica_id: int
    epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    high_watermark: int
    max_wait_ms: int


class FetchedBatch(Struct, frozen=True, kw_only=True):
    record_count: int
    epoch: int
    payload: object


class FetchAnswered(Struct, frozen=True, kw_only=True):
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


class FetchFailed(Struct, frozen=True, kw_only=True):
    """No answer: connection lost or timed out."""

    sender: int


class Proposed(Struct, frozen=True, kw_only=True):
    """The leader's own batches, in order: (record count, payload). Without effect where this node does not lead."""

    batches: tuple[tuple[int, object], ...]


class LogFlushed(Struct, frozen=True, kw_only=True):
    """The local log is on disk up to ``end_offset`` (exclusive)."""

    end_offset: int


class ResignRequested(Struct, frozen=True, kw_only=True):
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

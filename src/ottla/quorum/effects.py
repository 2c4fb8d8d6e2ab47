"""What the Raft machine asks its shell to do, in the one order that is safe.

Everything in ``Effects.persist`` has to be on disk (quorum state by replacing the file, the log by flushing it) before
anything in ``Effects.send`` leaves the node. Only a leader's own appends may be flushed later: they count towards the
high watermark when ``LogFlushed`` reports them, never before (Apache Kafka raises the leader's own offset before the
flush; a power cut may then take back what was committed).
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumState:
    """What a node must never forget: ``quorum-state`` of kraft.version 0."""

    epoch: int = 0
    leader_id: int | None = None
    voted_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderChange:
    """Payload of the control record that opens an epoch."""

    leader_id: int
    voters: tuple[int, ...]
    granting_voters: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAppend:
    """One batch to append at exactly ``base_offset``; ``payload`` is opaque to the machine."""

    base_offset: int
    record_count: int
    epoch: int
    payload: object

    @property
    def end_offset(self) -> int:
        return self.base_offset + self.record_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Persist:
    """In this order: truncate the log, replace the quorum state, append. ``flush``: the log too must be on disk."""

    quorum_state: QuorumState | None = None
    truncate_to: int | None = None
    append: tuple[LogAppend, ...] = ()
    flush: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SendVote:
    to: int
    epoch: int
    last_epoch: int
    last_offset: int
    pre_vote: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SendBeginQuorumEpoch:
    to: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendEndQuorumEpoch:
    to: int
    epoch: int
    preferred_candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendFetch:
    to: int
    epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    high_watermark: int


class Refusal(Enum):
    """Why a request was not served; the shell turns it into Kafka's error code."""

    FENCED_LEADER_EPOCH = "fenced_leader_epoch"
    UNKNOWN_LEADER_EPOCH = "unknown_leader_epoch"
    NOT_LEADER = "not_leader"
    INVALID_REQUEST = "invalid_request"
    OFFSET_OUT_OF_RANGE = "offset_out_of_range"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerVote:
    token: int
    granted: bool
    epoch: int
    leader_id: int | None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerEpochChange:
    """Answers BeginQuorumEpoch and EndQuorumEpoch."""

    token: int
    epoch: int
    leader_id: int | None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFetch:
    """Serve ``[from_offset, upper)``, or say why not; ``diverging`` is (epoch, end offset) to truncate to."""

    token: int
    epoch: int
    leader_id: int | None
    from_offset: int = 0
    upper: int = 0
    high_watermark: int = -1
    diverging: tuple[int, int] | None = None
    refusal: Refusal | None = None


Send = SendVote | SendBeginQuorumEpoch | SendEndQuorumEpoch | SendFetch | AnswerVote | AnswerEpochChange | AnswerFetch


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChange:
    """The node's place in the quorum changed; ``leading`` tells the controller to come up or to step down."""

    role: str
    epoch: int
    leader_id: int | None
    leading: bool
    epoch_start_offset: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """First ``persist``, then ``send``; ``commit_through`` is a new high watermark, ``role`` the last role taken."""

    persist: Persist = Persist()
    send: tuple[Send, ...] = ()
    commit_through: int | None = None
    role: RoleChange | None = None

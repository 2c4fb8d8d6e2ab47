"""What the Raft machine asks its shell to do, in the one order that is safe.

Everything in ``Effects.persist`` has to be on disk (quorum state by replacing the file, the log by flushing it) before
anything in ``Effects.send`` leaves the node. Only a leader's own appends may be flushed later: they count towards the
high watermark when ``LogFlushed`` reports them, never before (Apache Kafka raises the leader's own offset before the
flush; a power cut may then take back what was committed).
"""

from enum import Enum

from msgspec import Struct


class QuorumState(Struct, frozen=True, kw_only=True):
    """What a node must never forget: ``quorum-state`` of kraft.version 0."""

    epoch: int = 0
    leader_id: int | None = None
    voted_id: int | None = None


class LeaderChange(Struct, frozen=True, kw_only=True):
    """Payload of the control record that opens an epoch."""

    leader_id: int
    voters: tuple[int, ...]
    granting_voters: tuple[int, ...]


class LogAppend(Struct, frozen=True, kw_only=True):
    """One batch to append at exactly ``base_offset``; ``payload`` is opaque to the machine."""

    base_offset: int
    record_count: int
    epoch: int
    payload: object

    @property
    def end_offset(self) -> int:
        return self.base_offset + self.record_count


class Persist(Struct, frozen=True, kw_only=True):
    """In this order: truncate the log, replace the quorum state, append. ``flush``: the log too must be on disk."""

    quorum_state: QuorumState | None = None
    truncate_to: int | None = None
    append: tuple[LogAppend, ...] = ()
    flush: bool = False


class SendVote(Struct, frozen=True, kw_only=True):
    to: int
    epoch: int
    last_epoch: int
    last_offset: int
    pre_vote: bool


class SendBeginQuorumEpoch(Struct, frozen=True, kw_only=True):
    to: int
    epoch: int


class SendEndQuorumEpoch(Struct, frozen=True, kw_only=True):
    to: int
    epoch: int
    preferred_candidates: tuple[int, ...]


class SendFetch(Struct, frozen=True, kw_only=True):
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


class AnswerVote(Struct, frozen=True, kw_only=True):
    token: int
    granted: bool
    epoch: int
    leader_id: int | None
    refusal: Refusal | None = None


class AnswerEpochChange(Struct, frozen=True, kw_only=True):
    """Answers BeginQuorumEpoch and EndQuorumEpoch."""

    token: int
    epoch: int
    leader_id: int | None
    refusal: Refusal | None = None


class AnswerFetch(Struct, frozen=True, kw_only=True):
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


class RoleChange(Struct, frozen=True, kw_only=True):
    """The node's place in the quorum changed; ``leading`` tells the controller to come up or to step down."""

    role: str
    epoch: int
    leader_id: int | None
    leading: bool
    epoch_start_offset: int = -1


class Effects(Struct, frozen=True, kw_only=True):
    """First ``persist``, then ``send``; ``commit_through`` is a new high watermark, ``role`` the last role taken."""

    persist: Persist = Persist()
    send: tuple[Send, ...] = ()
    commit_through: int | None = None
    role: RoleChange | None = None

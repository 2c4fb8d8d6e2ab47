"""The six places a node can have in its quorum. Values of the machine; deadlines are wall-clock milliseconds."""

from msgspec import Struct, field

from ottla.quorum.progress import ReplicaProgress


class Unattached(Struct, kw_only=True):
    """Knows the epoch, not its leader; waits to hear of one, then stands for election."""

    election_deadline: int


class Prospective(Struct, kw_only=True):
    """Asks whether it would win (pre-vote) before it disturbs the epoch (KIP-996)."""

    granted: set[int]
    rejected: set[int]
    election_deadline: int


class Candidate(Struct, kw_only=True):
    """Has bumped the epoch and voted for itself."""

    granted: set[int]
    rejected: set[int]
    election_deadline: int


class ParkedFetch(Struct, kw_only=True):
    """A fetch that waits at the leader for records or for a new high watermark."""

    token: int
    replica_id: int
    fetch_offset: int
    high_watermark: int
    deadline: int


class Leader(Struct, kw_only=True):
    """Owns the epoch from ``epoch_start_offset`` (its LeaderChange record) on."""

    epoch_start_offset: int
    voters: dict[int, ReplicaProgress]
    observers: dict[int, ReplicaProgress] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    """Voters that know of this leadership."""
    begin_epoch_deadline: int
    check_quorum_deadline: int
    parked: list[ParkedFetch] = field(default_factory=list)


class Follower(Struct, kw_only=True):
    """Fetches from ``leader_id`` until it has been silent for too long."""

    leader_id: int
    fetch_deadline: int
    has_fetched: bool = False


class Resigned(Struct, kw_only=True):
    """Led this epoch and gave it up; never leads it again."""

    election_deadline: int
    preferred_candidates: tuple[int, ...]


Role = Unattached | Prospective | Candidate | Leader | Follower | Resigned

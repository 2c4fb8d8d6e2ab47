"""The six places a node can have in its quorum. Values of the machine; deadlines are wall-clock milliseconds."""

from dataclasses import dataclass, field

from ottla.quorum.progress import ReplicaProgress


@dataclass(slots=True, kw_only=True)
class Unattached:
    """Knows the epoch, not its leader; waits to hear of one, then stands for election."""

    election_deadline: int


@dataclass(slots=True, kw_only=True)
class Prospective:
    """Asks whether it would win (pre-vote) before it disturbs the epoch (KIP-996)."""

    granted: set[int]
    rejected: set[int]
    election_deadline: int


@dataclass(slots=True, kw_only=True)
class Candidate:
    """Has bumped the epoch and voted for itself."""

    granted: set[int]
    rejected: set[int]
    election_deadline: int


@dataclass(slots=True, kw_only=True)
class ParkedFetch:
    """A fetch that waits at the leader for records or for a new high watermark."""

    token: int
    replica_id: int
    fetch_offset: int
    high_watermark: int
    deadline: int


@dataclass(slots=True, kw_only=True)
class Leader:
    """Owns the epoch from ``epoch_start_offset`` (its LeaderChange record) on."""

    epoch_start_offset: int
    voters: dict[int, ReplicaProgress]
    observers: dict[int, ReplicaProgress] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    """Voters that know of this leadership."""
    begin_epoch_deadline: int
    check_quorum_deadline: int
    parked: list[ParkedFetch] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Follower:
    """Fetches from ``leader_id`` until it has been silent for too long."""

    leader_id: int
    fetch_deadline: int
    has_fetched: bool = False


@dataclass(slots=True, kw_only=True)
class Resigned:
    """Led this epoch and gave it up; never leads it again."""

    election_deadline: int
    preferred_candidates: tuple[int, ...]


Role = Unattached | Prospective | Candidate | Leader | Follower | Resigned

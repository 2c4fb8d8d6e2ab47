"""Who appends to a log; it decides which rules a batch is held against."""

from enum import IntEnum


class Origin(IntEnum):
    """``REPLICATION``: copied from the leader, nothing is checked again. ``COORDINATOR``: our own group or transaction
    coordinator, trusted but for producer epochs. ``CLIENT``: everything is checked. ``RAFT_LEADER``: the metadata log.
    """

    REPLICATION = 0
    COORDINATOR = 1
    CLIENT = 2
    RAFT_LEADER = 3

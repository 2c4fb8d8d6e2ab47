"""What a leader knows of each replica, and which offset a majority of voters has on disk."""

from collections.abc import Iterable

from msgspec import Struct


class ReplicaProgress(Struct, kw_only=True):
    """Of one voter or observer; times are -1 before its first fetch."""

    end_offset: int = -1
    last_fetch_ms: int = -1
    last_caught_up_ms: int = -1
    end_offset_at_last_fetch: int = -1

    def record_fetch(self, *, fetch_offset: int, leader_end_offset: int, now_ms: int) -> None:
        """A fetch from ``fetch_offset`` says that all before it is on the replica's disk."""
        if fetch_offset >= leader_end_offset:
            self.last_caught_up_ms = now_ms
        elif 0 <= self.end_offset_at_last_fetch <= fetch_offset:
            self.last_caught_up_ms = max(self.last_caught_up_ms, self.last_fetch_ms)
        self.last_fetch_ms = now_ms
        self.end_offset_at_last_fetch = leader_end_offset
        self.end_offset = fetch_offset


def majority_offset(end_offsets: Iterable[int]) -> int:
    """The highest end offset that more than half of the voters have reached; -1 counts as "nothing known"."""
    ordered = sorted(end_offsets, reverse=True)
    return ordered[len(ordered) // 2]

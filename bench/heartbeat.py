"""What a heartbeat costs the group machine: consumer groups of 10, 100 and 1,000 members and partitions.

`python bench/heartbeat.py` prints, for each size, what a join costs while the group forms, and a heartbeat afterwards:
one that says nothing, one that reports what is owned, and the round in which a topic grew. No sockets, no log: what is
measured is the decision, its records and their folding.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from harness.group_topics import ToldTopics
from ottla.groups.commands import ConsumerHeartbeat, ConsumerHeartbeatResult
from ottla.groups.settings import GroupSettings
from ottla.groups.shard import GroupShard
from ottla.model import Uuid

SIZES = (10, 100, 1_000)
ROUNDS = 20
HEARTBEAT_MS = 5_000


class Bench:
    """One group on one shard, with members that do as they are told at once."""

    def __init__(self, members: int, partitions: int) -> None:
        self.now = 1_000_000
        self.topics = ToldTopics()
        self.topics.put("t", partitions)
        self.shard = GroupShard(settings=GroupSettings(), random=Random(1))
        self.shard.see_topics(self.topics, ())
        self.shard.on_loaded(self.now)
        self.epochs = dict.fromkeys((f"member-{number}" for number in range(members)), 0)
        self.owned: dict[str, dict[Uuid, tuple[int, ...]]] = {name: {} for name in self.epochs}
        self.records = 0

    def beat(self, name: str, *, reports: bool = False) -> None:
        """One heartbeat, carried out and obeyed."""
        epoch = self.epochs[name]
        command = ConsumerHeartbeat(
            group_id="g",
            member_id=name,
            member_epoch=epoch,
            client_id="bench",
            client_host="/127.0.0.1",
            rebalance_timeout_ms=-1 if epoch else 60_000,
            topics=None if epoch else ("t",),
            owned=self.owned[name] if reports or not epoch else None,
        )
        decision = self.shard.consumer_heartbeat(command, self.now)
        for record in decision.records:
            self.shard.apply(record, 0)
        self.records += len(decision.records)
        answer = decision.response
        assert isinstance(answer, ConsumerHeartbeatResult)
        self.epochs[name] = answer.member_epoch
        if answer.assignment is not None:
            self.owned[name] = {topic: tuple(held) for topic, held in answer.assignment.items()}

    def round(self, *, reports: bool = False) -> float:
        """Every member beats once; seconds a heartbeat."""
        started = time.perf_counter()
        for name in self.epochs:
            self.beat(name, reports=reports)
        return (time.perf_counter() - started) / len(self.epochs)

    def settle(self) -> int:
        """Rounds of reporting heartbeats until nothing changes any more."""
        for rounds in range(1, 50):
            before = self.records
            self.now += HEARTBEAT_MS
            self.round(reports=True)
            if self.records == before:
                return rounds
        raise AssertionError("the group does not settle")


def main() -> None:
    """Print one line for each size."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("members x partitions   join (us)   silent (us)   reporting (us)   after growth (us)   rounds to settle")
    for size in SIZES:
        bench = Bench(size, size)
        joining = bench.round()
        rounds = bench.settle()
        silent = min(bench.round() for _ in range(ROUNDS))
        reporting = min(bench.round(reports=True) for _ in range(ROUNDS))
        bench.topics.put("t", size + size // 2)
        bench.shard.see_topics(bench.topics, ["t"])
        bench.now += HEARTBEAT_MS
        growing = bench.round(reports=True)
        numbers = (joining, silent, reporting, growing)
        print(f"{size:7} x {size:<10}" + "".join(f"{seconds * 1e6:14.1f}" for seconds in numbers) + f"{rounds:18}")


if __name__ == "__main__":
    main()

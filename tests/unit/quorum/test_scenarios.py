"""Scenarios of a node of the quorum: what happened to it, what it wanted done.

Commands: `node ID voters=1,2,3 [epoch=E leader=L voted=V] [end=N epochs=E:START,..]`, `tick MS` (advance the clock and
fire timers), and events with their fields.
"""

from pathlib import Path
from random import Random

from harness.scenarios import check, scenarios
from ottla.quorum import events
from ottla.quorum.effects import Effects, LeaderChange, QuorumState
from ottla.quorum.ledger import LogLedger
from ottla.quorum.raft import Raft, RaftSettings


@scenarios("quorum")
def test_scenario(path: Path, rewrite: bool) -> None:
    check(path, Runner().run, rewrite=rewrite)


class Runner:
    """One node under a scenario. Its timers are the shortest possible: the random source always says 0."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.raft: Raft

    def run(self, line: str) -> list[str]:
        verb, *words = line.split()
        fields = dict(word.split("=", 1) for word in words if "=" in word)
        match verb:
            case "node":
                return self._node(int(words[0]), fields)
            case "tick":
                self.now_ms += int(words[0])
                return show(self.raft, self.raft.step(events.Tick(), self.now_ms))
            case "propose":
                event: events.Event = events.Proposed(batches=((int(words[0]), "data"),))
            case "flushed":
                event = events.LogFlushed(end_offset=int(words[0]))
            case "resign":
                event = events.ResignRequested()
            case "vote?":
                event = events.VoteRequested(
                    token=7,
                    candidate_id=int(fields["from"]),
                    epoch=int(fields["epoch"]),
                    last_epoch=int(fields["last"].split("@")[0]),
                    last_offset=int(fields["last"].split("@")[1]),
                    pre_vote="pre" in words,
                )
            case "vote!":
                event = events.VoteAnswered(
                    sender=int(fields["from"]),
                    epoch=int(fields["epoch"]),
                    leader_id=node(fields.get("leader", "-")),
                    granted="granted" in words,
                    request_epoch=int(fields.get("asked", fields["epoch"])),
                    pre_vote="pre" in words,
                )
            case "begin?":
                event = events.BeginQuorumEpochRequested(
                    token=7, leader_id=int(fields["from"]), epoch=int(fields["epoch"])
                )
            case "end?":
                preferred = tuple(int(part) for part in fields["preferred"].split(","))
                event = events.EndQuorumEpochRequested(
                    token=7, leader_id=int(fields["from"]), epoch=int(fields["epoch"]), preferred_candidates=preferred
                )
            case "fetch?":
                event = events.FetchRequested(
                    token=7,
                    replica_id=int(fields["from"]),
                    epoch=int(fields["epoch"]),
                    fetch_offset=int(fields["offset"]),
                    last_fetched_epoch=int(fields["last"]),
                    high_watermark=int(fields.get("hw", "0")),
                    max_wait_ms=int(fields.get("wait", "0")),
                )
            case "fetch!":
                batches = [part.split("@") for part in fields.get("batches", "").split(",") if part]
                diverging = fields.get("diverging")
                event = events.FetchAnswered(
                    sender=int(fields["from"]),
                    request_epoch=int(fields.get("asked", fields["epoch"])),
                    fetch_offset=self.raft.ledger.end_offset,
                    epoch=int(fields["epoch"]),
                    leader_id=node(fields.get("leader", fields["from"])),
                    refused="refused" in words,
                    diverging=None if diverging is None else pair(diverging),
                    high_watermark=int(fields.get("hw", "-1")),
                    batches=tuple(
                        events.FetchedBatch(record_count=int(count), epoch=int(epoch), payload="data")
                        for count, epoch in batches
                    ),
                )
            case _:
                raise ValueError(f"unknown command: {line}")
        return show(self.raft, self.raft.step(event, self.now_ms))

    def _node(self, node_id: int, fields: dict[str, str]) -> list[str]:
        voters = tuple(int(part) for part in fields["voters"].split(","))
        epochs = [pair(part, ":") for part in fields.get("epochs", "").split(",") if part]
        stored = QuorumState(
            epoch=int(fields.get("epoch", "0")),
            leader_id=node(fields.get("leader", "-")),
            voted_id=node(fields.get("voted", "-")),
        )
        ledger = LogLedger(end_offset=int(fields.get("end", "0")), epochs=epochs)
        self.raft = Raft(RaftSettings(node_id=node_id, voters=voters), ledger, stored, rng=Lowest())
        return show(self.raft, self.raft.start(self.now_ms))


class Lowest(Random):
    """Always the smallest answer."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return 0 if stop is None else start

    def randint(self, a: int, b: int) -> int:
        return a


def node(text: str) -> int | None:
    return None if text == "-" else int(text)


def pair(text: str, separator: str = "@") -> tuple[int, int]:
    first, second = text.split(separator)
    return int(first), int(second)


def show(raft: Raft, effects: Effects) -> list[str]:
    lines: list[str] = []
    persist = effects.persist
    if persist.truncate_to is not None:
        lines.append(f"truncate to {persist.truncate_to}")
    if persist.quorum_state is not None:
        state = persist.quorum_state
        lines.append(f"store epoch={state.epoch} leader={state.leader_id} voted={state.voted_id}")
    for append in persist.append:
        what = "leader change" if isinstance(append.payload, LeaderChange) else f"{append.record_count} records"
        lines.append(f"append {what} at {append.base_offset} epoch={append.epoch}")
    if persist.flush:
        lines.append("flush")
    for message in effects.send:
        fields = [f"{name}={getattr(message, name)}" for name in message.__struct_fields__]
        lines.append(f"{type(message).__name__} {' '.join(fields)}")
    if effects.commit_through is not None:
        lines.append(f"commit through {effects.commit_through}")
    deadline = raft.next_deadline()
    lines.append(
        f"{type(raft.role).__name__} epoch={raft.epoch} leader={raft.leader_id} end={raft.ledger.end_offset} "
        f"hw={raft.high_watermark} next={deadline}"
    )
    return lines

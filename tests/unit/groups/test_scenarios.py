"""Scenario files: what happens to a shard, line by line, and what it decides.

A block is one event, ``----``, and the decisions it led to; blocks are separated by blank lines. Member ids are shown
as the client or instance they were made for and a number (``a#1``). ``pytest --rewrite`` takes over what the shard
answers.
"""

from pathlib import Path
from random import Random

import pytest

from ottla.groups.commands import (
    CommitOffsets,
    DeleteOffsets,
    FetchOffsets,
    Heartbeat,
    Join,
    JoinResult,
    Leave,
    LeavingMember,
    OffsetToCommit,
    Sync,
    SyncResult,
)
from ottla.groups.records import ClassicGroupRecord, OffsetRecord, decode_record, encode_record
from ottla.groups.settings import GroupSettings
from ottla.groups.shard import GroupShard
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode, KafkaError

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios" / "groups"
SEPARATOR = "----"


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario(path, rewrite):
    written = path.read_text()
    played = play(written)
    if rewrite:
        path.write_text(played)
    assert played == written


def test_scenarios_are_found():
    assert len(list(SCENARIOS.glob("*.txt"))) >= 5


def play(text):
    """The scenario with its decisions as they are now."""
    stage = Stage()
    blocks = []
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        event = lines[: lines.index(SEPARATOR)] if SEPARATOR in lines else lines
        command = [line for line in event if not line.startswith("#")]
        if not command:
            blocks.append("\n".join(event))
            continue
        assert len(command) == 1, f"one event a block: {command}"
        blocks.append("\n".join([*event, SEPARATOR, *stage.act(command[0])]))
    return "\n\n".join(blocks) + "\n"


class Stage:
    """A shard, its log, a clock, and names for what would be unreadable."""

    def __init__(self):
        self.now = 0
        self.settings = GroupSettings()
        self.random = Random(7)
        self.log = []
        self.out = []
        self.names = {}
        self.ids = {}
        self.tokens = {}
        self.append_fails = False
        self.shard = self.fresh()

    def fresh(self):
        shard = GroupShard(settings=self.settings, random=self.random)
        for offset, (key, value) in enumerate(self.log):
            shard.apply(decode_record(key, value), offset)
        decision = shard.on_loaded(self.now)
        assert not decision.records
        return shard

    def act(self, line):
        self.out = []
        name, *words = line.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        try:
            getattr(self, "do_" + name.replace("-", "_"))(*plain, **options)
        except KafkaError as error:
            self.out.append(f"refused {error.code.name}")
        return self.out or ["nothing"]

    # -- events

    def do_settings(self, **options):
        self.settings = GroupSettings(**{name: int(value) for name, value in options.items()})
        self.shard = self.fresh()

    def do_join(self, group, client, **options):
        topics = options.get("topics", "t").split(",")
        protocols = options.get("protocols", "range").split(",")
        member_id = self.ids.get(options.get("member", ""), options.get("member", ""))
        version = int(options.get("version", 9))
        token = self.token(f"join of {client}")
        command = Join(
            group_id=group,
            member_id=member_id,
            group_instance_id=options.get("instance"),
            client_id=client,
            client_host="/127.0.0.1",
            protocol_type=options.get("type", "consumer"),
            protocols=tuple((protocol, subscription(topics)) for protocol in protocols),
            session_timeout_ms=int(options.get("session", 10_000)),
            rebalance_timeout_ms=int(options.get("rebalance", 60_000)),
            requires_known_member_id=version >= 4,
            supports_skipping_assignment=version >= 9,
        )
        self.carry_out(self.shard.join(command, self.now, token))

    def do_sync(self, group, member, **options):
        assign = [pair.split(":") for pair in options.get("assign", "").split(",") if pair]
        command = Sync(
            group_id=group,
            generation=int(options["generation"]),
            member_id=self.ids.get(member, member),
            group_instance_id=options.get("instance"),
            protocol=options.get("protocol"),
            assignments=tuple((self.ids[name], given.encode()) for name, given in assign),
        )
        self.carry_out(self.shard.sync(command, self.now, self.token(f"sync of {member}")))

    def do_heartbeat(self, group, member, **options):
        command = Heartbeat(
            group_id=group,
            generation=int(options["generation"]),
            member_id=self.ids.get(member, member),
            group_instance_id=options.get("instance"),
        )
        self.carry_out(self.shard.heartbeat(command, self.now))

    def do_leave(self, group, *members, **options):
        leaving = [LeavingMember(member_id=self.ids.get(name, name)) for name in members]
        leaving += [
            LeavingMember(member_id="", group_instance_id=name)
            for name in options.get("instances", "").split(",")
            if name
        ]
        self.carry_out(self.shard.leave(Leave(group_id=group, members=tuple(leaving)), self.now))

    def do_commit(self, group, *places, **options):
        offsets = [(key, value) for key, value in options.items() if "-" in key]
        command = CommitOffsets(
            group_id=group,
            topics=tuple(
                (key.split("-")[0], Uuid.ZERO, (OffsetToCommit(partition=int(key.split("-")[1]), offset=int(value)),))
                for key, value in offsets
            ),
            member_id=self.ids.get(options.get("member", ""), options.get("member", "")),
            group_instance_id=options.get("instance"),
            generation_or_epoch=int(options.get("generation", -1)),
        )
        self.carry_out(self.shard.commit_offsets(command, self.now))

    def do_fetch(self, group, *places):
        topics = tuple((place.split("-")[0], Uuid.ZERO, (int(place.split("-")[1]),)) for place in places)
        self.carry_out(self.shard.fetch_offsets(FetchOffsets(group_id=group, topics=topics or None)))

    def do_delete_offsets(self, group, *places):
        topics = tuple((place.split("-")[0], (int(place.split("-")[1]),)) for place in places)
        self.carry_out(self.shard.delete_offsets(DeleteOffsets(group_id=group, topics=topics)))

    def do_delete_topic(self, topic):
        self.carry_out(self.shard.delete_topics([(topic, Uuid.ONE)]))

    def do_describe(self, group):
        [described] = self.shard.describe_groups([group]).response
        self.out.append(
            f"group {group} {described.state} type={described.protocol_type or '-'}"
            f" protocol={described.protocol or '-'} error={described.error.name}"
        )
        self.out += [
            f"member {self.name(member.member_id)} instance={member.group_instance_id or '-'}"
            f" assignment={member.assignment.decode() or '-'}"
            for member in described.members
        ]

    def do_list(self, **options):
        states = frozenset(options.get("states", "").lower().split(",")) - {""}
        kinds = frozenset(options.get("types", "").lower().split(",")) - {""}
        for group in self.shard.list_groups(states, kinds).response:
            self.out.append(f"group {group.group_id} {group.state} {group.kind} type={group.protocol_type or '-'}")

    def do_delete(self, *groups):
        self.carry_out(self.shard.delete_groups(groups))

    def do_wait(self, milliseconds):
        """Time passes; every deadline on the way is met at its own moment."""
        until = self.now + int(milliseconds)
        while (deadline := self.shard.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            before = len(self.out)
            self.carry_out(self.shard.on_deadline(self.now), show_nothing=False)
            self.out[before:] = [f"[{self.now}] {line}" for line in self.out[before:]]
        self.now = until

    def do_restart(self):
        self.tokens.clear()
        self.shard = self.fresh()

    def do_broken_log(self):
        self.append_fails = True

    def do_repaired_log(self):
        self.append_fails = False

    # -- decisions

    def carry_out(self, decision, *, show_nothing=True):
        if decision.records and self.append_fails:
            lost = [self.tokens.pop(reply.token) for reply in decision.replies]
            self.out.append("append failed" + "".join(f", {what} is told so" for what in lost))
            undo = self.shard.on_append_failed(decision.records, self.now)
            assert not undo.records
            self.carry_out(undo, show_nothing=False)
            return
        for record in decision.records:
            key, value = encode_record(record)
            assert decode_record(key, value) == record
            self.log.append((key, value))
            self.out.append(self.written(record))
            self.shard.apply(record, len(self.log) - 1)
        for reply in decision.replies:
            self.out.append(f"{self.tokens.pop(reply.token)}: {self.answered(reply.response)}")
        if decision.response is not None:
            self.out += self.response(decision.response)

    def written(self, record):
        match record:
            case OffsetRecord(key=(group, topic, partition), value=None):
                return f"write offset {group} {topic}-{partition} gone"
            case OffsetRecord(key=(group, topic, partition), value=value):
                return f"write offset {group} {topic}-{partition} = {value.offset}"
            case ClassicGroupRecord(group_id=group, value=None):
                return f"write group {group} gone"
            case ClassicGroupRecord(group_id=group, value=value):
                members = ",".join(f"{self.name(m.member_id)}:{m.assignment.decode()}" for m in value.members)
                return (
                    f"write group {group} generation={value.generation} protocol={value.protocol or '-'}"
                    f" leader={self.name(value.leader) if value.leader else '-'} members={members or '-'}"
                )
        raise AssertionError(record)

    def answered(self, response):
        match response:
            case JoinResult(error=ErrorCode.NONE):
                members = ",".join(self.name(member.member_id) for member in response.members)
                skip = " skip-assignment" if response.skip_assignment else ""
                return (
                    f"{self.name(response.member_id)} in generation {response.generation} protocol={response.protocol}"
                    f" leader={self.name(response.leader)} members={members or '-'}{skip}"
                )
            case JoinResult():
                return f"{response.error.name} member={self.name(response.member_id) or '-'}"
            case SyncResult(error=ErrorCode.NONE):
                return f"assignment {response.assignment.decode() or '-'}"
            case SyncResult():
                return response.error.name
        raise AssertionError(response)

    def response(self, response):
        if isinstance(response, ErrorCode):
            return [response.name]
        if hasattr(response, "topics"):
            return [line for topic in response.topics for line in self.topic_lines(topic)]
        if hasattr(response, "members"):
            return [
                f"{self.name(leaving.member_id) or leaving.group_instance_id}: {error.name}"
                for leaving, error in response.members
            ]
        if isinstance(response, list):
            return [f"{group}: {error.name}" for group, error in response]
        return []

    def topic_lines(self, topic):
        name, *_, parts = topic
        for part in parts:
            if hasattr(part, "offset"):
                yield f"{name}-{part.partition} = {part.offset} {part.error.name}"
            else:
                yield f"{name}-{part[0]}: {part[1].name}"

    def token(self, what):
        token = len(self.names) * 1000 + len(self.tokens) + 1
        while token in self.tokens:
            token += 1
        self.tokens[token] = what
        return token

    def name(self, member_id):
        """``client#n`` for a generated id, the id itself for one that a scenario made up."""
        if len(member_id) < 37 or member_id[-37] != "-":
            return member_id
        if member_id not in self.names:
            short = f"{member_id[:-37]}#{len(self.names) + 1}"
            self.names[member_id] = short
            self.ids[short] = member_id
        return self.names[member_id]


def subscription(topics):
    names = b"".join(len(topic).to_bytes(2, "big") + topic.encode() for topic in topics)
    return b"\x00\x01" + len(topics).to_bytes(4, "big") + names + b"\xff\xff\xff\xff"

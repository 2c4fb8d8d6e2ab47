"""Scenarios of a group shard: what happens to it and what it decides.

Member ids are shown as the client or instance they were made for and a number (``a#1``).
"""

import re
from random import Random

from harness.group_topics import ToldTopics
from harness.scenarios import act_by_name, check, scenarios
from ottla.groups.commands import (
    CommitOffsets,
    ConsumerHeartbeat,
    ConsumerHeartbeatResult,
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
from ottla.groups.consumer.protocol import read_assignment
from ottla.groups.consumer.records import (
    ConsumerGroupCurrentMemberAssignment,
    ConsumerGroupMemberMetadata,
    ConsumerGroupMetadata,
    ConsumerGroupPartitionMetadata,
    ConsumerGroupRegularExpression,
    ConsumerGroupTargetAssignmentMember,
    ConsumerGroupTargetAssignmentMetadata,
)
from ottla.groups.records import ClassicGroupRecord, OffsetRecord, decode_record, encode_record
from ottla.groups.settings import ConsumerGroupSettings, ConsumerGroupTimes, GroupSettings, MigrationPolicy
from ottla.groups.shard import GroupShard
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode


@scenarios("groups")
def test_scenario(path, rewrite):
    stage = Stage()
    check(path, lambda line: act_by_name(stage, line), rewrite=rewrite)


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
        self.topics = ToldTopics()
        self.topic_ids = {}
        self.shard = self.fresh()

    def fresh(self):
        shard = GroupShard(settings=self.settings, random=self.random)
        shard.see_topics(self.topics, ())
        for offset, (key, value) in enumerate(self.log):
            shard.apply(decode_record(key, value), offset)
        decision = shard.on_loaded(self.now)
        assert not decision.records
        return shard

    # -- events

    def do_settings(self, **options):
        self.settings = GroupSettings(**{name: int(value) for name, value in options.items()})
        self.shard = self.fresh()

    def do_consumer_settings(self, **options):
        policy = MigrationPolicy(options.pop("policy", "bidirectional"))
        rest = {name: int(options.pop(name)) for name in ("max_size", "regex_refresh_interval_ms") if name in options}
        times = ConsumerGroupTimes(**{name: int(value) for name, value in options.items()})
        consumer = ConsumerGroupSettings(times=times, migration_policy=policy, **rest)
        self.settings = GroupSettings(initial_rebalance_delay_ms=0, consumer=consumer)
        self.shard = self.fresh()

    def do_topic(self, name, partitions):
        if partitions == "gone":
            self.topics.remove(name)
        else:
            self.topic_ids[name] = self.topics.put(name, int(partitions)).topic_id
        self.shard.see_topics(self.topics, [name])

    def do_beat(self, group, member, epoch, **options):
        """``owned=`` is what the member reports: ``t:0+1,u:2``, or ``none``."""
        owned = options.get("owned", "none" if epoch == "0" else None)
        command = ConsumerHeartbeat(
            group_id=group,
            member_id=self.ids.get(member, member),
            member_epoch=int(epoch),
            client_id="c",
            client_host="/127.0.0.1",
            group_instance_id=options.get("instance"),
            rack_id=options.get("rack"),
            rebalance_timeout_ms=int(options.get("timeout", 30_000 if epoch == "0" else -1)),
            topics=tuple(options["topics"].split(",")) if "topics" in options else None,
            regex=options.get("regex"),
            assignor=options.get("assignor"),
            owned=None if owned is None else dict(self.reported(owned)),
        )
        self.carry_out(self.shard.consumer_heartbeat(command, self.now))

    def reported(self, text):
        for part in text.split(",") if text != "none" else ():
            topic, partitions = part.split(":")
            yield self.topic_ids[topic], tuple(map(int, partitions.split("+")))

    def do_describe_consumer(self, group):
        [described] = self.shard.describe_consumer_groups([group]).response
        self.out.append(
            f"group {group} {described.state or '-'} epoch={described.epoch}"
            f" assignment-epoch={described.assignment_epoch} assignor={described.assignor or '-'}"
            f" error={described.error.name}"
        )
        for member in described.members:
            held = {topic: partitions for _, topic, partitions in member.assigned}
            wanted = {topic: partitions for _, topic, partitions in member.target}
            self.out.append(
                f"member {self.name(member.member_id)} epoch={member.member_epoch} has={places(held)}"
                f" target={places(wanted)}{' classic' if member.speaks_classic else ''}"
            )

    def do_rejoin(self, group, member, **options):
        """Join again under an id, saying what is owned (``owned=`` as in ``beat``)."""
        self.do_join(group, "c", member=member, **options)

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
            protocols=tuple((protocol, subscription(topics, options.get("owned"))) for protocol in protocols),
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
                (
                    key.split("-")[0],
                    self.topic_id(key.split("-")[0]),
                    (OffsetToCommit(partition=int(key.split("-")[1]), offset=int(value)),),
                )
                for key, value in offsets
            ),
            member_id=self.ids.get(options.get("member", ""), options.get("member", "")),
            group_instance_id=options.get("instance"),
            generation_or_epoch=int(options.get("generation", -1)),
        )
        self.carry_out(self.shard.commit_offsets(command, self.now))

    def topic_id(self, name):
        known = self.topics.named(name)
        return Uuid.ZERO if known is None else known.topic_id

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
            f" assignment={self.handed_out(member.assignment) or '-'}"
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
                members = ",".join(f"{self.name(m.member_id)}:{self.handed_out(m.assignment)}" for m in value.members)
                return (
                    f"write group {group} generation={value.generation} protocol={value.protocol or '-'}"
                    f" leader={self.name(value.leader) if value.leader else '-'} members={members or '-'}"
                )
        return self.written_of_consumer_group(record)

    def written_of_consumer_group(self, record):
        group, value = record.group_id, record.value
        match record:
            case ConsumerGroupMetadata():
                what = f"epoch of {group}"
                shown = None if value is None else str(value.epoch)
            case ConsumerGroupPartitionMetadata():
                what, shown = f"partition metadata of {group}", None
            case ConsumerGroupMemberMetadata():
                what = f"member {group} {self.name(record.member_id)}"
                shown = None if value is None else self.metadata(value)
            case ConsumerGroupTargetAssignmentMetadata():
                what = f"assignment epoch of {group}"
                shown = None if value is None else str(value.epoch)
            case ConsumerGroupTargetAssignmentMember():
                what = f"target {group} {self.name(record.member_id)}"
                shown = None if value is None else self.places(value)
            case ConsumerGroupCurrentMemberAssignment():
                what = f"current {group} {self.name(record.member_id)}"
                shown = None if value is None else self.current(value)
            case ConsumerGroupRegularExpression():
                what = f"regex {group} {record.regex}"
                shown = None if value is None else ",".join(value.topics) or "nothing"
            case _:
                raise AssertionError(record)
        return f"write {what} gone" if shown is None else f"write {what} = {shown}"

    def handed_out(self, assignment):
        """What a leader made up, or an assignment in the consumer protocol."""
        if assignment[:1] != b"\x00":
            return assignment.decode()
        return self.places(read_assignment(assignment, self.topics))

    def metadata(self, value):
        parts = [f"topics={','.join(value.topics) or '-'}"]
        parts += [f"regex={value.regex}"] if value.regex else []
        parts += [f"instance={value.instance_id}"] if value.instance_id is not None else []
        parts += [f"assignor={value.assignor}"] if value.assignor is not None else []
        parts += ["classic"] if value.classic is not None else []
        return " ".join(parts)

    def current(self, value):
        revoking = f" revoking={self.places(value.revoking)}" if value.revoking else ""
        return f"{value.state.name} epoch={value.epoch} has={self.places(value.assigned)}{revoking}"

    def places(self, assignment):
        found = ((self.topics.identified(topic_id), held) for topic_id, held in assignment.items())
        return places({"?" if topic is None else topic.name: held for topic, held in found})

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
            case SyncResult(error=ErrorCode.NONE) if response.assignment[:1] == b"\x00":
                return f"assignment {self.places(read_assignment(response.assignment, self.topics))}"
            case SyncResult(error=ErrorCode.NONE):
                return f"assignment {response.assignment.decode() or '-'}"
            case SyncResult():
                return response.error.name
        raise AssertionError(response)

    def response(self, response):
        if isinstance(response, ErrorCode):
            return [response.name]
        if isinstance(response, ConsumerHeartbeatResult):
            told = "" if response.assignment is None else f" has={self.places(response.assignment)}"
            return [f"{self.name(response.member_id)} in epoch {response.member_epoch}{told}"]
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
        is_short = re.fullmatch(r"[\w-]{22}", member_id) is not None
        if not is_short and (len(member_id) < 37 or member_id[-37] != "-"):
            return member_id
        if member_id not in self.names:
            short = f"{'' if is_short else member_id[:-37]}#{len(self.names) + 1}"
            self.names[member_id] = short
            self.ids[short] = member_id
        return self.names[member_id]


def places(partitions):
    """``t:0+1 u:2``, or ``nothing``."""
    rows = (f"{topic}:{'+'.join(map(str, held))}" for topic, held in sorted(partitions.items()))
    return ",".join(rows) or "nothing"


def subscription(topics, owned=None):
    names = b"".join(string(topic) for topic in topics)
    head = len(topics).to_bytes(4, "big") + names + b"\xff\xff\xff\xff"
    if owned is None:
        return b"\x00\x01" + head + bytes(4)
    rows = [part.split(":") for part in owned.split(",") if owned != "none"]
    body = b"".join(string(topic) + numbers([int(index) for index in held.split("+")]) for topic, held in rows)
    return b"\x00\x01" + head + len(rows).to_bytes(4, "big") + body


def string(text):
    return len(text).to_bytes(2, "big") + text.encode()


def numbers(values):
    return len(values).to_bytes(4, "big") + b"".join(value.to_bytes(4, "big") for value in values)

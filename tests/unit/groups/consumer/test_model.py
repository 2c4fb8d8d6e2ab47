"""A consumer group under arbitrary events: what must hold whatever members do, and whenever the node restarts.

Members behave as clients do: they give up what an assignment leaves out before they say so, take what it adds
afterwards, and start over when they are fenced. Answers and appends get lost, topics come, grow and go.
"""

from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from harness.group_topics import ToldTopics
from ottla.groups.commands import CommitOffsets, ConsumerHeartbeat, FetchOffsets, OffsetToCommit
from ottla.groups.consumer.group import LEAVE_EPOCH, STATIC_LEAVE_EPOCH
from ottla.groups.records import decode_record, encode_record
from ottla.groups.settings import ConsumerGroupSettings, ConsumerGroupTimes, GroupSettings
from ottla.groups.shard import GroupShard
from ottla.wire.errors import ErrorCode, KafkaError

GROUP = "g"
TOPICS = ("t", "u", "v")
REGEX = "[tu]"
INTERVAL_MS = 1_000
SETTINGS = GroupSettings(
    consumer=ConsumerGroupSettings(
        times=ConsumerGroupTimes(session_timeout_ms=45_000, assignment_interval_ms=INTERVAL_MS), max_size=5
    )
)
FENCED = (
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.FENCED_MEMBER_EPOCH,
    ErrorCode.FENCED_INSTANCE_ID,
    ErrorCode.GROUP_ID_NOT_FOUND,
)


class Client:
    """A consumer as far as it knows: its epoch, what it owns, what it was last told to own."""

    def __init__(self, name, instance):
        self.name = name
        self.instance = instance
        self.incarnation = 0
        self.topics = ["t"]
        self.regex = ""
        self.assignor = None
        self.fence()

    def fence(self):
        self.epoch = 0
        self.owned = set()
        self.told = set()

    @property
    def member_id(self):
        return f"{self.name}.{self.incarnation}"

    def report(self):
        owned = {}
        for topic_id, partition in sorted(self.owned):
            owned.setdefault(topic_id, []).append(partition)
        return {topic_id: tuple(partitions) for topic_id, partitions in owned.items()}


class ConsumerGroupMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = 1_000
        self.log = []
        self.topics = ToldTopics()
        self.topics.put("t", 3)
        self.clients = {}
        self.append_fails = 0
        self.committed = {}
        self.shard = self.fresh()

    def fresh(self):
        shard = GroupShard(settings=SETTINGS, random=Random(3))
        shard.see_topics(self.topics, ())
        for offset, (key, value) in enumerate(self.log):
            shard.apply(decode_record(key, value), offset)
        return shard

    @initialize(count=st.integers(1, 4), static=st.integers(0, 2))
    def start(self, count, static):
        for index in range(count):
            self.clients[index] = Client(f"c{index}", f"i{index}" if index < static else None)
        self.carry_out(self.shard.on_loaded(self.now))
        self.everybody_beats(digesting=15)
        self.everybody_beats(digesting=15)

    # -- the driver in small

    def carry_out(self, decision):
        if decision.records and self.append_fails:
            undo = self.shard.on_append_failed(decision.records, self.now)
            assert not undo.records
            return None
        for record in decision.records:
            key, value = encode_record(record)
            self.log.append((key, value))
            self.shard.apply(decode_record(key, value), len(self.log) - 1)
        return decision.response

    def group(self):
        return self.shard._consumer.get(GROUP)

    def send(self, client, epoch=None, **said):
        """One heartbeat; ``None`` where the append failed."""
        command = ConsumerHeartbeat(
            group_id=GROUP,
            member_id=client.member_id,
            member_epoch=client.epoch if epoch is None else epoch,
            client_id="c",
            client_host="/h",
            group_instance_id=client.instance,
            **said,
        )
        try:
            return self.carry_out(self.shard.consumer_heartbeat(command, self.now))
        except KafkaError as refused:
            if refused.code in FENCED:
                client.fence()
            elif refused.code not in (ErrorCode.UNRELEASED_INSTANCE_ID, ErrorCode.GROUP_MAX_SIZE_REACHED):
                raise
            return None

    def everything(self, client):
        return {
            "rebalance_timeout_ms": 30_000,
            "topics": tuple(client.topics),
            "regex": client.regex,
            "assignor": client.assignor,
            "owned": client.report(),
        }

    def hear(self, client, answer):
        if answer is None:
            return
        client.epoch = answer.member_epoch
        if answer.assignment is not None:
            client.told = {(topic, index) for topic, indexes in answer.assignment.items() for index in indexes}

    # -- what clients do

    who = st.integers(0, 3)

    @rule(who=who, loses_answer=st.booleans(), in_full=st.booleans())
    def beat(self, who, loses_answer, in_full):
        client = self.clients[who % len(self.clients)]
        joining = client.epoch == 0
        if joining:
            client.fence()
        said = self.everything(client) if joining or in_full else {"owned": client.report()}
        answer = self.send(client, **said)
        if joining and answer is not None and client.epoch == 0 and loses_answer:
            # It comes back under the same id and joins again; a static one has to wait for its session to end.
            return
        if not loses_answer:
            self.hear(client, answer)

    @rule(digesting=st.integers(0, 15))
    def everybody_beats(self, digesting):
        """A round of heartbeats; those whose bit is set digest what they are told, the others are slow."""
        self.wait(INTERVAL_MS)
        for who in self.clients:
            self.beat(who, loses_answer=False, in_full=False)
            if digesting >> who & 1:
                self.digest(who)

    @rule(who=who)
    def digest(self, who):
        """Give up what the last assignment left out; with nothing to give up, take what it added."""
        client = self.clients[who % len(self.clients)]
        given_up = client.owned - client.told
        client.owned -= given_up
        if not given_up:
            client.owned |= client.told

    @rule(who=who)
    def leave(self, who):
        client = self.clients[who % len(self.clients)]
        if client.epoch:
            self.send(client, LEAVE_EPOCH)
            client.fence()
            client.incarnation += 1

    @rule(who=who, comes_back_as_new=st.booleans())
    def step_away(self, who, comes_back_as_new):
        client = self.clients[who % len(self.clients)]
        if client.epoch and client.instance is not None:
            self.send(client, STATIC_LEAVE_EPOCH)
            client.fence()
            client.incarnation += comes_back_as_new

    @rule(
        who=who, topics=st.lists(st.sampled_from(TOPICS), max_size=3, unique=True), regex=st.sampled_from(["", REGEX])
    )
    def subscribe(self, who, topics, regex):
        client = self.clients[who % len(self.clients)]
        client.topics, client.regex = topics, regex
        if client.epoch:
            self.hear(client, self.send(client, topics=tuple(topics), regex=regex, owned=client.report()))

    @rule(who=who, assignor=st.sampled_from(["uniform", "range"]))
    def choose_assignor(self, who, assignor):
        self.clients[who % len(self.clients)].assignor = assignor

    @rule(who=who, behind=st.integers(0, 3), ahead=st.booleans())
    def commit(self, who, behind, ahead):
        """An epoch is good where the member has held the partition since; never one of the future."""
        client = self.clients[who % len(self.clients)]
        if not client.owned or not client.epoch:
            return
        topic_id, partition = min(client.owned)
        epoch = client.epoch + 1 if ahead else max(0, client.epoch - behind)
        member = None if self.group() is None else self.group().members.get(client.member_id)
        topic = self.topics.identified(topic_id)
        if topic is None:
            return
        command = CommitOffsets(
            group_id=GROUP,
            topics=((topic.name, topic_id, (OffsetToCommit(partition=partition, offset=len(self.log)),)),),
            member_id=client.member_id,
            generation_or_epoch=epoch,
        )
        held = {} if member is None else {**member.current.assigned.get(topic_id, {})}
        if member is not None:
            held.update(member.current.revoking.get(topic_id, {}))
        since = held.get(partition)
        good = member is not None and (epoch == member.epoch or (since is not None and since <= epoch < member.epoch))
        offset = len(self.log)
        try:
            result = self.carry_out(self.shard.commit_offsets(command, self.now))
        except KafkaError:
            assert not good, (epoch, member)
        else:
            assert good, (epoch, member)
            if result is not None:
                self.committed[topic.name, partition] = (topic_id, offset)

    # -- what the cluster does

    @rule(name=st.sampled_from(TOPICS), partitions=st.integers(1, 5))
    def topic_grows(self, name, partitions):
        known = self.topics.named(name)
        self.topics.put(name, max(partitions, 0 if known is None else known.partitions))
        self.shard.see_topics(self.topics, [name])

    @rule(name=st.sampled_from(TOPICS))
    def topic_goes(self, name):
        topic = self.topics.named(name)
        if topic is None or self.append_fails:
            return
        self.topics.remove(name)
        self.shard.see_topics(self.topics, [name])
        self.carry_out(self.shard.delete_topics([(name, topic.topic_id)]))
        self.committed = {place: row for place, row in self.committed.items() if place[0] != name}

    @rule(milliseconds=st.sampled_from([1, 400, INTERVAL_MS, 2_000, 11_000, 40_000]))
    def wait(self, milliseconds):
        until = self.now + milliseconds
        while (deadline := self.shard.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.carry_out(self.shard.on_deadline(self.now))
        self.now = until

    @rule()
    def appends_fail(self):
        """For the next two things that happen."""
        self.append_fails = 3

    @invariant()
    def appends_recover(self):
        self.append_fails = max(0, self.append_fails - 1)

    @rule()
    def restart(self):
        before, after = self.state(), None
        self.shard = self.fresh()
        after = self.state()
        assert after == before
        self.carry_out(self.shard.on_loaded(self.now))

    @rule()
    def settle(self):
        """Left alone, the group converges in a bounded number of rounds to a complete and balanced assignment."""
        self.append_fails = 0
        self.wait(46_000)
        for client in self.clients.values():
            client.fence()
        for _ in range(12):
            for who in self.clients:
                self.beat(who, loses_answer=False, in_full=False)
                self.digest(who)
                self.digest(who)
            self.wait(11_000)
        group = self.group()
        wanted = {}
        for client in self.clients.values():
            names = [*client.topics, *(name for name in ("t", "u") if client.regex)]
            topics = [topic for name in names if (topic := self.topics.named(name)) is not None]
            wanted[client.name] = {(topic.topic_id, index) for topic in topics for index in range(topic.partitions)}
        owned = [place for client in self.clients.values() for place in client.owned]
        assert sorted(owned) == sorted(set().union(*wanted.values()))
        assert all(client.owned <= wanted[client.name] for client in self.clients.values())
        assert group.state_name == "Stable"
        uniform = all((member.metadata.assignor or "uniform") == "uniform" for member in group.members.values())
        if uniform and len({frozenset(places) for places in wanted.values()}) == 1:
            sizes = [len(client.owned) for client in self.clients.values()]
            assert max(sizes) - min(sizes) <= 1

    # -- invariants

    @invariant()
    def a_partition_has_one_owner(self):
        group = self.group()
        if group is None:
            return
        held = [
            (topic_id, partition)
            for member in group.members.values()
            for owned in (member.current.assigned, member.current.revoking)
            for topic_id, partitions in owned.items()
            for partition in partitions
        ]
        assert len(held) == len(set(held))

    @invariant()
    def members_of_the_group_never_share(self):
        group = self.group()
        known = [] if group is None else [c for c in self.clients.values() if c.epoch and c.member_id in group.members]
        owned = [place for client in known for place in client.owned]
        assert len(owned) == len(set(owned))

    @invariant()
    def indexes_agree_with_what_they_index(self):
        group = self.group()
        if group is None:
            return
        statics = {m.instance_id: m.member_id for m in group.members.values() if m.instance_id is not None}
        assert group.static_members == statics
        targeted = [(t, p) for target in group.targets.values() for t, held in target.items() for p in held]
        assert len(targeted) == len(set(targeted))
        assert all(group.is_targeted(*place) for place in targeted)
        assert group.epoch >= group.assignment_epoch
        for member in group.members.values():
            assert all(
                group.is_taken(topic_id, partition)
                for topic_id, partitions in member.current.assigned.items()
                for partition in partitions
            )

    @invariant()
    def offsets_are_those_last_committed(self):
        result = self.shard.fetch_offsets(FetchOffsets(group_id=GROUP, topics=None)).response
        found = {(topic, part.partition): part.offset for topic, _, parts in result.topics for part in parts}
        assert found == {place: offset for place, (_, offset) in self.committed.items()}

    def state(self):
        group = self.group()
        if group is None:
            return None
        soft = ("checked_epoch", "subscriptions")
        counts = group.subscriptions
        return (
            {name: getattr(group, name) for name in group.__slots__ if name not in soft},
            {name: getattr(counts, name) for name in counts.__slots__},
        )


TestConsumerGroupMachine = ConsumerGroupMachine.TestCase
TestConsumerGroupMachine.settings = settings(
    max_examples=300, stateful_step_count=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

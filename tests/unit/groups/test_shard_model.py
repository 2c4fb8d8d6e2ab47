"""A classic group under arbitrary events: what must hold whatever clients do, and whenever the node restarts."""

from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ottla.groups.commands import (
    CommitOffsets,
    FetchOffsets,
    Heartbeat,
    Join,
    Leave,
    LeavingMember,
    OffsetToCommit,
    Sync,
)
from ottla.groups.records import decode_record, encode_record
from ottla.groups.settings import GroupSettings
from ottla.groups.shard import GroupShard
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode, KafkaError

GROUP = "g"
PARTITIONS = 4
SESSION_MS = 10_000
REBALANCE_MS = 20_000
SETTINGS = GroupSettings(initial_rebalance_delay_ms=500, max_size=5, new_member_join_timeout_ms=20_000)
SUBSCRIPTION = b"\x00\x01\x00\x00\x00\x01\x00\x01t\xff\xff\xff\xff"


class Client:
    """A well-behaved consumer, as far as it knows: joins, assigns if it leads, syncs, commits."""

    def __init__(self, name, instance):
        self.name = name
        self.instance = instance
        self.member_id = ""
        self.generation = -1
        self.waits = None
        self.members = ()
        self.assigned = None


class GroupMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = 0
        self.random = Random(3)
        self.log = []
        self.clients = {}
        self.parked = {}
        self.next_token = 0
        self.given = {}
        self.committed = {}
        self.append_fails = False
        self.shard = self.fresh()

    def fresh(self):
        shard = GroupShard(settings=SETTINGS, random=self.random)
        for offset, (key, value) in enumerate(self.log):
            shard.apply(decode_record(key, value), offset)
        self.shard = shard
        self.carry_out(shard.on_loaded(self.now))
        return shard

    @initialize(count=st.integers(1, 4), static=st.integers(0, 2))
    def start(self, count, static):
        for index in range(count):
            name = f"c{index}"
            self.clients[name] = Client(name, f"i{index}" if index < static else None)

    # -- the driver in small

    def carry_out(self, decision, own_token=None):
        if decision.records and self.append_fails:
            if own_token in self.parked:
                client, _ = self.parked.pop(own_token)
                client.waits = None
            for reply in decision.replies:
                client, _ = self.parked.pop(reply.token, (Client("", None), None))
                client.waits = None
            self.carry_out(self.shard.on_append_failed(decision.records, self.now))
            return None
        for record in decision.records:
            key, value = encode_record(record)
            self.log.append((key, value))
            self.shard.apply(decode_record(key, value), len(self.log) - 1)
        for reply in decision.replies:
            client, what = self.parked.pop(reply.token)
            if client.waits == reply.token:
                client.waits = None
                what(client, reply.response)
        return decision.response

    def park(self, client, what):
        self.next_token += 1
        client.waits = self.next_token
        self.parked[self.next_token] = (client, what)
        return self.next_token

    def joined(self, client, result):
        if result.error is ErrorCode.NONE:
            client.member_id, client.generation = result.member_id, result.generation
            client.members = tuple(member.member_id for member in result.members)
            client.skips = result.skip_assignment
            assert result.leader != ""
            if client.members and not result.skip_assignment:
                assert client.member_id == result.leader
                assert client.member_id in client.members
                assert len(set(client.members)) == len(client.members)
            if result.skip_assignment:
                client.members = ()
        elif result.error is ErrorCode.MEMBER_ID_REQUIRED:
            client.member_id = result.member_id
        elif result.error in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            client.member_id, client.generation = "", -1
        else:
            assert result.error in (ErrorCode.GROUP_MAX_SIZE_REACHED, ErrorCode.REBALANCE_IN_PROGRESS), result

    def synced(self, client, result):
        if result.error is not ErrorCode.NONE:
            assert result.error in (
                ErrorCode.REBALANCE_IN_PROGRESS,
                ErrorCode.ILLEGAL_GENERATION,
                ErrorCode.UNKNOWN_MEMBER_ID,
                ErrorCode.FENCED_INSTANCE_ID,
            ), result
            return
        for partition in result.assignment:
            owner = self.given.setdefault((client.generation, partition), client.name)
            assert owner == client.name, "two members own a partition in one generation"

    # -- what clients do

    @rule(data=st.data())
    def join(self, data):
        client = data.draw(st.sampled_from(sorted(self.clients)).map(self.clients.get))
        self.rejoin(client)

    def rejoin(self, client):
        token = self.park(client, self.joined)
        command = Join(
            group_id=GROUP,
            member_id=client.member_id,
            group_instance_id=client.instance,
            client_id=client.name,
            client_host="/127.0.0.1",
            protocol_type="consumer",
            protocols=(("range", SUBSCRIPTION),),
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=REBALANCE_MS,
        )
        self.carry_out(self.shard.join(command, self.now, token), token)

    @rule(data=st.data())
    def sync(self, data):
        client = data.draw(st.sampled_from(sorted(self.clients)).map(self.clients.get))
        self.resync(client)

    def resync(self, client):
        shares = [bytes(range(index, PARTITIONS, max(1, len(client.members)))) for index in range(len(client.members))]
        command = Sync(
            group_id=GROUP,
            generation=client.generation,
            member_id=client.member_id,
            group_instance_id=client.instance,
            assignments=tuple(zip(client.members, shares, strict=True)),
        )
        token = self.park(client, self.synced)
        self.carry_out(self.shard.sync(command, self.now, token), token)

    @rule(data=st.data())
    def heartbeat(self, data):
        client = data.draw(st.sampled_from(sorted(self.clients)).map(self.clients.get))
        self.beat(client)

    def beat(self, client):
        command = Heartbeat(
            group_id=GROUP,
            generation=client.generation,
            member_id=client.member_id,
            group_instance_id=client.instance,
        )
        return self.carry_out(self.shard.heartbeat(command, self.now))

    @rule(data=st.data(), partition=st.integers(0, PARTITIONS - 1), stale=st.booleans())
    def commit(self, data, partition, stale):
        client = data.draw(st.sampled_from(sorted(self.clients)).map(self.clients.get))
        generation = client.generation - stale if client.generation > 0 else 1
        offset = len(self.log)
        command = CommitOffsets(
            group_id=GROUP,
            topics=(("t", Uuid.ZERO, (OffsetToCommit(partition=partition, offset=offset),)),),
            member_id=client.member_id,
            group_instance_id=client.instance,
            generation_or_epoch=generation,
        )
        before = self.described()
        current = before.members and any(m.member_id == client.member_id for m in before.members)
        try:
            decision = self.shard.commit_offsets(command, self.now)
        except KafkaError:
            return
        assert current, "a commit of somebody who is not in the group was taken"
        assert generation == self.generation(), "a commit of another generation was taken"
        self.carry_out(decision)
        if not self.append_fails:
            self.committed[partition] = offset

    @rule(data=st.data())
    def leave(self, data):
        client = data.draw(st.sampled_from(sorted(self.clients)).map(self.clients.get))
        leaving = LeavingMember(member_id=client.member_id, group_instance_id=client.instance)
        self.carry_out(self.shard.leave(Leave(group_id=GROUP, members=(leaving,)), self.now))
        client.member_id, client.generation = "", -1

    @rule(data=st.data())
    def crash_client(self, data):
        """It comes back without anything but its name (and instance id)."""
        client = data.draw(st.sampled_from(sorted(self.clients)).map(self.clients.get))
        client.member_id, client.generation, client.waits, client.members = "", -1, None, ()

    # -- what else happens

    @rule(milliseconds=st.sampled_from((1, 100, 500, 5_000, 10_000, 20_000)))
    def wait(self, milliseconds):
        until = self.now + milliseconds
        while (deadline := self.shard.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.carry_out(self.shard.on_deadline(self.now))
        self.now = until

    @rule()
    def restart_node(self):
        self.append_fails = False
        self.parked.clear()
        for client in self.clients.values():
            client.waits = None
        before = self.stored()
        self.shard = self.fresh()
        assert self.stored() == before, "replay gave other offsets or another stored group"

    @rule(fails=st.booleans())
    def log_breaks(self, fails):
        self.append_fails = fails

    @precondition(lambda self: self.clients)
    @rule()
    def settle(self):
        """With a working log and clients that follow the protocol, the group becomes stable."""
        self.append_fails = False
        for _ in range(30):
            for client in self.clients.values():
                self.follow(client)
            if self.is_settled():
                return
            self.wait(3_000)
        raise AssertionError(self.described())

    def is_settled(self):
        described = self.described()
        members = {member.member_id for member in described.members}
        owned = b"".join(member.assignment for member in described.members)
        live = {client.member_id for client in self.clients.values()}
        return described.state == "Stable" and members == live and sorted(owned) == list(range(PARTITIONS))

    def follow(self, client):
        if client.waits is not None:
            return
        code = self.beat(client)
        if code is not ErrorCode.NONE:
            if code is not ErrorCode.REBALANCE_IN_PROGRESS:
                client.member_id, client.generation, client.members = "", -1, ()
            self.rejoin(client)
            if client.waits is None and client.generation == -1:
                self.rejoin(client)
        else:
            self.resync(client)

    # -- invariants

    @invariant()
    def offsets_are_those_last_committed(self):
        result = self.shard.fetch_offsets(FetchOffsets(group_id=GROUP, topics=None)).response
        found = {part.partition: part.offset for _, _, parts in result.topics for part in parts}
        assert found == self.committed

    @invariant()
    def counts_agree_with_what_they_count(self):
        group = self.shard._classic.get(GROUP)
        if group is None:
            return
        assert group.awaiting_join == sum(member.join_token is not None for member in group.members.values())
        assert sorted(group.static_members.values()) == sorted(
            member.member_id for member in group.members.values() if member.group_instance_id is not None
        )
        assert (group.leader_id is None) == (not group.members)
        assert group.leader_id is None or group.leader_id in group.members
        assert not set(group.pending_join) & set(group.members)
        assert set(group.pending_sync) <= set(group.members)

    @invariant()
    def whoever_waits_is_known_to_the_shard(self):
        group = self.shard._classic.get(GROUP)
        known = set()
        if group is not None:
            for member in group.members.values():
                known |= {member.join_token, member.sync_token}
        assert set(self.parked) <= known, "a parked request nobody will ever answer"

    def described(self):
        return self.shard.describe_groups([GROUP]).response[0]

    def generation(self):
        return self.shard._classic[GROUP].generation

    def stored(self):
        """What the log holds of the group: its offsets and its last stored form."""
        fresh = GroupShard(settings=GroupSettings(), random=Random(0))
        for offset, (key, value) in enumerate(self.log):
            fresh.apply(decode_record(key, value), offset)
        result = fresh.fetch_offsets(FetchOffsets(group_id=GROUP, topics=None)).response
        return result, fresh.describe_groups([GROUP]).response


TestGroupMachine = GroupMachine.TestCase
TestGroupMachine.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

"""A thousand members in one group: work grows with the members, not with their square."""

from random import Random

from ottla.groups.classic.group import ClassicGroup
from ottla.groups.commands import Heartbeat, Join, Sync
from ottla.groups.settings import GroupSettings
from ottla.groups.shard import GroupShard

MEMBERS = 1_000


class CountingDict(dict):
    """Counts whole walks over the members."""

    walks = 0

    def values(self):
        CountingDict.walks += 1
        return super().values()


def test_a_large_group_is_walked_a_few_times_a_rebalance_and_never_for_a_heartbeat(monkeypatch):
    init = ClassicGroup.__init__

    def counting(self, *args):
        init(self, *args)
        self.members = CountingDict()

    monkeypatch.setattr(ClassicGroup, "__init__", counting)
    CountingDict.walks = 0
    shard = GroupShard(settings=GroupSettings(initial_rebalance_delay_ms=10), random=Random(1))
    shard.on_loaded(0)
    for token in range(MEMBERS):
        carry_out(shard, shard.join(new_member(token), 0, token))
    joining = CountingDict.walks
    assert joining <= 2
    results = {reply.token: reply.response for reply in carry_out(shard, shard.on_deadline(10)).replies}
    assert len(results) == MEMBERS
    ids = [result.member_id for result in results.values()]
    leader = next(result for result in results.values() if result.members)
    assert len(leader.members) == MEMBERS
    for member_id in ids:
        if member_id != leader.member_id:
            shard.sync(Sync(group_id="g", generation=1, member_id=member_id), 11, 0)
    decision = shard.sync(Sync(group_id="g", generation=1, member_id=leader.member_id), 11, 0)
    carry_out(shard, decision)
    assert len(decision.replies) == MEMBERS
    assert CountingDict.walks - joining <= 20
    before = CountingDict.walks
    for now in range(10):
        for member_id in ids:
            heartbeat = Heartbeat(group_id="g", generation=1, member_id=member_id)
            assert shard.heartbeat(heartbeat, 100 + now).records == ()
    assert CountingDict.walks == before
    assert len(shard._deadlines._heap) <= 2 * MEMBERS + 5


def carry_out(shard, decision):
    for offset, record in enumerate(decision.records):
        shard.apply(record, offset)
    return decision


def new_member(token):
    return Join(
        group_id="g",
        member_id="",
        group_instance_id=None,
        client_id=f"c{token}",
        client_host="/h",
        protocol_type="consumer",
        protocols=(("range", b"\x00\x01\x00\x00\x00\x00\xff\xff\xff\xff"),),
        session_timeout_ms=30_000,
        rebalance_timeout_ms=10,
        requires_known_member_id=False,
    )

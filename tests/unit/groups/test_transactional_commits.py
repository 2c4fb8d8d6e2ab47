"""Who may commit offsets as a part of a transaction: nobody in particular, or a member that still is one."""

from random import Random

import pytest

from ottla.groups.commands import CommitOffsets, FetchOffsets, Join, OffsetToCommit, Sync
from ottla.groups.records import TransactionMarker
from ottla.groups.settings import GroupSettings
from ottla.groups.shard import GroupShard
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode, KafkaError

SUBSCRIPTION = b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff"
PRODUCER = 7


class Group:
    """A shard with one stable member, and a log that takes everything."""

    def __init__(self):
        self.shard = GroupShard(settings=GroupSettings(initial_rebalance_delay_ms=0), random=Random(1))
        self.shard.on_loaded(0)
        self.offset, self.replies = 0, {}
        self.member_id, self.generation = "", -1

    def carry_out(self, decision):
        for record in decision.records:
            self.shard.apply(record, self.offset)
            self.offset += 1
        self.replies.update((reply.token, reply.response) for reply in decision.replies)
        return decision.response

    def fill(self):
        join = Join(
            group_id="g",
            member_id="",
            group_instance_id="i",
            client_id="c",
            client_host="/127.0.0.1",
            protocol_type="consumer",
            protocols=(("range", SUBSCRIPTION),),
            session_timeout_ms=10_000,
            rebalance_timeout_ms=10_000,
        )
        self.carry_out(self.shard.join(join, 0, 1))
        for _ in range(5):
            if 1 not in self.replies:
                self.carry_out(self.shard.on_deadline(self.shard.next_deadline()))
        joined = self.replies[1]
        self.member_id, self.generation = joined.member_id, joined.generation
        sync = Sync(
            group_id="g",
            generation=self.generation,
            member_id=self.member_id,
            group_instance_id="i",
            assignments=((self.member_id, b"all"),),
        )
        self.carry_out(self.shard.sync(sync, 0, 2))

    def commit(self, offset=5, *, group_id="g", **who):
        command = CommitOffsets(
            group_id=group_id,
            topics=(("t", Uuid.ZERO, (OffsetToCommit(partition=0, offset=offset),)),),
            unknown_group_error=ErrorCode.ILLEGAL_GENERATION,
            producer_id=PRODUCER,
            **who,
        )
        return self.carry_out(self.shard.commit_transactional_offsets(command, 0))

    def committed(self, *, stable=True):
        wanted = FetchOffsets(group_id="g", topics=(("t", Uuid.ZERO, (0,)),), require_stable=stable)
        return self.shard.fetch_offsets(wanted).response.topics[0][2][0]


@pytest.fixture
def group():
    return Group()


def refused(code, act, **options):
    with pytest.raises(KafkaError) as raised:
        act(**options)
    assert raised.value.code is code


def test_who_names_nobody_may_commit_whatever_the_group_does(group):
    group.commit()
    group.fill()
    group.commit()


def test_a_member_has_to_be_one_still(group):
    group.fill()
    group.commit(member_id=group.member_id, group_instance_id="i", generation_or_epoch=group.generation)
    refused(ErrorCode.ILLEGAL_GENERATION, group.commit, member_id=group.member_id, generation_or_epoch=77)
    refused(ErrorCode.UNKNOWN_MEMBER_ID, group.commit, member_id="stranger", generation_or_epoch=group.generation)
    refused(
        ErrorCode.FENCED_INSTANCE_ID,
        group.commit,
        member_id="stranger",
        group_instance_id="i",
        generation_or_epoch=group.generation,
    )


def test_a_generation_of_no_group_is_illegal(group):
    refused(ErrorCode.ILLEGAL_GENERATION, group.commit, group_id="nobody", member_id="m", generation_or_epoch=3)


@pytest.mark.parametrize("committed", [True, False])
def test_offsets_show_with_the_marker_or_never(group, committed):
    group.commit(5)
    assert group.committed().error is ErrorCode.UNSTABLE_OFFSET_COMMIT
    assert group.committed(stable=False).offset == -1
    group.shard.apply(TransactionMarker(PRODUCER, committed), group.offset)
    assert group.committed().offset == (5 if committed else -1)

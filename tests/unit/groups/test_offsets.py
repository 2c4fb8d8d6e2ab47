"""Committed offsets: transactions, topics that share a name, deleted topics, own retentions; other kinds of groups."""

from random import Random

import pytest

from ottla.groups.commands import CommitOffsets, DeleteOffsets, FetchOffsets, Join, OffsetToCommit
from ottla.groups.records import (
    ClassicGroupRecord,
    CommittedOffset,
    ForeignGroupRecord,
    GroupKind,
    OffsetKey,
    OffsetRecord,
    TransactionMarker,
)
from ottla.groups.settings import GroupSettings
from ottla.groups.shard import GroupShard
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode, KafkaError

KEY = OffsetKey("g", "t", 0)
OLD, NEW = Uuid(b"o" * 16), Uuid(b"n" * 16)
SETTINGS = GroupSettings(
    initial_rebalance_delay_ms=0, offsets_retention_ms=1_000, offsets_retention_check_interval_ms=100
)


class Bench:
    def __init__(self):
        self.shard = GroupShard(settings=SETTINGS, random=Random(1))
        self.offset = 0
        self.shard.on_loaded(0)

    def apply(self, *records):
        for record in records:
            self.shard.apply(record, self.offset)
            self.offset += 1

    def carry_out(self, decision):
        self.apply(*decision.records)
        return decision.response

    def commit(self, offset, *, topic_id=Uuid.ZERO, now_ms=0, **options):
        topics = (("t", topic_id, (OffsetToCommit(partition=0, offset=offset),)),)
        return self.carry_out(self.shard.commit_offsets(CommitOffsets(group_id="g", topics=topics, **options), now_ms))

    def fetch(self, topic_id=Uuid.ZERO, **options):
        command = FetchOffsets(group_id="g", topics=(("t", topic_id, (0,)),), **options)
        [(_, _, [part])] = self.shard.fetch_offsets(command).response.topics
        return part.offset if part.error is ErrorCode.NONE else part.error.name


@pytest.fixture
def bench():
    return Bench()


def pending(offset, producer_id):
    return OffsetRecord(KEY, CommittedOffset(offset, -1, "", 0), producer_id)


def test_a_transaction_counts_from_its_commit(bench):
    bench.commit(1)
    bench.apply(pending(5, 77))
    assert bench.fetch() == 1
    assert bench.fetch(require_stable=True) == "UNSTABLE_OFFSET_COMMIT"
    bench.apply(TransactionMarker(77, committed=True))
    assert bench.fetch() == 5
    assert bench.fetch(require_stable=True) == 5


def test_an_aborted_transaction_leaves_nothing(bench):
    bench.commit(1)
    bench.apply(pending(5, 77), TransactionMarker(77, committed=False))
    assert bench.fetch(require_stable=True) == 1


def test_a_later_commit_is_not_overtaken_by_an_earlier_transaction(bench):
    bench.apply(pending(5, 77))
    bench.commit(9)
    bench.apply(TransactionMarker(77, committed=True))
    assert bench.fetch() == 9


def test_an_offset_stays_unstable_until_the_last_transaction_ends(bench):
    bench.apply(pending(5, 77), pending(6, 78), TransactionMarker(77, committed=True))
    assert bench.fetch(require_stable=True) == "UNSTABLE_OFFSET_COMMIT"
    bench.apply(TransactionMarker(78, committed=True), TransactionMarker(78, committed=True))
    assert bench.fetch(require_stable=True) == 6


def test_removal_takes_pending_offsets_along(bench):
    bench.commit(1)
    bench.apply(pending(5, 77))
    bench.carry_out(bench.shard.delete_groups(["g"]))
    bench.apply(TransactionMarker(77, committed=True))
    assert bench.fetch() == -1


def test_a_topic_does_not_inherit_from_its_namesake(bench):
    bench.commit(5, topic_id=OLD)
    assert bench.fetch(OLD) == 5
    assert bench.fetch(NEW) == -1
    assert bench.fetch() == 5, "a client without ids sees what is there"


def test_deleting_a_topic_forgets_only_that_topic(bench):
    bench.commit(5, topic_id=NEW)
    assert bench.carry_out(bench.shard.delete_topics([("t", OLD)])) == 0
    assert bench.fetch() == 5
    assert bench.carry_out(bench.shard.delete_topics([("other", NEW)])) == 0
    assert bench.carry_out(bench.shard.delete_topics([("t", NEW)])) == 1
    assert bench.fetch() == -1


def test_deleting_a_topic_forgets_offsets_of_unknown_id_and_pending_ones(bench):
    bench.commit(5)
    bench.apply(OffsetRecord(OffsetKey("h", "t", 1), CommittedOffset(5, -1, "", 0), 77))
    assert bench.carry_out(bench.shard.delete_topics([("t", NEW)])) == 2
    bench.apply(TransactionMarker(77, committed=True))
    assert bench.fetch() == -1


def test_a_retention_of_its_own_counts_from_the_commit(bench):
    bench.commit(5, retention_ms=250)
    bench.shard.on_deadline(200)
    assert bench.fetch() == 5
    bench.carry_out(bench.shard.on_deadline(300))
    assert bench.fetch() == -1


def test_pending_offsets_keep_the_group_and_the_partition_from_expiring(bench):
    bench.commit(5)
    bench.apply(pending(6, 77))
    assert bench.shard.on_deadline(5_000).records == ()
    bench.apply(TransactionMarker(77, committed=True))
    assert bench.shard.on_deadline(6_000).records == (OffsetRecord(KEY, None), ClassicGroupRecord("g", None))


def test_metadata_has_a_limit(bench):
    fits, over = "x" * 4_096, "x" * 4_097
    parts = (
        OffsetToCommit(partition=0, offset=1, metadata=fits),
        OffsetToCommit(partition=1, offset=1, metadata=over),
    )
    decision = bench.shard.commit_offsets(CommitOffsets(group_id="g", topics=(("t", Uuid.ZERO, parts),)), 0)
    [(_, _, errors)] = decision.response.topics
    assert errors == ((0, ErrorCode.NONE), (1, ErrorCode.OFFSET_METADATA_TOO_LARGE))
    assert [record.key.partition for record in decision.records] == [0]


# -- groups of other kinds, as an Apache log brings them


def foreign(kind, type_, value, suffix=b""):
    key = type_.to_bytes(2, "big") + b"\x00\x01g" + suffix
    return ForeignGroupRecord(kind, type_, "g", key, value)


def join():
    return Join(
        group_id="g",
        member_id="",
        group_instance_id=None,
        client_id="c",
        client_host="/h",
        protocol_type="consumer",
        protocols=(("range", b""),),
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
    )


def test_a_streams_group_with_members_is_listed_and_protected(bench):
    bench.commit(5)
    bench.apply(foreign(GroupKind.STREAMS, 17, b"v"), foreign(GroupKind.STREAMS, 19, b"v", b"m"))
    [listed] = bench.shard.list_groups(frozenset(), frozenset()).response
    assert (listed.kind, listed.state) == ("streams", "Stable")
    assert bench.shard.describe_groups(["g"]).response[0].error is ErrorCode.GROUP_ID_NOT_FOUND
    [reply] = bench.shard.join(join(), 0, 1).replies
    assert reply.response.error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert bench.carry_out(bench.shard.delete_groups(["g"])) == [("g", ErrorCode.NON_EMPTY_GROUP)]
    with pytest.raises(KafkaError) as refused:
        bench.commit(9)
    assert refused.value.code is ErrorCode.UNKNOWN_MEMBER_ID
    with pytest.raises(KafkaError):
        bench.shard.delete_offsets(DeleteOffsets(group_id="g", topics=(("t", (0,)),)))
    assert bench.shard.on_deadline(5_000).records == ()
    assert bench.fetch() == 5


def test_an_empty_streams_group_is_deleted_key_by_key(bench):
    bench.commit(5)
    records = [foreign(GroupKind.STREAMS, 17, b"v"), foreign(GroupKind.STREAMS, 20, b"v")]
    bench.apply(*records, foreign(GroupKind.STREAMS, 19, b"v", b"m"), foreign(GroupKind.STREAMS, 19, None, b"m"))
    decision = bench.shard.delete_groups(["g"])
    assert [record.key for record in decision.records[1:]] == [record.key for record in records]
    bench.carry_out(decision)
    assert bench.shard.list_groups(frozenset(), frozenset()).response == []


def test_a_classic_member_takes_over_an_empty_streams_group(bench):
    bench.apply(foreign(GroupKind.STREAMS, 17, b"v"))
    decision = bench.shard.join(join(), 0, 1)
    assert decision.records[0] == foreign(GroupKind.STREAMS, 17, None)
    bench.carry_out(decision)
    [listed] = bench.shard.list_groups(frozenset(), frozenset()).response
    assert listed.kind == "classic"


def test_share_groups_are_never_taken_over(bench):
    bench.apply(foreign(GroupKind.SHARE, 11, b"v"))
    [reply] = bench.shard.join(join(), 0, 1).replies
    assert reply.response.error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL

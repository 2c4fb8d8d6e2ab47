"""The leader's ledger: high watermark, in-sync replicas, proposals."""

import random

import pytest

from ottla.replication.leader import IsrChange, LeaderLedger, LeaderRecoveryState, PartitionState
from ottla.wire.errors import ErrorCode, KafkaError

LAG = 30_000


def state(
    isr: tuple[int, ...], replicas: tuple[int, ...] = (1, 2, 3), *, epoch: int = 1, partition_epoch: int = 1
) -> PartitionState:
    return PartitionState(leader_epoch=epoch, partition_epoch=partition_epoch, replicas=replicas, isr=isr)


def ledger(
    isr: tuple[int, ...] = (1, 2, 3),
    replicas: tuple[int, ...] = (1, 2, 3),
    *,
    end: int = 10,
    high_watermark: int = 10,
    **options: object,
) -> LeaderLedger:
    return LeaderLedger(
        node_id=1,
        state=state(isr, replicas),
        log_end_offset=end,
        high_watermark=high_watermark,
        now_ms=0,
        **options,  # type: ignore[arg-type]
    )


def test_one_replica_is_its_own_high_watermark() -> None:
    leader = ledger((1,), (1,), end=5, high_watermark=0, min_insync_replicas=2)
    assert leader.high_watermark == 5
    assert leader.record_append(9) == 9
    assert leader.record_append(9) is None
    leader.check_acks_all()
    assert leader.acknowledgement(9) is ErrorCode.NONE
    assert leader.acknowledgement(10) is None
    assert leader.propose_shrink(10**9) is None


def test_the_high_watermark_is_the_smallest_end_of_the_in_sync_replicas() -> None:
    leader = ledger()
    assert leader.record_append(20) is None
    assert leader.record_fetch(2, 20, 1).high_watermark is None
    assert leader.record_fetch(3, 15, 2).high_watermark == 15
    assert leader.record_fetch(3, 20, 3).high_watermark == 20
    assert leader.record_fetch(3, 12, 4).high_watermark is None
    assert leader.high_watermark == 20


def test_a_new_leader_waits_for_its_followers_first_fetch() -> None:
    leader = ledger(end=20, high_watermark=10)
    assert leader.high_watermark == 10
    leader.record_fetch(2, 20, 1)
    assert leader.high_watermark == 10
    assert leader.record_fetch(3, 18, 1).high_watermark == 18


def test_nothing_is_committed_below_min_insync_replicas() -> None:
    leader = ledger((1,), min_insync_replicas=2)
    assert leader.is_under_min_isr
    assert leader.record_append(20) is None
    with pytest.raises(KafkaError) as caught:
        leader.check_acks_all()
    assert caught.value.code is ErrorCode.NOT_ENOUGH_REPLICAS
    change = leader.record_fetch(2, 20, 1).isr_change
    assert change is not None
    assert leader.high_watermark == 10
    confirmed = state((1, 2), partition_epoch=2)
    assert leader.apply_partition_state(confirmed, 20, 2) == 20


def test_acks_all_after_the_set_shrank() -> None:
    leader = ledger((1, 2, 3), min_insync_replicas=2)
    leader.record_append(20)
    leader.record_fetch(2, 20, 1)
    leader.record_fetch(3, 20, 1)
    leader.apply_partition_state(state((1,), partition_epoch=2), 20, 2)
    assert leader.acknowledgement(20) is ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND


def test_laggards_leave_the_set_and_hold_back_until_it_is_confirmed() -> None:
    leader = ledger()
    leader.record_append(20, 100)
    leader.record_fetch(2, 20, 100)
    assert leader.isr_shrink_candidates(LAG) == ()
    assert leader.isr_shrink_candidates(LAG + 1) == (3,)
    change = leader.propose_shrink(LAG + 1)
    assert change == IsrChange(leader_epoch=1, partition_epoch=1, isr=(1, 2), broker_epochs=(-1, -1))
    assert (leader.isr, leader.maximal_isr, leader.pending_change) == ((1, 2, 3), (1, 2, 3), change)
    assert leader.propose_shrink(10**9) is None
    assert leader.high_watermark == 10
    assert leader.apply_partition_state(state((1, 2), partition_epoch=2), 20, LAG + 2) == 20
    assert leader.pending_change is None


def test_a_follower_that_reads_what_was_the_end_before_counts_as_caught_up_then() -> None:
    leader = ledger((1, 2), (1, 2))
    leader.record_append(20)
    leader.record_fetch(2, 10, 5_000)
    leader.record_append(30)
    leader.record_fetch(2, 20, 40_000)
    assert leader.isr_shrink_candidates(5_000 + LAG) == ()
    assert leader.isr_shrink_candidates(5_000 + LAG + 1) == (2,)


def test_followers_join_with_all_that_is_committed_and_count_at_once() -> None:
    leader = ledger((1, 2), end=10, high_watermark=10)
    leader.record_fetch(2, 10, 1)
    leader.record_append(20, 1)
    leader.record_fetch(2, 20, 2)
    assert leader.high_watermark == 20
    assert leader.record_fetch(3, 19, 3, broker_epoch=77).isr_change is None
    change = leader.record_fetch(3, 20, 4, broker_epoch=77).isr_change
    assert change == IsrChange(leader_epoch=1, partition_epoch=1, isr=(1, 2, 3), broker_epochs=(-1, -1, 77))
    leader.record_append(30, 5)
    leader.record_fetch(2, 30, 6)
    assert (leader.high_watermark, leader.maximal_isr, leader.isr) == (20, (1, 2, 3), (1, 2))
    assert leader.record_fetch(3, 25, 7, broker_epoch=77).high_watermark == 25


def test_a_refused_proposal_no_longer_counts() -> None:
    leader = ledger((1, 2), (1, 2, 3), end=20, high_watermark=20, eligible=lambda node, epoch: epoch == 77)
    leader.record_fetch(2, 20, 1)
    change = leader.record_fetch(3, 20, 1, broker_epoch=77).isr_change
    assert change is not None
    leader.record_append(30, 2)
    leader.record_fetch(2, 30, 3)
    assert leader.high_watermark == 20
    assert leader.drop_proposal(change) is None
    assert leader.record_time(1 + LAG + 1) == 30
    assert leader.drop_proposal(change) is None


def test_the_high_watermark_waits_for_a_caught_up_replica_about_to_join() -> None:
    eligible = {3}
    leader = ledger((1, 2), end=20, high_watermark=20, eligible=lambda node, epoch: node in eligible)
    leader.record_fetch(2, 20, 1)
    eligible.clear()
    leader.record_fetch(3, 20, 1)
    leader.record_append(30, 2)
    assert leader.record_fetch(2, 30, 3).high_watermark == 30
    eligible.add(3)
    leader.record_append(40, 4)
    assert leader.record_fetch(2, 40, 5).high_watermark is None
    assert leader.record_time(1 + LAG) is None
    assert leader.record_time(2 + LAG) == 40


def test_replicas_that_may_not_join_do_not() -> None:
    leader = ledger((1, 2), eligible=lambda node, epoch: False)
    assert leader.record_fetch(3, 10, 1).isr_change is None


def test_a_follower_joins_only_with_what_earlier_leaders_wrote() -> None:
    leader = ledger((1,), (1, 2), end=20, high_watermark=20)
    leader.apply_partition_state(state((1,), (1, 2), epoch=2, partition_epoch=2), 30, 1)
    assert leader.record_fetch(2, 29, 2).isr_change is None
    assert leader.record_fetch(2, 30, 3).isr_change is not None


def test_strangers_and_former_lives_are_refused() -> None:
    leader = ledger()
    with pytest.raises(KafkaError) as caught:
        leader.record_fetch(9, 10, 1)
    assert caught.value.code is ErrorCode.UNKNOWN_LEADER_EPOCH
    leader.record_fetch(2, 10, 1, broker_epoch=5)
    with pytest.raises(KafkaError) as caught:
        leader.record_fetch(2, 10, 1, broker_epoch=4)
    assert caught.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_old_partition_states_change_nothing() -> None:
    leader = ledger()
    assert leader.apply_partition_state(state((1,)), 10, 1) is None
    assert leader.isr == (1, 2, 3)


def test_a_new_leader_epoch_forgets_what_followers_had() -> None:
    leader = ledger()
    leader.record_append(20)
    leader.record_fetch(2, 20, 1)
    leader.record_fetch(3, 20, 1)
    leader.apply_partition_state(state((1, 2, 3), epoch=2, partition_epoch=2), 25, 1000)
    leader.record_fetch(2, 25, 1001)
    assert leader.high_watermark == 20
    assert leader.isr_shrink_candidates(1000 + LAG) == ()
    assert leader.isr_shrink_candidates(1001 + LAG) == (3,)


def test_recovery_is_reported_once() -> None:
    leader = ledger((1,), (1, 2))
    assert leader.propose_recovered() is None
    recovering = PartitionState(
        leader_epoch=2,
        partition_epoch=2,
        replicas=(1, 2),
        isr=(1,),
        leader_recovery_state=LeaderRecoveryState.RECOVERING,
    )
    leader.apply_partition_state(recovering, 10, 1)
    change = leader.propose_recovered()
    assert change is not None
    assert (change.isr, change.leader_recovery_state) == ((1,), LeaderRecoveryState.RECOVERED)
    assert leader.propose_recovered() is None


def test_low_watermark() -> None:
    leader = ledger(eligible=lambda node, epoch: node != 3)
    leader.record_fetch(2, 10, 1, log_start_offset=4)
    leader.record_fetch(3, 10, 1, log_start_offset=2)
    assert leader.low_watermark(6) == 4


def test_the_high_watermark_never_falls_and_never_passes_the_maximal_set() -> None:
    """A thousand small lives: whatever happens, both hold, and a confirmed set is part of the maximal one."""
    rng = random.Random(42)
    for _ in range(300):
        leader = ledger(end=0, high_watermark=0, min_insync_replicas=rng.choice((1, 2)))
        now, end, last = 0, 0, 0
        fetched = {2: -1, 3: -1}
        for _ in range(60):
            now += rng.choice((1, 10, 20_000))
            match rng.randrange(6):
                case 0 | 1:
                    end += rng.randrange(1, 5)
                    leader.record_append(end, now)
                case 2 | 3:
                    node = rng.choice((2, 3))
                    fetched[node] = rng.randrange(max(0, fetched[node]), end + 1)
                    leader.record_fetch(node, fetched[node], now)
                case 4:
                    leader.propose_shrink(now)
                case _ if leader.pending_change is not None:
                    change = leader.pending_change
                    if rng.random() < 0.3:
                        leader.drop_proposal(change)
                    else:
                        confirmed = state(change.isr, partition_epoch=leader.partition_epoch + 1)
                        leader.apply_partition_state(confirmed, end, now)
            assert leader.high_watermark >= last
            assert set(leader.isr) <= set(leader.maximal_isr)
            if leader.high_watermark > last:
                assert all(fetched[node] >= leader.high_watermark for node in leader.maximal_isr if node != 1)
                assert not leader.is_under_min_isr
            last = leader.high_watermark

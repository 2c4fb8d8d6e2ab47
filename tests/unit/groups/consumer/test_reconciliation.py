"""A member's steps towards its target: what it keeps, gives up, waits for and takes."""

import pytest

from ottla.groups.consumer.reconciliation import Goal, reconcile
from ottla.groups.consumer.records import CurrentAssignment, MemberState
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode, KafkaError

T, U = Uuid(b"t" * 16), Uuid(b"u" * 16)
STABLE, UNREVOKED, UNRELEASED = (
    MemberState.STABLE,
    MemberState.UNREVOKED_PARTITIONS,
    MemberState.UNRELEASED_PARTITIONS,
)


def goal(epoch, target, *, taken=(), subscribed=(T, U)):
    return Goal(
        epoch=epoch,
        target=target,
        is_subscribed=lambda topic: topic in subscribed,
        is_taken=lambda topic, partition: (topic, partition) in taken,
    )


def member(state, assigned, revoking=None, epoch=5):
    return CurrentAssignment(
        epoch=epoch, previous_epoch=epoch - 1, state=state, assigned=assigned, revoking=revoking or {}
    )


def step(current, to, reported=None, changed=False):
    return reconcile(current, to, reported, subscription_changed=changed)


def test_a_reconciled_member_stays_as_it_is():
    current = member(STABLE, {T: {0: 5}})
    assert step(current, goal(5, {T: (0,)})) is current


def test_new_partitions_are_taken_at_the_targets_epoch_and_old_ones_keep_theirs():
    after = step(member(STABLE, {T: {0: 3}}), goal(6, {T: (0, 1), U: (0,)}))
    assert after == CurrentAssignment(
        epoch=6, previous_epoch=5, state=STABLE, assigned={T: {0: 3, 1: 6}, U: {0: 6}}, revoking={}
    )


def test_what_leaves_the_target_is_revoked_first_in_the_old_epoch():
    after = step(member(STABLE, {T: {0: 3, 1: 4}}), goal(6, {T: (0,), U: (0,)}), {T: (0, 1)})
    assert after == CurrentAssignment(
        epoch=5, previous_epoch=5, state=UNREVOKED, assigned={T: {0: 3}}, revoking={T: {1: 4}}
    )


def test_silence_about_what_is_owned_revokes_nothing():
    current = member(UNREVOKED, {T: {0: 3}}, {T: {1: 4}})
    assert step(current, goal(6, {T: (0,)})) is current
    assert step(current, goal(6, {T: (0,)}), {T: (0, 1)}) is current
    assert step(current, goal(6, {T: (0,)}), {T: (0,)}).epoch == 6


def test_what_was_already_given_up_needs_no_revocation():
    after = step(member(STABLE, {T: {0: 3, 1: 4}}), goal(6, {T: (0,)}), {T: (0,)})
    assert (after.state, after.epoch, after.assigned) == (STABLE, 6, {T: {0: 3}})


def test_partitions_of_others_are_waited_for():
    to = goal(6, {T: (0, 1)}, taken={(T, 1)})
    waiting = step(member(STABLE, {}), to)
    assert (waiting.state, waiting.epoch, waiting.assigned) == (UNRELEASED, 6, {T: {0: 6}})
    assert step(waiting, to) == CurrentAssignment(
        epoch=6, previous_epoch=6, state=UNRELEASED, assigned={T: {0: 6}}, revoking={}
    )
    assert step(waiting, goal(6, {T: (0, 1)})).assigned == {T: {0: 6, 1: 6}}


def test_what_the_member_has_just_revoked_it_may_take_again():
    current = member(UNREVOKED, {}, {T: {0: 3}})
    after = step(current, goal(7, {T: (0,)}, taken={(T, 0)}), {})
    assert (after.state, after.assigned) == (STABLE, {T: {0: 7}})


def test_a_target_older_than_the_subscription_gives_only_what_is_subscribed():
    after = step(member(STABLE, {}), goal(6, {T: (0,), U: (0,)}, subscribed=(U,)))
    assert after.assigned == {U: {0: 6}}


def test_topics_left_are_given_up_without_waiting_for_a_target():
    current = member(STABLE, {T: {0: 3}, U: {0: 4}})
    to = goal(5, {T: (0,), U: (0,)}, subscribed=(U,))
    asked = step(current, to, {T: (0,), U: (0,)}, changed=True)
    assert (asked.state, asked.epoch, asked.assigned, asked.revoking) == (UNREVOKED, 5, {U: {0: 4}}, {T: {0: 3}})
    gone = step(current, to, {U: (0,)}, changed=True)
    assert (gone.state, gone.assigned, gone.revoking) == (STABLE, {U: {0: 4}}, {})
    more = step(asked, goal(5, {}, subscribed=()), {T: (0,), U: (0,)}, changed=True)
    assert (more.assigned, more.revoking) == ({}, {T: {0: 3}, U: {0: 4}})


def test_a_state_of_a_later_release_starts_over():
    current = member(MemberState.UNKNOWN, {T: {0: 3}})
    for reported in (None, {T: (0,)}):
        with pytest.raises(KafkaError) as refused:
            step(current, goal(6, {T: (0,)}), reported)
        assert refused.value.code is ErrorCode.FENCED_MEMBER_EPOCH
    assert step(current, goal(6, {T: (0,)}), {}).state is STABLE

"""The checker itself: a kept promise passes, and every planted violation is named."""

from __future__ import annotations

import pytest

from harness.history import History, intact, make_value, verdict

PLACE = ("t", 0)


@pytest.fixture
def kept():
    """Two senders, ten values each, all acknowledged, read live and read at the end."""
    history = History()
    values = [make_value(sender, number, 40) for number in range(10) for sender in ("a", "b")]
    history.record_sent(PLACE, values)
    for offset, value in enumerate(values):
        history.record_acknowledged(PLACE, offset, [value])
        history.record_live_read(PLACE, offset, value)
        history.record_final_read(PLACE, offset, value)
    return history


def rules(history):
    return {violation.rule for violation in verdict(history)}


def test_a_kept_promise_passes(kept):
    assert verdict(kept) == []


def test_an_unacknowledged_value_may_be_missing_or_there(kept):
    kept.record_sent(PLACE, [make_value("a", 10), make_value("a", 11)])
    kept.record_final_read(PLACE, 20, make_value("a", 10))
    assert verdict(kept) == []


def test_a_hole_between_offsets_is_allowed(kept):
    kept.record_sent(PLACE, [make_value("a", 10)])
    kept.record_final_read(PLACE, 25, make_value("a", 10))
    assert verdict(kept) == []


def test_a_lost_value_is_found(kept):
    kept.final_reads[PLACE].pop()
    assert rules(kept) == {"lost", "unread"}


def test_a_value_lost_in_the_middle_is_found(kept):
    del kept.final_reads[PLACE][7]
    del kept.live_reads[PLACE][7]
    assert rules(kept) == {"lost"}


def test_a_duplicate_is_found(kept):
    kept.final_reads[PLACE].append((20, kept.final_reads[PLACE][3][1]))
    assert rules(kept) == {"duplicated"}


def test_two_values_of_one_sender_in_the_wrong_order_are_found(kept):
    reads = kept.final_reads[PLACE]
    reads[4], reads[6] = (4, reads[6][1]), (6, reads[4][1])
    assert "reordered" in rules(kept)


def test_offsets_that_do_not_rise_are_found(kept):
    reads = kept.final_reads[PLACE]
    reads[4], reads[5] = reads[5], reads[4]
    assert "reordered" in rules(kept)


def test_a_changed_byte_is_found(kept):
    offset, value = kept.final_reads[PLACE][5]
    kept.final_reads[PLACE][5] = (offset, value.replace(b".", b",", 1))
    assert "changed" in rules(kept)


def test_a_value_nobody_sent_is_found(kept):
    kept.record_final_read(PLACE, 20, make_value("stranger", 0))
    assert rules(kept) == {"changed"}


def test_a_value_in_the_wrong_partition_is_found(kept):
    kept.record_sent(("t", 1), [])
    kept.record_final_read(("t", 1), 0, make_value("a", 0, 40))
    assert rules(kept) == {"changed"}


def test_an_acknowledgement_with_another_offset_is_found(kept):
    kept.acknowledged[PLACE][make_value("a", 3, 40)] += 1
    assert rules(kept) == {"inconsistent offset"}


def test_two_acknowledgements_that_differ_are_found(kept):
    kept.record_acknowledged(PLACE, 99, [make_value("a", 3, 40)])
    assert rules(kept) == {"inconsistent offset"}


def test_an_offset_that_changes_under_a_reader_is_found(kept):
    kept.record_live_read(PLACE, 4, make_value("b", 9, 40))
    assert rules(kept) == {"inconsistent offset"}


def test_a_read_that_is_gone_later_is_found(kept):
    value = make_value("a", 10)
    kept.record_sent(PLACE, [value])
    kept.record_live_read(PLACE, 20, value)
    assert rules(kept) == {"unread"}


def test_a_wrong_answer_is_found(kept):
    kept.record_failure(PLACE, "OUT_OF_ORDER_SEQUENCE_NUMBER")
    assert rules(kept) == {"wrong answer"}


@pytest.mark.parametrize("size", [0, 20, 300])
def test_a_value_carries_its_own_proof(size):
    value = make_value("a", 7, size)
    assert intact(value)
    assert not intact(value[:-1] + b"x")
    assert not intact(b"a" + value)

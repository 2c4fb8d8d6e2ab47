"""Every rule: a history that breaks it, named exactly, and an innocent twin that differs in one small thing."""

from __future__ import annotations

import pytest

from chaos.checker import check
from chaos.history import Header, History, Poll, Send, load, make_record, read_record
from chaos.notation import parse
from chaos.report import summary
from chaos.rules import RULES

# name of the rule: (a history that breaks it and no other, its twin that breaks none)
FIXTURES = {
    "inconsistent-offsets": (
        """
        1 send ok 0<1@0
        2 send info 0<2
        3 poll ok 0>1@0
        4 poll ok 0>2@0
        """,
        """
        1 send ok 0<1@0
        2 send info 0<2
        3 poll ok 0>1@0
        4 poll ok 0>2@1
        """,
    ),
    "duplicate": (
        """
        1 send ok 0<1@0
        2 send ok 0<2@1
        3 poll ok 0>1@0,2@1,1@2
        """,
        """
        1 send ok 0<1@0
        2 send ok 0<2@1
        3 poll ok 0>1@0,2@1
        """,
    ),
    "stranger": ("3 poll ok 0>9@0", "1 send info 0<9\n3 poll ok 0>9@0"),
    "lost-write": (
        """
        1 send ok 0<1@0
        1 send ok 0<2@1
        3 poll ok 0>2@1
        """,
        """
        1 send info 0<1@0
        2 send ok 0<2@1
        3 poll ok 0>2@1
        """,
    ),
    "unseen": (
        """
        1 send ok 0<1@0
        1 send ok 0<2@1
        ! caught-up
        3 poll ok 0>1@0
        """,
        """
        1 send ok 0<1@0
        1 send info 0<2@1
        ! caught-up
        3 poll ok 0>1@0
        """,
    ),
    "G1a": ("1 txn fail 0<1\n2 poll ok 0>1@0", "1 txn info 0<1\n2 poll ok 0>1@0"),
    "precommitted-read": ("1 txn ok 0<1@0 0>1@0", "1 txn ok 0<1@0 1>1@0\n2 send ok 1<1@0"),
    "early-read": (
        """
        1 txn invoke 0<1
        2 poll ok 0>1@0
        1 txn ok 0<1@0 commit:3
        """,
        """
        1 txn invoke 0<1
        2 poll ok 0>1@0
        1 txn ok 0<1@0 commit:1
        """,
    ),
    "torn": (
        """
        1 txn info 0<1@0 1<1@0
        ! caught-up
        2 poll ok 0>1@0
        """,
        """
        1 txn info 0<1@0 1<1@0
        ! caught-up
        2 poll ok 0>1@0 1>1@0
        """,
    ),
    "bank-total": (
        """
        1 txn ok 0<1@0-30 1<1@0+20
        ! caught-up
        2 poll ok 0>1@0 1>1@0
        """,
        """
        1 txn ok 0<1@0-30 1<1@0+30
        ! caught-up
        2 poll ok 0>1@0 1>1@0
        """,
    ),
    "poll-skip": (
        """
        1 send ok 0<1@0 0<2@1 0<3@2
        2 assign ok
        2 poll ok 0>1@0
        2 poll ok 0>3@2
        3 poll ok 0>2@1
        """,
        """
        1 send ok 0<1@0 0<2@1 0<3@2
        2 assign ok
        2 poll ok 0>1@0
        2 assign ok
        2 poll ok 0>3@2
        3 poll ok 0>2@1
        """,
    ),
    "nonmonotonic-poll": (
        """
        1 send ok 0<1@0 0<2@1
        2 assign ok
        2 poll ok 0>1@0,2@1
        2 poll ok 0>1@0
        """,
        """
        1 send ok 0<1@0 0<2@1
        2 assign ok
        2 poll fail 0>1@0,2@1
        2 poll ok 0>1@0
        """,
    ),
    "int-poll-skip": (
        """
        1 send ok 0<1@0 0<2@1 0<3@2
        2 poll ok 0>1@0,3@2
        3 poll ok 0>2@1
        """,
        """
        1 send ok 0<1@0 0<2@1 0<3@2
        2 poll ok 0>1@0,3@2 reb:0
        3 poll ok 0>2@1
        """,
    ),
    "int-nonmonotonic-poll": (
        "1 send ok 0<1@0 0<2@1\n2 poll ok 0>2@1,1@0",
        "1 send ok 0<1@0 0<2@1\n2 poll ok 0>2@1,1@0 reb:0",
    ),
    "nonmonotonic-send": (
        "1 send ok 0<1@1\n1 send ok 0<2@0\n3 poll ok 0>2@0,1@1",
        "1 send ok 0<1@1\n2 send ok 0<2@0\n3 poll ok 0>2@0,1@1",
    ),
    "int-nonmonotonic-send": (
        "1 send ok 0<1@1 0<2@0\n3 poll ok 0>2@0,1@1",
        "1 send ok 0<1@0 0<2@1\n3 poll ok 0>1@0,2@1",
    ),
    "G1c-wr": (
        """
        1 txn invoke 0<1
        2 txn ok 1<2@0 0>1@0
        1 txn ok 0<1@0 1>2@0
        """,
        """
        1 txn invoke 0<1
        2 txn ok 1<2@0 0>1@0
        1 txn ok 0<1@0
        3 poll ok 1>2@0
        """,
    ),
    "went-back": (
        """
        1 watch ok hw:0=5
        2 watch ok hw:0=4
        """,
        """
        2 watch invoke
        1 watch ok hw:0=5
        2 watch ok hw:0=4
        """,
    ),
    "wrong-answer": ("1 wrong-answer ok : OUT_OF_ORDER_SEQUENCE_NUMBER", "1 send fail 0<1 : MESSAGE_TOO_LARGE"),
    "stuck": (
        """
        ! begins w1
        ! begins w2
        ! start
        1 send info 0<1
        2 send ok 1<1@0
        2 poll ok 1>1@0
        2 poll ok
        ! end
        """,
        """
        ! begins w1
        ! begins w2
        ! begins w3
        ! ends w3
        ! start
        1 send info 0<1
        ! kill
        2 send ok 1<1@0
        2 poll ok 1>1@0
        2 poll ok
        ! heal
        1 send ok 0<2@0
        2 send ok 1<2@1
        ! end
        """,
    ),
    "copy": (
        """
        1 send ok 0<1@0
        1 send ok 0<2@1
        ! caught-up
        3 poll ok 0>1@0,2@1 1>1@0
        """,
        """
        1 send ok 0<1@0
        1 send ok 0<2@1
        ! caught-up
        3 poll ok 0>1@0,2@1 1>1@0,2@2
        """,
    ),
    # -- allowed, and counted --
    "G0": (
        "1 txn ok 0<1@0 1<1@1\n2 txn ok 0<2@1 1<2@0\n3 poll ok 0>1@0,2@1 1>2@0,1@1",
        "1 txn ok 0<1@0 1<1@0\n2 txn ok 0<2@1 1<2@1\n3 poll ok 0>1@0,2@1 1>1@0,2@1",
    ),
    "G1c": (
        "1 txn ok 0<1@0 1<1@1\n2 txn ok 0>1@0 1<2@0\n3 poll ok 0>1@0 1>2@0,1@1",
        "1 txn ok 0<1@0 1<1@0\n2 txn ok 0>1@0 1<2@1\n3 poll ok 0>1@0 1>1@0,2@1",
    ),
    "int-send-skip": (
        "1 txn ok 0<1@0 0<3@2\n2 send ok 0<2@1\n3 poll ok 0>1@0,2@1,3@2",
        "1 txn ok 0<1@0 0<3@1\n2 send ok 0<2@2\n3 poll ok 0>1@0,3@1,2@2",
    ),
    "subscribed-poll-skip": (
        "1 send ok 0<1@0 0<2@1 0<3@2\n2 subscribe ok\n2 poll ok 0>1@0\n2 poll ok 0>3@2\n3 poll ok 0>2@1",
        "1 send ok 0<1@0 0<2@1 0<3@2\n2 subscribe ok\n2 poll ok 0>1@0\n2 poll ok 0>3@2 reb:0\n3 poll ok 0>2@1",
    ),
    "subscribed-nonmonotonic-poll": (
        "1 send ok 0<1@0 0<2@1\n2 subscribe ok\n2 poll ok 0>1@0,2@1\n2 poll ok 0>1@0",
        "1 send ok 0<1@0 0<2@1\n2 subscribe ok\n2 poll ok 0>1@0,2@1\n2 subscribe ok\n2 poll ok 0>1@0",
    ),
}
# What a history needs for its rule to make sense; both twins get it.
HEADERS = {"stuck": {"stuck_seconds": 3.5}, "copy": {"copies": {0: 1}}}
# What else, bad or only counted, cannot but show in the same history.
ALSO = {"duplicate": {"G0"}, "torn": {"unseen"}, "int-send-skip": {"G0"}}


def found(text, name):
    verdict = check(parse(text, **HEADERS.get(name, {})))
    return {violation.rule for violation in (*verdict.bad, *verdict.normal)}


def test_every_rule_has_a_fixture():
    assert FIXTURES.keys() == RULES.keys()


@pytest.mark.parametrize("name", FIXTURES)
def test_a_broken_promise_is_named_and_nothing_else_is(name):
    guilty = FIXTURES[name][0]
    assert found(guilty, name) == {name} | ALSO.get(name, set())
    assert RULES[name].bad == (name in check(parse(guilty, **HEADERS.get(name, {}))).rules)


@pytest.mark.parametrize("name", FIXTURES)
def test_its_innocent_twin_is_not(name):
    assert found(FIXTURES[name][1], name) == set()


def test_a_counter_example_shows_what_matters():
    history = parse(
        """
        1 send ok 0<1@0 0<2@1
        ! kill
        2 send ok 0<3@1
        3 poll ok 0>1@0,3@1
        """
    )
    report = summary(history, check(history))
    assert report.startswith("BROKEN (inconsistent-offsets 1)")
    assert "inconsistent-offsets in t-0: offset 1 holds 3 and 2" in report
    assert RULES["inconsistent-offsets"].promise in report
    assert "p1 (w1)          send       ok     t-0 <- 1@0 t-0 <- 2@1" in report
    assert "nemesis          kill" in report
    assert "t-0 -> 1@0 3@1" in report


def test_polls_are_shown_near_what_matters():
    polled = ",".join(f"{value}@{value}" for value in range(1, 40))
    sends = "\n".join(f"1 send ok 0<{value}@{value}" for value in range(1, 40))
    history = parse(f"{sends}\n2 send fail 0<70\n3 poll ok 0>{polled},70@40")
    assert "t-0 -> ... 38@38 39@39 70@40" in summary(history, check(history))


def test_values_consumed_more_than_once_are_counted():
    history = parse("1 send ok 0<1@0 0<2@1\n2 subscribe ok\n2 poll ok 0>1@0,2@1\n3 subscribe ok\n3 poll ok 0>2@1")
    assert check(history).reads_of_a_value == {1: 1, 2: 1}


def test_a_history_comes_back_from_its_file(tmp_path):
    path = tmp_path / "history.jsonl"
    with History(Header(keys={0: ("t", 0)}, seed=7), path) as history:
        begun = history.invoke(1, "txn", [Send(0, None, 5)], worker="w")
        history.complete(begun, "ok", [Send(0, 3, 5), Poll({0: [(3, 5)]})], c=12)
        history.mark("nemesis", "kill")
    again = load(path)
    assert again.header == history.header
    assert again.events == history.events


def test_a_long_history_is_judged_in_seconds():
    history = History(Header(keys={0: ("t", 0)}))
    for number in range(0, 20_000, 10):
        values = range(number, number + 10)
        begun = history.invoke(1, "send", [Send(0, None, value) for value in values])
        history.complete(begun, "ok", [Send(0, value, value) for value in values])
        begun = history.invoke(2, "poll")
        history.complete(begun, "ok", [Poll({0: [(value, value) for value in values]})])
    verdict = check(history)
    assert verdict.kept
    assert verdict.read == 20_000


@pytest.mark.parametrize("size", [0, 20, 300])
def test_a_record_carries_its_own_proof(size):
    record = make_record(3, 17, "w1", size)
    assert len(record) >= size
    assert read_record(3, record) == 17
    assert isinstance(read_record(4, record), str)
    assert isinstance(read_record(3, record.replace(b"17", b"18")), str)
    assert isinstance(read_record(3, record[:-1] + b"x"), str)
    assert isinstance(read_record(3, None), str)


def test_one_changed_byte_is_never_overlooked():
    record = make_record(3, 17, "w1", 60)
    for at in range(len(record)):
        changed = record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :]
        assert isinstance(read_record(3, changed), str)

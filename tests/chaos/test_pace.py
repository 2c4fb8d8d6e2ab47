"""How workers keep to the rate of a run: some make up for what an outage took from them, others wait for nobody."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from chaos.checker import check
from chaos.history import RUN, Header, History, Send
from chaos.report import summary
from chaos.stage import Worker

RATE = 400


def worker(makes_up_seconds):
    made = Worker(SimpleNamespace(history=None, seed=1, rate=RATE), "worker")
    made.makes_up_seconds = makes_up_seconds
    return made


def seconds_for(made, operations):
    began = time.monotonic()
    for _ in range(operations):
        assert made.wait()
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("makes_up_seconds", "least", "most"),
    [(0.0, 0.4, 5.0), (30.0, 0.0, 0.2), (0.25, 0.15, 0.4)],
    ids=["never", "all of it", "some of it"],
)
def test_what_was_not_sent_in_an_outage(makes_up_seconds, least, most):
    """Two hundred operations are half a second's worth; there was an outage of one second."""
    made = worker(makes_up_seconds)
    seconds_for(made, 1)
    time.sleep(1)
    assert least < seconds_for(made, 200) < most


def test_without_an_outage_the_rate_is_kept():
    assert 0.35 < seconds_for(worker(30.0), 200) < 1.5


def test_the_report_tells_how_many_values_a_second():
    history = History(Header(keys={0: ("t", 0)}))
    history.mark(RUN, "start")
    for value in range(20):
        history.complete(history.invoke(1, "send", [Send(0, None, value)]), "ok", [Send(0, value, value)])
    time.sleep(0.1)
    history.mark(RUN, "end")
    rate = int(summary(history, check(history)).partition("20 written (")[2].partition("/s")[0])
    assert 50 < rate <= 200

"""How fast connections may come."""

from __future__ import annotations

import pytest

from ottla.net.accept_rate import AcceptRate


def accepted(rate: AcceptRate, begin: float, end: float) -> list[float]:
    """The moments at which somebody gets in who tries all the time."""
    found, now = [], begin
    while now < end:
        now += rate.pause(now)
        if now >= end:
            break
        rate.count(now)
        found.append(round(now - begin, 6))
    return found


def test_a_burst_then_the_rate() -> None:
    rate = AcceptRate()
    rate.limit(5, 2.0)
    times = accepted(rate, 100.0, 103.0)
    # Like Apache Kafka one more than the limit times the window, and the wait begins.
    assert times[:11] == [0.0] * 11
    assert times[11:] == pytest.approx([0.2 * step for step in range(1, 15)])


def test_quiet_time_allows_another_burst_but_not_a_larger_one() -> None:
    rate = AcceptRate()
    rate.limit(5, 2.0)
    accepted(rate, 100.0, 103.0)
    assert accepted(rate, 104.0, 104.1) == [0.0] * 6
    assert accepted(rate, 1000.0, 1000.1) == [0.0] * 11


def test_zero_is_one_in_each_window() -> None:
    rate = AcceptRate()
    rate.limit(0, 10.0)
    assert accepted(rate, 100.0, 135.0) == [0.0, 0.0, 10.0, 20.0, 30.0]


def test_as_made_it_is_no_limit_and_a_new_limit_holds_at_once() -> None:
    rate = AcceptRate()
    for _ in range(10_000):
        assert rate.pause(5.0) == 0.0
        rate.count(5.0)
    rate.limit(10, 1.0)
    assert len(accepted(rate, 5.0, 7.05)) == 31
    rate.limit(1000, 1.0)
    assert rate.pause(7.2) == 0.0

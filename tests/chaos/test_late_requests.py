"""KAFKA-17754 on a live broker: requests of a transaction that arrive in the middle of a later one change nothing."""

from __future__ import annotations

import pytest

from chaos.run import Plan, run

RATE = 12.0


def plan(seconds, seed, **more):
    return Plan(workloads=("late",), faults=("none",), seconds=seconds, seed=seed, rate=RATE, **more)


def test_late_requests_change_nothing(cluster_kind, request, seed, tmp_path):
    seconds = request.config.getoption("--chaos-seconds")
    outcome = run(plan(seconds, seed, cluster=cluster_kind), tmp_path / "run")
    print(outcome.report)
    assert outcome.verdict.kept, outcome.report
    assert outcome.verdict.faults["late"] >= seconds / 2


def test_a_planted_belief_in_any_epoch_is_caught(planted, tmp_path):
    for seed in range(3):
        more = {"bug": "end-transactions-of-any-epoch", "look_seconds": 1.0}
        outcome = run(plan(20.0, seed, **more), tmp_path / str(seed))
        if not outcome.verdict.kept:
            print(outcome.report)
            return
    pytest.fail("not noticed")

"""A check that cannot fail is no check: brokers with a bug, and the rules that notice.

By hand: `python -m tests.chaos --bug BUG --workload ... --faults ...` shows the counter-example.
"""

from __future__ import annotations

import pytest

from chaos.run import Plan, run
from harness.planted import BUGS

SEEDS = range(1, 9)
SECONDS = 25.0
# The bug, the load and the faults that bring it to light, and the rules one of which must name it.
CATCHES = {
    "acknowledge-without-appending": ("log", "none", {"inconsistent-offsets", "lost-write"}),
    "forget-duplicates": ("log", "reset", {"duplicate"}),
    "window-of-one": ("log", "reset", {"wrong-answer", "duplicate"}),
    "answer-with-a-wrong-offset": ("log", "none", {"duplicate", "inconsistent-offsets"}),
    "drop-the-last-batch-at-start": ("log", "kill", {"wrong-answer", "went-back", "inconsistent-offsets"}),
    "acknowledge-before-flush": ("log", "power", {"wrong-answer", "went-back", "inconsistent-offsets"}),
    "raise-the-high-watermark-early": ("log", "power", {"wrong-answer", "went-back", "inconsistent-offsets"}),
    "serve-a-changed-byte": ("log", "none", {"wrong-answer"}),
    "commit-for-any-generation": ("group", "none", {"went-back"}),
    "commit-for-any-member-epoch": ("group-next", "none", {"went-back"}),
    "acknowledge-commits-without-writing": ("group", "none", {"went-back"}),
    "stable-offset-ignores-open-transactions": ("txn", "none", {"early-read", "G1a", "precommitted-read"}),
    "forget-aborted-transactions": ("txn", "none", {"G1a"}),
    "forget-open-transactions-at-start": ("txn", "kill", {"G1a", "early-read", "went-back"}),
    "marker-of-the-wrong-type": ("txn", "none", {"G1a", "lost-write", "unseen"}),
    "mark-half-of-a-transaction": ("bank", "none", {"torn", "bank-total", "unseen", "lost-write", "G1a"}),
}
ELSEWHERE = {
    "ignore-failed-flush": "test_disk",
    "end-transactions-of-any-epoch": "test_late_requests",
    "trust-what-recovery-found": "test_power",
}


def test_every_bug_is_looked_for():
    assert CATCHES.keys() | ELSEWHERE.keys() == BUGS.keys()


@pytest.mark.parametrize("bug", CATCHES)
def test_a_planted_bug_is_named(bug, planted, tmp_path):
    workload, faults, rules = CATCHES[bug]
    if workload != "log":
        pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed (extra `interop`)")
    for seed in SEEDS:
        plan = Plan(
            workloads=(workload,),
            faults=tuple(faults.split(",")),
            seconds=SECONDS,
            seed=seed,
            interval=0.5,
            rate=150.0,
            bug=bug,
            look_seconds=1.0,
        )
        outcome = run(plan, tmp_path / str(seed))
        if outcome.verdict.rules & rules:
            print(outcome.report)
            return
        assert outcome.verdict.kept, outcome.report
    pytest.fail(f"{bug} was not noticed")

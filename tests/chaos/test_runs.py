"""Whole runs of the tool: every workload, every fault, and nothing broken. By hand: `python -m tests.chaos`.

Longer: `pytest tests/chaos/test_runs.py --chaos-rounds 200 --chaos-seconds 300`, `--cluster apache` for the other side.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.nemesis import FAULTS, Nemesis, Target, compiler, faults_named
from chaos.run import Plan, run

ROOT = Path(__file__).resolve().parents[2]
RUNS = [
    ("log", "proxy"),
    ("log", "pause,disk,stop"),
    ("mixed,group", "kill,proxy"),
    ("txn,bank", "kill,proxy"),
    ("txn,group-next", "kill,pause,disk"),
]
OTTLA_ONLY = [("log,txn", "power")]


def carry_out(plan, tmp_path):
    outcome = run(plan, tmp_path / "run")
    print(outcome.report)
    assert outcome.verdict.kept, outcome.report
    return outcome


def require(faults):
    if "disk" in faults and compiler() is None:
        pytest.skip("no C compiler for the disk shim")


@pytest.mark.usefixtures("librdkafka")
def test_nothing_is_found_where_nothing_is_broken(cluster_kind, request, seed, tmp_path):
    seconds = request.config.getoption("--chaos-seconds")
    plan = Plan(workloads=("all",), faults=("none",), seconds=seconds, seed=seed, cluster=cluster_kind, rate=60)
    verdict = carry_out(plan, tmp_path).verdict
    assert verdict.acknowledged > 100
    assert verdict.operations["txn ok"] > 10
    assert verdict.operations["commit ok"] > 0


@pytest.mark.parametrize(("workload", "faults"), [*RUNS, *OTTLA_ONLY])
@pytest.mark.usefixtures("librdkafka")
def test_promises_are_kept(cluster_kind, request, seed, tmp_path, workload, faults):
    require(faults)
    if cluster_kind == "apache" and (workload, faults) in OTTLA_ONLY:
        pytest.skip("its writes cannot be recorded, and it acknowledges before it flushes")
    plan = Plan(
        workloads=tuple(workload.split(",")),
        faults=tuple(faults.split(",")),
        seconds=request.config.getoption("--chaos-seconds"),
        seed=seed,
        cluster=cluster_kind,
        interval=1.0,
    )
    assert carry_out(plan, tmp_path).verdict.acknowledged > 0


@pytest.mark.usefixtures("librdkafka")
def test_acknowledged_records_survive_kill_9(cluster_kind, request, seed, tmp_path):
    """R2: 500 records a second on four partitions, the outages included, exact retries, and transactions that are open
    when it dies."""
    rounds = request.config.getoption("--chaos-rounds")
    plan = Plan(
        workloads=("log", "txn"),
        faults=("kill",),
        rounds=rounds,
        seconds=0,
        seed=seed,
        cluster=cluster_kind,
        rate=200,
        interval=0.5,
    )
    assert carry_out(plan, tmp_path).verdict.faults["kill"] >= rounds


def test_the_same_seed_breaks_the_same_things_in_the_same_order(tmp_path):
    class Nothing:
        def __getattr__(self, name):
            return lambda *_, **__: 0

    class Marks(list):
        def mark(self, _, f, text=""):
            self.append((f, text))

    def schedule(seed):
        marks = Marks()
        target = Target(node=Nothing(), proxy=Nothing(), shim_order=tmp_path / "order")
        target.node.env = {}
        faults = [fault for fault in FAULTS.values() if fault.name != "power"]
        nemesis = Nemesis(target, faults, marks, seed=seed, interval=1)
        nemesis.enough.set()
        for _ in range(60):
            nemesis.period()
        assert {name for name, _ in marks} == {fault.name for fault in faults} | {"heal"}
        assert 30 < nemesis.periods < 55
        return marks

    assert schedule(5) == schedule(5)
    assert schedule(5) != schedule(6)


def test_groups_of_faults():
    assert {fault.name for fault in faults_named(["proxy", "kill"])} >= {"kill", "blackhole", "hold"}
    assert faults_named(["none"]) == []


def test_the_command_says_what_broke_and_how_to_see_it_again(planted, tmp_path):
    def command(*arguments):
        whole = [sys.executable, "-m", "tests.chaos", *arguments]
        return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)

    done = command("--seconds", "3", "--seed", "4", "--faults", "none", "--out", str(tmp_path / "kept"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "KEPT: ottla, workload log, faults none, seed 4" in done.stdout
    assert not (tmp_path / "kept" / "data").exists()
    done = command("--seconds", "5", "--faults", "none", "--bug", "answer-with-a-wrong-offset", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "duplicate" in done.stdout
    assert "again        python -m tests.chaos" in done.stdout
    assert "--seed" in done.stdout
    again = command("--check", str(tmp_path / "history.jsonl"))
    assert again.returncode == 1
    assert again.stdout.splitlines()[0] in done.stdout
    assert command("--faults", "locusts").returncode == 2
    assert "locusts is none of" in command("--workload", "locusts").stderr

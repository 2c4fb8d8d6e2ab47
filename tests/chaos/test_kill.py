"""kill -9 under load: nothing acknowledged is lost, changed, duplicated or reordered.

More rounds: `pytest tests/chaos --chaos-rounds 100`.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from harness.clusters import make_node
from harness.history import History, verdict
from harness.load import ProducingWorker, ReadingWorker, read_to_end
from harness.processes import wait_until

PARTITIONS = 3
TOPIC = "chaos"
ACKNOWLEDGED_PER_ROUND_MIN = 20
PLANTED_TRIES = 3


def run_rounds(node, rounds, seed, *, pause=(0.05, 0.5), history=None):
    """Load, `rounds` kills with restarts, one last read; the history of it all."""
    history = history or History()
    dice = random.Random(seed)
    node.start()
    with node.connect() as connection:
        connection.create_topic(TOPIC, PARTITIONS, {"segment.bytes": "1048576"})
    places = [(TOPIC, partition) for partition in range(PARTITIONS)]
    workers = [
        ProducingWorker(f"p{number}", node.connect, places[number % PARTITIONS], history, seed + number)
        for number in range(2 * PARTITIONS)
    ]
    workers += [ReadingWorker(f"r{place[1]}", node.connect, place, history) for place in places]
    for worker in workers:
        worker.start()
    for _ in range(rounds):
        enough = history.acknowledged_count + ACKNOWLEDGED_PER_ROUND_MIN
        wait_until(
            lambda enough=enough: (
                history.acknowledged_count >= enough or bool(history.found) or any(worker.failure for worker in workers)
            ),
            seconds=60,
            what="acknowledgements after a restart",
        )
        time.sleep(dice.uniform(*pause))
        node.kill()
        node.start()
        if history.found or any(worker.failure for worker in workers):
            break
    for worker in workers:
        worker.finish()
    with node.connect() as connection:
        for place in places:
            read_to_end(connection, place, history)
    return history


def test_acknowledged_records_survive_kill_9(cluster_kind, request, tmp_path):
    rounds = int(request.config.getoption("--chaos-rounds"))
    seed = int(os.environ.get("OTTLA_CHAOS_SEED", time.time_ns() % 1_000_000))
    print(f"seed {seed} (repeat with OTTLA_CHAOS_SEED={seed})")
    node = make_node(cluster_kind, tmp_path / "data")
    try:
        history = run_rounds(node, rounds, seed)
    finally:
        node.kill()
    assert history.acknowledged_count >= rounds * ACKNOWLEDGED_PER_ROUND_MIN
    assert [str(violation) for violation in verdict(history)] == []
    print(f"{rounds} kills, {history.acknowledged_count} acknowledged records")


def test_a_clean_stop_under_load_loses_nothing(cluster_kind, tmp_path):
    node = make_node(cluster_kind, tmp_path / "data")
    node.kill, hard = node.stop, node.kill
    try:
        history = run_rounds(node, 2, 7)
    finally:
        hard()
    assert [str(violation) for violation in verdict(history)] == []


@pytest.mark.parametrize(
    "bug",
    [
        "acknowledge-without-appending",
        "forget-duplicates",
        "window-of-one",
        "answer-with-a-wrong-offset",
        "drop-the-last-batch-at-start",
    ],
)
def test_planted_bugs_are_caught(planted, bug, tmp_path):
    """A few rounds are enough to see each of them."""
    for seed in range(PLANTED_TRIES):
        node = make_node("ottla", tmp_path / f"data{seed}", launcher=planted(bug))
        try:
            history = run_rounds(node, 4, seed, pause=(0.2, 0.5))
        finally:
            node.kill()
        if verdict(history):
            return
    pytest.fail(f"{bug} was not noticed")

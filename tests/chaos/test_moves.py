"""kill -9 while replicas move between two log directories under load: nothing acknowledged is lost or reordered.

More rounds: `pytest tests/chaos/test_moves.py --chaos-rounds 50`.
"""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from harness.clusters import OttlaNode, make_node
from harness.processes import wait_until
from harness.raw import ProtocolFailure, RawConnection, build_batch, retry
from harness.twins import Twin
from ottla.wire.messages.alter_replica_log_dirs_request import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)

PARTITIONS = 3
TOPIC = "moving"
LOST = (OSError, ProtocolFailure, TimeoutError)


class Producer(threading.Thread):
    """Numbers, one at a time, to one partition; one that was not answered is sent again until it is."""

    def __init__(self, node: OttlaNode, partition: int) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.partition = partition
        self.acknowledged = 0
        self.enough = threading.Event()

    def run(self) -> None:
        connection: RawConnection | None = None
        while not self.enough.is_set():
            try:
                connection = connection or self.node.connect(timeout=5.0)
                value = b"%08d" % self.acknowledged + b"v" * 2000
                connection.produce(TOPIC, self.partition, build_batch([value]), acks=-1)
                self.acknowledged += 1
            except LOST:
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.02)
        if connection is not None:
            connection.close()


class Mover(threading.Thread):
    """Sends replicas from one directory to the other and back."""

    def __init__(self, node: OttlaNode, places: list[Path], seed: int) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.places = places
        self.dice = random.Random(seed)
        self.asked = 0
        self.enough = threading.Event()

    def run(self) -> None:
        twin = Twin(self.node, set())
        while not self.enough.is_set():
            row = AlterReplicaLogDirTopic(name=TOPIC, partitions=[self.dice.randrange(PARTITIONS)])
            path = str(self.dice.choice(self.places))
            try:
                twin.call(AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=path, topics=[row])]), 2)
                self.asked += 1
            except LOST:
                twin.close()
            time.sleep(self.dice.choice((0.0, 0.01, 0.1)))
        twin.close()


def test_acknowledged_records_survive_moves_and_kills(
    cluster_kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if cluster_kind == "apache":
        pytest.skip("Apache Kafka acknowledges before it flushes and takes ten seconds to come back")
    rounds = int(request.config.getoption("--chaos-rounds"))
    seed = int(os.environ.get("OTTLA_CHAOS_SEED", time.time_ns() % 1_000_000))
    print(f"seed {seed} (repeat with OTTLA_CHAOS_SEED={seed})")
    places = [tmp_path / "one", tmp_path / "two"]
    node = make_node("ottla", tmp_path / "node", config={"log.dirs": ",".join(map(str, places))})
    assert isinstance(node, OttlaNode)
    try:
        run(node, places, rounds, seed)
    finally:
        node.kill()


def run(node: OttlaNode, places: list[Path], rounds: int, seed: int) -> None:
    dice = random.Random(seed)
    node.start()
    with node.connect() as connection:
        connection.create_topic(TOPIC, PARTITIONS, {"segment.bytes": "1048576"})
    producers = [Producer(node, index) for index in range(PARTITIONS)]
    mover = Mover(node, places, seed)
    for worker in (*producers, mover):
        worker.start()
    for _ in range(rounds):
        goals = [producer.acknowledged + 5 for producer in producers]
        asked = mover.asked + 5
        wait_until(
            lambda goals=goals, asked=asked: (
                all(producer.acknowledged >= goal for producer, goal in zip(producers, goals, strict=True))
                and mover.asked >= asked
            ),
            seconds=60,
            what="acknowledgements and moves after a restart",
        )
        time.sleep(dice.uniform(0.0, 0.4))
        node.kill()
        node.start()
    for worker in (mover, *producers):
        worker.enough.set()
        worker.join(30)
    assert all(not worker.is_alive() for worker in (mover, *producers))
    node.kill()
    node.start()
    with node.connect(timeout=30.0) as connection:
        for producer in producers:
            check(connection, producer)
    strays = [entry.name for place in places for entry in place.iterdir() if entry.name.endswith("-stray")]
    print(
        f"{rounds} kills, {mover.asked} moves, {sum(p.acknowledged for p in producers)} records, {len(strays)} strays"
    )


def check(connection: RawConnection, producer: Producer) -> None:
    """Every number is there, in order; again only where the answer had been lost."""
    end = retry(lambda: connection.end_offset(TOPIC, producer.partition))
    found: list[int] = []
    while len(found) < end:
        _, records = connection.fetch(TOPIC, producer.partition, len(found))
        found.extend(int(record.value[:8]) for record in records if record.offset >= len(found))
    once = [number for place, number in enumerate(found) if not place or found[place - 1] != number]
    assert once[: producer.acknowledged] == list(range(producer.acknowledged))
    assert len(once) <= producer.acknowledged + 1

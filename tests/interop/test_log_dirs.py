"""Several log directories: where partitions go, moving one between them, and what Apache Kafka's tools see of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.clusters import ApacheNode, OttlaNode, java, make_node
from harness.processes import wait_until
from harness.raw import build_batch, retry
from harness.twins import Twin
from ottla.wire.messages.alter_replica_log_dirs_request import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)

TOPIC = "spread"
PARTITIONS = 4
Node = ApacheNode | OttlaNode


@pytest.fixture(scope="module")
def node(apache_kafka: Path, cluster_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with two directories and a topic whose partitions hold 20 records each."""
    place = tmp_path_factory.mktemp("dirs")
    found = make_node(cluster_kind, place / "node", config={"log.dirs": f"{place / 'one'},{place / 'two'}"})
    found.start()
    try:
        with found.connect() as connection:
            connection.create_topic(TOPIC, PARTITIONS)
            for index in range(PARTITIONS):
                retry(lambda index=index: connection.end_offset(TOPIC, index))
                for number in range(20):
                    connection.produce(TOPIC, index, build_batch([b"%d" % number]))
        yield found
    finally:
        found.kill()


def places(node: Node) -> dict[int, list[tuple[str, bool]]]:
    """As Java's LogDirsCommand tells: the directories of each partition, and whether it is on its way there."""
    done = java("org.apache.kafka.tools.LogDirsCommand", "--bootstrap-server", node.bootstrap, "--describe")
    assert done.returncode == 0, done.stderr
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    found: dict[int, list[tuple[str, bool]]] = {}
    for directory in told["brokers"][0]["logDirs"]:
        assert directory["error"] is None
        for row in directory["partitions"]:
            topic, _, index = row["partition"].rpartition("-")
            if topic == TOPIC:
                found.setdefault(int(index), []).append((directory["logDir"], row["isFuture"]))
    return found


def alter(node: Node, path: str, *partitions: int, version: int = 2) -> list[Any]:
    twin = Twin(node, set())
    row = AlterReplicaLogDirTopic(name=TOPIC, partitions=list(partitions))
    request = AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=path, topics=[row])])
    try:
        results = twin.call(request, version).results
    finally:
        twin.close()
    return [part.error_code for result in results for part in result.partitions]


def test_partitions_are_spread_and_move(node: Node, tmp_path: Path) -> None:
    before = places(node)
    directories = sorted({rows[0][0] for rows in before.values()})
    assert [len([1 for rows in before.values() if rows == [(one, False)]]) for one in directories] == [2, 2]
    moved = min(index for index, rows in before.items() if rows[0][0] == directories[0])
    assert alter(node, directories[1], moved) == [0]
    wait_until(lambda: places(node)[moved] == [(directories[1], False)], seconds=30, what="the move", pause=0.5)
    with node.connect() as connection:
        connection.produce(TOPIC, moved, build_batch([b"20"]))
        _, records = connection.fetch(TOPIC, moved, 0)
    assert [record.value for record in records] == [b"%d" % number for number in range(21)]
    log = Path(directories[1], f"{TOPIC}-{moved}", "00000000000000000000.log")
    done = java("org.apache.kafka.tools.DumpLogSegments", "--files", str(log), "--deep-iteration")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| offset: ") == 21
    assert "isvalid: true" in done.stdout
    assert "isvalid: false" not in done.stdout


@pytest.mark.parametrize("version", [1, 2])
def test_what_cannot_be_moved_is_told_alike(node: Node, version: int) -> None:
    assert alter(node, "/no/such/directory", 0, version=version) == [57]
    assert alter(node, places(node)[0][0][0], 99, version=version) == [3]

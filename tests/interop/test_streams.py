"""Kafka Streams' own smoke test with exactly_once_v2, while the node under it is stopped and killed.

Its driver produces for about 90 seconds what a running application aggregates, joins and windows, and then checks every
result: a record that is lost, counted twice or read before its commit makes a sum differ.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

import oracle
from harness.clusters import LOG_FLAG, class_path, make_node
from harness.processes import end

pytestmark = pytest.mark.usefixtures("apache_kafka")

TOPICS = (
    *("echo", "data", "min", "min-suppressed", "min-raw", "max", "sum", "dif", "cnt", "avg", "tagg"),
    *("sws-raw", "sws-suppressed", "fk", "flush"),
)
PARTITIONS = 5
RESTARTS = 4
SECONDS_BETWEEN_RESTARTS = 18.0
DRIVER_SECONDS = 300.0
LOOKED_TWICE = "is larger than topic endOffset"
"""The driver's last question is whether all transactions are over. It asks for the ends of the partitions twice, and
gives up where the second lies behind the first: a marker that the application, which goes on, has written in between is
enough, on any broker. One such verdict is none."""
FLAGS = ("-Xmx512m", "-XX:+UseSerialGC", LOG_FLAG)
SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "10",
    "transaction.state.log.num.partitions": "10",
}


def smoke_test(properties: Path, role: str, printed: Path) -> subprocess.Popen[bytes]:
    program = "org.apache.kafka.streams.tests.StreamsSmokeTest"
    command = [oracle.require_java(), *FLAGS, "-cp", class_path(), program, str(properties), role]
    with printed.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def test_smoke_test_exactly_once_under_restarts(cluster_kind, tmp_path):
    verdict = smoke_tested(cluster_kind, tmp_path / "first")
    if LOOKED_TWICE in verdict:
        verdict = smoke_tested(cluster_kind, tmp_path / "second")
    assert "SUCCESS" in verdict.split(), verdict[-3000:]


def smoke_tested(cluster_kind: str, directory: Path) -> str:
    """What the driver has printed in the end."""
    directory.mkdir()
    node = make_node(cluster_kind, directory / "data", config=SETTINGS)
    node.start()
    programs = []
    try:
        with node.connect() as connection:
            for topic in TOPICS:
                connection.create_topic(topic, PARTITIONS)
        properties = directory / "streams.properties"
        properties.write_text(
            f"bootstrap.servers={node.bootstrap}\nstate.dir={directory}/state\nprocessing.guarantee=exactly_once_v2\n"
        )
        programs.append(smoke_test(properties, "process", directory / "process.log"))
        driver = smoke_test(properties, "run", directory / "driver.log")
        programs.append(driver)
        for number in range(RESTARTS):
            time.sleep(SECONDS_BETWEEN_RESTARTS)
            assert driver.poll() is None, "the driver ended before the last restart"
            node.kill() if number % 2 else node.stop()
            node.start()
        driver.wait(DRIVER_SECONDS)
        return (directory / "driver.log").read_text(errors="replace")
    finally:
        for program in programs:
            end(program, patience=30.0)
        node.kill()

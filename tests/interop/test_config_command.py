"""Apache Kafka's ConfigCommand says the same of an Ottla node as of its own: every kind of entity, there and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.clusters import ApacheNode, OttlaNode, java

COMMAND = "kafka.admin.ConfigCommand"
TOPIC = ("--entity-type", "topics", "--entity-name", "orders")
BROKER = ("--entity-type", "brokers", "--entity-name", "1")
BROKERS = ("--entity-type", "brokers", "--entity-default")
GROUP = ("--entity-type", "groups", "--entity-name", "readers")
METRICS = ("--entity-type", "client-metrics", "--entity-name", "slow")

STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a topic's", (*TOPIC, "--alter", "--add-config", "retention.ms=3600000,cleanup.policy=[compact,delete]")),
    ("a topic described", (*TOPIC, "--describe")),
    ("a topic's, all", (*TOPIC, "--describe", "--all")),
    ("a topic's, one away", (*TOPIC, "--alter", "--delete-config", "retention.ms")),
    ("a topic's wrong value", (*TOPIC, "--alter", "--add-config", "retention.ms=soon")),
    ("a topic's unknown key", (*TOPIC, "--alter", "--add-config", "no.such.key=1")),
    ("a broker's, from a file", (*BROKER, "--alter", "--add-config-file", "FILE")),
    ("a broker described", (*BROKER, "--describe")),
    ("the brokers'", (*BROKERS, "--alter", "--add-config", "log.retention.ms=7200000,background.threads=12")),
    ("the brokers described", (*BROKERS, "--describe")),
    ("a broker described, both set", (*BROKER, "--describe")),
    ("a broker's read-only key", (*BROKER, "--alter", "--add-config", "num.partitions=4")),
    ("a secret", (*BROKER, "--alter", "--add-config", "listener.name.plaintext.ssl.keystore.password=secret")),
    ("a secret described", (*BROKER, "--describe")),
    ("a secret away", (*BROKER, "--alter", "--delete-config", "listener.name.plaintext.ssl.keystore.password")),
    ("a broker's away", (*BROKER, "--alter", "--delete-config", "log.retention.ms,message.max.bytes")),
    ("the brokers' away", (*BROKERS, "--alter", "--delete-config", "log.retention.ms,background.threads")),
    ("a group's", (*GROUP, "--alter", "--add-config", "consumer.session.timeout.ms=50000")),
    ("a group described", (*GROUP, "--describe")),
    ("a group described, all", (*GROUP, "--describe", "--all")),
    ("a group's beyond the broker's bounds", (*GROUP, "--alter", "--add-config", "consumer.session.timeout.ms=1")),
    ("a group's away", (*GROUP, "--alter", "--delete-config", "consumer.session.timeout.ms")),
    ("metrics", (*METRICS, "--alter", "--add-config", "interval.ms=1000,match=[client_id=a.*]")),
    ("metrics described", (*METRICS, "--describe")),
    ("metrics listed", ("--entity-type", "client-metrics", "--describe")),
    ("metrics away", (*METRICS, "--alter", "--delete-config", "interval.ms,match")),
    ("groups listed", ("--entity-type", "groups", "--describe")),
    ("topics listed", ("--entity-type", "topics", "--describe")),
)
# What the two nodes were started with, and where.
OWN = re.compile(r"^\s*(listeners|advertised|controller\.|log\.dirs?=|node\.id|process\.roles|ottla\.|socket\.)")


@pytest.fixture(scope="module")
def nodes(apache_kafka: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ApacheNode | OttlaNode]]:
    place = tmp_path_factory.mktemp("configs")
    both: list[ApacheNode | OttlaNode] = [
        ApacheNode(place / "apache"),
        OttlaNode(place / "ottla", config={"node.id": "1"}),
    ]
    try:
        for node in both:
            node.start()
            with node.connect() as connection:
                connection.create_topic("orders", 1)
        yield both
    finally:
        for node in both:
            node.kill()


def said(node: ApacheNode | OttlaNode, arguments: tuple[str, ...]) -> list[str]:
    """The exit status and every line of output that tells of configurations."""
    done = java(COMMAND, "--bootstrap-server", node.bootstrap, *arguments, seconds=60)
    printed = (done.stdout + done.stderr).replace(node.bootstrap, "NODE")
    lines = [line.strip() for line in printed.splitlines()]
    # The order of keys in a description, and the Java stack of a failure, say nothing.
    wanted = sorted(line for line in lines if line and not line.startswith("at ") and not OWN.match(line))
    return [f"exit {done.returncode}", *wanted]


def test_config_command_round_trips(nodes: list[ApacheNode | OttlaNode], tmp_path: Path) -> None:
    settings = tmp_path / "broker.properties"
    settings.write_text("log.retention.ms=1800000\nmessage.max.bytes=2000000\n")
    with ThreadPoolExecutor(2) as pool:
        for label, arguments in STEPS:
            filled = tuple(str(settings) if part == "FILE" else part for part in arguments)
            apache, ottla = pool.map(lambda node, filled=filled: said(node, filled), nodes)
            assert ottla == apache, label


def test_loggers_are_described_changed_and_reset(nodes: list[ApacheNode | OttlaNode]) -> None:
    """Names of loggers are each program's own; what can be done with them is not."""
    ottla = nodes[1]
    entity = ("--entity-type", "broker-loggers", "--entity-name", "1")
    assert any(line.startswith("root=WARN") for line in said(ottla, (*entity, "--describe")))
    assert said(ottla, (*entity, "--alter", "--add-config", "ottla=DEBUG"))[0] == "exit 0"
    assert any(line.startswith("ottla=DEBUG") for line in said(ottla, (*entity, "--describe")))
    assert said(ottla, (*entity, "--alter", "--delete-config", "ottla"))[0] == "exit 0"
    assert said(ottla, (*entity, "--alter", "--add-config", "nobody=DEBUG"))[0] == "exit 1"

"""Apache Kafka and Ottla answer the same requests alike: every version, good input and bad."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.clusters import SERVER_FLAGS, ApacheNode, OttlaNode
from harness.twins import Case, Twin, differences, run

AREAS = ("produce", "fetch", "offsets", "cluster", "groups", "consumer_groups", "transactions", "admin", "configs")
CONFIG = {
    "offsets.topic.num.partitions": "3",
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.assignment.interval.ms": "0",
}


class Deliberate(NamedTuple):
    """A difference that is meant: all three are regular expressions that must match in full."""

    case: str
    label: str
    path: str
    reason: str


DELIBERATE = (
    Deliberate(r"produce\..*", ".*", r".*\.error_message", "Apache Kafka often says nothing; Ottla says what is wrong"),
    Deliberate(r"transactions\..*", ".*", r".*\.error_message", "Ottla says what is wrong there too"),
    Deliberate(r"transactions.adding_many", "v. none", "", "Apache Kafka never answers a request about no transaction"),
    Deliberate(
        r"transactions.versions", r"level 0 v5 .*|log", ".*", "Apache Kafka fails half-way and leaves the id stuck"
    ),
    Deliberate(r"fetch.places", ".* isolation 5", ".*", "Apache Kafka fails inside; Ottla reads uncommitted"),
    Deliberate(r"fetch.replicas", ".*", r"\.node_endpoints", "Ottla tells followers too where the leader listens"),
    Deliberate(r"fetch.sizes", ".* -1", ".*", "Apache Kafka fails inside; Ottla reads at least one batch"),
    Deliberate(r"cluster.metadata", ".* neither", ".*", "Apache Kafka fails inside; Ottla refuses the name"),
    Deliberate(r"admin.configs", ".* operation 9", ".*", "Apache Kafka fails inside; Ottla says INVALID_REQUEST"),
    Deliberate(r"cluster.partitions", r"names \(''.*", ".*", "Apache Kafka fails inside; Ottla refuses the name"),
    Deliberate(r"cluster.auto_creation", ".* first|colli.*", ".*", "Ottla waits for the topic it creates"),
    Deliberate(r"cluster.coordinators", "v. (2|3|-1) .*", r".*\.error_message", "only the wording differs"),
    Deliberate(r"configs.broker_keys.*", r"config\.providers .*", ".*", "Ottla has no providers and says so"),
    Deliberate(r"configs.broker_keys_changed", r"\S+ at 1 without .*", ".*", "Apache Kafka shows the old value"),
    Deliberate(
        r"configs.broker_keys_changed",
        r"(log.roll.jitter.ms|ssl.secure.random.implementation) at 1 after .*",
        ".*",
        "Apache Kafka does not take it over into the value it shows",
    ),
    Deliberate(
        r"configs.broker_keys_tried",
        r"(controller.listener.names|process.roles) of .*: more",
        ".*",
        "Apache Kafka fails inside; Ottla says that they are read-only",
    ),
    Deliberate(r"configs.*", r"(max.connections.per.ip|bad) ?.overrides .*", r"\[0\]", "only the wording differs"),
    Deliberate(r"configs.broker_keys_tried", r"log.cleaner.threads .*: zero", ".*", "Apache Kafka divides by zero"),
    Deliberate(r"configs.broker_rules", r"provider of .*", ".*", "Ottla knows only the default"),
    Deliberate(r"configs.topic_keys_tried", r"remote|two wrong|broker key", r"\[0\]", "only the wording differs"),
    Deliberate(r"configs.groups", r"broker key", r"\[0\]", "only the wording differs"),
    Deliberate(r"produce.damage", ".* null", "", "Apache Kafka fails inside and leaves the client waiting"),
)


def table() -> list[object]:
    """All cases of all areas."""
    return [
        pytest.param(case, id=f"{area}.{case.__name__}")
        for area in AREAS
        for case in import_module(f"harness.differential.{area}").CASES
    ]


@pytest.fixture(scope="module")
def twins(apache_kafka: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Twin, Twin]]:
    """A fresh Apache node and a fresh Ottla node."""
    place = tmp_path_factory.mktemp("twins")
    flags = tuple(flag.replace("512m", "400m") for flag in SERVER_FLAGS)
    nodes = (
        ApacheNode(place / "apache", flags=flags, config=CONFIG),
        OttlaNode(place / "ottla", config={"node.id": "1", **CONFIG}),
    )
    try:
        for node in nodes:
            node.start()
            with node.connect() as link:
                served = set(link.api_versions())
                # Apache Kafka fetches its first block of producer ids when it is first asked for one, and answers
                # COORDINATOR_LOAD_IN_PROGRESS until then.
                link.init_producer()
        yield Twin(nodes[0], served), Twin(nodes[1], served)
    finally:
        for node in nodes:
            node.kill()


@pytest.mark.parametrize("case", table())
def test_answers_as_apache_kafka_does(twins: tuple[Twin, Twin], case: Case, request: pytest.FixtureRequest) -> None:
    apache, ottla = (run(case, twin) for twin in twins)
    name = request.node.callspec.id
    found = [
        f"{label}{path}: Apache {one!r}, Ottla {other!r}"
        for label in apache
        for path, one, other in differences(apache[label], ottla.get(label, "no answer"))
        if not deliberate(name, label, path)
    ]
    assert not found, f"{len(found)} differences\n" + "\n".join(found)


def deliberate(case: str, label: str, path: str) -> bool:
    """Whether the table knows this difference."""
    wanted = (case, label, path)
    return any(all(map(re.fullmatch, known[:3], wanted)) for known in DELIBERATE)

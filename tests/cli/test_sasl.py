"""A cluster that asks who is there: settings of a client reach the connection, from each place they can come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import Ottla
from harness.clusters import make_node
from harness.processes import free_port

MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"


@pytest.fixture
def asking(cluster_kind: str, tmp_path: Path) -> Iterator[Ottla]:
    """The command, and Apache Kafka with a listener that wants SASL/PLAIN."""
    if cluster_kind != "apache":
        pytest.skip("the cluster has plain listeners only: this needs --cluster apache")
    plain, sasl, controller = (free_port() for _ in range(3))
    addresses = f"PLAINTEXT://127.0.0.1:{plain},ASKING://127.0.0.1:{sasl}"
    config = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"{addresses},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": addresses,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,ASKING:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listener.name.asking.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.asking.plain.sasl.jaas.config": f'{MODULE} required user_alice="secret";',
    }
    node = make_node("apache", tmp_path / "data", port=plain, config=config)
    node.start()
    try:
        yield Ottla(f"127.0.0.1:{sasl}", tmp_path)
    finally:
        node.stop()


def test_settings_reach_the_connection(asking: Ottla, tmp_path: Path) -> None:
    protocol = ("-X", "security.protocol=SASL_PLAINTEXT", "-X", "sasl.mechanism=PLAIN")
    alice = (*protocol, "-X", "sasl.username=alice", "-X", "sasl.password=secret")
    asking("topic", "create", "t", *alice)
    asking("produce", "t", *alice, stdin=b"x\n")
    wrong = asking("topic", "list", *protocol, "-X", "sasl.username=alice", "-X", "sasl.password=no", code=1)
    assert b"SASL_AUTHENTICATION_FAILED" in wrong.stderr
    assert b"fix: check sasl.username" in wrong.stderr
    assert b"sasl.username and sasl.password are missing" in asking("topic", "list", *protocol, code=2).stderr
    properties = tmp_path / "java.properties"
    properties.write_text(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n"
        f'sasl.jaas.config={MODULE} required \\\n  username="alice" password="secret";\n'
    )
    assert asking("consume", "t", "-e", "--command-config", str(properties)).stdout == b"x\n"
    asking("profile", "create", "safe", "-b", asking.bootstrap, *alice)
    assert asking("consume", "t", "-e", "-g", "g", "--profile", "safe").stdout == b"x\n"

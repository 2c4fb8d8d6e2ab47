"""TLS and SASL against a broker that asks for them, with certificates made for the occasion."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.clusters import make_node
from harness.processes import free_port
from ottla.client import (
    Admin,
    AuthenticationError,
    ClusterUnreachable,
    ConfigError,
    KafkaError,
    OAuthBearer,
    Plain,
    Producer,
    ScramSha256,
    ScramSha512,
    Tls,
)

Run = Callable[[Awaitable[Any]], Any]
MODULE = "org.apache.kafka.common.security"


class Secured:
    """A broker with a listener of each kind."""

    def __init__(self, node: Any, ports: dict[str, int], certificates: Path) -> None:
        self.node = node
        self.ports = ports
        self.certificates = certificates

    def address(self, listener: str) -> str:
        return f"127.0.0.1:{self.ports[listener]}"

    def file(self, name: str) -> str:
        return str(self.certificates / name)


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_certificates(place: Path) -> None:
    """An authority, and what it signed for a broker at 127.0.0.1 and for a client."""
    place.mkdir()
    authority = (str(place / "ca.key"), str(place / "ca.pem"))
    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", authority[0], "-out", authority[1], "-days", "2"),
        *("-subj", "/CN=Ottla tests", "-addext", "basicConstraints=critical,CA:TRUE"),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    for name in ("broker", "client"):
        key, request, signed = (str(place / f"{name}.{kind}") for kind in ("key", "csr", "pem"))
        extensions = place / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        openssl(
            *("x509", "-req", "-in", request, "-CA", authority[1], "-CAkey", authority[0], "-CAcreateserial"),
            *("-out", signed, "-days", "2", "-extfile", str(extensions)),
        )
        # A PEM keystore of Java's holds the key in PKCS#8 and the chain in one file.
        (place / f"{name}.store.pem").write_text(Path(key).read_text() + Path(signed).read_text())


@pytest.fixture(scope="module")
def secured(cluster_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One node for all tests of the module."""
    if cluster_kind != "apache":
        pytest.skip("the cluster has plain listeners only: this compares with --cluster apache")
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates, and is not here")
    place = tmp_path_factory.mktemp("secured")
    make_certificates(place / "certificates")
    ports = {name: free_port() for name in ("PLAIN", "SSL", "MUTUAL", "SASL", "SASLSSL", "SHORT")}
    node = make_node("apache", place / "data", port=ports["PLAIN"], config=server_config(ports, place / "certificates"))
    node.start()
    try:
        yield Secured(node, ports, place / "certificates")
    finally:
        node.stop()


def server_config(ports: dict[str, int], certificates: Path) -> dict[str, str]:
    controller = free_port()
    kinds = {
        "PLAIN": "PLAINTEXT",
        "SSL": "SSL",
        "MUTUAL": "SSL",
        "SASL": "SASL_PLAINTEXT",
        "SASLSSL": "SASL_SSL",
        "SHORT": "SASL_PLAINTEXT",
    }
    addresses = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
    config = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"{addresses},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": addresses,
        "inter.broker.listener.name": "PLAIN",
        "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in kinds.items())
        + ",CONTROLLER:PLAINTEXT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates / "broker.store.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates / "ca.pem"),
        "listener.name.mutual.ssl.client.auth": "required",
    }
    for listener in ("sasl", "saslssl", "short"):
        start = f"listener.name.{listener}"
        config |= {
            f"{start}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            f"{start}.plain.sasl.jaas.config": f'{MODULE}.plain.PlainLoginModule required user_alice="se\\\\"cret";',
            f"{start}.scram-sha-256.sasl.jaas.config": f"{MODULE}.scram.ScramLoginModule required;",
            f"{start}.scram-sha-512.sasl.jaas.config": f"{MODULE}.scram.ScramLoginModule required;",
            f"{start}.oauthbearer.sasl.jaas.config": f"{MODULE}.oauthbearer.OAuthBearerLoginModule required "
            'unsecuredLoginStringClaim_sub="broker";',
        }
    config["listener.name.short.connections.max.reauth.ms"] = "2000"
    return config


async def round_trip(address: str, **options: Any) -> None:
    async with Admin(address, **options) as admin:
        brokers = (await admin.describe_cluster()).brokers
        assert [f"{one.host}:{one.port}" for one in brokers] == [address]
    async with Producer(address, **options) as producer:
        assert (await producer.send("secured", b"x" * 100_000)).offset >= 0


async def users(secured: Secured) -> None:
    """The users exist once the broker has heard of them."""
    async with Admin(secured.address("PLAIN")) as admin:
        await admin.alter_users({("alice", "SCRAM-SHA-256"): "secret"})
        await admin.alter_users({("a,b=c", "SCRAM-SHA-512"): "pässword"})
        for _ in range(100):
            if len(await admin.describe_users()) == 2:
                return
            await asyncio.sleep(0.1)


def token(**claims: Any) -> str:
    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    # Whole seconds, as issuers write them: a token of this very millisecond is one of the future to the broker's clock.
    now = int(time.time())
    return f"{part({'alg': 'none'})}.{part({'sub': 'alice', 'iat': now, 'exp': now + 600, **claims})}."


def test_tls(secured: Secured, run: Run) -> None:
    address = secured.address("SSL")
    run(round_trip(address, tls=Tls(ca_file=secured.file("ca.pem"))))
    run(round_trip(address, tls=Tls(verify=False)))

    async def refused() -> None:
        with pytest.raises(ClusterUnreachable, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
            await round_trip(address, tls=True)

    run(refused())


def test_tls_with_a_certificate_of_the_client(secured: Secured, run: Run) -> None:
    address = secured.address("MUTUAL")
    ca, cert, key = (secured.file(name) for name in ("ca.pem", "client.pem", "client.key"))
    run(round_trip(address, tls=Tls(ca_file=ca, cert_file=cert, key_file=key)))
    pem = Path(secured.file("client.store.pem")).read_text()
    run(round_trip(address, tls=Tls(ca_file=ca, cert_chain_and_key=pem)))

    async def refused() -> None:
        with pytest.raises(ClusterUnreachable):
            await round_trip(address, tls=Tls(ca_file=ca))

    run(refused())


def test_plain(secured: Secured, run: Run) -> None:
    run(round_trip(secured.address("SASL"), sasl=Plain("alice", 'se"cret')))
    encrypted = {"tls": Tls(ca_file=secured.file("ca.pem"))}
    run(round_trip(secured.address("SASLSSL"), sasl=Plain("alice", 'se"cret'), **encrypted))

    async def refused() -> None:
        with pytest.raises(AuthenticationError, match="SASL_AUTHENTICATION_FAILED") as failure:
            await round_trip(secured.address("SASL"), sasl=Plain("alice", "wrong"))
        assert failure.value.fatal

    run(refused())


def test_scram(secured: Secured, run: Run) -> None:
    run(users(secured))
    run(round_trip(secured.address("SASL"), sasl=ScramSha256("alice", "secret")))
    run(round_trip(secured.address("SASL"), sasl=ScramSha512("a,b=c", "pässword")))

    async def refused() -> None:
        for wrong in (ScramSha256("alice", "wrong"), ScramSha512("alice", "secret")):
            with pytest.raises(AuthenticationError):
                await round_trip(secured.address("SASL"), sasl=wrong)

    run(refused())


def test_bearer_tokens(secured: Secured, run: Run) -> None:
    async def later() -> str:
        return token()

    run(round_trip(secured.address("SASL"), sasl=OAuthBearer(token)))
    run(round_trip(secured.address("SASL"), sasl=OAuthBearer(later)))

    async def refused() -> None:
        with pytest.raises(KafkaError):
            await round_trip(secured.address("SASL"), sasl=OAuthBearer(lambda: token(exp=time.time() - 60)))

    run(refused())


def test_an_authentication_is_renewed_before_it_runs_out(secured: Secured, run: Run) -> None:
    async def main() -> None:
        address = secured.address("SHORT")
        async with Producer(address, sasl=Plain("alice", 'se"cret'), linger_ms=0) as producer:
            ends_at = time.monotonic() + 6.0
            while time.monotonic() < ends_at:
                await producer.send("secured", b"x")
                await asyncio.sleep(0.05)

    run(main())


def test_kafkas_own_names(secured: Secured, run: Run) -> None:
    java = {
        "bootstrap.servers": secured.address("SASLSSL"),
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": f'{MODULE}.plain.PlainLoginModule required username="alice" password="se\\"cret";',
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": secured.file("ca.pem"),
    }
    native = {
        "bootstrap.servers": secured.address("MUTUAL"),
        "security.protocol": "ssl",
        "ssl.ca.location": secured.file("ca.pem"),
        "ssl.certificate.location": secured.file("client.pem"),
        "ssl.key.location": secured.file("client.key"),
    }

    async def main() -> None:
        for config in (java, native):
            async with Producer.from_config({**config, "linger.ms": "1"}) as producer:
                assert (await producer.send("secured", b"x")).offset >= 0
            async with Admin.from_config(config) as admin:
                await admin.list_topics()
        with pytest.raises(ConfigError, match=r"did you mean linger\.ms"):
            Producer.from_config({**native, "linger.msec": 1})

    run(main())

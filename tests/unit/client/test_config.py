"""Kafka's names become our arguments; what nobody knows is refused with a suggestion."""

from typing import Any

import pytest

from ottla.client import Admin, ConfigError, OAuthBearer, Plain, Producer, ScramSha512, Tls
from ottla.client._config import admin_options, consumer_options, producer_options

B = {"bootstrap.servers": "a:1,b:2"}


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ({"linger.ms": "5"}, {"linger_ms": 5.0}),
        ({"queue.buffering.max.ms": 7}, {"linger_ms": 7.0}),
        ({"acks": "1"}, {"acks": 1, "idempotent": False}),
        ({"acks": -1}, {"acks": "all"}),
        ({"compression.type": "zstd", "compression.zstd.level": "7"}, {"compression": "zstd", "compression_level": 7}),
        ({"enable.idempotence": "false"}, {"idempotent": False}),
        ({"message.timeout.ms": 1000, "retries": 3}, {"delivery_timeout_ms": 1000.0}),
        ({"partitioner": "consistent_random"}, {"partitioner": "consistent_random"}),
        (
            {"partitioner.class": "org.apache.kafka.clients.producer.RoundRobinPartitioner"},
            {"partitioner": "round_robin"},
        ),
        ({"partitioner.ignore.keys": "true"}, {"partitioner": "sticky"}),
        ({"queue.buffering.max.kbytes": 64, "statistics.interval.ms": 0}, {"buffer_memory": 65536}),
        ({"value.serializer": str.encode}, {"value_serializer": str.encode}),
    ],
)
def test_a_producers_names(config: dict[str, Any], options: dict[str, Any]) -> None:
    assert producer_options({**B, **config}) == {"bootstrap_servers": ["a:1", "b:2"], **options}


def test_every_argument_exists() -> None:
    everything = {
        "acks": "all",
        "batch.size": 1,
        "buffer.memory": 1,
        "client.id": "x",
        "delivery.timeout.ms": 1,
        "linger.ms": 1,
        "max.block.ms": 1,
        "max.in.flight.requests.per.connection": 5,
        "max.request.size": 1,
        "metadata.max.age.ms": 1,
        "partitioner.adaptive.partitioning.enable": True,
        "request.timeout.ms": 1,
        "retry.backoff.max.ms": 1,
        "retry.backoff.ms": 1,
        "transaction.timeout.ms": 1,
        "transactional.id": "x",
        "allow.auto.create.topics": True,
    }
    Producer.from_config({**B, **everything})
    Admin.from_config({**B, "client.id": "x", "request.timeout.ms": 5})


def test_a_consumers_names() -> None:
    config = {"group.id": "g", "auto.offset.reset": "smallest", "enable.auto.commit": "false", "fetch.wait.max.ms": 5}
    assert consumer_options({**B, **config}) == {
        "bootstrap_servers": ["a:1", "b:2"],
        "group": "g",
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "fetch_max_wait_ms": 5,
    }


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"linger.mss": 1}, r"nobody knows linger\.mss; did you mean linger\.ms\?"),
        ({"group.id": "g"}, r"group\.id means nothing to a producer"),
        ({"acks": "2"}, "acks='2'"),
        ({"linger.ms": "soon"}, "linger.ms='soon'"),
        ({"enable.idempotence": "maybe"}, "neither true nor false"),
        ({"key.serializer": "org.apache.kafka.common.serialization.StringSerializer"}, "a callable is needed"),
        ({"security.protocol": "TLS"}, "there are PLAINTEXT"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}, "GSSAPI"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}, "sasl.username and sasl.password are missing"),
        ({"security.protocol": "SSL", "ssl.keystore.type": "JKS"}, "only PEM"),
    ],
)
def test_what_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        producer_options({**B, **config})


def test_bootstrap_servers_are_needed() -> None:
    with pytest.raises(ConfigError, match=r"bootstrap\.servers is missing"):
        admin_options({})


def test_security_in_either_spelling() -> None:
    native = producer_options(
        {
            **B,
            "security.protocol": "sasl_ssl",
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": "u",
            "sasl.password": "p",
            "ssl.ca.location": "/ca",
            "enable.ssl.certificate.verification": "false",
        }
    )
    assert native["sasl"] == ScramSha512("u", "p")
    assert native["tls"] == Tls(ca_file="/ca", verify=False)
    java = admin_options(
        {
            **B,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.jaas.config": 'x.PlainLoginModule required username="u" password="a\\"b";',
        }
    )
    assert java["sasl"] == Plain("u", 'a"b')
    assert "tls" not in java
    assert "a\\" not in repr(java["sasl"])
    bearer = admin_options(
        {
            **B,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "OAUTHBEARER",
            "oauth_cb": lambda _config: ("token", 123.0),
        }
    )["sasl"]
    assert isinstance(bearer, OAuthBearer)
    assert bearer.token() == "token"


def test_combinations_that_cannot_be() -> None:
    for wrong in (
        {"acks": 1, "idempotent": True},
        {"acks": 1, "transactional_id": "x"},
        {"transactional_id": ""},
        {"max_in_flight": 6, "idempotent": True},
        {"compression": "brotli"},
    ):
        with pytest.raises(ConfigError):
            Producer("a:1", **wrong)  # type: ignore[arg-type]  # the mistakes under test

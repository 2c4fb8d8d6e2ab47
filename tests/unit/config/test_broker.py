"""A node's configuration as a whole, and the log configuration of topics."""

import pytest

from ottla.config.broker import BrokerConfig, fit_brokers
from ottla.config.key import ConfigError
from ottla.config.log import LogConfig

APACHE = {
    "process.roles": "broker,controller",
    "node.id": "7",
    "controller.quorum.voters": "7@127.0.0.1:9093",
    "listeners": "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
    "advertised.listeners": "PLAINTEXT://kafka.example:19092",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "log.dirs": "/a, /b",
    "num.network.threads": "3",
    "listener.name.plaintext.max.connections": "5",
    "rsm.config.whatever": "x",
    "offsets.topic.replication.factor": "1",
}


def test_nothing_given() -> None:
    config = BrokerConfig.parse({})
    assert [str(one) for one in config.listeners] == ["PLAINTEXT://127.0.0.1:9092"]
    assert config.log_dirs == (".ottla",)
    assert config.metadata_log_dir == ".ottla"
    assert config.storage.flush == "auto"
    assert config.log_defaults == LogConfig()
    assert config.groups.rebalance_delay_ms(brokers=1) == 0
    assert config.groups.rebalance_delay_ms(brokers=3) == 3000


def test_a_server_properties_of_apache_kafka() -> None:
    config = BrokerConfig.parse(APACHE)
    assert config.node_id == 7
    assert [one.name for one in config.broker_listeners] == ["PLAINTEXT"]
    assert [one.port for one in config.controller_listeners] == [9093]
    assert config.advertised_listeners[0].host == "kafka.example"
    assert config.log_dirs == ("/a", "/b")
    assert config.properties == {**APACHE, "broker.id": "7"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num.partition": "1"}, "Did you mean num.partitions"),
        ({"listeners": "SSL://:9092"}, "not there yet"),
        ({"listeners": "X://:9092"}, "No security protocol defined for listener X"),
        ({"listeners": "PLAINTEXT://:9092,PLAINTEXT://:9093"}, "different name"),
        ({"listeners": "PLAINTEXT://:99999"}, "NAME://HOST:PORT"),
        ({"listeners": "CONTROLLER://:9092"}, "at least one listener"),
        ({"listener.security.protocol.map": "PLAINTEXT:TLS"}, "NAME:PROTOCOL"),
        ({"advertised.listeners": "PLAINTEXT://0.0.0.0:1"}, "meta-address"),
        ({"process.roles": "broker"}, "not supported yet"),
        ({"controller.quorum.voters": "1@a:1,2@b:1"}, "several nodes"),
        ({"node.id": "1", "broker.id": "2"}, "same value"),
        ({"log.retention.ms": "0"}, "unlimited"),
        ({"broker.heartbeat.interval.ms": "9000"}, "at most half"),
        ({"group.min.session.timeout.ms": "2000000"}, "must not exceed"),
        ({"max.connections.per.ip.overrides": "a"}, "HOST:COUNT"),
        ({"inter.broker.listener.name": "OTHER"}, "inter.broker.listener.name"),
        ({"ottla.flush": "sometimes"}, "auto, always, never"),
    ],
)
def test_what_is_refused(changes: dict[str, str], message: str) -> None:
    origins = dict.fromkeys(changes, "server.properties")
    with pytest.raises(ConfigError, match=message) as failure:
        BrokerConfig.parse(changes, origins)
    assert str(failure.value).startswith("server.properties: ")


def test_ipv6_and_any_port() -> None:
    config = BrokerConfig.parse({"listeners": "PLAINTEXT://[::1]:0"})
    assert (config.listeners[0].host, config.listeners[0].port) == ("::1", 0)
    assert str(config.listeners[0]) == "PLAINTEXT://[::1]:0"


def test_controller_names_need_no_protocol_while_the_map_is_not_set() -> None:
    config = BrokerConfig.parse({"listeners": "PLAINTEXT://:1,C://:2", "controller.listener.names": "C"})
    assert [one.protocol for one in config.listeners] == ["PLAINTEXT", "PLAINTEXT"]


@pytest.mark.parametrize(("configured", "brokers", "factor"), [(-1, 1, 1), (-1, 2, 2), (-1, 9, 3), (2, 1, 2)])
def test_factors_fit_the_brokers(configured: int, brokers: int, factor: int) -> None:
    assert fit_brokers(configured, 3, brokers) == factor


@pytest.mark.parametrize(
    ("broker", "retention_ms"),
    [
        ({}, 604_800_000),
        ({"log.retention.hours": "2"}, 7_200_000),
        ({"log.retention.hours": "2", "log.retention.minutes": "3"}, 180_000),
        ({"log.retention.hours": "2", "log.retention.ms": "5"}, 5),
        ({"log.retention.hours": "-1"}, -1),
    ],
)
def test_topic_defaults_come_from_the_strongest_broker_key(broker: dict[str, str], retention_ms: int) -> None:
    assert LogConfig.resolve({}, broker).retention_ms == retention_ms
    assert LogConfig.resolve({"retention.ms": "9"}, broker).retention_ms == 9


def test_log_config_of_a_topic() -> None:
    config = LogConfig.resolve(
        {"cleanup.policy": "compact,delete", "max.message.bytes": "100"}, {"message.max.bytes": "200"}
    )
    assert config.compact
    assert config.delete
    assert config.max_message_bytes == 100
    assert LogConfig.resolve({"cleanup.policy": ""}, {}).cleanup_policy == frozenset()
    assert LogConfig.resolve({"internal.segment.bytes": "10"}, {}).segment_bytes == 10
    assert LogConfig.resolve({}, {"log.flush.scheduler.interval.ms": "5"}).flush_ms == 5


@pytest.mark.parametrize(
    "overrides",
    [
        {"segment.bytes": "1"},
        {"nix": "1"},
        {"remote.storage.enable": "true"},
        {"min.compaction.lag.ms": "5", "max.compaction.lag.ms": "4"},
    ],
)
def test_log_config_refuses(overrides: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        LogConfig.resolve(overrides, {}).check()

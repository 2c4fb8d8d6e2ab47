"""Changing settings of a running broker: what is refused, in Kafka's words, and what is not."""

import pytest

from ottla.config.describe import ConfigLayers
from ottla.config.dynamic import check_broker_settings, in_force
from ottla.config.key import ConfigError

STATIC = {"num.io.threads": "8", "log.retention.hours": "24", "rsm.config.secret": "s"}


def layers(cluster: dict[str, str] | None = None, broker: dict[str, str] | None = None) -> ConfigLayers:
    return ConfigLayers(static=STATIC, cluster=cluster or {}, broker=broker or {})


@pytest.mark.parametrize(
    ("after", "per_broker"),
    [
        ({}, False),
        ({"log.retention.ms": "1000", "custom.key": "x"}, False),
        ({"listeners": "PLAINTEXT://127.0.0.1:0"}, True),
        ({"listener.name.a.ssl.keystore.location": "/k", "listener.name.a.num.partitions": "3"}, True),
        ({"num.io.threads": "16"}, True),
        ({"num.io.threads": "4"}, True),
        ({"super.users": "User:a", "allow.everyone.if.no.acl.found": "maybe"}, False),
        ({"listener.name.a.max.connections": "5"}, False),
        ({"log.retention.ms": "-7"}, False),
        ({"log.cleanup.policy": "compact,compact"}, False),
    ],
)
def test_allowed(after: dict[str, str], per_broker: bool) -> None:
    check_broker_settings(after, layers(), per_broker=per_broker)


@pytest.mark.parametrize(
    ("after", "per_broker", "message"),
    [
        (
            {"node.id": "1", "num.partitions": "x", "log.retention.ms": "1"},
            True,
            r"Cannot update these configs dynamically: \[node.id, num.partitions\]",
        ),
        ({"ssl.keystore.location": "/k"}, True, "using the listener prefix"),
        ({"listeners": "PLAINTEXT://127.0.0.1:0"}, False, r"broker id must be specified: \[listeners\]"),
        ({"listener.name.a.log.retention.ms": "5"}, False, "broker id must be specified"),
        ({"log.retention.ms": "x"}, True, "Not a number of type LONG"),
        ({"log.retention.ms": "0"}, True, "^requirement failed: log.retention.ms must be unlimited"),
        ({"log.roll.ms": "0"}, False, "^requirement failed: log.roll.ms must be greater than or equal to 1"),
        ({"log.cleaner.dedupe.buffer.size": "5"}, True, "^requirement failed: .* at least 1MB per cleaner thread"),
        ({"max.connections.per.ip": "0"}, True, "^requirement failed: max.connections.per.ip can be set to zero only"),
        ({"num.io.threads": "17"}, True, "num.io.threads=17, value should not be greater than double"),
        ({"num.io.threads": "3"}, True, "num.io.threads=3, value should be at least half the current value 8"),
        ({"log.cleaner.threads": "3"}, True, "cannot be increased to more than double the current value 1"),
        ({"log.cleaner.threads": "0"}, True, "should be at least 1"),
        ({"max.connections": "0"}, True, "Invalid max.connections 0"),
    ],
)
def test_refused(after: dict[str, str], per_broker: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_broker_settings(after, layers(), per_broker=per_broker)


def test_a_broker_is_judged_by_what_would_be_in_force() -> None:
    with pytest.raises(ConfigError, match="half the current value 16"):
        check_broker_settings(
            {}, layers(cluster={"num.io.threads": "4"}, broker={"num.io.threads": "16"}), per_broker=True
        )
    hidden = layers(broker={"num.io.threads": "8"})
    check_broker_settings({"num.io.threads": "1"}, hidden, per_broker=False)


def test_plugins_settings_are_not_the_brokers() -> None:
    assert in_force(layers(cluster={"custom.key": "x", "log.retention.ms": "5"})) == {
        "num.io.threads": "8",
        "log.retention.hours": "24",
        "log.retention.ms": "5",
    }

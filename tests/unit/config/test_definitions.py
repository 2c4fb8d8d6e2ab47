"""The table against the facts of Apache Kafka's own configuration definitions."""

from pathlib import Path

import pytest

from ottla.config.definitions import (
    TOPIC_SYNONYMS,
    base_of_listener_key,
    broker_key,
    broker_keys,
    broker_synonyms,
    group_key,
    group_keys,
    group_synonym,
    require_broker_key,
    require_topic_key,
    topic_key,
    topic_keys,
)
from ottla.config.key import ConfigError, ConfigKey, Effect, UpdateMode
from ottla.config.reference import markdown
from ottla.config.tables.ottla import DIFFERENCES

FACTS = [
    line.split("\t")
    for line in (Path(__file__).parent / "kafka_4_3_1_keys.tsv").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
FIND = {"broker": broker_key, "topic": topic_key, "group": group_key}
ONLY_DYNAMIC = {
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
}


def find(table: str, name: str) -> ConfigKey:
    key = FIND[table](name)
    assert key is not None, f"{table} key {name} is missing"
    return key


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact[0]}:{fact[1]}")
def test_key_is_as_in_kafka(fact: list[str]) -> None:
    table, name, kind, default, importance, mode, internal = fact
    key = find(table, name)
    assert key.type.name == kind
    assert key.kafka_default == (None if default == "null" else default)
    assert key.importance == importance
    assert key.internal == (internal == "internal")
    if table == "broker":
        assert key.update_mode.value == (mode if mode != "-" else "read-only")


def test_no_keys_but_kafkas_and_our_own() -> None:
    known = {(fact[0], fact[1]) for fact in FACTS}
    extra = {key.name for key in broker_keys() if ("broker", key.name) not in known}
    assert {name for name in extra if not name.startswith("ottla.")} == ONLY_DYNAMIC | {
        "super.users",
        "allow.everyone.if.no.acl.found",
    }
    assert all(("topic", key.name) in known for key in topic_keys())
    assert all(("group", key.name) in known for key in group_keys())


def test_every_default_passes_its_own_rule() -> None:
    for key in (*broker_keys(), *topic_keys(), *group_keys()):
        key.parse(key.default)


def test_every_key_is_documented() -> None:
    for key in (*broker_keys(), *topic_keys(), *group_keys()):
        assert key.documentation.endswith("."), key.name
        assert len(key.documentation) > 15, key.name


def test_differences_differ_and_are_listed() -> None:
    listed = {one.name: one.default for one in DIFFERENCES}
    differing = {
        key.name: key.default
        for key in broker_keys()
        if key.default != key.kafka_default and not key.name.startswith("ottla.")
    }
    assert differing == listed
    assert all(key.default == key.kafka_default for key in (*topic_keys(), *group_keys()))


def test_topic_synonyms_are_keys_with_the_same_default() -> None:
    for name, synonyms in TOPIC_SYNONYMS.items():
        topic = find("topic", name)
        for synonym, factor in synonyms:
            broker = find("broker", synonym)
            value = broker.parse(broker.default)
            if value is not None:
                assert value * factor == topic.parse(topic.default) if factor != 1 else True  # type: ignore[operator]  # numbers where there is a factor


def test_group_synonyms_are_broker_keys() -> None:
    for key in group_keys():
        synonym = group_synonym(key.name)
        assert synonym is None or find("broker", synonym).default == key.default


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("listener.name.internal.ssl.keystore.type", "ssl.keystore.type"),
        ("listener.name.a.scram-sha-256.sasl.jaas.config", "sasl.jaas.config"),
        ("listener.name.a.max.connections", "max.connections"),
        ("num.partitions", None),
        ("listener.name.alone", None),
    ],
)
def test_listener_keys(name: str, base: str | None) -> None:
    assert base_of_listener_key(name) == base
    if base is not None:
        assert broker_synonyms(name) == (name, base)
        assert find("broker", name)._replace(name=base) == find("broker", base)


def test_unknown_keys_suggest_a_near_one() -> None:
    with pytest.raises(ConfigError, match=r"Unknown configuration: num.partition\. Did you mean num.partitions\?"):
        require_broker_key("num.partition")
    with pytest.raises(ConfigError) as failure:
        require_topic_key("zzz")
    assert str(failure.value) == "Unknown topic config name: zzz"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("num.partitions", "0", "Invalid value 0 for configuration num.partitions: Value must be at least 1"),
        ("num.partitions", "x", "Invalid value x for configuration num.partitions: Not a number of type INT"),
        ("num.partitions", "99999999999", "Not a number of type INT"),
        ("compression.type", "zip", "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"),
        (
            "log.cleaner.min.cleanable.ratio",
            "2",
            "Invalid value 2.0 for configuration .*: Value must be no more than 1",
        ),
        ("delete.topic.enable", "yes", "Expected value to be either true or false"),
        ("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1"),
        ("log.cleanup.policy", "foo", "String must be one of: compact, delete"),
        ("listeners", "", "Configuration 'listeners' must not be empty. Valid values include: any non-empty value"),
        ("controller.quorum.voters", "1@x", "Each entry should be in the form `{id}@{host}:{port}`"),
        ("controller.quorum.bootstrap.servers", "x", "Failed to parse host name"),
        ("group.consumer.migration.policy", "x", "String must be one of \\(case insensitive\\): DISABLED"),
        ("authorizer.class.name", "org.example.A", "authorizer.class.name=org.example.A is not supported yet"),
        ("ssl.client.auth", "required", "is not supported yet"),
        ("remote.log.storage.system.enable", "true", "is not supported yet"),
        ("delegation.token.secret.key", "s3cret", "secret.key=\\[hidden\\] is not supported"),
    ],
)
def test_wrong_values_are_refused_in_kafkas_words(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as failure:
        require_broker_key(name).parse(text)
    assert failure.value.key == name


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("log.retention.ms", " -1 ", -1),
        ("delete.topic.enable", "TRUE", True),
        ("log.cleanup.policy", "compact , delete", ("compact", "delete")),
        ("log.cleanup.policy", "", ()),
        ("log.cleanup.policy", "delete,compact,delete", ("delete", "compact")),
        ("log.cleaner.io.buffer.load.factor", ".5", 0.5),
        ("group.consumer.migration.policy", "Upgrade", "Upgrade"),
        ("offsets.topic.replication.factor", "-1", -1),
        ("authorizer.class.name", "", ""),
    ],
)
def test_values_are_read_as_their_type(name: str, text: str, value: object) -> None:
    assert require_broker_key(name).parse(text) == value


@pytest.mark.parametrize("text", ["latest", "earliest", "by_duration:PT1H", "by_duration:P2DT3H4.5S"])
def test_share_reset_forms(text: str) -> None:
    assert find("group", "share.auto.offset.reset").parse(text) == text


@pytest.mark.parametrize("text", ["newest", "by_duration:", "by_duration:P", "by_duration:PT"])
def test_share_reset_refuses_other_forms(text: str) -> None:
    with pytest.raises(ConfigError):
        find("group", "share.auto.offset.reset").parse(text)


def test_throttled_replicas() -> None:
    key = find("topic", "leader.replication.throttled.replicas")
    assert key.parse("0:1,1:2") == ("0:1", "1:2")
    assert key.parse("*") == ("*",)
    with pytest.raises(ConfigError):
        key.parse("a:1")


def test_security_keys_are_refused_or_planned_never_claimed() -> None:
    for key in broker_keys():
        if key.name.startswith(("ssl.", "sasl.")):
            assert key.effect in (Effect.PLANNED, Effect.REFUSED), key.name
    assert find("broker", "num.io.threads").update_mode is UpdateMode.CLUSTER_WIDE


def test_reference_page_holds_every_public_key() -> None:
    page = markdown()
    for key in (*broker_keys(), *topic_keys(), *group_keys()):
        assert key.internal or f"`{key.name}`" in page, key.name

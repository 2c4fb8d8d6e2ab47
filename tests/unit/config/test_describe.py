"""What DescribeConfigs says: values, sources, synonyms. The expectations were read from Apache Kafka 4.3.1."""

from ottla.config.describe import (
    ConfigEntry,
    ConfigLayers,
    ConfigSource,
    describe_broker,
    describe_cluster_default,
    describe_group,
    describe_topic,
)
from ottla.config.key import ConfigType

NOTHING = ConfigLayers(static={}, cluster={}, broker={})
LAYERS = ConfigLayers(
    static={"log.segment.bytes": "2000000", "log.retention.hours": "3", "ssl.key.password": "s"},
    cluster={"log.segment.bytes": "3000000", "log.retention.ms": "77"},
    broker={"log.segment.bytes": "4000000"},
)


def entry(entries: list[ConfigEntry], name: str) -> ConfigEntry:
    found = [one for one in entries if one.name == name]
    assert len(found) == 1, name
    return found[0]


def places(one: ConfigEntry) -> list[tuple[str, str | None, str]]:
    return [(place.name, place.value, place.source.name) for place in one.synonyms]


def test_topic_by_default() -> None:
    entries = describe_topic({}, NOTHING)
    assert len(entries) == 33
    segment = entry(entries, "segment.bytes")
    assert segment.is_default
    assert not segment.read_only
    assert places(segment) == [("log.segment.bytes", "1073741824", "DEFAULT_CONFIG")]
    assert places(entry(entries, "retention.ms")) == []
    assert places(entry(entries, "flush.ms")) == []
    assert entry(entries, "retention.ms").value == "604800000"
    assert entry(entries, "cleanup.policy").type is ConfigType.LIST
    assert entry(entries, "min.cleanable.dirty.ratio").value == "0.5"


def test_topic_with_every_layer() -> None:
    entries = describe_topic({"segment.bytes": "5000000"}, LAYERS)
    segment = entry(entries, "segment.bytes")
    assert (segment.value, segment.source) == ("5000000", ConfigSource.DYNAMIC_TOPIC_CONFIG)
    assert places(segment) == [
        ("segment.bytes", "5000000", "DYNAMIC_TOPIC_CONFIG"),
        ("log.segment.bytes", "4000000", "DYNAMIC_BROKER_CONFIG"),
        ("log.segment.bytes", "3000000", "DYNAMIC_DEFAULT_BROKER_CONFIG"),
        ("log.segment.bytes", "2000000", "STATIC_BROKER_CONFIG"),
        ("log.segment.bytes", "1073741824", "DEFAULT_CONFIG"),
    ]
    retention = entry(entries, "retention.ms")
    assert (retention.value, retention.source) == ("77", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG)
    assert places(retention) == [
        ("log.retention.ms", "77", "DYNAMIC_DEFAULT_BROKER_CONFIG"),
        ("log.retention.hours", "3", "STATIC_BROKER_CONFIG"),
        ("log.retention.hours", "168", "DEFAULT_CONFIG"),
    ]


def test_broker_entries() -> None:
    entries = describe_broker(LAYERS)
    segment = entry(entries, "log.segment.bytes")
    assert (segment.value, segment.source, segment.read_only) == (
        "4000000",
        ConfigSource.DYNAMIC_BROKER_CONFIG,
        False,
    )
    password = entry(entries, "ssl.key.password")
    assert (password.value, password.sensitive, password.source) == (None, True, ConfigSource.STATIC_BROKER_CONFIG)
    assert places(password) == [("ssl.key.password", None, "STATIC_BROKER_CONFIG")]
    assert entry(entries, "num.partitions").read_only
    assert entry(entries, "log.retention.minutes").value is None
    hidden = {"unstable.api.versions.enable", "super.users", "leader.replication.throttled.rate"}
    assert all(one.name not in hidden for one in entries)
    assert entry(describe_broker(ConfigLayers(static={"super.users": "User:a"}, cluster={}, broker={})), "super.users")
    assert entry(entries, "log.cleaner.io.max.bytes.per.second").value == "1.7976931348623157E308"


def test_secrets_never_show() -> None:
    layers = ConfigLayers(static={"rsm.config.token": "hush", "sasl.jaas.config": "hush"}, cluster={}, broker={})
    for one in describe_broker(layers):
        assert one.value != "hush"
        assert all(place.value != "hush" for place in one.synonyms)


def test_cluster_default_shows_only_what_is_set() -> None:
    entries = describe_cluster_default(LAYERS)
    assert [(one.name, one.value) for one in entries] == [("log.retention.ms", "77"), ("log.segment.bytes", "3000000")]
    assert all(place.source is ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG for one in entries for place in one.synonyms)


def test_group_entries() -> None:
    layers = ConfigLayers(static={"group.consumer.session.timeout.ms": "50000"}, cluster={}, broker={})
    entries = describe_group({"consumer.heartbeat.interval.ms": "6000"}, layers)
    assert entry(entries, "consumer.heartbeat.interval.ms").source is ConfigSource.GROUP_CONFIG
    session = entry(entries, "consumer.session.timeout.ms")
    assert (session.value, session.source) == ("50000", ConfigSource.STATIC_BROKER_CONFIG)
    reset = entry(entries, "share.auto.offset.reset")
    assert reset.value == "latest"
    assert places(reset) == [("share.auto.offset.reset", "latest", "DEFAULT_CONFIG")]

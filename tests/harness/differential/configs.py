"""Configurations of topics, brokers, groups, client metrics and loggers: what may be changed how, and what shows.

Every key is tried; a change that is taken is described, with its synonyms, and taken back.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

from harness.differential.topics import make
from harness.twins import Answer, Case, Steps, Twin
from ottla.config.definitions import broker_keys, group_keys, topic_keys
from ottla.config.key import ConfigKey, ConfigType, UpdateMode
from ottla.wire.messages.alter_configs_request import AlterableConfig as WholeConfig
from ottla.wire.messages.alter_configs_request import AlterConfigsRequest
from ottla.wire.messages.alter_configs_request import AlterConfigsResource as WholeResource
from ottla.wire.messages.describe_configs_request import DescribeConfigsRequest, DescribeConfigsResource
from ottla.wire.messages.incremental_alter_configs_request import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.wire.messages.list_config_resources_request import ListConfigResourcesRequest

UNKNOWN, TOPIC, BROKER, LOGGER, METRICS, GROUP = 0, 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)
SAMPLES = {
    ConfigType.BOOLEAN: "true",
    ConfigType.STRING: "sample",
    ConfigType.INT: "5",
    ConfigType.SHORT: "5",
    ConfigType.LONG: "5000",
    ConfigType.DOUBLE: "0.25",
    ConfigType.LIST: "sample",
    ConfigType.CLASS: "no.such.Class",
    ConfigType.PASSWORD: "secret",
}
# Where a node lies and what it listens on; a change of these says something about the machine, not about the keys.
PLACES = frozenset(
    (
        "advertised.listeners",
        "cordoned.log.dirs",
        "listener.security.protocol.map",
        "listeners",
        "log.dir",
        "log.dirs",
    )
)
# Classes are loaded by the one broker and unknown to the other.
CLASSES = frozenset(("metric.reporters", "principal.builder.class", "ssl.engine.factory.class"))
_marks = itertools.count(1)


def change(
    kind: int, name: str, *rows: tuple[str, int, str | None], validate_only: bool = False
) -> IncrementalAlterConfigsRequest:
    configs = [AlterableConfig(name=key, config_operation=operation, value=value) for key, operation, value in rows]
    resource = AlterConfigsResource(resource_type=kind, resource_name=name, configs=configs)
    return IncrementalAlterConfigsRequest(resources=[resource], validate_only=validate_only)


def replace(kind: int, name: str, settings: dict[str, str | None], *, validate_only: bool = False) -> Any:
    configs = [WholeConfig(name=key, value=value) for key, value in settings.items()]
    resource = WholeResource(resource_type=kind, resource_name=name, configs=configs)
    return AlterConfigsRequest(resources=[resource], validate_only=validate_only)


def described(twin: Twin, kind: int, name: str, keys: Sequence[str] | None = None, *, version: int = 4) -> Answer:
    """What a resource shows, a row for each key: (value, source, read-only, sensitive, type, synonyms)."""
    resource = DescribeConfigsResource(
        resource_type=kind, resource_name=name, configuration_keys=None if keys is None else list(keys)
    )
    answer = twin.call(DescribeConfigsRequest(resources=[resource], include_synonyms=True), version)
    result = answer.results[0]
    if result.error_code:
        return (result.error_code, result.error_message)
    return {
        row.name: (
            row.value,
            row.config_source,
            row.read_only,
            row.is_sensitive,
            row.config_type,
            [(synonym.name, synonym.value, synonym.source) for synonym in row.synonyms],
        )
        for row in sorted(result.configs, key=lambda row: row.name)
        if not row.name.startswith("ottla.")
    }


def shown(twin: Twin, kind: int, name: str, keys: Sequence[str] | None = None) -> Answer:
    """As `described`, once every change that was answered is in force."""
    settle(twin)
    return described(twin, kind, name, keys)


def settle(twin: Twin) -> None:
    """Wait for a change made now, twice: brokers apply changes in order, but several may go in one step."""
    name = "configs-mark"
    if name not in twin.ids:
        make(twin, name)
    for _ in range(2):
        mark = str(next(_marks))
        twin.call(change(TOPIC, name, ("segment.jitter.ms", SET, mark)), 1)
        for _ in range(1000):
            if described(twin, TOPIC, name, ["segment.jitter.ms"])["segment.jitter.ms"][0] == mark:
                break
            time.sleep(0.005)
        else:
            raise AssertionError(f"mark {mark} is never applied")


def outcome(twin: Twin, request: Any) -> Answer:
    """Code and message of the only resource."""
    answer = twin.ask(request, 1)
    if not isinstance(answer, dict):
        return answer
    return [(row["error_code"], row["error_message"]) for row in answer["responses"]]


def sample(key: ConfigKey) -> str:
    """A value the key can take."""
    if key.kafka_default:
        return key.kafka_default
    return SAMPLES[key.type]


def kafkas(keys: Sequence[ConfigKey]) -> Iterator[ConfigKey]:
    return (key for key in keys if not key.name.startswith("ottla."))


def broker_keys_tried(twin: Twin) -> Steps:
    """What each key allows on a broker and as the default of all: a good value, a bad one, and taking it away."""
    for key in kafkas(broker_keys()):
        if key.name in PLACES | CLASSES:
            continue
        for node in ("1", ""):
            for label, operation, value in (
                ("good", SET, sample(key)),
                ("bad", SET, "?"),
                ("negative", SET, "-7"),
                ("zero", SET, "0"),
                ("gone", DELETE, None),
                ("more", APPEND, "x"),
            ):
                request = change(BROKER, node, (key.name, operation, value), validate_only=True)
                yield f"{key.name} of {node or 'all'}: {label}", outcome(twin, request)


def broker_keys_changed(twin: Twin) -> Steps:
    """What each key that may be changed shows, on the broker and as the default of all, while both are set."""
    for key in kafkas(broker_keys()):
        if key.update_mode is UpdateMode.READ_ONLY or key.name in PLACES | CLASSES:
            continue
        places = ("1",) if key.update_mode is UpdateMode.PER_BROKER else ("", "1")
        names = [key.name]
        value = sample(key)
        for place in places:
            yield f"{key.name} set {place}", outcome(twin, change(BROKER, place, (key.name, SET, value)))
            yield f"{key.name} at 1 after {place}", shown(twin, BROKER, "1", names)
            yield f"{key.name} at all after {place}", described(twin, BROKER, "", names)
        for place in reversed(places):
            yield f"{key.name} away {place}", outcome(twin, change(BROKER, place, (key.name, DELETE, None)))
            yield f"{key.name} at 1 without {place}", shown(twin, BROKER, "1", names)


def broker_rules(twin: Twin) -> Steps:
    """Rules over more than one key, and odd requests."""
    for label, rows in {
        "read-only and dynamic": [("log.retention.ms", SET, "1000"), ("num.partitions", SET, "4")],
        "two read-only": [("num.partitions", SET, "4"), ("broker.rack", SET, "a")],
        "unknown": [("no.such.key", SET, "4")],
        "unknown away": [("no.such.key", DELETE, None)],
        "empty value": [("log.retention.ms", SET, "")],
        "spaces": [("log.retention.ms", SET, " 1000 ")],
        "threads of zero": [("num.io.threads", SET, "0")],
        "many more threads": [("num.io.threads", SET, "1000")],
        "many fewer threads": [("num.io.threads", SET, "1")],
        "twice as many threads": [("num.io.threads", SET, "16")],
        "recovery threads": [("num.recovery.threads.per.data.dir", SET, "9")],
        "cleaner threads": [("log.cleaner.threads", SET, "2")],
        "many cleaner threads": [("log.cleaner.threads", SET, "9")],
        "background": [("background.threads", SET, "11")],
        "retention of zero": [("log.retention.ms", SET, "0")],
        "retention of minus two": [("log.retention.ms", SET, "-2")],
        "retention bytes": [("log.retention.bytes", SET, "-2")],
        "lags crossed": [
            ("log.cleaner.min.compaction.lag.ms", SET, "10"),
            ("log.cleaner.max.compaction.lag.ms", SET, "5"),
        ],
        "one lag": [("log.cleaner.max.compaction.lag.ms", SET, "0")],
        "small segments": [("log.segment.bytes", SET, "10")],
        "large messages": [("message.max.bytes", SET, "2147483647")],
        "policy": [("log.cleanup.policy", APPEND, "compact")],
        "bad policy": [("log.cleanup.policy", SET, "compress")],
        "policy twice": [("log.cleanup.policy", SET, "compact,compact")],
        "no policy": [("log.cleanup.policy", SET, "")],
        "policy less": [("log.cleanup.policy", SUBTRACT, "delete")],
        "codec": [("compression.type", SET, "brotli")],
        "overrides": [("max.connections.per.ip.overrides", SET, "127.0.0.1:5")],
        "bad overrides": [("max.connections.per.ip.overrides", SET, "127.0.0.1")],
        "listener's connections": [("listener.name.plaintext.max.connections", SET, "100")],
        "listener's rate": [("listener.name.plaintext.max.connection.creation.rate", SET, "100")],
        "listener's threads": [("listener.name.plaintext.num.network.threads", SET, "4")],
        "listener's password": [("listener.name.plaintext.ssl.keystore.password", SET, "secret")],
        "strange listener": [("listener.name.strange.max.connections", SET, "100")],
        "listener's unknown": [("listener.name.plaintext.no.such.key", SET, "100")],
        "listener's read-only": [("listener.name.plaintext.num.partitions", SET, "100")],
        "listener's retention": [("listener.name.plaintext.log.retention.ms", SET, "100")],
        "password": [("ssl.keystore.password", SET, "secret")],
        "key password": [("ssl.key.password", SET, "secret")],
        "provider": [("principal.builder.class", SET, "no.such.Class")],
        "node id": [("node.id", SET, "7")],
        "broker id": [("broker.id", SET, "7")],
        "topic key": [("retention.ms", SET, "1000")],
        "group key": [("consumer.session.timeout.ms", SET, "1000")],
        "unclean": [("unclean.leader.election.enable", SET, "true")],
        "in sync": [("min.insync.replicas", SET, "2")],
        "in sync away": [("min.insync.replicas", DELETE, None)],
        "twice": [("log.retention.ms", SET, "1000"), ("log.retention.ms", SET, "2000")],
        "nothing": [],
        "remote": [("remote.log.manager.copier.thread.pool.size", SET, "3")],
        "transactions": [("transaction.partition.verification.enable", SET, "false")],
        "ids": [("producer.id.expiration.ms", SET, "1000")],
        "throttle": [("leader.replication.throttled.rate", SET, "1000")],
        "throttled directories": [("replica.alter.log.dirs.io.max.bytes.per.second", SET, "1000")],
    }.items():
        for node in ("1", ""):
            request = change(BROKER, node, *rows, validate_only=True)
            yield f"{label} of {node or 'all'}", outcome(twin, request)
    for name in ("-1", "01", "+1", "1.0", "2", "x", " 1"):
        row = ("log.retention.ms", SET, "1000")
        yield f"broker {name!r}", outcome(twin, change(BROKER, name, row, validate_only=True))
        yield f"describe broker {name!r}", described(twin, BROKER, name, ["log.retention.ms"])


def inheritance(twin: Twin) -> Steps:
    """A topic shows what its broker gives it, and takes back its own."""
    name = make(twin, "configs-heir")
    topic_names = [key.name for key in topic_keys() if not key.internal]
    yield "fresh", described(twin, TOPIC, name, topic_names)
    for place in ("", "1"):
        for key, value in {
            "log.retention.ms": "5000",
            "log.segment.bytes": "2000000",
            "log.roll.ms": "600000",
            "log.cleanup.policy": "compact,delete",
            "log.cleaner.min.cleanable.ratio": "0.25",
            "log.flush.interval.ms": "60000",
            "message.max.bytes": "2000000",
            "compression.type": "zstd",
            "log.message.timestamp.type": "LogAppendTime",
            "unclean.leader.election.enable": "true",
            "log.preallocate": "true",
        }.items():
            heirs = [
                one
                for one in topic_names
                if one in key or key.removeprefix("log.").removeprefix("cleaner.") in one or one == "max.message.bytes"
            ]
            yield f"{key} of {place or 'all'}", outcome(twin, change(BROKER, place, (key, SET, value)))
            yield f"{key} of {place or 'all'} inherited", shown(twin, TOPIC, name, heirs)
    yield "all inherited", shown(twin, TOPIC, name, topic_names)
    yield "own", outcome(twin, change(TOPIC, name, ("retention.ms", SET, "7000"), ("cleanup.policy", SET, "delete")))
    yield "own shown", shown(twin, TOPIC, name, topic_names)
    yield "appended", outcome(twin, change(TOPIC, name, ("cleanup.policy", APPEND, "compact")))
    yield "appended shown", shown(twin, TOPIC, name, ["cleanup.policy"])
    yield (
        "own away",
        outcome(twin, change(TOPIC, name, ("retention.ms", DELETE, None), ("cleanup.policy", DELETE, None))),
    )
    yield "away shown", shown(twin, TOPIC, name, ["retention.ms", "cleanup.policy"])
    for place in ("1", ""):
        yield f"broker {place} reset", outcome(twin, replace(BROKER, place, {}))
        yield f"after reset of {place}", shown(twin, TOPIC, name, topic_names)
        yield f"broker after reset of {place}", described(twin, BROKER, place, ["log.retention.ms", "log.roll.ms"])


def topic_keys_tried(twin: Twin) -> Steps:
    name = make(twin, "configs-topic")
    for key in topic_keys():
        for label, operation, value in (
            ("default", SET, key.kafka_default or SAMPLES[key.type]),
            ("bad", SET, "?"),
            ("negative", SET, "-7"),
            ("zero", SET, "0"),
            ("huge", SET, "99999999999999999999"),
            ("empty", SET, ""),
            ("null", SET, None),
            ("more", APPEND, "x"),
            ("less", SUBTRACT, "x"),
        ):
            yield f"{key.name} {label}", outcome(twin, change(TOPIC, name, (key.name, operation, value)))
            yield f"{key.name} {label} shown", shown(twin, TOPIC, name, [key.name])
        yield f"{key.name} away", outcome(twin, change(TOPIC, name, (key.name, DELETE, None)))
        yield f"{key.name} away shown", shown(twin, TOPIC, name, [key.name])
    for label, rows in {
        "lags crossed": [("min.compaction.lag.ms", SET, "10"), ("max.compaction.lag.ms", SET, "5")],
        "local retention": [("local.retention.ms", SET, "10"), ("retention.ms", SET, "5")],
        "local bytes": [("local.retention.bytes", SET, "10"), ("retention.bytes", SET, "5")],
        "remote": [("remote.storage.enable", SET, "true")],
        "remote copy": [("remote.log.copy.disable", SET, "true")],
        "policies": [("cleanup.policy", SET, "compact, delete")],
        "policies twice": [("cleanup.policy", SET, "delete,delete")],
        "throttled": [("leader.replication.throttled.replicas", SET, "0:1,1:1")],
        "throttled all": [("leader.replication.throttled.replicas", SET, "*")],
        "throttled badly": [("leader.replication.throttled.replicas", SET, "0-1")],
        "two wrong": [("retention.ms", SET, "x"), ("segment.bytes", SET, "y")],
        "nothing": [],
        "broker key": [("log.retention.ms", SET, "5")],
    }.items():
        yield label, outcome(twin, change(TOPIC, name, *rows))
        yield f"{label} shown", shown(twin, TOPIC, name, [row[0] for row in rows] or None)
        yield f"{label} away", outcome(twin, replace(TOPIC, name, {}))


def whole(twin: Twin) -> Steps:
    """AlterConfigs: what it does not name goes."""
    name = make(twin, "configs-whole")
    for version in range(3):
        for label, kind, resource, settings in (
            ("two", TOPIC, name, {"retention.ms": "1000", "segment.ms": "2000"}),
            ("one", TOPIC, name, {"retention.ms": "1000"}),
            ("bad", TOPIC, name, {"retention.ms": "x"}),
            ("null", TOPIC, name, {"retention.ms": None}),
            ("unknown", TOPIC, name, {"no.such": "1"}),
            ("none", TOPIC, name, {}),
            ("strange topic", TOPIC, "no-such-topic", {}),
            ("no topic", TOPIC, "", {}),
            ("broker", BROKER, "1", {"log.retention.ms": "1000"}),
            ("broker read-only", BROKER, "1", {"num.partitions": "3"}),
            ("broker none", BROKER, "1", {}),
            ("all brokers", BROKER, "", {"log.retention.ms": "1000"}),
            ("all brokers none", BROKER, "", {}),
            ("other broker", BROKER, "7", {}),
            ("word", BROKER, "x", {}),
            ("group", GROUP, "g", {"consumer.session.timeout.ms": "46000"}),
            ("group none", GROUP, "g", {}),
            ("metrics", METRICS, "m", {"interval.ms": "1000"}),
            ("metrics none", METRICS, "m", {}),
            ("loggers", LOGGER, "1", {"kafka": "DEBUG"}),
            ("strange", 99, "x", {}),
            ("unknown kind", UNKNOWN, "x", {}),
        ):
            for dry in (True, False):
                answer = twin.ask(replace(kind, resource, settings, validate_only=dry), version)
                yield f"v{version} {label} {dry}", answer
            if kind in (TOPIC, GROUP, METRICS):
                yield f"v{version} {label} shown", shown(twin, kind, resource)


def groups(twin: Twin) -> Steps:
    group = "configs-group"
    yield "fresh", described(twin, GROUP, group)
    for key in group_keys():
        for label, operation, value in (
            ("default", SET, key.kafka_default or SAMPLES[key.type]),
            ("bad", SET, "?"),
            ("negative", SET, "-7"),
            ("zero", SET, "0"),
            ("one", SET, "1"),
            ("large", SET, "2000000000"),
            ("empty", SET, ""),
            ("more", APPEND, "x"),
        ):
            yield f"{key.name} {label}", outcome(twin, change(GROUP, group, (key.name, operation, value)))
            yield f"{key.name} {label} shown", shown(twin, GROUP, group, [key.name])
        yield f"{key.name} away", outcome(twin, change(GROUP, group, (key.name, DELETE, None)))
    for label, name, rows in (
        (
            "crossed",
            group,
            [("consumer.session.timeout.ms", SET, "45000"), ("consumer.heartbeat.interval.ms", SET, "15000")],
        ),
        ("no name", "", [("consumer.session.timeout.ms", SET, "45000")]),
        ("unknown", group, [("no.such", SET, "1")]),
        ("unknown away", group, [("no.such", DELETE, None)]),
        ("nothing", group, []),
        ("broker key", group, [("group.consumer.session.timeout.ms", SET, "50000")]),
    ):
        yield label, outcome(twin, change(GROUP, name, *rows))
    yield "no name described", described(twin, GROUP, "")
    before = described(twin, GROUP, group, ["consumer.max.size", "consumer.session.timeout.ms"])
    for place in ("", "1"):
        row = ("group.consumer.session.timeout.ms", SET, "50000")
        yield f"broker {place}", outcome(twin, change(BROKER, place, row))
    yield "after the broker", shown(twin, GROUP, group, ["consumer.session.timeout.ms"])
    yield "before", before
    yield "away", outcome(twin, replace(GROUP, group, {}))
    settle(twin)
    yield "listed", twin.ask_any(ListConfigResourcesRequest(resource_types=[GROUP]), 1)


def metrics(twin: Twin) -> Steps:
    name = "configs-metrics"
    for label, resource, rows in (
        ("fresh", name, [("metrics", SET, "a.b,c.d"), ("interval.ms", SET, "5000")]),
        ("match", name, [("match", SET, "client_id=a.*,client_software_name=b")]),
        ("bad match", name, [("match", SET, "client_id")]),
        ("unknown match", name, [("match", SET, "colour=red")]),
        ("bad pattern", name, [("match", SET, "client_id=[")]),
        ("empty match", name, [("match", SET, "")]),
        ("short", name, [("interval.ms", SET, "99")]),
        ("long", name, [("interval.ms", SET, "3600001")]),
        ("word", name, [("interval.ms", SET, "x")]),
        ("negative", name, [("interval.ms", SET, "-1")]),
        ("all metrics", name, [("metrics", SET, "*")]),
        ("no metrics", name, [("metrics", SET, "")]),
        ("more", name, [("metrics", APPEND, "e.f")]),
        ("less", name, [("metrics", SUBTRACT, "e.f")]),
        ("more interval", name, [("interval.ms", APPEND, "1")]),
        ("unknown", name, [("no.such", SET, "1")]),
        ("no name", "", [("interval.ms", SET, "5000")]),
        ("away", name, [("metrics", DELETE, None), ("match", DELETE, None)]),
    ):
        yield label, outcome(twin, change(METRICS, resource, *rows))
        yield f"{label} shown", shown(twin, METRICS, resource)
    yield "strange", described(twin, METRICS, "no-such-subscription")
    yield "listed", twin.ask_any(ListConfigResourcesRequest(resource_types=[METRICS]), 1)
    yield "all away", outcome(twin, change(METRICS, name, ("interval.ms", DELETE, None)))
    yield "all away shown", shown(twin, METRICS, name)
    yield "none listed", twin.ask_any(ListConfigResourcesRequest(resource_types=[METRICS]), 1)


CASES: tuple[Case, ...] = (
    broker_keys_tried,
    broker_keys_changed,
    broker_rules,
    inheritance,
    topic_keys_tried,
    whole,
    groups,
    metrics,
)

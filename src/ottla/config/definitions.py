"""The whole configuration table: broker, topic and group keys, their synonyms, near misses.

Rows stay text until somebody asks for a key; a start reads about a quarter of them.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Final

from ottla.config.key import ConfigError, ConfigKey, Row, iterate_rows, read_key

HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000

TOPIC_SYNONYMS: Final[Mapping[str, tuple[tuple[str, int], ...]]] = {
    "segment.bytes": (("log.segment.bytes", 1),),
    "segment.ms": (("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)),
    "segment.jitter.ms": (("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR_MS)),
    "segment.index.bytes": (("log.index.size.max.bytes", 1),),
    "flush.messages": (("log.flush.interval.messages", 1),),
    "flush.ms": (("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)),
    "retention.bytes": (("log.retention.bytes", 1),),
    "retention.ms": (("log.retention.ms", 1), ("log.retention.minutes", MINUTE_MS), ("log.retention.hours", HOUR_MS)),
    "max.message.bytes": (("message.max.bytes", 1),),
    "index.interval.bytes": (("log.index.interval.bytes", 1),),
    "delete.retention.ms": (("log.cleaner.delete.retention.ms", 1),),
    "min.compaction.lag.ms": (("log.cleaner.min.compaction.lag.ms", 1),),
    "max.compaction.lag.ms": (("log.cleaner.max.compaction.lag.ms", 1),),
    "file.delete.delay.ms": (("log.segment.delete.delay.ms", 1),),
    "min.cleanable.dirty.ratio": (("log.cleaner.min.cleanable.ratio", 1),),
    "cleanup.policy": (("log.cleanup.policy", 1),),
    "unclean.leader.election.enable": (("unclean.leader.election.enable", 1),),
    "min.insync.replicas": (("min.insync.replicas", 1),),
    "compression.type": (("compression.type", 1),),
    "compression.gzip.level": (("compression.gzip.level", 1),),
    "compression.lz4.level": (("compression.lz4.level", 1),),
    "compression.zstd.level": (("compression.zstd.level", 1),),
    "preallocate": (("log.preallocate", 1),),
    "message.timestamp.type": (("log.message.timestamp.type", 1),),
    "message.timestamp.before.max.ms": (("log.message.timestamp.before.max.ms", 1),),
    "message.timestamp.after.max.ms": (("log.message.timestamp.after.max.ms", 1),),
    "local.retention.ms": (("log.local.retention.ms", 1),),
    "local.retention.bytes": (("log.local.retention.bytes", 1),),
}
"""Topic key -> the broker keys that give its default, the strongest first, with the factor to the topic key's unit."""

GROUP_KEYS_OF_THEIR_OWN: Final = frozenset(
    ("share.auto.offset.reset", "share.isolation.level", "share.renew.acknowledge.enable")
)

NOT_IN_KAFKAS_TABLE: Final = frozenset(
    (
        "allow.everyone.if.no.acl.found",
        "follower.replication.throttled.rate",
        "leader.replication.throttled.rate",
        "replica.alter.log.dirs.io.max.bytes.per.second",
        "super.users",
    )
)
"""Keys outside Kafka's static table: those of its authorizer and those that are only changed at run time."""

_BROKER_SYNONYMS: Final[Mapping[str, tuple[str, ...]]] = {
    "log.flush.interval.ms": ("log.flush.interval.ms", "log.flush.scheduler.interval.ms"),
    "log.retention.hours": ("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
    "log.retention.minutes": ("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
    "log.retention.ms": ("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
    "log.roll.hours": ("log.roll.ms", "log.roll.hours"),
    "log.roll.ms": ("log.roll.ms", "log.roll.hours"),
    "log.roll.jitter.hours": ("log.roll.jitter.ms", "log.roll.jitter.hours"),
    "log.roll.jitter.ms": ("log.roll.jitter.ms", "log.roll.jitter.hours"),
}

_PLUGIN_PREFIXES: Final = ("rsm.config.", "rlmm.config.")


@cache
def broker_key(name: str) -> ConfigKey | None:
    """The broker key called ``name``; a key with a listener's prefix is the key behind it under its full name."""
    row = _broker_rows().get(name)
    if row is not None:
        return read_key(row, _differences().get(name))
    base = base_of_listener_key(name)
    key = None if base is None else broker_key(base)
    return None if key is None else key._replace(name=name)


@cache
def topic_key(name: str) -> ConfigKey | None:
    """The topic key called ``name``."""
    row = _topic_rows().get(name)
    return None if row is None else read_key(row)


@cache
def group_key(name: str) -> ConfigKey | None:
    """The group key called ``name``."""
    row = _group_rows().get(name)
    return None if row is None else read_key(row)


def broker_keys() -> tuple[ConfigKey, ...]:
    """Every broker key, by name."""
    return _all_keys(_broker_rows(), broker_key)


def topic_keys() -> tuple[ConfigKey, ...]:
    """Every topic key, by name."""
    return _all_keys(_topic_rows(), topic_key)


def group_keys() -> tuple[ConfigKey, ...]:
    """Every group key, by name."""
    return _all_keys(_group_rows(), group_key)


def require_broker_key(name: str) -> ConfigKey:
    """The broker key called ``name``. Raises ``ConfigError`` with a near miss."""
    key = broker_key(name)
    return _unknown("Unknown configuration:", name, _broker_rows()) if key is None else key


def require_topic_key(name: str) -> ConfigKey:
    """The topic key called ``name``. Raises ``ConfigError`` with a near miss, worded as Kafka words it."""
    key = topic_key(name)
    return _unknown("Unknown topic config name:", name, _topic_rows()) if key is None else key


def require_group_key(name: str) -> ConfigKey:
    """The group key called ``name``. Raises ``ConfigError`` with a near miss, worded as Kafka words it."""
    key = group_key(name)
    return _unknown("Unknown group config name:", name, _group_rows()) if key is None else key


def is_plugin_key(name: str) -> bool:
    """Whether the key belongs to a plugin, so that only the plugin could know it."""
    return name.startswith(_PLUGIN_PREFIXES)


def base_of_listener_key(name: str) -> str | None:
    """``ssl.keystore.type`` of ``listener.name.internal.ssl.keystore.type``; ``None`` without a listener prefix.

    SASL keys may carry the mechanism too (``listener.name.internal.plain.sasl.jaas.config``).
    """
    if not name.startswith("listener.name."):
        return None
    _, dot, base = name.removeprefix("listener.name.").partition(".")
    if not dot:
        return None
    if base not in _broker_rows() and base.partition(".")[2] in _broker_rows():
        return base.partition(".")[2]
    return base


def broker_synonyms(name: str) -> tuple[str, ...]:
    """The names a broker key may also be given under, the strongest first, itself among them."""
    base = base_of_listener_key(name)
    return (name, base) if base is not None else _BROKER_SYNONYMS.get(name, (name,))


def group_synonym(name: str) -> str | None:
    """The broker key that gives a group key its default."""
    return None if name in GROUP_KEYS_OF_THEIR_OWN or group_key(name) is None else f"group.{name}"


@cache
def _broker_rows() -> Mapping[str, Row]:
    from ottla.config.tables import (  # noqa: PLC0415 - the tables are read when first asked for
        groups,
        log,
        network,
        node,
        ottla,
        quotas,
        remote_storage,
        replication,
        security,
        share_and_streams_groups,
        transactions,
    )

    areas = (
        network,
        node,
        log,
        replication,
        groups,
        share_and_streams_groups,
        transactions,
        quotas,
        security,
        remote_storage,
        ottla,
    )
    return {row.name: row for area in areas for row in iterate_rows(area.ROWS)}


@cache
def _differences() -> Mapping[str, str]:
    from ottla.config.tables.ottla import DIFFERENCES  # noqa: PLC0415 - as the tables

    return {difference.name: difference.default for difference in DIFFERENCES}


@cache
def _topic_rows() -> Mapping[str, Row]:
    from ottla.config.tables import topic  # noqa: PLC0415 - as the tables

    return {row.name: row for row in iterate_rows(topic.ROWS)}


@cache
def _group_rows() -> Mapping[str, Row]:
    from ottla.config.tables import group  # noqa: PLC0415 - as the tables

    return {row.name: row for row in iterate_rows(group.ROWS)}


def _all_keys(rows: Iterable[str], find: Callable[[str], ConfigKey | None]) -> tuple[ConfigKey, ...]:
    return tuple(key for name in sorted(rows) if (key := find(name)) is not None)


def _unknown(message: str, name: str, known: Iterable[str]) -> ConfigKey:
    from difflib import get_close_matches  # noqa: PLC0415 - only needed to explain a mistake

    near = get_close_matches(name.replace("_", "."), list(known), n=1, cutoff=0.7)
    suggestion = f"Did you mean {near[0]}?" if near else ""
    raise ConfigError(name, f"{message} {name}", suggestion=suggestion)

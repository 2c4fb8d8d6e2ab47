"""What DescribeConfigs answers: every key of a resource with its value, where that came from, and its synonyms.

Precedence: topic or group > this broker (dynamic) > cluster default (dynamic) > file or command line > default.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum

from msgspec import Struct

from ottla.config.definitions import (
    NOT_IN_KAFKAS_TABLE,
    TOPIC_SYNONYMS,
    broker_key,
    broker_keys,
    broker_synonyms,
    group_keys,
    group_synonym,
    topic_key,
)
from ottla.config.key import ConfigKey, ConfigType, Effect, UpdateMode, Value, render_value
from ottla.config.log import effective_topic_values


class ConfigSource(IntEnum):
    """Where a value came from, numbered as DescribeConfigs sends it."""

    UNKNOWN = 0
    DYNAMIC_TOPIC_CONFIG = 1
    DYNAMIC_BROKER_CONFIG = 2
    DYNAMIC_DEFAULT_BROKER_CONFIG = 3
    STATIC_BROKER_CONFIG = 4
    DEFAULT_CONFIG = 5
    DYNAMIC_BROKER_LOGGER_CONFIG = 6
    CLIENT_METRICS_CONFIG = 7
    GROUP_CONFIG = 8


class ConfigLayers(Struct, frozen=True, kw_only=True):
    """The broker's settings by where they come from; each maps names to texts as they were given."""

    static: Mapping[str, str]
    cluster: Mapping[str, str]
    broker: Mapping[str, str]

    @property
    def merged(self) -> Mapping[str, str]:
        """The settings in force, without defaults."""
        return {**self.static, **self.cluster, **self.broker}


class ConfigSynonym(Struct, frozen=True, kw_only=True):
    """One place a value is given in. ``value`` is ``None`` where it is secret."""

    name: str
    value: str | None
    source: ConfigSource


class ConfigEntry(Struct, frozen=True, kw_only=True):
    """One key of a described resource. ``synonyms`` begins with the place that wins."""

    name: str
    value: str | None
    source: ConfigSource
    read_only: bool
    sensitive: bool
    type: ConfigType
    documentation: str
    synonyms: tuple[ConfigSynonym, ...]

    @property
    def is_default(self) -> bool:
        return self.source is ConfigSource.DEFAULT_CONFIG


def describe_topic(overrides: Mapping[str, str], layers: ConfigLayers) -> list[ConfigEntry]:
    """Every key of a topic. ``overrides`` are the topic's own settings."""
    entries = []
    for name, value in effective_topic_values(overrides, layers.merged).items():
        key = topic_key(name)
        assert key is not None
        inherited = TOPIC_SYNONYMS.get(name)
        synonyms = [] if inherited is None else _broker_places(inherited[0][0], layers)
        if name in overrides:
            synonyms.insert(0, _own_place(key, value, ConfigSource.DYNAMIC_TOPIC_CONFIG))
        entries.append(_entry(key, value, synonyms, read_only=False))
    return entries


def describe_broker(layers: ConfigLayers) -> list[ConfigEntry]:
    """Every key of this broker."""
    in_force = layers.merged
    keys = {
        key.name: key
        for key in broker_keys()
        if key.name in in_force or not (key.internal or key.name in NOT_IN_KAFKAS_TABLE)
    }
    for name in in_force:
        keys.setdefault(name, broker_key(name) or plugin_key(name))
    return [
        _entry(
            key,
            _in_force(key, in_force),
            _broker_places(name, layers),
            read_only=key.update_mode is UpdateMode.READ_ONLY,
        )
        for name, key in keys.items()
    ]


def describe_cluster_default(layers: ConfigLayers) -> list[ConfigEntry]:
    """The dynamic settings all brokers share: what describing the broker without a name answers."""
    entries = []
    for name in sorted(layers.cluster):
        key = broker_key(name) or plugin_key(name)
        places = [
            place
            for place in _broker_places(name, layers)
            if place.source is ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG
        ]
        entries.append(
            _entry(key, _in_force(key, layers.cluster), places, read_only=key.update_mode is UpdateMode.READ_ONLY)
        )
    return entries


def describe_group(overrides: Mapping[str, str], layers: ConfigLayers) -> list[ConfigEntry]:
    """Every key of a group. ``overrides`` are the group's own settings."""
    in_force = layers.merged
    entries = []
    for key in group_keys():
        synonym = group_synonym(key.name)
        places = [_default_place(key)] if synonym is None else _broker_places(synonym, layers)
        value = key.parse(overrides.get(key.name, key.default))
        if key.name in overrides:
            places.insert(0, _own_place(key, value, ConfigSource.GROUP_CONFIG))
        elif synonym is not None:
            inherited = broker_key(synonym)
            assert inherited is not None, synonym
            value = _in_force(inherited, in_force)
        entries.append(_entry(key, value, places, read_only=False))
    return entries


def plugin_key(name: str) -> ConfigKey:
    """A stand-in for a key only a plugin knows."""
    return ConfigKey(
        name=name,
        type=ConfigType.UNKNOWN,
        default=None,
        kafka_default=None,
        importance="LOW",
        update_mode=UpdateMode.READ_ONLY,
        rule="",
        effect=Effect.PLANNED,
        internal=False,
        documentation="Belongs to a plugin.",
    )


def _in_force(key: ConfigKey, settings: Mapping[str, str]) -> Value:
    return key.parse(settings.get(key.name, key.default))


def _own_place(key: ConfigKey, value: Value, source: ConfigSource) -> ConfigSynonym:
    text = None if key.sensitive else render_value(key.type, value)
    return ConfigSynonym(name=key.name, value=text, source=source)


def _default_place(key: ConfigKey) -> ConfigSynonym:
    return ConfigSynonym(name=key.name, value=key.default, source=ConfigSource.DEFAULT_CONFIG)


def _broker_places(name: str, layers: ConfigLayers) -> list[ConfigSynonym]:
    """Where ``name`` or a synonym of it is given, the strongest first.

    Kafka drops what comes before the first place that uses the very name: so a topic's retention.ms has no synonyms
    while only log.retention.hours is set.
    """
    names = broker_synonyms(name)
    key = broker_key(name)
    hidden = key is None or key.sensitive
    searched: tuple[tuple[ConfigSource, Callable[[str], str | None]], ...] = (
        (ConfigSource.DYNAMIC_BROKER_CONFIG, layers.broker.get),
        (ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG, layers.cluster.get),
        (ConfigSource.STATIC_BROKER_CONFIG, layers.static.get),
        (ConfigSource.DEFAULT_CONFIG, _default_of),
    )
    places = [
        ConfigSynonym(name=synonym, value=None if hidden else text, source=source)
        for source, find in searched
        for synonym in names
        if (text := find(synonym)) is not None
    ]
    first = next((index for index, place in enumerate(places) if place.name == name), len(places))
    return places[first:]


def _default_of(name: str) -> str | None:
    key = broker_key(name)
    return None if key is None or name in NOT_IN_KAFKAS_TABLE else key.default


def _entry(key: ConfigKey, value: Value, synonyms: list[ConfigSynonym], *, read_only: bool) -> ConfigEntry:
    return ConfigEntry(
        name=key.name,
        value=None if key.sensitive else render_value(key.type, value),
        source=synonyms[0].source if synonyms else ConfigSource.DEFAULT_CONFIG,
        read_only=read_only,
        sensitive=key.sensitive,
        type=key.type,
        documentation=key.documentation,
        synonyms=tuple(synonyms),
    )

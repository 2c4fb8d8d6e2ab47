"""What may be changed on a running broker, and to what (KIP-226): Kafka's rules, in Kafka's order.

What is checked is what would be set after the change, not the change: taking a setting away is always allowed.
A setting of one listener (``listener.name.x.key``) may be set per broker whatever its key; a key that nobody knows may
be set too: it may be a plugin's.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ottla.config.broker import BrokerConfig, RequirementFailed
from ottla.config.definitions import base_of_listener_key, broker_key
from ottla.config.describe import ConfigLayers
from ottla.config.key import ConfigError, UpdateMode

_ONLY_WITH_LISTENER: Final = frozenset(
    (
        "ssl.key.password",
        "ssl.keystore.certificate.chain",
        "ssl.keystore.key",
        "ssl.keystore.location",
        "ssl.keystore.password",
        "ssl.keystore.type",
        "ssl.truststore.certificates",
        "ssl.truststore.location",
        "ssl.truststore.password",
        "ssl.truststore.type",
    )
)

_OF_ALL_LISTENERS: Final = frozenset(("max.connection.creation.rate", "max.connections", "num.network.threads"))
"""What a listener of this name may have on every broker."""

_OF_THE_AUTHORIZER: Final = frozenset(("allow.everyone.if.no.acl.found", "super.users"))
"""Kafka's broker does not know them, so it takes them for a plugin's."""

_THREADS: Final = (
    "background.threads",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "remote.log.manager.copier.thread.pool.size",
    "remote.log.manager.expiration.thread.pool.size",
    "remote.log.manager.follower.thread.pool.size",
    "remote.log.reader.threads",
)
"""Numbers of threads change by half or double at a time."""


def check_broker_settings(after: Mapping[str, str], layers: ConfigLayers, *, per_broker: bool) -> None:
    """Whether ``after`` may be the dynamic settings of this broker, or (not ``per_broker``) those of all brokers.

    ``layers`` are the settings now. Raises ``ConfigError``.
    """
    _refuse(
        (name for name in after if _is_read_only(name)),
        "Cannot update these configs dynamically",
    )
    _refuse(
        (name for name in after if name in _ONLY_WITH_LISTENER),
        "These security configs can be dynamically updated only per-listener using the listener prefix",
    )
    for name, text in after.items():
        key = broker_key(base_of_listener_key(name) or name)
        if key is not None and key.update_mode is not UpdateMode.READ_ONLY and name not in _OF_THE_AUTHORIZER:
            key.parse(text)
    if not per_broker:
        _refuse(
            (name for name in after if _is_per_broker(name)),
            "Cannot update these configs at default cluster level, broker id must be specified",
        )
    _check_whole(after, layers, per_broker=per_broker)


def in_force(layers: ConfigLayers) -> Mapping[str, str]:
    """The settings in force that a broker knows: what a ``BrokerConfig`` is parsed from."""
    return {
        name: text
        for name, text in layers.merged.items()
        if broker_key(name) is not None and (name not in _OF_THE_AUTHORIZER or layers.static.get(name) == text)
    }


def _check_whole(after: Mapping[str, str], layers: ConfigLayers, *, per_broker: bool) -> None:
    changed = ConfigLayers(
        static=layers.static,
        cluster=layers.cluster if per_broker else after,
        broker=after if per_broker else layers.broker,
    )
    before, now = in_force(layers), in_force(changed)
    try:
        BrokerConfig.parse(now)
    except RequirementFailed as error:
        raise ConfigError(error.key, f"requirement failed: {error.message}") from error
    for name in _THREADS:
        _check_threads(name, _number(name, before), _number(name, now))
    _check_cleaner_threads(_number("log.cleaner.threads", before), _number("log.cleaner.threads", now))
    for name in ("max.connections", "max.connection.creation.rate"):
        if _number(name, now) != _number(name, before) and _number(name, now) <= 0:
            raise _unfit(name, f"Invalid {name} {_number(name, now)}")


def _check_threads(name: str, old: int, new: int) -> None:
    if new == old:
        return
    fault = None
    if new < old // 2:
        fault = f"value should be at least half the current value {old}"
    elif new > old * 2:
        fault = f"value should not be greater than double the current value {old}"
    if fault is not None:
        raise _unfit(name, f"Dynamic thread count update validation failed for {name}={new}, {fault}")


def _check_cleaner_threads(old: int, new: int) -> None:
    name = "log.cleaner.threads"
    if new < 1:
        raise _unfit(name, "Log cleaner threads should be at least 1")
    if new < old // 2:
        raise _unfit(name, f"Log cleaner threads cannot be reduced to less than half the current value {old}")
    if new > old * 2:
        raise _unfit(name, f"Log cleaner threads cannot be increased to more than double the current value {old}")


def _unfit(name: str, fault: str) -> ConfigError:
    return ConfigError(
        name,
        f"Invalid value org.apache.kafka.common.config.ConfigException: {fault} for configuration Invalid dynamic "
        "configuration",
    )


def _number(name: str, settings: Mapping[str, str]) -> int:
    key = broker_key(name)
    assert key is not None, name
    value = key.parse(settings.get(name, key.default))
    assert isinstance(value, int), name
    return value


def _is_read_only(name: str) -> bool:
    key = broker_key(name)
    if key is None or name in _OF_THE_AUTHORIZER or base_of_listener_key(name) is not None:
        return False
    return key.update_mode is UpdateMode.READ_ONLY


def _is_per_broker(name: str) -> bool:
    base = base_of_listener_key(name)
    if base is not None:
        return base not in _OF_ALL_LISTENERS
    key = broker_key(name)
    return key is not None and key.update_mode is UpdateMode.PER_BROKER


def _refuse(names: Iterable[str], message: str) -> None:
    found = list(names)
    if found:
        raise ConfigError(found[0], f"{message}: [{', '.join(found)}]")

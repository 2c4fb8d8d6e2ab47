"""Changing configurations, one key at a time or all at once; validated before anything is written.

Where eligible leader replicas are on, min.insync.replicas belongs to the cluster and the topics: one broker cannot have
its own, and the cluster's cannot be removed (KIP-966).
"""

import re
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final

from msgspec import Struct

from ottla.config.definitions import (
    NOT_IN_KAFKAS_TABLE,
    broker_key,
    group_key,
    require_group_key,
    topic_key,
)
from ottla.config.key import ConfigError, ConfigType, parse_value
from ottla.config.log import LogConfig, topic_default
from ottla.metadata.controller.state import ControllerState, MetadataDecision, Problem
from ottla.metadata.image import ConfigResource, ResourceType
from ottla.metadata.record import MetadataRecord
from ottla.model import Decision
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.config_record import ConfigRecord

VALUE_LENGTH_MAX: Final = 32767
MIN_ISR: Final = "min.insync.replicas"

CLIENT_METRICS_KEYS: Final[Mapping[str, str]] = {"metrics": "", "interval.ms": "300000", "match": ""}
"""Keys of a client metrics subscription (KIP-714), with their defaults."""


CLIENT_SELECTORS: Final = frozenset(
    (
        "client_instance_id",
        "client_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    )
)
"""What a subscription may choose clients by."""


class ConfigOperation(IntEnum):
    """Numbered as on the wire."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class ConfigChange(Struct, frozen=True, kw_only=True):
    name: str
    operation: ConfigOperation
    value: str | None = None


ResourceChanges = Sequence[tuple[ConfigResource, Sequence[ConfigChange]]]


def decide_incremental_alter(
    state: ControllerState, changes: ResourceChanges, *, validate_only: bool
) -> MetadataDecision:
    """Answers ``list[tuple[ConfigResource, Problem | None]]``: each resource stands or falls alone."""
    records: list[MetadataRecord] = []
    outcomes: list[tuple[ConfigResource, Problem | None]] = []
    for resource, resource_changes in changes:
        try:
            records.extend(decide_resource(state, resource, resource_changes))
            outcomes.append((resource, None))
        except KafkaError as error:
            outcomes.append((resource, Problem.of(error)))
    return Decision(records=() if validate_only else tuple(records), response=outcomes)


def decide_legacy_alter(
    state: ControllerState,
    settings: Sequence[tuple[ConfigResource, Mapping[str, str]]],
    *,
    validate_only: bool,
) -> MetadataDecision:
    """As above, but ``settings`` are the whole of each resource: keys it does not name go back to their defaults."""
    changes: list[tuple[ConfigResource, Sequence[ConfigChange]]] = []
    for resource, wanted in settings:
        current = state.image.config(resource)
        updates = [
            ConfigChange(name=name, operation=ConfigOperation.SET, value=value)
            for name, value in wanted.items()
            if current.get(name) != value
        ]
        removals = [ConfigChange(name=name, operation=ConfigOperation.DELETE) for name in current if name not in wanted]
        changes.append((resource, [*updates, *removals]))
    return decide_incremental_alter(state, changes, validate_only=validate_only)


def decide_resource(
    state: ControllerState,
    resource: ConfigResource,
    changes: Sequence[ConfigChange],
    *,
    newly_created: bool = False,
) -> tuple[MetadataRecord, ...]:
    """The records of one resource. Raises ``KafkaError`` if any part of it is refused."""
    current = state.image.config(resource)
    after = dict(current)
    records: list[MetadataRecord] = []
    for change in changes:
        value = _new_value(state, resource, change, after.get(change.name))
        if value is not None and len(value.encode()) > VALUE_LENGTH_MAX:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG,
                "The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.",
            )
        # Brokers get the record even if nothing changes: it makes them read their key stores again.
        if after.get(change.name) != value or resource.type == ResourceType.BROKER:
            records.append(_record(resource, change.name, value))
        if value is None:
            after.pop(change.name, None)
        else:
            after[change.name] = value
    _check_min_isr(state, resource, changes)
    try:
        _validate(state, resource, after)
    except ConfigError as error:
        raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from error
    if not newly_created:
        _check_exists(state, resource)
    return tuple(records)


def broker_settings_after(current: Mapping[str, str], changes: Sequence[ConfigChange]) -> dict[str, str]:
    """What ``changes`` make of a broker's dynamic settings. Raises ``KafkaError`` for one that makes no sense."""
    after = dict(current)
    for change in changes:
        match change.operation:
            case ConfigOperation.SET:
                after[change.name] = change.value or ""
            case ConfigOperation.DELETE:
                after.pop(change.name, None)
            case ConfigOperation.APPEND | ConfigOperation.SUBTRACT:
                key = broker_key(change.name)
                if key is None or key.name in NOT_IN_KAFKAS_TABLE:
                    raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown config name: {change.name}")
                if key.type is not ConfigType.LIST:
                    raise KafkaError(
                        ErrorCode.INVALID_CONFIG,
                        f"Config value {change.operation.name.lower()} is not allowed for config key: {change.name}",
                    )
                after[change.name] = _edited(after.get(change.name, key.default or ""), change)
    return after


def _edited(text: str, change: ConfigChange) -> str:
    """A list with parts added or taken away."""
    parts = [part.strip() for part in text.split(",")] if text else []
    wanted = [part.strip() for part in (change.value or "").split(",")]
    if change.operation is ConfigOperation.APPEND:
        parts.extend(part for part in dict.fromkeys(wanted) if part not in parts)
    else:
        parts = [part for part in parts if part not in wanted]
    return ",".join(parts)


def _record(resource: ConfigResource, name: str, value: str | None) -> MetadataRecord:
    message = ConfigRecord(resource_type=resource.type, resource_name=resource.name, name=name, value=value)
    return MetadataRecord(message, 0)


def _new_value(state: ControllerState, resource: ConfigResource, change: ConfigChange, old: str | None) -> str | None:
    match change.operation:
        case ConfigOperation.SET:
            return change.value
        case ConfigOperation.DELETE:
            return None
        case ConfigOperation.APPEND | ConfigOperation.SUBTRACT:
            return _edit_list(state, resource, change, old)


def _edit_list(state: ControllerState, resource: ConfigResource, change: ConfigChange, old: str | None) -> str:
    if _type_of(resource, change.name) is not ConfigType.LIST:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"Can't {change.operation.name} to key {change.name} because its type is not LIST.",
        )
    return _edited(_inherited(state, resource, change.name) if old is None else old, change)


def _type_of(resource: ConfigResource, name: str) -> ConfigType | None:
    match resource.type:
        case ResourceType.TOPIC:
            key = topic_key(name)
        case ResourceType.BROKER:
            key = broker_key(name)
        case ResourceType.GROUP:
            key = group_key(name)
        case _:
            return None
    return None if key is None else key.type


def _inherited(state: ControllerState, resource: ConfigResource, name: str) -> str:
    """The text a list starts from when the resource has none of its own."""
    merged = state.layers(state.settings.node_id).merged
    if resource.type == ResourceType.TOPIC:
        value = topic_default(name, merged)
        if isinstance(value, tuple):
            return ",".join(value)
        key = topic_key(name)
    else:
        if name in merged:
            return merged[name]
        key = broker_key(name)
    return (key.default or "") if key is not None else ""


def _check_min_isr(state: ControllerState, resource: ConfigResource, changes: Sequence[ConfigChange]) -> None:
    if resource.type != ResourceType.BROKER or not state.image.elr_enabled:
        return
    for change in changes:
        if change.name != MIN_ISR:
            continue
        if resource.name:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG, "Broker-level min.insync.replicas cannot be altered while ELR is enabled."
            )
        if change.operation is ConfigOperation.DELETE:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG, "Cluster-level min.insync.replicas cannot be removed while ELR is enabled."
            )


def _validate(state: ControllerState, resource: ConfigResource, after: Mapping[str, str]) -> None:
    match resource.type:
        case ResourceType.TOPIC:
            if not resource.name:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")
            LogConfig.resolve(after, state.layers(state.settings.node_id).merged).check()
        case ResourceType.BROKER:
            _validate_broker(resource.name)
        case ResourceType.CLIENT_METRICS:
            if not resource.name:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Subscription name can't be empty")
            _validate_client_metrics(after)
        case ResourceType.GROUP:
            if not resource.name:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Default group resources are not allowed.")
            _validate_group(after, state.layers(state.settings.node_id).merged)
        case _:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown resource type {resource.type}")


def _validate_broker(name: str) -> None:
    """The settings themselves were checked by the broker that was asked: it knows what it was started with."""
    if not name:
        return
    try:
        broker_id = int(name)
    except ValueError:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Unable to parse broker name as a base 10 number.") from None
    if broker_id < 0:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Invalid negative broker ID.")


def _validate_group(after: Mapping[str, str], merged: Mapping[str, str]) -> None:
    for name, text in after.items():
        value = require_group_key(name).parse(text)
        kind, _, rest = name.partition(".")
        for bound, relation in (("min", "greater"), ("max", "less")):
            if bound == "min" and name in _LIMITS_CALLED_OTHERWISE:
                continue
            limit_name = _LIMITS_CALLED_OTHERWISE.get(name, f"group.{kind}.{bound}.{rest}")
            limit_key = broker_key(limit_name)
            if limit_key is None or not isinstance(value, int):
                continue
            limit = limit_key.parse(merged.get(limit_name, limit_key.default))
            if isinstance(limit, int) and (value < limit if bound == "min" else value > limit):
                raise ConfigError(name, f"{name} must be {relation} than or equal to {limit_name}")


_LIMITS_CALLED_OTHERWISE: Final = {"streams.num.standby.replicas": "group.streams.max.standby.replicas"}


def _validate_client_metrics(after: Mapping[str, str]) -> None:
    for name, value in after.items():
        if name not in CLIENT_METRICS_KEYS:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown client metrics configuration: {name}")
        if name == "interval.ms":
            interval_ms = parse_value(name, ConfigType.INT, value)
            if not isinstance(interval_ms, int) or not 100 <= interval_ms <= 3_600_000:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST,
                    f"Invalid value {value} for interval.ms, interval must be between 100 and 3600000 (1 hour)",
                )
        if name == "match":
            _check_client_match(value)


def _check_client_match(value: str) -> None:
    """``selector=pattern`` for each of some selectors."""
    for part in filter(None, (part.strip() for part in value.split(","))):
        selector, equals, pattern = part.partition("=")
        try:
            good = bool(equals) and selector.strip() in CLIENT_SELECTORS and bool(re.compile(pattern.strip()))
        except re.error:
            good = False
        if not good:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"Illegal client matching pattern: {part}")


def _check_exists(state: ControllerState, resource: ConfigResource) -> None:
    if resource.type == ResourceType.TOPIC and resource.name not in state.image.topics:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "The topic '" + resource.name + "' does not exist.")
    if resource.type == ResourceType.BROKER and resource.name and int(resource.name) not in state.image.brokers:
        raise KafkaError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"No broker with id {resource.name} found.")

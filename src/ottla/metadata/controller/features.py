"""Raising and lowering finalised feature levels (UpdateFeatures)."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from msgspec import Struct

from ottla.metadata.controller.state import ControllerState, MetadataDecision, Problem
from ottla.metadata.features import ELIGIBLE_LEADER_REPLICAS_VERSION, KRAFT_VERSION, METADATA_VERSION, SUPPORTED
from ottla.metadata.image import CLUSTER_DEFAULT
from ottla.metadata.record import MetadataRecord
from ottla.model import Decision
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.config_record import ConfigRecord
from ottla.wire.messages.feature_level_record import FeatureLevelRecord

MIN_ISR: Final = "min.insync.replicas"


class UpgradeType(IntEnum):
    """Numbered as on the wire."""

    UNKNOWN = 0
    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


class FeatureUpdate(Struct, frozen=True, kw_only=True):
    name: str
    level: int
    upgrade_type: int


def decide_update_features(
    state: ControllerState, updates: Sequence[FeatureUpdate], *, validate_only: bool
) -> MetadataDecision:
    """Answers ``Problem | None`` for all of them: one refusal refuses all."""
    records: list[MetadataRecord] = []
    for update in updates:
        problem = _problem(state, update)
        if problem is not None:
            message = f"The update failed for all features since the following feature had an error: {problem}"
            return Decision(response=Problem(ErrorCode.INVALID_UPDATE_VERSION, message))
        if state.image.features.get(update.name, 0) != update.level:
            records.extend(_records(state, update))
    return Decision(records=() if validate_only else tuple(records), response=None)


def _records(state: ControllerState, update: FeatureUpdate) -> list[MetadataRecord]:
    records = [MetadataRecord(FeatureLevelRecord(name=update.name, feature_level=update.level), 0)]
    if update.name == ELIGIBLE_LEADER_REPLICAS_VERSION and update.level > 0:
        records[:0] = min_isr_records(state)
    return records


def min_isr_records(state: ControllerState) -> list[MetadataRecord]:
    """Eligible leader replicas need one min.insync.replicas for the whole cluster, written in the log."""
    if MIN_ISR in state.image.config(CLUSTER_DEFAULT):
        return []
    value = state.settings.static_config.get(MIN_ISR, "1")
    record = ConfigRecord(
        resource_type=CLUSTER_DEFAULT.type, resource_name=CLUSTER_DEFAULT.name, name=MIN_ISR, value=value
    )
    return [MetadataRecord(record, 0)]


def _problem(state: ControllerState, update: FeatureUpdate) -> str | None:
    """What is wrong with one update, worded as Kafka words it."""
    fault = _check(state, update)
    if fault is None:
        return None
    current = state.image.features.get(update.name, 0)
    if update.name == METADATA_VERSION and fault.startswith("Refusing"):
        return f"Unsupported metadata.version downgrade from {current} to {update.level}. {fault}"
    return f"Invalid update version {update.level} for feature {update.name}. {fault}"


def _check(state: ControllerState, update: FeatureUpdate) -> str | None:
    supported = SUPPORTED.get(update.name)
    if update.upgrade_type not in (UpgradeType.UPGRADE, UpgradeType.SAFE_DOWNGRADE, UpgradeType.UNSAFE_DOWNGRADE):
        return "The controller does not support the given upgrade type."
    if update.level < 0:
        return "A feature version cannot be less than 0."
    if supported is None or update.name == KRAFT_VERSION:
        if supported is None:
            return f"Local controller {state.settings.node_id} does not support this feature."
        return "The voters are fixed by the configuration of the nodes."
    if update.level != 0 or update.name == METADATA_VERSION:
        unable = _unable(state, update)
        if unable is not None:
            return unable
    return _wrong_direction(state.image.features.get(update.name, 0), update)


def _wrong_direction(current: int, update: FeatureUpdate) -> str | None:
    if update.level < current:
        if update.upgrade_type == UpgradeType.UPGRADE:
            return (
                "Can't downgrade the version of this feature without setting the upgrade type to either safe or "
                "unsafe downgrade."
            )
        if update.name == METADATA_VERSION:
            return "Refusing to perform the requested downgrade because it might delete metadata information."
    elif update.level > current and update.upgrade_type != UpgradeType.UPGRADE:
        return "Can't downgrade to a newer version."
    return None


def _unable(state: ControllerState, update: FeatureUpdate) -> str | None:
    """The first node that cannot work at that level."""
    own = SUPPORTED[update.name]
    if not own.lowest <= update.level <= own.highest:
        return f"Local controller {state.settings.node_id} only supports versions {own.lowest}-{own.highest}"
    for broker in state.image.brokers.values():
        found = next((feature for feature in broker.features if feature.name == update.name), None)
        if found is None:
            return f"Broker {broker.broker_id} does not support this feature."
        if not found.lowest <= update.level <= found.highest:
            return f"Broker {broker.broker_id} only supports versions {found.lowest}-{found.highest}"
    return None

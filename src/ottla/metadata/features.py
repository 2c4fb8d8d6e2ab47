"""Feature levels: what this release can do, what a fresh cluster finalises, and what a metadata.version implies.

Source: Kafka 4.3.1 (``MetadataVersion``, ``Feature``). Ottla writes every record in the version the finalised
metadata.version asks for, so that a directory of an older cluster stays readable by that cluster.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

METADATA_VERSION: Final = "metadata.version"
KRAFT_VERSION: Final = "kraft.version"
ELIGIBLE_LEADER_REPLICAS_VERSION: Final = "eligible.leader.replicas.version"
TRANSACTION_VERSION: Final = "transaction.version"

LATEST_METADATA_VERSION: Final = 30
"""4.3-IV0."""


class FeatureRange(NamedTuple):
    """The levels a node can work with."""

    name: str
    lowest: int
    highest: int


SUPPORTED: Final[Mapping[str, FeatureRange]] = {
    feature.name: feature
    for feature in (
        FeatureRange(METADATA_VERSION, 7, LATEST_METADATA_VERSION),
        FeatureRange(ELIGIBLE_LEADER_REPLICAS_VERSION, 0, 1),
        FeatureRange("group.version", 0, 1),
        FeatureRange(KRAFT_VERSION, 0, 1),
        FeatureRange("share.version", 0, 1),
        FeatureRange("streams.version", 0, 1),
        FeatureRange(TRANSACTION_VERSION, 0, 2),
    )
}

FRESH_LEVELS: Final[tuple[tuple[str, int], ...]] = (
    (METADATA_VERSION, LATEST_METADATA_VERSION),
    (ELIGIBLE_LEADER_REPLICAS_VERSION, 1),
    ("group.version", 1),
    ("share.version", 1),
    ("streams.version", 1),
    (TRANSACTION_VERSION, 2),
)
"""What ``format`` writes, in the order it writes it."""


def controller_features() -> tuple[FeatureRange, ...]:
    """In the order in which a Java controller registers them."""
    names = (
        "group.version",
        KRAFT_VERSION,
        METADATA_VERSION,
        "share.version",
        "streams.version",
        TRANSACTION_VERSION,
        ELIGIBLE_LEADER_REPLICAS_VERSION,
    )
    return tuple(SUPPORTED[name] for name in names)


def broker_features() -> tuple[FeatureRange, ...]:
    """In the order in which a Java broker registers them."""
    names = (
        "group.version",
        "streams.version",
        TRANSACTION_VERSION,
        ELIGIBLE_LEADER_REPLICAS_VERSION,
        METADATA_VERSION,
        "share.version",
        KRAFT_VERSION,
    )
    return tuple(SUPPORTED[name] for name in names)


class RecordVersions:
    """Which version of each record a metadata.version asks for."""

    __slots__ = ("metadata_version",)

    def __init__(self, metadata_version: int) -> None:
        self.metadata_version = metadata_version

    @property
    def register_broker(self) -> int:
        return self._step((8, 2), (17, 3), (30, 4), lowest=1)

    @property
    def partition(self) -> int:
        return self._step((17, 1), (23, 2), lowest=0)

    @property
    def partition_change(self) -> int:
        return self._step((17, 1), (23, 2), lowest=0)

    @property
    def controller_registration_supported(self) -> bool:
        return self.metadata_version >= 15

    @property
    def transactions_supported(self) -> bool:
        return self.metadata_version >= 13

    @property
    def directories_supported(self) -> bool:
        return self.metadata_version >= 17

    @property
    def cordoned_directories_supported(self) -> bool:
        return self.metadata_version >= 30

    @property
    def leader_epoch_bump_on_isr_shrink(self) -> bool:
        return self.metadata_version < 12

    def _step(self, *steps: tuple[int, int], lowest: int) -> int:
        version = lowest
        for since, value in steps:
            if self.metadata_version >= since:
                version = value
        return version

"""The limits and times a group shard obeys; Kafka's defaults."""

from collections.abc import Mapping
from enum import Enum

from msgspec import Struct


class MigrationPolicy(Enum):
    """Which way a group with members may change its protocol; empty groups always may."""

    DISABLED = "disabled"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    BIDIRECTIONAL = "bidirectional"

    @property
    def allows_upgrade(self) -> bool:
        return self in (MigrationPolicy.UPGRADE, MigrationPolicy.BIDIRECTIONAL)

    @property
    def allows_downgrade(self) -> bool:
        return self in (MigrationPolicy.DOWNGRADE, MigrationPolicy.BIDIRECTIONAL)


class ConsumerGroupTimes(Struct, frozen=True, kw_only=True):
    """What a consumer group may have of its own: ``consumer.*`` of a group resource."""

    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 5_000
    assignment_interval_ms: int = 1_000
    """Least time between two target assignments: what joins in between is assigned together."""


class ConsumerGroupSettings(Struct, frozen=True, kw_only=True):
    """``group.consumer.*`` of the broker; ``own`` holds the times of groups that have some of their own."""

    times: ConsumerGroupTimes = ConsumerGroupTimes()
    own: Mapping[str, ConsumerGroupTimes] = {}
    assignors: tuple[str, ...] = ("uniform", "range")
    """The first serves groups whose members ask for none."""
    max_size: int = 2**31 - 1
    migration_policy: MigrationPolicy = MigrationPolicy.BIDIRECTIONAL
    regex_refresh_interval_ms: int = 600_000

    def times_of(self, group_id: str) -> ConsumerGroupTimes:
        return self.own.get(group_id, self.times)


class GroupSettings(Struct, frozen=True, kw_only=True):
    """``group.*``, ``offset.*`` and ``offsets.*`` of the broker, under the names of their settings."""

    initial_rebalance_delay_ms: int = 3_000
    min_session_timeout_ms: int = 6_000
    max_session_timeout_ms: int = 1_800_000
    max_size: int = 2**31 - 1
    offset_metadata_max_bytes: int = 4_096
    offsets_retention_ms: int = 10_080 * 60_000
    offsets_retention_check_interval_ms: int = 600_000
    new_member_join_timeout_ms: int = 300_000
    """How long a member that never had an id may stay parked in a join; no setting in Apache Kafka either."""
    consumer: ConsumerGroupSettings = ConsumerGroupSettings()

"""The limits and times a group shard obeys; Kafka's defaults."""

from msgspec import Struct


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

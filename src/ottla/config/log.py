"""The configuration of one partition's log: the topic's own settings over what the broker gives as default."""

from collections.abc import Mapping
from typing import Any, Self

from msgspec import Struct

from ottla.config.definitions import TOPIC_SYNONYMS, require_broker_key, require_topic_key, topic_keys
from ottla.config.key import ConfigError, Value


class LogConfig(Struct, frozen=True, kw_only=True):
    """Named as the topic keys, with ``_`` for ``.``; milliseconds and bytes. The defaults are Kafka's."""

    cleanup_policy: frozenset[str] = frozenset(("delete",))
    compression_gzip_level: int = -1
    compression_lz4_level: int = 9
    compression_type: str = "producer"
    compression_zstd_level: int = 3
    delete_retention_ms: int = 86_400_000
    file_delete_delay_ms: int = 60_000
    flush_messages: int = 2**63 - 1
    flush_ms: int = 2**63 - 1
    follower_replication_throttled_replicas: tuple[str, ...] = ()
    index_interval_bytes: int = 4096
    leader_replication_throttled_replicas: tuple[str, ...] = ()
    local_retention_bytes: int = -2
    local_retention_ms: int = -2
    max_compaction_lag_ms: int = 2**63 - 1
    max_message_bytes: int = 1_048_588
    message_timestamp_after_max_ms: int = 3_600_000
    message_timestamp_before_max_ms: int = 2**63 - 1
    message_timestamp_type: str = "CreateTime"
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    min_insync_replicas: int = 1
    preallocate: bool = False
    remote_log_copy_disable: bool = False
    remote_log_delete_on_disable: bool = False
    remote_storage_enable: bool = False
    retention_bytes: int = -1
    retention_ms: int = 604_800_000
    segment_bytes: int = 1_073_741_824
    segment_index_bytes: int = 10_485_760
    segment_jitter_ms: int = 0
    segment_ms: int = 604_800_000
    unclean_leader_election_enable: bool = False

    @property
    def compact(self) -> bool:
        return "compact" in self.cleanup_policy

    @property
    def delete(self) -> bool:
        return "delete" in self.cleanup_policy

    @classmethod
    def resolve(cls, overrides: Mapping[str, str], broker: Mapping[str, str]) -> Self:
        """The topic's ``overrides`` over the ``broker`` keys that are set over the defaults.

        ``broker`` is static and dynamic settings merged (``ConfigLayers.merged``).
        Raises ``ConfigError`` for an unknown topic key or a value it cannot take.
        """
        values = {name: require_topic_key(name).parse(text) for name, text in overrides.items()}
        for name in TOPIC_SYNONYMS:
            if name not in values and (inherited := topic_default(name, broker)) is not None:
                values[name] = inherited
        internal_segment_bytes = values.pop("internal.segment.bytes", None)
        if internal_segment_bytes is not None:
            values["segment.bytes"] = internal_segment_bytes
        return cls(**{name.replace(".", "_"): _as_field(name, value) for name, value in values.items()})

    @classmethod
    def in_force(cls, overrides: Mapping[str, str], broker: Mapping[str, str]) -> tuple[Self, list[ConfigError]]:
        """As ``resolve``, but passing over what cannot be used, which another release may have written, or somebody by
        hand; with the reasons. ``broker`` must be usable."""
        usable = dict(overrides)
        faults: list[ConfigError] = []
        while True:
            try:
                return cls.resolve(usable, broker), faults
            except ConfigError as error:
                if usable.pop(error.key, None) is None:
                    raise
                faults.append(error)

    def check(self) -> None:
        """Rules over more than one key, for who sets them: in force they may meet, one being the broker's and changed
        later. Raises ``ConfigError``."""
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms:
            raise ConfigError(
                "min.compaction.lag.ms",
                f"conflict topic config setting min.compaction.lag.ms ({self.min_compaction_lag_ms}) > "
                f"max.compaction.lag.ms ({self.max_compaction_lag_ms})",
            )


def topic_default(name: str, broker: Mapping[str, str]) -> Value:
    """What the ``broker`` keys that are set give for a topic key; ``None`` if none of its synonyms is set."""
    for synonym, factor in TOPIC_SYNONYMS.get(name, ()):
        text = broker.get(synonym)
        if text is not None:
            value = require_broker_key(synonym).parse(text)
            if isinstance(value, int) and factor != 1:
                # Kafka keeps "for ever" through the change of unit.
                return value if value < 0 else value * factor
            return value
    return None


def effective_topic_values(overrides: Mapping[str, str], broker: Mapping[str, str]) -> Mapping[str, Value]:
    """Every topic key with its value in force, by name; internal keys only where they are set."""
    values: dict[str, Value] = {}
    for key in topic_keys():
        if key.name in overrides:
            values[key.name] = key.parse(overrides[key.name])
        elif not key.internal:
            inherited = topic_default(key.name, broker)
            values[key.name] = key.parse(key.default) if inherited is None else inherited
    return values


def _as_field(name: str, value: Value) -> Any:
    return frozenset(value) if name == "cleanup.policy" and isinstance(value, tuple) else value

"""What decisions are made from: the image with everything appended so far, the settings, and who was heard of when.

The image here runs ahead of the committed one: a decision sees the records of those before it. If they are lost with
the leadership, so is this state; the next leader starts from its own log.
"""

from collections.abc import Mapping
from random import Random
from typing import Final, NamedTuple

from msgspec import Struct, field

from ottla.config.describe import ConfigLayers
from ottla.metadata.controller.sessions import BrokerSessions
from ottla.metadata.delta import ImageDelta
from ottla.metadata.image import (
    CLUSTER_DEFAULT,
    BrokerRegistration,
    ClusterImage,
    ConfigResource,
    Endpoint,
    ResourceType,
)
from ottla.metadata.record import MetadataRecord
from ottla.model import Decision, Uuid
from ottla.wire.errors import ErrorCode, KafkaError

RECORDS_PER_OPERATION_MAX: Final = 10_000
"""Partitions one request may create, as in Kafka."""


class Problem(NamedTuple):
    """Why one item of a request was refused."""

    code: ErrorCode
    message: str | None = None

    @classmethod
    def of(cls, error: KafkaError) -> "Problem":
        return cls(error.code, error.message)


MetadataDecision = Decision[MetadataRecord, object]


class ControllerSettings(Struct, frozen=True, kw_only=True):
    """From the node's configuration. ``static_config`` are the broker keys set in its file or on its command line."""

    cluster_id: str
    node_id: int
    incarnation_id: Uuid = Uuid.ZERO
    endpoints: tuple[Endpoint, ...] = ()
    default_partitions: int = 1
    default_replication_factor: int = 1
    broker_session_timeout_ms: int = 9000
    idle_record_interval_ms: int = 0
    """How often an idle leader writes a NoOp record; 0: never."""
    leader_rebalance_interval_ms: int = 300_000
    """How often leaders move back to preferred replicas; 0: never."""
    static_config: Mapping[str, str] = field(default_factory=dict)
    bootstrap: tuple[MetadataRecord, ...] = ()
    """What the first leader of an empty log writes: ``bootstrap.checkpoint``."""


class ControllerState:
    """Mutated only by ``apply_all`` (replicated) and by what the clock and heartbeats tell (soft)."""

    def __init__(self, settings: ControllerSettings, image: ClusterImage, *, rng: Random) -> None:
        self.settings = settings
        self.image = image
        self.rng = rng
        self.next_offset = image.provenance.offset + 1
        """Where the next record will be written."""
        self.sessions = BrokerSessions(settings.broker_session_timeout_ms, own_broker_id=settings.node_id)
        self.last_append_ms = 0
        self.next_rebalance_ms = 0
        self._colliding: dict[str, dict[str, None]] = {}
        self._merged_of: Mapping[ConfigResource, Mapping[str, str]] | None = None
        self._merged: Mapping[str, str] = {}
        for name in image.topics:
            self._note_name(name)

    def apply_all(self, records: tuple[MetadataRecord, ...], base_offset: int) -> None:
        """Fold records written from ``base_offset`` on."""
        delta = ImageDelta(self.image)
        for record in records:
            delta.apply(record)
        self.image = delta.finish(self.image.provenance)
        for topic in delta.created_topics():
            self._note_name(topic.name)
        for gone in delta.deleted_topics.values():
            self._colliding.get(gone.name.replace(".", "_"), {}).pop(gone.name, None)
        for broker_id in delta.changed_brokers:
            if broker_id not in self.image.brokers:
                self.sessions.forget(broker_id)
        self.next_offset = base_offset + len(records)

    def skip_to(self, next_offset: int) -> None:
        """The log went on without a metadata record (a control batch)."""
        self.next_offset = next_offset

    # --- questions --------------------------------------------------------------------------------------------------

    def is_active(self, broker_id: int) -> bool:
        broker = self.image.brokers.get(broker_id)
        return broker is not None and broker.active

    def require_broker(self, broker_id: int, broker_epoch: int) -> BrokerRegistration:
        """Raises StaleBrokerEpoch for anyone but the broker as it is registered now."""
        broker = self.image.brokers.get(broker_id)
        if broker is None:
            message = f"No broker registration found for broker id {broker_id}"
            raise KafkaError(ErrorCode.STALE_BROKER_EPOCH, message)
        if broker.epoch != broker_epoch:
            message = f"Expected broker epoch {broker.epoch}, but got broker epoch {broker_epoch}"
            raise KafkaError(ErrorCode.STALE_BROKER_EPOCH, message)
        return broker

    def layers(self, broker_id: int | None = None) -> ConfigLayers:
        """The broker keys as this node sees them: its own file, the cluster's and one broker's dynamic settings."""
        own = {} if broker_id is None else self.image.config(ConfigResource(ResourceType.BROKER, str(broker_id)))
        return ConfigLayers(static=self.settings.static_config, cluster=self.image.config(CLUSTER_DEFAULT), broker=own)

    def topic_setting(self, topic: str, name: str) -> str | None:
        """The text in force for a topic key whose broker key has the same name; ``None``: the default."""
        own = self.image.topic_config(topic).get(name)
        if own is not None:
            return own
        if self._merged_of is not self.image.configs:
            # Asked for every partition when a broker goes: merged once for all that see the same settings.
            self._merged_of, self._merged = self.image.configs, self.layers(self.settings.node_id).merged
        return self._merged.get(name)

    def min_isr(self, topic: str) -> int:
        return int(self.topic_setting(topic, "min.insync.replicas") or 1)

    def unclean_election_enabled(self, topic: str) -> bool:
        return (self.topic_setting(topic, "unclean.leader.election.enable") or "false").strip().lower() == "true"

    def colliding_topic(self, name: str) -> str | None:
        """A topic whose name differs only in dots and underscores: their metrics would share one name."""
        if "." not in name and "_" not in name:
            return None
        return next(iter(self._colliding.get(name.replace(".", "_"), {})), None)

    def _note_name(self, name: str) -> None:
        if "." in name or "_" in name:
            self._colliding.setdefault(name.replace(".", "_"), {})[name] = None

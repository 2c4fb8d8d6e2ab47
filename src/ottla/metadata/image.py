"""The cluster as it is at one offset of the metadata log: immutable values, shared between one image and the next.

Nothing here is changed after it was made; a new image copies the maps that changed and shares everything else (a change
of one topic copies the map of topics, not their partitions). Maps iterate in the order of their records.
"""

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple

from msgspec import Struct, field

from ottla.metadata.features import ELIGIBLE_LEADER_REPLICAS_VERSION, METADATA_VERSION, FeatureRange, RecordVersions
from ottla.model import Uuid
from ottla.model.internal_topics import INTERNAL_TOPICS

NO_LEADER: Final = -1

DIRECTORY_MIGRATING: Final = Uuid(bytes(16))
DIRECTORY_UNASSIGNED: Final = Uuid(bytes(15) + b"\x01")
DIRECTORY_LOST: Final = Uuid(bytes(15) + b"\x02")


class ResourceType(IntEnum):
    """What a configuration belongs to, numbered as on the wire."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class ConfigResource(NamedTuple):
    """``name`` is empty for the default of all brokers."""

    type: int
    name: str


CLUSTER_DEFAULT: Final = ConfigResource(ResourceType.BROKER, "")


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a node listens; ``name`` is the listener's."""

    name: str
    host: str
    port: int
    security_protocol: int = 0


class BrokerRegistration(Struct, frozen=True, kw_only=True):
    """A broker as it registered, and whether it may serve. ``epoch`` is the offset of its registration."""

    broker_id: int
    epoch: int
    incarnation_id: Uuid
    endpoints: tuple[Endpoint, ...] = ()
    features: tuple[FeatureRange, ...] = ()
    rack: str | None = None
    fenced: bool = True
    in_controlled_shutdown: bool = False
    log_dirs: tuple[Uuid, ...] = ()
    cordoned_log_dirs: tuple[Uuid, ...] | None = None

    @property
    def active(self) -> bool:
        """Whether it may lead and be in sync."""
        return not self.fenced and not self.in_controlled_shutdown

    def endpoint(self, listener_name: str) -> Endpoint | None:
        return next((endpoint for endpoint in self.endpoints if endpoint.name == listener_name), None)

    def has_online_dir(self, directory: Uuid) -> bool:
        if directory in (DIRECTORY_UNASSIGNED, DIRECTORY_MIGRATING):
            return True
        if directory == DIRECTORY_LOST:
            return False
        return not self.log_dirs or directory in self.log_dirs

    @property
    def all_dirs_cordoned(self) -> bool:
        """Whether no directory takes new partitions."""
        cordoned = self.cordoned_log_dirs
        return cordoned is not None and len(cordoned) > 0 and all(directory in cordoned for directory in self.log_dirs)

    @property
    def default_dir(self) -> Uuid:
        """Where a new replica goes: the broker's only directory, else it chooses itself."""
        return self.log_dirs[0] if len(self.log_dirs) == 1 else DIRECTORY_UNASSIGNED


class ControllerRegistration(Struct, frozen=True, kw_only=True):
    controller_id: int
    incarnation_id: Uuid
    endpoints: tuple[Endpoint, ...] = ()
    features: tuple[FeatureRange, ...] = ()
    zk_migration_ready: bool = False


class PartitionImage(Struct, frozen=True, kw_only=True):
    """One partition. ``elr``: eligible leader replicas (KIP-966); ``directories`` runs parallel to ``replicas``."""

    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    leader: int
    leader_epoch: int
    partition_epoch: int
    removing_replicas: tuple[int, ...] = ()
    adding_replicas: tuple[int, ...] = ()
    recovering: bool = False
    """Elected uncleanly, and not yet recovered (LeaderRecoveryState)."""
    directories: tuple[Uuid, ...] = ()
    elr: tuple[int, ...] = ()
    last_known_elr: tuple[int, ...] = ()

    def directory_of(self, broker_id: int) -> Uuid:
        if len(self.directories) != len(self.replicas) or broker_id not in self.replicas:
            return DIRECTORY_MIGRATING
        return self.directories[self.replicas.index(broker_id)]


class TopicImage(Struct, frozen=True, kw_only=True):
    """A topic; ``partitions[i]`` is partition ``i``."""

    name: str
    topic_id: Uuid
    partitions: tuple[PartitionImage, ...]

    @property
    def internal(self) -> bool:
        return self.name in INTERNAL_TOPICS


class Provenance(Struct, frozen=True, kw_only=True):
    """Up to where the image reaches: the last record folded in, its epoch, when it was appended."""

    offset: int = -1
    epoch: int = -1
    appended_ms: int = -1


class QuotaEntity(NamedTuple):
    """(entity type, name or ``None`` for the default) pairs, sorted by type."""

    parts: tuple[tuple[str, str | None], ...]


class ClusterImage(Struct, frozen=True, kw_only=True):
    """Everything that metadata records say. ACLs, credentials and tokens are kept as their records."""

    provenance: Provenance = Provenance()
    features: Mapping[str, int] = field(default_factory=dict)
    brokers: Mapping[int, BrokerRegistration] = field(default_factory=dict)
    controllers: Mapping[int, ControllerRegistration] = field(default_factory=dict)
    topics: Mapping[str, TopicImage] = field(default_factory=dict)
    topics_by_id: Mapping[Uuid, TopicImage] = field(default_factory=dict)
    configs: Mapping[ConfigResource, Mapping[str, str]] = field(default_factory=dict)
    next_producer_id: int = 0
    client_quotas: Mapping[QuotaEntity, Mapping[str, float]] = field(default_factory=dict)
    acls: Mapping[Uuid, Any] = field(default_factory=dict)
    scram_credentials: Mapping[tuple[str, int], Any] = field(default_factory=dict)
    delegation_tokens: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metadata_version(self) -> int:
        return self.features.get(METADATA_VERSION, 7)

    @property
    def versions(self) -> RecordVersions:
        return RecordVersions(self.metadata_version)

    @property
    def elr_enabled(self) -> bool:
        return self.features.get(ELIGIBLE_LEADER_REPLICAS_VERSION, 0) > 0

    @property
    def empty(self) -> bool:
        """Whether no record was ever folded in: a log nobody wrote to."""
        return not self.features and not self.brokers and not self.topics and not self.configs

    def config(self, resource: ConfigResource) -> Mapping[str, str]:
        """The overrides of one resource; empty where there are none."""
        return self.configs.get(resource, {})

    def topic_config(self, topic: str) -> Mapping[str, str]:
        return self.config(ConfigResource(ResourceType.TOPIC, topic))

    def partition(self, topic: str, partition: int) -> PartitionImage | None:
        found = self.topics.get(topic)
        if found is None or not 0 <= partition < len(found.partitions):
            return None
        return found.partitions[partition]

    def active_brokers(self) -> Iterator[BrokerRegistration]:
        return (broker for broker in self.brokers.values() if not broker.fenced)

"""From one image to the next: folds records, remembers what they touched.

A delta copies a map when the first record touches it. ``finish`` closes it into a new image; after that it tells
listeners what is different: topics and partitions created, changed and deleted, and which resources' settings changed.
Records that contradict the image (an unknown topic id, say) are ``InconsistentLog``: the log is damaged or foreign.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from msgspec import Struct, field
from msgspec.structs import replace

from ottla.metadata.features import FeatureRange
from ottla.metadata.image import (
    BrokerRegistration,
    ClusterImage,
    ConfigResource,
    ControllerRegistration,
    Endpoint,
    PartitionImage,
    Provenance,
    QuotaEntity,
    ResourceType,
    TopicImage,
)
from ottla.metadata.record import MetadataRecord, UnknownRecord
from ottla.model import Uuid

if TYPE_CHECKING:
    from ottla.wire.messages.access_control_entry_record import AccessControlEntryRecord
    from ottla.wire.messages.broker_registration_change_record import BrokerRegistrationChangeRecord
    from ottla.wire.messages.clear_elr_record import ClearElrRecord
    from ottla.wire.messages.client_quota_record import ClientQuotaRecord
    from ottla.wire.messages.config_record import ConfigRecord
    from ottla.wire.messages.delegation_token_record import DelegationTokenRecord
    from ottla.wire.messages.feature_level_record import FeatureLevelRecord
    from ottla.wire.messages.fence_broker_record import FenceBrokerRecord
    from ottla.wire.messages.partition_change_record import PartitionChangeRecord
    from ottla.wire.messages.partition_record import PartitionRecord
    from ottla.wire.messages.producer_ids_record import ProducerIdsRecord
    from ottla.wire.messages.register_broker_record import RegisterBrokerRecord
    from ottla.wire.messages.register_controller_record import RegisterControllerRecord
    from ottla.wire.messages.remove_access_control_entry_record import RemoveAccessControlEntryRecord
    from ottla.wire.messages.remove_delegation_token_record import RemoveDelegationTokenRecord
    from ottla.wire.messages.remove_topic_record import RemoveTopicRecord
    from ottla.wire.messages.remove_user_scram_credential_record import RemoveUserScramCredentialRecord
    from ottla.wire.messages.topic_record import TopicRecord
    from ottla.wire.messages.unfence_broker_record import UnfenceBrokerRecord
    from ottla.wire.messages.unregister_broker_record import UnregisterBrokerRecord
    from ottla.wire.messages.user_scram_credential_record import UserScramCredentialRecord

NO_LEADER_CHANGE: Final = -2


class InconsistentLog(Exception):
    """A record cannot follow those before it."""


class TopicDelta(Struct, kw_only=True):
    """A topic that records touched. ``before`` is ``None`` if it is new; ``changed`` holds only touched partitions."""

    name: str
    topic_id: Uuid
    before: TopicImage | None
    changed: dict[int, PartitionImage] = field(default_factory=dict)

    def partition(self, index: int) -> PartitionImage | None:
        found = self.changed.get(index)
        if found is None and self.before is not None and 0 <= index < len(self.before.partitions):
            return self.before.partitions[index]
        return found

    def finish(self) -> TopicImage:
        partitions: list[PartitionImage] = [] if self.before is None else list(self.before.partitions)
        for index in sorted(self.changed):
            if index < len(partitions):
                partitions[index] = self.changed[index]
            elif index == len(partitions):
                partitions.append(self.changed[index])
            else:
                raise InconsistentLog(f"topic {self.name} has partition {index} but not {len(partitions)}")
        return TopicImage(name=self.name, topic_id=self.topic_id, partitions=tuple(partitions))


class ImageDelta:
    """Use: ``apply`` every record, then ``finish`` once; the answers about changes hold from the start."""

    def __init__(self, before: ClusterImage) -> None:
        self.before = before
        self.topics: dict[Uuid, TopicDelta] = {}
        """Created and changed topics that still exist, by id, in the order they were touched."""
        self.deleted_topics: dict[Uuid, TopicImage] = {}
        """Topics of ``before`` that are gone."""
        self.changed_configs: dict[ConfigResource, None] = {}
        self.changed_brokers: dict[int, None] = {}
        self.changed_features: dict[str, None] = {}
        self._created: dict[str, Uuid] = {}
        self._maps: dict[str, dict[Any, Any]] = {}
        self._next_producer_id = before.next_producer_id

    # --- what changed ---------------------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        return (
            not self.topics
            and not self.deleted_topics
            and not self._maps
            and self._next_producer_id == self.before.next_producer_id
        )

    def created_topics(self) -> Iterator[TopicDelta]:
        return (topic for topic in self.topics.values() if topic.before is None)

    def changed_partitions(self) -> Iterator[tuple[TopicDelta, int, PartitionImage | None, PartitionImage]]:
        """(topic, partition, image before or ``None`` if new, image now)."""
        for topic in self.topics.values():
            for index, partition in topic.changed.items():
                old = topic.before
                existed = old is not None and index < len(old.partitions)
                yield topic, index, old.partitions[index] if old is not None and existed else None, partition

    # --- folding --------------------------------------------------------------------------------------------------

    def apply(self, record: MetadataRecord) -> None:
        """Fold one record. Transaction markers are the caller's; here they say nothing."""
        fold = self._FOLDS.get(record.message.API_KEY)
        if fold is None:
            raise UnknownRecord(f"no rule for {type(record.message).__name__}")
        fold(self, record.message)

    def finish(self, provenance: Provenance) -> ClusterImage:
        """The image after all records."""
        changes: dict[str, Any] = dict(self._maps)
        if self.topics or self.deleted_topics:
            by_name, by_id = dict(self.before.topics), dict(self.before.topics_by_id)
            for topic_id, gone in self.deleted_topics.items():
                del by_name[gone.name]
                del by_id[topic_id]
            for topic_id, delta in self.topics.items():
                by_name[delta.name] = by_id[topic_id] = delta.finish()
            changes["topics"], changes["topics_by_id"] = by_name, by_id
        if self._next_producer_id != self.before.next_producer_id:
            changes["next_producer_id"] = self._next_producer_id
        return replace(self.before, provenance=provenance, **changes)

    # --- topics ---------------------------------------------------------------------------------------------------

    def _topic(self, record: "TopicRecord") -> None:
        topic_id = record.topic_id
        before = self.before.topics.get(record.name)
        if before is not None and before.topic_id not in self.deleted_topics:
            raise InconsistentLog(f"topic {record.name} is created twice")
        if record.name in self._created:
            raise InconsistentLog(f"topic {record.name} is created twice")
        self._created[record.name] = topic_id
        self.topics[topic_id] = TopicDelta(name=record.name, topic_id=topic_id, before=None)

    def _topic_delta(self, topic_id: Uuid) -> TopicDelta:
        found = self.topics.get(topic_id)
        if found is None:
            before = self.before.topics_by_id.get(topic_id)
            if before is None or topic_id in self.deleted_topics:
                raise InconsistentLog(f"a partition belongs to the unknown topic id {topic_id}")
            found = self.topics[topic_id] = TopicDelta(name=before.name, topic_id=topic_id, before=before)
        return found

    def _partition(self, record: "PartitionRecord") -> None:
        self._topic_delta(record.topic_id).changed[record.partition_id] = PartitionImage(
            replicas=tuple(record.replicas),
            isr=tuple(record.isr),
            leader=record.leader,
            leader_epoch=record.leader_epoch,
            partition_epoch=record.partition_epoch,
            removing_replicas=tuple(record.removing_replicas),
            adding_replicas=tuple(record.adding_replicas),
            recovering=record.leader_recovery_state == 1,
            directories=tuple(record.directories),
            elr=tuple(record.eligible_leader_replicas or ()),
            last_known_elr=tuple(record.last_known_elr or ()),
        )

    def _partition_change(self, record: "PartitionChangeRecord") -> None:
        topic = self._topic_delta(record.topic_id)
        partition = topic.partition(record.partition_id)
        if partition is None:
            raise InconsistentLog(f"a change of {topic.name}-{record.partition_id}, which does not exist")
        topic.changed[record.partition_id] = merge_partition_change(partition, record)

    def _remove_topic(self, record: "RemoveTopicRecord") -> None:
        before = self.before.topics_by_id.get(record.topic_id)
        delta = self.topics.pop(record.topic_id, None)
        if before is not None and record.topic_id not in self.deleted_topics:
            self.deleted_topics[record.topic_id] = before
            name = before.name
        elif delta is not None:
            name = delta.name
            self._created.pop(name, None)
        else:
            raise InconsistentLog(f"the topic id {record.topic_id} is deleted but unknown")
        resource = ConfigResource(ResourceType.TOPIC, name)
        if resource in self._map("configs", write=False):
            del self._map("configs")[resource]
            self.changed_configs[resource] = None

    def _clear_elr(self, record: "ClearElrRecord") -> None:
        names = [record.topic_name] if record.topic_name else self._names()
        for name in names:
            topic_id = self._id_of(name)
            topic = self._topic_delta(topic_id)
            count = max(len(topic.before.partitions) if topic.before else 0, max(topic.changed, default=-1) + 1)
            for index in range(count):
                partition = topic.partition(index)
                if partition is not None and (partition.elr or partition.last_known_elr):
                    topic.changed[index] = replace(partition, elr=(), last_known_elr=())

    def _names(self) -> list[str]:
        kept = [topic.name for topic in self.before.topics.values() if topic.topic_id not in self.deleted_topics]
        return [*kept, *self._created]

    def _id_of(self, name: str) -> Uuid:
        created = self._created.get(name)
        if created is not None:
            return created
        before = self.before.topics.get(name)
        if before is None:
            raise InconsistentLog(f"no topic named {name} to clear")
        return before.topic_id

    # --- brokers --------------------------------------------------------------------------------------------------

    def _register_broker(self, record: "RegisterBrokerRecord") -> None:
        cordoned = record.cordoned_log_dirs
        self.changed_brokers[record.broker_id] = None
        self._map("brokers")[record.broker_id] = BrokerRegistration(
            broker_id=record.broker_id,
            epoch=record.broker_epoch,
            incarnation_id=record.incarnation_id,
            endpoints=tuple(_endpoint(end_point) for end_point in record.end_points),
            features=tuple(_feature(feature) for feature in record.features),
            rack=record.rack,
            fenced=record.fenced,
            in_controlled_shutdown=record.in_controlled_shutdown,
            log_dirs=tuple(record.log_dirs),
            cordoned_log_dirs=None if cordoned is None else tuple(cordoned),
        )

    def _unregister_broker(self, record: "UnregisterBrokerRecord") -> None:
        self._registered(record.broker_id, record.broker_epoch)
        self.changed_brokers[record.broker_id] = None
        del self._map("brokers")[record.broker_id]

    def _broker_registration_change(self, record: "BrokerRegistrationChangeRecord") -> None:
        broker = self._registered(record.broker_id, record.broker_epoch)
        if record.fenced != 0:
            broker = replace(broker, fenced=record.fenced > 0)
        if record.in_controlled_shutdown != 0:
            broker = replace(broker, in_controlled_shutdown=True)
        if record.log_dirs:
            broker = replace(broker, log_dirs=tuple(record.log_dirs))
        if record.cordoned_log_dirs is not None:
            broker = replace(broker, cordoned_log_dirs=tuple(record.cordoned_log_dirs))
        self._put_broker(broker)

    def _fence_broker(self, record: "FenceBrokerRecord") -> None:
        self._put_broker(replace(self._registered(record.id, record.epoch), fenced=True))

    def _unfence_broker(self, record: "UnfenceBrokerRecord") -> None:
        self._put_broker(replace(self._registered(record.id, record.epoch), fenced=False))

    def _put_broker(self, broker: BrokerRegistration) -> None:
        self.changed_brokers[broker.broker_id] = None
        self._map("brokers")[broker.broker_id] = broker

    def _registered(self, broker_id: int, epoch: int) -> BrokerRegistration:
        broker: BrokerRegistration | None = self._map("brokers", write=False).get(broker_id)
        if broker is None or broker.epoch != epoch:
            raise InconsistentLog(f"broker {broker_id} is not registered with epoch {epoch}")
        return broker

    def _register_controller(self, record: "RegisterControllerRecord") -> None:
        self._map("controllers")[record.controller_id] = ControllerRegistration(
            controller_id=record.controller_id,
            incarnation_id=record.incarnation_id,
            endpoints=tuple(_endpoint(end_point) for end_point in record.end_points),
            features=tuple(_feature(feature) for feature in record.features),
            zk_migration_ready=record.zk_migration_ready,
        )

    # --- everything else ------------------------------------------------------------------------------------------

    def _config(self, record: "ConfigRecord") -> None:
        resource = ConfigResource(record.resource_type, record.resource_name)
        configs = self._map("configs")
        settings = dict(configs.get(resource, {}))
        if record.value is None:
            settings.pop(record.name, None)
        else:
            settings[record.name] = record.value
        if settings:
            configs[resource] = settings
        else:
            configs.pop(resource, None)
        self.changed_configs[resource] = None

    def _feature_level(self, record: "FeatureLevelRecord") -> None:
        self.changed_features[record.name] = None
        if record.feature_level == 0:
            self._map("features").pop(record.name, None)
        else:
            self._map("features")[record.name] = record.feature_level

    def _producer_ids(self, record: "ProducerIdsRecord") -> None:
        self._next_producer_id = record.next_producer_id

    def _client_quota(self, record: "ClientQuotaRecord") -> None:
        entity = QuotaEntity(tuple(sorted((part.entity_type, part.entity_name) for part in record.entity)))
        quotas = self._map("client_quotas")
        values = dict(quotas.get(entity, {}))
        if record.remove:
            values.pop(record.key, None)
        else:
            values[record.key] = record.value
        if values:
            quotas[entity] = values
        else:
            quotas.pop(entity, None)

    def _access_control_entry(self, record: "AccessControlEntryRecord") -> None:
        self._map("acls")[record.id] = record

    def _remove_access_control_entry(self, record: "RemoveAccessControlEntryRecord") -> None:
        self._map("acls").pop(record.id, None)

    def _user_scram_credential(self, record: "UserScramCredentialRecord") -> None:
        self._map("scram_credentials")[record.name, record.mechanism] = record

    def _remove_user_scram_credential(self, record: "RemoveUserScramCredentialRecord") -> None:
        self._map("scram_credentials").pop((record.name, record.mechanism), None)

    def _delegation_token(self, record: "DelegationTokenRecord") -> None:
        self._map("delegation_tokens")[record.token_id] = record

    def _remove_delegation_token(self, record: "RemoveDelegationTokenRecord") -> None:
        self._map("delegation_tokens").pop(record.token_id, None)

    def _nothing(self, _record: object) -> None:
        return

    def _map(self, name: str, *, write: bool = True) -> dict[Any, Any]:
        """A map of the image: as it was, or this delta's own copy once something writes to it."""
        found = self._maps.get(name)
        if found is None:
            found = getattr(self.before, name)
            if write:
                found = self._maps[name] = dict(found)
        return found

    _FOLDS: ClassVar[Mapping[int, Callable[["ImageDelta", Any], None]]] = {
        0: _register_broker,
        1: _unregister_broker,
        2: _topic,
        3: _partition,
        4: _config,
        5: _partition_change,
        7: _fence_broker,
        8: _unfence_broker,
        9: _remove_topic,
        10: _delegation_token,
        11: _user_scram_credential,
        12: _feature_level,
        14: _client_quota,
        15: _producer_ids,
        17: _broker_registration_change,
        18: _access_control_entry,
        19: _remove_access_control_entry,
        20: _nothing,
        21: _nothing,
        22: _remove_user_scram_credential,
        23: _nothing,
        24: _nothing,
        25: _nothing,
        26: _remove_delegation_token,
        27: _register_controller,
        28: _clear_elr,
    }
    """By record id; the generated classes stay unloaded until a record of their kind turns up."""


def full_delta(image: ClusterImage) -> ImageDelta:
    """From nothing to ``image``: what a listener that comes late is told first."""
    delta = ImageDelta(ClusterImage())
    for topic in image.topics.values():
        delta.topics[topic.topic_id] = TopicDelta(
            name=topic.name, topic_id=topic.topic_id, before=None, changed=dict(enumerate(topic.partitions))
        )
    delta.changed_configs = dict.fromkeys(image.configs)
    delta.changed_brokers = dict.fromkeys(image.brokers)
    delta.changed_features = dict.fromkeys(image.features)
    return delta


def merge_partition_change(partition: PartitionImage, record: "PartitionChangeRecord") -> PartitionImage:
    """The partition after a change: its partition epoch is one more, and with a new leader its leader epoch."""
    new_leader = record.leader != NO_LEADER_CHANGE

    def merged(old: tuple[Any, ...], new: list[Any] | None) -> tuple[Any, ...]:
        return old if new is None else tuple(new)

    return PartitionImage(
        replicas=merged(partition.replicas, record.replicas),
        isr=merged(partition.isr, record.isr),
        leader=record.leader if new_leader else partition.leader,
        leader_epoch=partition.leader_epoch + new_leader,
        partition_epoch=partition.partition_epoch + 1,
        removing_replicas=merged(partition.removing_replicas, record.removing_replicas),
        adding_replicas=merged(partition.adding_replicas, record.adding_replicas),
        recovering=partition.recovering if record.leader_recovery_state == -1 else record.leader_recovery_state == 1,
        directories=merged(partition.directories, record.directories),
        elr=merged(partition.elr, record.eligible_leader_replicas),
        last_known_elr=merged(partition.last_known_elr, record.last_known_elr),
    )


def _endpoint(end_point: Any) -> Endpoint:
    return Endpoint(
        name=end_point.name,
        host=end_point.host,
        port=end_point.port,
        security_protocol=end_point.security_protocol,
    )


def _feature(feature: Any) -> FeatureRange:
    return FeatureRange(feature.name, feature.min_supported_version, feature.max_supported_version)

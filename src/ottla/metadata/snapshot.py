"""An image as records again, in the order in which a Java broker writes its snapshots."""

from collections.abc import Iterator

from ottla.metadata.features import METADATA_VERSION, FeatureRange
from ottla.metadata.image import BrokerRegistration, ClusterImage, ControllerRegistration, Endpoint, PartitionImage
from ottla.metadata.record import MetadataRecord
from ottla.model import Uuid
from ottla.wire.messages.partition_record import PartitionRecord
from ottla.wire.messages.register_broker_record import BrokerEndpoint, BrokerFeature, RegisterBrokerRecord
from ottla.wire.messages.register_controller_record import (
    ControllerEndpoint,
    ControllerFeature,
    RegisterControllerRecord,
)


def to_records(image: ClusterImage) -> Iterator[MetadataRecord]:
    """Folding them into an empty image gives ``image`` again (but for its provenance)."""
    yield from _feature_records(image)
    for broker in image.brokers.values():
        yield register_broker_record(broker, image.versions.register_broker)
    if image.versions.controller_registration_supported:
        for controller in image.controllers.values():
            yield register_controller_record(controller)
    yield from _topic_records(image)
    yield from _config_records(image)
    yield from _quota_records(image)
    yield from _producer_id_records(image)
    for kept in (image.acls, image.scram_credentials, image.delegation_tokens):
        for message in kept.values():
            yield MetadataRecord(message, 0)


def register_broker_record(broker: BrokerRegistration, version: int) -> MetadataRecord:
    """Fields that ``version`` does not know are left out."""
    message = RegisterBrokerRecord(
        broker_id=broker.broker_id,
        incarnation_id=broker.incarnation_id,
        broker_epoch=broker.epoch,
        end_points=[
            BrokerEndpoint(name=e.name, host=e.host, port=e.port, security_protocol=e.security_protocol)
            for e in broker.endpoints
        ],
        features=[
            BrokerFeature(name=f.name, min_supported_version=f.lowest, max_supported_version=f.highest)
            for f in broker.features
        ],
        rack=broker.rack,
        fenced=broker.fenced,
        in_controlled_shutdown=broker.in_controlled_shutdown,
    )
    if version >= 3:
        message.log_dirs = list(broker.log_dirs)
    if version >= 4 and broker.cordoned_log_dirs is not None:
        message.cordoned_log_dirs = list(broker.cordoned_log_dirs)
    return MetadataRecord(message, version)


def register_controller_record(controller: ControllerRegistration) -> MetadataRecord:
    message = RegisterControllerRecord(
        controller_id=controller.controller_id,
        incarnation_id=controller.incarnation_id,
        zk_migration_ready=controller.zk_migration_ready,
        end_points=[_controller_endpoint(endpoint) for endpoint in controller.endpoints],
        features=[_controller_feature(feature) for feature in controller.features],
    )
    return MetadataRecord(message, 0)


def partition_record(topic_id: Uuid, index: int, partition: PartitionImage, version: int) -> MetadataRecord:
    """Directories exist from version 1 on, eligible leader replicas from 2."""
    message = PartitionRecord(
        partition_id=index,
        topic_id=topic_id,
        replicas=list(partition.replicas),
        isr=list(partition.isr),
        removing_replicas=list(partition.removing_replicas),
        adding_replicas=list(partition.adding_replicas),
        leader=partition.leader,
        leader_recovery_state=int(partition.recovering),
        leader_epoch=partition.leader_epoch,
        partition_epoch=partition.partition_epoch,
    )
    if version >= 1:
        message.directories = list(partition.directories) or [Uuid.ZERO] * len(partition.replicas)
    if version >= 2 and partition.elr:
        message.eligible_leader_replicas = list(partition.elr)
    if version >= 2 and partition.last_known_elr:
        message.last_known_elr = list(partition.last_known_elr)
    return MetadataRecord(message, version)


def _controller_endpoint(endpoint: Endpoint) -> ControllerEndpoint:
    return ControllerEndpoint(
        name=endpoint.name, host=endpoint.host, port=endpoint.port, security_protocol=endpoint.security_protocol
    )


def _controller_feature(feature: FeatureRange) -> ControllerFeature:
    return ControllerFeature(
        name=feature.name, min_supported_version=feature.lowest, max_supported_version=feature.highest
    )


def _feature_records(image: ClusterImage) -> Iterator[MetadataRecord]:
    from ottla.wire.messages.feature_level_record import FeatureLevelRecord  # noqa: PLC0415 - snapshots are rare

    # The version first: everything behind it is read by its rules.
    names = sorted(image.features, key=lambda name: (name != METADATA_VERSION, name))
    for name in names:
        yield MetadataRecord(FeatureLevelRecord(name=name, feature_level=image.features[name]), 0)


def _topic_records(image: ClusterImage) -> Iterator[MetadataRecord]:
    from ottla.wire.messages.topic_record import TopicRecord  # noqa: PLC0415 - snapshots are rare

    version = image.versions.partition
    for topic in image.topics.values():
        yield MetadataRecord(TopicRecord(name=topic.name, topic_id=topic.topic_id), 0)
        for index, partition in enumerate(topic.partitions):
            yield partition_record(topic.topic_id, index, partition, version)


def _config_records(image: ClusterImage) -> Iterator[MetadataRecord]:
    from ottla.wire.messages.config_record import ConfigRecord  # noqa: PLC0415 - snapshots are rare

    for resource, settings in image.configs.items():
        for name, value in settings.items():
            yield MetadataRecord(
                ConfigRecord(resource_type=resource.type, resource_name=resource.name, name=name, value=value), 0
            )


def _quota_records(image: ClusterImage) -> Iterator[MetadataRecord]:
    if not image.client_quotas:
        return
    from ottla.wire.messages.client_quota_record import ClientQuotaRecord, EntityData  # noqa: PLC0415 - as above

    for entity, values in image.client_quotas.items():
        parts = [EntityData(entity_type=entity_type, entity_name=name) for entity_type, name in entity.parts]
        for key, value in values.items():
            yield MetadataRecord(ClientQuotaRecord(entity=parts, key=key, value=value, remove=False), 0)


def _producer_id_records(image: ClusterImage) -> Iterator[MetadataRecord]:
    if image.next_producer_id <= 0:
        return
    from ottla.wire.messages.producer_ids_record import ProducerIdsRecord  # noqa: PLC0415 - as above

    yield MetadataRecord(ProducerIdsRecord(broker_id=-1, broker_epoch=-1, next_producer_id=image.next_producer_id), 0)

"""Every API this broker serves, by key: the versions of Kafka 4.3.1, and how its handler is put together.

A handler's module is imported, and the handler built, by the first request for it: a broker starts without paying for
APIs nobody calls. What is not listed is not advertised and not answered.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from msgspec import Struct

from ottla.broker.config_changes import BrokerSettings
from ottla.broker.dispatch import Handler, Route
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.broker.housekeeping import Housekeeping
from ottla.broker.leader_hints import LeaderHints
from ottla.broker.partitions import Partitions
from ottla.broker.produce_verification import ProduceVerification
from ottla.broker.producer_ids import ProducerIds
from ottla.broker.raft_driver import RaftDriver
from ottla.broker.replica_moves import ReplicaMoves
from ottla.broker.topic_creation import TopicCreator
from ottla.broker.transaction_coordinator import TransactionCoordinator
from ottla.broker.transaction_markers import LocalMarkers
from ottla.broker.transaction_verification import TransactionVerification
from ottla.config.broker import BrokerConfig
from ottla.metadata.image import ClusterImage
from ottla.replication.fetch_session import FetchSessionCache
from ottla.runtime.clock import Clock
from ottla.storage.description import LogDirectoryDescription, describe_directories
from ottla.storage.log_store import LogStore
from ottla.wire.apis import API_SPECS, ApiKey

GROUP_KEY = 0
TRANSACTION_KEY = 1


class Parts(Struct, frozen=True, kw_only=True):
    """What a node is made of, as far as handlers are concerned; each handler is given only what it names."""

    config: BrokerConfig
    clock: Clock
    cluster_id: str
    partitions: Partitions
    leader_hints: LeaderHints
    fetch_sessions: FetchSessionCache
    producer_ids: ProducerIds
    groups: GroupCoordinator
    transactions: TransactionCoordinator
    markers: LocalMarkers
    verification: TransactionVerification
    housekeeping: Housekeeping
    store: LogStore
    driver: RaftDriver
    creator: TopicCreator
    moves: ReplicaMoves

    def image(self) -> ClusterImage:
        return self.partitions.image

    def has_consumer_groups(self) -> bool:
        """Whether the cluster has finalized the protocol, and this broker is to speak it."""
        return (
            "consumer" in self.config.groups.rebalance_protocols and self.image().features.get("group.version", 0) > 0
        )

    async def describe_dirs(self) -> list[LogDirectoryDescription]:
        return await asyncio.to_thread(describe_directories, self.store)


Build = Callable[[Parts], Handler]
Routes = Mapping[int, Route]


def routes_of(parts: Parts) -> Routes:
    """The routes of one node. ApiVersions lists them, so it is built from the finished table."""
    routes = {int(key): _route(key, partial(build, parts)) for key, build in BUILDERS.items()}
    routes[int(ApiKey.API_VERSIONS)] = _route(ApiKey.API_VERSIONS, partial(_api_versions, parts, routes))
    return routes


def _route(key: ApiKey, build: Callable[[], Handler]) -> Route:
    spec = API_SPECS[key]
    return Route(
        api_key=key,
        min_version=spec.lowest,
        max_version=spec.latest_stable,
        advertised_min=spec.advertised_lowest,
        build=build,
    )


def _api_versions(parts: Parts, routes: Routes) -> Handler:
    from ottla.broker.handlers.api_versions import ApiVersionsHandler
    from ottla.metadata.features import SUPPORTED

    return ApiVersionsHandler(
        routes=routes,
        image=parts.image,
        supported_features={name: (levels.lowest, levels.highest) for name, levels in SUPPORTED.items()},
    )


def _produce(parts: Parts) -> Handler:
    from ottla.broker.handlers.produce import ProduceHandler

    return ProduceHandler(
        partitions=parts.partitions,
        leader_hints=parts.leader_hints,
        verification=ProduceVerification(partitions=parts.partitions, verification=parts.verification),
    )


def _fetch(parts: Parts) -> Handler:
    from ottla.broker.handlers.fetch import FetchHandler

    return FetchHandler(
        partitions=parts.partitions,
        sessions=parts.fetch_sessions,
        leader_hints=parts.leader_hints,
        bytes_max=parts.config.fetch.bytes_max,
        now_ms=parts.clock.now_ms,
    )


def _list_offsets(parts: Parts) -> Handler:
    from ottla.broker.handlers.list_offsets import ListOffsetsHandler

    return ListOffsetsHandler(partitions=parts.partitions)


def _offset_for_leader_epoch(parts: Parts) -> Handler:
    from ottla.broker.handlers.offset_for_leader_epoch import OffsetForLeaderEpochHandler

    return OffsetForLeaderEpochHandler(partitions=parts.partitions)


def _delete_records(parts: Parts) -> Handler:
    from ottla.broker.handlers.delete_records import DeleteRecordsHandler

    return DeleteRecordsHandler(partitions=parts.partitions, checkpoint=parts.housekeeping.checkpoint_log_starts)


def _init_producer_id(parts: Parts) -> Handler:
    from ottla.broker.handlers.init_producer_id import InitProducerIdHandler

    return InitProducerIdHandler(producer_ids=parts.producer_ids, coordinator=parts.transactions)


def _add_partitions_to_txn(parts: Parts) -> Handler:
    from ottla.broker.handlers.add_partitions_to_txn import AddPartitionsToTxnHandler

    return AddPartitionsToTxnHandler(coordinator=parts.transactions, image=parts.image)


def _add_offsets_to_txn(parts: Parts) -> Handler:
    from ottla.broker.handlers.add_offsets_to_txn import AddOffsetsToTxnHandler

    return AddOffsetsToTxnHandler(coordinator=parts.transactions, groups=parts.groups)


def _end_txn(parts: Parts) -> Handler:
    from ottla.broker.handlers.end_txn import EndTxnHandler

    return EndTxnHandler(coordinator=parts.transactions)


def _write_txn_markers(parts: Parts) -> Handler:
    from ottla.broker.handlers.write_txn_markers import WriteTxnMarkersHandler

    return WriteTxnMarkersHandler(markers=parts.markers)


def _txn_offset_commit(parts: Parts) -> Handler:
    from ottla.broker.handlers.txn_offset_commit import TxnOffsetCommitHandler

    return TxnOffsetCommitHandler(
        groups=parts.groups, partitions=parts.partitions, verification=parts.verification, image=parts.image
    )


def _describe_transactions(parts: Parts) -> Handler:
    from ottla.broker.handlers.describe_transactions import DescribeTransactionsHandler

    return DescribeTransactionsHandler(coordinator=parts.transactions)


def _list_transactions(parts: Parts) -> Handler:
    from ottla.broker.handlers.list_transactions import ListTransactionsHandler

    return ListTransactionsHandler(coordinator=parts.transactions)


def _describe_producers(parts: Parts) -> Handler:
    from ottla.broker.handlers.describe_producers import DescribeProducersHandler

    return DescribeProducersHandler(partitions=parts.partitions)


def _describe_log_dirs(parts: Parts) -> Handler:
    from ottla.broker.handlers.describe_log_dirs import DescribeLogDirsHandler

    return DescribeLogDirsHandler(
        partitions=parts.partitions, describe_dirs=parts.describe_dirs, futures=lambda: parts.store.futures.logs
    )


def _find_coordinator(parts: Parts) -> Handler:
    from ottla.broker.handlers.find_coordinator import FindCoordinatorHandler

    return FindCoordinatorHandler(
        lookups={GROUP_KEY: parts.groups.topic, TRANSACTION_KEY: parts.transactions.topic}, image=parts.image
    )


def _join_group(parts: Parts) -> Handler:
    from ottla.broker.handlers.join_group import JoinGroupHandler

    return JoinGroupHandler(coordinator=parts.groups)


def _sync_group(parts: Parts) -> Handler:
    from ottla.broker.handlers.sync_group import SyncGroupHandler

    return SyncGroupHandler(coordinator=parts.groups)


def _heartbeat(parts: Parts) -> Handler:
    from ottla.broker.handlers.heartbeat import HeartbeatHandler

    return HeartbeatHandler(coordinator=parts.groups)


def _leave_group(parts: Parts) -> Handler:
    from ottla.broker.handlers.leave_group import LeaveGroupHandler

    return LeaveGroupHandler(coordinator=parts.groups)


def _consumer_group_heartbeat(parts: Parts) -> Handler:
    from ottla.broker.handlers.consumer_group_heartbeat import ConsumerGroupHeartbeatHandler

    return ConsumerGroupHeartbeatHandler(
        coordinator=parts.groups, is_enabled=parts.has_consumer_groups, assignors=parts.config.groups.consumer_assignors
    )


def _consumer_group_describe(parts: Parts) -> Handler:
    from ottla.broker.handlers.consumer_group_describe import ConsumerGroupDescribeHandler

    return ConsumerGroupDescribeHandler(coordinator=parts.groups, is_enabled=parts.has_consumer_groups)


def _offset_commit(parts: Parts) -> Handler:
    from ottla.broker.handlers.offset_commit import OffsetCommitHandler

    return OffsetCommitHandler(coordinator=parts.groups, image=parts.image)


def _offset_fetch(parts: Parts) -> Handler:
    from ottla.broker.handlers.offset_fetch import OffsetFetchHandler

    return OffsetFetchHandler(coordinator=parts.groups, image=parts.image)


def _offset_delete(parts: Parts) -> Handler:
    from ottla.broker.handlers.offset_delete import OffsetDeleteHandler

    return OffsetDeleteHandler(coordinator=parts.groups, image=parts.image)


def _describe_groups(parts: Parts) -> Handler:
    from ottla.broker.handlers.describe_groups import DescribeGroupsHandler

    return DescribeGroupsHandler(coordinator=parts.groups)


def _list_groups(parts: Parts) -> Handler:
    from ottla.broker.handlers.list_groups import ListGroupsHandler

    return ListGroupsHandler(coordinator=parts.groups)


def _delete_groups(parts: Parts) -> Handler:
    from ottla.broker.handlers.delete_groups import DeleteGroupsHandler

    return DeleteGroupsHandler(coordinator=parts.groups)


def _metadata(parts: Parts) -> Handler:
    from ottla.broker.handlers.metadata import MetadataHandler

    return MetadataHandler(
        node_id=parts.config.node_id,
        cluster_id=parts.cluster_id,
        image=parts.image,
        create_missing=parts.creator.create_missing if parts.config.topics.auto_create else None,
    )


def _describe_topic_partitions(parts: Parts) -> Handler:
    from ottla.broker.handlers.describe_topic_partitions import DescribeTopicPartitionsHandler

    return DescribeTopicPartitionsHandler(image=parts.image, partitions_max=parts.config.topics.describe_partitions_max)


def _describe_cluster(parts: Parts) -> Handler:
    from ottla.broker.handlers.describe_cluster import DescribeClusterHandler

    return DescribeClusterHandler(node_id=parts.config.node_id, cluster_id=parts.cluster_id, image=parts.image)


def _create_topics(parts: Parts) -> Handler:
    from ottla.broker.handlers.create_topics import CreateTopicsHandler

    return CreateTopicsHandler(submit=parts.driver.submit)


def _delete_topics(parts: Parts) -> Handler:
    from ottla.broker.handlers.delete_topics import DeleteTopicsHandler

    return DeleteTopicsHandler(submit=parts.driver.submit, enabled=parts.config.topics.delete_enable)


def _create_partitions(parts: Parts) -> Handler:
    from ottla.broker.handlers.create_partitions import CreatePartitionsHandler

    return CreatePartitionsHandler(submit=parts.driver.submit)


def _describe_configs(parts: Parts) -> Handler:
    from ottla.broker.handlers.describe_configs import DescribeConfigsHandler

    return DescribeConfigsHandler(
        node_id=parts.config.node_id, static_config=parts.config.properties, image=parts.image
    )


def _alter_configs(parts: Parts) -> Handler:
    from ottla.broker.handlers.alter_configs import AlterConfigsHandler

    return AlterConfigsHandler(broker=_broker_settings(parts), submit=parts.driver.submit)


def _incremental_alter_configs(parts: Parts) -> Handler:
    from ottla.broker.handlers.incremental_alter_configs import IncrementalAlterConfigsHandler

    return IncrementalAlterConfigsHandler(broker=_broker_settings(parts), submit=parts.driver.submit)


def _alter_replica_log_dirs(parts: Parts) -> Handler:
    from ottla.broker.handlers.alter_replica_log_dirs import AlterReplicaLogDirsHandler

    return AlterReplicaLogDirsHandler(alter=parts.moves.alter)


def _broker_settings(parts: Parts) -> BrokerSettings:
    return BrokerSettings(node_id=parts.config.node_id, static_config=parts.config.properties, image=parts.image)


def _list_config_resources(parts: Parts) -> Handler:
    from ottla.broker.handlers.list_config_resources import ListConfigResourcesHandler

    return ListConfigResourcesHandler(image=parts.image)


def _describe_quorum(parts: Parts) -> Handler:
    from ottla.broker.handlers.describe_quorum import DescribeQuorumHandler

    return DescribeQuorumHandler(raft=parts.driver.raft, image=parts.image)


def _update_features(parts: Parts) -> Handler:
    from ottla.broker.handlers.update_features import UpdateFeaturesHandler

    return UpdateFeaturesHandler(submit=parts.driver.submit)


BUILDERS: Mapping[ApiKey, Build] = {
    ApiKey.PRODUCE: _produce,
    ApiKey.FETCH: _fetch,
    ApiKey.LIST_OFFSETS: _list_offsets,
    ApiKey.METADATA: _metadata,
    ApiKey.OFFSET_COMMIT: _offset_commit,
    ApiKey.OFFSET_FETCH: _offset_fetch,
    ApiKey.FIND_COORDINATOR: _find_coordinator,
    ApiKey.JOIN_GROUP: _join_group,
    ApiKey.HEARTBEAT: _heartbeat,
    ApiKey.CONSUMER_GROUP_HEARTBEAT: _consumer_group_heartbeat,
    ApiKey.CONSUMER_GROUP_DESCRIBE: _consumer_group_describe,
    ApiKey.LEAVE_GROUP: _leave_group,
    ApiKey.SYNC_GROUP: _sync_group,
    ApiKey.DESCRIBE_GROUPS: _describe_groups,
    ApiKey.LIST_GROUPS: _list_groups,
    ApiKey.CREATE_TOPICS: _create_topics,
    ApiKey.DELETE_TOPICS: _delete_topics,
    ApiKey.DELETE_RECORDS: _delete_records,
    ApiKey.INIT_PRODUCER_ID: _init_producer_id,
    ApiKey.ADD_PARTITIONS_TO_TXN: _add_partitions_to_txn,
    ApiKey.ADD_OFFSETS_TO_TXN: _add_offsets_to_txn,
    ApiKey.END_TXN: _end_txn,
    ApiKey.WRITE_TXN_MARKERS: _write_txn_markers,
    ApiKey.TXN_OFFSET_COMMIT: _txn_offset_commit,
    ApiKey.DESCRIBE_TRANSACTIONS: _describe_transactions,
    ApiKey.LIST_TRANSACTIONS: _list_transactions,
    ApiKey.OFFSET_FOR_LEADER_EPOCH: _offset_for_leader_epoch,
    ApiKey.DESCRIBE_CONFIGS: _describe_configs,
    ApiKey.ALTER_CONFIGS: _alter_configs,
    ApiKey.DESCRIBE_LOG_DIRS: _describe_log_dirs,
    ApiKey.ALTER_REPLICA_LOG_DIRS: _alter_replica_log_dirs,
    ApiKey.CREATE_PARTITIONS: _create_partitions,
    ApiKey.DELETE_GROUPS: _delete_groups,
    ApiKey.INCREMENTAL_ALTER_CONFIGS: _incremental_alter_configs,
    ApiKey.OFFSET_DELETE: _offset_delete,
    ApiKey.DESCRIBE_QUORUM: _describe_quorum,
    ApiKey.UPDATE_FEATURES: _update_features,
    ApiKey.DESCRIBE_CLUSTER: _describe_cluster,
    ApiKey.DESCRIBE_PRODUCERS: _describe_producers,
    ApiKey.LIST_CONFIG_RESOURCES: _list_config_resources,
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: _describe_topic_partitions,
}

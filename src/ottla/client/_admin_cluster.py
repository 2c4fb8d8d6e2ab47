"""Administration of the cluster as such: brokers, quorum, features, log directories."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from msgspec import Struct

from ottla.client._admin_ask import TIMEOUT_MS, ask_every_broker, by_topic, outcome
from ottla.client._cluster import Cluster
from ottla.client._errors import error_of, raise_for
from ottla.model import TopicPartition, Uuid
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.add_raft_voter_request import AddRaftVoterRequest, Listener
from ottla.wire.messages.alter_replica_log_dirs_request import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from ottla.wire.messages.api_versions_request import ApiVersionsRequest
from ottla.wire.messages.api_versions_response import ApiVersionsResponse
from ottla.wire.messages.describe_cluster_request import DescribeClusterRequest
from ottla.wire.messages.describe_cluster_response import DescribeClusterResponse
from ottla.wire.messages.describe_log_dirs_request import DescribableLogDirTopic, DescribeLogDirsRequest
from ottla.wire.messages.describe_quorum_request import DescribeQuorumRequest, PartitionData, TopicData
from ottla.wire.messages.describe_quorum_response import DescribeQuorumResponse, ReplicaState
from ottla.wire.messages.remove_raft_voter_request import RemoveRaftVoterRequest
from ottla.wire.messages.unregister_broker_request import UnregisterBrokerRequest
from ottla.wire.messages.update_features_request import FeatureUpdateKey, UpdateFeaturesRequest
from ottla.wire.messages.update_features_response import UpdateFeaturesResponse

UPGRADES: Final = {"upgrade": 1, "safe_downgrade": 2, "unsafe_downgrade": 3}
FENCED_VERSION: Final = 2


class BrokerDescription(Struct, frozen=True, kw_only=True):
    """A broker of the cluster."""

    node_id: int
    host: str
    port: int
    rack: str | None
    fenced: bool


class ClusterDescription(Struct, frozen=True, kw_only=True):
    """The cluster. ``controller`` is the broker that clients are told to take for it."""

    cluster_id: str
    controller: int
    brokers: tuple[BrokerDescription, ...]


class QuorumReplica(Struct, frozen=True, kw_only=True):
    """A voter or observer; times are milliseconds, -1 for not known."""

    node_id: int
    directory_id: Uuid
    log_end_offset: int
    last_fetch_at: int
    last_caught_up_at: int


class QuorumDescription(Struct, frozen=True, kw_only=True):
    """The Raft quorum of the cluster's metadata."""

    leader: int
    leader_epoch: int
    high_watermark: int
    voters: tuple[QuorumReplica, ...]
    observers: tuple[QuorumReplica, ...]


class FeatureDescription(Struct, frozen=True, kw_only=True):
    """A feature: the level the cluster is at (0: off), and what the broker that was asked could do."""

    level: int
    lowest: int
    highest: int


class ReplicaSize(Struct, frozen=True, kw_only=True):
    """A replica in a log directory, in bytes; ``future`` while it moves there."""

    size: int
    offset_lag: int
    future: bool


class LogDirDescription(Struct, frozen=True, kw_only=True):
    """A log directory of a broker. Sizes are bytes, -1 for not known; ``error`` if it has failed."""

    path: str
    error: KafkaError | None
    total_bytes: int
    usable_bytes: int
    replicas: Mapping[TopicPartition, ReplicaSize]


async def describe_cluster(cluster: Cluster, *, fenced: bool) -> ClusterDescription:
    def request(version: int) -> DescribeClusterRequest:
        if version >= FENCED_VERSION:
            return DescribeClusterRequest(include_fenced_brokers=fenced)
        return DescribeClusterRequest()

    response: DescribeClusterResponse = await cluster.ask_any(ApiKey.DESCRIBE_CLUSTER, request)
    raise_for(response.error_code, response.error_message, "the cluster")
    brokers = [
        BrokerDescription(node_id=one.broker_id, host=one.host, port=one.port, rack=one.rack, fenced=one.is_fenced)
        for one in response.brokers
    ]
    return ClusterDescription(
        cluster_id=response.cluster_id,
        controller=response.controller_id,
        brokers=tuple(sorted(brokers, key=lambda broker: broker.node_id)),
    )


async def describe_quorum(cluster: Cluster) -> QuorumDescription:
    topic = TopicData(topic_name="__cluster_metadata", partitions=[PartitionData(partition_index=0)])
    response: DescribeQuorumResponse = await cluster.ask_any(
        ApiKey.DESCRIBE_QUORUM, DescribeQuorumRequest(topics=[topic])
    )
    raise_for(response.error_code, response.error_message, "the quorum")
    partition = response.topics[0].partitions[0]
    raise_for(partition.error_code, partition.error_message, "the quorum")
    return QuorumDescription(
        leader=partition.leader_id,
        leader_epoch=partition.leader_epoch,
        high_watermark=partition.high_watermark,
        voters=tuple(map(_replica, partition.current_voters)),
        observers=tuple(map(_replica, partition.observers)),
    )


async def add_voter(
    cluster: Cluster, node_id: int, directory_id: Uuid, listeners: Mapping[str, tuple[str, int]]
) -> None:
    request = AddRaftVoterRequest(
        cluster_id=cluster.cluster_id,
        timeout_ms=TIMEOUT_MS,
        voter_id=node_id,
        voter_directory_id=directory_id,
        listeners=[Listener(name=name, host=host, port=port) for name, (host, port) in listeners.items()],
    )
    response = await cluster.ask_any(ApiKey.ADD_RAFT_VOTER, request)
    raise_for(response.error_code, response.error_message, f"voter {node_id}")


async def remove_voter(cluster: Cluster, node_id: int, directory_id: Uuid) -> None:
    request = RemoveRaftVoterRequest(cluster_id=cluster.cluster_id, voter_id=node_id, voter_directory_id=directory_id)
    response = await cluster.ask_any(ApiKey.REMOVE_RAFT_VOTER, request)
    raise_for(response.error_code, response.error_message, f"voter {node_id}")


async def unregister_broker(cluster: Cluster, node_id: int) -> None:
    response = await cluster.ask_any(ApiKey.UNREGISTER_BROKER, UnregisterBrokerRequest(broker_id=node_id))
    raise_for(response.error_code, response.error_message, f"broker {node_id}")


async def describe_features(cluster: Cluster) -> dict[str, FeatureDescription]:
    request = ApiVersionsRequest(client_software_name="ottla", client_software_version="0.1.0")
    response: ApiVersionsResponse = await cluster.ask_any(ApiKey.API_VERSIONS, request)
    raise_for(response.error_code, None, "features")
    levels = {one.name: one.max_version_level for one in response.finalized_features}
    return {
        one.name: FeatureDescription(level=levels.get(one.name, 0), lowest=one.min_version, highest=one.max_version)
        for one in sorted(response.supported_features, key=lambda feature: feature.name)
    }


async def update_features(
    cluster: Cluster,
    levels: Mapping[str, int],
    *,
    kind: Literal["upgrade", "safe_downgrade", "unsafe_downgrade"],
    validate_only: bool,
) -> dict[str, KafkaError | None]:
    def request(version: int) -> UpdateFeaturesRequest:
        if version < 1:
            raise error_of(ErrorCode.UNSUPPORTED_VERSION, "the broker does not validate features without changing them")
        updates = [
            FeatureUpdateKey(feature=name, max_version_level=level, upgrade_type=UPGRADES[kind])
            for name, level in levels.items()
        ]
        return UpdateFeaturesRequest(timeout_ms=TIMEOUT_MS, feature_updates=updates, validate_only=validate_only)

    response: UpdateFeaturesResponse = await cluster.ask_any(ApiKey.UPDATE_FEATURES, request)
    if response.results:
        return {
            one.feature: outcome(one.error_code, one.error_message, f"feature {one.feature}", None)
            for one in response.results
        }
    # From version 2 on there is one result for all.
    return dict.fromkeys(levels, outcome(response.error_code, response.error_message, "features", None))


async def describe_log_dirs(
    cluster: Cluster, *, brokers: Iterable[int] | None, places: Iterable[TopicPartition] | None
) -> dict[int, list[LogDirDescription] | KafkaError]:
    topics = (
        None
        if places is None
        else [DescribableLogDirTopic(topic=name, partitions=numbers) for name, numbers in by_topic(places).items()]
    )
    answers = await ask_every_broker(cluster, ApiKey.DESCRIBE_LOG_DIRS, DescribeLogDirsRequest(topics=topics), brokers)
    found: dict[int, list[LogDirDescription] | KafkaError] = {}
    for node_id, answer in answers.items():
        if isinstance(answer, ConnectionError):
            found[node_id] = error_of(ErrorCode.NETWORK_EXCEPTION, str(answer))
            continue
        directories = [
            LogDirDescription(
                path=one.log_dir,
                error=outcome(one.error_code, None, f"log directory {one.log_dir}", None),
                total_bytes=one.total_bytes,
                usable_bytes=one.usable_bytes,
                replicas={
                    TopicPartition(topic.name, part.partition_index): ReplicaSize(
                        size=part.partition_size, offset_lag=part.offset_lag, future=part.is_future_key
                    )
                    for topic in one.topics
                    for part in topic.partitions
                },
            )
            for one in answer.results
        ]
        found[node_id] = outcome(answer.error_code, None, f"log directories of broker {node_id}", directories)
    return found


async def alter_replica_log_dirs(
    cluster: Cluster, node_id: int, paths: Mapping[TopicPartition, str]
) -> dict[TopicPartition, KafkaError | None]:
    directories = [
        AlterReplicaLogDir(
            path=path,
            topics=[
                AlterReplicaLogDirTopic(name=name, partitions=numbers)
                for name, numbers in by_topic(place for place in paths if paths[place] == path).items()
            ],
        )
        for path in sorted(set(paths.values()))
    ]
    await cluster.refresh(())
    peer = await cluster.peer(node_id)
    response = await peer.request(ApiKey.ALTER_REPLICA_LOG_DIRS, AlterReplicaLogDirsRequest(dirs=directories))
    return {
        (place := TopicPartition(topic.topic_name, one.partition_index)): outcome(
            one.error_code, None, f"log directory of {place}", None
        )
        for topic in response.results
        for one in topic.partitions
    }


def _replica(state: ReplicaState) -> QuorumReplica:
    return QuorumReplica(
        node_id=state.replica_id,
        directory_id=state.replica_directory_id,
        log_end_offset=state.log_end_offset,
        last_fetch_at=state.last_fetch_timestamp,
        last_caught_up_at=state.last_caught_up_timestamp,
    )

"""The cluster as a whole: brokers, the metadata quorum, log directories, features, versions of the APIs."""

from typing import Any

from ottla.cli.calls.asking import ask_each, check, error_text
from ottla.cli.rows import ApiRow, BrokerRow, ClusterInfo, FeatureRow, LogDirRow, Quorum, QuorumReplica
from ottla.client._cluster import Cluster, TopicMetadata
from ottla.wire.apis import ApiKey

METADATA_TOPIC = "__cluster_metadata"


async def describe_cluster(cluster: Cluster) -> ClusterInfo:
    """Brokers with what they lead and hold, and what is wrong with partitions."""
    from ottla.wire.messages.describe_cluster_request import DescribeClusterRequest

    await cluster.refresh(None)
    topics = known_topics(cluster)
    led: dict[int, int] = {}
    held: dict[int, int] = {}
    partitions = [one for topic in topics for one in topic.partitions.values()]
    for one in partitions:
        led[one.leader] = led.get(one.leader, 0) + 1
        for node_id in one.replicas:
            held[node_id] = held.get(node_id, 0) + 1
    answer = await cluster.ask_any(
        ApiKey.DESCRIBE_CLUSTER, lambda version: DescribeClusterRequest(include_fenced_brokers=version >= 2)
    )
    check(answer.error_code, answer.error_message, "the cluster")
    rows = [
        BrokerRow(
            node_id=one.broker_id,
            host=one.host,
            port=one.port,
            rack=one.rack,
            controller=one.broker_id == answer.controller_id,
            fenced=one.is_fenced,
            leaders=led.get(one.broker_id, 0),
            replicas=held.get(one.broker_id, 0),
        )
        for one in sorted(answer.brokers, key=lambda broker: broker.broker_id)
    ]
    return ClusterInfo(
        cluster_id=answer.cluster_id,
        controller=answer.controller_id,
        brokers=rows,
        topics=len(topics),
        partitions=len(partitions),
        under_replicated=sum(len(one.isr) < len(one.replicas) for one in partitions),
        offline=sum(one.leader < 0 for one in partitions),
    )


def known_topics(cluster: Cluster) -> list[TopicMetadata]:
    """What the last refresh told of topics, by name."""
    topics = [cluster.known_topic(name) for name in sorted(cluster.topic_names)]
    return [topic for topic in topics if topic is not None]


async def describe_quorum(cluster: Cluster) -> Quorum:
    """Voters and observers of the metadata log, and how far behind each is."""
    from ottla.wire.messages.describe_quorum_request import DescribeQuorumRequest, PartitionData, TopicData

    topic = TopicData(topic_name=METADATA_TOPIC, partitions=[PartitionData(partition_index=0)])
    answer = await cluster.ask_any(ApiKey.DESCRIBE_QUORUM, DescribeQuorumRequest(topics=[topic]))
    check(answer.error_code, answer.error_message, "the quorum")
    state = answer.topics[0].partitions[0]
    check(state.error_code, state.error_message, "the quorum")
    states = [("leader" if one.replica_id == state.leader_id else "voter", one) for one in state.current_voters]
    states += [("observer", one) for one in state.observers]
    end = max((one.log_end_offset for _, one in states), default=0)
    return Quorum(
        leader=state.leader_id,
        leader_epoch=state.leader_epoch,
        high_watermark=state.high_watermark,
        replicas=[_replica(role, one, end) for role, one in states],
    )


async def log_directories(cluster: Cluster, brokers: tuple[int, ...] = ()) -> list[LogDirRow]:
    """Every log directory of every broker with what it holds."""
    from ottla.wire.messages.describe_log_dirs_request import DescribeLogDirsRequest

    answers = await ask_each(cluster, ApiKey.DESCRIBE_LOG_DIRS, DescribeLogDirsRequest(topics=None), brokers or None)
    rows = []
    for node_id, answer in answers.items():
        check(answer.error_code, None, f"log directories of broker {node_id}")
        rows += [_directory(node_id, result) for result in answer.results]
    return rows


async def features(cluster: Cluster) -> list[FeatureRow]:
    """Features with the level the cluster has settled on and what the asked broker could do."""
    answer = await _api_versions(cluster)
    finalized = {one.name: one.max_version_level for one in answer.finalized_features}
    supported = {one.name: (one.min_version, one.max_version) for one in answer.supported_features}
    return [
        FeatureRow(
            feature=name,
            finalized=finalized.get(name, 0),
            min_supported=supported.get(name, (0, 0))[0],
            max_supported=supported.get(name, (0, 0))[1],
        )
        for name in sorted(finalized.keys() | supported.keys())
    ]


async def api_versions(cluster: Cluster) -> list[ApiRow]:
    """The APIs a broker serves, and the version this client speaks of each."""
    from ottla.wire.apis import API_SPECS

    rows = []
    for one in sorted((await _api_versions(cluster)).api_keys, key=lambda api: api.api_key):
        known = ApiKey(one.api_key) if one.api_key in set(ApiKey) else None
        spec = None if known is None else API_SPECS.get(known)
        used = None if spec is None else min(one.max_version, spec.latest_stable)
        rows.append(
            ApiRow(
                api=f"unknown {one.api_key}" if spec is None else spec.name,
                key=one.api_key,
                min_version=one.min_version,
                max_version=one.max_version,
                used=used if spec is not None and used is not None and used >= spec.lowest else None,
            )
        )
    return rows


async def _api_versions(cluster: Cluster) -> Any:
    from ottla import __version__
    from ottla.wire.messages.api_versions_request import ApiVersionsRequest

    request = ApiVersionsRequest(client_software_name="ottla", client_software_version=__version__)
    answer = await cluster.ask_any(ApiKey.API_VERSIONS, request)
    check(answer.error_code, None, "API versions")
    return answer


def _replica(role: str, state: Any, end: int) -> QuorumReplica:
    return QuorumReplica(
        node_id=state.replica_id,
        role=role,
        log_end_offset=state.log_end_offset,
        lag=max(0, end - state.log_end_offset) if state.log_end_offset >= 0 else end,
        last_fetch_ms=state.last_fetch_timestamp if state.last_fetch_timestamp > 0 else None,
        last_caught_up_ms=state.last_caught_up_timestamp if state.last_caught_up_timestamp > 0 else None,
        directory_id=str(state.replica_directory_id),
    )


def _directory(node_id: int, result: Any) -> LogDirRow:
    sizes = [
        (one.partition_size, f"{topic.name}-{one.partition_index}")
        for topic in result.topics
        for one in topic.partitions
    ]
    return LogDirRow(
        broker=node_id,
        directory=result.log_dir,
        error=error_text(result.error_code),
        topics=len(result.topics),
        partitions=len(sizes),
        size=sum(size for size, _ in sizes),
        total_bytes=result.total_bytes if result.total_bytes >= 0 else None,
        usable_bytes=result.usable_bytes if result.usable_bytes >= 0 else None,
        largest=[name for _, name in sorted(sizes, reverse=True)[:3]],
    )

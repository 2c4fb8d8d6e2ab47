"""The cluster as a whole: brokers, the metadata quorum, log directories, features, versions of the APIs."""

from ottla.cli.rows import ApiRow, BrokerRow, ClusterInfo, FeatureRow, LogDirRow, Quorum, QuorumReplica
from ottla.client import Admin, KafkaError
from ottla.client._cluster import Cluster
from ottla.wire.apis import ApiKey


async def describe_cluster(admin: Admin) -> ClusterInfo:
    """Brokers with what they lead and hold, and what is wrong with partitions."""
    topics = await admin.list_topics(internal=True)
    led: dict[int, int] = {}
    held: dict[int, int] = {}
    partitions = [one for topic in topics for one in topic.partitions.values()]
    for one in partitions:
        led[one.leader] = led.get(one.leader, 0) + 1
        for node_id in one.replicas:
            held[node_id] = held.get(node_id, 0) + 1
    found = await admin.describe_cluster(fenced=True)
    rows = [
        BrokerRow(
            node_id=one.node_id,
            host=one.host,
            port=one.port,
            rack=one.rack,
            controller=one.node_id == found.controller,
            fenced=one.fenced,
            leaders=led.get(one.node_id, 0),
            replicas=held.get(one.node_id, 0),
        )
        for one in sorted(found.brokers, key=lambda broker: broker.node_id)
    ]
    return ClusterInfo(
        cluster_id=found.cluster_id,
        controller=found.controller,
        brokers=rows,
        topics=len(topics),
        partitions=len(partitions),
        under_replicated=sum(len(one.isr) < len(one.replicas) for one in partitions),
        offline=sum(one.leader < 0 for one in partitions),
    )


async def describe_quorum(admin: Admin) -> Quorum:
    """Voters and observers of the metadata log, and how far behind each is."""
    found = await admin.describe_quorum()
    states = [("leader" if one.node_id == found.leader else "voter", one) for one in found.voters]
    states += [("observer", one) for one in found.observers]
    end = max((one.log_end_offset for _, one in states), default=0)
    replicas = [
        QuorumReplica(
            node_id=one.node_id,
            role=role,
            log_end_offset=one.log_end_offset,
            lag=max(0, end - max(one.log_end_offset, 0)),
            last_fetch_ms=one.last_fetch_at if one.last_fetch_at > 0 else None,
            last_caught_up_ms=one.last_caught_up_at if one.last_caught_up_at > 0 else None,
            directory_id=str(one.directory_id),
        )
        for role, one in states
    ]
    return Quorum(
        leader=found.leader, leader_epoch=found.leader_epoch, high_watermark=found.high_watermark, replicas=replicas
    )


async def log_directories(admin: Admin, brokers: tuple[int, ...] = ()) -> list[LogDirRow]:
    """Every log directory of every broker with what it holds."""
    rows = []
    for node_id, found in (await admin.describe_log_dirs(brokers=brokers or None)).items():
        if isinstance(found, KafkaError):
            raise found
        for one in found:
            sizes = sorted(((replica.size, str(place)) for place, replica in one.replicas.items()), reverse=True)
            row = LogDirRow(
                broker=node_id,
                directory=one.path,
                error=None if one.error is None else str(one.error),
                topics=len({place.topic for place in one.replicas}),
                partitions=len(sizes),
                size=sum(size for size, _ in sizes),
                total_bytes=one.total_bytes if one.total_bytes >= 0 else None,
                usable_bytes=one.usable_bytes if one.usable_bytes >= 0 else None,
                largest=[name for _, name in sizes[:3]],
            )
            rows.append(row)
    return rows


async def features(admin: Admin) -> list[FeatureRow]:
    """Features with the level the cluster has settled on and what the asked broker could do."""
    return [
        FeatureRow(feature=name, finalized=one.level, min_supported=one.lowest, max_supported=one.highest)
        for name, one in sorted((await admin.describe_features()).items())
    ]


async def api_versions(cluster: Cluster) -> list[ApiRow]:
    """The APIs a broker serves, and the version this client speaks of each."""
    from ottla import __version__
    from ottla.wire.apis import API_SPECS
    from ottla.wire.messages.api_versions_request import ApiVersionsRequest

    request = ApiVersionsRequest(client_software_name="ottla", client_software_version=__version__)
    answer = await cluster.ask_any(ApiKey.API_VERSIONS, request)
    rows = []
    for one in sorted(answer.api_keys, key=lambda api: api.api_key):
        spec = API_SPECS.get(ApiKey(one.api_key)) if one.api_key in set(ApiKey) else None
        used = None if spec is None else min(one.max_version, spec.latest_stable)
        spoken = spec is not None and used is not None and used >= max(spec.lowest, one.min_version)
        rows.append(
            ApiRow(
                api=f"unknown {one.api_key}" if spec is None else spec.name,
                key=one.api_key,
                min_version=one.min_version,
                max_version=one.max_version,
                used=used if spoken else None,
            )
        )
    return rows

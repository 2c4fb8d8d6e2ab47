"""Topics beyond what ``Admin`` has: more partitions, and records taken from the front."""

from collections.abc import Mapping

from ottla.cli.calls.asking import check
from ottla.client._cluster import Cluster
from ottla.model import TopicPartition
from ottla.wire.apis import ApiKey

TIMEOUT_MS = 30_000


async def add_partitions(cluster: Cluster, name: str, count: int, *, dry_run: bool = False) -> None:
    """Raise the number of partitions to ``count``."""
    from ottla.wire.messages.create_partitions_request import CreatePartitionsRequest, CreatePartitionsTopic

    topic = CreatePartitionsTopic(name=name, count=count, assignments=None)
    request = CreatePartitionsRequest(topics=[topic], timeout_ms=TIMEOUT_MS, validate_only=dry_run)
    (result,) = (await cluster.ask_any(ApiKey.CREATE_PARTITIONS, request)).results
    check(result.error_code, result.error_message, f"topic {name!r}")


async def delete_records(cluster: Cluster, before: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Delete every record before an offset, -1 for all there are; the new first offsets."""
    from ottla.wire.messages.delete_records_request import (
        DeleteRecordsPartition,
        DeleteRecordsRequest,
        DeleteRecordsTopic,
    )

    by_leader: dict[int, dict[str, list[DeleteRecordsPartition]]] = {}
    for place, offset in before.items():
        wanted = DeleteRecordsPartition(partition_index=place.partition, offset=offset)
        by_leader.setdefault(cluster.leader(place), {}).setdefault(place.topic, []).append(wanted)
    starts = {}
    for node_id, topics in sorted(by_leader.items()):
        peer = await cluster.peer(node_id)
        request = DeleteRecordsRequest(
            topics=[DeleteRecordsTopic(name=name, partitions=wanted) for name, wanted in topics.items()],
            timeout_ms=TIMEOUT_MS,
        )
        answer = await peer.request(ApiKey.DELETE_RECORDS, request)
        for topic in answer.topics:
            for one in topic.partitions:
                place = TopicPartition(topic.name, one.partition_index)
                check(one.error_code, None, str(place))
                starts[place] = one.low_watermark
    return starts

"""Looking up offsets: the start, the end, or the first record at a time."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from ottla.client._backoff import Backoff
from ottla.client._cluster import Cluster
from ottla.model import TopicPartition
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.list_offsets_request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.wire.messages.list_offsets_response import ListOffsetsResponse

LATEST: Final = -1
EARLIEST: Final = -2


async def list_offsets(
    cluster: Cluster, timestamps: Mapping[TopicPartition, int], *, read_committed: bool = False, seconds: float = 30.0
) -> dict[TopicPartition, int]:
    """The offset for each partition's timestamp (milliseconds, ``LATEST`` or ``EARLIEST``); -1 where none is that late.

    Leaders that move or cannot be reached are looked for again until ``seconds`` have passed. Raises ``KafkaError`` and
    ``ConnectionError``.
    """
    found: dict[TopicPartition, int] = {}
    backoff = Backoff(cluster.rng, initial=0.05)
    deadline = asyncio.get_running_loop().time() + seconds
    while len(found) < len(timestamps):
        missing = {place: timestamp for place, timestamp in timestamps.items() if place not in found}
        try:
            found |= await _ask_leaders(cluster, missing, read_committed=read_committed)
        except (ConnectionError, KafkaError) as error:
            retriable = isinstance(error, ConnectionError) or error.code.retriable
            if not retriable or asyncio.get_running_loop().time() >= deadline:
                raise
            await asyncio.sleep(backoff.next_seconds())
            await cluster.refresh({place.topic for place in missing})
    return found


async def _ask_leaders(
    cluster: Cluster, timestamps: Mapping[TopicPartition, int], *, read_committed: bool
) -> dict[TopicPartition, int]:
    found: dict[TopicPartition, int] = {}
    by_leader: defaultdict[int, defaultdict[str, list[ListOffsetsPartition]]] = defaultdict(lambda: defaultdict(list))
    for place, timestamp in timestamps.items():
        wanted = ListOffsetsPartition(partition_index=place.partition, timestamp=timestamp)
        by_leader[cluster.leader(place)][place.topic].append(wanted)
    for leader, topics in by_leader.items():
        if leader < 0:
            raise KafkaError(ErrorCode.LEADER_NOT_AVAILABLE, f"no leader for {', '.join(topics)}")
        request = ListOffsetsRequest(
            replica_id=-1,
            isolation_level=int(read_committed),
            topics=[ListOffsetsTopic(name=name, partitions=partitions) for name, partitions in topics.items()],
            timeout_ms=10_000,
        )
        peer = await cluster.peer(leader)
        response: ListOffsetsResponse = await peer.request(ApiKey.LIST_OFFSETS, request)
        for topic in response.topics:
            for partition in topic.partitions:
                place = TopicPartition(topic.name, partition.partition_index)
                if partition.error_code != ErrorCode.NONE:
                    raise KafkaError(ErrorCode(partition.error_code), f"offsets of {place}")
                found[place] = partition.offset
    return found

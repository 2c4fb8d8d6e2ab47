"""Looking up offsets: the start, the end, or the first record at a time."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from ottla.client._backoff import Backoff
from ottla.client._cluster import Cluster, topic_error
from ottla.client._errors import error_of
from ottla.model import TopicPartition
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.list_offsets_request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.wire.messages.list_offsets_response import ListOffsetsResponse

LATEST: Final = -1
EARLIEST: Final = -2


class OffsetAndMetadata(Struct, frozen=True):
    """An offset to commit, with a text that the group's members may read. ``leader_epoch`` -1: not known."""

    offset: int
    metadata: str = ""
    leader_epoch: int = -1


async def list_offsets(
    cluster: Cluster, timestamps: Mapping[TopicPartition, int], *, read_committed: bool = False, seconds: float = 30.0
) -> dict[TopicPartition, int]:
    """The offset for each partition's timestamp (milliseconds, ``LATEST`` or ``EARLIEST``); -1 where none is that late.

    Leaders that move or cannot be reached are looked for again until ``seconds`` have passed, or the client is closed.
    Raises ``KafkaError`` and ``ConnectionError``.
    """
    found = await find_offsets(cluster, timestamps, read_committed=read_committed, seconds=seconds)
    return {place: offset for place, (offset, _) in found.items()}


async def find_offsets(
    cluster: Cluster, timestamps: Mapping[TopicPartition, int], *, read_committed: bool = False, seconds: float = 30.0
) -> dict[TopicPartition, tuple[int, int]]:
    """As ``list_offsets``, with the leader epoch of each offset (-1 where the broker does not say)."""
    found: dict[TopicPartition, tuple[int, int]] = {}
    backoff = Backoff(cluster.rng, initial=0.05)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    stale = False
    while len(found) < len(timestamps):
        missing = {place: timestamp for place, timestamp in timestamps.items() if place not in found}
        try:
            if stale:
                # No longer than there is time, but for long enough to be answered.
                left = min(max(1.0, deadline - loop.time()), cluster.limits.request_seconds)
                _refuse(await cluster.refresh({place.topic for place in missing}, seconds=left))
            found |= await _ask_leaders(cluster, missing, read_committed=read_committed)
        except (ConnectionError, KafkaError) as error:
            retriable = isinstance(error, ConnectionError) or error.code.retriable
            if not retriable or cluster.closed or loop.time() >= deadline:
                raise
            await cluster.pause(backoff.next_seconds())
            stale = True
    return found


def _refuse(errors: Mapping[str, ErrorCode]) -> None:
    """Raise what will not be otherwise the next time metadata is asked for."""
    for name, code in errors.items():
        if not code.retriable:
            raise topic_error(name, code)


async def end_of_epoch(cluster: Cluster, place: TopicPartition, epoch: int, leader_epoch: int) -> int | None:
    """The end offset in the leader's log of ``epoch``, or of the last epoch before it; ``None`` if it cannot say.

    Raises ``KafkaError`` and ``ConnectionError``.
    """
    from ottla.wire.messages.offset_for_leader_epoch_request import (  # noqa: PLC0415 - few ever need it
        OffsetForLeaderEpochRequest,
        OffsetForLeaderPartition,
        OffsetForLeaderTopic,
    )

    peer = await cluster.peer(cluster.leader(place))
    if not peer.speaks(ApiKey.OFFSET_FOR_LEADER_EPOCH):
        return None
    asked = OffsetForLeaderPartition(partition=place.partition, current_leader_epoch=leader_epoch, leader_epoch=epoch)
    request = OffsetForLeaderEpochRequest(
        replica_id=-1, topics=[OffsetForLeaderTopic(topic=place.topic, partitions=[asked])]
    )
    response = await peer.request(ApiKey.OFFSET_FOR_LEADER_EPOCH, request)
    for topic in response.topics:
        for partition in topic.partitions:
            if partition.error_code != ErrorCode.NONE:
                code = ErrorCode.of(partition.error_code)
                if code.stale_metadata or code is ErrorCode.UNKNOWN_LEADER_EPOCH:
                    await cluster.refresh({place.topic})
                raise error_of(code, f"end of epoch {epoch} of {place}")
            return partition.end_offset if partition.end_offset >= 0 else None
    return None


async def _ask_leaders(
    cluster: Cluster, timestamps: Mapping[TopicPartition, int], *, read_committed: bool
) -> dict[TopicPartition, tuple[int, int]]:
    found: dict[TopicPartition, tuple[int, int]] = {}
    by_leader: defaultdict[int, defaultdict[str, list[ListOffsetsPartition]]] = defaultdict(lambda: defaultdict(list))
    for place, timestamp in timestamps.items():
        wanted = ListOffsetsPartition(
            partition_index=place.partition, timestamp=timestamp, current_leader_epoch=cluster.leader_epoch(place)
        )
        by_leader[cluster.leader(place)][place.topic].append(wanted)
    for leader, topics in by_leader.items():
        if leader < 0:
            raise error_of(ErrorCode.LEADER_NOT_AVAILABLE, f"no leader for {', '.join(topics)}")
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
                    raise error_of(partition.error_code, f"offsets of {place}")
                found[place] = (partition.offset, partition.leader_epoch)
    left_out = timestamps.keys() - found.keys()
    if left_out:
        places = ", ".join(map(str, sorted(left_out)))
        raise error_of(ErrorCode.LEADER_NOT_AVAILABLE, f"the brokers' answers left out the offsets of {places}")
    return found

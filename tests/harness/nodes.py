"""A node in the process of the test: its parts within reach, its disk in the hands of the test, a small client."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from ottla.broker.node import Node
from ottla.config.broker import BrokerConfig
from ottla.metadata.controller.topics import CreateTopics, NewTopic
from ottla.net.peer import Peer
from ottla.records.batch import iter_headers
from ottla.records.builder import BatchBuilder
from ottla.records.reader import read_records
from ottla.testing.crash_images import FaultyDisk
from ottla.wire.apis import ApiKey
from ottla.wire.messages.delete_topics_request import DeleteTopicsRequest, DeleteTopicState
from ottla.wire.messages.describe_log_dirs_request import DescribeLogDirsRequest
from ottla.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
from ottla.wire.messages.list_offsets_request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.wire.messages.metadata_request import MetadataRequest
from ottla.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData

TOPIC = "orders"


class Trouble:
    """What the disk does to calls below a path: nothing, or an error for some kinds of calls."""

    def __init__(self) -> None:
        self.below = ""
        self.kinds: frozenset[str] = frozenset()
        self.number = errno.EIO
        self.disk = FaultyDisk(self._gate)

    def begin(self, below: Path | str, *kinds: str, number: int = errno.EIO) -> None:
        self.below, self.kinds, self.number = str(below), frozenset(kinds), number

    def end(self) -> None:
        self.kinds = frozenset()

    def _gate(self, number: int, kind: str, path: str) -> None:
        if kind in self.kinds and path.startswith(self.below):
            raise OSError(self.number, os.strerror(self.number), path)


class Client:
    """The few requests the tests make, on one connection."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    @classmethod
    async def connect(cls, node: Node) -> "Client":
        host, port = node.bootstrap.rsplit(":", 1)
        return cls(await Peer.connect(host, int(port)))

    async def produce(self, partition: int, value: bytes, *, acks: int = -1) -> int:
        builder = BatchBuilder()
        builder.append(1_700_000_000_000, None, value)
        data = PartitionProduceData(index=partition, records=builder.build())
        answer = await self.peer.request(
            ApiKey.PRODUCE,
            ProduceRequest(
                acks=acks, timeout_ms=5000, topic_data=[TopicProduceData(name=TOPIC, partition_data=[data])]
            ),
            9,
        )
        return int(answer.responses[0].partition_responses[0].error_code)

    async def consume(self, partition: int, offset: int = 0, *, max_wait_ms: int = 5000) -> tuple[int, list[bytes]]:
        wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1 << 20)
        answer = await self.peer.request(
            ApiKey.FETCH,
            FetchRequest(max_wait_ms=max_wait_ms, min_bytes=1, topics=[FetchTopic(topic=TOPIC, partitions=[wanted])]),
            11,
        )
        part = answer.responses[0].partitions[0]
        data = bytes(part.records or b"")
        values = [
            record.value or b""
            for position, header in iter_headers(data, partial_tail=True)
            for record in read_records(data[position : position + header.size])
        ]
        return int(part.error_code), values

    async def directories(self) -> dict[str, int]:
        answer = await self.peer.request(ApiKey.DESCRIBE_LOG_DIRS, DescribeLogDirsRequest(topics=None))
        return {os.path.basename(result.log_dir): int(result.error_code) for result in answer.results}

    async def topics(self) -> list[str]:
        answer = await self.peer.request(ApiKey.METADATA, MetadataRequest(topics=None), 9)
        return [topic.name for topic in answer.topics]

    async def end_offset(self, partition: int) -> tuple[int, int]:
        wanted = ListOffsetsPartition(partition_index=partition, timestamp=-1)
        answer = await self.peer.request(
            ApiKey.LIST_OFFSETS, ListOffsetsRequest(topics=[ListOffsetsTopic(name=TOPIC, partitions=[wanted])]), 5
        )
        part = answer.topics[0].partitions[0]
        return int(part.error_code), int(part.offset)

    async def delete_topic(self) -> int:
        answer = await self.peer.request(
            ApiKey.DELETE_TOPICS, DeleteTopicsRequest(topics=[DeleteTopicState(name=TOPIC)], timeout_ms=5000), 6
        )
        return int(answer.responses[0].error_code)


def config_of(*directories: Path, **properties: str) -> BrokerConfig:
    return BrokerConfig.parse(
        {
            "node.id": "1",
            "listeners": "PLAINTEXT://127.0.0.1:0",
            "log.dirs": ",".join(map(str, directories)),
            **{key.replace("_", "."): value for key, value in properties.items()},
        }
    )


async def create(node: Node, partitions: int) -> None:
    topics = (NewTopic(name=TOPIC, partitions=partitions),)
    await node._driver.submit(lambda controller, _: controller.create_topics(CreateTopics(topics=topics)))


def in_loop(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))

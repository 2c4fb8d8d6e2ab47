"""What cases share: making topics, and the short forms of produce and fetch requests."""

from __future__ import annotations

import time
from typing import Any

from harness.twins import NOW, Row, Twin, batch
from ottla.model import Uuid
from ottla.wire.messages.create_topics_request import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from ottla.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
from ottla.wire.messages.init_producer_id_request import InitProducerIdRequest
from ottla.wire.messages.list_offsets_request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from ottla.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData

__all__ = ["NOW", "Row", "batch", "fetch", "make", "new_producer", "produce", "put"]


def make(twin: Twin, name: str, partitions: int = 1, **configs: str) -> str:
    """Create a topic (`_` in config names stands for a dot) and learn its id."""
    rows = [CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in configs.items()]
    topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=1, configs=rows)
    code = twin.call(CreateTopicsRequest(topics=[topic]), 5).topics[0].error_code
    assert code == 0, (name, code)
    learn(twin, name)
    return name


def learn(twin: Twin, name: str) -> None:
    """Give the topic's id its name."""
    for _ in range(200):
        found = twin.call(
            MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False), 12
        )
        if found.topics[0].error_code == 0 and all(part.error_code == 0 for part in found.topics[0].partitions):
            twin.ids[name] = found.topics[0].topic_id
            wait_for_leaders(twin, name, len(found.topics[0].partitions))
            return
        time.sleep(0.01)
    raise AssertionError(f"{name} does not come up")


def wait_for_leaders(twin: Twin, name: str, partitions: int) -> None:
    """Metadata knows a topic a little before its leader serves it."""
    rows = [ListOffsetsPartition(partition_index=index, timestamp=-1) for index in range(partitions)]
    request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=name, partitions=rows)])
    for _ in range(400):
        if all(part.error_code == 0 for part in twin.call(request, 5).topics[0].partitions):
            return
        time.sleep(0.01)
    raise AssertionError(f"{name} has no leaders")


def produce(
    twin: Twin, version: int, topic: str, records: bytes | None, *, acks: int = -1, partition: int = 0, **rest: Any
) -> ProduceRequest:
    """A request with one batch; by id from version 13."""
    by_id = version >= 13
    data = TopicProduceData(
        name="" if by_id else topic,
        topic_id=rest.pop("topic_id", twin.ids.get(topic, Uuid(b"\x01" * 16))) if by_id else Uuid.ZERO,
        partition_data=[PartitionProduceData(index=partition, records=records)],
    )
    return ProduceRequest(acks=acks, timeout_ms=5000, topic_data=[data], **rest)


def put(twin: Twin, topic: str, *rows: Row, partition: int = 0, **lies: Any) -> None:
    """Append one batch that must be accepted."""
    answer = twin.call(produce(twin, 9, topic, batch(*rows, **lies), partition=partition), 9)
    part = answer.responses[0].partition_responses[0]
    assert part.error_code == 0, (topic, part)


def fetch(twin: Twin, version: int, *parts: FetchPartition, topic: str, **rest: Any) -> FetchRequest:
    """A fetch of one topic that answers at once; by id from version 13."""
    by_id = version >= 13
    entry = FetchTopic(
        topic="" if by_id else topic,
        topic_id=twin.ids.get(topic, Uuid(b"\x01" * 16)) if by_id else Uuid.ZERO,
        partitions=list(parts),
    )
    rest = {"max_wait_ms": 0, "min_bytes": 0, "topics": [entry], **rest}
    return FetchRequest(**rest)


def new_producer(twin: Twin, name: str = "P") -> tuple[int, int]:
    """A producer id and epoch; the id goes by `name` in answers."""
    for _ in range(100):
        answer = twin.call(InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000), 4)
        if answer.error_code == 0:
            break
        time.sleep(0.05)  # a fresh Apache node asks its controller for ids first
    assert answer.error_code == 0
    twin.producers[answer.producer_id] = name
    return answer.producer_id, answer.producer_epoch

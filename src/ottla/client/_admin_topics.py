"""Administration of topics: creation, partitions, records, offsets, leaders, placement."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from ottla.client._admin_ask import TIMEOUT_MS, ask_leaders, by_topic, outcome
from ottla.client._cluster import Cluster
from ottla.client._errors import raise_for
from ottla.model import TopicPartition, Uuid
from ottla.net.peer import Peer
from ottla.wire.apis import ApiKey
from ottla.wire.errors import KafkaError
from ottla.wire.messages.alter_partition_reassignments_request import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.wire.messages.alter_partition_reassignments_response import AlterPartitionReassignmentsResponse
from ottla.wire.messages.create_partitions_request import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from ottla.wire.messages.create_partitions_response import CreatePartitionsResponse
from ottla.wire.messages.create_topics_request import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.wire.messages.create_topics_response import CreateTopicsResponse
from ottla.wire.messages.delete_records_request import DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic
from ottla.wire.messages.delete_records_response import DeleteRecordsResponse
from ottla.wire.messages.delete_topics_request import DeleteTopicsRequest, DeleteTopicState
from ottla.wire.messages.delete_topics_response import DeleteTopicsResponse
from ottla.wire.messages.elect_leaders_request import ElectLeadersRequest, TopicPartitions
from ottla.wire.messages.elect_leaders_response import ElectLeadersResponse
from ottla.wire.messages.list_offsets_request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.wire.messages.list_offsets_response import ListOffsetsResponse
from ottla.wire.messages.list_partition_reassignments_request import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from ottla.wire.messages.list_partition_reassignments_response import ListPartitionReassignmentsResponse

SPECS: Final = {"latest": -1, "earliest": -2, "max_timestamp": -3, "earliest_local": -4, "latest_tiered": -5}
BY_ID_VERSION: Final = 6
"""From here on DeleteTopics names topics in a structure of their own."""


class NewTopic(Struct, frozen=True):
    """A topic to create; -1 takes the broker's default. ``assignment``: replicas by partition instead of counts."""

    name: str
    partitions: int = -1
    replication_factor: int = -1
    config: Mapping[str, str] = {}
    assignment: Mapping[int, Sequence[int]] = {}


class CreatedTopic(Struct, frozen=True, kw_only=True):
    """A topic as it was created."""

    name: str
    topic_id: Uuid
    partitions: int
    replication_factor: int


class ListedOffset(Struct, frozen=True, kw_only=True):
    """An offset that was looked up; -1 where there is none. ``timestamp`` is that of the record, if one was meant."""

    offset: int
    timestamp: int
    leader_epoch: int


class Reassignment(Struct, frozen=True, kw_only=True):
    """A partition whose replicas are being moved."""

    replicas: tuple[int, ...]
    adding: tuple[int, ...]
    removing: tuple[int, ...]


async def create_topics(
    cluster: Cluster, topics: Iterable[NewTopic], *, validate_only: bool, timeout_ms: int
) -> dict[str, CreatedTopic | KafkaError]:
    wanted = [
        CreatableTopic(
            name=topic.name,
            num_partitions=-1 if topic.assignment else topic.partitions,
            replication_factor=-1 if topic.assignment else topic.replication_factor,
            configs=[CreatableTopicConfig(name=key, value=value) for key, value in topic.config.items()],
            assignments=[
                CreatableReplicaAssignment(partition_index=number, broker_ids=list(brokers))
                for number, brokers in topic.assignment.items()
            ],
        )
        for topic in topics
    ]
    request = CreateTopicsRequest(topics=wanted, timeout_ms=timeout_ms, validate_only=validate_only)
    response: CreateTopicsResponse = await cluster.ask_any(ApiKey.CREATE_TOPICS, request)
    return {
        result.name: outcome(
            result.error_code,
            result.error_message,
            f"topic {result.name!r}",
            CreatedTopic(
                name=result.name,
                topic_id=result.topic_id,
                partitions=result.num_partitions,
                replication_factor=result.replication_factor,
            ),
        )
        for result in response.topics
    }


async def delete_topics(cluster: Cluster, names: Iterable[str], *, timeout_ms: int) -> dict[str, KafkaError | None]:
    wanted = list(names)

    def request(version: int) -> DeleteTopicsRequest:
        if version >= BY_ID_VERSION:
            return DeleteTopicsRequest(topics=[DeleteTopicState(name=name) for name in wanted], timeout_ms=timeout_ms)
        return DeleteTopicsRequest(topic_names=wanted, timeout_ms=timeout_ms)

    response: DeleteTopicsResponse = await cluster.ask_any(ApiKey.DELETE_TOPICS, request)
    return {
        result.name or "": outcome(result.error_code, result.error_message, f"topic {result.name!r}", None)
        for result in response.responses
    }


async def create_partitions(
    cluster: Cluster,
    counts: Mapping[str, int],
    *,
    assignments: Mapping[str, Sequence[Sequence[int]]],
    validate_only: bool,
) -> dict[str, KafkaError | None]:
    topics = [
        CreatePartitionsTopic(
            name=name,
            count=count,
            assignments=[CreatePartitionsAssignment(broker_ids=list(brokers)) for brokers in assignments[name]]
            if name in assignments
            else None,
        )
        for name, count in counts.items()
    ]
    request = CreatePartitionsRequest(topics=topics, timeout_ms=TIMEOUT_MS, validate_only=validate_only)
    response: CreatePartitionsResponse = await cluster.ask_any(ApiKey.CREATE_PARTITIONS, request)
    return {
        result.name: outcome(result.error_code, result.error_message, f"topic {result.name!r}", None)
        for result in response.results
    }


async def delete_records(
    cluster: Cluster, offsets: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int | KafkaError]:
    async def ask(peer: Peer, places: list[TopicPartition]) -> dict[TopicPartition, int | KafkaError]:
        topics = [
            DeleteRecordsTopic(
                name=name,
                partitions=[
                    DeleteRecordsPartition(partition_index=number, offset=offsets[TopicPartition(name, number)])
                    for number in numbers
                ],
            )
            for name, numbers in by_topic(places).items()
        ]
        request = DeleteRecordsRequest(topics=topics, timeout_ms=TIMEOUT_MS)
        response: DeleteRecordsResponse = await peer.request(ApiKey.DELETE_RECORDS, request)
        return {
            (place := TopicPartition(topic.name, one.partition_index)): outcome(
                one.error_code, None, f"records of {place}", one.low_watermark
            )
            for topic in response.topics
            for one in topic.partitions
        }

    return await ask_leaders(cluster, offsets, ask)


async def list_offsets(
    cluster: Cluster, specs: Mapping[TopicPartition, str | int], *, read_committed: bool
) -> dict[TopicPartition, ListedOffset | KafkaError]:
    timestamps = {place: SPECS[spec] if isinstance(spec, str) else spec for place, spec in specs.items()}

    async def ask(peer: Peer, places: list[TopicPartition]) -> dict[TopicPartition, ListedOffset | KafkaError]:
        topics = [
            ListOffsetsTopic(
                name=name,
                partitions=[
                    ListOffsetsPartition(partition_index=number, timestamp=timestamps[TopicPartition(name, number)])
                    for number in numbers
                ],
            )
            for name, numbers in by_topic(places).items()
        ]
        version = peer.version_of(ApiKey.LIST_OFFSETS)
        request = ListOffsetsRequest(replica_id=-1, isolation_level=int(read_committed), topics=topics)
        if version >= 10:
            request.timeout_ms = TIMEOUT_MS
        response: ListOffsetsResponse = await peer.request(ApiKey.LIST_OFFSETS, request, version)
        return {
            (place := TopicPartition(topic.name, one.partition_index)): outcome(
                one.error_code,
                None,
                f"offsets of {place}",
                ListedOffset(offset=one.offset, timestamp=one.timestamp, leader_epoch=one.leader_epoch),
            )
            for topic in response.topics
            for one in topic.partitions
        }

    return await ask_leaders(cluster, specs, ask)


async def elect_leaders(
    cluster: Cluster, places: Iterable[TopicPartition] | None, *, unclean: bool
) -> dict[TopicPartition, KafkaError | None]:
    topics = (
        None
        if places is None
        else [TopicPartitions(topic=name, partitions=numbers) for name, numbers in by_topic(places).items()]
    )
    request = ElectLeadersRequest(election_type=int(unclean), topic_partitions=topics, timeout_ms=TIMEOUT_MS)
    response: ElectLeadersResponse = await cluster.ask_any(ApiKey.ELECT_LEADERS, request)
    raise_for(response.error_code, None, "election")
    return {
        (place := TopicPartition(topic.topic, one.partition_id)): outcome(
            one.error_code, one.error_message, f"leader of {place}", None
        )
        for topic in response.replica_election_results
        for one in topic.partition_result
    }


async def alter_reassignments(
    cluster: Cluster, replicas: Mapping[TopicPartition, Sequence[int] | None]
) -> dict[TopicPartition, KafkaError | None]:
    topics = [
        ReassignableTopic(
            name=name,
            partitions=[
                ReassignablePartition(partition_index=number, replicas=_as_list(replicas[TopicPartition(name, number)]))
                for number in numbers
            ],
        )
        for name, numbers in by_topic(replicas).items()
    ]
    request = AlterPartitionReassignmentsRequest(timeout_ms=TIMEOUT_MS, topics=topics)
    response: AlterPartitionReassignmentsResponse = await cluster.ask_any(ApiKey.ALTER_PARTITION_REASSIGNMENTS, request)
    raise_for(response.error_code, response.error_message, "reassignment")
    return {
        (place := TopicPartition(topic.name, one.partition_index)): outcome(
            one.error_code, one.error_message, f"replicas of {place}", None
        )
        for topic in response.responses
        for one in topic.partitions
    }


async def list_reassignments(
    cluster: Cluster, places: Iterable[TopicPartition] | None
) -> dict[TopicPartition, Reassignment]:
    topics = (
        None
        if places is None
        else [
            ListPartitionReassignmentsTopics(name=name, partition_indexes=numbers)
            for name, numbers in by_topic(places).items()
        ]
    )
    request = ListPartitionReassignmentsRequest(timeout_ms=TIMEOUT_MS, topics=topics)
    response: ListPartitionReassignmentsResponse = await cluster.ask_any(ApiKey.LIST_PARTITION_REASSIGNMENTS, request)
    raise_for(response.error_code, response.error_message, "reassignments")
    return {
        TopicPartition(topic.name, one.partition_index): Reassignment(
            replicas=tuple(one.replicas), adding=tuple(one.adding_replicas), removing=tuple(one.removing_replicas)
        )
        for topic in response.topics
        for one in topic.partitions
    }


def _as_list(replicas: Sequence[int] | None) -> list[int] | None:
    return None if replicas is None else list(replicas)

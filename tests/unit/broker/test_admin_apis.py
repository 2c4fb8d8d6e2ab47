"""The handlers of metadata and administration, over a controller without disk or network."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from ottla.broker.config_changes import BrokerSettings
from ottla.broker.context import RequestContext
from ottla.broker.handlers.alter_configs import AlterConfigsHandler
from ottla.broker.handlers.create_partitions import CreatePartitionsHandler
from ottla.broker.handlers.create_topics import CreateTopicsHandler
from ottla.broker.handlers.delete_topics import DeleteTopicsHandler
from ottla.broker.handlers.describe_cluster import DescribeClusterHandler
from ottla.broker.handlers.describe_configs import DescribeConfigsHandler
from ottla.broker.handlers.describe_topic_partitions import DescribeTopicPartitionsHandler
from ottla.broker.handlers.incremental_alter_configs import IncrementalAlterConfigsHandler
from ottla.broker.handlers.list_config_resources import ListConfigResourcesHandler
from ottla.broker.handlers.metadata import MetadataHandler
from ottla.broker.handlers.update_features import UpdateFeaturesHandler
from ottla.metadata.controller import Controller, ControllerSettings
from ottla.metadata.controller.brokers import Heartbeat, Registration
from ottla.metadata.features import FRESH_LEVELS, broker_features
from ottla.metadata.image import ClusterImage, Endpoint
from ottla.metadata.record import MetadataRecord
from ottla.metadata.transaction import TransactionTracker
from ottla.model import Decision, Uuid
from ottla.wire import decode, encode
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.frame import RequestHeader
from ottla.wire.messages import alter_configs_request as alter
from ottla.wire.messages import create_partitions_request as grow
from ottla.wire.messages import create_topics_request as create
from ottla.wire.messages import delete_topics_request as delete
from ottla.wire.messages import describe_cluster_request as cluster_request
from ottla.wire.messages import describe_configs_request as describe
from ottla.wire.messages import describe_topic_partitions_request as pages
from ottla.wire.messages import incremental_alter_configs_request as incremental
from ottla.wire.messages import list_config_resources_request as resources
from ottla.wire.messages import metadata_request as metadata
from ottla.wire.messages import update_features_request as features
from ottla.wire.messages.feature_level_record import FeatureLevelRecord


class Cluster:
    """Commits at once."""

    def __init__(self) -> None:
        records = tuple(
            MetadataRecord(FeatureLevelRecord(name=name, feature_level=level), 0) for name, level in FRESH_LEVELS
        )
        self.controller = Controller(
            ControllerSettings(cluster_id="cluster", node_id=1, bootstrap=records),
            ClusterImage(),
            rng=Random(1),
            transaction=TransactionTracker(),
        )
        self.take(self.controller.activate(0))
        self.available = True
        for broker_id in (1, 2):
            self.join(broker_id)

    def join(self, broker_id: int) -> None:
        registration = Registration(
            broker_id=broker_id,
            cluster_id="cluster",
            incarnation_id=Uuid(bytes([broker_id] * 16)),
            endpoints=(Endpoint(name="PLAINTEXT", host=f"host{broker_id}", port=9092),),
            features=broker_features(),
            log_dirs=(Uuid(bytes([200 + broker_id] * 16)),),
        )
        epoch = self.take(self.controller.register_broker(registration, 0))
        self.take(
            self.controller.heartbeat(Heartbeat(broker_id=broker_id, broker_epoch=epoch, metadata_offset=epoch), 0)
        )

    def take(self, decision: Decision[Any, Any]) -> Any:
        if decision.records:
            self.controller.apply_all(decision.records, self.controller.state.next_offset)
        return decision.response

    async def submit(self, command: Callable[[Controller, int], Decision[Any, Any]]) -> Any:
        if not self.available:
            raise KafkaError(ErrorCode.NOT_CONTROLLER, "away")
        return self.take(command(self.controller, 0))

    def image(self) -> ClusterImage:
        return self.controller.image


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def ask(handler: Any, request: Any, version: int) -> Any:
    """The answer after a trip through bytes in that version."""
    context = RequestContext(
        header=RequestHeader(0, version, 1, "test"), client_address=("c", 1), listener_name="PLAINTEXT", now_ms=5
    )

    async def wait(answer: Awaitable[Any]) -> Any:
        return await answer

    answer = handler.handle(context, request)
    answer = asyncio.run(wait(answer)) if isinstance(answer, Awaitable) else answer
    return decode(type(answer), encode(answer, version), version)


def make(cluster: Cluster, *names: str, partitions: int = 1) -> None:
    topics = [create.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1) for name in names]
    ask(CreateTopicsHandler(submit=cluster.submit), create.CreateTopicsRequest(topics=topics), 7)


def metadata_handler(cluster: Cluster, created: list[str] | None = None) -> MetadataHandler:
    async def create_missing(names: Any) -> dict[str, ErrorCode]:
        assert created is not None
        created.extend(names)
        make_now = [create.CreatableTopic(name=name, num_partitions=1, replication_factor=1) for name in names]
        await CreateTopicsHandler(submit=cluster.submit).handle(
            RequestContext(header=RequestHeader(19, 7, 1, "t"), client_address=("c", 1), listener_name="L", now_ms=0),
            create.CreateTopicsRequest(topics=make_now),
        )
        return {}

    return MetadataHandler(
        node_id=1,
        cluster_id="cluster",
        image=cluster.image,
        create_missing=create_missing if created is not None else None,
    )


@pytest.mark.parametrize("version", range(14))
def test_metadata_in_every_version(cluster: Cluster, version: int) -> None:
    make(cluster, "t", partitions=2)
    everything = metadata.MetadataRequest(topics=[] if version == 0 else None)
    answer = ask(metadata_handler(cluster), everything, version)
    assert [(broker.node_id, broker.host) for broker in answer.brokers] == [(1, "host1"), (2, "host2")]
    (topic,) = answer.topics
    assert (topic.name, topic.error_code, len(topic.partitions)) == ("t", 0, 2)
    assert all(part.leader_id in (1, 2) and part.error_code == 0 for part in topic.partitions)
    if version >= 10:
        assert topic.topic_id == cluster.image().topics["t"].topic_id


def test_metadata_creates_what_it_is_asked_for(cluster: Cluster) -> None:
    created: list[str] = []
    handler = metadata_handler(cluster, created)
    asked = [metadata.MetadataRequestTopic(name=name) for name in ("new", "bad name", "__consumer_offsets")]
    refused = ask(handler, metadata.MetadataRequest(topics=asked, allow_auto_topic_creation=False), 9)
    assert [topic.error_code for topic in refused.topics] == [3, 17, 3]
    answer = ask(handler, metadata.MetadataRequest(topics=asked), 9)
    assert created == ["new"]
    assert [(topic.error_code, len(topic.partitions)) for topic in answer.topics] == [(0, 1), (17, 0), (3, 0)]


def test_metadata_of_a_partition_without_a_leader_or_listener(cluster: Cluster) -> None:
    make(cluster, "t")
    leader = cluster.image().topics["t"].partitions[0].leader
    epoch = cluster.image().brokers[leader].epoch
    heartbeat = Heartbeat(broker_id=leader, broker_epoch=epoch, metadata_offset=10**6, want_fence=True)
    cluster.take(cluster.controller.heartbeat(heartbeat, 0))
    answer = ask(metadata_handler(cluster), metadata.MetadataRequest(topics=None), 12)
    (partition,) = answer.topics[0].partitions
    assert (partition.error_code, partition.leader_id, partition.offline_replicas) == (5, -1, [leader])
    assert [broker.node_id for broker in answer.brokers] == [3 - leader]


def test_ids_before_they_were_invented_are_refused(cluster: Cluster) -> None:
    by_id = metadata.MetadataRequestTopic(name=None, topic_id=Uuid(bytes(range(16))))
    answer = ask(metadata_handler(cluster), metadata.MetadataRequest(topics=[by_id]), 11)
    assert [topic.error_code for topic in answer.topics] == [int(ErrorCode.INVALID_REQUEST)]
    answer = ask(metadata_handler(cluster), metadata.MetadataRequest(topics=[by_id]), 12)
    assert [(topic.error_code, topic.name) for topic in answer.topics] == [(int(ErrorCode.UNKNOWN_TOPIC_ID), None)]


@pytest.mark.parametrize("version", range(2, 8))
def test_create_topics_in_every_version(cluster: Cluster, version: int) -> None:
    topics = [
        create.CreatableTopic(name=name, num_partitions=1, replication_factor=1)
        for name in ("a", "twice", "twice", "__cluster_metadata")
    ]
    answer = ask(CreateTopicsHandler(submit=cluster.submit), create.CreateTopicsRequest(topics=topics), version)
    assert {topic.name: topic.error_code for topic in answer.topics} == {"a": 0, "twice": 42, "__cluster_metadata": 42}
    if version >= 5:
        assert {config.name for config in answer.topics[0].configs} >= {"retention.ms", "cleanup.policy"}
    assert list(cluster.image().topics) == ["a"]


def test_topics_page_by_page(cluster: Cluster) -> None:
    make(cluster, "a", "b", partitions=3)
    handler = DescribeTopicPartitionsHandler(image=cluster.image, partitions_max=2)
    seen: list[tuple[str, int]] = []
    cursor = None
    for _ in range(10):
        answer = ask(handler, pages.DescribeTopicPartitionsRequest(cursor=cursor), 0)
        seen.extend((topic.name, part.partition_index) for topic in answer.topics for part in topic.partitions)
        if answer.next_cursor is None:
            break
        cursor = pages.Cursor(
            topic_name=answer.next_cursor.topic_name, partition_index=answer.next_cursor.partition_index
        )
    assert seen == [(name, index) for name in ("a", "b") for index in range(3)]


def test_deletion_by_name_and_id(cluster: Cluster) -> None:
    make(cluster, "a", "b", "c")
    ids = {name: topic.topic_id for name, topic in cluster.image().topics.items()}
    handler = DeleteTopicsHandler(submit=cluster.submit, enabled=True)
    states = [
        delete.DeleteTopicState(name="a"),
        delete.DeleteTopicState(name=None, topic_id=ids["b"]),
        delete.DeleteTopicState(name=None, topic_id=ids["c"]),
        delete.DeleteTopicState(name="c"),
        delete.DeleteTopicState(name="gone"),
        delete.DeleteTopicState(name=None, topic_id=Uuid(bytes(range(16)))),
    ]
    answer = ask(handler, delete.DeleteTopicsRequest(topics=states), 6)
    codes = {(result.name, result.topic_id): result.error_code for result in answer.responses}
    assert codes[("a", ids["a"])] == codes[("b", ids["b"])] == 0
    assert codes[("c", ids["c"])] == int(ErrorCode.INVALID_REQUEST)
    assert codes[("gone", Uuid.ZERO)] == int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    assert list(cluster.image().topics) == ["c"]
    disabled = DeleteTopicsHandler(submit=cluster.submit, enabled=False)
    for version, code in ((1, ErrorCode.INVALID_REQUEST), (5, ErrorCode.TOPIC_DELETION_DISABLED)):
        answer = ask(disabled, delete.DeleteTopicsRequest(topic_names=["c"]), version)
        assert [result.error_code for result in answer.responses] == [int(code)]


def settings_of(cluster: Cluster) -> BrokerSettings:
    return BrokerSettings(node_id=1, static_config={"num.partitions": "3"}, image=cluster.image)


def test_configs_are_altered_and_described(cluster: Cluster) -> None:
    make(cluster, "t")
    handler = IncrementalAlterConfigsHandler(broker=settings_of(cluster), submit=cluster.submit)
    request = incremental.IncrementalAlterConfigsRequest(
        resources=[
            incremental.AlterConfigsResource(
                resource_type=resource_type,
                resource_name=name,
                configs=[incremental.AlterableConfig(name=key, config_operation=0, value=value)],
            )
            for resource_type, name, key, value in (
                (2, "t", "retention.ms", "5"),
                (2, "gone", "retention.ms", "5"),
                (4, "2", "log.retention.ms", "6"),
                (4, "", "log.retention.ms", "7"),
                (4, "1", "num.partitions", "7"),
                (8, "1", "nobody", "INFO"),
            )
        ]
    )
    answer = ask(handler, request, 1)
    assert [result.error_code for result in answer.responses] == [0, 3, 42, 0, 42, 40]
    describer = DescribeConfigsHandler(node_id=1, static_config={"num.partitions": "3"}, image=cluster.image)
    asked = [
        describe.DescribeConfigsResource(resource_type=2, resource_name="t", configuration_keys=["retention.ms"]),
        describe.DescribeConfigsResource(resource_type=4, resource_name="", configuration_keys=None),
        describe.DescribeConfigsResource(resource_type=4, resource_name="2", configuration_keys=None),
    ]
    described = ask(describer, describe.DescribeConfigsRequest(resources=asked, include_synonyms=True), 4).results
    (retention,) = described[0].configs
    assert (retention.value, retention.config_source) == ("5", 1)
    assert [(synonym.name, synonym.value) for synonym in retention.synonyms][:2] == [
        ("retention.ms", "5"),
        ("log.retention.ms", "7"),
    ]
    assert {config.name for config in described[1].configs} == {"log.retention.ms", "min.insync.replicas"}
    assert described[2].error_code == int(ErrorCode.INVALID_REQUEST)


def test_the_old_way_to_alter_resets_the_rest(cluster: Cluster) -> None:
    make(cluster, "t")
    handler = AlterConfigsHandler(broker=settings_of(cluster), submit=cluster.submit)
    for settings in ({"retention.ms": "5", "segment.ms": "6"}, {"segment.ms": "6"}):
        request = alter.AlterConfigsRequest(
            resources=[
                alter.AlterConfigsResource(
                    resource_type=2,
                    resource_name="t",
                    configs=[alter.AlterableConfig(name=name, value=value) for name, value in settings.items()],
                )
            ]
        )
        assert ask(handler, request, 2).responses[0].error_code == 0
        assert cluster.image().topic_config("t") == settings


def test_nobody_to_ask_is_an_answer_too(cluster: Cluster) -> None:
    make(cluster, "t")
    cluster.available = False
    topic = create.CreatableTopic(name="u", num_partitions=1, replication_factor=1)
    answer = ask(CreateTopicsHandler(submit=cluster.submit), create.CreateTopicsRequest(topics=[topic]), 7)
    assert answer.topics[0].error_code == int(ErrorCode.NOT_CONTROLLER)
    more = grow.CreatePartitionsTopic(name="t", count=2, assignments=None)
    answer = ask(CreatePartitionsHandler(submit=cluster.submit), grow.CreatePartitionsRequest(topics=[more]), 3)
    assert answer.results[0].error_code == int(ErrorCode.NOT_CONTROLLER)
    update = features.FeatureUpdateKey(feature="group.version", max_version_level=1)
    request = features.UpdateFeaturesRequest(feature_updates=[update])
    answer = ask(UpdateFeaturesHandler(submit=cluster.submit), request, 2)
    assert answer.error_code == int(ErrorCode.NOT_CONTROLLER)


def test_describe_cluster(cluster: Cluster) -> None:
    handler = DescribeClusterHandler(node_id=2, cluster_id="cluster", image=cluster.image)
    answer = ask(handler, cluster_request.DescribeClusterRequest(include_cluster_authorized_operations=True), 2)
    assert (answer.controller_id, len(answer.brokers), answer.cluster_authorized_operations) == (2, 2, 8096)
    wrong = ask(handler, cluster_request.DescribeClusterRequest(endpoint_type=2), 1)
    assert wrong.error_code == int(ErrorCode.MISMATCHED_ENDPOINT_TYPE)


def test_resources_with_configurations(cluster: Cluster) -> None:
    make(cluster, "t")
    handler = ListConfigResourcesHandler(image=cluster.image)
    answer = ask(handler, resources.ListConfigResourcesRequest(), 1)
    listed = {(resource.resource_type, resource.resource_name) for resource in answer.config_resources}
    assert listed == {(2, "t"), (4, "1"), (4, "2"), (8, "1"), (8, "2")}
    assert ask(handler, resources.ListConfigResourcesRequest(), 0).config_resources == []
    unknown = ask(handler, resources.ListConfigResourcesRequest(resource_types=[3]), 1)
    assert unknown.error_code == int(ErrorCode.UNSUPPORTED_VERSION)

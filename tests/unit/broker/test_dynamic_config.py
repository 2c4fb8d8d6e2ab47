"""Settings changed on a running node take effect, and are gone when they are taken away."""

import asyncio
from pathlib import Path

import pytest

from harness.nodes import TOPIC, Client, config_of, create, in_loop
from ottla.broker.node import Node
from ottla.config.key import ConfigError
from ottla.metadata.controller.configs import ConfigChange, ConfigOperation
from ottla.metadata.controller.topics import CreateTopics, NewTopic
from ottla.metadata.image import CLUSTER_DEFAULT, ConfigResource, ResourceType
from ottla.metadata.record import MetadataRecord
from ottla.model import Decision, TopicPartition
from ottla.net.peer import PeerLost
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.config_record import ConfigRecord
from ottla.wire.messages.describe_log_dirs_request import DescribeLogDirsRequest

BROKER = ConfigResource(ResourceType.BROKER, "1")


async def alter(node: Node, resource: ConfigResource, **settings: str | None) -> None:
    """``_`` stands for a dot; ``None`` takes a setting away."""
    changes = [
        ConfigChange(
            name=name.replace("_", "."),
            operation=ConfigOperation.DELETE if value is None else ConfigOperation.SET,
            value=value,
        )
        for name, value in settings.items()
    ]
    outcomes = await node._driver.submit(
        lambda controller, _: controller.incremental_alter_configs([(resource, changes)])
    )
    assert [problem for _, problem in outcomes] == [None]


def test_the_broker_over_the_cluster_over_the_file_and_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        node = Node(config_of(tmp_path, message_max_bytes="100000"))
        await node.start()
        await create(node, 1)
        client = await Client.connect(node)
        too_large = int(ErrorCode.MESSAGE_TOO_LARGE)

        async def largest() -> list[bool]:
            return [await client.produce(0, b"v" * size) != too_large for size in (20_000, 50_000, 90_000)]

        assert await largest() == [True, True, True]
        await alter(node, CLUSTER_DEFAULT, message_max_bytes="60000")
        assert await largest() == [True, True, False]
        await alter(node, BROKER, message_max_bytes="30000")
        assert await largest() == [True, False, False]
        await alter(node, ConfigResource(ResourceType.TOPIC, TOPIC), max_message_bytes="60000")
        assert await largest() == [True, True, False]
        await alter(node, ConfigResource(ResourceType.TOPIC, TOPIC), max_message_bytes=None)
        assert await largest() == [True, False, False]
        await alter(node, BROKER, message_max_bytes=None)
        assert await largest() == [True, True, False]
        await node.stop()

        again = Node(config_of(tmp_path, message_max_bytes="100000"))
        await again.start()
        client = await Client.connect(again)
        assert await largest() == [True, True, False], "it outlives the run"
        await alter(again, CLUSTER_DEFAULT, message_max_bytes=None)
        assert await largest() == [True, True, True]
        await again.stop()

    in_loop(scenario)


@pytest.mark.parametrize(
    "key", ["max_connections", "max_connections_per_ip", "listener_name_plaintext_max_connections"]
)
def test_limits_of_connections_follow(tmp_path: Path, key: str) -> None:
    async def scenario() -> None:
        node = Node(config_of(tmp_path))
        await node.start()
        await create(node, 1)
        first = await Client.connect(node)
        assert await first.produce(0, b"v") == 0
        await alter(node, BROKER, **{key: "1"})
        assert await first.produce(0, b"v") == 0, "open connections stay"
        with pytest.raises(PeerLost):
            await Client.connect(node)
        await alter(node, BROKER, **{key: None})
        third = await Client.connect(node)
        assert await third.produce(0, b"v") == 0
        await node.stop()

    in_loop(scenario)


def test_producers_are_forgotten_after_the_time_in_force(tmp_path: Path) -> None:
    async def scenario() -> None:
        node = Node(config_of(tmp_path))
        await node.start()
        await create(node, 1)
        producers = node.partitions.get(TOPIC, 0).log.producers
        await alter(node, CLUSTER_DEFAULT, producer_id_expiration_ms="1234")
        await node._housekeeping.expire_producers()
        assert producers.expiration_ms == 1234
        await alter(node, CLUSTER_DEFAULT, producer_id_expiration_ms=None)
        await node._housekeeping.expire_producers()
        assert producers.expiration_ms == 86_400_000
        await node.stop()

    in_loop(scenario)


def test_a_node_starts_whatever_settings_it_finds(tmp_path: Path) -> None:
    """Written by another release, or by hand: it is reported, and can be corrected."""

    async def scenario() -> None:
        node = Node(config_of(tmp_path))
        await node.start()
        await create(node, 1)
        await alter(node, BROKER, max_connections="many", message_max_bytes="large", log_retention_ms="1")
        assert node._dynamic.current.log_defaults.retention_ms == 1
        assert node._dynamic.current.network == node.config.network
        record = ConfigRecord(
            resource_type=ResourceType.TOPIC, resource_name=TOPIC, name="no.such.key", value="from the future"
        )
        await node._driver.submit(lambda controller, _: Decision(records=(MetadataRecord(record, 0),)))
        assert node.partitions.get(TOPIC, 0).log.config.retention_ms == 1
        await node.stop()
        again = Node(config_of(tmp_path))
        await again.start()
        client = await Client.connect(again)
        assert await client.produce(0, b"v") == 0
        await alter(again, BROKER, max_connections=None, message_max_bytes=None)
        assert again._dynamic.current.log_defaults.retention_ms == 1
        await again.stop()

    in_loop(scenario)


def test_a_cordoned_directory_gets_no_new_partitions(tmp_path: Path) -> None:
    async def scenario() -> None:
        places = [str(tmp_path / name) for name in "ab"]
        node = Node(config_of(*map(Path, places)))
        await node.start()
        await alter(node, BROKER, cordoned_log_dirs=places[0])
        cordoned = (node._store.directories[0].directory_id,)
        while node.partitions.image.brokers[1].cordoned_log_dirs != cordoned:
            await asyncio.sleep(0.01)
        await create(node, 3)
        assert {partition.log.log_directory for partition in node.partitions} == {places[1]}
        await alter(node, BROKER, cordoned_log_dirs="*")
        while not node.partitions.image.brokers[1].all_dirs_cordoned:
            await asyncio.sleep(0.01)
        client = await Client.connect(node)
        assert await client.produce(0, b"v") == 0, "what is there serves"
        described = await client.peer.request(ApiKey.DESCRIBE_LOG_DIRS, DescribeLogDirsRequest(topics=None))
        assert [result.is_cordoned for result in described.results] == [True, True]
        with pytest.raises(KafkaError) as refused:
            node._moves.alter(TopicPartition(TOPIC, 0), places[0])
        assert refused.value.code is ErrorCode.INVALID_REPLICA_ASSIGNMENT
        outcomes = await node._driver.submit(
            lambda controller, _: controller.create_topics(CreateTopics(topics=(NewTopic(name="more"),)))
        )
        assert "cordoned" in outcomes[0].problem.message
        await node.stop()

        again = Node(config_of(*map(Path, places)))
        await again.start()
        while not again.partitions.image.brokers[1].all_dirs_cordoned:
            await asyncio.sleep(0.01)
        await alter(again, BROKER, cordoned_log_dirs=None)
        while again.partitions.image.brokers[1].cordoned_log_dirs:
            await asyncio.sleep(0.01)
        await again.stop()

    in_loop(scenario)


def test_a_directory_that_is_not_there_cannot_be_cordoned(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Invalid entry in cordoned.log.dirs: /x\. All cordoned log dirs must be"):
        config_of(tmp_path, cordoned_log_dirs="/x")

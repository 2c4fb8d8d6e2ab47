"""Groups of the consumer protocol (KIP-848) as librdkafka and the Java clients live in them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed (extra `interop`)")

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from harness.clusters import java
from harness.processes import wait_until

Groups = Callable[..., Consumer]


@pytest.fixture
def admin(cluster: Any) -> AdminClient:
    return AdminClient({"bootstrap.servers": cluster.bootstrap})


@pytest.fixture
def join(cluster: Any) -> Iterator[Groups]:
    """Consumers of the new protocol; closed behind the test."""
    made: list[Consumer] = []

    def make(group: str, **options: Any) -> Consumer:
        settings = {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": group,
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "topic.metadata.refresh.interval.ms": 1000,
            **options,
        }
        made.append(Consumer(settings))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()


def make_topic(admin: AdminClient, name: str, partitions: int) -> str:
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
    return name


def settle(consumers: list[Consumer], expected: set[tuple[str, int]], seconds: float = 40.0) -> dict[int, set[Any]]:
    """Poll until together they own exactly what is expected; a partition is never owned twice meanwhile."""
    deadline = time.monotonic() + seconds
    owned: dict[int, set[Any]] = {}
    while time.monotonic() < deadline:
        for consumer in consumers:
            consumer.poll(0.02)
        owned = {
            index: {(row.topic, row.partition) for row in consumer.assignment()}
            for index, consumer in enumerate(consumers)
        }
        together = [place for places in owned.values() for place in places]
        if len(together) == len(expected) and set(together) == expected and all(owned.values()):
            return owned
    raise AssertionError(f"not settled after {seconds} s: {owned}")


def test_members_share_partitions_and_give_them_back(admin: AdminClient, join: Groups, topic: str, unique: Any) -> None:
    make_topic(admin, topic, 6)
    group = unique("group")
    everything = {(topic, partition) for partition in range(6)}
    consumers = [join(group) for _ in range(3)]
    for consumer in consumers:
        consumer.subscribe([topic])
    owned = settle(consumers, everything)
    assert sorted(map(len, owned.values())) == [2, 2, 2]

    described = admin.describe_consumer_groups([group])[group].result(20)
    assert described.type.name == "CONSUMER"
    assert len(described.members) == 3
    consumers.pop().close()
    assert sorted(map(len, settle(consumers, everything).values())) == [3, 3]


def test_what_is_read_is_committed_and_not_read_again(
    cluster: Any, admin: AdminClient, join: Groups, topic: str, unique: Any
) -> None:
    make_topic(admin, topic, 2)
    group = unique("group")
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    for number in range(100):
        producer.produce(topic, str(number), partition=number % 2)
    assert producer.flush(30) == 0

    first = join(group)
    first.subscribe([topic])
    messages = read(first, 60)
    first.commit(asynchronous=False)
    first.close()
    second = join(group)
    second.subscribe([topic])
    messages += read(second, 40)
    assert sorted(int(message.value()) for message in messages) == list(range(100))
    second.commit(asynchronous=False)
    committed = second.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], 20)
    assert [row.offset for row in committed] == [50, 50]


def read(consumer: Consumer, count: int, seconds: float = 40.0) -> list[Any]:
    messages: list[Any] = []
    deadline = time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None:
            assert message.error() is None, message.error()
            messages.append(message)
    return messages


def test_new_partitions_and_topics_reach_the_members(admin: AdminClient, join: Groups, topic: str, unique: Any) -> None:
    make_topic(admin, topic, 2)
    group = unique("group")
    later = unique("later")
    consumers = [join(group) for _ in range(2)]
    for consumer in consumers:
        consumer.subscribe([topic, later])
    settle(consumers, {(topic, 0), (topic, 1)})
    admin.create_partitions([NewPartitions(topic, 4)])[topic].result(20)
    settle(consumers, {(topic, partition) for partition in range(4)})
    make_topic(admin, later, 2)
    settle(consumers, {*((topic, partition) for partition in range(4)), (later, 0), (later, 1)})


def test_the_server_matches_regular_expressions(admin: AdminClient, join: Groups, unique: Any) -> None:
    prefix = unique("rx").replace(".", "-")
    make_topic(admin, f"{prefix}-a1", 1)
    make_topic(admin, f"{prefix}-b", 1)
    consumer = join(unique("group"))
    consumer.subscribe([f"^{prefix}-a[0-9]+$"])
    settle([consumer], {(f"{prefix}-a1", 0)})
    make_topic(admin, f"{prefix}-a22", 2)
    settle([consumer], {(f"{prefix}-a1", 0), (f"{prefix}-a22", 0), (f"{prefix}-a22", 1)})


def test_a_static_member_comes_back_to_its_partitions(
    admin: AdminClient, join: Groups, topic: str, unique: Any
) -> None:
    make_topic(admin, topic, 4)
    group = unique("group")
    everything = {(topic, partition) for partition in range(4)}
    consumers = [join(group, **{"group.instance.id": f"instance-{number}"}) for number in range(2)]
    for consumer in consumers:
        consumer.subscribe([topic])
    before = settle(consumers, everything)
    consumers[0].close()
    consumers[0] = join(group, **{"group.instance.id": "instance-0"})
    consumers[0].subscribe([topic])
    assert settle(consumers, everything) == before


def test_a_group_moves_from_the_classic_protocol_and_back(
    admin: AdminClient, join: Groups, topic: str, unique: Any
) -> None:
    make_topic(admin, topic, 4)
    group = unique("group")
    everything = {(topic, partition) for partition in range(4)}
    classic = {"group.protocol": "classic", "session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
    # Not "cooperative-sticky", which no broker upgrades: `test_sticky_upgrade.py`.
    strategy = {"partition.assignment.strategy": "range"}
    consumers = [join(group, **classic, **strategy) for _ in range(2)]
    for consumer in consumers:
        consumer.subscribe([topic])
    settle(consumers, everything)

    consumers.append(join(group))
    consumers[2].subscribe([topic])
    settle(consumers, everything, 60.0)
    listed = {row.group_id: row for row in admin.list_consumer_groups(request_timeout=20).result(20).valid}
    assert listed[group].type.name == "CONSUMER"

    consumers.pop().close()
    wait_until(lambda: poll_all(consumers) and kind_of(admin, group) == "CLASSIC", seconds=40, what="the way back")
    settle(consumers, everything, 60.0)


def poll_all(consumers: list[Consumer]) -> bool:
    for consumer in consumers:
        consumer.poll(0.02)
    return True


def kind_of(admin: AdminClient, group: str) -> str:
    listed = admin.list_consumer_groups(request_timeout=20).result(20).valid
    return next((row.type.name for row in listed if row.group_id == group), "none")


def test_nine_hundred_new_partitions_are_shared_in_ten_seconds(
    admin: AdminClient, join: Groups, topic: str, unique: Any
) -> None:
    make_topic(admin, topic, 100)
    group = unique("group")
    as_by_default(admin, group)
    consumers = [join(group) for _ in range(10)]
    for consumer in consumers:
        consumer.subscribe([topic])
    settle(consumers, {(topic, partition) for partition in range(100)}, 60.0)
    started = time.monotonic()
    admin.create_partitions([NewPartitions(topic, 1000)])[topic].result(60)
    owned = settle(consumers, {(topic, partition) for partition in range(1000)}, 60.0)
    seconds = time.monotonic() - started
    assert {len(places) for places in owned.values()} == {100}
    assert seconds <= 10.0, f"settled after {seconds:.1f} s"


def as_by_default(admin: AdminClient, group: str) -> None:
    """The group's members hear of changes as often as Kafka's default says; the cluster under test is quicker."""
    interval = ConfigEntry("consumer.heartbeat.interval.ms", "5000", incremental_operation=AlterConfigOpType.SET)
    change = ConfigResource(ResourceType.GROUP, group, incremental_configs=[interval])
    admin.incremental_alter_configs([change])[change].result(20)


@pytest.mark.usefixtures("apache_kafka")
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_java_consumers_read_everything_once(
    cluster: Any, admin: AdminClient, topic: str, unique: Any, protocol: str
) -> None:
    make_topic(admin, topic, 3)
    produce(cluster, topic, 300)
    group = unique("group")
    done = java(
        "org.apache.kafka.tools.VerifiableConsumer",
        *("--bootstrap-server", cluster.bootstrap, "--topic", topic, "--group-id", group),
        *("--group-protocol", protocol, "--max-messages", "300", "--reset-policy", "earliest"),
    )
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert sum(event["count"] for event in events if event["name"] == "records_consumed") == 300, done.stderr
    commits = [event for event in events if event["name"] == "offsets_committed"]
    assert commits
    assert all(event["success"] for event in commits)


@pytest.mark.usefixtures("apache_kafka")
def test_javas_tool_describes_a_consumer_group(
    cluster: Any, admin: AdminClient, join: Groups, topic: str, unique: Any
) -> None:
    make_topic(admin, topic, 4)
    produce(cluster, topic, 40)
    group = unique("group")
    consumers = [join(group, **{"client.id": f"reader-{number}"}) for number in range(2)]
    for consumer in consumers:
        consumer.subscribe([topic])
    settle(consumers, {(topic, partition) for partition in range(4)})
    tool = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    common = ("--bootstrap-server", cluster.bootstrap, "--group", group, "--describe")
    offsets = java(tool, *common)
    assert offsets.stdout.count(topic) == 4, offsets.stdout + offsets.stderr
    members = java(tool, *common, "--members", "--verbose")
    assert members.stdout.count("reader-") >= 2, members.stdout + members.stderr
    state = java(tool, *common, "--state", "--verbose")
    assert "Stable" in state.stdout, state.stdout + state.stderr
    assert "uniform" in state.stdout
    listed = java(tool, "--bootstrap-server", cluster.bootstrap, "--list", "--type", "consumer")
    assert group in listed.stdout


def produce(cluster: Any, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    for number in range(count):
        producer.produce(topic, str(number))
    assert producer.flush(30) == 0

"""confluent-kafka (librdkafka): administration, every codec, groups, seeking, replay."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed (extra `interop`)")

from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from harness.processes import wait_until

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture
def admin(cluster):
    return AdminClient({"bootstrap.servers": cluster.bootstrap})


@pytest.fixture
def make_topic(admin, topic):
    def make(partitions=1, config=None, name=topic):
        admin.create_topics([NewTopic(name, partitions, 1, config=config or {})])[name].result(30)
        return name

    return make


@pytest.fixture
def make_consumer(cluster, unique):
    made = []

    def make(**options):
        settings = {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": unique("group"),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            **options,
        }
        made.append(Consumer(settings))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()


def producer_for(cluster, **options):
    return Producer({"bootstrap.servers": cluster.bootstrap, "linger.ms": 5, **options})


def send_all(producer, topic, rows, **common):
    """Produce rows of keyword arguments and return the acknowledged messages in order of acknowledgement."""
    acknowledged = []

    def delivered(error, message):
        assert error is None, error
        acknowledged.append(message)

    for row in rows:
        producer.produce(topic, on_delivery=delivered, **{**common, **row})
        producer.poll(0)
    assert producer.flush(60) == 0
    return acknowledged


def read(consumer, count, seconds=40):
    """`count` messages, or fewer when the time is up."""
    messages, deadline = [], time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < deadline:
        for message in consumer.consume(count - len(messages), 1.0):
            assert message.error() is None, message.error()
            messages.append(message)
    return messages


def test_topics_are_created_described_grown_and_deleted(admin, make_topic):
    name = make_topic(3, {"retention.ms": "3600000", "cleanup.policy": "compact,delete"})
    described = admin.list_topics(name, timeout=20).topics[name]
    assert sorted(described.partitions) == [0, 1, 2]
    assert all(row.replicas == row.isrs == [row.leader] for row in described.partitions.values())

    admin.create_partitions([NewPartitions(name, 5)])[name].result(20)
    wait_until(
        lambda: len(admin.list_topics(name, timeout=20).topics[name].partitions) == 5, seconds=10, what="5 partitions"
    )
    with pytest.raises(KafkaException, match="INVALID_PARTITIONS"):
        admin.create_partitions([NewPartitions(name, 2)])[name].result(20)
    with pytest.raises(KafkaException, match="TOPIC_ALREADY_EXISTS"):
        make_topic(1)

    admin.delete_topics([name])[name].result(20)
    wait_until(lambda: name not in admin.list_topics(timeout=20).topics, seconds=10, what="the topic to go")


@pytest.mark.parametrize(
    ("topic_name", "partitions", "replicas", "config", "error"),
    [
        ("bad/name", 1, 1, {}, "TOPIC_EXCEPTION"),
        ("too-many-replicas", 1, 3, {}, "INVALID_REPLICATION_FACTOR"),
        ("no-partitions", 0, 1, {}, "INVALID_PARTITIONS"),
        ("bad-config", 1, 1, {"retention.ms": "soon"}, "INVALID_CONFIG"),
        ("unknown-config", 1, 1, {"no.such.config": "1"}, "INVALID_CONFIG"),
    ],
)
def test_bad_topics_are_refused_with_kafkas_errors(admin, topic_name, partitions, replicas, config, error):
    future = admin.create_topics([NewTopic(topic_name, partitions, replicas, config=config)])[topic_name]
    with pytest.raises(KafkaException, match=error):
        future.result(20)


def test_configs_are_described_changed_and_reset(admin, make_topic):
    name = make_topic(1, {"retention.ms": "3600000"})
    resource = ConfigResource(ResourceType.TOPIC, name)

    def values():
        entries = admin.describe_configs([resource])[resource].result(20)
        return {key: (entry.value, entry.is_default) for key, entry in entries.items()}

    before = values()
    assert before["retention.ms"] == ("3600000", False)
    assert before["cleanup.policy"] == ("delete", True)
    assert before["segment.bytes"] == ("1073741824", True)

    change = ConfigResource(
        ResourceType.TOPIC,
        name,
        incremental_configs=[
            ConfigEntry("segment.ms", "7200000", incremental_operation=AlterConfigOpType.SET),
            ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND),
            ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
        ],
    )
    admin.incremental_alter_configs([change])[change].result(20)
    after = values()
    assert after["segment.ms"] == ("7200000", False)
    assert set(after["cleanup.policy"][0].split(",")) == {"compact", "delete"}
    assert after["retention.ms"] == ("604800000", True)

    bad = ConfigResource(
        ResourceType.TOPIC,
        name,
        incremental_configs=[ConfigEntry("segment.ms", "-7", incremental_operation=AlterConfigOpType.SET)],
    )
    with pytest.raises(KafkaException, match="INVALID_CONFIG"):
        admin.incremental_alter_configs([bad])[bad].result(20)


def test_broker_configs_and_cluster_are_described(admin):
    cluster = admin.describe_cluster().result(20)
    assert len(cluster.nodes) == 1
    assert cluster.controller is not None
    resource = ConfigResource(ResourceType.BROKER, str(cluster.nodes[0].id))
    entries = admin.describe_configs([resource])[resource].result(20)
    assert entries["num.partitions"].value.isdigit()
    assert "log.retention.hours" in entries


@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
@pytest.mark.parametrize("codec", CODECS)
def test_records_come_back_as_sent(cluster, make_topic, make_consumer, codec, idempotent):
    name = make_topic(2)
    stamp = time.time_ns() // 1_000_000 - 5_000
    rows = [
        {
            "key": None if number % 5 == 0 else f"key-{number}".encode(),
            "value": None if number % 7 == 0 else (f"value-{number}-".encode() * (1 + number % 40)),
            "headers": [("n", str(number).encode()), ("n", None), ("empty", b"")] if number % 3 == 0 else None,
            "timestamp": stamp + number,
            "partition": number % 2,
        }
        for number in range(400)
    ]
    producer = producer_for(cluster, **{"compression.type": codec, "enable.idempotence": idempotent})
    acknowledged = send_all(producer, name, [{k: v for k, v in row.items() if v is not None} for row in rows])
    assert len(acknowledged) == len(rows)

    messages = read(make_consumer_on(make_consumer, name), len(rows))
    assert len(messages) == len(rows)
    for partition in (0, 1):
        sent = [row for row in rows if row["partition"] == partition]
        got = sorted((m for m in messages if m.partition() == partition), key=lambda m: m.offset())
        assert [m.offset() for m in got] == list(range(len(sent)))
        for row, message in zip(sent, got, strict=True):
            assert message.key() == row["key"]
            assert message.value() == row["value"]
            assert (message.headers() or None) == row["headers"]
            assert message.timestamp() == (TIMESTAMP_CREATE_TIME, row["timestamp"])


def make_consumer_on(make_consumer, name):
    consumer = make_consumer()
    consumer.subscribe([name])
    return consumer


def test_big_records_pass_and_bigger_ones_are_refused(cluster, make_topic, make_consumer):
    name = make_topic(1)
    producer = producer_for(cluster, **{"message.max.bytes": 5_000_000})
    big = bytes(range(256)) * 4000
    send_all(producer, name, [{"value": big}, {"value": b"after"}])
    errors = []
    producer.produce(name, value=big * 3, on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)
    assert errors[0] is not None
    assert errors[0].name() == "MSG_SIZE_TOO_LARGE"
    values = [message.value() for message in read(make_consumer_on(make_consumer, name), 2)]
    assert values == [big, b"after"]


def test_a_group_shares_partitions_and_commits(cluster, make_topic, make_consumer, unique):
    name, group = make_topic(4), unique("group")
    send_all(producer_for(cluster), name, [{"value": str(n), "partition": n % 4} for n in range(200)])

    first = make_consumer(**{"group.id": group})
    first.subscribe([name])
    assert len(read(first, 200)) == 200
    assert len(first.assignment()) == 4
    first.commit(asynchronous=False)

    second = make_consumer(**{"group.id": group})
    second.subscribe([name])
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and not len(first.assignment()) == len(second.assignment()) == 2:
        assert first.poll(0.1) is None
        assert second.poll(0.1) is None
    assert len(first.assignment()) == len(second.assignment()) == 2

    send_all(producer_for(cluster), name, [{"value": f"more-{n}", "partition": n % 4} for n in range(40)])
    got = read(first, 20) + read(second, 20)
    assert sorted(m.value() for m in got) == sorted(f"more-{n}".encode() for n in range(40))

    second.close()
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and len(first.assignment()) != 4:
        first.poll(0.2)
    assert len(first.assignment()) == 4


def test_a_second_life_of_a_group_continues_at_its_commits(cluster, admin, make_topic, make_consumer, unique):
    name, group = make_topic(1), unique("group")
    send_all(producer_for(cluster), name, [{"value": str(n)} for n in range(30)])
    first = make_consumer(**{"group.id": group})
    first.subscribe([name])
    assert len(read(first, 10)) == 10
    first.commit(offsets=[TopicPartition(name, 0, 10)], asynchronous=False)
    first.close()

    second = make_consumer(**{"group.id": group})
    second.subscribe([name])
    assert [m.value() for m in read(second, 20)] == [str(n).encode() for n in range(10, 30)]
    second.close()

    listed = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(20)
    assert [(row.topic, row.partition, row.offset) for row in listed.topic_partitions] == [(name, 0, 10)]
    moved = ConsumerGroupTopicPartitions(group, [TopicPartition(name, 0, 3)])
    admin.alter_consumer_group_offsets([moved])[group].result(20)
    third = make_consumer(**{"group.id": group})
    assert third.committed([TopicPartition(name, 0)], timeout=20)[0].offset == 3
    third.close()

    assert group in {row.group_id for row in admin.list_consumer_groups().result(20).valid}
    described = admin.describe_consumer_groups([group])[group].result(20)
    assert described.state.name == "EMPTY"
    admin.delete_consumer_groups([group])[group].result(20)
    assert group not in {row.group_id for row in admin.list_consumer_groups().result(20).valid}


def test_static_members_return_without_a_rebalance(cluster, make_topic, make_consumer, unique):
    name, group = make_topic(2), unique("group")
    send_all(producer_for(cluster), name, [{"value": str(n), "partition": n % 2} for n in range(10)])
    options = {"group.id": group, "group.instance.id": "one", "session.timeout.ms": 30000}
    first = make_consumer(**options)
    first.subscribe([name])
    assert len(read(first, 10)) == 10
    member = first.memberid()
    first.close()
    again = make_consumer(**options)
    again.subscribe([name])
    assert len(read(again, 10)) == 10  # nothing was committed
    assert again.memberid() != member
    assert len(again.assignment()) == 2


def test_seek_and_replay_by_offset_and_by_time(cluster, make_topic, make_consumer):
    name = make_topic(1)
    base = time.time_ns() // 1_000_000 - 100_000
    send_all(producer_for(cluster), name, [{"value": str(n), "timestamp": base + 100 * n} for n in range(100)])
    consumer = make_consumer()
    consumer.assign([TopicPartition(name, 0, 40)])
    assert read(consumer, 1)[0].value() == b"40"
    consumer.seek(TopicPartition(name, 0, 7))
    assert [m.value() for m in read(consumer, 3)] == [b"7", b"8", b"9"]

    found = consumer.offsets_for_times([TopicPartition(name, 0, base + 4550)], timeout=20)
    assert found[0].offset == 46
    consumer.assign(found)
    assert read(consumer, 1)[0].value() == b"46"
    assert consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=20) == (0, 100)
    late = consumer.offsets_for_times([TopicPartition(name, 0, base + 10_000_000)], timeout=20)
    assert late[0].offset == -1  # the end


def test_offsets_are_listed_and_records_deleted(cluster, admin, make_topic, make_consumer):
    name = make_topic(1)
    send_all(producer_for(cluster), name, [{"value": str(n)} for n in range(50)])
    partition = TopicPartition(name, 0)

    def offset(spec):
        return admin.list_offsets({partition: spec})[partition].result(20).offset

    assert (offset(OffsetSpec.earliest()), offset(OffsetSpec.latest())) == (0, 50)
    assert offset(OffsetSpec.max_timestamp()) in range(50)
    done = admin.delete_records([TopicPartition(name, 0, 20)])[partition].result(20)
    assert done.low_watermark == 20
    assert offset(OffsetSpec.earliest()) == 20
    assert read(make_consumer_on(make_consumer, name), 1)[0].value() == b"20"


def test_a_missing_topic_is_created_by_the_first_record(cluster, topic, make_consumer):
    send_all(producer_for(cluster), topic, [{"value": "hello"}])
    assert read(make_consumer_on(make_consumer, topic), 1)[0].value() == b"hello"


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_every_acks_setting_delivers(cluster, make_topic, make_consumer, acks):
    name = make_topic(1)
    producer = producer_for(cluster, acks=acks, **{"enable.idempotence": False})
    send_all(producer, name, [{"value": str(n)} for n in range(100)])
    values = [m.value() for m in read(make_consumer_on(make_consumer, name), 100)]
    assert values == [str(n).encode() for n in range(100)]


def test_a_topic_may_ask_for_its_own_codec_and_timestamps(cluster, make_topic, make_consumer):
    name = make_topic(1, {"compression.type": "zstd", "message.timestamp.type": "LogAppendTime"})
    before = time.time_ns() // 1_000_000
    stamped = send_all(producer_for(cluster), name, [{"value": "x" * 500, "timestamp": 1000} for _ in range(20)])
    assert all(message.timestamp()[1] >= before for message in stamped)
    messages = read(make_consumer_on(make_consumer, name), 20)
    assert [m.offset() for m in messages] == list(range(20))
    assert all(m.timestamp()[1] >= before for m in messages)

"""kafka-python: administration, the codecs it has here, groups with a rebalance, seeking, replay by time."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("kafka", reason="kafka-python is not installed (extra `interop`)")

import kafka.codec
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import NewTopic

from harness.processes import wait_until

# The client leaves sockets of its background threads to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def admin(cluster):
    client = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    yield client
    client.close()


@pytest.fixture
def make_consumer(cluster):
    made = []

    def make(*topics, **options):
        settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **options}
        made.append(KafkaConsumer(*topics, bootstrap_servers=cluster.bootstrap, **settings))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close(autocommit=False)


@pytest.fixture
def make_producer(cluster):
    made = []

    def make(**options):
        made.append(KafkaProducer(bootstrap_servers=cluster.bootstrap, linger_ms=5, **options))
        return made[-1]

    yield make
    for producer in made:
        producer.close(timeout=10)


def read(consumer, count, seconds=40):
    records, deadline = [], time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        for rows in consumer.poll(timeout_ms=500, max_records=count - len(records)).values():
            records += rows
    return records


def test_administration(admin, topic):
    admin.create_topics([NewTopic(topic, 2, 1, topic_configs={"retention.ms": "7200000"})])
    wait_until(lambda: topic in admin.list_topics(), seconds=10, what="the topic")
    described = admin.describe_topics([topic])[0]
    assert len(described["partitions"]) == 2
    assert admin.describe_cluster()["cluster_id"]
    admin.create_partitions({topic: 4})
    wait_until(lambda: len(admin.describe_topics([topic])[0]["partitions"]) == 4, seconds=10, what="4 partitions")
    assert admin.describe_metadata_quorum() is not None
    admin.delete_topics([topic])
    wait_until(lambda: topic not in admin.list_topics(), seconds=10, what="the topic to go")


@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_records_come_back_as_sent(make_producer, make_consumer, topic, codec, idempotent):
    if codec and not getattr(kafka.codec, f"has_{codec}")():
        pytest.skip(f"kafka-python has no {codec} here")
    producer = make_producer(compression_type=codec, enable_idempotence=idempotent, acks="all")
    stamp = time.time_ns() // 1_000_000
    futures = []
    for n in range(300):
        key = None if n % 5 == 0 else f"k{n}".encode()
        value = None if n % 7 == 3 and key else b"v%d" % n * (n % 30 + 1)
        headers = [("h", str(n).encode())] if n % 3 == 0 else []
        futures.append((producer.send(topic, value, key, headers, 0, stamp + n), key, value, headers))
    producer.flush(60)
    assert [future.get(timeout=30).offset for future, *_ in futures] == list(range(300))
    got = read(make_consumer(topic), 300)
    assert [(r.key, r.value, list(r.headers)) for r in got] == [row[1:] for row in futures]
    assert [r.timestamp for r in got] == [stamp + n for n in range(300)]


def test_a_group_rebalances_commits_and_continues(make_producer, make_consumer, admin, topic, unique):
    admin.create_topics([NewTopic(topic, 4, 1)])
    group = unique("group")
    producer = make_producer()
    for n in range(80):
        producer.send(topic, str(n).encode(), partition=n % 4)
    producer.flush(30)
    first = make_consumer(topic, group_id=group, session_timeout_ms=6000, heartbeat_interval_ms=500)
    assert len(read(first, 80)) == 80
    first.commit()
    second = make_consumer(topic, group_id=group, session_timeout_ms=6000, heartbeat_interval_ms=500)

    def balanced():
        first.poll(timeout_ms=100)
        second.poll(timeout_ms=100)
        return len(first.assignment()) == len(second.assignment()) == 2

    wait_until(balanced, seconds=40, what="two members with two partitions each")
    second.close(autocommit=False)
    first.close(autocommit=False)

    for n in range(8):
        producer.send(topic, b"more", partition=n % 4)
    producer.flush(30)
    third = make_consumer(topic, group_id=group)
    assert [r.value for r in read(third, 8)] == [b"more"] * 8
    third.commit({TopicPartition(topic, 0): OffsetAndMetadata(3, "note", -1)})
    assert third.committed(TopicPartition(topic, 0), metadata=True).metadata == "note"
    assert third.committed(TopicPartition(topic, 1)) == 20


def test_seek_and_replay(make_producer, make_consumer, topic):
    producer = make_producer()
    base = time.time_ns() // 1_000_000 - 50_000
    for n in range(50):
        producer.send(topic, str(n).encode(), partition=0, timestamp_ms=base + 100 * n)
    producer.flush(30)
    consumer = make_consumer()
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek(place, 30)
    assert read(consumer, 1)[0].value == b"30"
    consumer.seek_to_beginning(place)
    assert [r.value for r in read(consumer, 2)] == [b"0", b"1"]
    assert consumer.offsets_for_times({place: base + 1150})[place].offset == 12
    assert consumer.end_offsets([place]) == {place: 50}
    assert consumer.beginning_offsets([place]) == {place: 0}

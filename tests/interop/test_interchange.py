"""One data directory, two brokers: what one wrote, the other serves, and both ways round.

A directory is filled by one broker, taken over by the other, and given back. At every change of hands all records,
offsets, configurations and groups must be exactly what they were, writes must continue where they stopped, and Apache
Kafka's own dump tool must find the files sound.
"""

from __future__ import annotations

import re
import time

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed (extra `interop`)")

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from harness.clusters import java, make_node, read_properties
from harness.processes import wait_until

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
TOPICS = {
    "codecs": (5, {}),
    "segments": (1, {"segment.bytes": "1048576", "index.interval.bytes": "1024"}),
    "compacted": (2, {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.9", "retention.ms": "86400000"}),
    "stamped": (1, {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "2000000"}),
    "trimmed": (1, {}),
    "empty": (1, {"retention.bytes": "5000000"}),
}
GROUP = "readers"
MOVED = "moved-by-hand"


@pytest.mark.usefixtures("apache_kafka")
@pytest.mark.parametrize("path", [("ottla", "apache"), ("apache", "ottla")], ids="-then-".join)
def test_a_directory_changes_hands(path, tmp_path, cluster_kind):
    if cluster_kind == "apache":
        path = ("apache", "apache")  # the suite proves itself: one broker hands over to itself
    data = tmp_path / "data"
    first = make_node(path[0], data)
    first.start()
    try:
        fill(first)
        written = contents(first)
    finally:
        first.stop()
    check_files(data)
    identity = read_properties(data / "meta.properties")

    for kind in (path[1], path[0]):
        node = make_node(kind, data)
        node.start()
        try:
            assert contents(node) == written
            go_on(node)
            written = contents(node)
        finally:
            node.stop()
        check_files(data)
        assert read_properties(data / "meta.properties") == identity


def fill(node):
    """Topics, configurations, records of every codec, deleted records, committed offsets."""
    admin = AdminClient({"bootstrap.servers": node.bootstrap})
    wanted = [NewTopic(name, partitions, 1, config=config) for name, (partitions, config) in TOPICS.items()]
    wanted.append(NewTopic("short-lived", 2, 1))
    for future in admin.create_topics(wanted).values():
        future.result(30)
    for number, codec in enumerate(CODECS):
        for idempotent in (False, True):
            send(
                node,
                "codecs",
                [_row(n, number) for n in range(150)],
                **{"compression.type": codec, "enable.idempotence": idempotent},
            )
    send(node, "segments", [{"value": b"%06d" % n * 150, "partition": 0} for n in range(4000)])
    send(node, "compacted", [{"key": b"k%d" % (n % 9), "value": b"%d" % n} for n in range(300)])
    send(node, "stamped", [{"value": b"%d" % n, "timestamp": 1_000} for n in range(50)])
    send(node, "trimmed", [{"value": b"%d" % n} for n in range(100)])
    send(node, "short-lived", [{"value": b"gone"}])
    admin.delete_records([TopicPartition("trimmed", 0, 60)])[TopicPartition("trimmed", 0)].result(30)
    admin.delete_topics(["short-lived"])["short-lived"].result(30)
    admin.create_partitions([NewPartitions("empty", 3)])["empty"].result(30)
    change = ConfigResource(
        ResourceType.TOPIC,
        "empty",
        incremental_configs=[
            ConfigEntry("segment.ms", "3600000", incremental_operation=AlterConfigOpType.SET),
            ConfigEntry("retention.bytes", None, incremental_operation=AlterConfigOpType.DELETE),
        ],
    )
    admin.incremental_alter_configs([change])[change].result(30)
    commit_by_reading(node, GROUP, "codecs", 700)
    moved = ConsumerGroupTopicPartitions(MOVED, [TopicPartition("segments", 0, 1234), TopicPartition("codecs", 2, 7)])
    admin.alter_consumer_group_offsets([moved])[MOVED].result(30)


def go_on(node):
    """The new owner takes writes, offsets, topics and configurations."""
    admin = AdminClient({"bootstrap.servers": node.bootstrap})
    before = ends(node, "segments")[0]
    send(node, "segments", [{"value": b"+%d" % n, "partition": 0} for n in range(500)])
    assert ends(node, "segments")[0] == before + 500
    send(node, "compacted", [{"key": b"k1", "value": b"again"}], **{"compression.type": "zstd"})
    commit_by_reading(node, GROUP, "codecs", 50)
    name = f"made-by-{node.kind}-{time.time_ns()}"
    admin.create_topics([NewTopic(name, 2, 1, config={"retention.ms": "100000000"})])[name].result(30)
    send(node, name, [{"value": b"first"}])


def contents(node):
    """Everything a client can see that has to survive."""
    admin = AdminClient({"bootstrap.servers": node.bootstrap})
    wait_until(lambda: bool(admin.list_topics(timeout=20).topics), seconds=30, what="topics")
    metadata = admin.list_topics(timeout=20)
    names = sorted(name for name in metadata.topics if not name.startswith("__"))

    def listed():
        return sorted(row.group_id for row in admin.list_consumer_groups().result(30).valid)

    # A node serves before it has read its group partitions.
    wait_until(lambda: {GROUP, MOVED} <= set(listed()), seconds=30, what="the groups to be loaded")
    groups = {}
    for group in listed():
        rows = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(30)
        groups[group] = sorted((row.topic, row.partition, row.offset) for row in rows.topic_partitions)
    return {
        "cluster": admin.describe_cluster().result(30).cluster_id,
        "ids": {row.name: str(row.topic_id) for row in describe(admin, names)},
        "topics": {name: records(node, name, len(metadata.topics[name].partitions)) for name in names},
        "configs": {name: changed_configs(admin, name) for name in names},
        "groups": groups,
    }


def describe(admin, names):
    from confluent_kafka import TopicCollection

    return [future.result(30) for future in admin.describe_topics(TopicCollection(names)).values()]


def changed_configs(admin, name):
    resource = ConfigResource(ResourceType.TOPIC, name)
    entries = admin.describe_configs([resource])[resource].result(30)
    # Source 1: set on this very topic.
    return {key: entry.value for key, entry in entries.items() if int(entry.source) == 1}


def records(node, name, partitions):
    """Start, end and every record of every partition."""
    consumer = Consumer({"bootstrap.servers": node.bootstrap, "group.id": "none", "enable.auto.commit": False})
    everything = {}
    try:
        for partition in range(partitions):
            place = TopicPartition(name, partition)
            low, high = consumer.get_watermark_offsets(place, timeout=30)
            rows, deadline = [], time.monotonic() + 60
            consumer.assign([TopicPartition(name, partition, low)])
            while consumer.position([place])[0].offset < high and low < high and time.monotonic() < deadline:
                for message in consumer.consume(2000, 0.2):
                    assert message.error() is None, message.error()
                    rows.append(_seen(message))
            everything[partition] = (low, high, rows)
    finally:
        consumer.close()
    return everything


def ends(node, name):
    consumer = Consumer({"bootstrap.servers": node.bootstrap, "group.id": "none"})
    try:
        return consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=30)[::-1]
    finally:
        consumer.close()


def send(node, name, rows, **options):
    failures = []
    producer = Producer({"bootstrap.servers": node.bootstrap, "linger.ms": 5, **options})
    for row in rows:
        producer.produce(name, on_delivery=lambda error, _: failures.append(error) if error else None, **row)
        producer.poll(0)
    assert producer.flush(60) == 0
    assert not failures, failures[0]


def commit_by_reading(node, group, name, count):
    consumer = Consumer(
        {
            "bootstrap.servers": node.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    try:
        consumer.subscribe([name])
        got, deadline = 0, time.monotonic() + 60
        while got < count and time.monotonic() < deadline:
            messages = consumer.consume(count - got, 1.0)
            assert all(message.error() is None for message in messages)
            got += len(messages)
        assert got == count
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()


def check_files(data):
    """Apache Kafka's dump tool reads every file and finds nothing to complain about."""
    logs = sorted(path for path in data.glob("*-*/*.log") if "-delete/" not in str(path))
    plain = [path for path in logs if not path.parent.name.startswith("__")]
    indexes = [path for log in plain for path in log.parent.glob(f"{log.stem}.*index") if path.stat().st_size]
    snapshots = sorted({path for log in plain for path in log.parent.glob("*.snapshot")})
    text = dump(plain + snapshots, "--deep-iteration")
    assert "isvalid: false" not in text
    # An empty time index stands for its segment's first entry; both checks read all the others against the log.
    for check in ("--index-sanity-check", "--verify-index-only"):
        assert not re.search(r"mismatch|corrupt|error", dump(indexes, check), re.IGNORECASE)
    offsets = [path for path in logs if path.parent.name.startswith("__consumer_offsets") and path.stat().st_size]
    assert f'"group":"{GROUP}"' in dump(offsets, "--offsets-decoder")
    metadata = sorted((data / "__cluster_metadata-0").glob("*.log"))
    metadata += sorted((data / "__cluster_metadata-0").glob("*.checkpoint"))
    text = dump(metadata, "--cluster-metadata-decoder")
    assert '"type":"TOPIC_RECORD"' in text
    assert '"name":"segments"' in text


def dump(paths, *options):
    names = ",".join(map(str, paths))
    done = java("org.apache.kafka.tools.DumpLogSegments", *options, "--files", names, seconds=180)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    # The tool calls the first batch of every later segment a gap ("-1 is followed by N"); any other gap is one.
    complaint = re.search(r"Mismatches in|^\s+\d+ is followed by|Exception|invalid bytes", text, re.MULTILINE)
    assert not complaint, text[max(0, complaint.start() - 500) :][:3000]
    return text


def _row(n, partition):
    row = {"value": None if n % 11 == 10 else b"value-%d-" % n * (n % 20 + 1), "partition": partition}
    if n % 4:
        row["key"] = b"key-%d" % n
    if n % 6 == 0:
        row["headers"] = [("a", b"1"), ("b", None)]
    return row


def _seen(message):
    stamp = message.timestamp()
    return (message.offset(), stamp, message.key(), message.value(), tuple(message.headers() or ()))

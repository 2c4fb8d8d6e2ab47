"""Compaction as Apache Kafka knows it: its own tester, its dump tool, and directories that change hands while dirty."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed (extra `interop`)")

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

from harness.clusters import java, make_node
from harness.processes import wait_until

pytestmark = pytest.mark.usefixtures("apache_kafka")

QUICK = {
    "log.cleaner.backoff.ms": "200",
    "log.cleaner.min.cleanable.ratio": "0.01",
    "log.cleaner.delete.retention.ms": "86400000",
}
IDLE = {"log.cleaner.min.compaction.lag.ms": "1000000000"}
"""A cleaner with nothing to clean: what is there is left as it is."""
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
TOPIC = "state"
ROLL = {"cleanup.policy": "compact", "segment.bytes": "1048576", "segment.ms": "1500"}


def test_log_compaction_tester(tmp_path, cluster_kind):
    node = make_node(cluster_kind, tmp_path / "data", config={**QUICK, "log.segment.bytes": "1048576"})
    node.start()
    try:
        done = java(
            "org.apache.kafka.tools.LogCompactionTester",
            *("--bootstrap-server", node.bootstrap, "--messages", "250000", "--topics", "1"),
            *("--duplicates", "5", "--percent-deletes", "20", "--sleep", "5"),
            seconds=240,
        )
    finally:
        node.stop()
    text = done.stdout + done.stderr
    for path in re.findall(r"(/\S+/kafka-log-cleaner-\S+\.txt)", text):
        Path(path).unlink(missing_ok=True)
    assert done.returncode == 0, text
    assert ", 0 mismatches" in text
    reduction = re.search(r"\((\d+\.\d)% reduction\)", text)
    assert reduction is not None, text
    assert float(reduction[1]) > 5, text


@pytest.mark.parametrize("path", [("ottla", "apache"), ("apache", "ottla")], ids="-then-".join)
def test_a_cleaned_directory_changes_hands(path, tmp_path, cluster_kind):
    """What one cleaned, the other serves, finds sound and cleans on."""
    if cluster_kind == "apache":
        path = ("apache", "apache")
    data = tmp_path / "data"
    expected: dict[bytes, bytes] = {}
    node = make_node(path[0], data, config=QUICK)
    node.start()
    try:
        make_topic(node)
        fill(node, expected, 0)
        commit(node, 0)
        wait_until(lambda: clean_point(data) > 3000, seconds=60, what="cleaning")
        found = read(node)
        assert last_values(found) == expected
        assert len(found) < 3000
    finally:
        node.stop()
    point = clean_point(data)
    check_files(data)

    node = make_node(path[1], data, config=IDLE)
    node.start()
    try:
        found = still(read(node), found, expected)
        assert committed(node) == 49
    finally:
        node.stop()
    assert clean_point(data) >= point

    node = make_node(path[1], data, config=QUICK)
    node.start()
    try:
        fill(node, expected, 1)
        commit(node, 50)
        wait_until(lambda: clean_point(data) > point + 3000, seconds=60, what="cleaning")
        found = read(node)
        assert last_values(found) == expected
        assert len(found) < 3500
    finally:
        node.stop()
    check_files(data)

    node = make_node(path[0], data, config=IDLE)
    node.start()
    try:
        still(read(node), found, expected)
        assert committed(node) == 99
    finally:
        node.stop()


def still(records, found, expected):
    """The broker before may have cleaned once more after it was read; nothing else may differ."""
    assert set(records) <= set(found)
    assert last_values(records) == expected
    return records


def make_topic(node):
    admin = AdminClient({"bootstrap.servers": node.bootstrap})
    admin.create_topics([NewTopic(TOPIC, 1, 1, config=ROLL)])[TOPIC].result(30)


def fill(node, expected, turn):
    """Values and deletions of every codec, of an idempotent and of plain producers; the segment is rolled."""
    for number, codec in enumerate(CODECS):
        producer = Producer(
            {
                "bootstrap.servers": node.bootstrap,
                "compression.type": codec,
                "enable.idempotence": codec == "gzip",
                "linger.ms": 5,
            }
        )
        for record in range(1000):
            key = b"key-%d" % (record % 300)
            value = None if record % 7 == 3 else b"%d-%d-%d" % (turn, number, record)
            producer.produce(TOPIC, value, key, partition=0)
            if value is None:
                expected.pop(key, None)
            else:
                expected[key] = value
        assert producer.flush(30) == 0
    for _ in range(2):
        # A segment is as old as its first record by the next one's time.
        roll(node, expected, turn)


def roll(node, expected, turn):
    time.sleep(1.8)
    producer = Producer({"bootstrap.servers": node.bootstrap})
    producer.produce(TOPIC, b"%d" % turn, b"last", partition=0)
    expected[b"last"] = b"%d" % turn
    assert producer.flush(30) == 0


def read(node):
    """All records from the start of the log."""
    consumer = Consumer(
        {"bootstrap.servers": node.bootstrap, "group.id": "none", "auto.offset.reset": "error", "check.crcs": True}
    )
    try:
        low, high = watermarks(consumer)
        consumer.assign([TopicPartition(TOPIC, 0, low)])
        found = []
        while not found or found[-1][0] < high - 1:
            for message in consumer.consume(1000, timeout=10):
                assert message.error() is None, message.error()
                found.append((message.offset(), message.timestamp()[1], message.key(), message.value()))
        return found
    finally:
        consumer.close()


def watermarks(consumer):
    """Start and end of the log, once the broker leads it."""
    found = []

    def ask():
        try:
            found.append(consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=30))
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
        return found

    wait_until(ask, seconds=30, what="a leader", pause=0.2)
    return found[0]


def last_values(records):
    values: dict[bytes, bytes] = {}
    for _, _, key, value in records:
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value
    return values


def commit(node, start):
    admin = AdminClient({"bootstrap.servers": node.bootstrap})
    for offset in range(start, start + 50):
        asked = ConsumerGroupTopicPartitions("readers", [TopicPartition(TOPIC, 0, offset)])
        admin.alter_consumer_group_offsets([asked])["readers"].result(30)


def committed(node):
    admin = AdminClient({"bootstrap.servers": node.bootstrap})
    asked = ConsumerGroupTopicPartitions("readers", [TopicPartition(TOPIC, 0)])
    found = admin.list_consumer_group_offsets([asked])["readers"].result(30)
    return found.topic_partitions[0].offset


def clean_point(data):
    try:
        lines = (data / "cleaner-offset-checkpoint").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[2]) for line in lines if line.startswith(f"{TOPIC} 0 ")), 0)


def check_files(data):
    """The dump tool reads the segments and their indexes and complains of nothing but the gaps compaction leaves."""
    logs = sorted((data / f"{TOPIC}-0").glob("*.log"))
    text = dump(logs, "--deep-iteration")
    assert "isvalid: false" not in text
    assert "deleteHorizonMs" in text
    indexes = [path for log in logs for path in log.parent.glob(f"{log.stem}.*index") if path.stat().st_size]
    for check in ("--index-sanity-check", "--verify-index-only"):
        assert not re.search(r"mismatch|corrupt|error", dump(indexes, check), re.IGNORECASE)


def dump(paths, *options):
    names = ",".join(map(str, paths))
    done = java("org.apache.kafka.tools.DumpLogSegments", *options, "--files", names, seconds=180)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    return text

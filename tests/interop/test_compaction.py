"""Compaction as Apache Kafka knows it: its own tester, its dump tool, and directories that change hands while dirty."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from random import Random

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
from ottla.config.log import LogConfig
from ottla.model import TopicPartition as OttlaPartition
from ottla.records.batch import Codec, iter_headers, verify_crc
from ottla.records.builder import BatchBuilder
from ottla.records.control import EndTransaction, end_transaction_batch
from ottla.records.reader import read_records
from ottla.storage.log import Log

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


SAME = {
    "cleanup.policy": "compact",
    "segment.bytes": "1048576",
    "delete.retention.ms": "0",
    "min.cleanable.dirty.ratio": "0.001",
}


@pytest.mark.parametrize("seed", range(int(os.environ.get("OTTLA_CLEANING_SEEDS", "2"))))
def test_both_make_the_same_of_the_same_log(seed, tmp_path, cluster_kind):
    """Three cleanings of arbitrary batches, transactions among them: batch by batch what Apache Kafka makes of them."""
    data = {kind: tmp_path / kind for kind in (cluster_kind, "apache-kafka")}
    node = make_node(cluster_kind, data[cluster_kind], config={"log.cleaner.enable": "false"})
    node.start()
    try:
        admin = AdminClient({"bootstrap.servers": node.bootstrap})
        admin.create_topics([NewTopic(TOPIC, 1, 1, config=SAME)])[TOPIC].result(30)
    finally:
        node.stop()
    shutil.copytree(data[cluster_kind], data["apache-kafka"])
    rng = {kind: Random(seed) for kind in data}
    writers = {kind: Writer(rng[kind]) for kind in data}
    point = 0
    for turn in range(3):
        seen = {}
        for kind, directory in data.items():
            writers[kind].fill(directory / f"{TOPIC}-0", START_MS + turn * 1000)
            node = make_node("apache" if kind == "apache-kafka" else kind, directory, config=QUICK)
            node.start()
            try:
                wait_until(
                    lambda directory=directory, point=point: clean_point(directory) > point, seconds=60, what="cleaning"
                )
            finally:
                node.stop()
            seen[kind] = batches(directory / f"{TOPIC}-0")
        assert clean_point(data[cluster_kind]) == clean_point(data["apache-kafka"])
        point = clean_point(data[cluster_kind])
        assert seen[cluster_kind] == seen["apache-kafka"]
    assert any(not count for _, _, count, *_ in seen["apache-kafka"]), "no batch was emptied"


START_MS = int(time.time() * 1000) - 60_000


class Writer:
    """Writes arbitrary batches into a log that nobody serves; the same for the same seed."""

    def __init__(self, rng):
        self.rng = rng
        self.sequences = {}
        self.open = {}

    def fill(self, directory, now_ms):
        config = LogConfig(cleanup_policy=frozenset(("compact",)), segment_bytes=1 << 20)
        log = Log.open(directory, OttlaPartition(TOPIC, 0), config, clean_shutdown=True, now_ms=now_ms)
        for number in range(150):
            self.step(log, now_ms + number)
            if self.rng.random() < 0.05:
                log.roll(now_ms)
        for producer in sorted(self.open):
            self.end(log, producer, now_ms + 200)
        log.roll(now_ms)
        self.append(log, now_ms + 201, Codec.NONE, -1, transactional=False)
        log.close()

    def step(self, log, now_ms):
        rng = self.rng
        chance = rng.random()
        if chance < 0.15:
            self.end(log, rng.choice([11, 12, 13]), now_ms)
        else:
            producer = rng.choice([-1, -1, 1, 2, 11, 12, 13])
            self.append(log, now_ms, rng.choice([Codec.NONE, *Codec]), producer, transactional=producer > 10)

    def append(self, log, now_ms, codec, producer, *, transactional):
        rng = self.rng
        records = rng.randint(1, 6)
        builder = BatchBuilder(
            base_offset=log.log_end_offset,
            codec=codec,
            leader_epoch=0,
            producer_id=producer,
            producer_epoch=0 if producer >= 0 else -1,
            base_sequence=self.sequences.get(producer, 0) if producer >= 0 else -1,
            transactional=transactional,
        )
        for _ in range(records):
            value = None if rng.random() < 0.2 else rng.randbytes(rng.choice([0, 5, 300]))
            headers = (("h", b"x"),) if rng.random() < 0.2 else ()
            builder.append(now_ms - rng.randint(0, 50), b"key-%d" % rng.randint(0, 25), value, headers)
        if producer >= 0:
            self.sequences[producer] = self.sequences.get(producer, 0) + records
        if transactional:
            self.open[producer] = True
        put(log, builder.build(), now_ms)

    def end(self, log, producer, now_ms):
        self.open.pop(producer, None)
        marker = EndTransaction(self.rng.random() < 0.5, 0)
        batch = end_transaction_batch(
            marker,
            producer_id=producer,
            producer_epoch=0,
            timestamp=now_ms,
            base_offset=log.log_end_offset,
            leader_epoch=0,
        )
        put(log, batch, now_ms)


def put(log, batch, now_ms):
    log.append(batch, list(iter_headers(batch)), now_ms)


def batches(directory):
    """Every batch of a log as far as it does not depend on when it was cleaned."""
    found = []
    for path in sorted(directory.glob("*.log")):
        data = path.read_bytes()
        for position, header in iter_headers(data):
            verify_crc(data, position, header)
            records = list(read_records(data[position : position + header.size]))
            found.append(
                (
                    header.base_offset,
                    header.last_offset,
                    header.record_count,
                    header.attributes,
                    header.max_timestamp,
                    (header.producer_id, header.producer_epoch, header.base_sequence, header.partition_leader_epoch),
                    records,
                )
            )
    return found

"""Averages of sensors, with ottla.client.sync: `meter_from_confluent.py SERVERS load|work|show|replay`.

`load` sends readings to one topic. `work` reads them as a member of a group and writes the running average of each
sensor to another; offsets are committed after the averages are safe. `show` prints the latest average of each sensor,
`replay` counts the readings since a moment.
"""

import json
import logging
import sys
from collections import defaultdict

from ottla.client import ErrorCode, KafkaError, NewTopic, RebalanceListener, TopicPartition
from ottla.client.sync import Admin, Consumer, Producer

READINGS = "meter.readings"
AVERAGES = "meter.averages"
GROUP = "meter"
SENSORS = ("attic", "cellar", "garden", "kitchen")
ROUNDS = 25
START_MS = 1_750_000_000_000
log = logging.getLogger("meter")


class Averages:
    """Sum and count of each sensor."""

    def __init__(self) -> None:
        self.sums = defaultdict(float)
        self.counts = defaultdict(int)

    def add(self, sensor: bytes, reading: float) -> float:
        self.sums[sensor] += reading
        self.counts[sensor] += 1
        return self.sums[sensor] / self.counts[sensor]


class Listener(RebalanceListener):
    def on_revoked(self, partitions) -> None:
        log.info("lose %s", partitions)


def create_topics(servers: str) -> None:
    topics = [
        NewTopic(name, partitions=2, replication_factor=1, config=configs)
        for name, configs in ((READINGS, {"retention.ms": "-1"}), (AVERAGES, {"cleanup.policy": "compact"}))
    ]
    with Admin(servers) as admin:
        for name, result in admin.create_topics(topics).items():
            if isinstance(result, KafkaError) and result.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
                raise result
            log.info("%s is there", name)


def load(servers: str) -> None:
    create_topics(servers)
    config = {"bootstrap.servers": servers, "acks": "all", "linger.ms": 5, "compression.type": "gzip"}
    with Producer.from_config(config) as producer:
        receipts = []
        for number in range(ROUNDS):
            for place, sensor in enumerate(SENSORS):
                receipt = producer.send_soon(
                    READINGS,
                    json.dumps({"reading": number + place}).encode(),
                    key=sensor.encode(),
                    headers=[("unit", b"celsius")],
                    timestamp_ms=START_MS + number * 1000,
                )
                receipts.append(receipt)
        partitions = [receipt.result(30).partition for receipt in receipts]
    print("sent", len(partitions), "to", len(set(partitions)), "partitions")


def work(servers: str) -> None:
    averages, done = Averages(), 0
    config = {
        "bootstrap.servers": servers,
        "group.id": GROUP,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    consumer = Consumer.from_config(config, topics=[READINGS], listener=Listener())
    producer = Producer.from_config({"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True})
    try:
        with consumer, producer:
            while done < ROUNDS * len(SENSORS):
                ends = {}
                for record in consumer.get_many(50, 1.0):
                    assert dict(record.headers)["unit"] == b"celsius"
                    average = averages.add(record.key, json.loads(record.value)["reading"])
                    producer.send_soon(AVERAGES, b"%.2f" % average, key=record.key)
                    ends[TopicPartition(record.topic, record.partition)] = record.offset + 1
                    done += 1
                producer.flush(30_000)
                if ends:
                    consumer.commit(ends)
        print("worked on", done)
    except KafkaError:
        log.exception("giving up after %d readings", done)
        raise


def show(servers: str) -> None:
    latest = {}
    with Consumer(servers, topics=[AVERAGES], auto_offset_reset="earliest") as consumer:
        ends = consumer.end_offsets()
        while any(consumer.position(place) < end for place, end in ends.items()):
            latest.update((record.key, record.value) for record in consumer.get_many())
    for sensor in sorted(latest):
        print(sensor.decode(), latest[sensor].decode())


def replay(servers: str) -> None:
    with Consumer(servers, topics=[READINGS]) as consumer:
        since = START_MS + 20_000
        ends = consumer.end_offsets()
        count = 0
        for place, offset in consumer.offsets_at(dict.fromkeys(ends, since)).items():
            count += ends[place] - (ends[place] if offset < 0 else offset)
        print("readings since:", count)


if __name__ == "__main__":
    {"load": load, "work": work, "show": show, "replay": replay}[sys.argv[2]](sys.argv[1])

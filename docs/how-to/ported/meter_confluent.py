"""Averages of sensors, with confluent-kafka: `meter_confluent.py SERVERS load|work|show|replay`.

`load` sends readings to one topic. `work` reads them as a member of a group and writes the running average of each
sensor to another; offsets are committed after the averages are safe. `show` prints the latest average of each sensor,
`replay` counts the readings since a moment.
"""

import json
import logging
import sys
from collections import defaultdict

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

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


class Deliveries:
    """What became of the records that were sent."""

    def __init__(self) -> None:
        self.partitions = []

    def __call__(self, error, message) -> None:
        if error is not None:
            raise KafkaException(error)
        self.partitions.append(message.partition())


def create_topics(servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    topics = [
        NewTopic(name, num_partitions=2, replication_factor=1, config=configs)
        for name, configs in ((READINGS, {"retention.ms": "-1"}), (AVERAGES, {"cleanup.policy": "compact"}))
    ]
    for name, future in admin.create_topics(topics).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            log.info("%s is there", name)


def load(servers: str) -> None:
    create_topics(servers)
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "linger.ms": 5, "compression.type": "gzip"})
    deliveries = Deliveries()
    for number in range(ROUNDS):
        for place, sensor in enumerate(SENSORS):
            producer.produce(
                READINGS,
                json.dumps({"reading": number + place}).encode(),
                key=sensor.encode(),
                headers=[("unit", b"celsius")],
                timestamp=START_MS + number * 1000,
                on_delivery=deliveries,
            )
            producer.poll(0)
    producer.flush(30)
    print("sent", len(deliveries.partitions), "to", len(set(deliveries.partitions)), "partitions")


def work(servers: str) -> None:
    averages, done, deliveries = Averages(), 0, Deliveries()
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True})

    def revoked(consumer, partitions) -> None:
        log.info("lose %s", partitions)

    consumer.subscribe([READINGS], on_revoke=revoked)
    try:
        while done < ROUNDS * len(SENSORS):
            ends = {}
            for message in consumer.consume(50, timeout=1.0):
                if message.error() is not None:
                    raise KafkaException(message.error())
                assert dict(message.headers())["unit"] == b"celsius"
                average = averages.add(message.key(), json.loads(message.value())["reading"])
                producer.produce(AVERAGES, b"%.2f" % average, key=message.key(), on_delivery=deliveries)
                ends[message.topic(), message.partition()] = message.offset() + 1
                done += 1
            producer.flush(30)
            if ends:
                offsets = [TopicPartition(topic, number, offset) for (topic, number), offset in ends.items()]
                consumer.commit(offsets=offsets, asynchronous=False)
        print("worked on", done)
    except KafkaException:
        log.exception("giving up after %d readings", done)
        raise
    finally:
        consumer.close()


def places_of(consumer: Consumer, topic: str) -> list[TopicPartition]:
    numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    return [TopicPartition(topic, number, OFFSET_BEGINNING) for number in sorted(numbers)]


def show(servers: str) -> None:
    latest = {}
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "unused", "enable.auto.commit": False})
    try:
        places = places_of(consumer, AVERAGES)
        left = {place.partition: consumer.get_watermark_offsets(place, timeout=10)[1] for place in places}
        consumer.assign(places)
        while any(left.values()):
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error() is not None:
                raise KafkaException(message.error())
            latest[message.key()] = message.value()
            if message.offset() + 1 >= left[message.partition()]:
                left[message.partition()] = 0
    finally:
        consumer.close()
    for sensor in sorted(latest):
        print(sensor.decode(), latest[sensor].decode())


def replay(servers: str) -> None:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "unused", "enable.auto.commit": False})
    try:
        since = START_MS + 20_000
        places = [TopicPartition(READINGS, place.partition, since) for place in places_of(consumer, READINGS)]
        count = 0
        for found in consumer.offsets_for_times(places, timeout=10):
            end = consumer.get_watermark_offsets(found, timeout=10)[1]
            count += end - (end if found.offset < 0 else found.offset)
        print("readings since:", count)
    finally:
        consumer.close()


if __name__ == "__main__":
    {"load": load, "work": work, "show": show, "replay": replay}[sys.argv[2]](sys.argv[1])

"""Averages of sensors, with aiokafka: `meter_aiokafka.py SERVERS load|work|show|replay`.

`load` sends readings to one topic. `work` reads them as a member of a group and writes the running average of each
sensor to another; offsets are committed after the averages are safe. `show` prints the latest average of each sensor,
`replay` counts the readings since a moment.
"""

import asyncio
import json
import logging
import sys
from collections import defaultdict

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError

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


class Listener(ConsumerRebalanceListener):
    """Commits what is done before partitions go to somebody else."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self.consumer = consumer

    async def on_partitions_assigned(self, assigned) -> None:
        log.info("got %s", sorted(assigned))

    async def on_partitions_revoked(self, revoked) -> None:
        log.info("lose %s", sorted(revoked))
        if revoked:
            await self.consumer.commit()


async def create_topics(servers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        for name, configs in ((READINGS, {"retention.ms": "-1"}), (AVERAGES, {"cleanup.policy": "compact"})):
            try:
                topic = NewTopic(name, num_partitions=2, replication_factor=1, topic_configs=configs)
                await admin.create_topics([topic])
            except TopicAlreadyExistsError:
                log.info("%s is there", name)
    finally:
        await admin.close()


async def load(servers: str) -> None:
    await create_topics(servers)
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=5, compression_type="gzip")
    await producer.start()
    try:
        futures = []
        for number in range(ROUNDS):
            for place, sensor in enumerate(SENSORS):
                future = await producer.send(
                    READINGS,
                    json.dumps({"reading": number + place}).encode(),
                    key=sensor.encode(),
                    headers=[("unit", b"celsius")],
                    timestamp_ms=START_MS + number * 1000,
                )
                futures.append(future)
        done = [await future for future in futures]
        print("sent", len(done), "to", len({metadata.partition for metadata in done}), "partitions")
    finally:
        await producer.stop()


async def work(servers: str) -> None:
    averages, done = Averages(), 0
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers,
        group_id=GROUP,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=50,
    )
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
    consumer.subscribe([READINGS], listener=Listener(consumer))
    await consumer.start()
    await producer.start()
    try:
        while done < ROUNDS * len(SENSORS):
            for place, records in (await consumer.getmany(timeout_ms=1000)).items():
                for record in records:
                    assert dict(record.headers)["unit"] == b"celsius"
                    average = averages.add(record.key, json.loads(record.value)["reading"])
                    await producer.send(AVERAGES, b"%.2f" % average, key=record.key)
                done += len(records)
                await producer.flush()
                await consumer.commit({place: records[-1].offset + 1})
        print("worked on", done)
    except KafkaError:
        log.exception("giving up after %d readings", done)
        raise
    finally:
        await producer.stop()
        await consumer.stop()


async def show(servers: str) -> None:
    latest = {}
    consumer = AIOKafkaConsumer(AVERAGES, bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        for place in consumer.assignment():
            while await consumer.position(place) < ends[place]:
                record = await consumer.getone(place)
                latest[record.key] = record.value
    finally:
        await consumer.stop()
    for sensor in sorted(latest):
        print(sensor.decode(), latest[sensor].decode())


async def replay(servers: str) -> None:
    consumer = AIOKafkaConsumer(READINGS, bootstrap_servers=servers)
    await consumer.start()
    try:
        places = consumer.assignment()
        since = START_MS + 20_000
        found = await consumer.offsets_for_times(dict.fromkeys(places, since))
        ends = await consumer.end_offsets(places)
        starts = {place: ends[place] if at is None else at.offset for place, at in found.items()}
        print("readings since:", sum(ends[place] - starts[place] for place in places))
    finally:
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run({"load": load, "work": work, "show": show, "replay": replay}[sys.argv[2]](sys.argv[1]))

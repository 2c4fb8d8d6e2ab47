"""Averages of sensors, with ottla.client: `meter_from_aiokafka.py SERVERS load|work|show|replay`.

`load` sends readings to one topic. `work` reads them as a member of a group and writes the running average of each
sensor to another; offsets are committed after the averages are safe. `show` prints the latest average of each sensor,
`replay` counts the readings since a moment.
"""

import asyncio
import json
import logging
import sys
from collections import defaultdict

from ottla.client import Admin, Consumer, ErrorCode, KafkaError, NewTopic, Producer, RebalanceListener, TopicPartition

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
    """Commits what is done before partitions go to somebody else."""

    consumer: Consumer

    def on_assigned(self, partitions) -> None:
        log.info("got %s", sorted(partitions))

    async def on_revoked(self, partitions) -> None:
        log.info("lose %s", sorted(partitions))
        if partitions:
            await self.consumer.commit()


async def create_topics(servers: str) -> None:
    async with Admin(servers) as admin:
        topics = [
            NewTopic(name, partitions=2, replication_factor=1, config=configs)
            for name, configs in ((READINGS, {"retention.ms": "-1"}), (AVERAGES, {"cleanup.policy": "compact"}))
        ]
        for name, result in (await admin.create_topics(topics)).items():
            if isinstance(result, KafkaError) and result.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
                raise result
            log.info("%s is there", name)


async def load(servers: str) -> None:
    await create_topics(servers)
    async with Producer(servers, linger_ms=5, compression="gzip") as producer:
        receipts = []
        for number in range(ROUNDS):
            for place, sensor in enumerate(SENSORS):
                receipt = await producer.send_soon(
                    READINGS,
                    json.dumps({"reading": number + place}).encode(),
                    key=sensor.encode(),
                    headers=[("unit", b"celsius")],
                    timestamp_ms=START_MS + number * 1000,
                )
                receipts.append(receipt)
        done = [await receipt for receipt in receipts]
        print("sent", len(done), "to", len({metadata.partition for metadata in done}), "partitions")


async def work(servers: str) -> None:
    averages, done, listener = Averages(), 0, Listener()
    consumer = listener.consumer = Consumer(
        servers,
        group=GROUP,
        topics=[READINGS],
        listener=listener,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=50,
    )
    try:
        async with consumer, Producer(servers) as producer:
            while done < ROUNDS * len(SENSORS):
                for batch in await consumer.poll(1.0):
                    for record in batch:
                        assert dict(record.headers)["unit"] == b"celsius"
                        average = averages.add(record.key, json.loads(record.value)["reading"])
                        await producer.send_soon(AVERAGES, b"%.2f" % average, key=record.key)
                    done += len(batch)
                    await producer.flush()
                    await consumer.commit({TopicPartition(batch.topic, batch.partition): record.offset + 1})
        print("worked on", done)
    except KafkaError:
        log.exception("giving up after %d readings", done)
        raise


async def show(servers: str) -> None:
    latest = {}
    async with Consumer(servers, topics=[AVERAGES], auto_offset_reset="earliest") as consumer:
        ends = await consumer.end_offsets()
        while any(consumer.position(place) < end for place, end in ends.items()):
            for batch in await consumer.poll(1.0):
                latest.update((record.key, record.value) for record in batch)
    for sensor in sorted(latest):
        print(sensor.decode(), latest[sensor].decode())


async def replay(servers: str) -> None:
    async with Consumer(servers, topics=[READINGS]) as consumer:
        places = await consumer.partitions()
        since = START_MS + 20_000
        found = await consumer.offsets_at(dict.fromkeys(places, since))
        ends = await consumer.end_offsets(places)
        starts = {place: ends[place] if at < 0 else at for place, at in found.items()}
        print("readings since:", sum(ends[place] - starts[place] for place in places))


if __name__ == "__main__":
    asyncio.run({"load": load, "work": work, "show": show, "replay": replay}[sys.argv[2]](sys.argv[1]))

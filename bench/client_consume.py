"""How each client reads a topic from its start: ``bench/clients.py`` runs one of these in a process of its own.

Every value is looked at: the sizes add up to what was written. The clock starts when a share of the topic has been read
and stops before its end, so that no start, no group join and no drained queue counts: each reader is as fast as it can
go on being.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

PARTITIONS = 3
ANSWER_BYTES = 16 * 1024 * 1024
PARTITION_BYTES = 1024 * 1024
SETTINGS = (
    "consume: no group commits, at most 16 MiB an answer and 1 MiB a partition, checksums verified, up to 500 ms of "
    "waiting for a byte; the fastest way of each: confluent-kafka by consume(10_000), aiokafka by getmany(10_000), "
    "kafka-python by poll(10_000)"
)


class Task(NamedTuple):
    """What to read: the first ``skipped`` records do not count, the ``counted`` after them do."""

    bootstrap: str
    topic: str
    size: int
    skipped: int
    counted: int


def ottla_records(task: Task) -> float:
    """`async for record in consumer`."""

    async def read(consumer: Any, count: int) -> tuple[int, int]:
        left, size = count, 0
        async for record in consumer:
            size += len(record.value)
            left -= 1
            if not left:
                break
        return count, size

    return _ottla(task, read)


def ottla_columns(task: Task) -> float:
    """`async for batch in consumer.batches()`, the values of each laid side by side without gaps."""

    async def read(consumer: Any, count: int) -> tuple[int, int]:
        seen = size = 0
        async for batch in consumer.batches():
            joined, ends = batch.values.joined()
            seen += len(ends) - 1
            size += len(joined)
            if seen >= count:
                break
        return seen, size

    return _ottla(task, read)


def _ottla(task: Task, read: Callable[[Any, int], Awaitable[tuple[int, int]]]) -> float:
    from ottla.client import Consumer
    from ottla.runtime import loop

    async def main() -> float:
        async with Consumer(
            task.bootstrap,
            topics=[task.topic],
            auto_offset_reset="earliest",
            fetch_max_bytes=ANSWER_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
        ) as consumer:
            return await _timed_async(task, partial(read, consumer))

    return loop.run(main())


def confluent(task: Task) -> float:
    """`consumer.consume(10_000)`, the faster of its two ways."""
    import confluent_kafka

    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": task.bootstrap,
            "group.id": "bench",
            "enable.auto.commit": False,
            "check.crcs": True,
            "fetch.max.bytes": ANSWER_BYTES,
            "max.partition.fetch.bytes": PARTITION_BYTES,
            # Its defaults stop fetching for a second whenever 100,000 records wait: as fast as it can be is fair.
            "queued.min.messages": 1_000_000,
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.assign([confluent_kafka.TopicPartition(task.topic, number, 0) for number in range(PARTITIONS)])

    def read(count: int) -> tuple[int, int]:
        seen = size = 0
        while seen < count:
            messages = consumer.consume(min(10_000, count - seen), 1.0)
            for message in messages:
                size += len(message.value())
            seen += len(messages)
        return seen, size

    try:
        return _timed(task, read)
    finally:
        consumer.close()


def aiokafka(task: Task) -> float:
    """`consumer.getmany`, the faster of its two ways."""
    from aiokafka import AIOKafkaConsumer

    from ottla.runtime import loop

    async def read(consumer: Any, count: int) -> tuple[int, int]:
        seen = size = 0
        while seen < count:
            records, read_bytes = _looked_at(await consumer.getmany(timeout_ms=1000, max_records=10_000))
            seen, size = seen + records, size + read_bytes
        return seen, size

    async def main() -> float:
        consumer = AIOKafkaConsumer(
            task.topic,
            bootstrap_servers=task.bootstrap,
            auto_offset_reset="earliest",
            fetch_max_bytes=ANSWER_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
        )
        await consumer.start()
        try:
            return await _timed_async(task, partial(read, consumer))
        finally:
            await consumer.stop()

    return loop.run(main())


def kafka_python(task: Task) -> float:
    """`consumer.poll`."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        task.topic,
        bootstrap_servers=task.bootstrap,
        auto_offset_reset="earliest",
        fetch_max_bytes=ANSWER_BYTES,
        max_partition_fetch_bytes=PARTITION_BYTES,
    )

    def read(count: int) -> tuple[int, int]:
        seen = size = 0
        while seen < count:
            records, read_bytes = _looked_at(consumer.poll(timeout_ms=1000, max_records=10_000))
            seen, size = seen + records, size + read_bytes
        return seen, size

    try:
        return _timed(task, read)
    finally:
        consumer.close()


def _looked_at(polled: Mapping[Any, Sequence[Any]]) -> tuple[int, int]:
    """Records, and bytes of their values, of what aiokafka or kafka-python handed over at once."""
    records = size = 0
    for messages in polled.values():
        for message in messages:
            size += len(message.value)
        records += len(messages)
    return records, size


async def _timed_async(task: Task, read: Callable[[int], Awaitable[tuple[int, int]]]) -> float:
    await read(task.skipped)
    begun = time.perf_counter()
    records, size = await read(task.counted)
    return _rate(task, records, size, time.perf_counter() - begun)


def _timed(task: Task, read: Callable[[int], tuple[int, int]]) -> float:
    read(task.skipped)
    begun = time.perf_counter()
    records, size = read(task.counted)
    return _rate(task, records, size, time.perf_counter() - begun)


def _rate(task: Task, records: int, size: int, seconds: float) -> float:
    """Records a second; raises if bytes are missing."""
    if records < task.counted or size != records * task.size:
        raise RuntimeError(f"{records} records of {task.size} B came with {size} bytes")
    return records / seconds


WAYS: dict[str, Callable[[Task], float]] = {
    "ottla": ottla_records,
    "ottla columns": ottla_columns,
    "confluent-kafka": confluent,
    "aiokafka": aiokafka,
    "kafka-python": kafka_python,
}
SHARE = {"aiokafka": 0.3, "kafka-python": 0.15}
"""How much of the topic the slow ones read: they would take all of the run's time."""


def task_of(way: str, bootstrap: str, topic: str, size: int, count: int) -> Task:
    """From a tenth to nine tenths of a topic of ``count`` records, or of a share of it."""
    read = int(count * SHARE.get(way, 1.0))
    return Task(bootstrap, topic, size, read // 10, read * 8 // 10)


def fill(bootstrap: str, topic: str, size: int, count: int) -> None:
    """A topic with equal runs of records for each partition, in batches as a producer under load makes them."""
    import confluent_kafka

    from ottla.client import Admin

    async def create() -> None:
        async with Admin(bootstrap) as admin:
            await admin.create_topic(topic, partitions=PARTITIONS)

    asyncio.run(create())
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 50, "batch.size": 65_536, "queue.buffering.max.messages": 500_000}
    )
    value = (bytes(range(97, 123)) * (size // 26 + 1))[:size]
    for number in range(count):
        while True:
            try:
                producer.produce(topic, value, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.05)
    assert producer.flush(60) == 0

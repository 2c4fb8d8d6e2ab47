"""Consuming: Ottla's client beside confluent-kafka, aiokafka and kafka-python, interleaved, one broker.

`python bench/client_consume.py [--cluster ottla|apache] [--rounds 3] [--size 100] [--records 1000000]`. Each client
reads the same topic from its start, in a process of its own; a run's time goes from the first record to the last, so
that neither start nor group join counts. Every record is looked at: the sizes of the values must add up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for place in (ROOT / "tests", ROOT / "tools"):
    sys.path.insert(0, str(place))

PARTITIONS = 3
TOPIC = "bench"


def ottla_records(bootstrap: str, count: int) -> tuple[float, int]:
    """`async for record in consumer`."""
    from ottla.client import Consumer
    from ottla.runtime import loop

    async def main() -> tuple[float, int]:
        async with Consumer(bootstrap, topics=[TOPIC], auto_offset_reset="earliest") as consumer:
            left, size, began = count, 0, 0.0
            async for record in consumer:
                if left == count:
                    began = time.perf_counter()
                size += len(record.value)  # type: ignore[arg-type]  # the bench writes no nulls
                left -= 1
                if left <= 0:
                    break
            return time.perf_counter() - began, size

    return loop.run(main())


def ottla_many(bootstrap: str, count: int) -> tuple[float, int]:
    """`consumer.get_many(10_000)`."""
    from ottla.client import Consumer
    from ottla.runtime import loop

    async def main() -> tuple[float, int]:
        async with Consumer(bootstrap, topics=[TOPIC], auto_offset_reset="earliest") as consumer:
            left, size, began = count, 0, 0.0
            while left > 0:
                records = await consumer.get_many(10_000)
                began = began or time.perf_counter()
                for record in records:
                    size += len(record.value)  # type: ignore[arg-type]
                left -= len(records)
            return time.perf_counter() - began, size

    return loop.run(main())


def ottla_columns(bootstrap: str, count: int) -> tuple[float, int]:
    """`consumer.batches()`, values as one run of bytes each batch."""
    from ottla.client import Consumer
    from ottla.runtime import loop

    async def main() -> tuple[float, int]:
        async with Consumer(bootstrap, topics=[TOPIC], auto_offset_reset="earliest") as consumer:
            left, size, began = count, 0, 0.0
            async for batch in consumer.batches():
                began = began or time.perf_counter()
                joined, ends = batch.values.joined()
                assert ends[-1] == len(joined)
                size += len(joined)
                left -= len(batch.offsets)
                if left <= 0:
                    break
            return time.perf_counter() - began, size

    return loop.run(main())


def ottla_lists(bootstrap: str, count: int) -> tuple[float, int]:
    """`consumer.batches()`, values as a list of bytes each batch."""
    from ottla.client import Consumer
    from ottla.runtime import loop

    async def main() -> tuple[float, int]:
        async with Consumer(bootstrap, topics=[TOPIC], auto_offset_reset="earliest") as consumer:
            left, size, began = count, 0, 0.0
            async for batch in consumer.batches():
                began = began or time.perf_counter()
                values = batch.values.to_list()
                size += sum(map(len, values))  # type: ignore[arg-type]
                left -= len(values)
                if left <= 0:
                    break
            return time.perf_counter() - began, size

    return loop.run(main())


def confluent(bootstrap: str, count: int) -> tuple[float, int]:
    """`consumer.consume(10_000)`, the faster of its two ways."""
    import confluent_kafka

    config = {"bootstrap.servers": bootstrap, "group.id": f"b{os.getpid()}", "enable.auto.commit": False}
    # Its defaults stop fetching for a second whenever 100,000 records wait: as fast as it can be is the fair measure.
    config |= {"queued.min.messages": 1_000_000, "fetch.queue.backoff.ms": 5}
    consumer = confluent_kafka.Consumer(config)
    consumer.assign([confluent_kafka.TopicPartition(TOPIC, number, 0) for number in range(PARTITIONS)])
    left, size, began = count, 0, 0.0
    while left > 0:
        messages = consumer.consume(10_000, 1.0)
        if messages:
            began = began or time.perf_counter()
        for message in messages:
            size += len(message.value())
        left -= len(messages)
    took = time.perf_counter() - began
    consumer.close()
    return took, size


def aiokafka(bootstrap: str, count: int) -> tuple[float, int]:
    """`async for message in consumer`."""
    from aiokafka import AIOKafkaConsumer

    from ottla.runtime import loop

    async def main() -> tuple[float, int]:
        consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        left, size, began = count, 0, 0.0
        async for message in consumer:
            if left == count:
                began = time.perf_counter()
            size += len(message.value)
            left -= 1
            if left <= 0:
                break
        took = time.perf_counter() - began
        await consumer.stop()
        return took, size

    return loop.run(main())


def aiokafka_many(bootstrap: str, count: int) -> tuple[float, int]:
    """`consumer.getmany`."""
    from aiokafka import AIOKafkaConsumer

    from ottla.runtime import loop

    async def main() -> tuple[float, int]:
        consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        left, size, began = count, 0, 0.0
        while left > 0:
            for messages in (await consumer.getmany(timeout_ms=1000, max_records=10_000)).values():
                began = began or time.perf_counter()
                for message in messages:
                    size += len(message.value)
                left -= len(messages)
        took = time.perf_counter() - began
        await consumer.stop()
        return took, size

    return loop.run(main())


def kafka_python(bootstrap: str, count: int) -> tuple[float, int]:
    """`consumer.poll`."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(TOPIC, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    left, size, began = count, 0, 0.0
    while left > 0:
        for messages in consumer.poll(timeout_ms=1000, max_records=10_000).values():
            began = began or time.perf_counter()
            for message in messages:
                size += len(message.value)
            left -= len(messages)
    took = time.perf_counter() - began
    consumer.close()
    return took, size


WAYS: dict[str, Callable[[str, int], tuple[float, int]]] = {
    "ottla records": ottla_records,
    "ottla get_many": ottla_many,
    "ottla columns": ottla_columns,
    "ottla columns, lists": ottla_lists,
    "confluent-kafka": confluent,
    "aiokafka": aiokafka,
    "aiokafka getmany": aiokafka_many,
    "kafka-python": kafka_python,
}
RIVALS = ("confluent-kafka", "aiokafka", "aiokafka getmany")
SLOW = {"kafka-python": 8, "aiokafka": 3, "aiokafka getmany": 3}
"""These read a part of the records only: they would take all of the run's time."""


def run_one(way: str, bootstrap: str, count: int) -> tuple[float, int]:
    """One client in a process of its own; records a second."""
    command = [sys.executable, __file__, "--one", way, "--bootstrap", bootstrap, "--records", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{way}: {done.stderr[-800:]}")
    took, size = json.loads(done.stdout.splitlines()[-1])
    return took, size


async def fill(bootstrap: str, size: int, count: int) -> None:
    """Equal runs of records for each partition, in batches as a producer under load makes them."""
    from ottla.client import Admin

    async with Admin(bootstrap) as admin:
        await admin.create_topic(TOPIC, partitions=PARTITIONS)
    import confluent_kafka

    producer = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 50, "batch.size": 65_536, "queue.buffering.max.messages": 500_000}
    )
    value = bytes(range(97, 123)) * (size // 26 + 1)
    for number in range(count):
        while True:
            try:
                producer.produce(TOPIC, value[:size], partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.05)
    assert producer.flush(60) == 0


def compare(kind: str, size: int, count: int, rounds: int) -> None:
    """Print a table of medians and ratios."""
    from harness import clusters

    with tempfile.TemporaryDirectory() as scratch:
        node = clusters.make_node(kind, Path(scratch) / "data")
        node.start()
        try:
            asyncio.run(fill(node.bootstrap, size, count))
            rates: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(rounds):
                for way in WAYS:
                    part = count // SLOW.get(way, 1)
                    took, total = run_one(way, node.bootstrap, part)
                    if total < part * size:
                        raise RuntimeError(f"{way} saw {total} bytes of {part * size}")
                    rates[way].append(part / took)
        finally:
            node.stop()
    print(f"{kind}, {size} B, {count} records, {rounds} rounds: median, and in brackets the best")
    for way, found in rates.items():
        rate = f"{statistics.median(found) / 1e6:.2f} M/s ({max(found) / 1e6:.2f})"
        beside = [f"{_beside(found, rates[rival])} {rival}" for rival in RIVALS]
        print(f"  {way:22}{rate:20}{'   '.join(beside)}", flush=True)


def _beside(found: list[float], others: list[float]) -> str:
    """Ratio of medians, and of bests."""
    ratio, best = statistics.median(found) / statistics.median(others), max(found) / max(others)
    return f"{ratio:5.2f} x ({best:5.2f})"


def main() -> None:
    """One client (internal), or the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", choices=("ottla", "apache"), default="ottla")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, action="append")
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--one", choices=list(WAYS))
    parser.add_argument("--bootstrap")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(WAYS[options.one](options.bootstrap, options.records)))
        return
    for size in options.size or (100, 1000):
        compare(options.cluster, size, options.records or (1_200_000 if size < 500 else 300_000), options.rounds)


if __name__ == "__main__":
    main()

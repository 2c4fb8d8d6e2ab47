"""How each client sends records: ``bench/clients.py`` runs one of these in a process of its own.

`records` sends records one by one and asks each for its fate; `many` hands over lists of them and asks whether all are
acknowledged. Each warms up first: connections, metadata and a producer id are there when the clock starts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

PARTITIONS = 4
WARM = 2_000
LINGER_MS = 5
BATCH_BYTES = 131_072
MANY = 10_000
"""Records a call of what takes many."""
SETTINGS = (
    f"produce: acks=all, idempotent, linger {LINGER_MS} ms, batches of 128 KiB, no compression, no keys, "
    f"{PARTITIONS} partitions; many: all in one send_many, for confluent-kafka lists of {MANY:,} to produce_batch "
    "(made beforehand)"
)


class Task(NamedTuple):
    """How many records of how many bytes to send."""

    bootstrap: str
    topic: str
    size: int
    count: int


def ottla_records(task: Task) -> float:
    """`send_soon`, and each receipt awaited."""
    value = b"x" * task.size

    async def send(producer: Any) -> None:
        receipts = [await producer.send_soon(task.topic, value) for _ in range(task.count)]
        for receipt in receipts:
            assert (await receipt).offset >= 0

    return _ottla(task, send)


def ottla_many(task: Task) -> float:
    """`send_many`, and its delivery awaited."""
    values = [b"x" * task.size] * task.count

    async def send(producer: Any) -> None:
        assert await (await producer.send_many(task.topic, values)) == task.count

    return _ottla(task, send)


def _ottla(task: Task, send: Any) -> float:
    from ottla.client import Producer
    from ottla.runtime import loop

    async def main() -> float:
        async with Producer(task.bootstrap, linger_ms=LINGER_MS, batch_size=BATCH_BYTES) as producer:
            await (await producer.send_many(task.topic, [b"x" * task.size] * WARM))
            begun = time.perf_counter()
            await send(producer)
            return task.count / (time.perf_counter() - begun)

    return loop.run(main())


def confluent_records(task: Task) -> float:
    """`produce` with a callback that takes each record's offset."""
    producer = _confluent(task)
    value = b"x" * task.size
    acknowledged: list[int] = []

    def on_delivery(error: Any, message: Any) -> None:
        assert error is None
        acknowledged.append(message.offset())

    begun = time.perf_counter()
    for _ in range(task.count):
        while True:
            try:
                producer.produce(task.topic, value, on_delivery=on_delivery)
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    producer.flush()
    seconds = time.perf_counter() - begun
    assert len(acknowledged) == task.count
    return task.count / seconds


def confluent_many(task: Task) -> float:
    """`produce_batch`, and `flush`."""
    producer = _confluent(task)
    messages = iter([{"value": b"x" * task.size} for _ in range(task.count)])
    turns = []
    while turn := list(islice(messages, MANY)):
        turns.append(turn)
    begun = time.perf_counter()
    for turn in turns:
        sent = producer.produce_batch(task.topic, turn)
        assert sent == len(turn)
    assert producer.flush() == 0
    return task.count / (time.perf_counter() - begun)


def _confluent(task: Task) -> Any:
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": task.bootstrap,
            "enable.idempotence": True,
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            # Nobody waits for room: with its default of 100,000 records it would, and be slower.
            "queue.buffering.max.messages": 10_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
        }
    )
    for _ in range(WARM):
        producer.produce(task.topic, b"x" * task.size)
    assert producer.flush() == 0
    return producer


def aiokafka_records(task: Task) -> float:
    """`send`, and each future awaited."""
    from aiokafka import AIOKafkaProducer

    from ottla.runtime import loop

    value = b"x" * task.size

    async def main() -> float:
        producer = AIOKafkaProducer(
            bootstrap_servers=task.bootstrap,
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            linger_ms=LINGER_MS,
        )
        await producer.start()
        try:
            await asyncio.gather(*[await producer.send(task.topic, value) for _ in range(WARM)])
            begun = time.perf_counter()
            for future in [await producer.send(task.topic, value) for _ in range(task.count)]:
                assert (await future).offset >= 0
            return task.count / (time.perf_counter() - begun)
        finally:
            await producer.stop()

    return loop.run(main())


def kafka_python_records(task: Task) -> float:
    """`send`, and each future asked."""
    from kafka import KafkaProducer

    producer = KafkaProducer(
        bootstrap_servers=task.bootstrap,
        acks="all",
        enable_idempotence=True,
        batch_size=BATCH_BYTES,
        linger_ms=LINGER_MS,
    )
    value = b"x" * task.size
    for future in [producer.send(task.topic, value) for _ in range(WARM)]:
        future.get(30)
    begun = time.perf_counter()
    for future in [producer.send(task.topic, value) for _ in range(task.count)]:
        assert future.get(60).offset >= 0
    seconds = time.perf_counter() - begun
    producer.close()
    return task.count / seconds


WAYS: dict[str, dict[str, Callable[[Task], float]]] = {
    "records": {
        "ottla": ottla_records,
        "confluent-kafka": confluent_records,
        "aiokafka": aiokafka_records,
        "kafka-python": kafka_python_records,
    },
    "many": {"ottla": ottla_many, "confluent-kafka": confluent_many},
}
GUESS = {"ottla": 300_000, "confluent-kafka": 300_000, "aiokafka": 50_000, "kafka-python": 20_000}
"""Records a second, to begin with; the count of later rounds follows from the first."""


def task_of(way: str, bootstrap: str, topic: str, size: int, *, rate: float | None, seconds: float) -> Task:
    """As many records as take about ``seconds`` at the ``rate`` measured before, at most 400 MB."""
    count = int((rate or GUESS[way]) * seconds)
    return Task(bootstrap, topic, size, max(5_000, min(count, 2_000_000, 400_000_000 // size)))

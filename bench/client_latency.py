"""From just before a record is sent to its arrival, a client at both ends, each end a process of its own.

1,000 records a second to one partition, no linger. Both ends read the same monotonic clock; the record carries the time
it was sent at. The first records do not count. An event loop's timers go by the millisecond, so the asyncio sender is
woken by the kernel's timer, as evenly as the other one is by sleeping.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from struct import Struct

from client_consume import Task

RATE = 1_000
SETTINGS = (
    f"latency: {RATE:,} records a second, acks=all, idempotent, no linger; the client's own consumer reads, checksums "
    "verified"
)
_STAMP = Struct("<d")


def send_ottla(task: Task) -> None:
    from ottla.client import Producer
    from ottla.runtime import loop

    async def main() -> None:
        padding = b"x" * (task.size - _STAMP.size)
        async with Producer(task.bootstrap, linger_ms=0) as producer:
            ticks = _Ticks()
            sent, count = 0, task.skipped + task.counted
            while sent < count:
                for _ in range(min(await ticks.next(), count - sent)):
                    await producer.send_soon(task.topic, _STAMP.pack(time.perf_counter()) + padding, partition=0)
                    sent += 1
            await producer.flush()
            ticks.close()

    loop.run(main())


class _Ticks:
    """Wakes the loop ``RATE`` times a second."""

    def __init__(self) -> None:
        kernel = ctypes.CDLL(None, use_errno=True)
        self._file = kernel.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
        every = (ctypes.c_long * 4)(0, 1_000_000_000 // RATE, 0, 1_000_000_000 // RATE)
        if self._file < 0 or kernel.timerfd_settime(self._file, 0, every, None) < 0:
            raise OSError(ctypes.get_errno(), "no kernel timer")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._file, self._ring)
        self._due = 0
        self._waiter: asyncio.Future[None] | None = None

    def _ring(self) -> None:
        self._due += int.from_bytes(os.read(self._file, 8), "little")
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> int:
        """Wait for a tick; how many there were since the last time."""
        if not self._due:
            self._waiter = self._loop.create_future()
            await self._waiter
        due, self._due = self._due, 0
        return due

    def close(self) -> None:
        self._loop.remove_reader(self._file)
        os.close(self._file)


def send_confluent(task: Task) -> None:
    from confluent_kafka import Producer

    padding = b"x" * (task.size - _STAMP.size)
    producer = Producer({"bootstrap.servers": task.bootstrap, "enable.idempotence": True, "linger.ms": 0})
    due = time.perf_counter()
    for _ in range(task.skipped + task.counted):
        due += 1 / RATE
        pause = due - time.perf_counter()
        if pause > 0:
            time.sleep(pause)
        producer.produce(task.topic, _STAMP.pack(time.perf_counter()) + padding, partition=0)
        producer.poll(0)
    assert producer.flush() == 0


def read_ottla(task: Task) -> list[float]:
    from ottla.client import Consumer
    from ottla.runtime import loop

    async def main() -> list[float]:
        arrived = []
        async with Consumer(task.bootstrap, topics=[task.topic], auto_offset_reset="earliest") as consumer:
            async for record in consumer:
                arrived.append(time.perf_counter() - _STAMP.unpack_from(record.value)[0])
                if len(arrived) == task.skipped + task.counted:
                    break
        return arrived[task.skipped :]

    return loop.run(main())


def read_confluent(task: Task) -> list[float]:
    from confluent_kafka import Consumer, TopicPartition

    settings = {"group.id": "bench", "enable.auto.commit": False, "check.crcs": True}
    consumer = Consumer({"bootstrap.servers": task.bootstrap, **settings})
    consumer.assign([TopicPartition(task.topic, 0, 0)])
    arrived = []
    while len(arrived) < task.skipped + task.counted:
        message = consumer.poll(1.0)
        if message is not None:
            assert message.error() is None
            arrived.append(time.perf_counter() - _STAMP.unpack_from(message.value())[0])
    consumer.close()
    return arrived[task.skipped :]


SENDERS: dict[str, Callable[[Task], None]] = {"ottla": send_ottla, "confluent-kafka": send_confluent}
READERS: dict[str, Callable[[Task], list[float]]] = {"ottla": read_ottla, "confluent-kafka": read_confluent}


def task_of(bootstrap: str, topic: str, size: int, seconds: float) -> Task:
    """Two seconds until both ends run at an even pace, then ``seconds`` that count."""
    return Task(bootstrap, topic, size, 2 * RATE, int(seconds * RATE))


def percentiles(seconds: list[float]) -> tuple[float, float]:
    """The 50th and the 99th, in milliseconds."""
    ordered = sorted(seconds)
    return ordered[len(ordered) // 2] * 1000, ordered[len(ordered) * 99 // 100] * 1000

"""The load of groups: offset commits of many, and how long a new member waits for its first record."""

from __future__ import annotations

import asyncio
import statistics
import struct
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.raw import ProtocolFailure, RawConnection, retry, string

OFFSET_COMMIT, FIND_COORDINATOR = 8, 10
CONNECTIONS = 8
FIRST_RECORD_SECONDS = 30.0


def commit_offsets(node: Any, topic: str, *, groups: int, rounds: int) -> float:
    """Commits a second. Every connection sends all its requests, then reads all answers; each is checked."""
    names = [f"bench-{topic}-{number}" for number in range(groups)]
    with node.connect() as connection:
        retry(lambda: _commit_one(connection, names[0], topic))
    shares = [names[number::CONNECTIONS] for number in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        connections = [node.connect(timeout=60.0) for _ in shares]
        try:
            list(pool.map(lambda pair: _commit_all(*pair, topic), zip(connections, shares, strict=True)))
            begin = time.monotonic()
            for _ in range(rounds):
                list(pool.map(lambda pair: _commit_all(*pair, topic), zip(connections, shares, strict=True)))
            return groups * rounds / (time.monotonic() - begin)
        finally:
            for connection in connections:
                connection.close()


def _body(group: str, topic: str) -> bytes:
    """OffsetCommit v2 from outside the group: no generation, no member, the broker's retention."""
    head = string(group) + struct.pack(">i", -1) + string("") + struct.pack(">q", -1)
    return head + struct.pack(">i", 1) + string(topic) + struct.pack(">iiqh", 1, 0, 1, -1)


def _commit_one(connection: RawConnection, group: str, topic: str) -> None:
    connection.request(FIND_COORDINATOR, 0, string(group))
    code = connection.request(OFFSET_COMMIT, 2, _body(group, topic)).buffer[-2:]
    if code != b"\0\0":
        raise ProtocolFailure("OffsetCommit", int.from_bytes(code, signed=True))


def _commit_all(connection: RawConnection, names: list[str], topic: str) -> None:
    for name in names:
        connection.send(OFFSET_COMMIT, 2, _body(name, topic))
    for _ in names:
        _, body = connection.receive()
        if body[-2:] != b"\0\0":
            raise RuntimeError(f"commit refused: error {int.from_bytes(body[-2:], signed=True)}")


def join_to_first_record(bootstrap: str, topic: str, client: str, times: int) -> float:
    """The median in milliseconds; every time a new group and a new consumer.

    aiokafka speaks the classic protocol. The newer one is spoken by `ottla.client` and by librdkafka, which waits on
    its own account whatever the broker: 100 ms before it looks up the start of partitions without a committed offset,
    and in most runs 50 ms before its second connection, since it drops the first as soon as it has metadata.
    """
    once = {"aiokafka": _join_aiokafka, "librdkafka": _join_librdkafka, "ottla.client": _join_ottla}[client]
    # The first one also brings the offsets topic into being.
    return statistics.median([once(bootstrap, topic) for _ in range(times + 1)][1:]) * 1000


def _join_aiokafka(bootstrap: str, topic: str) -> float:
    from aiokafka import AIOKafkaConsumer

    async def join() -> float:
        begin = time.monotonic()
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=bootstrap, group_id=f"bench-{uuid.uuid4()}", auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            async with asyncio.timeout(FIRST_RECORD_SECONDS):
                await consumer.getone()
            return time.monotonic() - begin
        finally:
            await consumer.stop()

    return asyncio.run(join())


def _join_ottla(bootstrap: str, topic: str) -> float:
    from ottla.client import Consumer

    async def join() -> float:
        begin = time.monotonic()
        async with Consumer(
            bootstrap,
            group=f"bench-{uuid.uuid4()}",
            group_protocol="consumer",
            topics=[topic],
            auto_offset_reset="earliest",
        ) as consumer:
            async with asyncio.timeout(FIRST_RECORD_SECONDS):
                await anext(aiter(consumer))
            return time.monotonic() - begin

    return asyncio.run(join())


def _join_librdkafka(bootstrap: str, topic: str) -> float:
    from confluent_kafka import Consumer

    begin = time.monotonic()
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bench-{uuid.uuid4()}",
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    message = consumer.poll(FIRST_RECORD_SECONDS)
    seconds = time.monotonic() - begin
    consumer.close()
    if message is None or message.error():
        raise RuntimeError(f"no record within {FIRST_RECORD_SECONDS} s")
    return seconds

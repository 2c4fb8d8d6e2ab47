"""aiokafka: administration, the codecs it has here, groups with a rebalance, seeking, replay by time."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("aiokafka", reason="aiokafka is not installed (extra `interop`)")

import aiokafka.codec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@asynccontextmanager
async def started(client):
    await client.start()
    try:
        yield client
    finally:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


async def read(consumer, count, seconds=40):
    records, deadline = [], time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        for rows in (await consumer.getmany(timeout_ms=500, max_records=count - len(records))).values():
            records += rows
    return records


async def eventually(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def test_administration(cluster, topic):
    async def scenario():
        async with started(AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)) as admin:
            await admin.create_topics([NewTopic(topic, 2, 1)])

            async def partitions():
                return len((await admin.describe_topics([topic]))[0]["partitions"])

            async def has(count):
                return await partitions() == count

            await eventually(lambda: has(2))
            await admin.create_partitions({topic: NewPartitions(3)})
            await eventually(lambda: has(3))
            assert (await admin.describe_cluster())["cluster_id"]
            await admin.delete_topics([topic])

            async def gone():
                return topic not in await admin.list_topics()

            await eventually(gone)

    asyncio.run(scenario())


@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_records_come_back_as_sent(cluster, topic, codec, idempotent):
    if codec and not getattr(aiokafka.codec, f"has_{codec}")():
        pytest.skip(f"aiokafka has no {codec} here")

    async def scenario():
        stamp = time.time_ns() // 1_000_000
        rows = [
            (
                None if n % 5 == 0 else b"k%d" % n,
                None if n % 7 == 3 and n % 5 else b"v%d" % n * (n % 30 + 1),
                [("h", b"%d" % n)] if n % 3 == 0 else [],
            )
            for n in range(300)
        ]
        options = {"compression_type": codec, "enable_idempotence": idempotent, "acks": "all", "linger_ms": 5}
        async with started(AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, **options)) as producer:
            sent = [
                await producer.send(topic, value, key, 0, stamp + n, headers)
                for n, (key, value, headers) in enumerate(rows)
            ]
            assert [(await future).offset for future in sent] == list(range(300))
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest")
        async with started(consumer):
            got = await read(consumer, 300)
        assert [(r.key, r.value, list(r.headers)) for r in got] == rows
        assert [r.timestamp for r in got] == [stamp + n for n in range(300)]

    asyncio.run(scenario())


def test_a_group_rebalances_commits_and_continues(cluster, topic, unique):
    group = unique("group")

    def member():
        return AIOKafkaConsumer(
            topic,
            bootstrap_servers=cluster.bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=6000,
            heartbeat_interval_ms=500,
        )

    async def scenario():
        async with started(AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)) as admin:
            await admin.create_topics([NewTopic(topic, 4, 1)])
        async with started(AIOKafkaProducer(bootstrap_servers=cluster.bootstrap)) as producer:
            for n in range(80):
                await producer.send_and_wait(topic, str(n).encode(), partition=n % 4)
            async with started(member()) as first:
                assert len(await read(first, 80)) == 80
                await first.commit()
                async with started(member()) as second:

                    async def balanced():
                        await first.getmany(timeout_ms=50)
                        await second.getmany(timeout_ms=50)
                        return len(first.assignment()) == len(second.assignment()) == 2

                    await eventually(balanced, 40)
            for n in range(8):
                await producer.send_and_wait(topic, b"more", partition=n % 4)
        async with started(member()) as third:
            assert [r.value for r in await read(third, 8)] == [b"more"] * 8
            assert await third.committed(TopicPartition(topic, 2)) == 20

    asyncio.run(scenario())


def test_seek_and_replay(cluster, topic):
    async def scenario():
        base = time.time_ns() // 1_000_000 - 50_000
        async with started(AIOKafkaProducer(bootstrap_servers=cluster.bootstrap)) as producer:
            for n in range(50):
                await producer.send_and_wait(topic, str(n).encode(), partition=0, timestamp_ms=base + 100 * n)
        place = TopicPartition(topic, 0)
        async with started(AIOKafkaConsumer(bootstrap_servers=cluster.bootstrap)) as consumer:
            consumer.assign([place])
            consumer.seek(place, 30)
            assert (await read(consumer, 1))[0].value == b"30"
            await consumer.seek_to_beginning(place)
            assert [r.value for r in await read(consumer, 2)] == [b"0", b"1"]
            assert (await consumer.offsets_for_times({place: base + 1150}))[place].offset == 12
            assert await consumer.end_offsets([place]) == {place: 50}

    asyncio.run(scenario())

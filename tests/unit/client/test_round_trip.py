"""The client against a real broker, also through connections that break."""

import asyncio
from collections.abc import Awaitable

import pytest

from harness.relay import Relay, redirect
from ottla.client import (
    Admin,
    ClusterUnreachable,
    Consumer,
    ErrorCode,
    KafkaError,
    Producer,
    TopicPartition,
    parse_bootstrap,
)
from ottla.testing import KafkaBroker

SECONDS = 60


def run(main: Awaitable[None]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(main, SECONDS)

    asyncio.run(limited())


class Cuts:
    """Cuts connections after a number of answered bytes, the answer being lost."""

    def __init__(self, *, after: int, count: int) -> None:
        self._after = after
        self._passed: dict[asyncio.StreamWriter, int] = {}
        self.left = count

    async def alter(self, data: bytes, writer: asyncio.StreamWriter, is_answer: bool) -> bool:
        passed = self._passed[writer] = self._passed.get(writer, 0) + len(data)
        if is_answer and passed > self._after and self.left > 0:
            self.left -= 1
            return False
        writer.write(data)
        return True


async def read_all(bootstrap: str, topic: str) -> list[bytes | None]:
    async with Consumer(bootstrap, topics=[topic], auto_offset_reset="earliest") as consumer:
        ends = await consumer.end_offsets()
        values: list[bytes | None] = []
        while any(consumer.position(place) < end for place, end in ends.items()):
            values += [record.value for batch in await consumer.poll(1.0) for record in batch]
        return values


@pytest.mark.parametrize("cut_after", [800, 1000, 1500])
def test_idempotent_through_broken_connections(
    kafka: KafkaBroker, monkeypatch: pytest.MonkeyPatch, cut_after: int
) -> None:
    topic = kafka.topic(partitions=1)

    async def main() -> None:
        cuts = Cuts(after=cut_after, count=6)
        async with Relay(kafka.bootstrap_servers, cuts.alter) as relay:
            redirect(monkeypatch, relay.port)
            async with Producer(
                f"127.0.0.1:{relay.port}", batch_size=300, linger_ms=0, request_timeout_ms=5000
            ) as producer:
                futures = []
                for number in range(400):
                    futures.append(await producer.send_soon(topic, b"%06d" % number))
                    if number % 20 == 0:
                        await asyncio.sleep(0.005)
                places = await asyncio.gather(*futures)
            assert cuts.left < 6, "the proxy never cut: the test proves nothing"
            assert [place.offset for place in places] == list(range(400))
        monkeypatch.undo()
        assert await read_all(kafka.bootstrap_servers, topic) == [b"%06d" % number for number in range(400)]

    run(main())


def test_records_come_back_as_they_were_sent(kafka: KafkaBroker) -> None:
    topic = kafka.topic()

    async def main() -> None:
        async with Producer(kafka.bootstrap_servers, compression="zstd") as producer:
            sent = await producer.send(topic, b"v", key=b"k", headers=[("h", b"1"), ("n", None)], timestamp_ms=1234)
            tombstone = await producer.send(topic, None, key=b"k")
        assert (sent.offset, tombstone.offset, sent.timestamp) == (0, 1, 1234)
        async with Consumer(kafka.bootstrap_servers, topics=[topic], auto_offset_reset="earliest") as consumer:
            records = [record for batch in await consumer.poll(10.0) for record in batch]
            if len(records) < 2:
                records += [record for batch in await consumer.poll(10.0) for record in batch]
        assert [(one.key, one.value, one.headers) for one in records] == [
            (b"k", b"v", (("h", b"1"), ("n", None))),
            (b"k", None, ()),
        ]

    run(main())


def test_keys_stay_in_order_on_their_partition(kafka: KafkaBroker) -> None:
    topic = kafka.topic(partitions=4)

    async def main() -> None:
        async with Producer(kafka.bootstrap_servers, batch_size=1000) as producer:
            records = [(b"key-%d" % (number % 13), b"%05d" % number) for number in range(3000)]
            assert await (await producer.send_many(topic, records)).wait() == 3000
        seen: dict[bytes | None, list[bytes | None]] = {}
        partitions: dict[bytes | None, set[int]] = {}
        async with Consumer(kafka.bootstrap_servers, topics=[topic], auto_offset_reset="earliest") as consumer:
            count = 0
            async for record in consumer:
                seen.setdefault(record.key, []).append(record.value)
                partitions.setdefault(record.key, set()).add(record.partition)
                count += 1
                if count == 3000:
                    break
        assert all(values == sorted(values, key=lambda value: value or b"") for values in seen.values())
        assert all(len(places) == 1 for places in partitions.values())

    run(main())


@pytest.mark.parametrize("acks", ["all", 1, 0])
def test_every_acks(kafka: KafkaBroker, acks: object) -> None:
    topic = kafka.topic()

    async def main() -> None:
        async with Producer(kafka.bootstrap_servers, acks=acks) as producer:  # type: ignore[arg-type]  # parametrised
            metadata = await producer.send(topic, b"x")
            assert metadata.offset == (-1 if acks == 0 else 0)
        while await read_all(kafka.bootstrap_servers, topic) != [b"x"]:
            await asyncio.sleep(0.05)

    run(main())


def test_what_the_broker_refuses_reaches_the_caller(kafka: KafkaBroker) -> None:
    topic = kafka.topic(config={"max.message.bytes": "1000"})

    async def main() -> None:
        async with Producer(kafka.bootstrap_servers) as producer:
            with pytest.raises(KafkaError) as failure:
                await producer.send(topic, b"x" * 5000)
            assert failure.value.code is ErrorCode.MESSAGE_TOO_LARGE
            # The producer begins anew with another id: the next record is none the worse for it.
            assert (await producer.send(topic, b"y")).offset == 0
            with pytest.raises(KafkaError, match="no partition 7"):
                await producer.send(topic, b"y", partition=7)
            with pytest.raises(KafkaError, match="exceeds"):
                await producer.send(topic, b"y" * 2_000_000)

    run(main())


def test_topics_that_do_not_exist(kafka: KafkaBroker) -> None:
    async def main() -> None:
        async with Producer(kafka.bootstrap_servers, create_topics=False) as producer:
            with pytest.raises(KafkaError, match="topic 'nowhere' does not exist"):
                await producer.send("nowhere", b"x")
        with pytest.raises(KafkaError, match="does not exist"):
            async with Consumer(kafka.bootstrap_servers, topics=["nowhere"]):
                pass
        async with Producer(kafka.bootstrap_servers) as producer:
            assert (await producer.send("made-by-producing", b"x")).offset == 0

    run(main())


def test_offsets_seek_and_reset(kafka: KafkaBroker) -> None:
    topic = kafka.topic()
    place = TopicPartition(topic, 0)

    async def main() -> None:
        async with Producer(kafka.bootstrap_servers) as producer:
            await (await producer.send_many(topic, [(None, b"%d" % number) for number in range(10)])).wait()
        async with Consumer(kafka.bootstrap_servers, topics=[topic], offsets={place: 8}) as consumer:
            assert [one.value for batch in await consumer.poll(10.0) for one in batch] == [b"8", b"9"]
            consumer.seek({place: 5})
            first = await anext(aiter(consumer))
            assert first.offset == 5
            assert await consumer.start_offsets() == {place: 0}
            assert await consumer.end_offsets() == {place: 10}
        async with Consumer(
            kafka.bootstrap_servers, topics=[topic], offsets={place: 999}, auto_offset_reset="earliest"
        ) as consumer:
            assert (await anext(aiter(consumer))).offset == 0
        async with Consumer(
            kafka.bootstrap_servers, topics=[topic], offsets={place: 999}, auto_offset_reset="none"
        ) as consumer:
            with pytest.raises(KafkaError) as failure:
                await consumer.poll(10.0)
            assert failure.value.code is ErrorCode.OFFSET_OUT_OF_RANGE

    run(main())


def test_admin(kafka: KafkaBroker) -> None:
    async def main() -> None:
        async with Admin(kafka.bootstrap_servers) as admin:
            created = await admin.create_topic("admin-made", partitions=2, config={"retention.ms": "1000"})
            assert (created.partitions, created.replication_factor) == (2, 1)
            with pytest.raises(KafkaError) as failure:
                await admin.create_topic("admin-made")
            assert failure.value.code is ErrorCode.TOPIC_ALREADY_EXISTS
            (topic,) = await admin.describe_topics(["admin-made"])
            assert await admin.offsets(topic) == {0: (0, 0), 1: (0, 0)}
            assert "admin-made" in [one.name for one in await admin.list_topics()]
            results = await admin.delete_topics(["admin-made", "never-was"])
            assert results["admin-made"] is None
            refused = results["never-was"]
            assert refused is not None
            assert refused.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            with pytest.raises(KafkaError, match="does not exist"):
                await admin.describe_topics(["admin-made"])

    run(main())


def test_a_dead_address_among_the_bootstrap_servers(kafka: KafkaBroker) -> None:
    async def main() -> None:
        async with Admin(["127.0.0.1:1", kafka.bootstrap_servers]) as admin:
            await admin.list_topics()
        with pytest.raises(ClusterUnreachable, match=r"cannot connect to 127\.0\.0\.1:1"):
            async with Admin("127.0.0.1:1"):
                pass

    run(main())


def test_bootstrap_forms() -> None:
    assert parse_bootstrap("a, b:1,PLAINTEXT://c:2,[::1]:3,[::1]") == (
        ("a", 9092),
        ("b", 1),
        ("c", 2),
        ("::1", 3),
        ("::1", 9092),
    )
    for wrong in ("", "a:", "a:x", ":1", "a:0", "a:70000"):
        with pytest.raises(ValueError, match=r"HOST:PORT|no bootstrap"):
            parse_bootstrap(wrong)

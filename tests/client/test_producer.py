"""The producer: what it acknowledges is there once, in order, where it said."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.client import (
    BufferExhaustedError,
    ClientClosedError,
    Consumer,
    Delivery,
    ErrorCode,
    KafkaError,
    KafkaTimeoutError,
    Producer,
    ProducerRecord,
    RecordMetadata,
    RecordTooLargeError,
    UnknownTopicError,
)

Run = Callable[[Awaitable[Any]], Any]
MakeTopic = Callable[..., str]


async def read_all(bootstrap: str, topic: str) -> list[Any]:
    async with Consumer(bootstrap, topics=[topic], auto_offset_reset="earliest") as consumer:
        ends = await consumer.end_offsets()
        records: list[Any] = []
        while any(consumer.position(place) < end for place, end in ends.items()):
            records += [record for batch in await consumer.poll(1.0) for record in batch]
        return records


def test_the_smallest_program(bootstrap: str, make_topic: MakeTopic, run: Run) -> None:
    topic = make_topic()

    async def main() -> None:
        async with Producer(bootstrap) as producer:
            metadata = await producer.send(topic, key=b"42", value=b"...")
        assert metadata == RecordMetadata(topic, 0, 0, metadata.timestamp)
        (record,) = await read_all(bootstrap, topic)
        assert (record.key, record.value, record.timestamp) == (b"42", b"...", metadata.timestamp)

    run(main())


def test_without_lingering_a_record_goes_at_once_and_what_follows_it_together(
    bootstrap: str, make_topic: MakeTopic, run: Run
) -> None:
    topic = make_topic()

    async def main() -> None:
        async with Producer(bootstrap, linger_ms=0) as producer:
            await producer.send(topic, b"connects", partition=0)
            await asyncio.gather(*[producer.send(topic, b"%d" % number, partition=0) for number in range(100)])
        async with Consumer(bootstrap, topics=[topic], auto_offset_reset="earliest") as consumer:
            sizes = []
            while sum(sizes) < 101:
                sizes += [len(batch) for batch in await consumer.poll(5.0)]
        assert sizes == [1, 1, 99]

    run(main())


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_with_everything_in_it(bootstrap: str, make_topic: MakeTopic, run: Run, codec: Any) -> None:
    topic = make_topic()
    values = [b"x" * 5000, b"", None, bytes(range(256))]

    async def main() -> None:
        async with Producer(bootstrap, compression=codec, linger_ms=50) as producer:
            receipts = [
                await producer.send_soon(
                    topic, value, key=None if number % 2 else b"k", headers={"h": b"%d" % number, "n": None}
                )
                for number, value in enumerate(values)
            ]
            await producer.send_many(topic, [(b"a", b"1"), (None, b"2"), b"3", (b"c", None)])
            await producer.flush()
            assert [receipt.result().offset for receipt in receipts] == [0, 1, 2, 3]
        records = await read_all(bootstrap, topic)
        assert [record.value for record in records] == [*values, b"1", b"2", b"3", None]
        assert records[1].headers == (("h", b"1"), ("n", None))
        assert [record.key for record in records] == [b"k", None, b"k", None, b"a", None, None, b"c"]

    run(main())


def test_keys_go_where_librdkafka_sends_them(bootstrap: str, make_topic: MakeTopic, run: Run) -> None:
    confluent_kafka = pytest.importorskip("confluent_kafka")
    keys = [b"key-%d" % number for number in range(60)] + [b"x" * length for length in range(1, 40)]
    for name in ("murmur2_random", "consistent_random", "fnv1a_random", "murmur2", "consistent", "fnv1a"):
        topic = make_topic(partitions=7)
        theirs: dict[bytes, int] = {}

        def note(_error: Any, message: Any, theirs: dict[bytes, int] = theirs) -> None:
            theirs[message.key()] = message.partition()

        producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "partitioner": name})
        for key in keys:
            producer.produce(topic, b"", key=key, on_delivery=note)
        producer.flush()

        async def main(name: Any = name, topic: str = topic, theirs: dict[bytes, int] = theirs) -> None:
            async with Producer(bootstrap, partitioner=name) as ours:
                receipts = {key: await ours.send_soon(topic, b"", key=key) for key in keys}
                assert {key: (await receipt).partition for key, receipt in receipts.items()} == theirs, name
                await (await ours.send_many(topic, [(key, b"many") for key in keys]))
            for record in await read_all(bootstrap, topic):
                assert record.partition == theirs[record.key], name

        run(main())


def test_without_keys_partitions_take_turns(bootstrap: str, make_topic: MakeTopic, run: Run) -> None:
    topic = make_topic(partitions=4)

    async def main() -> None:
        async with Producer(bootstrap, batch_size=2_000) as producer:
            receipts = [await producer.send_soon(topic, b"x" * 100) for _ in range(2_000)]
            places = Counter([(await receipt).partition for receipt in receipts])
            assert len(places) == 4
            assert max(places.values()) < 4 * min(places.values())
        async with Producer(bootstrap, partitioner=lambda _topic, _key, partitions: partitions - 1) as producer:
            assert (await producer.send(topic, b"x", key=b"k")).partition == 3
            assert (await producer.send(topic, b"x", partition=1)).partition == 1

    run(main())


def test_serializers_interceptors_and_records_of_all_shapes(bootstrap: str, make_topic: MakeTopic, run: Run) -> None:
    topic = make_topic()

    class Tracing:
        def __init__(self) -> None:
            self.told: list[tuple[Any, int | None]] = []

        def on_send(self, record: ProducerRecord) -> ProducerRecord:
            return ProducerRecord(record.topic, record.value, record.key, headers=[*record.headers, ("trace", b"1")])

        def on_acknowledgement(
            self, record: ProducerRecord, metadata: RecordMetadata | None, error: Exception | None
        ) -> None:
            assert error is None
            self.told.append((record.value, None if metadata is None else metadata.offset))

    tracing = Tracing()

    async def main() -> None:
        async with Producer(bootstrap, key_serializer=str.encode, value_serializer=str.encode) as producer:
            await producer.send(topic, "välue", key="k")
            assert await (await producer.send_many(topic, [("k", "1"), ("l", "2")])) == 2
        async with Producer(bootstrap, interceptors=[tracing]) as producer:
            await producer.send(topic, b"4")
            delivery = Delivery()
            await producer.send_many(
                topic, [b"5", ProducerRecord(topic, b"6", headers=[("x", b"y")])], delivery=delivery
            )
            await producer.send_counted(topic, b"7", delivery=delivery)
            assert await delivery.wait() == 3
            with pytest.raises(TypeError, match="value_serializer"):
                await producer.send(topic, "text")
        assert tracing.told == [(b"4", 3), (b"5", 4), (b"6", 5), (b"7", 6)]
        records = await read_all(bootstrap, topic)
        assert records[0].value == "välue".encode()
        assert records[5].headers == (("x", b"y"), ("trace", b"1"))

    run(main())


def test_what_the_buffer_cannot_take_waits(bootstrap: str, make_topic: MakeTopic, run: Run) -> None:
    topic = make_topic()

    async def main() -> None:
        async with Producer(bootstrap, buffer_memory=100_000, batch_size=10_000) as producer:
            most = 0
            for _ in range(3_000):
                await producer.send_soon(topic, b"x" * 500)
                most = max(most, producer._accumulator.buffered_bytes)
            await producer.send_many(topic, [b"x" * 500] * 3_000)
            await producer.flush()
            assert most <= 102_000
            assert producer._accumulator.buffered_bytes == 0
        assert len(await read_all(bootstrap, topic)) == 6_000

    run(main())


def test_what_can_be_told_at_once(bootstrap: str, make_topic: MakeTopic, run: Run) -> None:
    topic = make_topic(config={"max.message.bytes": "2000"})

    async def main() -> None:
        async with Producer(bootstrap, create_topics=False, max_block_ms=500) as producer:
            with pytest.raises(RecordTooLargeError, match="exceeds max_request_size"):
                await producer.send_soon(topic, b"x" * 2_000_000)
            with pytest.raises(UnknownTopicError, match="no partition 3"):
                await producer.send_soon(topic, b"x", partition=3)
            with pytest.raises(UnknownTopicError, match="does not exist"):
                await producer.send_soon("never-was", b"x")
            with pytest.raises(RecordTooLargeError) as failure:
                await producer.send(topic, b"x" * 3_000)
            assert failure.value.code is ErrorCode.MESSAGE_TOO_LARGE
            assert not failure.value.retriable
            # The numbers of the refused batch are used up: the partition goes on in its next epoch.
            assert [(await producer.send(topic, b"y")).offset for _ in range(3)] == [0, 1, 2]
        with pytest.raises(RuntimeError, match="closed"):
            await producer.send(topic, b"x")
        with pytest.raises(RuntimeError, match="async with"):
            await Producer(bootstrap).send(topic, b"x")

    run(main())


def test_records_behind_a_refused_one_are_none_the_worse(bootstrap: str, make_topic: MakeTopic, run: Run) -> None:
    topic = make_topic(config={"max.message.bytes": "2000"})

    async def main() -> None:
        async with Producer(bootstrap, batch_size=1_000, linger_ms=0) as producer:
            receipts = []
            for number in range(200):
                size = 5_000 if number % 20 == 10 else 700
                receipts.append(await producer.send_soon(topic, b"%03d" % number + b"x" * size))
            results: list[Any] = []
            for receipt in receipts:
                try:
                    results.append((await receipt).offset)
                except KafkaError as error:
                    results.append(error.code)
        refused = [number for number, result in enumerate(results) if result is ErrorCode.MESSAGE_TOO_LARGE]
        assert refused == list(range(10, 200, 20))
        values = [record.value[:3] for record in await read_all(bootstrap, topic)]
        assert values == [b"%03d" % number for number in range(200) if number not in refused]
        offsets = [result for result in results if not isinstance(result, ErrorCode)]
        assert offsets == list(range(190))

    run(main())


def test_deadlines_hold_when_nobody_answers(run: Run) -> None:
    async def main() -> None:
        from ottla.testing import KafkaBroker

        with KafkaBroker() as broker:
            producer = Producer(broker.bootstrap_servers, delivery_timeout_ms=1_500, request_timeout_ms=400)
            await producer.start()
            await producer.send("t", b"before")
        # The broker is gone.
        begun = time.monotonic()
        receipts = [await producer.send_soon("t", b"%d" % number) for number in range(100)]
        with pytest.raises(KafkaTimeoutError, match=r"not acknowledged by t-0 within 1\.5 s"):
            await receipts[0]
        assert time.monotonic() - begun < 4
        late = await producer.send_soon("t", b"late")
        await producer.close(flush=False)
        with pytest.raises(ClientClosedError):
            late.result()

    run(main())


def test_no_room_for_too_long(run: Run) -> None:
    async def main() -> None:
        from ottla.testing import KafkaBroker

        with KafkaBroker() as broker:
            producer = Producer(broker.bootstrap_servers, buffer_memory=10_000, max_block_ms=300)
            await producer.start()
            await producer.send("t", b"before")
        with pytest.raises(BufferExhaustedError, match="max_block_ms=300"):
            await producer.send_many("t", [b"x" * 1_000] * 100)
        await producer.close(flush=False)

    run(main())


def test_tasks_and_cancellation(bootstrap: str, make_topic: MakeTopic, run: Run) -> None:
    topic = make_topic(partitions=3)

    async def main() -> None:
        async with Producer(bootstrap, linger_ms=30) as producer:
            # Who is cancelled while the topic is still looked up has sent nothing.
            await producer.send(topic, b"the topic is known", partition=1)
            impatient = asyncio.ensure_future(producer.send(topic, b"impatient", partition=0))
            patient = [asyncio.ensure_future(producer.send(topic, b"%d" % one, partition=0)) for one in range(50)]
            await asyncio.sleep(0.005)
            impatient.cancel()
            assert sorted([(await one).offset for one in patient]) == list(range(1, 51))
            await producer.send_soon(topic, b"x")
            with pytest.raises(TimeoutError):
                await producer.flush(timeout_ms=0.0001)
            await producer.flush()

    run(main())

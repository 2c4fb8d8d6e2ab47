"""Reading without a group: records, batches, columns, positions, seeks, resets, transactions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from ottla.client import (
    Consumer,
    ConsumerRecord,
    ErrorCode,
    KafkaError,
    OffsetAndMetadata,
    Producer,
    TopicPartition,
)

Run = Callable[[Awaitable[Any]], Any]


async def read(consumer: Consumer, count: int, seconds: float = 10.0) -> list[bytes | None]:
    values: list[bytes | None] = []
    deadline = time.monotonic() + seconds
    while len(values) < count and time.monotonic() < deadline:
        values += [record.value for record in await consumer.get_many(count - len(values), 1.0)]
    return values


def test_iteration_goes_on_where_it_was_left(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic(partitions=1, count=100)

    async def main() -> None:
        async with Consumer(bootstrap, topics=[topic], auto_offset_reset="earliest") as consumer:
            place = TopicPartition(topic, 0)
            offsets = []
            async for record in consumer:
                offsets.append(record.offset)
                assert consumer.position(place) == record.offset + 1
                if record.offset == 41:
                    break
            async for record in consumer:
                offsets.append(record.offset)
                if record.offset == 59:
                    break
            offsets += [record.offset for record in (await consumer.get_many(20))]
            for batch in await consumer.poll(5.0):
                offsets += list(batch.offsets)
            assert offsets == list(range(100))
            assert consumer.position(place) == 100
            assert consumer.lag(place) == 0

    run(main())


def test_batches_are_columns(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic(partitions=1)

    async def main() -> None:
        async with Producer(bootstrap) as producer:
            await producer.send(topic, b"one", key=b"k", headers=[("h", b"1"), ("n", None)], timestamp_ms=1000)
            await producer.send(topic, None, key=b"", timestamp_ms=2000)
            await producer.send(topic, b"", timestamp_ms=3000)
        async with Consumer(bootstrap, topics=[topic], auto_offset_reset="earliest") as consumer:
            batches = []
            async for batch in consumer.batches():
                batches.append(batch)
                if batch.next_offset == 3:
                    break
        assert [offset for batch in batches for offset in batch.offsets] == [0, 1, 2]
        assert [time for batch in batches for time in batch.timestamps] == [1000, 2000, 3000]
        assert [key for batch in batches for key in batch.keys] == [b"k", b"", None]
        assert [value for batch in batches for value in batch.values] == [b"one", None, b""]
        assert [headers for batch in batches for headers in batch.headers] == [(("h", b"1"), ("n", None)), (), ()]
        assert [record.value for batch in batches for record in batch] == [b"one", None, b""]

    run(main())


def test_seek_by_everything(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic(partitions=1)
    place = TopicPartition(topic, 0)

    async def main() -> None:
        async with Producer(bootstrap) as producer:
            for number in range(10):
                await producer.send(topic, b"%d" % number, timestamp_ms=1_700_000_000_000 + number * 1000)
        async with Consumer(bootstrap, topics=[topic], auto_offset_reset="earliest") as consumer:
            assert await read(consumer, 10) == [b"%d" % number for number in range(10)]
            consumer.seek({place: 7})
            assert consumer.position(place) == 7
            assert await read(consumer, 3) == [b"7", b"8", b"9"]
            consumer.seek_to_start()
            assert (await read(consumer, 1)) == [b"0"]
            consumer.seek_to_time(datetime.fromtimestamp(1_700_000_004.5, UTC), place)
            assert await read(consumer, 5) == [b"5", b"6", b"7", b"8", b"9"]
            consumer.seek_to_time(1_700_000_003_000)
            assert (await read(consumer, 1)) == [b"3"]
            consumer.seek_to_end(place)
            assert await consumer.get_many(1, 0.5) == []
            async with Producer(bootstrap) as producer:
                await producer.send(topic, b"value 99")
            assert await read(consumer, 1) == [b"value 99"]
            assert await consumer.offsets_at({place: 1_700_000_002_500}) == {place: 3}
            with pytest.raises(ValueError, match="not assigned"):
                consumer.seek({TopicPartition(topic, 5): 0})

    run(main())


class Watching:
    """An interceptor that marks what it sees."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.stored: dict[TopicPartition, int] = {}

    def on_consume(self, record: ConsumerRecord) -> ConsumerRecord:
        self.seen.append(record.offset)
        return replace(record, headers=(*record.headers, ("seen", b"1")))

    def on_commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        self.stored |= {place: one.offset for place, one in offsets.items()}


class Failing(Watching):
    def on_consume(self, record: ConsumerRecord) -> ConsumerRecord:
        raise RuntimeError

    def on_commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        raise RuntimeError


def test_interceptors_see_each_record_once(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run
) -> None:
    topic = make_topic(partitions=1, count=40)
    place = TopicPartition(topic, 0)
    watching = Watching()

    async def main() -> None:
        async with Consumer(
            bootstrap,
            group=unique("group"),
            topics=[topic],
            auto_offset_reset="earliest",
            interceptors=[Failing(), watching],
        ) as consumer:
            async for record in consumer:
                assert record.headers[-1] == ("seen", b"1")
                if record.offset == 4:
                    break
            assert watching.seen == [0, 1, 2, 3, 4]
            assert [record.offset for record in await consumer.get_many(3, 10.0)] == [5, 6, 7]
            await consumer.commit()
            assert watching.stored == {place: 8}
            rest = await consumer.poll(10.0)
            # Columns make no records.
            assert rest[0].offsets[0] == 8
            assert watching.seen == list(range(8))
            for _ in range(2):
                assert all(record.headers for batch in rest for record in batch)
            assert watching.seen == list(range(watching.seen[-1] + 1))
        assert watching.stored == {place: watching.seen[-1] + 1}

    run(main())


def test_pause_and_resume(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic(partitions=2, count=40)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)

    async def main() -> None:
        async with Consumer(bootstrap, topics=[topic], auto_offset_reset="earliest") as consumer:
            consumer.pause(zero)
            assert consumer.paused() == {zero}
            records = [record async for record in _until_idle(consumer)]
            assert {record.partition for record in records} == {1}
            assert len(records) == 20
            consumer.resume(zero)
            consumer.pause(one)
            records = [record async for record in _until_idle(consumer)]
            assert [record.offset for record in records] == list(range(20))
            assert {record.partition for record in records} == {0}

    run(main())


async def _until_idle(consumer: Consumer) -> Any:
    while records := await consumer.get_many(7, 1.0):
        for record in records:
            yield record


def test_pause_in_the_middle_of_a_batch_loses_nothing(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic(partitions=1, count=50)

    async def main() -> None:
        async with Consumer(bootstrap, topics=[topic], auto_offset_reset="earliest") as consumer:
            seen = []
            while len(seen) < 50:
                async for record in consumer:
                    seen.append(record.offset)
                    if record.offset % 10 == 9:
                        consumer.pause()
                        consumer.resume()
                        break
            assert seen == list(range(50))

    run(main())


def test_out_of_range_follows_the_policy(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic(partitions=1, count=5)
    place = TopicPartition(topic, 0)

    async def main() -> None:
        async with Consumer(bootstrap, topics=[topic], auto_offset_reset="earliest") as consumer:
            consumer.seek({place: 1000})
            assert (await consumer.get_many(1, 10.0))[0].offset == 0
        async with Consumer(bootstrap, topics=[topic], auto_offset_reset="none", offsets={place: 0}) as consumer:
            consumer.seek({place: 1000})
            with pytest.raises(KafkaError) as caught:
                await consumer.get_many(1, 10.0)
            assert caught.value.code is ErrorCode.OFFSET_OUT_OF_RANGE

    run(main())


def test_reset_by_duration(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic(partitions=1)

    async def main() -> None:
        now = int(time.time() * 1000)
        async with Producer(bootstrap) as producer:
            await producer.send(topic, b"old", timestamp_ms=now - 7_200_000)
            await producer.send(topic, b"new", timestamp_ms=now - 1000)
        async with Consumer(bootstrap, topics=[topic], auto_offset_reset=timedelta(hours=1)) as consumer:
            assert await read(consumer, 1) == [b"new"]

    run(main())


def test_unknown_topic_is_an_error(bootstrap: str, unique: Callable[[str], str], run: Run) -> None:
    async def main() -> None:
        with pytest.raises(KafkaError) as caught:
            async with Consumer(bootstrap, topics=[unique("missing")]):
                pass
        assert caught.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    run(main())


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_codecs_of_another_client(bootstrap: str, make_topic: Callable[..., str], run: Run, codec: str) -> None:
    confluent = pytest.importorskip("confluent_kafka")
    topic = make_topic(partitions=1)
    producer = confluent.Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 50})
    for number in range(300):
        producer.produce(topic, b"value %d" % number, key=b"k", headers=[("n", b"%d" % number)], timestamp=number + 1)
    assert producer.flush(30) == 0

    async def main() -> None:
        async with Consumer(bootstrap, topics=[topic], auto_offset_reset="earliest") as consumer:
            records = []
            while len(records) < 300:
                records += await consumer.get_many(300, 5.0)
            assert [record.value for record in records] == [b"value %d" % number for number in range(300)]
            assert [record.headers for record in records] == [(("n", b"%d" % number),) for number in range(300)]
            assert [record.timestamp for record in records] == [number + 1 for number in range(300)]

    run(main())


def test_read_committed_leaves_aborted_out(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    confluent = pytest.importorskip("confluent_kafka")
    topic = make_topic(partitions=1)
    _write_transactions(confluent, bootstrap, topic)

    async def main(isolation: Any) -> list[bytes | None]:
        async with Consumer(
            bootstrap, topics=[topic], auto_offset_reset="earliest", isolation_level=isolation
        ) as consumer:
            values: list[bytes | None] = []
            # Three transactions, so three markers: an application is told of the end before the last one is written.
            while consumer.position(TopicPartition(topic, 0)) < 7 + 3:
                values += [record.value for record in await consumer.get_many(100, 1.0)]
            return values

    committed = run(main("read_committed"))
    everything = run(main("read_uncommitted"))
    assert committed == [b"plain", b"kept 0", b"kept 1", b"between"]
    assert len(everything) == 7


def _write_transactions(confluent: Any, bootstrap: str, topic: str) -> None:
    """plain, an aborted transaction of two, a committed one of two, between, an aborted one that stays open longer."""
    plain = confluent.Producer({"bootstrap.servers": bootstrap})
    writer = confluent.Producer({"bootstrap.servers": bootstrap, "transactional.id": topic})
    other = confluent.Producer({"bootstrap.servers": bootstrap, "transactional.id": topic + "-other"})
    for one in (writer, other):
        one.init_transactions(30)
    plain.produce(topic, b"plain")
    plain.flush(30)
    writer.begin_transaction()
    writer.produce(topic, b"dropped 0")
    writer.produce(topic, b"dropped 1")
    writer.flush(30)
    writer.abort_transaction(30)
    other.begin_transaction()
    other.produce(topic, b"dropped 2")
    other.flush(30)
    writer.begin_transaction()
    writer.produce(topic, b"kept 0")
    writer.produce(topic, b"kept 1")
    writer.commit_transaction(30)
    plain.produce(topic, b"between")
    plain.flush(30)
    other.abort_transaction(30)


def test_a_quiet_topic_does_not_hang(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic(partitions=3)

    async def main() -> None:
        async with Consumer(bootstrap, topics=[topic]) as consumer:
            began = asyncio.get_running_loop().time()
            assert await consumer.poll(0.3) == []
            assert asyncio.get_running_loop().time() - began < 2.0

    run(main())


def test_kafkas_names_and_deserializers(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic(partitions=1, count=3)
    config = {
        "bootstrap.servers": bootstrap,
        "auto.offset.reset": "smallest",
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 100,
        "partition.assignment.strategy": "org.apache.kafka.clients.consumer.StickyAssignor",
    }

    async def main() -> None:
        async with Consumer.from_config(
            config, topics=[topic], key_deserializer=int, value_deserializer=bytes.decode
        ) as consumer:
            records = await consumer.get_many(3, 10.0)
            assert [(record.key, record.value) for record in records] == [(n, f"value {n}") for n in range(3)]
            consumer.seek_to_start()
            async for batch in consumer.batches():
                assert list(batch.keys) == [b"0", b"1", b"2"][: len(batch)]
                break

    run(main())
    with pytest.raises(ValueError, match=r"max\.poll\.interval\.ms"):
        Consumer.from_config({"bootstrap.servers": bootstrap, "max.poll.intervall.ms": 1})

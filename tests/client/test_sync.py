"""The blocking clients: from threads, beside a running loop, with everything the asynchronous ones do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.client import ConfigResource, FencedError, KafkaError, RecordTooLargeError
from ottla.client.sync import Admin, Consumer, Producer

Run = Callable[[Awaitable[Any]], Any]


def read_all(bootstrap: str, topic: str, count: int) -> list[bytes | None]:
    values: list[bytes | None] = []
    with Consumer(
        bootstrap, topics=[topic], auto_offset_reset="earliest", isolation_level="read_committed"
    ) as consumer:
        for record in consumer:
            values.append(record.value)
            if len(values) == count:
                break
    return values


def test_the_smallest_program(bootstrap: str, make_topic: Callable[..., str]) -> None:
    topic = make_topic()
    with Producer(bootstrap) as producer:
        metadata = producer.send(topic, key=b"42", value=b"...")
        assert (metadata.topic, metadata.offset) == (topic, 0)
        futures = [producer.send_soon(topic, b"%d" % number) for number in range(500)]
        assert [future.result(30).offset for future in futures] == list(range(1, 501))
        assert producer.send_many(topic, [b"many"] * 1000) == 1000
        producer.flush()
        with pytest.raises(RecordTooLargeError):
            producer.send(topic, b"x" * 2_000_000)
    assert read_all(bootstrap, topic, 1501) == [b"...", *(b"%d" % number for number in range(500)), *[b"many"] * 1000]
    with pytest.raises(RuntimeError, match="closed"):
        producer.send(topic, b"late")
    assert not any(thread.name == "ottla producer" for thread in threading.enumerate())


def test_many_threads(bootstrap: str, make_topic: Callable[..., str]) -> None:
    topic = make_topic(partitions=3)
    failures: list[BaseException] = []
    with Producer(bootstrap) as producer:

        def work(name: int) -> None:
            try:
                for number in range(200):
                    producer.send_soon(topic, b"%d" % number, key=b"%d" % name)
                assert producer.send(topic, b"last", key=b"%d" % name).offset >= 0
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(read_all(bootstrap, topic, 8 * 201)) == 8 * 201


def test_inside_a_running_loop(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic()

    async def notebook() -> None:
        # A cell of a notebook is not asynchronous, but a loop runs around it.
        asyncio.get_running_loop()
        with Producer(bootstrap) as producer, Admin(bootstrap) as admin:
            producer.send(topic, b"x")
            assert topic in [one.name for one in admin.list_topics()]
            values = admin.describe_configs([ConfigResource("topic", topic)], names=["retention.ms"])
            assert not isinstance(values[ConfigResource("topic", topic)], KafkaError)

    run(notebook())


def test_not_from_what_it_calls_back(bootstrap: str, make_topic: Callable[..., str]) -> None:
    topic = make_topic()
    producer = Producer(bootstrap, value_serializer=lambda value: producer.flush() or value)
    with producer, pytest.raises(RuntimeError, match="calls back"):
        producer.send(topic, b"x")


def test_transactions(bootstrap: str, make_topic: Callable[..., str]) -> None:
    topic = make_topic()
    with Producer.from_config({"bootstrap.servers": bootstrap, "transactional.id": topic}) as older:
        with older.transaction():
            older.send_soon(topic, b"kept")
        older.begin_transaction()
        older.send_soon(topic, b"lost")
        older.abort_transaction()
        with Producer(bootstrap, transactional_id=topic) as younger:
            with younger.transaction():
                younger.send(topic, b"more")
            with pytest.raises(FencedError), older.transaction():
                older.send(topic, b"fenced")
    assert read_all(bootstrap, topic, 2) == [b"kept", b"more"]

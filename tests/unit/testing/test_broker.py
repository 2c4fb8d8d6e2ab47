"""The broker in a thread, used by foreign clients of this very process."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ottla.client import Admin, Consumer, Producer
from ottla.config.key import ConfigError
from ottla.testing import KafkaBroker


def test_topics_are_unique_and_configured(kafka: KafkaBroker) -> None:
    first, second = kafka.topic("orders"), kafka.topic("orders", partitions=3, config={"retention.ms": "5000"})
    assert first != second

    async def look() -> tuple[int, dict[str, str | None]]:
        async with Admin(kafka.bootstrap_servers) as admin:
            (topic,) = await admin.describe_topics([second])
            config = await admin.describe_config(second)
            return len(topic.partitions), {one.name: one.value for one in config}

    partitions, config = asyncio.run(look())
    assert partitions == 3
    assert config["retention.ms"] == "5000"


def test_own_client_round_trip(kafka: KafkaBroker) -> None:
    topic = kafka.topic()

    async def main() -> list[bytes | None]:
        async with Producer(kafka.bootstrap_servers) as producer:
            for number in range(3):
                await producer.send(topic, b"%d" % number)
        async with Consumer(kafka.bootstrap_servers, topics=[topic], auto_offset_reset="earliest") as consumer:
            values = []
            async for record in consumer:
                values.append(record.value)
                if len(values) == 3:
                    return values
        raise AssertionError

    assert asyncio.run(asyncio.wait_for(main(), 20)) == [b"0", b"1", b"2"]


def test_confluent_kafka_in_the_same_process(kafka: KafkaBroker) -> None:
    confluent = pytest.importorskip("confluent_kafka")
    topic = kafka.topic()
    producer = confluent.Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(topic, value=b"hello", key=b"k")
    assert producer.flush(20) == 0
    consumer = confluent.Consumer(
        {"bootstrap.servers": kafka.bootstrap_servers, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    try:
        consumer.subscribe([topic])
        message = consumer.poll(20)
        assert message is not None
        assert (message.key(), message.value()) == (b"k", b"hello")
    finally:
        consumer.close()


def test_aiokafka_in_the_same_process(kafka: KafkaBroker) -> None:
    aiokafka = pytest.importorskip("aiokafka")
    topic = kafka.topic()

    async def main() -> bytes | None:
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
        await producer.start()
        try:
            await producer.send_and_wait(topic, b"hello")
        finally:
            await producer.stop()
        consumer = aiokafka.AIOKafkaConsumer(
            topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            record = await consumer.getone()
        finally:
            await consumer.stop()
        value: bytes | None = record.value
        return value

    assert asyncio.run(asyncio.wait_for(main(), 20)) == b"hello"


def test_start_reset_stop_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with KafkaBroker(config={"num.partitions": "2"}) as broker:
        host, _, port = broker.bootstrap_servers.rpartition(":")
        assert host == "127.0.0.1"
        assert int(port) > 0
        assert len(list(tmp_path.iterdir())) == 1
        name = broker.topic()
        broker.reset()

        async def names() -> list[str]:
            async with Admin(broker.bootstrap_servers) as admin:
                return [topic.name for topic in await admin.list_topics()]

        assert asyncio.run(names()) == []
        assert broker.topic() != name
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "ottla broker" and thread.is_alive()] or (
        # The session's own broker may run beside.
        sum(thread.name == "ottla broker" for thread in threading.enumerate()) == 1
    )
    with pytest.raises(RuntimeError, match="not running"):
        broker.bootstrap_servers  # noqa: B018 - reading it is the test
    with pytest.raises(RuntimeError, match="not running"):
        broker.topic()


def test_a_wrong_setting_is_raised_where_it_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ConfigError, match=r"num.partitions"):
        KafkaBroker(config={"num.partition": "2"}).start()
    assert list(tmp_path.iterdir()) == []


def test_the_plugin_loads_nothing_of_the_broker() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import ottla.testing.plugin; "
        "print(*sorted(name for name in set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"ottla", "ottla.testing", "ottla.testing.plugin"}

"""Transactions through the clients people use: Apache Kafka's own tools, librdkafka, aiokafka, kafka-python.

All of them read with ``read_committed`` what they wrote, and none may see a record or an offset of a transaction that
was aborted. Java clients speak transaction version 2, the others version 1.
"""

from __future__ import annotations

import asyncio
import re
import time

import pytest

from harness.clusters import java
from harness.processes import wait_until

TOOLS = "org.apache.kafka.tools."


@pytest.fixture
def make_topic(cluster, unique):
    def make(prefix, partitions=1):
        name = unique(prefix)
        with cluster.connect() as connection:
            connection.create_topic(name, partitions)
        return name

    return make


@pytest.fixture
def run(cluster, apache_kafka):
    """Run one of Apache Kafka's tools; its name is followed by how it wants to be told the brokers."""

    def call(tool, *arguments, told_by="--bootstrap-server", seconds=120.0):
        done = java(TOOLS + tool, told_by, cluster.bootstrap, *arguments, seconds=seconds)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return call


# -- Java


def test_performance_client_commits_what_a_committed_reader_counts(run, make_topic, unique):
    topic = make_topic("performance", 3)
    printed = run(
        "ProducerPerformance",
        *("--topic", topic, "--num-records", "20000", "--record-size", "100", "--throughput", "-1"),
        *("--transactional-id", unique("perf"), "--transaction-duration-ms", "50"),
    )
    assert "20000 records sent" in printed
    printed = run(
        "consumer.ConsoleConsumer",
        *("--topic", topic, "--from-beginning", "--max-messages", "20000", "--timeout-ms", "60000"),
        *("--isolation-level", "read_committed"),
    )
    assert "Processed a total of 20000 messages" in printed


@pytest.mark.parametrize("random_aborts", [False, True])
def test_message_copier_copies_exactly_once(run, make_topic, unique, random_aborts):
    source, target = make_topic("source"), make_topic("target", 3)
    run("VerifiableProducer", "--topic", source, "--max-messages", "1000", "--acks", "-1")
    run(
        "TransactionalMessageCopier",
        *("--input-topic", source, "--output-topic", target, "--input-partition", "0"),
        *("--consumer-group", unique("copier"), "--transactional-id", unique("copier")),
        *("--transaction-size", "50", "--max-messages", "1000", "--use-group-metadata"),
        *(["--enable-random-aborts"] if random_aborts else []),
        told_by="--broker-list",
    )
    printed = run(
        "consumer.ConsoleConsumer",
        *("--topic", target, "--from-beginning", "--timeout-ms", "8000", "--isolation-level", "read_committed"),
    )
    values = [int(line) for line in printed.splitlines() if line.isdigit()]
    assert sorted(values) == list(range(1000))


def test_transactions_command_shows_and_aborts(run, make_topic, unique, open_transaction):
    topic, transactional_id = make_topic("shown"), unique("shown")
    open_transaction(transactional_id, topic, b"one", b"two")
    listed = run("TransactionsCommand", "list")
    producer_id = re.search(rf"{transactional_id}\s+\d+\s+(\d+)\s+Ongoing", listed)[1]
    assert transactional_id in run("TransactionsCommand", "list", "--duration-filter", "0")
    assert transactional_id not in run("TransactionsCommand", "list", "--duration-filter", "3600000")
    described = run("TransactionsCommand", "describe", "--transactional-id", transactional_id)
    assert re.search(rf"{producer_id}\s+0\s+Ongoing\s+60000\s+.*{topic}-0", described), described
    where = ("--topic", topic, "--partition", "0")
    producers = run("TransactionsCommand", "describe-producers", *where)
    assert re.search(rf"{producer_id}\s+0\s+-1\s+1\s+\d+\s+0\b", producers), producers
    assert topic not in run("TransactionsCommand", "find-hanging", "--topic", topic)

    run("TransactionsCommand", "abort", *where, "--start-offset", "0")
    producers = run("TransactionsCommand", "describe-producers", *where)
    assert re.search(rf"{producer_id}\s+0\s+\d+\s+1\s+\d+\s+None", producers), producers
    printed = run("GetOffsetShell", "--topic", topic)
    assert f"{topic}:0:3" in printed, "two records and the marker"


def test_terminating_a_transaction_by_its_id(run, make_topic, unique, open_transaction):
    topic, transactional_id = make_topic("terminated"), unique("terminated")
    producer = open_transaction(transactional_id, topic, b"never")
    run("TransactionsCommand", "forceTerminateTransaction", "--transactionalId", transactional_id)
    assert re.search(rf"{transactional_id}\s+\d+\s+\d+\s+(Empty|CompleteAbort)", run("TransactionsCommand", "list"))
    with pytest.raises(producer.failure):
        producer.commit_transaction(10)


def test_a_log_segment_decodes(cluster, run, make_topic, unique, open_transaction):
    transactional_id = unique("dumped")
    open_transaction(transactional_id, make_topic("dumped"), b"x")
    segments = [str(path) for path in cluster.data.glob("__transaction_state-*/*.log") if path.stat().st_size]
    done = java(f"{TOOLS}DumpLogSegments", "--transaction-log-decoder", "--files", ",".join(segments))
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if transactional_id in line]
    assert len(lines) == 2, done.stdout
    assert [re.search(r'"transactionStatus":(\d)', line)[1] for line in lines] == ["0", "1"]


# -- librdkafka


class _Open:
    """A librdkafka producer in the middle of a transaction."""

    def __init__(self, bootstrap, transactional_id):
        from confluent_kafka import KafkaException, Producer

        self.failure = KafkaException
        settings = {"bootstrap.servers": bootstrap, "transactional.id": transactional_id, "log_level": 0}
        self._producer = Producer(settings)
        self._producer.init_transactions(30)

    def __getattr__(self, name):
        return getattr(self._producer, name)


@pytest.fixture
def open_transaction(cluster):
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed (extra `interop`)")
    made = []

    def make(transactional_id, topic=None, *values):
        producer = _Open(cluster.bootstrap, transactional_id)
        made.append(producer)
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, value)
        producer.flush(30)
        return producer

    yield make
    for producer in made:
        producer.purge()


@pytest.fixture
def make_consumer(cluster, unique):
    from confluent_kafka import Consumer

    made = []

    def make(isolation="read_committed", group=None, **options):
        settings = {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": group or unique("group"),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            **options,
        }
        made.append(Consumer(settings))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()


def _values(consumer, count, seconds=20.0, silence=0.5):
    """What arrives, until ``count`` values are there and nothing follows."""
    got = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        message = consumer.poll(silence)
        if message is None and len(got) >= count:
            break
        if message is not None and not message.error():
            got.append(message.value().decode())
    return got


def test_librdkafka_commits_and_aborts(open_transaction, make_consumer, make_topic, unique):
    topic = make_topic("mixed", 2)
    producer = open_transaction(unique("mixed"))
    for number in range(6):
        if number:
            producer.begin_transaction()
        for part in range(10):
            producer.produce(topic, f"{number}-{part}", partition=part % 2)
        if number % 2:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    committed, everything = make_consumer(), make_consumer("read_uncommitted")
    committed.subscribe([topic])
    everything.subscribe([topic])
    got = _values(committed, 30)
    assert sorted(got) == [f"{number}-{part}" for number in (0, 2, 4) for part in range(10)]
    # An abort may overtake records that were not sent yet, so an uncommitted reader sees at least the committed.
    assert set(got) <= set(_values(everything, 30))


def test_an_open_transaction_holds_committed_readers_back(open_transaction, make_consumer, make_topic, unique):
    from confluent_kafka import OFFSET_END, TopicPartition

    topic = make_topic("held")
    producer = open_transaction(unique("held"), topic, b"held")
    plain = open_transaction(unique("other"), topic, b"behind")
    plain.commit_transaction(30)
    consumer, eager = make_consumer(), make_consumer("read_uncommitted")
    consumer.assign([TopicPartition(topic, 0, 0)])
    eager.assign([TopicPartition(topic, 0, 0)])
    assert _values(eager, 2) == ["held", "behind"]
    assert consumer.poll(0.5) is None
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1] == 0, "the stable offset"
    producer.commit_transaction(30)
    assert _values(consumer, 2) == ["held", "behind"]
    consumer.assign([TopicPartition(topic, 0, OFFSET_END)])


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_offsets_follow_the_transaction(open_transaction, make_consumer, make_topic, unique, protocol):
    from confluent_kafka import TopicPartition

    source, target, group = make_topic("in"), make_topic("out"), unique("offsets")
    producer = open_transaction(unique("offsets"), source, b"a", b"b", b"c")
    producer.commit_transaction(30)
    consumer = make_consumer(group=group, **{"group.protocol": protocol})
    consumer.subscribe([source])
    assert _values(consumer, 3) == ["a", "b", "c"]
    place = TopicPartition(source, 0)
    for offset, end in ((2, "commit"), (3, "abort")):
        producer.begin_transaction()
        producer.produce(target, b"copied")
        wanted = [TopicPartition(source, 0, offset)]
        producer.send_offsets_to_transaction(wanted, consumer.consumer_group_metadata(), 30)
        getattr(producer, f"{end}_transaction")(30)
        wait_until(
            lambda: consumer.committed([place], 30)[0].offset == 2, seconds=10, what="the committed offset to be 2"
        )


def test_a_second_producer_fences_the_first(open_transaction, make_topic, unique):
    topic, transactional_id = make_topic("fenced"), unique("fenced")
    first = open_transaction(transactional_id, topic, b"lost")
    second = open_transaction(transactional_id, topic, b"kept")
    with pytest.raises(first.failure):
        first.commit_transaction(30)
    second.commit_transaction(30)


# -- aiokafka


async def _aiokafka(bootstrap, source, target, ids):
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

    group, transactional_id = ids
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=transactional_id)
    await producer.start()
    settings = {"isolation_level": "read_committed", "auto_offset_reset": "earliest", "enable_auto_commit": False}
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, **settings)
    consumer.assign([TopicPartition(source, 0), TopicPartition(target, 0)])
    member = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, **settings)
    member.assign([TopicPartition(source, 0)])
    await consumer.start()
    await member.start()
    try:
        async with producer.transaction():
            for number in range(10):
                await producer.send_and_wait(source, f"{number}".encode())
        try:
            async with producer.transaction():
                await (await producer.send(target, b"aborted"))
                await producer.send_offsets_to_transaction({TopicPartition(source, 0): 5}, group)
                raise ValueError("abort")
        except ValueError:
            pass
        async with producer.transaction():
            await (await producer.send(target, b"committed"))
            await producer.send_offsets_to_transaction({TopicPartition(source, 0): 10}, group)
        got = [(message.topic, message.value) async for message in _take(consumer, 11)]
        return got, await member.committed(TopicPartition(source, 0))
    finally:
        await member.stop()
        await consumer.stop()
        await producer.stop()


async def _take(consumer, count):
    for _ in range(count):
        yield await asyncio.wait_for(consumer.getone(), 30)


def test_aiokafka_transactions(cluster, make_topic, unique):
    pytest.importorskip("aiokafka", reason="aiokafka is not installed (extra `interop`)")
    source, target = make_topic("aio-in"), make_topic("aio-out")
    got, committed = asyncio.run(_aiokafka(cluster.bootstrap, source, target, (unique("aio"), unique("aio"))))
    assert [value for name, value in got if name == source] == [f"{number}".encode() for number in range(10)]
    assert [value for name, value in got if name == target] == [b"committed"]
    assert committed == 10


# -- kafka-python


def test_kafka_python_transactions(cluster, make_topic, unique):
    kafka = pytest.importorskip("kafka", reason="kafka-python is not installed (extra `interop`)")
    topic = make_topic("python")
    producer = kafka.KafkaProducer(bootstrap_servers=cluster.bootstrap, transactional_id=unique("python"))
    consumer = kafka.KafkaConsumer(
        topic,
        bootstrap_servers=cluster.bootstrap,
        group_id=unique("python"),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        producer.init_transactions()
        for number, end in enumerate(("commit", "abort", "commit")):
            producer.begin_transaction()
            sent = [producer.send(topic, f"{number}-{part}".encode()) for part in range(5)]
            for future in sent:
                future.get(30)
            getattr(producer, f"{end}_transaction")()
        got = []
        deadline = time.monotonic() + 30
        while len(got) < 10 and time.monotonic() < deadline:
            for messages in consumer.poll(timeout_ms=500).values():
                got += [message.value.decode() for message in messages]
        assert got == [f"{number}-{part}" for number in (0, 2) for part in range(5)]
    finally:
        producer.close(timeout=5)
        consumer.close()

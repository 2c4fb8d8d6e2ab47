"""What is measured: one function per line of the table, each on one node of one kind."""

from __future__ import annotations

import itertools
import json
import mmap
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import groups
from harness.clusters import BENCH_SERVER_FLAGS, ApacheNode, OttlaNode
from harness.raw import retry
from loads import JavaClient, NativeClient

PARTITIONS = 6
# The three ways a record may be promised; "never" is Kafka's own promise on one replica.
KINDS = ("apache", "ottla-never", "ottla-default")
# The same with an earlier version of Ottla, when the run is told where it is.
EARLIER = {"ottla-never": "earlier-never", "ottla-default": "earlier-default"}
# The same for all: Apache Kafka's defaults, and no wait for more members.
INTERNAL_TOPICS = {
    "offsets.topic.num.partitions": "50",
    "transaction.state.log.num.partitions": "50",
    "group.initial.rebalance.delay.ms": "0",
}
IDLE_SECONDS = 5.0
PAGE_BYTES = 4096
MEMORY_TOUCHED = 4
"""Bytes of memory for a byte of records: the client's queue, the sockets, the page cache, what is freed late."""
WARM_UP_RECORDS = 1_000_000
Values = dict[str, float]
_topics = itertools.count(1)


@dataclass(slots=True)
class Bench:
    """The nodes under test and the clients; `scale` is that of the work of each run, `earlier` another `ottla`."""

    scratch: Path
    scale: float
    earlier: Path | None = None
    native: NativeClient = field(init=False)
    java: JavaClient = field(default_factory=JavaClient)
    nodes: dict[str, ApacheNode | OttlaNode] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.native = NativeClient(self.scratch)

    def make(self, kind: str, name: str) -> ApacheNode | OttlaNode:
        """A node of a kind on its own directory, not started."""
        data = self.scratch / name
        if kind == "apache":
            return ApacheNode(data, flags=BENCH_SERVER_FLAGS, config=INTERNAL_TOPICS)
        flush = {"ottla.flush": "never"} if kind.endswith("-never") else {}
        launcher = [str(self.earlier)] if kind in EARLIER.values() else None
        return OttlaNode(data, config={**INTERNAL_TOPICS, **flush}, launcher=launcher)

    def node(self, kind: str) -> ApacheNode | OttlaNode:
        """The long-running node of a kind, started at first use."""
        if kind not in self.nodes:
            self.nodes[kind] = self.make(kind, kind)
            self.nodes[kind].start()
            with self.topic(kind) as topic:  # a cold Java runtime is not what is compared
                count = int(WARM_UP_RECORDS * min(1.0, self.scale))
                self.native.produce(
                    self.nodes[kind].bootstrap, topic, partitions=PARTITIONS, count=count, size=100, acks="all"
                )
                self.native.consume(self.nodes[kind].bootstrap, topic, partitions=PARTITIONS, count=count)
        return self.nodes[kind]

    def close(self) -> None:
        """Stop every node."""
        for node in self.nodes.values():
            node.stop()
        self.nodes.clear()

    @contextmanager
    def topic(self, kind: str, partitions: int = PARTITIONS) -> Iterator[str]:
        """A fresh topic, deleted afterwards so that the disk stays free."""
        from confluent_kafka.admin import AdminClient

        name = f"bench-{next(_topics)}"
        node = self.node(kind)
        with node.connect() as connection:
            connection.create_topic(name, partitions, {"file.delete.delay.ms": "1000"})
            for partition in range(partitions):
                retry(lambda partition=partition: connection.end_offset(name, partition))
        yield name
        admin = AdminClient({"bootstrap.servers": node.bootstrap})
        admin.delete_topics([name])[name].result(30)


def touch_memory(record_bytes: int) -> None:
    """Have the hypervisor back what a run of so many bytes of records will take, buffers and page cache.

    A virtual machine is given memory page by page at the first touch, and loses again what lies free: here 6 us a page,
    four times what a broker does with 4 KB of records. Who happens to meet cold pages would decide the comparison.
    """
    with mmap.mmap(-1, MEMORY_TOUCHED * record_bytes) as memory:
        for position in range(0, len(memory), PAGE_BYTES):
            memory[position] = 1


def produce(bench: Bench, kind: str, *, client: str, size: int, acks: str) -> Values:
    """Records per second, and the broker's CPU seconds per GB of values."""
    count = int(bench.scale * (2_000_000 if size <= 100 else 500_000))
    load = bench.native if client == "librdkafka" else bench.java
    node = bench.node(kind)
    with bench.topic(kind) as topic:
        touch_memory(count * size)
        before = node.usage().cpu_seconds
        done = load.produce(node.bootstrap, topic, partitions=PARTITIONS, count=count, size=size, acks=acks)
        used = node.usage().cpu_seconds - before
    return {"records_per_second": done.per_second, "cpu_seconds_per_gb": used / (done.records * size / 1e9)}


def consume(bench: Bench, kind: str, *, client: str, size: int) -> Values:
    """Records per second from the page cache, and the broker's CPU seconds per GB of values."""
    count = int(bench.scale * (2_000_000 if size <= 100 else 500_000))
    load = bench.native if client == "librdkafka" else bench.java
    node = bench.node(kind)
    with bench.topic(kind) as topic:
        touch_memory(count * size)
        bench.native.produce(node.bootstrap, topic, partitions=PARTITIONS, count=count, size=size, acks="all")
        before = node.usage().cpu_seconds
        done = load.consume(node.bootstrap, topic, partitions=PARTITIONS, count=count)
        used = node.usage().cpu_seconds - before
    return {"records_per_second": done.per_second, "cpu_seconds_per_gb": used / (done.records * size / 1e9)}


def latency(bench: Bench, kind: str) -> Values:
    """Send to receive of 100 B at 1,000 records a second, acks=all, in milliseconds."""
    count = max(2000, int(10_000 * bench.scale))
    with bench.topic(kind, 1) as topic:
        found = bench.native.run(
            "latency", bench.node(kind).bootstrap, topic, 1000, count, 100, acks="all", linger_ms="0"
        )
    return {"p50_ms": found["p50_ms"], "p99_ms": found["p99_ms"]}


def transactions(bench: Bench, kind: str) -> Values:
    """Transactions of 100 records of 1 KB to six partitions, one after the other."""
    count = max(50, int(400 * bench.scale))
    with bench.topic(kind) as topic:
        touch_memory(count * 100_000)
        found = bench.native.run(
            "commit",
            *(bench.node(kind).bootstrap, topic, PARTITIONS, count, 1000, 100),
            transactional_id=f"bench-{topic}",
            linger_ms="0",
        )
    return {"records_per_second": found["records"] / found["seconds"], "commit_p50_ms": found["p50_ms"]}


def offset_commits(bench: Bench, kind: str) -> Values:
    """Commits a second of 1,000 groups that each commit one partition, over eight connections that do not wait."""
    rounds = max(2, int(10 * bench.scale))
    with bench.topic(kind, 1) as topic:
        return {"commits_per_second": groups.commit_offsets(bench.node(kind), topic, groups=1000, rounds=rounds)}


def join(bench: Bench, kind: str, *, client: str) -> Values:
    """From the making of a consumer in a fresh group to its first record, in milliseconds."""
    times = max(3, int(10 * bench.scale))
    with bench.topic(kind) as topic:
        bench.native.produce(bench.node(kind).bootstrap, topic, partitions=PARTITIONS, count=1000, size=100, acks="all")
        return {"join_ms": groups.join_to_first_record(bench.node(kind).bootstrap, topic, client, times)}


def start(bench: Bench, kind: str) -> Values:
    """From the start of the process to the first acknowledged record (topic there already), and memory when idle."""
    node = bench.make(kind, f"start-{kind}-{next(_topics)}")
    node.start()
    try:
        with node.connect() as connection:
            connection.create_topic("first", 1)
            retry(lambda: connection.end_offset("first", 0))
        node.stop()
        quick = {"reconnect_backoff_ms": "5", "reconnect_backoff_max_ms": "10", "linger_ms": "0", "acks": "all"}
        client = bench.native.start("first", node.bootstrap, "first", **quick)
        begin = time.monotonic()
        node.start()
        printed, _ = client.communicate(timeout=90)
        seconds = json.loads(printed)["monotonic"] - begin
        time.sleep(IDLE_SECONDS)
        resident = node.usage().resident_bytes
    finally:
        node.kill()
        shutil.rmtree(node.data, ignore_errors=True)
    return {"seconds": seconds, "idle_mb": resident / 1e6}


def fixture(bench: Bench, kind: str) -> Values:
    """The in-process broker of `ottla.testing`: from the call to the first answer to a client, in milliseconds."""
    del bench
    if kind == "apache":
        return {}
    program = Path(__file__).with_name("fixture_start.py")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


LINES: dict[str, tuple[Callable[[Bench, str], Values], tuple[str, ...]]] = {}


def _register() -> None:
    for client in ("librdkafka", "java"):
        for size in (100, 1000):
            for acks in ("1", "all"):
                LINES[f"produce {size} B, {client}, acks={acks}"] = (
                    lambda bench, kind, c=client, s=size, a=acks: produce(bench, kind, client=c, size=s, acks=a),
                    KINDS,
                )
            LINES[f"consume {size} B, {client}"] = (
                lambda bench, kind, c=client, s=size: consume(bench, kind, client=c, size=s),
                ("apache", "ottla-default"),
            )
    LINES["end to end at 1,000/s"] = (latency, KINDS)
    LINES["transactions of 100 x 1 KB"] = (transactions, KINDS)
    LINES["offset commits of 1,000 groups"] = (offset_commits, KINDS)
    for client, protocol in (("aiokafka", "classic"), ("ottla.client", "consumer"), ("librdkafka", "consumer")):
        LINES[f"join a group, {protocol} protocol, {client}"] = (
            lambda bench, kind, c=client: join(bench, kind, client=c),
            KINDS,
        )
    LINES["start"] = (start, ("apache", "ottla-default"))
    LINES["fixture"] = (fixture, ("ottla-default",))


_register()


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    return {"cpus": str(os.cpu_count()), "cpu": model, "python": sys.version.split()[0]}

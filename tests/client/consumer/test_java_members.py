"""Groups shared with Java's consumer: VerifiableConsumer, which says in JSON what it was assigned and what it read."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import oracle
from harness.clusters import TOOL_FLAGS, class_path
from ottla.client import Consumer, Producer

Run = Callable[[Awaitable[Any]], Any]
JAVA_NAMES = {
    "range": "org.apache.kafka.clients.consumer.RangeAssignor",
    "roundrobin": "org.apache.kafka.clients.consumer.RoundRobinAssignor",
    "sticky": "org.apache.kafka.clients.consumer.StickyAssignor",
    "cooperative-sticky": "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
}


class JavaMember:
    """One VerifiableConsumer as a child process."""

    def __init__(self, bootstrap: str, topic: str, group: str, *options: str) -> None:
        command = [oracle.require_java(), *TOOL_FLAGS, "-cp", class_path()]
        command += ["org.apache.kafka.tools.VerifiableConsumer", "--bootstrap-server", bootstrap, "--topic", topic]
        command += ["--group-id", group, "--reset-policy", "earliest", "--enable-autocommit", *options]
        self.assigned: set[int] = set()
        self.consumed = 0
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> JavaMember:  # noqa: PYI034 - nobody derives from it
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """As an operator would: it leaves its group."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
        self._reader.join(20)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.startswith("{"):
                continue
            event = json.loads(line)
            numbers = {one["partition"] for one in event.get("partitions", [])}
            match event["name"]:
                case "partitions_assigned":
                    self.assigned |= numbers
                case "partitions_revoked":
                    self.assigned -= numbers
                case "records_consumed":
                    self.consumed += event["count"]


async def until(condition: Callable[[], bool], what: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.05)


async def share(bootstrap: str, topic: str, group: str, java: Callable[[], JavaMember], **options: Any) -> None:
    """Java leads and ours joins; Java leaves; Java joins ours again. Every record is read once."""
    ours: list[int] = []

    async def read(consumer: Consumer) -> None:
        while True:
            ours.extend(record.offset for record in await consumer.get_many(100, 0.2))

    def split(member: JavaMember, consumer: Consumer) -> Callable[[], bool]:
        def is_split() -> bool:
            mine = {place.partition for place in consumer.assignment()}
            return len(mine) == len(member.assigned) == 3 and mine | member.assigned == set(range(6))

        return is_split

    async with asyncio.timeout(85):
        first = await asyncio.to_thread(java)
        second: JavaMember | None = None
        try:
            await until(lambda: len(first.assigned) == 6, lambda: first.assigned)
            async with Consumer(
                bootstrap,
                group=group,
                topics=[topic],
                auto_offset_reset="earliest",
                heartbeat_interval_ms=300,
                **options,
            ) as consumer:
                reading = asyncio.create_task(read(consumer))
                await until(split(first, consumer), lambda: (first.assigned, consumer.assignment()))
                async with Producer(bootstrap) as producer:
                    await asyncio.gather(*[producer.send(topic, b"x", partition=number % 6) for number in range(60)])
                await until(lambda: first.consumed + len(ours) == 60, lambda: (first.consumed, len(ours)))
                await asyncio.to_thread(first.stop)
                await until(lambda: len(consumer.assignment()) == 6, consumer.assignment)
                second = await asyncio.to_thread(java)
                await until(split(second, consumer), lambda: (second and second.assigned, consumer.assignment()))
                reading.cancel()
            assert (first.consumed, len(ours)) == (30, 30)
        finally:
            await asyncio.to_thread(first.stop)
            if second is not None:
                await asyncio.to_thread(second.stop)


@pytest.mark.usefixtures("apache_kafka")
@pytest.mark.parametrize("strategy", list(JAVA_NAMES))
def test_classic(
    bootstrap: str,
    make_topic: Callable[..., str],
    unique: Callable[[str], str],
    run: Run,
    strategy: str,
    tmp_path: Path,
) -> None:
    topic, group = make_topic(partitions=6), unique("java")
    config = tmp_path / "consumer.properties"
    config.write_text("heartbeat.interval.ms=300\nauto.commit.interval.ms=200\n")

    def java() -> JavaMember:
        return JavaMember(
            bootstrap,
            topic,
            group,
            *("--group-protocol", "classic", "--session-timeout", "10000", "--command-config", os.fspath(config)),
            *("--assignment-strategy", JAVA_NAMES[strategy]),
        )

    run(share(bootstrap, topic, group, java, assignors=[strategy]))


@pytest.mark.usefixtures("apache_kafka")
def test_next_generation(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run
) -> None:
    topic, group = make_topic(partitions=6), unique("java")

    def java() -> JavaMember:
        return JavaMember(bootstrap, topic, group, "--group-protocol", "consumer")

    run(share(bootstrap, topic, group, java, group_protocol="consumer"))

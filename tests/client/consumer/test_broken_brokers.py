"""Consumers whose broker goes away: a node of the test's own that is killed and comes back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import clusters
from harness.processes import free_port
from harness.proxy import Proxy
from ottla.client import Admin, ClusterUnreachable, Consumer, KafkaTimeoutError, Producer, TopicPartition

Run = Callable[[Awaitable[Any]], Any]
COUNT = 400


@pytest.fixture
def node(cluster_kind: str, tmp_path: Path) -> Iterator[Any]:
    own = clusters.make_node(cluster_kind, tmp_path / "data")
    own.start()
    try:
        yield own
    finally:
        own.kill()


def test_a_group_goes_on_after_its_broker_was_killed(node: Any, run: Run) -> None:
    async def main() -> None:
        async with Admin(node.bootstrap) as admin:
            await admin.create_topic("t", partitions=2)
        async with Producer(node.bootstrap) as producer:
            await asyncio.gather(*[producer.send("t", b"%d" % number, partition=number % 2) for number in range(COUNT)])
        seen: Counter[bytes | None] = Counter()
        async with Consumer(
            node.bootstrap,
            group="g",
            topics=["t"],
            auto_offset_reset="earliest",
            heartbeat_interval_ms=300,
            fetch_max_bytes=4000,
            max_partition_fetch_bytes=2000,
            prefetch_bytes=4000,
        ) as consumer:
            while len(seen) < COUNT // 2:
                seen.update(record.value for record in await consumer.get_many(20, 5.0))
            await consumer.commit()
            await asyncio.to_thread(node.kill)
            # What was fetched before may still be handed out; then there is silence, not an error.
            for _ in range(3):
                seen.update(record.value for record in await consumer.get_many(20, 0.3))
            await asyncio.to_thread(node.start)
            async with asyncio.timeout(60):
                while len(seen) < COUNT:
                    seen.update(record.value for record in await consumer.get_many(50, 1.0))
        assert set(seen) == {b"%d" % number for number in range(COUNT)}
        async with Consumer(node.bootstrap, group="g") as reader:
            committed = await reader.committed([TopicPartition("t", 0), TopicPartition("t", 1)])
            assert [one and one.offset for one in committed.values()] == [COUNT // 2, COUNT // 2]

    run(main())


def test_a_broker_that_comes_back_elsewhere_behind_the_bootstrap_address(node: Any, run: Run) -> None:
    """Metadata names an address that is dead for ever; only who goes back to bootstrap gets on (KIP-899)."""

    async def main(proxy: Proxy) -> None:
        bootstrap = f"127.0.0.1:{proxy.port}"
        async with Admin(bootstrap) as admin:
            await admin.create_topic("t", partitions=1)
        async with (
            Producer(bootstrap) as producer,
            Producer(bootstrap, metadata_recovery_strategy="none", delivery_timeout_ms=6_000) as faithful,
            Consumer(bootstrap, group="g", topics=["t"], auto_offset_reset="earliest") as consumer,
        ):
            await producer.send("t", b"before")
            await faithful.send("t", b"too")
            assert len(await consumer.get_many(2, 20.0)) > 0
            await asyncio.to_thread(node.kill)
            node.port = proxy.target_port = free_port()
            await asyncio.to_thread(node.start)
            lost = await faithful.send_soon("t", b"nowhere")
            assert (await producer.send("t", b"after")).offset == 2
            async with asyncio.timeout(60):
                while consumer.position(TopicPartition("t", 0)) < 3:
                    await consumer.get_many(2, 1.0)
            with pytest.raises(KafkaTimeoutError):
                await lost

    with Proxy(node.port) as proxy:
        run(main(proxy))


def test_closing_does_not_wait_for_a_broker_that_is_gone(node: Any, run: Run) -> None:
    async def main() -> None:
        async with Admin(node.bootstrap) as admin:
            await admin.create_topic("t", partitions=1)
        consumer = Consumer(node.bootstrap, group="g", topics=["t"], default_api_timeout_ms=3000)
        async with consumer:
            await consumer.get_many(1, 1.0)
            await asyncio.to_thread(node.kill)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 6.0
        with pytest.raises(ClusterUnreachable):
            async with Consumer(node.bootstrap, topics=["t"]):
                pass

    run(main())

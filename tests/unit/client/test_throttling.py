"""A broker that throttles is left alone until the time is over, whatever the client has for it (KIP-219)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from harness import scripted
from ottla.client import ClusterUnreachable, Consumer, Producer, TopicPartition
from ottla.client._cluster import Cluster
from ottla.wire.apis import ApiKey
from ottla.wire.messages.produce_response import PartitionProduceResponse, ProduceResponse, TopicProduceResponse

PLACE = TopicPartition(scripted.TOPIC, 0)


def run(main: Awaitable[None]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(main, 30)

    asyncio.run(limited())


def test_a_producer_waits() -> None:
    async def main() -> None:
        async with scripted.ScriptedCluster() as cluster:

            def produce(_node: int, _request: Any) -> ProduceResponse:
                answers = [PartitionProduceResponse(index=0, base_offset=7)]
                topic = TopicProduceResponse(topic_id=scripted.TOPIC_ID, partition_responses=answers)
                return ProduceResponse(responses=[topic], throttle_time_ms=400)

            cluster.handlers[ApiKey.PRODUCE] = produce
            async with Producer(cluster.bootstrap, idempotent=False, linger_ms=0) as producer:
                for value in (b"0", b"1", b"2"):
                    assert (await producer.send(scripted.TOPIC, value)).offset == 7
            times = [when for _, key, _, when in cluster.requests if key is ApiKey.PRODUCE]
            assert times[1] - times[0] > 0.39
            assert times[2] - times[1] > 0.39

    run(main())


def test_a_throttled_broker_is_not_asked_for_metadata_and_offsets_either() -> None:
    async def main() -> None:
        async with scripted.ScriptedCluster(nodes=2) as cluster:
            answer = cluster.handlers[ApiKey.METADATA]

            def throttled(node: int, request: Any) -> Any:
                found = answer(node, request)
                found.throttle_time_ms = 400 if node == 0 else 0
                return found

            cluster.handlers[ApiKey.METADATA] = throttled
            async with Consumer(cluster.bootstrap, offsets={PLACE: 0}) as consumer:
                # The first answer came from node 0 and asks for a pause: the second question goes to node 1.
                await consumer.assign({PLACE: 0})
                assert [node for node, key, _, _ in cluster.requests if key is ApiKey.METADATA] == [0, 1]
                await consumer.end_offsets([PLACE])
            times = {key: when for node, key, _, when in cluster.requests if node == 0}
            metadata = next(when for _, key, _, when in cluster.requests if key is ApiKey.METADATA)
            assert times[ApiKey.LIST_OFFSETS] - metadata > 0.39

    run(main())


def test_who_cannot_wait_that_long_leaves_the_connections_alone() -> None:
    async def main() -> None:
        async with scripted.ScriptedCluster() as served:
            answer = served.handlers[ApiKey.METADATA]

            def throttled(node: int, request: Any) -> Any:
                found = answer(node, request)
                found.throttle_time_ms = 60_000
                return found

            served.handlers[ApiKey.METADATA] = throttled
            async with Cluster(served.bootstrap) as cluster:
                peers = [await cluster.peer(0), await cluster.peer(0, lane="fetch")]
                with pytest.raises(ClusterUnreachable, match="takes no requests for now"):
                    await cluster.refresh((scripted.TOPIC,), seconds=0.1)
                assert all(peer.connected for peer in peers)

    run(main())

"""Looking up offsets while brokers come and go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.scripted import TOPIC, ScriptedCluster
from ottla.client._cluster import Cluster
from ottla.client._offsets import LATEST, list_offsets
from ottla.model import TopicPartition
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.list_offsets_response import ListOffsetsResponse

PLACE = TopicPartition(TOPIC, 0)


def refreshed(cluster: ScriptedCluster) -> int:
    return sum(bool(request.topics) for request in cluster.asked(ApiKey.METADATA))


def test_a_broker_that_comes_back_in_time_is_asked_again() -> None:
    async def main() -> None:
        async with ScriptedCluster() as scripted, Cluster(scripted.bootstrap) as cluster:
            await cluster.refresh((TOPIC,))
            scripted.append(b"a", b"b")
            await scripted.close(0)
            looking = asyncio.create_task(list_offsets(cluster, {PLACE: LATEST}, seconds=20))
            await asyncio.sleep(0.3)
            assert not looking.done(), "nobody is there yet, but there is time"
            await scripted.reopen(0)
            assert await looking == {PLACE: 2}

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_leader_that_has_moved_is_looked_for() -> None:
    async def main() -> None:
        async with ScriptedCluster(nodes=2) as scripted, Cluster(scripted.bootstrap) as cluster:
            await cluster.refresh((TOPIC,))
            scripted.leader = 1
            scripted.append(b"a")
            assert await list_offsets(cluster, {PLACE: LATEST}, seconds=20) == {PLACE: 1}
            assert refreshed(scripted) == 2

    asyncio.run(asyncio.wait_for(main(), 30))


def test_without_patience_it_is_tried_once() -> None:
    async def main() -> None:
        async with ScriptedCluster(nodes=2) as scripted, Cluster(scripted.bootstrap) as cluster:
            await cluster.refresh((TOPIC,))
            await scripted.close(0)
            with pytest.raises(ConnectionError):
                await list_offsets(cluster, {PLACE: LATEST}, seconds=0)
            assert refreshed(scripted) == 1

    asyncio.run(asyncio.wait_for(main(), 30))


def test_closing_ends_it() -> None:
    async def main() -> None:
        async with ScriptedCluster() as scripted:
            async with Cluster(scripted.bootstrap) as cluster:
                await cluster.refresh((TOPIC,))
                await scripted.close(0)
                looking = asyncio.create_task(list_offsets(cluster, {PLACE: LATEST}, seconds=600))
                await asyncio.sleep(0.3)
                assert not looking.done()
            with pytest.raises(ConnectionError):
                async with asyncio.timeout(5):
                    await looking

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_partition_that_an_answer_leaves_out_is_not_waited_for_beyond_the_deadline() -> None:
    async def main() -> None:
        async with ScriptedCluster() as scripted, Cluster(scripted.bootstrap) as cluster:
            await cluster.refresh((TOPIC,))
            scripted.handlers[ApiKey.LIST_OFFSETS] = lambda _node, _request: ListOffsetsResponse()
            with pytest.raises(KafkaError) as caught:
                await list_offsets(cluster, {PLACE: LATEST}, seconds=0.2)
            assert caught.value.code is ErrorCode.LEADER_NOT_AVAILABLE
            assert 1 < len(scripted.asked(ApiKey.LIST_OFFSETS)) < 10

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_topic_that_may_not_be_read_any_more_is_told_at_once() -> None:
    async def main() -> None:
        async with ScriptedCluster(nodes=2) as scripted, Cluster(scripted.bootstrap) as cluster:
            await cluster.refresh((TOPIC,))
            answer = scripted.handlers[ApiKey.METADATA]

            def refused(node: int, request: Any) -> Any:
                found = answer(node, request)
                found.topics[0].error_code = int(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
                return found

            scripted.leader = 1
            scripted.handlers[ApiKey.METADATA] = refused
            with pytest.raises(KafkaError) as caught:
                await list_offsets(cluster, {PLACE: LATEST}, seconds=600)
            assert caught.value.code is ErrorCode.TOPIC_AUTHORIZATION_FAILED

    asyncio.run(asyncio.wait_for(main(), 30))

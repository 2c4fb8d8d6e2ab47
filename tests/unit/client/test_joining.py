"""What a consumer that joins does meanwhile: one question for metadata, and the connections it will need."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from msgspec import structs

from harness.scripted import TOPIC, ScriptedCluster
from ottla.client import Consumer
from ottla.wire.apis import ApiKey
from ottla.wire.messages.find_coordinator_response import Coordinator, FindCoordinatorResponse


async def settled(cluster: ScriptedCluster) -> None:
    """Until the consumer has nothing left to ask."""
    known = -1
    while known != len(cluster.requests):
        known = len(cluster.requests)
        await asyncio.sleep(0.2)


def joined(*leaders: int, protocol: Literal["classic", "consumer"] = "consumer") -> ScriptedCluster:
    """What a consumer asks whose coordinator does not answer. ``leaders`` of the partitions it is subscribed to."""
    cluster = ScriptedCluster(nodes=2)
    answer = cluster.handlers[ApiKey.METADATA]

    def metadata(node: int, request: Any) -> Any:
        found = answer(node, request)
        for topic in found.topics:
            topic.partitions = [
                structs.replace(topic.partitions[0], partition_index=index, leader_id=leader)
                for index, leader in enumerate(leaders)
            ]
        return found

    def find(_node: int, request: Any) -> FindCoordinatorResponse:
        found = Coordinator(key=request.coordinator_keys[0], node_id=0, host="127.0.0.1", port=cluster.ports[0])
        return FindCoordinatorResponse(coordinators=[found])

    async def main() -> None:
        async with (
            cluster,
            Consumer(cluster.bootstrap, group="g", topics=[TOPIC], group_protocol=protocol, default_api_timeout_ms=100),
        ):
            await settled(cluster)

    cluster.handlers |= {
        ApiKey.METADATA: metadata,
        ApiKey.FIND_COORDINATOR: find,
        ApiKey.CONSUMER_GROUP_HEARTBEAT: lambda _node, _request: None,
        ApiKey.JOIN_GROUP: lambda _node, _request: None,
    }
    asyncio.run(asyncio.wait_for(main(), 30))
    return cluster


def test_metadata_is_asked_for_once_and_the_leader_connected_to_while_the_coordinator_thinks() -> None:
    cluster = joined(1, 1)
    assert len(cluster.asked(ApiKey.METADATA)) == 1
    assert len(cluster.asked(ApiKey.CONSUMER_GROUP_HEARTBEAT)) == 1
    # The bootstrap, which is the coordinator and needs no second connection for heartbeats; the leader.
    assert [len(cluster.asked(ApiKey.API_VERSIONS, node)) for node in (0, 1)] == [1, 1]


def test_what_waits_for_other_members_has_a_connection_of_its_own() -> None:
    cluster = joined(1, 1, protocol="classic")
    assert len(cluster.asked(ApiKey.JOIN_GROUP)) == 1
    assert [len(cluster.asked(ApiKey.API_VERSIONS, node)) for node in (0, 1)] == [2, 1]


def test_where_several_lead_it_waits_for_the_assignment() -> None:
    cluster = joined(0, 1)
    assert [len(cluster.asked(ApiKey.API_VERSIONS, node)) for node in (0, 1)] == [1, 0]

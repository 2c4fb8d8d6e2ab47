"""Where partitions have replicas, as metadata says."""

from __future__ import annotations

import asyncio
from typing import Any

from harness.scripted import TOPIC, ScriptedCluster
from ottla.client._cluster import Cluster
from ottla.model import TopicPartition
from ottla.wire.apis import ApiKey


def test_racks_of_replicas() -> None:
    async def main() -> None:
        async with asyncio.timeout(20), ScriptedCluster(nodes=3) as scripted:
            answer = scripted.handlers[ApiKey.METADATA]

            def metadata(node: int, request: Any) -> Any:
                found = answer(node, request)
                found.brokers[0].rack, found.brokers[2].rack = "a", "c"
                for topic in found.topics:
                    # Node 1 says no rack, and node 9 is not there.
                    topic.partitions[0].replica_nodes = [0, 1, 2, 9]
                return found

            scripted.handlers[ApiKey.METADATA] = metadata
            async with Cluster(scripted.bootstrap) as cluster:
                await cluster.refresh((TOPIC,))
                assert cluster.racks([TOPIC, "unknown"]) == {TopicPartition(TOPIC, 0): {"a", "c"}}

    asyncio.run(main())

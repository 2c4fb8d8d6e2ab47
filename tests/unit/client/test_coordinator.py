"""A question to a coordinator ends with the client that asks it, whatever it is waiting for just then."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from harness.scripted import ScriptedCluster
from ottla.client import ClientClosedError, ErrorCode, KafkaTimeoutError
from ottla.client._cluster import Cluster
from ottla.client._coordinator import CoordinatorKind, CoordinatorLink
from ottla.wire.apis import ApiKey
from ottla.wire.messages.find_coordinator_response import Coordinator, FindCoordinatorResponse
from ottla.wire.messages.offset_commit_request import OffsetCommitRequest

GROUP = "orders"


def naming(port: int, code: ErrorCode = ErrorCode.NONE) -> Callable[..., Any]:
    """Answers FindCoordinator."""
    found = Coordinator(key=GROUP, node_id=7, host="127.0.0.1", port=port, error_code=int(code))
    return lambda _node, _request: FindCoordinatorResponse(coordinators=[found])


def no_coordinator(cluster: ScriptedCluster, _: int) -> None:
    cluster.handlers[ApiKey.FIND_COORDINATOR] = naming(cluster.ports[0], ErrorCode.COORDINATOR_NOT_AVAILABLE)


def nobody_says_who(cluster: ScriptedCluster, _: int) -> None:
    cluster.handlers[ApiKey.FIND_COORDINATOR] = lambda _node, _request: None


def it_does_not_answer(cluster: ScriptedCluster, _: int) -> None:
    cluster.handlers[ApiKey.FIND_COORDINATOR] = naming(cluster.ports[0])
    cluster.handlers[ApiKey.OFFSET_COMMIT] = lambda _node, _request: None


def it_only_listens(cluster: ScriptedCluster, silent: int) -> None:
    cluster.handlers[ApiKey.FIND_COORDINATOR] = naming(silent)


def ask(cluster: Cluster, seconds: float) -> Awaitable[Any]:
    link = CoordinatorLink(cluster, CoordinatorKind.GROUP, GROUP)
    request = OffsetCommitRequest(group_id=GROUP)
    return link.ask(ApiKey.OFFSET_COMMIT, request, lambda _: 0, seconds=seconds)


@pytest.mark.parametrize("trouble", [no_coordinator, nobody_says_who, it_does_not_answer, it_only_listens])
def test_a_question_ends_with_the_client(trouble: Callable[[ScriptedCluster, int], None]) -> None:
    async def main(silent: socket.socket) -> None:
        async with ScriptedCluster() as served, Cluster(served.bootstrap) as cluster:
            trouble(served, silent.getsockname()[1])
            loop = asyncio.get_running_loop()
            asking = asyncio.ensure_future(ask(cluster, 20))
            # Pauses have become long by then.
            await asyncio.sleep(1.5)
            assert not asking.done()
            cluster.close()
            began = loop.time()
            with pytest.raises(ClientClosedError, match="the client was closed"):
                await asking
            assert loop.time() - began < 3.0
            with pytest.raises(ClientClosedError):
                await ask(cluster, 20)
            assert loop.time() - began < 3.0

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(main(silent))


def test_a_client_that_stays_open_asks_until_its_time_is_over() -> None:
    async def main() -> None:
        async with ScriptedCluster() as served, Cluster(served.bootstrap) as cluster:
            no_coordinator(served, 0)
            with pytest.raises(KafkaTimeoutError):
                await ask(cluster, 0.5)

    asyncio.run(main())

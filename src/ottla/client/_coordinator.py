"""Whom to ask about a group: its coordinator, found again whenever it has moved.

A connection of its own, because a join waits at the broker for the other members.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from ottla.client._backoff import Backoff
from ottla.client._cluster import Cluster
from ottla.net.peer import Peer, PeerLost
from ottla.wire.apis import ApiKey
from ottla.wire.codec import Message
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.wire.messages.find_coordinator_response import FindCoordinatorResponse

KEYS_VERSION: Final = 4
"""From here on FindCoordinator takes many keys."""
GROUP: Final = 0
GROUP_LANE: Final = "group"
MOVED: Final = frozenset((ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE))
TRY_AGAIN: Final = MOVED | {ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}


class Coordinator:
    """The coordinator of one group."""

    def __init__(self, cluster: Cluster, group_id: str) -> None:
        self._cluster = cluster
        self.group_id = group_id
        self._node_id = -1

    async def ask(
        self,
        api_key: ApiKey,
        request: Callable[[int], Message],
        *,
        code_of: Callable[[Any], int],
        seconds: float,
        version_max: int | None = None,
        lane: str = "",
    ) -> Any:
        """Send a request, made anew for each try, until the coordinator answers with something but "ask another".

        Raises ``KafkaError`` for what will not change, and with the last reason after ``seconds``.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        backoff = Backoff(self._cluster.rng, initial=0.05)
        while True:
            reason: Exception
            try:
                peer = await self._find(lane)
                version = peer.version_of(api_key)
                version = min(version, version_max or version)
                await self._heed_throttle(peer, deadline)
                left = max(0.05, deadline - loop.time())
                response = await peer.request(api_key, request(version), version, seconds=min(left, seconds))
                code = ErrorCode.of(code_of(response))
                if code not in TRY_AGAIN:
                    return response
                reason = KafkaError(code, f"group {self.group_id!r}")
                if code in MOVED:
                    self._node_id = -1
            except ConnectionError as error:
                reason, self._node_id = error, -1
            except KafkaError as error:
                if error.code not in TRY_AGAIN:
                    raise
                reason, self._node_id = error, -1
            pause = backoff.next_seconds()
            if loop.time() + pause >= deadline:
                raise reason
            await asyncio.sleep(pause)

    async def _heed_throttle(self, peer: Peer, deadline: float) -> None:
        now = asyncio.get_running_loop().time()
        if peer.throttled_until > now:
            await asyncio.sleep(min(peer.throttled_until, deadline) - now)

    async def _find(self, lane: str) -> Peer:
        if self._node_id < 0:
            self._node_id = await self._look_up()
        if self._node_id not in self._cluster.brokers:
            await self._cluster.refresh(())
        return await self._cluster.peer(self._node_id, lane=lane)

    async def _look_up(self) -> int:
        peer = await self._cluster.any_peer()
        version = peer.version_of(ApiKey.FIND_COORDINATOR)
        if version >= KEYS_VERSION:
            request = FindCoordinatorRequest(key_type=GROUP, coordinator_keys=[self.group_id])
        else:
            request = FindCoordinatorRequest(key_type=GROUP, key=self.group_id)
        response: FindCoordinatorResponse = await peer.request(ApiKey.FIND_COORDINATOR, request, version)
        code, message, node_id = response.error_code, response.error_message, response.node_id
        if version >= KEYS_VERSION:
            if not response.coordinators:
                raise PeerLost("an answer without a coordinator")
            found = response.coordinators[0]
            code, message, node_id = found.error_code, found.error_message, found.node_id
        if code != ErrorCode.NONE:
            raise KafkaError(ErrorCode.of(code), message or f"coordinator of group {self.group_id!r}")
        return node_id

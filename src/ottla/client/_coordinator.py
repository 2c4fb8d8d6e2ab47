"""Finding the broker that coordinates a group or a transactional id, and asking it until it answers."""

import asyncio
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from ottla.client._backoff import Backoff
from ottla.client._cluster import Cluster
from ottla.client._errors import ClientClosedError, KafkaTimeoutError, error_of
from ottla.net.peer import Peer, PeerLost
from ottla.wire.apis import ApiKey
from ottla.wire.codec import Message
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.wire.messages.find_coordinator_response import Coordinator, FindCoordinatorResponse
from ottla.wire.messages.produce_response import NodeEndpoint

BATCHED_VERSION: Final = 4
"""From here on FindCoordinator takes many keys."""
RENEWAL_SECONDS: Final = 1.0
"""Where the authentication of a connection is good for less, the next question may go out on another one."""
MOVED: Final = frozenset(
    {ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}
)


class CoordinatorKind(IntEnum):
    GROUP = 0
    TRANSACTION = 1
    SHARE = 2


class CoordinatorLink:
    """The way to one coordinator. ``ask`` follows it when it moves and waits while it loads."""

    def __init__(self, cluster: Cluster, kind: CoordinatorKind, key: str) -> None:
        self._cluster = cluster
        self._kind = kind
        self._key = key
        self.node_id = -1
        """Who it is, as far as known."""
        self._finding = asyncio.Lock()

    async def ask(
        self,
        api_key: ApiKey,
        request: Message | Callable[[Peer], tuple[Message, int]],
        code_of: Callable[[Any], int],
        *,
        seconds: float,
        again: frozenset[ErrorCode] = frozenset((ErrorCode.CONCURRENT_TRANSACTIONS,)),
        lane: str = "",
        answer_seconds: float | None = None,
        sent: Callable[[], None] | None = None,
    ) -> Any:
        """The coordinator's answer. ``request`` may be a function of the connection that gives message and version.

        While the coordinator moves, loads, or answers with one of ``again``, it is asked again; every other answer is
        returned whatever it says. Raises ``KafkaTimeoutError``, ``ClientClosedError`` as soon as the client is
        closed, and ``KafkaError`` where a coordinator is refused. ``lane`` is the connection to use,
        ``answer_seconds`` replaces the usual deadline of one request, ``sent`` is called whenever it has been sent and
        what is asked next goes behind it.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        backoff = Backoff(self._cluster.rng, initial=0.02)
        what = f"the coordinator of {self._kind.name.lower()} {self._key!r}"
        reason = "no answer"
        while not self._cluster.closed:
            try:
                async with asyncio.timeout_at(deadline):
                    peer = await self.peer(lane)
                    message, version = request(peer) if callable(request) else (request, peer.version_of(api_key))
                    answer = await peer.submit(api_key, message, version, seconds=answer_seconds)
                    # Another connection would keep no order.
                    if sent is not None and peer.fresh_for(RENEWAL_SECONDS):
                        sent()
                    response = await answer.future()
                code = ErrorCode.of(code_of(response))
                if code not in MOVED and code not in again:
                    return response
                reason = code.description
                if code in MOVED:
                    self.node_id = -1
            except TimeoutError:
                break
            except ConnectionError as error:
                self.node_id, reason = -1, str(error)
            except KafkaError as error:
                if error.code not in MOVED:
                    raise
                self.node_id, reason = -1, error.code.description
            pause = backoff.next_seconds()
            if loop.time() + pause >= deadline:
                break
            await self._cluster.pause(pause)
        if self._cluster.closed:
            raise ClientClosedError(ErrorCode.REQUEST_TIMED_OUT, f"{what}: the client was closed before it answered")
        raise KafkaTimeoutError(ErrorCode.REQUEST_TIMED_OUT, f"{what}: {reason} for {seconds:g} s")

    async def peer(self, lane: str) -> Peer:
        """The connection to the coordinator, which is found first if it is not known. Raises ``KafkaError`` and
        ``ConnectionError``."""
        async with self._finding:
            if self.node_id < 0:
                self.node_id = await find_coordinator(self._cluster, self._kind, self._key)
        return await self._cluster.peer(self.node_id, lane=lane)


async def find_coordinator(cluster: Cluster, kind: CoordinatorKind, key: str) -> int:
    """The node id of a coordinator, its address noted. Raises ``KafkaError`` and ``ConnectionError``."""

    def request(version: int) -> FindCoordinatorRequest:
        if version >= BATCHED_VERSION:
            return FindCoordinatorRequest(key_type=kind, coordinator_keys=[key])
        return FindCoordinatorRequest(key_type=kind, key=key)

    response: FindCoordinatorResponse = await cluster.ask_any(ApiKey.FIND_COORDINATOR, request)
    if response.coordinators:
        found = response.coordinators[0]
    else:
        found = Coordinator(
            node_id=response.node_id,
            host=response.host,
            port=response.port,
            error_code=response.error_code,
            error_message=response.error_message,
        )
    if found.error_code != ErrorCode.NONE:
        raise error_of(found.error_code, found.error_message or f"no coordinator of {kind.name.lower()} {key!r}")
    if found.node_id < 0:
        raise PeerLost(f"no coordinator of {kind.name.lower()} {key!r}")
    cluster.note_brokers((NodeEndpoint(node_id=found.node_id, host=found.host, port=found.port),))
    return found.node_id

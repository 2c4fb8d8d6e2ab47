"""A group's coordinator as the consumer asks it: in its own versions, what may wait long on a connection of its own."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from ottla.client._cluster import Cluster
from ottla.client._coordinator import CoordinatorKind, CoordinatorLink
from ottla.net.peer import Peer
from ottla.wire.apis import ApiKey
from ottla.wire.codec import Message
from ottla.wire.errors import ErrorCode, KafkaError

GROUP_LANE: Final = "group"
"""A classic join waits at the broker for the other members, and so would what is behind it on its connection. A
heartbeat of the newer protocol waits for nobody: it takes the usual one, behind commits and lists of offsets, as the
Java client's does behind its commits."""
NOTHING: Final[frozenset[ErrorCode]] = frozenset()


class GroupCoordinator:
    """The coordinator of one group."""

    def __init__(self, cluster: Cluster, group_id: str, *, waits: bool = False) -> None:
        """``waits``: whether membership needs a connection of its own."""
        self._link = CoordinatorLink(cluster, CoordinatorKind.GROUP, group_id)
        self._lane = GROUP_LANE if waits else ""
        self.group_id = group_id

    async def reach(self) -> None:
        """Find it and connect, where there is something else to wait for. What fails, the first request would tell."""
        with suppress(ConnectionError, KafkaError):
            await self._link.peer(self._lane)

    async def ask(
        self,
        api_key: ApiKey,
        request: Callable[[int], Message],
        *,
        code_of: Callable[[Any], int],
        seconds: float,
        version_max: int | None = None,
        lane: str = "",
        sent: Callable[[], None] | None = None,
    ) -> Any:
        """Send a request, made anew for each try in the version spoken, until there is an answer to it.

        "Ask another" and "not yet" are no answers. ``sent`` is called whenever it has been sent and what is asked next
        goes behind it. Raises ``KafkaTimeoutError`` after ``seconds``.
        """

        def made(peer: Peer) -> tuple[Message, int]:
            version = peer.version_of(api_key)
            version = min(version, version_max or version)
            return request(version), version

        return await self._link.ask(
            api_key, made, code_of, seconds=seconds, again=NOTHING, lane=lane, answer_seconds=seconds, sent=sent
        )

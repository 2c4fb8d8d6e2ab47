"""Asking several brokers, and reading what they say of failure."""

from collections.abc import Callable, Iterable
from typing import Any

from ottla.client._cluster import Cluster
from ottla.wire.apis import ApiKey
from ottla.wire.codec import Message
from ottla.wire.errors import ErrorCode, KafkaError


async def ask_each(
    cluster: Cluster, api_key: ApiKey, request: Message | Callable[[int], Message], nodes: Iterable[int] | None = None
) -> dict[int, Any]:
    """The answer of every broker, or of ``nodes``, side by side. Raises what the first that fails raises."""
    import asyncio

    wanted = sorted(cluster.brokers) if nodes is None else list(nodes)

    async def ask(node_id: int) -> Any:
        peer = await cluster.peer(node_id)
        version = peer.version_of(api_key)
        return await peer.request(api_key, request(version) if callable(request) else request, version)

    return dict(zip(wanted, await asyncio.gather(*map(ask, wanted)), strict=True))


def check(code: int, message: str | None, subject: str) -> None:
    """Raise ``KafkaError`` unless ``code`` is zero."""
    if code != ErrorCode.NONE:
        known = ErrorCode.of(code)
        raise KafkaError(known, message or f"{subject}: {known.description}")


def error_text(code: int, message: str | None = None) -> str | None:
    """An error for a row of a table; nothing where there is none."""
    if code == ErrorCode.NONE:
        return None
    known = ErrorCode.of(code)
    return f"{known.name}: {message}" if message else known.name

"""What the admin's parts share: asking everywhere, and results that may be partly errors."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from ottla.client._cluster import Cluster
from ottla.client._errors import error_of
from ottla.model import TopicPartition
from ottla.net.peer import Peer
from ottla.wire.apis import ApiKey
from ottla.wire.codec import Message
from ottla.wire.errors import ErrorCode, KafkaError

K = TypeVar("K")
T = TypeVar("T")

TIMEOUT_MS = 30_000


def outcome(code: int, message: str | None, subject: str, value: T) -> T | KafkaError:
    """``value``, or the error there was."""
    if code == ErrorCode.NONE:
        return value
    return error_of(code, message or f"{subject}: {ErrorCode.of(code).description}")


def only(results: Mapping[K, T | KafkaError], key: K) -> T:
    """The one result asked for. Raises it if it is an error."""
    result = results[key]
    if isinstance(result, KafkaError):
        raise result
    return result


def raise_first(results: Iterable[object]) -> None:
    """Raise the first error among results."""
    for result in results:
        if isinstance(result, KafkaError):
            raise result


def by_topic(places: Iterable[TopicPartition]) -> dict[str, list[int]]:
    """The partitions by topic, both in order."""
    topics: dict[str, list[int]] = {}
    for place in sorted(set(places)):
        topics.setdefault(place.topic, []).append(place.partition)
    return topics


async def ask_every_broker(
    cluster: Cluster, api_key: ApiKey, request: Message | Callable[[int], Message], brokers: Iterable[int] | None = None
) -> dict[int, Any]:
    """Each broker's answer; for those that cannot be reached the ``ConnectionError``."""
    await cluster.refresh(())

    async def ask(node_id: int) -> Any:
        peer = await cluster.peer(node_id)
        version = peer.version_of(api_key)
        return await peer.request(api_key, request(version) if callable(request) else request, version)

    node_ids = sorted(cluster.brokers) if brokers is None else list(brokers)
    answers = await asyncio.gather(*(ask(node_id) for node_id in node_ids), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, ConnectionError):
            raise answer
    return dict(zip(node_ids, answers, strict=True))


async def ask_leaders(
    cluster: Cluster,
    places: Iterable[TopicPartition],
    ask: Callable[[Peer, list[TopicPartition]], Awaitable[Mapping[TopicPartition, T | KafkaError]]],
    *,
    seconds: float = 30.0,
) -> dict[TopicPartition, T | KafkaError]:
    """Ask the leader of each partition; who moved or is away is looked for again until ``seconds`` have passed."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    wanted = list(dict.fromkeys(places))
    found: dict[TopicPartition, T | KafkaError] = {}
    left = wanted
    while left:
        errors = await cluster.refresh({place.topic for place in left})
        late = loop.time() >= deadline
        by_leader: dict[int, list[TopicPartition]] = {}
        for place in left:
            code = _leaderless(cluster, place, errors.get(place.topic, ErrorCode.NONE))
            if code is ErrorCode.NONE:
                by_leader.setdefault(cluster.leader(place), []).append(place)
            elif late or code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION or not code.retriable:
                found[place] = error_of(code, f"{place}: {code.description}")
        answers = await asyncio.gather(*(_ask_one(cluster, node, some, ask) for node, some in by_leader.items()))
        for answer in answers:
            found |= {
                place: result
                for place, result in answer.items()
                if late or not (isinstance(result, KafkaError) and result.retriable)
            }
        left = [place for place in wanted if place not in found]
        if left:
            await asyncio.sleep(0.1)
    return found


def _leaderless(cluster: Cluster, place: TopicPartition, code: ErrorCode) -> ErrorCode:
    topic = cluster.known_topic(place.topic)
    if code is not ErrorCode.NONE or topic is None:
        return code if code is not ErrorCode.NONE else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if place.partition not in topic.partitions:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return ErrorCode.NONE if cluster.leader(place) >= 0 else ErrorCode.LEADER_NOT_AVAILABLE


async def _ask_one(
    cluster: Cluster,
    node_id: int,
    places: list[TopicPartition],
    ask: Callable[[Peer, list[TopicPartition]], Awaitable[Mapping[TopicPartition, T | KafkaError]]],
) -> Mapping[TopicPartition, T | KafkaError]:
    try:
        return await ask(await cluster.peer(node_id), places)
    except ConnectionError as error:
        return dict.fromkeys(places, error_of(ErrorCode.NETWORK_EXCEPTION, str(error)))

"""Administration of transactions and producers: who writes where, what hangs, and ending it."""

import asyncio
from collections.abc import Iterable, Sequence

from msgspec import Struct

from ottla.client._admin_ask import ask_every_broker, ask_leaders, by_topic, only, outcome
from ottla.client._cluster import Cluster
from ottla.client._coordinator import CoordinatorKind, CoordinatorLink
from ottla.client._errors import error_of
from ottla.model import TopicPartition
from ottla.net.peer import Peer
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.describe_producers_request import DescribeProducersRequest, TopicRequest
from ottla.wire.messages.describe_producers_response import DescribeProducersResponse
from ottla.wire.messages.describe_transactions_request import DescribeTransactionsRequest
from ottla.wire.messages.init_producer_id_request import InitProducerIdRequest
from ottla.wire.messages.list_transactions_request import ListTransactionsRequest
from ottla.wire.messages.write_txn_markers_request import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from ottla.wire.messages.write_txn_markers_response import WriteTxnMarkersResponse

SECONDS = 30.0


class TransactionListing(Struct, frozen=True, kw_only=True):
    """A transactional id as its coordinator lists it."""

    transactional_id: str
    producer_id: int
    state: str


class TransactionDescription(Struct, frozen=True, kw_only=True):
    """A transactional id with what is open of it. ``started_at``: milliseconds, -1 while nothing is open."""

    transactional_id: str
    state: str
    producer_id: int
    producer_epoch: int
    timeout_ms: int
    started_at: int
    partitions: tuple[TopicPartition, ...]
    coordinator: int


class ProducerState(Struct, frozen=True, kw_only=True):
    """A producer that has written to a partition. ``transaction_start_offset`` is -1 unless a transaction is open."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_timestamp: int
    coordinator_epoch: int
    transaction_start_offset: int


async def list_transactions(
    cluster: Cluster,
    *,
    states: Sequence[str],
    producer_ids: Sequence[int],
    duration_ms: int,
    pattern: str | None,
    all_brokers: bool,
) -> list[TransactionListing]:
    def request(version: int) -> ListTransactionsRequest:
        message = ListTransactionsRequest(state_filters=list(states), producer_id_filters=list(producer_ids))
        if version >= 1:
            message.duration_filter = duration_ms
        elif duration_ms >= 0:
            raise error_of(ErrorCode.UNSUPPORTED_VERSION, "the broker does not filter by duration")
        if version >= 2:
            message.transactional_id_pattern = pattern
        elif pattern is not None:
            raise error_of(ErrorCode.UNSUPPORTED_VERSION, "the broker does not filter by pattern")
        return message

    found: dict[str, TransactionListing] = {}
    for answer in (await ask_every_broker(cluster, ApiKey.LIST_TRANSACTIONS, request)).values():
        if isinstance(answer, ConnectionError):
            if all_brokers:
                raise answer
            continue
        may_lack = () if all_brokers else (ErrorCode.COORDINATOR_NOT_AVAILABLE,)
        if answer.error_code not in (ErrorCode.NONE, *may_lack):
            raise error_of(answer.error_code, "the transactions could not be listed")
        for one in answer.transaction_states:
            found[one.transactional_id] = TransactionListing(
                transactional_id=one.transactional_id, producer_id=one.producer_id, state=one.transaction_state
            )
    return [found[name] for name in sorted(found)]


async def describe_transactions(
    cluster: Cluster, transactional_ids: Iterable[str]
) -> dict[str, TransactionDescription | KafkaError]:
    async def describe(name: str) -> TransactionDescription | KafkaError:
        link = CoordinatorLink(cluster, CoordinatorKind.TRANSACTION, name)
        request = DescribeTransactionsRequest(transactional_ids=[name])
        try:
            answer = await link.ask(
                ApiKey.DESCRIBE_TRANSACTIONS, request, lambda one: one.transaction_states[0].error_code, seconds=SECONDS
            )
        except KafkaError as error:
            return error
        state = answer.transaction_states[0]
        description = TransactionDescription(
            transactional_id=name,
            state=state.transaction_state,
            producer_id=state.producer_id,
            producer_epoch=state.producer_epoch,
            timeout_ms=state.transaction_timeout_ms,
            started_at=state.transaction_start_time_ms,
            partitions=tuple(TopicPartition(one.topic, number) for one in state.topics for number in one.partitions),
            coordinator=link.node_id,
        )
        return outcome(state.error_code, None, f"transactional_id={name!r}", description)

    names = list(dict.fromkeys(transactional_ids))
    return dict(zip(names, await asyncio.gather(*map(describe, names)), strict=True))


async def fence_producers(
    cluster: Cluster, transactional_ids: Iterable[str]
) -> dict[str, tuple[int, int] | KafkaError]:
    async def fence(name: str) -> tuple[int, int] | KafkaError:
        link = CoordinatorLink(cluster, CoordinatorKind.TRANSACTION, name)
        request = InitProducerIdRequest(transactional_id=name, transaction_timeout_ms=1)
        try:
            answer = await link.ask(ApiKey.INIT_PRODUCER_ID, request, lambda one: one.error_code, seconds=SECONDS)
        except KafkaError as error:
            return error
        fenced = answer.producer_id, answer.producer_epoch
        return outcome(answer.error_code, None, f"transactional_id={name!r}", fenced)

    names = list(dict.fromkeys(transactional_ids))
    return dict(zip(names, await asyncio.gather(*map(fence, names)), strict=True))


async def describe_producers(
    cluster: Cluster, places: Iterable[TopicPartition]
) -> dict[TopicPartition, list[ProducerState] | KafkaError]:
    async def ask(peer: Peer, mine: list[TopicPartition]) -> dict[TopicPartition, list[ProducerState] | KafkaError]:
        topics = [TopicRequest(name=name, partition_indexes=numbers) for name, numbers in by_topic(mine).items()]
        response: DescribeProducersResponse = await peer.request(
            ApiKey.DESCRIBE_PRODUCERS, DescribeProducersRequest(topics=topics)
        )
        return {
            (place := TopicPartition(topic.name, one.partition_index)): outcome(
                one.error_code,
                one.error_message,
                f"producers of {place}",
                [
                    ProducerState(
                        producer_id=state.producer_id,
                        producer_epoch=state.producer_epoch,
                        last_sequence=state.last_sequence,
                        last_timestamp=state.last_timestamp,
                        coordinator_epoch=state.coordinator_epoch,
                        transaction_start_offset=state.current_txn_start_offset,
                    )
                    for state in one.active_producers
                ],
            )
            for topic in response.topics
            for one in topic.partitions
        }

    return await ask_leaders(cluster, places, ask)


async def abort_transaction(cluster: Cluster, place: TopicPartition, start_offset: int) -> None:
    """End a transaction whose coordinator has forgotten it (KIP-664)."""
    producers = only(await describe_producers(cluster, [place]), place)
    open_ones = [one for one in producers if one.transaction_start_offset == start_offset]
    if not open_ones:
        raise error_of(
            ErrorCode.TRANSACTIONAL_ID_NOT_FOUND, f"no transaction is open in {place} from offset {start_offset} on"
        )
    producer = open_ones[0]

    async def ask(peer: Peer, _mine: list[TopicPartition]) -> dict[TopicPartition, KafkaError | None]:
        marker = WritableTxnMarker(
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            coordinator_epoch=max(producer.coordinator_epoch, 0),
            topics=[WritableTxnMarkerTopic(name=place.topic, partition_indexes=[place.partition])],
        )
        response: WriteTxnMarkersResponse = await peer.request(
            ApiKey.WRITE_TXN_MARKERS, WriteTxnMarkersRequest(markers=[marker])
        )
        code = response.markers[0].topics[0].partitions[0].error_code
        return {place: outcome(code, None, f"the end of a transaction in {place}", None)}

    only(await ask_leaders(cluster, [place], ask), place)

"""Transactions: which are open, what they hold up, and ending one that nobody will end (KIP-664, KIP-1152)."""

from typing import Any

from ottla.cli.calls.asking import ask_each, check
from ottla.cli.rows import ProducerRow, Transaction, TransactionRow
from ottla.client._cluster import Cluster
from ottla.client._coordinator import CoordinatorKind, find_coordinator
from ottla.model import TopicPartition
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError


async def list_transactions(
    cluster: Cluster, states: tuple[str, ...] = (), longer_ms: int | None = None
) -> list[TransactionRow]:
    """What every coordinator knows, by transactional id."""
    from ottla.wire.messages.list_transactions_request import ListTransactionsRequest

    def request(version: int) -> ListTransactionsRequest:
        if longer_ms is not None and version < 1:
            raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, "the brokers cannot select transactions by duration")
        return ListTransactionsRequest(
            state_filters=list(states), duration_filter=-1 if longer_ms is None else longer_ms
        )

    rows = []
    for node_id, answer in (await ask_each(cluster, ApiKey.LIST_TRANSACTIONS, request)).items():
        check(answer.error_code, None, f"transactions of broker {node_id}")
        if answer.unknown_state_filters:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"no such state: {', '.join(answer.unknown_state_filters)}")
        rows += [
            TransactionRow(
                transactional_id=one.transactional_id,
                producer_id=one.producer_id,
                state=one.transaction_state,
                coordinator=node_id,
            )
            for one in answer.transaction_states
        ]
    return sorted(rows, key=lambda row: row.transactional_id)


async def describe_transaction(cluster: Cluster, name: str) -> Transaction:
    """One transactional id."""
    from ottla.wire.messages.describe_transactions_request import DescribeTransactionsRequest

    node_id = await find_coordinator(cluster, CoordinatorKind.TRANSACTION, name)
    peer = await cluster.peer(node_id)
    request = DescribeTransactionsRequest(transactional_ids=[name])
    (one,) = (await peer.request(ApiKey.DESCRIBE_TRANSACTIONS, request)).transaction_states
    if one.error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND:
        raise KafkaError(ErrorCode.TRANSACTIONAL_ID_NOT_FOUND, f"transactional id {name!r} does not exist")
    check(one.error_code, None, f"transactional id {name!r}")
    return Transaction(
        transactional_id=name,
        producer_id=one.producer_id,
        producer_epoch=one.producer_epoch,
        state=one.transaction_state,
        coordinator=node_id,
        timeout_ms=one.transaction_timeout_ms,
        started_ms=one.transaction_start_time_ms if one.transaction_start_time_ms > 0 else None,
        partitions=[f"{topic.topic}-{number}" for topic in one.topics for number in topic.partitions],
    )


async def producers(cluster: Cluster, places: list[TopicPartition]) -> list[ProducerRow]:
    """Whom the leaders of these partitions know as producers, open transactions among them."""
    from ottla.wire.messages.describe_producers_request import DescribeProducersRequest, TopicRequest

    by_leader: dict[int, dict[str, list[int]]] = {}
    for place in places:
        by_leader.setdefault(cluster.leader(place), {}).setdefault(place.topic, []).append(place.partition)
    by_leader.pop(-1, None)
    rows = []
    for node_id, topics in sorted(by_leader.items()):
        request = DescribeProducersRequest(
            topics=[TopicRequest(name=name, partition_indexes=numbers) for name, numbers in topics.items()]
        )
        peer = await cluster.peer(node_id)
        answer = await peer.request(ApiKey.DESCRIBE_PRODUCERS, request)
        for topic in answer.topics:
            for partition in topic.partitions:
                subject = f"{topic.name}-{partition.partition_index}"
                check(partition.error_code, partition.error_message, subject)
                rows += [_producer(topic.name, partition.partition_index, one) for one in partition.active_producers]
    return rows


async def hanging(cluster: Cluster, places: list[TopicPartition], older_ms: int, now_ms: int) -> list[ProducerRow]:
    """Open transactions of partitions that no coordinator will end: it does not know them, or is not in one."""
    open_ones = [row for row in await producers(cluster, places) if row.open_since_offset is not None]
    suspects = [row for row in open_ones if now_ms - row.last_ms >= older_ms]
    if not suspects:
        return []
    names = {row.producer_id: row.transactional_id for row in await list_transactions(cluster)}
    hanging_rows = []
    described: dict[str, Transaction] = {}
    for row in suspects:
        name = names.get(row.producer_id)
        if name is not None and name not in described:
            described[name] = await describe_transaction(cluster, name)
        if name is None or f"{row.topic}-{row.partition}" not in described[name].partitions:
            hanging_rows.append(row)
    return hanging_rows


async def abort_hanging(cluster: Cluster, row: ProducerRow) -> None:
    """Write the abort marker that the coordinator never wrote."""
    from ottla.wire.messages.write_txn_markers_request import (
        WritableTxnMarker,
        WritableTxnMarkerTopic,
        WriteTxnMarkersRequest,
    )

    marker = WritableTxnMarker(
        producer_id=row.producer_id,
        producer_epoch=row.producer_epoch,
        transaction_result=False,
        topics=[WritableTxnMarkerTopic(name=row.topic, partition_indexes=[row.partition])],
        # A producer that was never told of a coordinator has the epoch -1; markers need a real one.
        coordinator_epoch=max(row.coordinator_epoch, 0),
    )
    place = TopicPartition(row.topic, row.partition)
    peer = await cluster.peer(cluster.leader(place))
    answer = await peer.request(ApiKey.WRITE_TXN_MARKERS, WriteTxnMarkersRequest(markers=[marker]))
    for one in answer.markers:
        for topic in one.topics:
            for partition in topic.partitions:
                check(partition.error_code, None, f"aborting on {place}")


def _producer(topic: str, partition: int, one: Any) -> ProducerRow:
    return ProducerRow(
        topic=topic,
        partition=partition,
        producer_id=one.producer_id,
        producer_epoch=one.producer_epoch,
        coordinator_epoch=one.coordinator_epoch,
        last_sequence=one.last_sequence,
        last_ms=one.last_timestamp,
        open_since_offset=one.current_txn_start_offset if one.current_txn_start_offset >= 0 else None,
    )

"""AddPartitionsToTxn (24), versions 0-5: partitions that take part in a transaction.

v0-3 come from clients, one transaction a request. v4-5 come from brokers, many at once, and either add partitions on
behalf of a client of transaction version 2 or (``verify_only``) ask whether a client has added them. If one partition
does not exist none is added: the others are OPERATION_NOT_ATTEMPTED. Before v2 PRODUCER_FENCED is
INVALID_PRODUCER_EPOCH.
"""

import asyncio
from collections.abc import Callable, Mapping

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.transaction_coordinator import TransactionCoordinator
from ottla.metadata.image import ClusterImage
from ottla.model import TopicPartition
from ottla.transactions.commands import AddPartitions
from ottla.transactions.transaction import FIRST_VERSION_WITH_EPOCH_BUMP
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.add_partitions_to_txn_request import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from ottla.wire.messages.add_partitions_to_txn_response import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopicResult,
)

FIRST_PRODUCER_FENCED_VERSION = 2
FIRST_BATCHED_VERSION = 4

Errors = Mapping[TopicPartition, ErrorCode]


class AddPartitionsToTxnHandler(Struct, frozen=True, kw_only=True):
    """Touches the transaction coordinator, and the image for which partitions exist."""

    coordinator: TransactionCoordinator
    image: Callable[[], ClusterImage]

    async def handle(self, context: RequestContext, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse:
        if context.api_version >= FIRST_BATCHED_VERSION:
            results = await asyncio.gather(*(self._add(context, one) for one in request.transactions))
            return AddPartitionsToTxnResponse(results_by_transaction=list(results))
        one = AddPartitionsToTxnTransaction(
            transactional_id=request.v3_and_below_transactional_id,
            producer_id=request.v3_and_below_producer_id,
            producer_epoch=request.v3_and_below_producer_epoch,
            topics=request.v3_and_below_topics,
        )
        result = await self._add(context, one)
        return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=result.topic_results)

    async def _add(self, context: RequestContext, wanted: AddPartitionsToTxnTransaction) -> AddPartitionsToTxnResult:
        partitions = partitions_of(wanted.topics)
        image = self.image()
        missing = [key for key in partitions if image.partition(*key) is None]
        if missing:
            errors: Errors = {
                **dict.fromkeys(partitions, ErrorCode.OPERATION_NOT_ATTEMPTED),
                **dict.fromkeys(missing, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            }
        else:
            batched = context.api_version >= FIRST_BATCHED_VERSION
            command = AddPartitions(
                transactional_id=wanted.transactional_id,
                producer_id=wanted.producer_id,
                producer_epoch=wanted.producer_epoch,
                partitions=partitions,
                client_version=FIRST_VERSION_WITH_EPOCH_BUMP if batched else 0,
            )
            errors = await self._ask(context, command, verify_only=wanted.verify_only)
        return AddPartitionsToTxnResult(
            transactional_id=wanted.transactional_id, topic_results=results_of(wanted.topics, errors)
        )

    async def _ask(self, context: RequestContext, command: AddPartitions, *, verify_only: bool) -> Errors:
        try:
            if verify_only:
                errors: Errors = await self.coordinator.ask(
                    command.transactional_id, lambda shard, _now_ms, _token: shard.verify_partitions(command)
                )
                return errors
            batched = context.api_version >= FIRST_BATCHED_VERSION
            add = self.coordinator.ask if batched else self.coordinator.ask_patiently
            code: ErrorCode = await add(
                command.transactional_id, lambda shard, now_ms, _token: shard.add_partitions(command, now_ms)
            )
        except KafkaError as refused:
            code = refused.code
        if code is ErrorCode.PRODUCER_FENCED and context.api_version < FIRST_PRODUCER_FENCED_VERSION:
            code = ErrorCode.INVALID_PRODUCER_EPOCH
        return dict.fromkeys(command.partitions, code)


def partitions_of(topics: list[AddPartitionsToTxnTopic]) -> tuple[TopicPartition, ...]:
    return tuple(dict.fromkeys(TopicPartition(topic.name, index) for topic in topics for index in topic.partitions))


def results_of(topics: list[AddPartitionsToTxnTopic], errors: Errors) -> list[AddPartitionsToTxnTopicResult]:
    """One row a topic, also where the request names it twice."""
    names = dict.fromkeys(topic.name for topic in topics)
    return [
        AddPartitionsToTxnTopicResult(
            name=name,
            results_by_partition=[
                AddPartitionsToTxnPartitionResult(partition_index=key.partition, partition_error_code=int(code))
                for key, code in errors.items()
                if key.topic == name
            ],
        )
        for name in names
    ]

"""DescribeTransactions (65), version 0: what transactional ids are doing, and on which partitions."""

import asyncio

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.transaction_coordinator import TransactionCoordinator
from ottla.transactions.transaction import Transaction
from ottla.wire.errors import KafkaError
from ottla.wire.messages.describe_transactions_request import DescribeTransactionsRequest
from ottla.wire.messages.describe_transactions_response import (
    DescribeTransactionsResponse,
    TopicData,
    TransactionState,
)


class DescribeTransactionsHandler(Struct, frozen=True, kw_only=True):
    """Touches the transaction coordinator; changes nothing."""

    coordinator: TransactionCoordinator

    async def handle(
        self, _context: RequestContext, request: DescribeTransactionsRequest
    ) -> DescribeTransactionsResponse:
        states = await asyncio.gather(*(self._describe(one) for one in request.transactional_ids))
        return DescribeTransactionsResponse(transaction_states=list(states))

    async def _describe(self, transactional_id: str) -> TransactionState:
        try:
            found: Transaction = await self.coordinator.ask(
                transactional_id, lambda shard, _now_ms, _token: shard.describe(transactional_id)
            )
        except KafkaError as error:
            return TransactionState(transactional_id=transactional_id, error_code=int(error.code))
        topics: dict[str, list[int]] = {}
        for topic, partition in found.partitions:
            topics.setdefault(topic, []).append(partition)
        return TransactionState(
            transactional_id=transactional_id,
            transaction_state=found.state.display,
            transaction_timeout_ms=found.timeout_ms,
            transaction_start_time_ms=found.started_ms,
            producer_id=found.producer_id,
            producer_epoch=found.producer_epoch,
            topics=[TopicData(topic=topic, partitions=partitions) for topic, partitions in topics.items()],
        )

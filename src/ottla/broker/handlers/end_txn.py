"""EndTxn (26), versions 0-5: commit or abort a transaction.

Answered once the decision is committed to the coordinator's log; the markers follow, and until all are written the next
transaction of the same id is told CONCURRENT_TRANSACTIONS. v5 is for clients of transaction version 2: the epoch rises
with every transaction (at the last one the producer id changes), and the answer says what both are from now on. Before
v2 PRODUCER_FENCED is INVALID_PRODUCER_EPOCH.
"""

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.transaction_coordinator import TransactionCoordinator
from ottla.transactions.commands import EndTransaction, ProducerResult
from ottla.transactions.transaction import FIRST_VERSION_WITH_EPOCH_BUMP
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.end_txn_request import EndTxnRequest
from ottla.wire.messages.end_txn_response import EndTxnResponse

FIRST_PRODUCER_FENCED_VERSION = 2
FIRST_BUMPING_VERSION = 5


class EndTxnHandler(Struct, frozen=True, kw_only=True):
    """Touches the transaction coordinator."""

    coordinator: TransactionCoordinator

    async def handle(self, context: RequestContext, request: EndTxnRequest) -> EndTxnResponse:
        command = EndTransaction(
            transactional_id=request.transactional_id,
            producer_id=request.producer_id,
            producer_epoch=request.producer_epoch,
            commit=request.committed,
            client_version=FIRST_VERSION_WITH_EPOCH_BUMP if context.api_version >= FIRST_BUMPING_VERSION else 0,
        )
        try:
            result: ProducerResult = await self.coordinator.ask_with_producer_id(
                request.transactional_id, lambda shard, now_ms, _token: shard.end_transaction(command, now_ms)
            )
        except KafkaError as refused:
            result = ProducerResult(error=refused.code)
        error = result.error
        if error is ErrorCode.PRODUCER_FENCED and context.api_version < FIRST_PRODUCER_FENCED_VERSION:
            error = ErrorCode.INVALID_PRODUCER_EPOCH
        return EndTxnResponse(
            error_code=int(error), producer_id=result.producer_id, producer_epoch=result.producer_epoch
        )

"""InitProducerId (22), versions 0-5: an id for an idempotent producer, or the next epoch for a transactional one.

A producer without transactional id gets a fresh id with epoch 0 each time, also when it brings an old id and epoch
(v3+; one without the other is INVALID_REQUEST): nobody else can have used a fresh one. With a transactional id the
coordinator decides: the same producer id with the next epoch, which fences whoever had the id before; an open
transaction is aborted first (CONCURRENT_TRANSACTIONS: come again). Before v4 PRODUCER_FENCED is INVALID_PRODUCER_EPOCH.
"""

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.producer_ids import ProducerIds
from ottla.broker.transaction_coordinator import TransactionCoordinator
from ottla.transactions.commands import InitProducerId, ProducerIdAndEpoch, ProducerResult
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.init_producer_id_request import InitProducerIdRequest
from ottla.wire.messages.init_producer_id_response import InitProducerIdResponse

NOBODY = -1
FIRST_PRODUCER_FENCED_VERSION = 4


class InitProducerIdHandler(Struct, frozen=True, kw_only=True):
    """Takes ids from this broker's block; touches the transaction coordinator."""

    producer_ids: ProducerIds
    coordinator: TransactionCoordinator

    async def handle(self, context: RequestContext, request: InitProducerIdRequest) -> InitProducerIdResponse:
        try:
            if (request.producer_id == NOBODY) != (request.producer_epoch == NOBODY):
                raise KafkaError(ErrorCode.INVALID_REQUEST)
            if request.transactional_id is None:
                return InitProducerIdResponse(producer_id=await self.producer_ids.next(), producer_epoch=0)
            result = await self._init(request, request.transactional_id)
        except KafkaError as refused:
            result = ProducerResult(error=refused.code)
        error = result.error
        if error is ErrorCode.PRODUCER_FENCED and context.api_version < FIRST_PRODUCER_FENCED_VERSION:
            error = ErrorCode.INVALID_PRODUCER_EPOCH
        return InitProducerIdResponse(
            error_code=int(error), producer_id=result.producer_id, producer_epoch=result.producer_epoch
        )

    async def _init(self, request: InitProducerIdRequest, transactional_id: str) -> ProducerResult:
        if not transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        expected = None
        if request.producer_id != NOBODY:
            expected = ProducerIdAndEpoch(producer_id=request.producer_id, producer_epoch=request.producer_epoch)
        command = InitProducerId(
            transactional_id=transactional_id, timeout_ms=request.transaction_timeout_ms, expected=expected
        )
        self.coordinator.check_timeout(command.timeout_ms)
        result: ProducerResult = await self.coordinator.ask_with_producer_id(
            transactional_id, lambda shard, now_ms, _token: shard.init_producer_id(command, now_ms)
        )
        return result

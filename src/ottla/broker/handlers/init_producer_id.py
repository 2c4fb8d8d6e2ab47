"""InitProducerId (22), versions 0-5: an id for an idempotent producer.

A producer without transactional id gets a fresh id with epoch 0 each time, also when it brings an old id and epoch
(v3+; one without the other is INVALID_REQUEST): nobody else can have used a fresh one. Transactional ids need a
transaction coordinator, which this broker does not have yet: COORDINATOR_NOT_AVAILABLE.
"""

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.producer_ids import ProducerIds
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.init_producer_id_request import InitProducerIdRequest
from ottla.wire.messages.init_producer_id_response import InitProducerIdResponse

NOBODY = -1


class InitProducerIdHandler(Struct, frozen=True, kw_only=True):
    """Takes ids from this broker's block."""

    producer_ids: ProducerIds

    async def handle(self, context: RequestContext, request: InitProducerIdRequest) -> InitProducerIdResponse:
        if request.transactional_id is not None:
            code = ErrorCode.INVALID_REQUEST if request.transactional_id == "" else ErrorCode.COORDINATOR_NOT_AVAILABLE
            return InitProducerIdResponse(error_code=int(code), producer_id=-1, producer_epoch=-1)
        if (request.producer_id == NOBODY) != (request.producer_epoch == NOBODY):
            return InitProducerIdResponse(error_code=int(ErrorCode.INVALID_REQUEST), producer_id=-1, producer_epoch=-1)
        try:
            producer_id = await self.producer_ids.next()
        except KafkaError as error:
            return InitProducerIdResponse(error_code=int(error.code), producer_id=-1, producer_epoch=-1)
        return InitProducerIdResponse(error_code=0, producer_id=producer_id, producer_epoch=0)

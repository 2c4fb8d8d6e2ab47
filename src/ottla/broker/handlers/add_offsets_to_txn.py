"""AddOffsetsToTxn (25), versions 0-4: the offsets of a group take part in a transaction.

Which means that the group's partition of ``__consumer_offsets`` does; the topic is brought into being where nobody has
asked for a group yet. Before v2 PRODUCER_FENCED is INVALID_PRODUCER_EPOCH.
"""

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.broker.transaction_coordinator import TransactionCoordinator
from ottla.model import TopicPartition
from ottla.model.internal_topics import CONSUMER_OFFSETS
from ottla.transactions.commands import AddPartitions
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.add_offsets_to_txn_request import AddOffsetsToTxnRequest
from ottla.wire.messages.add_offsets_to_txn_response import AddOffsetsToTxnResponse

FIRST_PRODUCER_FENCED_VERSION = 2


class AddOffsetsToTxnHandler(Struct, frozen=True, kw_only=True):
    """Touches the transaction coordinator; asks the group coordinator where the group's offsets are."""

    coordinator: TransactionCoordinator
    groups: GroupCoordinator

    async def handle(self, context: RequestContext, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse:
        try:
            partition = TopicPartition(CONSUMER_OFFSETS, await self._group_partition(request.group_id))
            command = AddPartitions(
                transactional_id=request.transactional_id,
                producer_id=request.producer_id,
                producer_epoch=request.producer_epoch,
                partitions=(partition,),
            )
            code: ErrorCode = await self.coordinator.ask_patiently(
                request.transactional_id, lambda shard, now_ms, _token: shard.add_partitions(command, now_ms)
            )
        except KafkaError as refused:
            code = refused.code
        if code is ErrorCode.PRODUCER_FENCED and context.api_version < FIRST_PRODUCER_FENCED_VERSION:
            code = ErrorCode.INVALID_PRODUCER_EPOCH
        return AddOffsetsToTxnResponse(error_code=int(code))

    async def _group_partition(self, group_id: str) -> int:
        try:
            return self.groups.partition_of(group_id)
        except KafkaError:
            await self.groups.locate(group_id)
            return self.groups.partition_of(group_id)

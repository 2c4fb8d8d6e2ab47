"""TxnOffsetCommit (28), versions 0-5: offsets that are committed when a transaction is.

They are written with the producer's id and epoch, and stay pending until the marker reaches the same partition. v3+
name the member, so that a consumer whose partitions have gone to somebody else is refused (ILLEGAL_GENERATION,
UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID). Before the first commit of a transaction its coordinator is asked, which for v5+
(transaction version 2) also adds the partition; v4+ are told TRANSACTION_ABORTABLE. Partitions that do not exist are
refused one by one. Before v2 COORDINATOR_LOAD_IN_PROGRESS is COORDINATOR_NOT_AVAILABLE.
"""

from collections.abc import Callable

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.broker.machine_driver import BatchProducer
from ottla.broker.partitions import Partitions
from ottla.broker.transaction_verification import Asking, TransactionVerification
from ottla.groups.commands import CommitOffsets, CommitResult, OffsetToCommit
from ottla.metadata.image import ClusterImage
from ottla.model import TopicPartition, Uuid
from ottla.model.internal_topics import CONSUMER_OFFSETS
from ottla.transactions.verification import Asker, Guard
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.txn_offset_commit_request import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from ottla.wire.messages.txn_offset_commit_response import (
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)

FIRST_LOAD_IN_PROGRESS_VERSION = 2


class TxnOffsetCommitHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator and its partition's guard; asks the transaction coordinator."""

    groups: GroupCoordinator
    partitions: Partitions
    verification: TransactionVerification
    image: Callable[[], ClusterImage]

    async def handle(self, context: RequestContext, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse:
        image = self.image()
        errors: dict[TopicPartition, ErrorCode] = {}
        accepted = []
        for topic in request.topics:
            known = [one for one in topic.partitions if image.partition(topic.name, one.partition_index) is not None]
            if known:
                accepted.append((topic.name, Uuid.ZERO, tuple(_offset(one) for one in known)))
            for one in topic.partitions:
                errors[TopicPartition(topic.name, one.partition_index)] = (
                    ErrorCode.NONE if one in known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                )
        if accepted:
            errors |= await self._commit(context, request, tuple(accepted))
        return TxnOffsetCommitResponse(topics=[_answer(context, topic, errors) for topic in request.topics])

    async def _commit(
        self,
        context: RequestContext,
        request: TxnOffsetCommitRequest,
        topics: tuple[tuple[str, Uuid, tuple[OffsetToCommit, ...]], ...],
    ) -> dict[TopicPartition, ErrorCode]:
        command = CommitOffsets(
            group_id=request.group_id,
            topics=topics,
            member_id=request.member_id,
            group_instance_id=request.group_instance_id,
            generation_or_epoch=request.generation_id,
            unknown_group_error=ErrorCode.ILLEGAL_GENERATION,
            producer_id=request.producer_id,
        )
        try:
            if not request.group_id:
                raise KafkaError(ErrorCode.INVALID_GROUP_ID)
            guard = await self._verify(context, request)
            result: CommitResult = await self.groups.ask(
                request.group_id,
                lambda shard, now_ms, _token: shard.commit_transactional_offsets(command, now_ms),
                producer=BatchProducer(request.producer_id, request.producer_epoch, guard),
            )
        except KafkaError as refused:
            keys = (TopicPartition(name, one.partition) for name, _, offsets in topics for one in offsets)
            return dict.fromkeys(keys, refused.code)
        return {TopicPartition(name, index): code for name, _, codes in result.topics for index, code in codes}

    async def _verify(self, context: RequestContext, request: TxnOffsetCommitRequest) -> Guard | None:
        asking = Asking.of_txn_offset_commit(context.api_version)
        if not self.verification.is_needed(asking):
            return None
        key = TopicPartition(CONSUMER_OFFSETS, self.groups.partition_of(request.group_id))
        try:
            partition = self.partitions.get(*key)
            guard = partition.start_verification(
                Asker(request.producer_id, request.producer_epoch),
                context.now_ms,
                adds_partition=asking.adds_partition,
            )
        except KafkaError as error:
            raise KafkaError(_of_group_log(error.code), error.message) from error
        if guard is None:
            return None
        producer = (request.producer_id, request.producer_epoch)
        refusals = await self.verification.ask(request.transactional_id, producer, (key,), asking)
        if key in refusals:
            raise KafkaError(refusals[key])
        return guard


def _of_group_log(code: ErrorCode) -> ErrorCode:
    elsewhere = code in (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    return ErrorCode.NOT_COORDINATOR if elsewhere else code


def _offset(wanted: TxnOffsetCommitRequestPartition) -> OffsetToCommit:
    return OffsetToCommit(
        partition=wanted.partition_index,
        offset=wanted.committed_offset,
        leader_epoch=wanted.committed_leader_epoch,
        metadata=wanted.committed_metadata,
    )


def _answer(
    context: RequestContext, topic: TxnOffsetCommitRequestTopic, errors: dict[TopicPartition, ErrorCode]
) -> TxnOffsetCommitResponseTopic:
    parts = []
    for one in topic.partitions:
        code = errors[TopicPartition(topic.name, one.partition_index)]
        if code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS and context.api_version < FIRST_LOAD_IN_PROGRESS_VERSION:
            code = ErrorCode.COORDINATOR_NOT_AVAILABLE
        parts.append(TxnOffsetCommitResponsePartition(partition_index=one.partition_index, error_code=int(code)))
    return TxnOffsetCommitResponseTopic(name=topic.name, partitions=parts)

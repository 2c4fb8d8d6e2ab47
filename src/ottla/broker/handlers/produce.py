"""Produce (0), versions 3-13: append record batches; advertised from 0, as old librdkafka clients need.

v13 names topics by id, v12 and older by name. acks=0 is not answered; an error then closes the connection, which is
all a client without answers can notice. acks=1 is answered after the append (with ``ottla.flush=always`` after the
flush), acks=all once the high watermark has passed the records (see ``broker.partition`` for what that promises) or
``timeout_ms`` is over (REQUEST_TIMED_OUT; the records may still become visible). v10+ names the current leader where
this broker is not it.

Records of a transaction need a transactional id (TRANSACTIONAL_ID_AUTHORIZATION_FAILED), and their partition must take
part in the transaction: before the first of them the coordinator is asked (``broker.produce_verification``). v12+ is
for clients of transaction version 2: the same question adds the partition. v11+ are told TRANSACTION_ABORTABLE where an
older client is told INVALID_TXN_STATE; NOT_ENOUGH_REPLICAS stands for "ask again".
"""

from collections.abc import Awaitable
from functools import partial

from msgspec import Struct, field

from ottla.broker.context import RequestContext
from ottla.broker.dispatch import NO_RESPONSE, NoResponse
from ottla.broker.leader_hints import LEADER_ERRORS, LeaderHints
from ottla.broker.partition import Partition
from ottla.broker.partitions import Partitions
from ottla.broker.produce_verification import NO_VERDICTS, Inquiry, Place, ProduceVerification, Verdicts
from ottla.model import TopicPartition
from ottla.net.connection import CloseConnection
from ottla.net.deferred import Deferred
from ottla.records.validate import Origin, RecordsRejected, read_produce_batch
from ottla.runtime.turn import of_running_loop
from ottla.transactions.verification import Guard
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.messages.produce_response import (
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)

VALID_ACKS = (-1, 0, 1)
# Refusals that come before or instead of a look at the log; all others tell where the log starts.
WITHOUT_LOG_START = frozenset(
    (
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.RECORD_LIST_TOO_LARGE,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.KAFKA_STORAGE_ERROR,
    )
)


class Unacknowledged(Struct, frozen=True, kw_only=True):
    """Records that are appended and whose acknowledgement the producer waits for."""

    partition: Partition
    last_offset: int
    acks: int
    result: PartitionProduceResponse


class Turn(Struct, frozen=True, kw_only=True):
    """One request being appended; ``waiting`` collects what is to be acknowledged."""

    context: RequestContext
    request: ProduceRequest
    verdicts: Verdicts
    waiting: list[Unacknowledged] = field(default_factory=list)


class ProduceHandler(Struct, frozen=True, kw_only=True):
    """Touches the partitions, and the hints that tell a client where the leader went; asks about transactions."""

    partitions: Partitions
    leader_hints: LeaderHints
    verification: ProduceVerification

    def handle(
        self, context: RequestContext, request: ProduceRequest
    ) -> ProduceResponse | NoResponse | Deferred[ProduceResponse] | Awaitable[ProduceResponse | NoResponse]:
        transactional_id = request.transactional_id
        if transactional_id is not None:
            try:
                inquiry = self.verification.begin(context, request)
            except KafkaError as error:
                return refuse_all(request, error)
            if inquiry is not None or self.verification.is_busy(transactional_id):
                keep_records(request)
                return self._handle_verified(context, request, inquiry, self.verification.line_up(transactional_id))
        return self._append_all(Turn(context=context, request=request, verdicts=NO_VERDICTS))

    async def _handle_verified(
        self, context: RequestContext, request: ProduceRequest, inquiry: Inquiry | None, place: Place
    ) -> ProduceResponse | NoResponse:
        try:
            verdicts = await self.verification.finish(context, request, inquiry, place)
        except KafkaError as error:
            return refuse_all(request, error)
        answer = self._append_all(Turn(context=context, request=request, verdicts=verdicts))
        return await answer.future() if isinstance(answer, Deferred) else answer

    def _append_all(self, turn: Turn) -> ProduceResponse | NoResponse | Deferred[ProduceResponse]:
        request = turn.request
        response = ProduceResponse(responses=[self._topic(turn, topic) for topic in request.topic_data])
        if request.acks == 0:
            return no_response(response)
        if any(part.error_code in LEADER_ERRORS for topic in response.responses for part in topic.partition_responses):
            self._add_leader_hints(turn.context, response)
        if turn.waiting:
            return Acknowledgement(turn.waiting, response, request.timeout_ms).response
        return response

    def _topic(self, turn: Turn, topic: TopicProduceData) -> TopicProduceResponse:
        name, unknown = topic.name, None
        if turn.context.api_version >= 13:
            try:
                name = self.partitions.topic_name(topic.topic_id)
            except KafkaError as error:
                unknown = error
        results = []
        for part in topic.partition_data:
            result = PartitionProduceResponse(index=part.index, error_code=0, base_offset=-1)
            results.append(result)
            try:
                if unknown is not None:
                    raise unknown
                self._append(turn, self.partitions.get(name, part.index), part, result)
            except KafkaError as error:
                record_error(result, error)
        return TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=results)

    def _append(
        self, turn: Turn, partition: Partition, part: PartitionProduceData, result: PartitionProduceResponse
    ) -> None:
        context, request = turn.context, turn.request
        records = part.records
        assert records is None or isinstance(records, memoryview)
        header = read_produce_batch(records, context.api_version)
        guard = consent(turn, partition.topic_partition) if header.is_transactional else None
        if request.acks not in VALID_ACKS:
            raise KafkaError(ErrorCode.INVALID_REQUIRED_ACKS, f"acks is -1, 0 or 1, not {request.acks}")
        assert records is not None
        try:
            appended = partition.append(
                records,
                origin=Origin.CLIENT,
                required_acks=request.acks,
                now_ms=context.now_ms,
                headers=((0, header),),
                guard=guard,
            )
        except KafkaError as error:
            if error.code not in WITHOUT_LOG_START:
                result.log_start_offset = partition.log.log_start_offset
            raise
        result.base_offset = appended.base_offset
        result.log_append_time_ms = appended.log_append_time
        result.log_start_offset = appended.log_start_offset
        if not partition.is_acknowledged(appended.last_offset, request.acks):
            turn.waiting.append(
                Unacknowledged(partition=partition, last_offset=appended.last_offset, acks=request.acks, result=result)
            )

    def _add_leader_hints(self, context: RequestContext, response: ProduceResponse) -> None:
        """v10+: say who leads the partitions that this broker does not."""
        if context.api_version < 10:
            return
        named = set()
        for topic in response.responses:
            for part in topic.partition_responses:
                if part.error_code not in LEADER_ERRORS:
                    continue
                leader_id, leader_epoch = self.leader_hints.leader(topic.name, topic.topic_id, part.index)
                part.current_leader = LeaderIdAndEpoch(leader_id=leader_id, leader_epoch=leader_epoch)
                named.add(leader_id)
        response.node_endpoints = [
            NodeEndpoint(node_id=node.node_id, host=node.host, port=node.port, rack=node.rack)
            for node in self.leader_hints.endpoints(sorted(named), context.listener_name)
        ]


class Acknowledgement:
    """Waits for every partition of one request; ``response`` resolves when all have acknowledged or time is up."""

    __slots__ = ("_answer", "_timer", "_turn", "_unresolved", "response")

    def __init__(self, waiting: list[Unacknowledged], answer: ProduceResponse, timeout_ms: int) -> None:
        self.response: Deferred[ProduceResponse] = Deferred()
        self._turn = of_running_loop()
        self._answer = answer
        self._unresolved = dict(enumerate(waiting))
        self._timer = self._turn.loop.call_later(max(timeout_ms, 0) / 1000, self._finish)
        for key, item in enumerate(waiting):
            resolve = partial(self._resolve, key)
            if item.partition.when_acknowledged(item.last_offset, resolve, item.acks):
                resolve(None)

    def _resolve(self, key: int, error: KafkaError | None) -> None:
        item = self._unresolved.pop(key, None)
        if item is None:
            return
        if error is not None:
            record_late_error(item.result, error)
        if not self._unresolved:
            self._finish()

    def _finish(self) -> None:
        self._timer.cancel()
        for item in self._unresolved.values():
            record_late_error(item.result, KafkaError(ErrorCode.REQUEST_TIMED_OUT, "not acknowledged in time"))
        self._unresolved.clear()
        # Not within the step that moved the high watermark, and not in the next, in which fetches read what there is:
        # consumers hear of it first.
        self._turn.at_end(partial(self._turn.at_end, partial(self.response.set, self._answer)))


def record_error(result: PartitionProduceResponse, error: KafkaError) -> None:
    result.error_code = int(error.code)
    result.error_message = error.message
    if isinstance(error, RecordsRejected):
        result.record_errors = [
            BatchIndexAndErrorMessage(batch_index=index, batch_index_error_message=message)
            for index, message in error.record_errors
        ]


def record_late_error(result: PartitionProduceResponse, error: KafkaError) -> None:
    """The records are appended, but whether they stay is not known: no offset is promised."""
    record_error(result, error)
    result.base_offset = -1
    result.log_append_time_ms = -1
    result.log_start_offset = -1


def consent(turn: Turn, key: TopicPartition) -> Guard | None:
    """What to append the records of a transaction with. Raises ``KafkaError`` where they may not be appended."""
    if turn.request.transactional_id is None:
        raise KafkaError(
            ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "a transactional batch without a transactional id"
        )
    verdict = turn.verdicts.get(key)
    if isinstance(verdict, KafkaError):
        raise verdict
    return verdict


def keep_records(request: ProduceRequest) -> None:
    """The request has to outlive the buffer that its records lie in."""
    for topic in request.topic_data:
        for part in topic.partition_data:
            if isinstance(part.records, memoryview):
                part.records = memoryview(bytearray(part.records))


def refuse_all(request: ProduceRequest, error: KafkaError) -> ProduceResponse | NoResponse:
    """Every partition gets the same error."""
    response = ProduceResponse()
    for topic in request.topic_data:
        results = [PartitionProduceResponse(index=part.index, base_offset=-1) for part in topic.partition_data]
        for result in results:
            record_error(result, error)
        response.responses.append(
            TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=results)
        )
    return no_response(response) if request.acks == 0 else response


def no_response(response: ProduceResponse) -> NoResponse:
    """acks=0: success is silent, failure closes the connection."""
    for topic in response.responses:
        for part in topic.partition_responses:
            if part.error_code:
                raise CloseConnection(f"produce with acks=0 failed: {ErrorCode(part.error_code).name}")
    return NO_RESPONSE

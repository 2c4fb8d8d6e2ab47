"""Whether the records of a Produce request may be appended, as far as their transaction is concerned.

Only the first records of a transaction on a partition need an answer from elsewhere; everything after them is settled
by what the partition knows itself. The verdict on a partition is a guard to append with, or an error instead.

While one request of a transactional id waits for its answer, all that come after it wait behind it, whether they need
one themselves or not: a later batch must not be appended first.
"""

import asyncio
from collections.abc import Mapping

from msgspec import Struct, field

from ottla.broker.context import RequestContext
from ottla.broker.partitions import Partitions
from ottla.broker.transaction_verification import Asking, TransactionVerification
from ottla.model import TopicPartition
from ottla.records.batch import BatchHeader
from ottla.records.validate import read_produce_batch
from ottla.transactions.verification import Asker, Guard
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.produce_request import ProduceRequest

FIRST_TOPIC_ID_VERSION = 13

Verdicts = Mapping[TopicPartition, Guard | KafkaError]
NO_VERDICTS: Verdicts = {}

_RETRY = frozenset(
    (
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
    )
)


class Inquiry(Struct, kw_only=True):
    """What is asked of the coordinator for one request, and what needed no asking."""

    transactional_id: str
    producer: tuple[int, int]
    asking: Asking
    guards: dict[TopicPartition, Guard] = field(default_factory=dict)
    refused: dict[TopicPartition, KafkaError] = field(default_factory=dict)


class Place(Struct, frozen=True):
    """Of one request in the line of its transactional id: who is before it (``None``: nobody), and when it is done."""

    before: "asyncio.Future[None] | None"
    done: "asyncio.Future[None]"


class ProduceVerification:
    """Touches the partitions' guards; asks the transaction coordinator."""

    def __init__(self, *, partitions: Partitions, verification: TransactionVerification) -> None:
        self._partitions = partitions
        self._verification = verification
        self._last: dict[str, asyncio.Future[None]] = {}
        """By transactional id: done when the last request that waits has its answer."""

    def is_busy(self, transactional_id: str) -> bool:
        """Whether requests of this transactional id have to wait for others."""
        return transactional_id in self._last

    def begin(self, context: RequestContext, request: ProduceRequest) -> Inquiry | None:
        """What has to be asked before ``request`` may be appended; ``None``: nothing.

        Raises ``KafkaError(INVALID_PRODUCER_ID_MAPPING)`` for a request with records of several producers.
        """
        asking = Asking.of_produce(context.api_version)
        assert request.transactional_id is not None
        batches = self._transactional_batches(context, request)
        producers = {(header.producer_id, header.producer_epoch) for header in batches.values()}
        if len(producers) > 1:
            raise KafkaError(
                ErrorCode.INVALID_PRODUCER_ID_MAPPING, "Transactional records contained more than one producer ID"
            )
        if not producers or not self._verification.is_needed(asking):
            return None
        inquiry = Inquiry(transactional_id=request.transactional_id, producer=producers.pop(), asking=asking)
        for key, header in batches.items():
            self._start(inquiry, key, header, context.now_ms)
        return inquiry if inquiry.guards or inquiry.refused else None

    def line_up(self, transactional_id: str) -> Place:
        """Take a place behind all that wait. It has to be taken in the callback that the request came in, lest the next
        one of the same buffer finds nobody waiting; ``finish`` gives it back."""
        done = asyncio.get_running_loop().create_future()
        place = Place(self._last.get(transactional_id), done)
        self._last[transactional_id] = done
        return place

    async def finish(
        self, context: RequestContext, request: ProduceRequest, inquiry: Inquiry | None, place: Place
    ) -> Verdicts:
        """Ask, and wait for the answer. Who resumes with it must append before anything else is awaited."""
        transactional_id = request.transactional_id
        assert transactional_id is not None
        try:
            if place.before is not None:
                await asyncio.wait((place.before,))
                inquiry = self.begin(context, request)
            return NO_VERDICTS if inquiry is None else await self._ask(inquiry)
        finally:
            place.done.set_result(None)
            if self._last.get(transactional_id) is place.done:
                del self._last[transactional_id]

    async def _ask(self, inquiry: Inquiry) -> Verdicts:
        verdicts: dict[TopicPartition, Guard | KafkaError] = {**inquiry.guards, **inquiry.refused}
        if inquiry.guards:
            refusals = await self._verification.ask(
                inquiry.transactional_id, inquiry.producer, tuple(inquiry.guards), inquiry.asking
            )
            verdicts.update((key, _as_produce_error(code, inquiry.asking)) for key, code in refusals.items())
        return verdicts

    def _start(self, inquiry: Inquiry, key: TopicPartition, header: BatchHeader, now_ms: int) -> None:
        asker = Asker(header.producer_id, header.producer_epoch, header.base_sequence)
        try:
            partition = self._partitions.get(*key)
            guard = partition.start_verification(asker, now_ms, adds_partition=inquiry.asking.adds_partition)
        except KafkaError as error:
            inquiry.refused[key] = error
            return
        if guard is not None:
            inquiry.guards[key] = guard

    def _transactional_batches(
        self, context: RequestContext, request: ProduceRequest
    ) -> dict[TopicPartition, BatchHeader]:
        """By partition. What is wrong with the others is found, and told, when they are appended."""
        found = {}
        for topic in request.topic_data:
            for part in topic.partition_data:
                try:
                    name = topic.name
                    if context.api_version >= FIRST_TOPIC_ID_VERSION:
                        name = self._partitions.topic_name(topic.topic_id)
                    records = part.records
                    assert records is None or isinstance(records, memoryview)
                    header = read_produce_batch(records, context.api_version)
                except KafkaError:
                    continue
                if header.is_transactional and header.producer_id >= 0:
                    found[TopicPartition(name, part.index)] = header
        return found


def _as_produce_error(code: ErrorCode, asking: Asking) -> KafkaError:
    if code is ErrorCode.INVALID_TXN_STATE:
        return KafkaError(code, "Partition was not added to the transaction")
    if code in _RETRY or (code is ErrorCode.CONCURRENT_TRANSACTIONS and not asking.adds_partition):
        return KafkaError(
            ErrorCode.NOT_ENOUGH_REPLICAS,
            f"Unable to verify the partition has been added to the transaction. Underlying error: {code.name}",
        )
    return KafkaError(code)

"""ListOffsets (2), versions 1-11: offsets by time, and the special timestamps.

-1 latest (high watermark; last stable offset under read_committed; log end for followers), -2 earliest, -3 the offset
of the largest timestamp, -4 earliest local, -5 latest tiered (nothing is tiered yet: -1), -6 earliest pending upload
(as -5). v4+ answers the leader epoch of the offset found; current_leader_epoch fences stale clients.

Who asks a consumer's question about the end of a log waits for what is on its way to the disk: a producer that has its
acknowledgement, whatever acks it asked for, finds its records counted.
"""

from collections.abc import Awaitable

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.partition import Isolation, Partition
from ottla.broker.partitions import FLUSH_SECONDS, Partitions, flushes_of
from ottla.storage.log import TimestampOffset
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.list_offsets_request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.wire.messages.list_offsets_response import (
    ListOffsetsPartitionResponse,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6
WITHOUT_END = frozenset((EARLIEST, EARLIEST_LOCAL, LATEST_TIERED, EARLIEST_PENDING_UPLOAD))
"""What is found without a look at the end of the log."""
UNKNOWN = -1
LEADER_EPOCH_FROM = 4
NOTHING = TimestampOffset(UNKNOWN, UNKNOWN, UNKNOWN)
CONSUMER = -1
DEBUG_CONSUMER = -2
MIN_VERSION_OF = {MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9, EARLIEST_PENDING_UPLOAD: 11}


class ListOffsetsHandler(Struct, frozen=True, kw_only=True):
    """Reads partitions; changes nothing."""

    partitions: Partitions

    def handle(
        self, context: RequestContext, request: ListOffsetsRequest
    ) -> ListOffsetsResponse | Awaitable[ListOffsetsResponse]:
        isolation = isolation_of(request)
        flushing = [] if isolation is Isolation.LOG_END else self._flushing(request)
        if flushing:
            return self._answer_flushed(context, request, isolation, flushing)
        return self._answer(context, request, isolation)

    async def _answer_flushed(
        self, context: RequestContext, request: ListOffsetsRequest, isolation: Isolation, flushing: list[Partition]
    ) -> ListOffsetsResponse:
        await flushes_of(flushing, FLUSH_SECONDS)
        return self._answer(context, request, isolation)

    def _flushing(self, request: ListOffsetsRequest) -> list[Partition]:
        """The partitions asked about whose end is about to move."""
        return self.partitions.flushing(
            (topic.name, part.partition_index)
            for topic in request.topics
            for part in topic.partitions
            if part.timestamp not in WITHOUT_END
        )

    def _answer(
        self, context: RequestContext, request: ListOffsetsRequest, isolation: Isolation
    ) -> ListOffsetsResponse:
        repeated = repeated_partitions(request)
        return ListOffsetsResponse(
            topics=[
                ListOffsetsTopicResponse(
                    name=topic.name,
                    partitions=[
                        self._partition(context, isolation, topic, part)
                        if (topic.name, part.partition_index) not in repeated
                        else failed(part, ErrorCode.INVALID_REQUEST)
                        for part in {part.partition_index: part for part in topic.partitions}.values()
                    ],
                )
                for topic in request.topics
            ]
        )

    def _partition(
        self, context: RequestContext, isolation: Isolation, topic: ListOffsetsTopic, part: ListOffsetsPartition
    ) -> ListOffsetsPartitionResponse:
        if context.api_version < MIN_VERSION_OF.get(part.timestamp, 0) or part.timestamp < EARLIEST_PENDING_UPLOAD:
            return failed(part, ErrorCode.UNSUPPORTED_VERSION)
        try:
            partition = self.partitions.get(topic.name, part.partition_index)
            partition.require_leader()
            partition.check_leader_epoch(part.current_leader_epoch)
            found = look_up(partition, part.timestamp, isolation)
        except KafkaError as error:
            return failed(part, error.code)
        return ListOffsetsPartitionResponse(
            partition_index=part.partition_index,
            error_code=0,
            timestamp=found.timestamp,
            offset=found.offset,
            leader_epoch=found.leader_epoch if context.api_version >= LEADER_EPOCH_FROM else UNKNOWN,
        )


def isolation_of(request: ListOffsetsRequest) -> Isolation:
    if request.replica_id not in (CONSUMER, DEBUG_CONSUMER):
        return Isolation.LOG_END
    return Isolation.LAST_STABLE if request.isolation_level == 1 else Isolation.HIGH_WATERMARK


def look_up(partition: Partition, timestamp: int, isolation: Isolation) -> TimestampOffset:
    """Timestamp, offset and leader epoch; -1 for what does not exist."""
    upper = partition.upper_bound(isolation)
    log = partition.log
    match timestamp:
        case -1:
            return TimestampOffset(UNKNOWN, upper, log.epochs.latest_epoch)
        case -2 | -4:
            start = log.log_start_offset
            return TimestampOffset(UNKNOWN, start, log.epochs.epoch_at(start))
        case -5 | -6:
            return NOTHING
        case -3:
            found = log.max_timestamp_offset
        case _:
            found = log.offset_for_timestamp(timestamp, upper=upper)
    if found is None or found.offset >= upper:
        return NOTHING
    return found


def repeated_partitions(request: ListOffsetsRequest) -> frozenset[tuple[str, int]]:
    seen: set[tuple[str, int]] = set()
    repeated: set[tuple[str, int]] = set()
    for topic in request.topics:
        for part in topic.partitions:
            key = (topic.name, part.partition_index)
            (repeated if key in seen else seen).add(key)
    return frozenset(repeated)


def failed(part: ListOffsetsPartition, code: ErrorCode) -> ListOffsetsPartitionResponse:
    return ListOffsetsPartitionResponse(
        partition_index=part.partition_index, error_code=int(code), timestamp=UNKNOWN, offset=UNKNOWN
    )

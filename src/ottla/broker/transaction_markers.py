"""The markers that end a transaction: written here, sent to the leaders of partitions, sent again until they are in.

``LocalMarkers`` is what WriteTxnMarkers does on a broker, for a coordinator of this process as for one elsewhere. A
``MarkerChannel`` stands for one broker; ``MarkerSender`` spreads a marker over them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from ottla.broker.group_coordinator import GroupCoordinator
from ottla.broker.machine_driver import ProducerMarker
from ottla.broker.partition import Partition
from ottla.broker.partitions import Partitions
from ottla.metadata.image import ClusterImage
from ottla.model import TopicPartition
from ottla.model.internal_topics import CONSUMER_OFFSETS
from ottla.runtime.clock import Clock
from ottla.runtime.telemetry import get_logger
from ottla.wire.errors import ErrorCode, KafkaError

log = get_logger(__name__)

RETRY_SECONDS_MIN = 0.05
RETRY_SECONDS_MAX = 1.0

MarkerErrors = dict[TopicPartition, ErrorCode]

GONE = frozenset((ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, ErrorCode.UNSUPPORTED_VERSION))
"""The partition will never take a marker: the transaction ends without it."""
RETRIABLE = frozenset(
    (
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.KAFKA_STORAGE_ERROR,
    )
)
_NOT_HERE = frozenset(
    (ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR)
)


class MarkerChannel(Protocol):
    """Where the markers for the partitions of one broker go."""

    async def write(self, marker: ProducerMarker, partitions: Sequence[TopicPartition], /) -> MarkerErrors: ...


class LocalMarkers(Struct, frozen=True, kw_only=True):
    """Markers for partitions that this broker leads."""

    partitions: Partitions
    groups: GroupCoordinator
    clock: Clock
    timeout_seconds: float

    async def write(self, marker: ProducerMarker, partitions: Sequence[TopicPartition]) -> MarkerErrors:
        """Append a marker to each partition, all before the first await, and wait until they are acknowledged."""
        errors: MarkerErrors = {}
        waiting: dict[TopicPartition, asyncio.Future[None]] = {}
        for key in partitions:
            try:
                partition = self.partitions.get(*key)
                acknowledged = partition.acknowledged(self._append(key, partition, marker))
            except KafkaError as error:
                errors[key] = ErrorCode.NOT_LEADER_OR_FOLLOWER if error.code in _NOT_HERE else error.code
                continue
            if acknowledged is None:
                errors[key] = ErrorCode.NONE
            else:
                waiting[key] = acknowledged
        if waiting:
            await asyncio.wait(waiting.values(), timeout=self.timeout_seconds)
        errors |= {key: _outcome(acknowledged) for key, acknowledged in waiting.items()}
        return {key: errors[key] for key in partitions}

    def _append(self, key: TopicPartition, partition: Partition, marker: ProducerMarker) -> int:
        if key.topic == CONSUMER_OFFSETS:
            return self.groups.end_transaction(key.partition, marker)
        return partition.append_marker(marker, self.clock.now_ms()).last_offset


class MarkerSender(Struct, frozen=True, kw_only=True):
    """``channels`` by broker: those that can be reached now."""

    image: Callable[[], ClusterImage]
    channels: Mapping[int, MarkerChannel]

    async def send(
        self, marker: ProducerMarker, partitions: Sequence[TopicPartition], wanted: Callable[[], bool]
    ) -> bool:
        """Have every partition marked. False where it is no longer ``wanted``, or the marker was refused for good.

        A partition that does not exist any more needs no marker.
        """
        missing = list(partitions)
        pause = RETRY_SECONDS_MIN
        while wanted():
            by_leader = self._by_leader(missing)
            outcomes = await asyncio.gather(
                *(self._write(node_id, marker, keys) for node_id, keys in by_leader.items())
            )
            errors = {key: code for outcome in outcomes for key, code in outcome.items()}
            refused = {key: code for key, code in errors.items() if code not in _SETTLED and code not in RETRIABLE}
            if refused:
                log.error("transaction marker refused", producer_id=marker.producer_id, partitions=refused)
                return False
            missing = [key for key, code in errors.items() if code in RETRIABLE]
            if not missing:
                return True
            log.info("transaction markers are sent again", producer_id=marker.producer_id, partitions=missing)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_SECONDS_MAX)
        return False

    def _by_leader(self, partitions: Sequence[TopicPartition]) -> dict[int, list[TopicPartition]]:
        image = self.image()
        found: dict[int, list[TopicPartition]] = {}
        for key in partitions:
            partition = image.partition(*key)
            if partition is not None:
                found.setdefault(partition.leader, []).append(key)
        return found

    def _write(
        self, node_id: int, marker: ProducerMarker, partitions: Sequence[TopicPartition]
    ) -> Awaitable[MarkerErrors]:
        channel = self.channels.get(node_id)
        return _nobody_there(partitions) if channel is None else channel.write(marker, partitions)


_SETTLED = GONE | {ErrorCode.NONE}


async def _nobody_there(partitions: Sequence[TopicPartition]) -> MarkerErrors:
    return dict.fromkeys(partitions, ErrorCode.NOT_LEADER_OR_FOLLOWER)


def _outcome(acknowledged: "asyncio.Future[None]") -> ErrorCode:
    if not acknowledged.done():
        acknowledged.cancel()
        return ErrorCode.REQUEST_TIMED_OUT
    error = acknowledged.exception()
    return error.code if isinstance(error, KafkaError) else ErrorCode.NONE

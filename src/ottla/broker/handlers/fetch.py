"""Fetch (1), versions 4-18: read record batches, as they lie in the file.

v7+ sessions (KIP-227), v9+ leader epochs fence, v12+ divergence from ``last_fetched_epoch``, v13+ topics by id, v15+
replica id in ``replica_state``, v16+ endpoints of the current leaders where this broker is not it. The answer waits
until ``min_bytes`` are visible or ``max_wait_ms`` (a minute at most) is over; errors and divergences are answered at
once. Records leave as file regions, never copied. Nobody reads from followers yet: no preferred replica is named.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import cast

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.dispatch import Written
from ottla.broker.fetching import DelayedFetch, FetchedPartition, FetchLimits, FetchPass, FetchTarget, read_once
from ottla.broker.leader_hints import LEADER_ERRORS, LeaderHints
from ottla.broker.partition import Isolation
from ottla.broker.partitions import Partitions
from ottla.model import Uuid
from ottla.net.connection import Segments
from ottla.net.deferred import Deferred
from ottla.net.outbox import COPIED_BYTES_MAX, read_region
from ottla.replication.fetch_session import (
    FetchContext,
    FetchPartition,
    FetchSession,
    FetchSessionCache,
    PartitionKey,
    PartitionOutcome,
)
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.fetch_mold import fetch_mold
from ottla.wire.messages.fetch_request import FetchRequest
from ottla.wire.messages.fetch_response import (
    AbortedTransaction,
    EpochEndOffset,
    FetchableTopicResponse,
    FetchResponse,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
)
from ottla.wire.mold import AnswerMold

TOPIC_IDS_FROM = 13
REPLICA_STATE_FROM = 15
ENDPOINTS_FROM = 16
READ_COMMITTED = 1
WAIT_MS_MAX = 60_000
"""A fetch outlives its connection until it is over: peers that ask for days and hang up must not pile up here."""
NO_EPOCH = -1
ALIKE = 4
"""A mold pays for itself from the sixth answer on (it takes 20 us to make, and saves 4 us each time)."""
# Answered with an empty list of aborted transactions instead of none, as Apache Kafka does.
UNKNOWN_PARTITION = frozenset((ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID))


class _Usual(Struct):
    """Kept with a session: what its last answer with records of one partition was like, and, from ``ALIKE`` of a kind
    in a row on, the mold for such."""

    kind: tuple[PartitionKey, int, bool]
    """The partition, version, and whether aborted transactions were looked for."""
    alike: int = 1
    mold: AnswerMold | None = None


class FetchHandler(Struct, frozen=True, kw_only=True):
    """``bytes_max`` is ``fetch.max.bytes``: no answer is longer, but for one batch that is."""

    partitions: Partitions
    sessions: FetchSessionCache
    leader_hints: LeaderHints
    bytes_max: int
    now_ms: Callable[[], int]

    def handle(
        self, context: RequestContext, request: FetchRequest
    ) -> FetchResponse | Written | Deferred[FetchResponse | Written]:
        limits = limits_of(context, request, self.bytes_max)
        by_id = context.api_version >= TOPIC_IDS_FROM
        try:
            session = self.sessions.open(
                request.session_id,
                request.session_epoch,
                wishes_of(request, by_id),
                forgotten_of(request, by_id),
                uses_topic_ids=by_id,
                from_follower=limits.replica_id >= 0,
                now_ms=context.now_ms,
            )
        except KafkaError as error:
            return FetchResponse(error_code=int(error.code))
        targets = [self._target(key, wish) for key, wish in session.partitions.items()]
        found = read_once(self.partitions, targets, limits)
        if found.final or found.size >= limits.min_bytes or request.max_wait_ms <= 0 or not targets:
            return self._respond(context, session, found)
        prepare = None
        if by_id and session.session is not None:
            prepare = partial(write_ahead, context, session.session)
        delayed = DelayedFetch(self.partitions, targets, limits, prepare)
        delayed.watch(found.size, min(request.max_wait_ms, WAIT_MS_MAX))
        found.release()
        return delayed.found.map(partial(self._respond, context, session))

    def _target(self, key: PartitionKey, wish: FetchPartition) -> FetchTarget:
        name, partition = key
        topic: str | None
        if isinstance(name, Uuid):
            topic_id = name
            known = self.partitions.image.topics_by_id.get(name)
            topic = None if known is None else known.name
        else:
            assert isinstance(name, str)
            topic_id, topic = Uuid.ZERO, name
        return FetchTarget(
            topic_id=topic_id,
            topic=topic,
            partition=partition,
            fetch_offset=wish.fetch_offset,
            max_bytes=wish.max_bytes,
            current_leader_epoch=wish.current_leader_epoch,
            last_fetched_epoch=wish.last_fetched_epoch,
            log_start_offset=wish.log_start_offset,
        )

    def _respond(self, context: RequestContext, session: FetchContext, found: FetchPass) -> FetchResponse | Written:
        by_id = session.uses_topic_ids
        by_key: dict[PartitionKey, FetchedPartition] = {}
        outcomes: dict[PartitionKey, PartitionOutcome] = {}
        for fetched in found.partitions:
            target = fetched.target
            key: PartitionKey = (target.topic_id if by_id else target.topic or ""), target.partition
            by_key[key] = fetched
            outcomes[key] = PartitionOutcome(
                records_bytes=fetched.size,
                high_watermark=fetched.high_watermark,
                log_start_offset=fetched.log_start_offset,
                error_code=ErrorCode.NONE if fetched.error is None else fetched.error.code,
                diverging_epoch=fetched.diverging is not None,
            )
        answer = session.finish(outcomes, self.now_ms())
        continued = session.session
        if len(answer.partitions) == 1 and by_id and continued is not None:
            (key,) = answer.partitions
            if found.frame is not None:
                found.release()
                return Written(found.frame)
            frame = written(context, continued, key, by_key[key])
            if frame is not None:
                del by_key[key]
                for fetched in by_key.values():
                    fetched.release()
                return Written(frame)
        response = FetchResponse(error_code=int(answer.error_code), session_id=answer.session_id)
        leaders: set[int] = set()
        topic: FetchableTopicResponse | None = None
        for key in answer.partitions:
            fetched = by_key.pop(key)
            target = fetched.target
            name = "" if session.uses_topic_ids else target.topic or ""
            if topic is None or (topic.topic, topic.topic_id) != (name, target.topic_id):
                topic = FetchableTopicResponse(topic=name, topic_id=target.topic_id)
                response.responses.append(topic)
            topic.partitions.append(self._partition_data(fetched, leaders, context.api_version))
        for fetched in by_key.values():
            fetched.release()
        if leaders and context.api_version >= ENDPOINTS_FROM:
            response.node_endpoints = [
                NodeEndpoint(node_id=node.node_id, host=node.host, port=node.port, rack=node.rack)
                for node in self.leader_hints.endpoints(sorted(leaders), context.listener_name)
            ]
        return response

    def _partition_data(self, fetched: FetchedPartition, leaders: set[int], version: int) -> PartitionData:
        data = PartitionData(
            partition_index=fetched.target.partition,
            error_code=0,
            high_watermark=fetched.high_watermark,
            last_stable_offset=fetched.last_stable_offset,
            log_start_offset=fetched.log_start_offset,
            aborted_transactions=None,
            records=b"" if fetched.region is None else fetched.region,
        )
        if fetched.diverging is not None:
            data.diverging_epoch = EpochEndOffset(epoch=fetched.diverging[0], end_offset=fetched.diverging[1])
        if fetched.aborted is not None:
            data.aborted_transactions = [
                AbortedTransaction(producer_id=producer_id, first_offset=first_offset)
                for producer_id, first_offset in fetched.aborted
            ]
        if fetched.error is not None:
            data.error_code = int(fetched.error.code)
            if fetched.error.code in UNKNOWN_PARTITION:
                data.aborted_transactions = []
            if fetched.error.code in LEADER_ERRORS and version >= ENDPOINTS_FROM:
                self._add_leader(data, fetched.target, leaders)
        return data

    def _add_leader(self, data: PartitionData, target: FetchTarget, leaders: set[int]) -> None:
        leader_id, leader_epoch = self.leader_hints.leader(target.topic or "", target.topic_id, target.partition)
        data.current_leader = LeaderIdAndEpoch(leader_id=leader_id, leader_epoch=leader_epoch)
        leaders.add(leader_id)


def write_ahead(context: RequestContext, session: FetchSession, found: FetchPass) -> None:
    """Write the answer that ``found`` will be, if it is like the session's last and small."""
    (fetched,) = found.partitions
    region = fetched.region
    if region is None or len(region) > COPIED_BYTES_MAX:
        return
    key = fetched.target.topic_id, fetched.target.partition
    try:
        frame = written(context, session, key, fetched)
        if frame is not None:
            parts = [part if isinstance(part, (bytes, bytearray, memoryview)) else read_region(part) for part in frame]
            found.frame = [b"".join(parts)]
    except OSError:
        # Whoever reads when it is time is told.
        return


def written(
    context: RequestContext, session: FetchSession, key: PartitionKey, fetched: FetchedPartition
) -> Segments | None:
    """The answer of a session that brings records of one partition, as the one before did."""
    region = fetched.region
    if region is None or fetched.aborted:
        return None
    looks_for_aborted = fetched.aborted is not None
    kind = key, context.api_version, looks_for_aborted
    usual = session.memo
    if not isinstance(usual, _Usual) or usual.kind != kind:
        session.memo = _Usual(kind)
        return None
    if usual.mold is None:
        usual.alike += 1
        if usual.alike < ALIKE:
            return None
        target = fetched.target
        usual.mold = fetch_mold(
            context.api_version,
            session.session_id,
            target.topic_id,
            target.partition,
            looks_for_aborted=looks_for_aborted,
        )
    ends = fetched.high_watermark, fetched.last_stable_offset, fetched.log_start_offset
    return cast(Segments, usual.mold.write(context.header.correlation_id, ends, region))


def limits_of(context: RequestContext, request: FetchRequest, bytes_max: int) -> FetchLimits:
    in_state = context.api_version >= REPLICA_STATE_FROM
    replica_id = request.replica_state.replica_id if in_state else request.replica_id
    if replica_id >= 0:
        isolation = Isolation.LOG_END
    elif request.isolation_level == READ_COMMITTED:
        isolation = Isolation.LAST_STABLE
    else:
        isolation = Isolation.HIGH_WATERMARK
    max_bytes = max(0, min(request.max_bytes, bytes_max))
    return FetchLimits(
        max_bytes=max_bytes,
        min_bytes=min(request.min_bytes, max_bytes),
        isolation=isolation,
        replica_id=replica_id,
        replica_epoch=request.replica_state.replica_epoch if in_state else -1,
        now_ms=context.now_ms,
    )


def wishes_of(request: FetchRequest, by_id: bool) -> dict[PartitionKey, FetchPartition]:
    return {
        (topic.topic_id if by_id else topic.topic, part.partition): FetchPartition(
            fetch_offset=part.fetch_offset,
            max_bytes=part.partition_max_bytes,
            current_leader_epoch=max(part.current_leader_epoch, NO_EPOCH),
            last_fetched_epoch=part.last_fetched_epoch,
            log_start_offset=part.log_start_offset,
        )
        for topic in request.topics
        for part in topic.partitions
    }


def forgotten_of(request: FetchRequest, by_id: bool) -> Iterable[PartitionKey]:
    for topic in request.forgotten_topics_data:
        for partition in topic.partitions:
            yield (topic.topic_id if by_id else topic.topic), partition

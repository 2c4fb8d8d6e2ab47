"""One partition on this broker: its log, its leader ledger, and who waits for either.

Invariants:
- ``append`` is one synchronous block: producer check, stamp, write, ledger. Nothing awaits in between.
- Consumers see an offset only below the high watermark, and this replica counts towards the high watermark only with
  what is as durable as ``ottla.flush`` asks. So with a flush policy that waits, nothing a consumer has ever read, and
  nothing an acks=all producer was told, is lost by a power cut.
- After a failed flush or write nothing more is acknowledged: the partition answers KAFKA_STORAGE_ERROR.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, StrEnum
from functools import partial
from typing import NamedTuple, Protocol

from msgspec import Struct

from ottla.broker.waiters import DataWaiters, OffsetWaiters, Resolve
from ottla.config.log import LogConfig
from ottla.metadata.image import PartitionImage
from ottla.model import TopicPartition, Uuid
from ottla.records.batch import BatchHeader, Codec, TimestampType, iter_headers, read_header, stamp
from ottla.records.compression import CompressionLevels
from ottla.records.control import EndTransaction, end_transaction_batch
from ottla.records.validate import Origin, ProduceRules, validate
from ottla.replication.leader import IsrChange, LeaderLedger, LeaderRecoveryState, PartitionState
from ottla.runtime.futures import settle
from ottla.runtime.telemetry import get_logger
from ottla.storage.log import Log
from ottla.storage.region import FileRegion
from ottla.transactions.producer_state import Duplicate
from ottla.transactions.verification import Asker, Guard, Verifications
from ottla.wire.errors import ErrorCode, KafkaError

log = get_logger(__name__)

ACKS_ALL = -1
NO_EPOCH = -1
UNSEEN_MAX = 1000
"""Appends whose bytes are counted apart while they are not visible; more than that count together."""


class FlushPolicy(StrEnum):
    """``ottla.flush``: when this replica waits for its disk before it counts. AUTO: while nobody else is in sync."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Isolation(Enum):
    """How far a fetch may see."""

    LOG_END = "log_end"
    HIGH_WATERMARK = "high_watermark"
    LAST_STABLE = "last_stable"


class AppendResult(NamedTuple):
    """Where the records went. ``log_append_time`` is -1 unless the broker set the timestamps."""

    base_offset: int
    last_offset: int
    log_append_time: int
    log_start_offset: int
    duplicate: bool


class Marker(Protocol):
    """The end of a producer's transaction, as a coordinator of that transaction version writes it."""

    @property
    def producer_id(self) -> int: ...

    @property
    def producer_epoch(self) -> int: ...

    @property
    def end(self) -> EndTransaction: ...

    @property
    def transaction_version(self) -> int: ...


class Flushes(Protocol):
    """Group commit: resolves when the log has reached the disk up to an offset (its recovery point says so too).

    What is not ``awaited`` may take its time, until somebody calls ``hurry``.
    """

    def when_flushed(self, log: Log, offset: int, resolve: Resolve, /, *, awaited: bool) -> None: ...

    def hurry(self, log: Log, /) -> None: ...


class FollowerFetch(Protocol):
    """What a follower's fetch says of one partition."""

    @property
    def fetch_offset(self) -> int: ...

    @property
    def log_start_offset(self) -> int: ...


class PartitionSettings(Struct, frozen=True, kw_only=True):
    """What all partitions of a broker share. ``propose_isr`` carries a change of the ISR to the controller;
    ``verify_transactions`` says whether records of a transaction must bring the coordinator's consent."""

    flush_policy: FlushPolicy
    flushes: Flushes
    decompressed_bytes_max: int
    replica_lag_time_max_ms: int
    propose_isr: Callable[["Partition", IsrChange], None]
    verify_transactions: Callable[[], bool] = lambda: True


class Foresight(Struct, frozen=True, kw_only=True):
    """What readers of the high watermark will find once the flush under way has ended; until then it is for nobody to
    see, and ``Partition.came_true`` says whether that is all that has happened. ``region`` is to be released."""

    region: FileRegion
    high_watermark: int
    log_start_offset: int
    log: Log
    ledger: LeaderLedger


class Partition:
    """A partition this broker holds a replica of. Leader or not, it owns the log."""

    def __init__(
        self,
        *,
        topic_partition: TopicPartition,
        topic_id: Uuid,
        node_id: int,
        log: Log,
        high_watermark: int,
        settings: PartitionSettings,
    ) -> None:
        self.topic_partition = topic_partition
        self.topic_id = topic_id
        self.log = log
        self.leader_id = -1
        self.leader_epoch = NO_EPOCH
        self.partition_epoch = NO_EPOCH
        self._node_id = node_id
        self._settings = settings
        self._rules: dict[Origin, ProduceRules] = {}
        self._rules_made_for: LogConfig | None = None
        self._checkpointed_high_watermark = high_watermark
        self._ledger: LeaderLedger | None = None
        self._offline: KafkaError | None = None
        self._flush_running = False
        self._acknowledgements = OffsetWaiters()
        self._flush_waiters = OffsetWaiters()
        self.data_waiters = DataWaiters()
        self._verifications = Verifications()
        self._unseen: deque[tuple[int, int]] = deque()
        """What was appended and is not visible yet: where it ends, and its bytes."""

    # -- state -------------------------------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        return self._ledger is not None

    @property
    def is_flushing(self) -> bool:
        """Whether records are on their way to the disk."""
        return self._flush_running

    def require_leader(self) -> LeaderLedger:
        """The leader's ledger. Raises ``KafkaError`` where this broker is not the leader or the log is offline."""
        if self._offline is not None:
            raise self._offline
        if self._ledger is None:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"this broker does not lead {self.topic_partition}")
        return self._ledger

    @property
    def high_watermark(self) -> int:
        return self._ledger.high_watermark if self._ledger is not None else self._checkpointed_high_watermark

    @property
    def last_stable_offset(self) -> int:
        """Where a read_committed consumer must stop: the first offset whose transaction is undecided."""
        unstable = self.log.producers.first_unstable_offset
        high_watermark = self.high_watermark
        if unstable is None:
            return high_watermark
        # Records of an open transaction may have been deleted: nobody can be sent to read from there.
        return min(max(unstable, self.log.log_start_offset), high_watermark)

    def apply_image(self, image: PartitionImage, now_ms: int) -> None:
        """Take over what the controller decided: leadership, replicas, ISR, epochs."""
        if image.partition_epoch <= self.partition_epoch:
            return
        new_term = image.leader_epoch != self.leader_epoch
        self.leader_id = image.leader
        self.leader_epoch = image.leader_epoch
        self.partition_epoch = image.partition_epoch
        if image.leader != self._node_id:
            self._resign()
        elif self._ledger is None or new_term:
            self._lead(state_of(image), now_ms)
        else:
            ledger = self._ledger
            if ledger.apply_partition_state(state_of(image), self._counted_offset(image.isr), now_ms) is not None:
                self._woken(ledger)
            # Alone in the ISR this replica may have to flush what followers vouched for until now.
            self._appended(ledger)
            self._propose_recovered(ledger)

    def set_offline(self, reason: str) -> None:
        """The log cannot be trusted any more: everything that waits, and everything that comes, is told so."""
        self._offline = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, reason)
        self._fail_waiters(self._offline)
        self.data_waiters.notify(0)

    def set_deleted(self) -> None:
        """The topic is gone, or the replica lives elsewhere now."""
        self._hurry()
        self._ledger = None
        self._offline = KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{self.topic_partition} was deleted")
        self._fail_waiters(self._offline)
        self.data_waiters.notify(0)

    def replace_log(self, log: Log) -> None:
        """The replica has moved to another log directory: ``log`` has everything this one has, as durable."""
        # A log that is given up does not rest.
        self._hurry()
        assert log.log_end_offset == self.log.log_end_offset
        assert log.recovery_point >= min(self.log.recovery_point, log.log_end_offset)
        self.log = log
        log.producers.record_high_watermark(self.high_watermark)
        if self._ledger is not None:
            self._flush_waiters.advance(log.recovery_point)
            self._appended(self._ledger)

    def set_config(self, config: LogConfig) -> None:
        """The topic's configuration changed; it holds from the next append on."""
        self.log.config = config
        if self._ledger is not None:
            self._ledger.min_insync_replicas = config.min_insync_replicas

    def check_leader_epoch(self, current_leader_epoch: int) -> None:
        """Compare the epoch a client believes in with ours (-1: it does not say)."""
        if current_leader_epoch in (NO_EPOCH, self.leader_epoch):
            return
        if current_leader_epoch < self.leader_epoch:
            raise KafkaError(ErrorCode.FENCED_LEADER_EPOCH, f"the leader epoch is {self.leader_epoch} by now")
        raise KafkaError(ErrorCode.UNKNOWN_LEADER_EPOCH, f"the leader epoch is still {self.leader_epoch}")

    # -- append ------------------------------------------------------------------------------------------------------

    def append(
        self,
        records: memoryview | bytes,
        *,
        origin: Origin,
        required_acks: int,
        now_ms: int,
        headers: Sequence[tuple[int, BatchHeader]] | None = None,
        guard: Guard | None = None,
    ) -> AppendResult:
        """Append as leader; ``headers`` are the batches of ``records`` where the caller has read them already.
        ``guard`` is what ``start_verification`` gave, where the first records of a transaction are appended.

        Raises ``KafkaError``; then nothing was appended.
        """
        ledger = self.require_leader()
        if required_acks == ACKS_ALL:
            ledger.check_acks_all()
        if headers is None:
            headers = list(iter_headers(records))
        batches, headers, log_append_time, _ = validate(records, headers, self._rules_for(origin), now_ms)
        log = self.log
        offset = base_offset = log.log_end_offset
        placed: list[tuple[int, BatchHeader]] = []
        for position, header in headers:
            if header.producer_id >= 0 and not header.is_control:
                if header.is_transactional:
                    duplicate = self._check_transactional(header, origin, guard)
                else:
                    duplicate = log.producers.check(header, origin)
                if duplicate is not None:
                    return self._duplicate(duplicate)
            stamp(batches, position, base_offset=offset, leader_epoch=self.leader_epoch)
            placed.append((position, BatchHeader._make((offset, header[1], self.leader_epoch, *header[3:]))))
            offset += header.last_offset_delta + 1
        log.append(batches, placed, now_ms)
        if self._verifications:
            for _, header in headers:
                self._verifications.record(header)
        size = len(batches)
        if len(self._unseen) == UNSEEN_MAX:
            size += self._unseen.pop()[1]
        self._unseen.append((offset, size))
        self._appended(ledger, awaited=required_acks == ACKS_ALL)
        return AppendResult(base_offset, offset - 1, log_append_time, log.log_start_offset, duplicate=False)

    def append_marker(self, marker: Marker, now_ms: int) -> AppendResult:
        """Append the end of a transaction as leader. Raises ``KafkaError``; then nothing was appended."""
        self.require_leader()
        batch = bytearray(
            end_transaction_batch(
                marker.end,
                producer_id=marker.producer_id,
                producer_epoch=marker.producer_epoch,
                timestamp=now_ms,
            )
        )
        header = read_header(batch)
        self.log.producers.check_marker(header, marker.end, transaction_version=marker.transaction_version)
        return self.append(
            memoryview(batch),
            origin=Origin.COORDINATOR,
            required_acks=ACKS_ALL,
            now_ms=now_ms,
            headers=((0, header),),
        )

    def start_verification(self, asker: Asker, now_ms: int, *, adds_partition: bool) -> Guard | None:
        """What records of a transaction must bring along once the coordinator has consented; ``None``: nothing.

        Raises ``KafkaError``: not the leader, or INVALID_PRODUCER_EPOCH.
        """
        self.require_leader()
        return self._verifications.start(self.log.producers, asker, now_ms, adds_partition=adds_partition)

    def expire_producers(self, now_ms: int, after_ms: int) -> None:
        """Forget producers, and questions to transaction coordinators, that nobody has come back for."""
        self.log.producers.expiration_ms = after_ms
        self.log.producers.expire(now_ms)
        self._verifications.expire(now_ms, after_ms)

    def _check_transactional(self, header: BatchHeader, origin: Origin, guard: Guard | None) -> Duplicate | None:
        """In Kafka's order: a duplicate is answered before anything else is asked of it."""
        producers = self.log.producers
        from_client = origin is Origin.CLIENT
        if from_client:
            duplicate = producers.duplicate_of(header)
            if duplicate is not None:
                return duplicate
        self._verifications.check(producers, header, guard, required=self._settings.verify_transactions())
        if from_client:
            self._verifications.check_sequence(producers, header)
        return producers.check(header, origin)

    def _duplicate(self, duplicate: Duplicate) -> AppendResult:
        """The offsets of the first attempt, and the batch's timestamp: the append time it got then, or, as Apache Kafka
        answers it, the producer's own."""
        return AppendResult(
            duplicate.base_offset, duplicate.last_offset, duplicate.timestamp, self.log.log_start_offset, duplicate=True
        )

    def is_acknowledged(self, last_offset: int, required_acks: int) -> bool:
        """Whether an append up to ``last_offset`` may be answered: acks=all by the high watermark, acks=1 at once, or
        with ``ottla.flush=always``, or where ``flush.messages`` asks for it, once this replica has flushed it."""
        if required_acks == ACKS_ALL:
            return self._ledger is not None and self._ledger.high_watermark > last_offset
        log = self.log
        if self._settings.flush_policy is not FlushPolicy.ALWAYS and not log.flush_messages_due:
            return True
        return log.recovery_point > last_offset

    def when_acknowledged(self, last_offset: int, resolve: Resolve, required_acks: int = ACKS_ALL) -> bool:
        """Whether ``last_offset`` is acknowledged already; if not, ``resolve`` is called when it is, or it fails, be
        that now."""
        if self.is_acknowledged(last_offset, required_acks):
            return True
        try:
            self.require_leader()
        except KafkaError as error:
            # Those who wait have been told; this one would wait for ever.
            resolve(error)
            return False
        waiters = self._acknowledgements if required_acks == ACKS_ALL else self._flush_waiters
        waiters.add(last_offset + 1, resolve)
        self._hurry()
        return False

    def settled(self) -> "asyncio.Future[None] | None":
        """Resolves when all of the log is flushed and counts towards the high watermark; None: nothing is on its way to
        the disk. Fails with ``KafkaError``."""
        if not self._flush_running:
            return None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flush_waiters.add(self.log.log_end_offset, partial(settle, future))
        self._hurry()
        return future

    def acknowledged(self, last_offset: int) -> "asyncio.Future[None] | None":
        """The same as a future, or None where there is nothing to wait for."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        return None if self.when_acknowledged(last_offset, partial(settle, future)) else future

    # -- read --------------------------------------------------------------------------------------------------------

    def read(self, offset: int, max_bytes: int, *, isolation: Isolation, at_least_one: bool) -> FileRegion | None:
        """A run of whole-file bytes from the batch that holds ``offset``; None where there is nothing yet.

        Raises ``KafkaError(OFFSET_OUT_OF_RANGE)`` below the log's start or above its end.
        """
        if self._offline is not None:
            raise self._offline
        upper = self.upper_bound(isolation)
        log = self.log
        if offset < log.log_start_offset or offset > log.log_end_offset:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"{self.topic_partition} holds {log.log_start_offset} to {log.log_end_offset}, not {offset}",
            )
        if offset >= upper:
            if isolation is not Isolation.LOG_END:
                self._hurry()
            return None
        return log.read(offset, max_bytes, upper=upper, at_least_one=at_least_one)

    def foresee(self, offset: int, max_bytes: int) -> Foresight | None:
        """What ``read`` from ``offset`` will give, one batch at least, as soon as what is being flushed is visible;
        ``None`` where that is nothing, or not all that it depends on."""
        log, ledger = self.log, self._ledger
        end = log.log_end_offset
        waits_for_flush = self._flush_running and ledger is not None and len(ledger.isr) == 1
        undecided = log.producers.first_unstable_offset is not None
        if not waits_for_flush or undecided or not log.log_start_offset <= offset < end or ledger is None:
            return None
        region = log.read(offset, max_bytes, upper=end, at_least_one=True)
        if region is None:
            return None
        return Foresight(
            region=region, high_watermark=end, log_start_offset=log.log_start_offset, log=log, ledger=ledger
        )

    def came_true(self, foresight: Foresight) -> bool:
        """Whether ``read`` would give now what was foreseen, the same term being under way.

        A transaction that has begun since begins behind it.
        """
        log, ledger = self.log, self._ledger
        return (
            ledger is foresight.ledger
            and log is foresight.log
            and self._offline is None
            and ledger.high_watermark == foresight.high_watermark
            and log.log_start_offset == foresight.log_start_offset
        )

    def upper_bound(self, isolation: Isolation) -> int:
        """The first offset that a reader of this isolation may not see."""
        match isolation:
            case Isolation.LOG_END:
                return self.log.log_end_offset
            case Isolation.HIGH_WATERMARK:
                return self.high_watermark
            case Isolation.LAST_STABLE:
                return self.last_stable_offset

    def aborted_transactions(self, offset: int, region: FileRegion | None) -> list[tuple[int, int]]:
        """Producer id and first offset of each aborted transaction that a fetch of ``region`` from ``offset`` meets.

        Raises ``KafkaError(KAFKA_STORAGE_ERROR)``.
        """
        if region is None:
            return []
        try:
            found = self.log.aborted_transactions(offset, self.last_stable_offset)
        except OSError as error:
            raise self.log.unreadable(error) from error
        return [(aborted.producer_id, aborted.first_offset) for aborted in found]

    def record_fetch(self, target: FollowerFetch, replica_id: int, broker_epoch: int, now_ms: int) -> None:
        """A follower fetched. Raises ``KafkaError`` for a node that is no replica."""
        ledger = self.require_leader()
        facts = ledger.record_fetch(
            replica_id,
            target.fetch_offset,
            now_ms,
            log_start_offset=target.log_start_offset,
            broker_epoch=broker_epoch,
        )
        if facts.high_watermark is not None:
            self._woken(ledger)
        if facts.isr_change is not None:
            self._settings.propose_isr(self, facts.isr_change)

    def waits_for(self, change: IsrChange) -> bool:
        """Whether ``change`` has been proposed and nothing is known of what became of it."""
        return self._ledger is not None and self._ledger.pending_change is change

    def drop_proposal(self, change: IsrChange) -> None:
        """The controller refused ``change``."""
        if self._ledger is not None and self._ledger.drop_proposal(change) is not None:
            self._woken(self._ledger)

    def end_offset_for_epoch(self, leader_epoch: int) -> tuple[int, int]:
        """The largest epoch up to ``leader_epoch`` that this log knows, and where it ended; (-1, -1) if none."""
        return self.log.epochs.end_offset_for(leader_epoch, self.log.log_end_offset)

    def delete_records_before(self, offset: int) -> int:
        """Move the log's start (-1: to the high watermark). Returns the new low watermark."""
        high_watermark = self.require_leader().high_watermark
        wanted = high_watermark if offset == -1 else offset
        if wanted < 0 or wanted > high_watermark:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE, f"{offset} is not between 0 and the high watermark {high_watermark}"
            )
        if "delete" not in self.log.config.cleanup_policy:
            raise KafkaError(ErrorCode.POLICY_VIOLATION, "records of a topic without cleanup.policy=delete stay")
        self.log.advance_log_start(wanted)
        return self.log.log_start_offset

    # -- private -----------------------------------------------------------------------------------------------------

    def _lead(self, state: PartitionState, now_ms: int) -> None:
        end = self.log.log_end_offset
        self._verifications.clear()
        try:
            self.log.epochs.assign(state.leader_epoch, end)
        except OSError as error:
            self.log.fail(error)
        self._ledger = LeaderLedger(
            node_id=self._node_id,
            state=state,
            log_end_offset=self._counted_offset(state.isr),
            high_watermark=self.high_watermark,
            now_ms=now_ms,
            min_insync_replicas=self.log.config.min_insync_replicas,
            replica_lag_time_max_ms=self._settings.replica_lag_time_max_ms,
        )
        # Recovery takes every transaction it meets for one whose marker nobody else has yet.
        self.log.producers.record_high_watermark(self._ledger.high_watermark)
        log.debug("became leader", partition=self.topic_partition, epoch=self.leader_epoch, log_end_offset=end)
        self._appended(self._ledger)
        self._propose_recovered(self._ledger)

    def _propose_recovered(self, ledger: LeaderLedger) -> None:
        """Elected from outside the ISR (after a kill, say): the log is as good as it gets once it is open."""
        change = ledger.propose_recovered()
        if change is not None:
            self._settings.propose_isr(self, change)

    def _resign(self) -> None:
        if self._ledger is None:
            return
        self._checkpointed_high_watermark = self._ledger.high_watermark
        self._ledger = None
        self._fail_waiters(
            KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{self.topic_partition} is led by {self.leader_id} now")
        )
        self.data_waiters.notify(0)

    def _rules_for(self, origin: Origin) -> ProduceRules:
        """The rules of the log's present configuration: made once, and again when the configuration changes."""
        if self._rules_made_for is not self.log.config:
            self._rules.clear()
            self._rules_made_for = self.log.config
        rules = self._rules.get(origin)
        if rules is None:
            rules = self._rules[origin] = produce_rules(self.log.config, origin, self._settings.decompressed_bytes_max)
        return rules

    def _counted_offset(self, isr: tuple[int, ...]) -> int:
        """Up to where this replica counts towards the high watermark: what the flush policy calls safe."""
        log = self.log
        match self._settings.flush_policy:
            case FlushPolicy.ALWAYS:
                waits = True
            case FlushPolicy.NEVER:
                waits = log.flush_messages_due
            case FlushPolicy.AUTO:
                waits = len(isr) == 1 or log.flush_messages_due
        return min(log.recovery_point, log.log_end_offset) if waits else log.log_end_offset

    def _appended(self, ledger: LeaderLedger, *, awaited: bool = False) -> None:
        counted = self._counted_offset(ledger.isr)
        # Who was told to wait for a flush gets one, even where none would be due by now.
        if counted < self.log.log_end_offset or self._flush_waiters:
            self._ensure_flush(awaited)
        if ledger.record_append(counted) is not None:
            self._woken(ledger)

    def _ensure_flush(self, awaited: bool) -> None:
        """``awaited``: somebody is about to wait for it, if nobody does yet."""
        if not self._flush_running:
            self._flush_running = True
            log = self.log
            awaited = awaited or bool(self._acknowledgements or self._flush_waiters or self.data_waiters)
            self._settings.flushes.when_flushed(log, log.log_end_offset, partial(self._flushed, log), awaited=awaited)
            self.data_waiters.announce()

    def _hurry(self) -> None:
        """Somebody waits by now for what the flush under way makes visible."""
        if self._flush_running:
            self._settings.flushes.hurry(self.log)

    def _flushed(self, log: Log, error: KafkaError | None) -> None:
        self._flush_running = False
        if log is not self.log or (error is not None and error.code is ErrorCode.NOT_LEADER_OR_FOLLOWER):
            # Moved to another directory meanwhile, or truncated: what became of that flush says nothing of this log.
            error = None
        if error is not None:
            self.set_offline(f"flush of {self.topic_partition}: {error}")
        elif self._ledger is not None:
            self._flush_waiters.advance(self.log.recovery_point)
            self._appended(self._ledger)

    def _fail_waiters(self, error: KafkaError) -> None:
        self._acknowledgements.fail(error)
        self._flush_waiters.fail(error)

    def _woken(self, ledger: LeaderLedger) -> None:
        """The high watermark moved: wake who waited for it."""
        high_watermark, unseen, visible = ledger.high_watermark, self._unseen, 0
        while unseen and unseen[0][0] <= high_watermark:
            visible += unseen.popleft()[1]
        # The end of a transaction sets free what readers of committed records were told of long ago: they look again.
        sets_free = self.log.producers.record_high_watermark(high_watermark)
        self.data_waiters.notify(0 if sets_free else visible)
        self._acknowledgements.advance(high_watermark)


def state_of(image: PartitionImage) -> PartitionState:
    """The controller's decision in the ledger's terms."""
    return PartitionState(
        leader_epoch=image.leader_epoch,
        partition_epoch=image.partition_epoch,
        replicas=image.replicas,
        isr=image.isr,
        adding_replicas=image.adding_replicas,
        removing_replicas=image.removing_replicas,
        leader_recovery_state=(LeaderRecoveryState.RECOVERING if image.recovering else LeaderRecoveryState.RECOVERED),
    )


def produce_rules(config: LogConfig, origin: Origin, decompressed_bytes_max: int) -> ProduceRules:
    """What a log's configuration asks of batches."""
    codec = config.compression_type
    return ProduceRules(
        origin=origin,
        max_message_bytes=config.max_message_bytes,
        segment_bytes=config.segment_bytes,
        timestamp_type=(
            TimestampType.LOG_APPEND_TIME
            if config.message_timestamp_type == "LogAppendTime"
            else TimestampType.CREATE_TIME
        ),
        timestamp_before_max_ms=config.message_timestamp_before_max_ms,
        timestamp_after_max_ms=config.message_timestamp_after_max_ms,
        compacted=config.compact,
        codec=None if codec == "producer" else Codec.NONE if codec == "uncompressed" else Codec[codec.upper()],
        levels=CompressionLevels(
            gzip=config.compression_gzip_level, lz4=config.compression_lz4_level, zstd=config.compression_zstd_level
        ),
        decompressed_bytes_max=decompressed_bytes_max,
    )

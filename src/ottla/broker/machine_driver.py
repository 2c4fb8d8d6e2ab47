"""Drives a replicated machine on a partition's log: decide, append, apply, answer once acknowledged.

One command is one synchronous step: the machine decides, its records are appended and applied, and whatever comes next
sees them, acknowledged or not. Answers wait: a decision with records for its own, one without for the last record
written before it, so nobody is told of a state that may still be lost. What could not be appended is never applied.
Commands that do not look at each other's records may be written together (``gathers``); any other command comes after
what has gathered before it.

States: loading (the log is replayed in chunks, off the loop where it reads) -> active -> closed. Losing an
acknowledgement closes the driver: its state then holds records that nobody can vouch for.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from itertools import chain
from typing import Generic, NamedTuple, Protocol, TypeVar

from ottla.broker.gathered import ADAPTIVE_LINGER, Gathered
from ottla.broker.partition import ACKS_ALL, Isolation
from ottla.model import Decision, Reply, TopicPartition
from ottla.net.deferred import Deferred
from ottla.records.batch import NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, BatchHeader, Codec, iter_headers
from ottla.records.builder import BatchBuilder, record_size_max
from ottla.records.control import EndTransaction, read_end_transaction
from ottla.records.origin import Origin
from ottla.records.reader import read_body, records_of
from ottla.runtime.clock import Clock
from ottla.runtime.telemetry import get_logger
from ottla.storage.region import FileRegion
from ottla.transactions.verification import Guard
from ottla.wire import DecodeError
from ottla.wire.errors import ErrorCode, KafkaError

log = get_logger(__name__)

LOAD_SLICE_SECONDS = 0.01
"""How long a replay may hold the loop before everybody else gets a turn."""
TIMER_SECONDS_MAX = 3600.0

RecordT = TypeVar("RecordT")


class DrivenMachine(Protocol[RecordT]):
    """What a machine offers its driver besides its commands."""

    def apply(self, record: RecordT, offset: int, /) -> None: ...

    def on_loaded(self, now_ms: int, /) -> Decision[RecordT, object]: ...

    def next_deadline(self) -> int | None: ...

    def on_deadline(self, now_ms: int, /) -> Decision[RecordT, object]: ...

    def on_append_failed(self, records: Iterable[RecordT], now_ms: int, /) -> Decision[RecordT, object]: ...


class BatchProducer(NamedTuple):
    """Whose transaction the records of a command belong to. ``guard`` shows that the partition takes part in it."""

    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH
    guard: Guard | None = None

    def new_batch(self, codec: Codec) -> BatchBuilder:
        """Coordinators number nothing: a sequence of 0 stands where a transactional batch must have one."""
        transactional = self.producer_id != NO_PRODUCER_ID
        return BatchBuilder(
            codec=codec,
            producer_id=self.producer_id,
            producer_epoch=self.producer_epoch,
            base_sequence=0 if transactional else NO_SEQUENCE,
            transactional=transactional,
        )


NOBODY = BatchProducer()


class ProducerMarker(NamedTuple):
    """The end of a producer's transaction, as a coordinator of that transaction version writes it."""

    producer_id: int
    producer_epoch: int
    end: EndTransaction
    transaction_version: int


class MachineCodec(Protocol[RecordT]):
    """A machine's records as keys and values; ``None`` stands for one that this version does not know."""

    def encode(self, record: RecordT, /) -> tuple[bytes, bytes | None]: ...

    def decode(self, key: bytes, value: bytes | None, producer_id: int, /) -> RecordT | None: ...

    def decode_marker(self, producer_id: int, committed: bool, /) -> RecordT | None: ...


class DrivenLogConfig(Protocol):
    @property
    def max_message_bytes(self) -> int: ...


class DrivenLog(Protocol):
    """The part of a partition's log a driver looks at."""

    @property
    def config(self) -> DrivenLogConfig: ...

    @property
    def log_start_offset(self) -> int: ...

    @property
    def log_end_offset(self) -> int: ...


class DrivenPartition(Protocol):
    """The part of a partition a driver uses."""

    @property
    def topic_partition(self) -> TopicPartition: ...

    @property
    def log(self) -> DrivenLog: ...

    def append(
        self, records: bytes, /, *, origin: Origin, required_acks: int, now_ms: int, guard: Guard | None = None
    ) -> "Appended": ...

    def append_marker(self, marker: ProducerMarker, /, now_ms: int) -> "Appended": ...

    def when_acknowledged(self, last_offset: int, resolve: Callable[[KafkaError | None], None], /) -> bool: ...

    def read(
        self, offset: int, max_bytes: int, /, *, isolation: Isolation, at_least_one: bool
    ) -> FileRegion | None: ...


class Appended(Protocol):
    @property
    def base_offset(self) -> int: ...

    @property
    def last_offset(self) -> int: ...


class DriverState(Enum):
    LOADING = "loading"
    ACTIVE = "active"
    CLOSED = "closed"


MachineT = TypeVar("MachineT", bound=DrivenMachine)  # type: ignore[type-arg]  # bound by any record type

Command = Callable[[MachineT, int, int], Decision[RecordT, object]]
"""Machine, wall clock in milliseconds, the token to park under."""

_Answers = list[tuple[Deferred[object], object]]


class MachineDriver(Generic[MachineT, RecordT]):
    """One machine on one partition, for as long as this broker leads it."""

    def __init__(
        self,
        *,
        machine: MachineT,
        codec: MachineCodec[RecordT],
        partition: DrivenPartition,
        clock: Clock,
        load_bytes: int,
        compression: Codec,
        fail: Callable[[BaseException], None],
        on_committed: Callable[[Sequence[RecordT]], None] | None = None,
        linger_ms: int = ADAPTIVE_LINGER,
    ) -> None:
        """``on_committed`` is told of records once they are acknowledged, in the order they were written: what has
        effects outside the machine begins there. ``linger_ms``: see ``Gathered``."""
        self.state = DriverState.LOADING
        self.partition = partition
        self._machine = machine
        self._codec = codec
        self._clock = clock
        self._load_bytes = load_bytes
        self._compression = compression
        self._fail = fail
        self._on_committed = on_committed
        self._last_offset = -1
        self._next_token = 0
        self._parked: dict[int, Deferred[object]] = {}
        self._held: dict[int, _Answers] = {}
        self._gathered: Gathered[RecordT] = Gathered(linger_ms, self._write_gathered)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_ms = 0

    # -- commands ----------------------------------------------------------------------------------------------------

    def submit(
        self, command: "Command[MachineT, RecordT]", producer: BatchProducer = NOBODY
    ) -> "asyncio.Future[object]":
        """``begin`` for a coroutine."""
        return self.begin(command, producer).future()

    def begin(
        self, command: "Command[MachineT, RecordT]", producer: BatchProducer = NOBODY, *, gathers: bool = False
    ) -> Deferred[object]:
        """Decide and write now, as ``producer``; the answer comes once that is acknowledged.

        A command that ``gathers`` is decided now and written with others of its kind, in their order: it must not
        depend on what they write, and has no producer. Raises ``KafkaError`` where the machine refuses, or where it is
        not active: COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR. A failed append is the answer's failure, with the
        log's own error code.
        """
        assert not gathers or producer is NOBODY, "a batch has one producer"
        if not gathers:
            self._gathered.flush()
        self._require_active()
        now_ms = self._clock.now_ms()
        self._next_token += 1
        token = self._next_token
        decision = command(self._machine, now_ms, token)
        answer: Deferred[object] = Deferred()
        self._parked[token] = answer
        if gathers:
            self._gathered.add(token, decision, writing=bool(self._held))
        else:
            self._carry_out(decision, token, now_ms, producer)
            self._arm()
        return answer

    def end_transaction(self, marker: ProducerMarker) -> int:
        """Write a marker, and let the machine see it. Returns its offset; raises ``KafkaError`` as ``submit`` does."""
        self._gathered.flush()
        self._require_active()
        appended = self.partition.append_marker(marker, self._clock.now_ms())
        self._last_offset = appended.last_offset
        record = self._codec.decode_marker(marker.producer_id, marker.end.committed)
        if record is not None:
            self._machine.apply(record, appended.last_offset)
        return appended.last_offset

    def reconfigure(self, change: Callable[[MachineT], None]) -> None:
        """Change what is not state: limits and times."""
        change(self._machine)

    def run_deadlines(self) -> None:
        """Do what is due by the clock, then wait for the next."""
        self._gathered.flush()
        now_ms = self._clock.now_ms()
        while self.state is DriverState.ACTIVE:
            deadline = self._machine.next_deadline()
            if deadline is None or deadline > now_ms:
                break
            self._carry_out(self._machine.on_deadline(now_ms), None, now_ms)
        self._arm()

    # -- life --------------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Replay the log, then serve. Raises ``KafkaError`` or ``OSError`` where it cannot be read."""
        offset = self.partition.log.log_start_offset
        while self.state is DriverState.LOADING and offset < self.partition.log.log_end_offset:
            region = self.partition.read(offset, self._load_bytes, isolation=Isolation.LOG_END, at_least_one=True)
            if region is None:
                break
            data = await asyncio.get_running_loop().run_in_executor(None, _read_region, region)
            offset = await self._replay(data, offset)
        if self.state is DriverState.LOADING:
            self._start()

    def start_if_empty(self) -> bool:
        """Serve at once where there is nothing to replay; else False, and ``load`` is needed."""
        log_ = self.partition.log
        if log_.log_start_offset < log_.log_end_offset:
            return False
        self._start()
        return True

    def _start(self) -> None:
        self._last_offset = self.partition.log.log_end_offset - 1
        self.state = DriverState.ACTIVE
        now_ms = self._clock.now_ms()
        self._carry_out(self._machine.on_loaded(now_ms), None, now_ms)
        self._arm()
        log.debug("machine loaded", partition=self.partition.topic_partition, log_end_offset=self._last_offset + 1)

    def close(self, error: KafkaError) -> None:
        """Stop for good; everybody who waits is told ``error``."""
        if self.state is DriverState.CLOSED:
            return
        self.state = DriverState.CLOSED
        self._gathered.discard()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting = [deferred for answers in self._held.values() for deferred, _ in answers]
        waiting += self._parked.values()
        self._held.clear()
        self._parked.clear()
        for deferred in waiting:
            deferred.fail(error)

    # -- private -----------------------------------------------------------------------------------------------------

    def _require_active(self) -> None:
        if self.state is DriverState.LOADING:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        if self.state is DriverState.CLOSED:
            raise KafkaError(ErrorCode.NOT_COORDINATOR)

    def _carry_out(
        self,
        decision: Decision[RecordT, object],
        token: int | None,
        now_ms: int,
        producer: BatchProducer = NOBODY,
    ) -> None:
        """Write, apply, and hold the answers until they are safe to give."""
        try:
            self._write(decision, now_ms, producer)
        except KafkaError as error:
            self._refuse_decision(decision, token, error)
            undo = self._machine.on_append_failed(decision.records, now_ms)
            assert not undo.records, "taking a step back must not need the log that just failed"
            self._release(self._take_parked(undo.replies))
            return
        self._release(self._answers_of(decision, token))

    def _write_gathered(self, gathered: list[tuple[int, Decision[RecordT, object]]]) -> None:
        """All in one batch; where the log does not take that, one by one, so that each is refused for its own sake."""
        now_ms = self._clock.now_ms()
        try:
            if len(gathered) == 1 or not self._write_together(gathered, now_ms):
                for token, decision in gathered:
                    if self.state is not DriverState.ACTIVE:
                        # What went wrong with an append has closed us, and told everybody who waits.
                        return
                    self._carry_out(decision, token, now_ms)
            self._arm()
        except Exception as error:
            self._fail(error)

    def _write_together(self, gathered: list[tuple[int, Decision[RecordT, object]]], now_ms: int) -> bool:
        records = chain.from_iterable(decision.records for _, decision in gathered)
        try:
            self._write(Decision(records=tuple(records)), now_ms, NOBODY)
        except KafkaError:
            return False
        answers: _Answers = []
        for token, decision in gathered:
            answers += self._answers_of(decision, token)
        self._release(answers)
        return True

    def _write(self, decision: Decision[RecordT, object], now_ms: int, producer: BatchProducer) -> None:
        if not decision.records:
            return
        for records, batch in self._batches(decision, now_ms, producer):
            appended = self.partition.append(
                batch, origin=Origin.COORDINATOR, required_acks=ACKS_ALL, now_ms=now_ms, guard=producer.guard
            )
            self._last_offset = appended.last_offset
            for offset, record in enumerate(records, appended.base_offset):
                self._machine.apply(record, offset)
            if self._on_committed is not None:
                self._announce(records, appended.last_offset)

    def _batches(
        self, decision: Decision[RecordT, object], now_ms: int, producer: BatchProducer
    ) -> Iterable[tuple[Sequence[RecordT], bytes]]:
        """The records as batches that the log takes: a single one where the decision is atomic."""
        limit = self.partition.log.config.max_message_bytes
        builder = producer.new_batch(self._compression)
        records: list[RecordT] = []
        for record in decision.records:
            key, value = self._codec.encode(record)
            if records and builder.estimated_size + record_size_max(key, value) > limit:
                if decision.atomic:
                    raise KafkaError(ErrorCode.RECORD_LIST_TOO_LARGE, f"one batch holds {limit} bytes")
                yield records, builder.build()
                builder, records = producer.new_batch(self._compression), []
            builder.append(now_ms, key, value)
            records.append(record)
        if builder.estimated_size > limit:
            raise KafkaError(ErrorCode.RECORD_LIST_TOO_LARGE, f"one batch holds {limit} bytes")
        yield records, builder.build()

    def _announce(self, records: Sequence[RecordT], last_offset: int) -> None:
        """Tell of ``records`` once they are acknowledged. A failure of that closes the driver by another way."""
        assert self._on_committed is not None
        announce = self._on_committed

        def acknowledged(error: KafkaError | None) -> None:
            if error is None and self.state is DriverState.ACTIVE:
                announce(records)

        if self.partition.when_acknowledged(last_offset, acknowledged):
            announce(records)

    def _answers_of(self, decision: Decision[RecordT, object], token: int | None) -> _Answers:
        """To those whose replies a decision carries, and to who asked for it, unless that one is parked."""
        answers = self._take_parked(decision.replies)
        if token is not None and decision.response is not None:
            answers.append((self._parked.pop(token), decision.response))
        return answers

    def _take_parked(self, replies: Iterable[Reply]) -> _Answers:
        answers: _Answers = []
        for reply in replies:
            deferred = self._parked.pop(reply.token, None)
            if deferred is not None:
                answers.append((deferred, reply.response))
        return answers

    def _refuse_decision(self, decision: Decision[RecordT, object], token: int | None, error: KafkaError) -> None:
        log.warning("append refused", partition=self.partition.topic_partition, error=str(error))
        refused = [deferred for deferred, _ in self._take_parked(decision.replies)]
        own = None if token is None else self._parked.pop(token, None)
        if own is not None:
            refused.append(own)
        for deferred in refused:
            deferred.fail(error)

    def _release(self, answers: _Answers) -> None:
        """Give the answers once everything written so far is acknowledged."""
        if not answers:
            return
        self._next_token += 1
        ticket = self._next_token
        self._held[ticket] = answers
        if self.partition.when_acknowledged(self._last_offset, lambda error: self._acknowledged(ticket, error)):
            self._acknowledged(ticket, None)

    def _acknowledged(self, ticket: int, error: KafkaError | None) -> None:
        if error is not None:
            log.warning("acknowledgement lost", partition=self.partition.topic_partition, error=str(error))
            self.close(KafkaError(ErrorCode.NOT_COORDINATOR, str(error)))
            return
        answers = self._held.pop(ticket, ())
        # First, so that the next sync carries it.
        self._gathered.flush()
        for deferred, response in answers:
            deferred.set(response)

    def _arm(self) -> None:
        deadline = self._machine.next_deadline() if self.state is DriverState.ACTIVE else None
        if deadline is None or (self._timer is not None and self._timer_at_ms <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        seconds = min(max(0, deadline - self._clock.now_ms()) / 1000, TIMER_SECONDS_MAX)
        self._timer_at_ms = deadline
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        try:
            self.run_deadlines()
        except Exception as error:
            self._fail(error)

    async def _replay(self, data: bytes, offset: int) -> int:
        """Fold whole batches from ``offset`` on; returns the offset behind the last one."""
        loop = asyncio.get_running_loop()
        yield_at = loop.time() + LOAD_SLICE_SECONDS
        view = memoryview(data)
        for position, header in iter_headers(view, partial_tail=True):
            if header.last_offset < offset:
                continue
            self._fold(view, position, header, offset)
            offset = header.last_offset + 1
            if loop.time() >= yield_at:
                await asyncio.sleep(0)
                if self.state is not DriverState.LOADING:
                    return offset
                yield_at = loop.time() + LOAD_SLICE_SECONDS
        return offset

    def _fold(self, view: memoryview, position: int, header: BatchHeader, from_offset: int) -> None:
        if header.is_control:
            marker = read_end_transaction(view[position : position + header.size])
            record = None if marker is None else self._codec.decode_marker(header.producer_id, marker.committed)
            if record is not None:
                self._machine.apply(record, header.last_offset)
            return
        producer_id = header.producer_id if header.is_transactional else NO_PRODUCER_ID
        for stored in records_of(header, read_body(view, header, position=position)):
            if stored.offset < from_offset or stored.key is None:
                continue
            try:
                record = self._codec.decode(stored.key, stored.value, producer_id)
            except DecodeError as error:
                # One unreadable record must not make every group of the partition unreachable.
                log.error(
                    "record skipped", partition=self.partition.topic_partition, offset=stored.offset, error=str(error)
                )
                continue
            if record is not None:
                self._machine.apply(record, stored.offset)


def _read_region(region: FileRegion) -> bytes:
    try:
        return region.pread()
    finally:
        region.release()

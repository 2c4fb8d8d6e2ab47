"""Drives the Raft machine and the controller: timers, disk, group commit, and the answers that wait for a commit.

One task does everything in turn: it takes all that was submitted meanwhile, lets the controller decide it, appends the
decisions with one write, flushes them in a worker thread with one flush, and so commits them together; what arrives
during the flush is the next group. An answer is released when its records are committed *and* published to all
listeners; an answer without records waits for what its decision may have seen.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any, Final, Protocol

from msgspec import Struct

from ottla.broker.metadata_loader import MetadataLoader
from ottla.broker.metadata_log import MetadataBatch, MetadataLog, SnapshotId
from ottla.metadata.controller import Controller, ControllerSettings
from ottla.metadata.image import Provenance
from ottla.metadata.snapshot import to_records
from ottla.model import Decision
from ottla.quorum.effects import Effects, RoleChange, Send
from ottla.quorum.events import Event, LogFlushed, Proposed, ResignRequested, Tick
from ottla.quorum.ledger import LogLedger
from ottla.quorum.raft import Raft, RaftSettings
from ottla.runtime.clock import Clock
from ottla.runtime.supervisor import Supervisor
from ottla.runtime.telemetry import get_logger
from ottla.wire.errors import ErrorCode, KafkaError

log = get_logger(__name__)

SUBMISSIONS_MAX: Final = 10_000
IDLE_WAIT_S: Final = 3600.0

Command = Callable[[Controller, int], Decision[Any, Any]]
"""(controller, now in ms) -> decision. Raises ``KafkaError`` to refuse."""


class QuorumNetwork(Protocol):
    """Carries the machine's messages to the other voters."""

    def send(self, message: Send) -> None: ...


class DriverSettings(Struct, frozen=True, kw_only=True):
    """Snapshots are taken after so many bytes of records, or so long after the last one if there is anything new."""

    raft: RaftSettings
    controller: ControllerSettings
    snapshot_after_bytes: int = 20 * 1024 * 1024
    snapshot_interval_ms: int = 3_600_000


class _Waiting(Struct):
    """An answer that is released when everything below ``offset`` is committed."""

    offset: int
    future: asyncio.Future[Any]
    response: object


class RaftDriver:
    """This node's part in the metadata quorum. ``controller`` is there only while this node leads."""

    def __init__(
        self,
        *,
        settings: DriverSettings,
        metadata_log: MetadataLog,
        loader: MetadataLoader,
        clock: Clock,
        rng: Random,
        network: QuorumNetwork | None = None,
    ) -> None:
        voters = settings.raft.voters
        assert network is not None or voters == (settings.raft.node_id,), "several voters need a network"
        self.settings = settings
        self.loader = loader
        self.controller: Controller | None = None
        self._log = metadata_log
        self._clock = clock
        self._rng = rng
        self._network = network
        self.raft = self._load()
        self._submitted: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        self._events: deque[Event] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._appended: deque[MetadataBatch] = deque()
        self._epoch_start = 0
        self._wake = asyncio.Event()
        self._closed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ottla-metadata")
        self._last_snapshot_ms = clock.now_ms()
        self._snapshot: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._supervisor: Supervisor | None = None

    def _load(self) -> Raft:
        """From snapshot, quorum state and log; what is not in the snapshot is folded when it commits. Blocking."""
        snapshot = self._log.latest_snapshot()
        committed = 0
        if snapshot is not None:
            contained_ms, records = self._log.read_snapshot(snapshot)
            self.loader.load_snapshot(
                records,
                Provenance(offset=snapshot.end_offset - 1, epoch=snapshot.epoch, appended_ms=contained_ms),
            )
            committed = snapshot.end_offset
        ledger = LogLedger(
            start_offset=self._log.start_offset, end_offset=self._log.end_offset, epochs=self._log.epochs()
        )
        stored = self._log.read_quorum_state()
        return Raft(self.settings.raft, ledger, stored, rng=self._rng, high_watermark=committed)

    # --- for everybody ----------------------------------------------------------------------------------------------

    def start(self, supervisor: Supervisor) -> None:
        """Take part. With one voter this node leads, and has committed its first records, when this returns. Blocking.

        Blocking is right here: nothing is served yet, and a thread would only cost time.
        """
        self._supervisor = supervisor
        effects = self.raft.start(self._clock.now_ms())
        while True:
            flush = self._perform(effects)
            if not flush:
                break
            effects = self._flushed(self._log.flush())
        self._task = supervisor.spawn(self._run(), "metadata quorum")

    async def submit(self, command: Command) -> Any:
        """The controller's answer, once committed and published. Raises what the command raises, and NOT_CONTROLLER."""
        if self._closed or self.controller is None:
            raise KafkaError(ErrorCode.NOT_CONTROLLER, "The active controller appears to be another node.")
        if len(self._submitted) >= SUBMISSIONS_MAX:
            raise KafkaError(ErrorCode.REQUEST_TIMED_OUT, "The controller has too much to do.")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._submitted.append((command, future))
        self._wake.set()
        return await future

    def deliver(self, event: Event) -> None:
        """Something came from another voter."""
        self._events.append(event)
        self._wake.set()

    async def stop(self) -> None:
        """Finish what was submitted, hand over the leadership, stop. The log stays open for its owner to close."""
        if self._closed:
            return
        self._closed = True
        if self._task is not None and not self._task.done():
            self._events.append(ResignRequested())
            self._wake.set()
            await asyncio.wait((self._task,))
        if self._snapshot is not None:
            await asyncio.wait((self._snapshot,))
        self._pool.shutdown(wait=True)

    @property
    def leader_id(self) -> int | None:
        return self.raft.leader_id

    # --- the task ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while True:
                await self._wait()
                stopping = self._closed
                await self._round(self._take())
                self._snapshot_if_due()
                if stopping and not self._submitted:
                    return
        finally:
            self._closed = True
            self._abandon(KafkaError(ErrorCode.NOT_CONTROLLER, "The controller is shutting down."))

    async def _wait(self) -> None:
        if not self._wake.is_set():
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self._seconds_to_deadline(), self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()
        self._wake.clear()

    def _seconds_to_deadline(self) -> float:
        deadlines = [self.raft.next_deadline()]
        if self.controller is not None:
            deadlines.append(self.controller.next_deadline())
        earliest = min((deadline for deadline in deadlines if deadline is not None), default=None)
        if earliest is None:
            return IDLE_WAIT_S
        return min(max(earliest - self._clock.now_ms(), 0) / 1000, IDLE_WAIT_S)

    def _take(self) -> list[Event]:
        """All that wants to be done now, as events; what was submitted becomes one ``Proposed``."""
        now_ms = self._clock.now_ms()
        events: list[Event] = list(self._events)
        self._events.clear()
        raft_deadline = self.raft.next_deadline()
        if raft_deadline is not None and now_ms >= raft_deadline:
            events.append(Tick())
        proposals = self._decide_all(now_ms)
        if proposals:
            # Before a resignation among the events: what was decided is still written.
            events.insert(0, Proposed(batches=tuple((len(records), records) for records in proposals)))
        return events

    async def _round(self, events: list[Event]) -> None:
        flush = False
        for event in events:
            flush |= self._perform(self.raft.step(event, self._clock.now_ms()))
        while flush:
            end = await asyncio.get_running_loop().run_in_executor(self._pool, self._log.flush)
            flush = self._perform(self._flushed(end))

    # --- deciding ---------------------------------------------------------------------------------------------------

    def _decide_all(self, now_ms: int) -> list[tuple[Any, ...]]:
        controller = self.controller
        proposals: list[tuple[Any, ...]] = []
        if controller is None:
            self._abandon(KafkaError(ErrorCode.NOT_CONTROLLER, "The active controller appears to be another node."))
            return proposals
        while self._submitted:
            command, future = self._submitted.popleft()
            if future.done():
                continue
            try:
                decision = command(controller, now_ms)
            except Exception as error:
                future.set_exception(error)
                if not isinstance(error, KafkaError):
                    # A bug: whoever asked learns of it, and so does the node.
                    raise
                continue
            if decision.records:
                self._apply(controller, decision, proposals, now_ms)
            self._waiting.append(_Waiting(controller.state.next_offset, future, decision.response))
        deadline = controller.next_deadline()
        if deadline is not None and now_ms >= deadline:
            decision = controller.on_deadline(now_ms)
            if decision.records:
                self._apply(controller, decision, proposals, now_ms)
        self._release()
        return proposals

    def _apply(
        self, controller: Controller, decision: Decision[Any, Any], proposals: list[tuple[Any, ...]], now_ms: int
    ) -> None:
        controller.apply_all(decision.records, controller.state.next_offset)
        controller.state.last_append_ms = now_ms
        proposals.append(decision.records)

    def _activate(self) -> list[tuple[Any, ...]]:
        """The controller comes up as soon as everything before its own epoch has been folded in."""
        now_ms = self._clock.now_ms()
        controller = Controller(
            self.settings.controller, self.loader.image, rng=self._rng, transaction=self.loader.transaction.copy()
        )
        controller.state.skip_to(self.raft.ledger.end_offset)
        self.controller = controller
        proposals: list[tuple[Any, ...]] = []
        decision = controller.activate(now_ms)
        if decision.records:
            self._apply(controller, decision, proposals, now_ms)
        log.info("controller active", epoch=self.raft.epoch, offset=self.raft.ledger.end_offset)
        return proposals

    # --- effects ----------------------------------------------------------------------------------------------------

    def _perform(self, effects: Effects) -> bool:
        """Do what the machine asks, in its order. Returns whether the log now waits for a flush."""
        persist, now_ms = effects.persist, self._clock.now_ms()
        if persist.truncate_to is not None:
            self._log.truncate_to(persist.truncate_to, now_ms)
        if persist.quorum_state is not None:
            self._log.write_quorum_state(persist.quorum_state, self.settings.raft.voters)
        if persist.append:
            self._appended.extend(self._log.append(persist.append, now_ms))
        if persist.flush:
            self._log.flush()
        if effects.role is not None:
            self._on_role(effects.role)
        for message in effects.send:
            assert self._network is not None
            self._network.send(message)
        if effects.commit_through is not None:
            self._commit(effects.commit_through)
        return self._activate_if_ready() or bool(persist.append)

    def _flushed(self, end_offset: int) -> Effects:
        return self.raft.step(LogFlushed(end_offset=end_offset), self._clock.now_ms())

    def _on_role(self, role: RoleChange) -> None:
        log.info("quorum role", role=role.role, epoch=role.epoch, leader=role.leader_id)
        if role.leading:
            self._epoch_start = role.epoch_start_offset
            return
        if self.controller is not None:
            self.controller = None
            self._abandon(KafkaError(ErrorCode.NOT_CONTROLLER, "This node is no longer the active controller."))

    def _activate_if_ready(self) -> bool:
        if self.controller is not None or not self.raft.is_leader or self.loader.next_offset < self._epoch_start:
            return False
        proposals = self._activate()
        if proposals:
            batches = tuple((len(records), records) for records in proposals)
            self._perform(self.raft.step(Proposed(batches=batches), self._clock.now_ms()))
        return bool(proposals)

    def _commit(self, through: int) -> None:
        """Fold everything below ``through`` and release the answers that waited for it."""
        batches: list[MetadataBatch] = []
        offset = self.loader.next_offset
        while self._appended and self._appended[0].base_offset < through:
            batch = self._appended.popleft()
            if batch.base_offset == offset:
                batches.append(batch)
                offset = batch.next_offset
            elif batch.base_offset > offset:
                batches.extend(self._log.read(offset, batch.base_offset))
                batches.append(batch)
                offset = batch.next_offset
        if offset < through:
            batches.extend(self._log.read(offset, through))
        self.loader.fold(batches)
        self._release()

    def _release(self) -> None:
        committed = self.raft.high_watermark
        while self._waiting and self._waiting[0].offset <= committed:
            waiting = self._waiting.popleft()
            if not waiting.future.done():
                waiting.future.set_result(waiting.response)

    def _abandon(self, error: KafkaError) -> None:
        for waiting in self._waiting:
            if not waiting.future.done():
                waiting.future.set_exception(error)
        self._waiting.clear()
        for _, future in self._submitted:
            if not future.done():
                future.set_exception(error)
        self._submitted.clear()

    # --- snapshots --------------------------------------------------------------------------------------------------

    def _snapshot_if_due(self) -> None:
        if self._snapshot is not None and not self._snapshot.done():
            return
        size, now_ms = self.loader.records_size, self._clock.now_ms()
        by_size = size >= self.settings.snapshot_after_bytes
        by_time = size > 0 and now_ms - self._last_snapshot_ms >= self.settings.snapshot_interval_ms > 0
        if by_size or by_time:
            assert self._supervisor is not None
            self._snapshot = self._supervisor.spawn(self._take_snapshot(now_ms), "metadata snapshot")

    async def _take_snapshot(self, now_ms: int) -> None:
        image = self.loader.image
        provenance = image.provenance
        snapshot = SnapshotId(provenance.offset + 1, provenance.epoch)
        self.loader.records_size = 0
        self._last_snapshot_ms = now_ms

        def write() -> None:
            self._log.write_snapshot(snapshot, to_records(image), contained_ms=provenance.appended_ms, now_ms=now_ms)

        try:
            await asyncio.get_running_loop().run_in_executor(None, write)
            self._log.forget_before(snapshot, now_ms)
        except OSError as error:
            log.error("metadata snapshot not written", reason=error)
            return
        self.raft.ledger.start_offset = self._log.start_offset
        log.info("metadata snapshot written", offset=snapshot.end_offset)

"""The log cleaner: which compacted log is cleaned next, and what becomes of it.

Every ``log.cleaner.backoff.ms``, and at once after a cleaning, the logs with the greatest dirty share are given to as
many cleaner processes as ``log.cleaner.threads`` allows. The processes read and write; here segments are swapped in and
clean points moved, in synchronous steps between everybody else's. What is truncated, deleted, moved or offline
meanwhile has aborted its cleaning, and nothing of it is swapped in any more.

Before anything is replaced, the log is durable to the end of what is cleaned, and the recovery point says so: the gaps
that compaction leaves are then never taken for lost records. The clean point moves when the swap is durable.

Retention of compacted logs (``compact,delete``, and what DeleteRecords left of others) is done here too, and nowhere
else: a log loses segments by a cleaning or by retention, never by both at once.

A log that cannot be cleaned, because of damage, a batch that unpacks beyond the limit or keys that do not fit, is set
aside with its reason until the broker starts anew, as Kafka does; it serves on, and keeps what it has.
"""

import asyncio
import errno
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from msgspec import Struct

from ottla.broker.cleaner_worker import CleanerDied, CleanerWorker
from ottla.broker.partition import Partition
from ottla.broker.partitions import Partitions
from ottla.config.cleaner import CleanerConfig
from ottla.model import TopicPartition
from ottla.runtime.clock import Clock
from ottla.runtime.supervisor import Supervisor
from ottla.runtime.telemetry import get_logger
from ottla.storage.cleanable import Cleanable, cleanable, cleaning_job, swap_in
from ottla.storage.cleaning_orders import Cleaned, CleaningOrder, Failed, Finished
from ottla.storage.errors import SHORTAGES
from ottla.storage.log import Cleaning, Log
from ottla.storage.log_store import LogStore
from ottla.wire.errors import KafkaError

log = get_logger(__name__)

FIRST_CHECK_DELAY_MS: Final = 1_000
"""A start is not held up by cleaning."""
DEATHS_MAX: Final = 3
"""A log whose cleaning ends its process so often in a row is set aside."""
DEATH_BACKOFF_S: Final = 1.0


class Uncleanable(Struct, frozen=True, kw_only=True):
    """A log that was set aside, and why."""

    log: Log
    reason: str


class CleanerStatus(Struct, kw_only=True):
    """What Kafka's metrics of the cleaner tell; percent, seconds and milliseconds as theirs."""

    max_dirty_percent: int = 0
    time_of_last_run_ms: int = 0
    max_buffer_utilization_percent: int = 0
    cleaner_recopy_percent: int = 0
    max_clean_time_s: int = 0
    max_compaction_delay_s: int = 0
    processes_died: int = 0
    cleanings: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class Totals(Struct, kw_only=True):
    """Of one cleaning."""

    bytes_read: int = 0
    bytes_written: int = 0
    records_read: int = 0
    records_kept: int = 0


class LogCleaner:
    """The cleaner of one broker; ``start`` hands it to the supervisor."""

    def __init__(
        self, *, store: LogStore, partitions: Partitions, clock: Clock, settings: Callable[[], CleanerConfig]
    ) -> None:
        self.status = CleanerStatus()
        self.uncleanable: dict[TopicPartition, Uncleanable] = {}
        self._store = store
        self._partitions = partitions
        self._clock = clock
        self._settings = settings
        self._supervisor: Supervisor
        self._running: set[asyncio.Task[None]] = set()
        self._idle: list[CleanerWorker] = []
        self._deaths: dict[TopicPartition, int] = {}

    def start(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        supervisor.spawn(self._run(), name="log cleaner")

    def uncleanable_bytes(self) -> dict[str, int]:
        """By log directory, the dirty bytes of the logs that are set aside."""
        found: dict[str, int] = {}
        for aside in self.uncleanable.values():
            directory = aside.log.log_directory
            found[directory] = found.get(directory, 0) + aside.log.size
        return found

    # Choosing --------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        config = self._settings()
        await asyncio.sleep(min(FIRST_CHECK_DELAY_MS, config.backoff_ms) / 1000)
        try:
            while True:
                config = self._settings()
                if config.enabled:
                    await self._retain()
                    self._start_due(config)
                if not self._running:
                    self._close_idle()
                    await asyncio.sleep(config.backoff_ms / 1000)
                else:
                    await asyncio.wait(
                        self._running, timeout=config.backoff_ms / 1000, return_when=asyncio.FIRST_COMPLETED
                    )
        finally:
            self._close_idle()

    def _start_due(self, config: CleanerConfig) -> None:
        now_ms = self._clock.now_ms()
        self.status.time_of_last_run_ms = now_ms
        due = self._due(now_ms)
        while due and len(self._running) < config.threads:
            _, partition, target = due.pop()
            worker = self._idle.pop() if self._idle else CleanerWorker()
            partition.log.cleaning = cleaning = Cleaning(worker.stop_cleaning)
            task = self._supervisor.spawn(
                self._clean(partition.log, target, worker, cleaning), name=f"clean {partition.topic_partition}"
            )
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _due(self, now_ms: int) -> list[tuple[float, Partition, Cleanable]]:
        """The logs to clean, the dirtiest last."""
        due: list[tuple[float, Partition, Cleanable]] = []
        dirtiest, delay_ms = 0.0, 0
        for partition in self._partitions:
            found = self._look_at(partition, now_ms)
            if found is not None:
                dirtiest, delay_ms = max(dirtiest, found.ratio), max(delay_ms, found.overdue_ms)
                if found.due(partition.log.config.min_cleanable_dirty_ratio):
                    due.append((found.ratio, partition, found))
        self.status.max_dirty_percent = int(100 * dirtiest)
        self.status.max_compaction_delay_s = delay_ms // 1000
        due.sort(key=lambda entry: entry[0])
        return due

    def _look_at(self, partition: Partition, now_ms: int) -> Cleanable | None:
        held = partition.log
        if not held.config.compact or held.failure is not None or held.cleaning is not None or len(held.segments) < 2:
            return None
        if partition.topic_partition in self.uncleanable:
            return None
        try:
            return cleanable(held, self._store.clean_point(held), partition.last_stable_offset, now_ms)
        except (KafkaError, OSError) as error:
            if isinstance(error, OSError) and error.errno in SHORTAGES:
                log.warning("cleaning put off", partition=held.topic_partition, reason=error)
            else:
                self._set_aside(held, str(error))
            return None

    def _forget_gone(self) -> None:
        for key in [key for key, aside in self.uncleanable.items() if self._store.get(key) is not aside.log]:
            del self.uncleanable[key]

    async def _retain(self) -> None:
        """Retention of compacted logs is the cleaner's alone, as Kafka's: never during a cleaning, but before the next,
        and not of logs that are set aside."""
        self._forget_gone()
        now_ms, deleted = self._clock.now_ms(), 0
        async for partition in self._partitions.in_turns():
            if partition.log.config.compact and partition.topic_partition not in self.uncleanable:
                deleted += self._store.retain(partition.log, now_ms, partition.high_watermark)
        if deleted:
            log.info("retention deleted segments of compacted logs", count=deleted)

    def _set_aside(self, held: Log, reason: str) -> None:
        log.error("log cannot be cleaned, set aside", partition=held.topic_partition, reason=reason)
        self.uncleanable[held.topic_partition] = Uncleanable(log=held, reason=reason)

    # Cleaning --------------------------------------------------------------------------------------------------------

    async def _clean(self, held: Log, target: Cleanable, worker: CleanerWorker, cleaning: Cleaning) -> None:
        try:
            await self._attempt(held, target, worker, cleaning)
            self._deaths.pop(held.topic_partition, None)
        except CleanerDied as error:
            await self._note_death(held, error, cleaning)
        except (KafkaError, ValueError) as error:
            self._set_aside(held, str(error))
        except OSError as error:
            worker.close()
            if error.errno in SHORTAGES:
                log.warning("cleaning put off", partition=held.topic_partition, reason=error)
                await asyncio.sleep(self._settings().backoff_ms / 1000)
            elif not cleaning.aborted:
                held.fail(error)
        except asyncio.CancelledError:
            worker.close()
            raise
        finally:
            held.cleaning = None
            self._idle.append(worker)

    async def _attempt(self, held: Log, target: Cleanable, worker: CleanerWorker, cleaning: Cleaning) -> None:
        await self._make_durable(held, target.upper_offset)
        if cleaning.aborted:
            return
        config, started = self._settings(), self._clock.monotonic()
        order = CleaningOrder(
            job=cleaning_job(held, target, config, self._clock.now_ms()),
            bytes_per_second_max=config.bytes_per_second_max / max(config.threads, 1),
        )
        totals = Totals()
        async with aclosing(self._swapped(held, cleaning, worker, order)) as replies:
            async for reply in replies:
                match reply:
                    case Cleaned(segment=segment):
                        totals.bytes_read += segment.bytes_read
                        totals.bytes_written += segment.size
                        totals.records_read += segment.records_read
                        totals.records_kept += segment.records_kept
                    case Finished():
                        await asyncio.to_thread(self._settle, held, reply.end_offset, cleaning)
                        self._report(held, target, reply, totals, self._clock.monotonic() - started)
                    case Failed():
                        self._give_up(held, reply, cleaning)

    async def _swapped(
        self, held: Log, cleaning: Cleaning, worker: CleanerWorker, order: CleaningOrder
    ) -> AsyncGenerator[Cleaned | Finished | Failed, None]:
        """What the worker says, each cleaned segment being in its place when it is passed on."""
        async with aclosing(worker.clean(order)) as replies:
            async for reply in replies:
                if cleaning.aborted:
                    # It may have been told before it had begun.
                    worker.stop_cleaning()
                elif isinstance(reply, Cleaned):
                    try:
                        swap_in(held, reply.segment, self._clock.now_ms())
                    except OSError as error:
                        held.fail(error)
                        raise
                yield reply

    async def _make_durable(self, held: Log, upper: int) -> None:
        await asyncio.to_thread(held.flush, upper)
        for path, error in (await asyncio.to_thread(self._store.checkpoint_recovery_points)).items():
            self._store.fail_directory(path, error)

    def _settle(self, held: Log, end_offset: int, cleaning: Cleaning) -> None:
        """In a worker thread: the log may be truncated or deleted meanwhile."""
        if not cleaning.aborted:
            held.disk.sync_directory(held.directory)
            self._store.record_clean_point(held, end_offset, unless=lambda: cleaning.aborted)

    def _give_up(self, held: Log, failed: Failed, cleaning: Cleaning) -> None:
        if cleaning.aborted or failed.stopped:
            log.info("cleaning aborted", partition=held.topic_partition)
        elif failed.errno is not None and failed.errno != errno.ENOENT:
            raise OSError(failed.errno, failed.reason)
        else:
            self._set_aside(held, failed.reason)

    async def _note_death(self, held: Log, error: CleanerDied, cleaning: Cleaning) -> None:
        self.status.processes_died += 1
        log.error("cleaner process died", partition=held.topic_partition, reason=error)
        if cleaning.aborted:
            return
        deaths = self._deaths[held.topic_partition] = self._deaths.get(held.topic_partition, 0) + 1
        if deaths >= DEATHS_MAX:
            del self._deaths[held.topic_partition]
            self._set_aside(held, f"{error}, {deaths} times in a row")
        await asyncio.sleep(DEATH_BACKOFF_S * deaths)

    def _report(self, held: Log, target: Cleanable, finished: Finished, totals: Totals, seconds: float) -> None:
        status = self.status
        status.cleanings += 1
        status.bytes_read += totals.bytes_read
        status.bytes_written += totals.bytes_written
        status.cleaner_recopy_percent = 100 * totals.bytes_written // max(totals.bytes_read, 1)
        status.max_buffer_utilization_percent = 100 * finished.keys // max(finished.keys_max, 1)
        status.max_clean_time_s = int(seconds)
        log.info(
            "log cleaned",
            partition=held.topic_partition,
            dirty_from=target.first_dirty_offset,
            clean_to=finished.end_offset,
            keys=finished.keys,
            bytes_read=totals.bytes_read,
            bytes_kept=totals.bytes_written,
            records_read=totals.records_read,
            records_kept=totals.records_kept,
            ms=int(seconds * 1000),
        )

    def _close_idle(self) -> None:
        for worker in self._idle:
            worker.close()
        self._idle.clear()

"""What a broker does by the clock: checkpoints, retention, forgetting idle producers, dropping overdue connections.

Each duty runs in its own loop, one round at a time, and a round that fails is logged and tried again at its next
time: a full disk must not end retention, which is what frees it. Blocking work goes to a thread.
"""

import asyncio
from collections.abc import Awaitable, Callable

from msgspec import Struct

from ottla.broker.partitions import Partitions
from ottla.config.broker import StorageConfig
from ottla.model import TopicPartition
from ottla.runtime.clock import Clock
from ottla.runtime.supervisor import Supervisor
from ottla.runtime.telemetry import get_logger
from ottla.storage.log import Log
from ottla.storage.log_store import LogStore
from ottla.wire.errors import KafkaError

log = get_logger(__name__)

OVERDUE_CHECK_MS = 2_000
PURGE_INTERVAL_MS = 5_000
FOREVER_MS = 2**63 - 1
"""What Kafka means by "never": the default of log.flush.scheduler.interval.ms."""


class Housekeeping(Struct, frozen=True, kw_only=True):
    """The duties of one broker; ``start`` hands them to the supervisor."""

    store: LogStore
    partitions: Partitions
    config: Callable[[], StorageConfig]
    """As it is now: producer.id.expiration.ms may change at run time, the intervals may not."""
    clock: Clock
    close_overdue: Callable[[], None]
    flush_soon: Callable[[Log], None]
    transaction_ms_max: int
    """The longest timeout a transaction may have."""

    def start(self, supervisor: Supervisor) -> None:
        config = self.config()
        duties: list[tuple[str, int, Callable[[], Awaitable[None]]]] = [
            ("recovery points", config.recovery_point_checkpoint_interval_ms, self.checkpoint_recovery_points),
            ("log starts", config.start_offset_checkpoint_interval_ms, self.checkpoint_log_starts),
            ("high watermarks", config.high_watermark_checkpoint_interval_ms, self.checkpoint_high_watermarks),
            ("retention", config.retention_check_interval_ms, self.retain),
            ("purge", PURGE_INTERVAL_MS, self.purge),
            ("producers", config.producer_id_expiration_check_interval_ms, self.expire_producers),
            ("connections", OVERDUE_CHECK_MS, self.drop_overdue),
        ]
        if config.flush_scheduler_interval_ms < FOREVER_MS:
            duties.append(("flushes", config.flush_scheduler_interval_ms, self.flush))
        for name, interval_ms, duty in duties:
            supervisor.spawn(repeat(name, interval_ms, duty), name=f"housekeeping: {name}")

    async def checkpoint_recovery_points(self) -> None:
        self._give_up(await asyncio.to_thread(self.store.checkpoint_recovery_points))

    async def checkpoint_log_starts(self) -> None:
        self._give_up(await asyncio.to_thread(self.store.checkpoint_log_starts))

    async def checkpoint_high_watermarks(self) -> None:
        self._give_up(await asyncio.to_thread(self.store.checkpoint_high_watermarks, self.high_watermarks()))

    def _give_up(self, failed: dict[str, OSError]) -> None:
        """A directory whose disk fails a checkpoint is as little to be trusted as one that fails an append."""
        for path, error in failed.items():
            self.store.fail_directory(path, error)

    def high_watermarks(self) -> dict[TopicPartition, int]:
        return {partition.topic_partition: partition.high_watermark for partition in self.partitions}

    async def retain(self) -> None:
        """Of logs that are compacted the cleaner takes care, between their cleanings."""
        now_ms, deleted = self.clock.now_ms(), 0
        async for partition in self.partitions.in_turns():
            if not partition.log.config.compact:
                deleted += self.store.retain(partition.log, now_ms, partition.high_watermark)
        if deleted:
            log.info("retention deleted segments", count=deleted)
            await self.checkpoint_log_starts()

    async def purge(self) -> None:
        await asyncio.to_thread(self.store.purge, self.clock.now_ms())

    async def flush(self) -> None:
        """Hand the logs whose flush is due by ``flush.ms`` to the flushing threads."""
        now_ms = self.clock.now_ms()
        async for partition in self.partitions.in_turns():
            if partition.log.flush_ms_due(now_ms):
                self.flush_soon(partition.log)

    async def expire_producers(self) -> None:
        now_ms, expiration_ms = self.clock.now_ms(), self.config().producer_id_expiration_ms
        async for partition in self.partitions.in_turns():
            partition.expire_producers(now_ms, expiration_ms)
            if partition.is_leader and partition.log.producers.late_transaction(now_ms, self.transaction_ms_max):
                # No coordinator lets a transaction live that long: none knows of this one. An administrator may end it.
                log.warning("a transaction hangs", partition=partition.topic_partition)

    async def drop_overdue(self) -> None:
        self.close_overdue()


async def repeat(name: str, interval_ms: int, duty: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(interval_ms / 1000)
        try:
            await duty()
        except (OSError, KafkaError) as error:
            log.error("housekeeping failed", duty=name, error=error)

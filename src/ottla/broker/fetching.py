"""Reading for a fetch: one pass over its partitions, and the wait for more where the first pass was too thin.

Kafka's rules for sizes (KIP-74): the first partition that has data yields at least one whole batch, however small the
limits; after that every partition is held to its own limit and to what the answer's limit leaves.
"""

import asyncio
from collections.abc import Callable, Sequence

from msgspec import Struct, field

from ottla.broker.partition import Foresight, Isolation, Partition
from ottla.broker.partitions import Partitions
from ottla.model import Uuid
from ottla.net.deferred import Deferred
from ottla.net.outbox import Segment
from ottla.runtime.turn import of_running_loop
from ottla.storage.region import FileRegion
from ottla.wire.errors import ErrorCode, KafkaError

NOT_TOLD = -1


class FetchTarget(Struct, frozen=True, kw_only=True):
    """One partition as a fetch asks for it. ``topic`` is None where the topic id is unknown here."""

    topic_id: Uuid
    topic: str | None
    partition: int
    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1
    log_start_offset: int = -1


class FetchLimits(Struct, frozen=True, kw_only=True):
    """What a whole fetch may take and see; ``replica_id`` is -1 for consumers."""

    max_bytes: int
    min_bytes: int
    isolation: Isolation
    replica_id: int = -1
    replica_epoch: int = -1
    now_ms: int = 0


class FetchedPartition(Struct, kw_only=True):
    """What one pass found. Offsets are -1 and the region None where there is an error."""

    target: FetchTarget
    error: KafkaError | None = None
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    diverging: tuple[int, int] | None = None
    region: FileRegion | None = None
    aborted: list[tuple[int, int]] | None = None

    def fail(self, error: KafkaError) -> None:
        """An error hides what was found before it."""
        self.error = error
        self.high_watermark = self.last_stable_offset = self.log_start_offset = NOT_TOLD
        self.release()

    def release(self) -> None:
        """Unpin the segment of records that are not answered."""
        if self.region is not None:
            self.region.release()
            self.region = None

    @property
    def size(self) -> int:
        return 0 if self.region is None else len(self.region)


class FetchPass(Struct, kw_only=True):
    """The result of one pass, in the order of the request."""

    partitions: list[FetchedPartition] = field(default_factory=list)
    size: int = 0
    final: bool = False
    """Whether something was found that must be answered at once: an error or a divergence."""
    frame: list[Segment] | None = None
    """The answer, where it was written while its records were not visible yet."""

    def release(self) -> None:
        """Unpin the segments of a pass that is not answered."""
        for fetched in self.partitions:
            fetched.release()


def read_once(partitions: Partitions, targets: Sequence[FetchTarget], limits: FetchLimits) -> FetchPass:
    """Read every target once, from what is visible now."""
    result = FetchPass()
    left = limits.max_bytes
    for target in targets:
        fetched = FetchedPartition(target=target)
        result.partitions.append(fetched)
        try:
            read_partition(partitions, fetched, limits, left, at_least_one=result.size == 0)
        except KafkaError as error:
            fetched.fail(error)
            result.final = True
            continue
        size = fetched.size
        result.size += size
        left = max(0, left - size)
        result.final = result.final or fetched.diverging is not None
    return result


def read_partition(
    partitions: Partitions, fetched: FetchedPartition, limits: FetchLimits, left: int, *, at_least_one: bool
) -> None:
    target = fetched.target
    if target.topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID, f"there is no topic with the id {target.topic_id}")
    partition = partitions.get(target.topic, target.partition)
    if target.topic_id not in (Uuid.ZERO, partition.topic_id):
        raise KafkaError(ErrorCode.INCONSISTENT_TOPIC_ID, f"{target.topic} has the id {partition.topic_id}")
    partition.check_leader_epoch(target.current_leader_epoch)
    partition.require_leader()
    if limits.replica_id >= 0:
        record_fetch(partition, target, limits)
    log = partition.log
    fetched.high_watermark = partition.high_watermark
    fetched.last_stable_offset = partition.last_stable_offset
    fetched.log_start_offset = log.log_start_offset
    if target.last_fetched_epoch >= 0:
        fetched.diverging = divergence(partition, target)
        if fetched.diverging is not None:
            return
    fetched.region = partition.read(
        target.fetch_offset,
        min(target.max_bytes, left),
        isolation=limits.isolation,
        at_least_one=at_least_one,
    )
    if limits.isolation is Isolation.LAST_STABLE:
        fetched.aborted = partition.aborted_transactions(target.fetch_offset, fetched.region)


def record_fetch(partition: Partition, target: FetchTarget, limits: FetchLimits) -> None:
    """A follower's progress. A stranger that names no epoch is told to look for the leader again."""
    try:
        partition.record_fetch(target, limits.replica_id, limits.replica_epoch, limits.now_ms)
    except KafkaError as error:
        if error.code is ErrorCode.UNKNOWN_LEADER_EPOCH and target.current_leader_epoch < 0:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, error.message) from error
        raise


def divergence(partition: Partition, target: FetchTarget) -> tuple[int, int] | None:
    """Epoch and end offset to truncate to, where the fetcher's log left ours before its fetch offset."""
    epoch, end_offset = partition.end_offset_for_epoch(target.last_fetched_epoch)
    if epoch < 0 or end_offset < 0:
        raise KafkaError(
            ErrorCode.OFFSET_OUT_OF_RANGE, f"no epoch up to {target.last_fetched_epoch} is known for {target.topic}"
        )
    if epoch < target.last_fetched_epoch or end_offset < target.fetch_offset:
        return epoch, end_offset
    return None


class DelayedFetch:
    """A fetch that waits for ``min_bytes``: woken by appends, ended by its deadline at the latest.

    ``found`` gets the pass to answer with: enough bytes, something that cannot wait, or what there is when time is
    over. ``watch`` is to be called in the same step as the first pass, so that no append falls between the two.

    A consumer that has read all of one partition, and waits for the next record, is read for while the disk syncs that
    record: ``prepare`` gets the pass before its time has come, and ``found`` the same one if nothing else happens.
    """

    def __init__(
        self,
        partitions: Partitions,
        targets: Sequence[FetchTarget],
        limits: FetchLimits,
        prepare: Callable[[FetchPass], None] | None = None,
    ) -> None:
        self.found: Deferred[FetchPass] = Deferred()
        self._partitions = partitions
        self._targets = targets
        self._limits = limits
        self._prepare = prepare
        self._ahead: tuple[Foresight, FetchPass] | None = None
        self._watched: list[Partition] = []
        self._missing = limits.min_bytes
        self._turn = of_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._reads_soon = False
        self._time_is_up = False

    def watch(self, already_bytes: int, max_wait_ms: int) -> None:
        self._missing = self._limits.min_bytes - already_bytes
        self._timer = self._turn.loop.call_later(max_wait_ms / 1000, self._on_time_up)
        for target in self._targets:
            try:
                partition = self._partitions.get(target.topic or "", target.partition)
            except KafkaError:
                self._read_soon()
                return
            partition.data_waiters.add(self)
            self._watched.append(partition)
        if self._watched and self._watched[0].is_flushing:
            self.foreseen()

    def advanced(self, visible_bytes: int) -> None:
        self._missing -= visible_bytes
        if visible_bytes and self._missing <= 0:
            # All that was waited for has been read: there is nothing to wait for in this turn.
            found = self._came_true()
            if found is not None:
                self._unwatch()
                self.found.set(found)
                return
        if visible_bytes == 0 or self._missing <= 0:
            self._read_soon()

    def foreseen(self) -> None:
        limits = self._limits
        if self._prepare is not None and limits.isolation is Isolation.HIGH_WATERMARK and len(self._targets) == 1:
            # The sync begins first.
            self._turn.at_end(self._read_ahead)

    def _read_ahead(self) -> None:
        (target,), (partition,), limits = self._targets, self._watched, self._limits
        if self.found.is_over or self._reads_soon or self._ahead is not None or target.last_fetched_epoch >= 0:
            return
        try:
            partition.check_leader_epoch(target.current_leader_epoch)
            foresight = partition.foresee(target.fetch_offset, min(target.max_bytes, limits.max_bytes))
        except KafkaError:
            return
        if foresight is None:
            return
        fetched = FetchedPartition(
            target=target,
            high_watermark=foresight.high_watermark,
            last_stable_offset=foresight.high_watermark,
            log_start_offset=foresight.log_start_offset,
            region=foresight.region,
        )
        found = FetchPass(partitions=[fetched], size=fetched.size)
        if found.size < limits.min_bytes:
            found.release()
            return
        self._ahead = foresight, found
        if self._prepare is not None:
            self._prepare(found)

    def _came_true(self) -> FetchPass | None:
        """What was read ahead, if it is what is to be read now; it is forgotten else."""
        if self._ahead is None:
            return None
        foresight, found = self._ahead
        if self._watched[0].came_true(foresight):
            self._ahead = None
            return found
        self._forget_ahead()
        return None

    def _forget_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead[1].release()
            self._ahead = None

    def _read_soon(self) -> None:
        """Not within the append that brought the bytes: others may follow in the same turn."""
        if not self._reads_soon:
            self._reads_soon = True
            self._turn.at_end(self._read)

    def _on_time_up(self) -> None:
        self._time_is_up = True
        self._read()

    def _read(self) -> None:
        self._reads_soon = False
        if self.found.is_over:
            return
        self._forget_ahead()
        try:
            found = read_once(self._partitions, self._targets, self._limits)
        except Exception as error:
            self._unwatch()
            self.found.fail(error)
            return
        if found.final or found.size >= self._limits.min_bytes or self._time_is_up:
            self._unwatch()
            self.found.set(found)
        else:
            self._missing = self._limits.min_bytes - found.size
            found.release()

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for partition in self._watched:
            partition.data_waiters.discard(self)

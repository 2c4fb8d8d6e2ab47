"""A broker's parts on real files, without network, controller or threads: flushes happen when a test says so."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from ottla.broker.directory_assignments import DirectoryAssignments
from ottla.broker.partition import FlushPolicy, PartitionSettings
from ottla.broker.partitions import Partitions
from ottla.config.log import LogConfig
from ottla.metadata.controller.directories import DirectoryAssignment
from ottla.metadata.delta import ImageDelta
from ottla.metadata.image import ClusterImage, PartitionImage, Provenance, TopicImage
from ottla.model import Uuid
from ottla.records.builder import BatchBuilder
from ottla.runtime.clock import ManualClock
from ottla.runtime.supervisor import Supervisor
from ottla.storage.log import Log
from ottla.storage.log_store import LogStore
from ottla.wire.errors import ErrorCode, KafkaError

NODE_ID = 1


class ManualFlushes:
    """Group commit by hand: nothing is durable before ``flush`` or ``fail``."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Log, Callable[[KafkaError | None], None]]] = []
        self.resting: set[Log] = set()
        """Logs that nobody has waited for yet."""

    def when_flushed(
        self, log: Log, offset: int, resolve: Callable[[KafkaError | None], None], /, *, awaited: bool
    ) -> None:
        self.waiting.append((log, resolve))
        if not awaited:
            self.resting.add(log)

    def hurry(self, log: Log, /) -> None:
        self.resting.discard(log)

    async def flush(self) -> None:
        waiting, self.waiting = self.waiting, []
        self.resting.clear()
        for log, resolve in waiting:
            log.mark_flushed(log.log_end_offset)
            resolve(None)
        await asyncio.sleep(0)

    async def fail(self) -> None:
        waiting, self.waiting = self.waiting, []
        for _, resolve in waiting:
            resolve(KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the disk is gone"))
        await asyncio.sleep(0)


class Bench:
    """Partitions with one hand on the image and one on the disk."""

    def __init__(self, directory: Path, policy: FlushPolicy) -> None:
        self._directory, self._policy = directory, policy
        self.clock = ManualClock()
        self.flushes = ManualFlushes()
        self.proposals: list[object] = []
        self.assigned: list[DirectoryAssignment] = []
        self.store = LogStore.open([directory], cluster_id="cluster", node_id=NODE_ID, rng=Random(1))
        self.store.load(lambda topic: LogConfig(), now_ms=self.clock.now_ms())
        self.partitions = Partitions(
            node_id=NODE_ID,
            store=self.store,
            settings=PartitionSettings(
                flush_policy=policy,
                flushes=self.flushes,
                decompressed_bytes_max=1 << 20,
                replica_lag_time_max_ms=30_000,
                propose_isr=lambda partition, change: self.proposals.append((partition, change)),
            ),
            clock=self.clock,
            properties=dict,
            directories=DirectoryAssignments(assign=self._assign, supervisor=Supervisor()),
        )
        self._offset = 0

    def publish(self, **topics: list[PartitionImage] | None) -> ClusterImage:
        """A new image with these topics set (or deleted); underscores stand for dashes."""
        before = self.partitions.image
        delta = ImageDelta(before)
        by_name = dict(before.topics)
        for key, images in topics.items():
            name = key.replace("_", "-")
            topic_id = Uuid(name.encode().ljust(16, b"\0")[:16])
            if images is None:
                delta.deleted_topics[topic_id] = by_name.pop(name)
                continue
            changed = delta._topic_delta(topic_id) if name in by_name else None
            if changed is None:
                from ottla.metadata.delta import TopicDelta

                changed = delta.topics[topic_id] = TopicDelta(name=name, topic_id=topic_id, before=None)
            changed.changed.update(enumerate(images))
            by_name[name] = TopicImage(name=name, topic_id=topic_id, partitions=tuple(images))
        self._offset += 1
        image = ClusterImage(
            provenance=Provenance(offset=self._offset),
            topics=by_name,
            topics_by_id={topic.topic_id: topic for topic in by_name.values()},
        )
        self.partitions.on_image(delta, image)
        return image

    async def _assign(self, assignments: Sequence[DirectoryAssignment]) -> list[ErrorCode]:
        self.assigned.extend(assignments)
        return [ErrorCode.NONE for _ in assignments]

    def killed(self) -> "Bench":
        """The same directory as the next start finds it."""
        self.close()
        return Bench(self._directory, self._policy)

    def close(self) -> None:
        self.store.close(clean=False)


def led(epoch: int = 0, isr: tuple[int, ...] = (NODE_ID,), partition_epoch: int = 0) -> PartitionImage:
    return PartitionImage(
        replicas=(NODE_ID, *(node for node in isr if node != NODE_ID)),
        isr=isr,
        leader=NODE_ID,
        leader_epoch=epoch,
        partition_epoch=partition_epoch,
    )


def batch(
    *values: bytes,
    timestamp: int = 1_700_000_000_000,
    producer: tuple[int, int, int] | None = None,
    transactional: bool = False,
) -> memoryview:
    """A writable batch as it stands in a request's frame; ``producer`` is (id, epoch, sequence)."""
    if producer is None:
        builder = BatchBuilder()
    else:
        builder = BatchBuilder(
            producer_id=producer[0],
            producer_epoch=producer[1],
            base_sequence=producer[2],
            transactional=transactional,
        )
    for value in values:
        builder.append(timestamp, b"key", value, ())
    return memoryview(bytearray(builder.build()))


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(policy: FlushPolicy = FlushPolicy.NEVER) -> Bench:
        made.append(Bench(tmp_path / f"data{len(made)}", policy))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def one_led() -> Callable[..., PartitionImage]:
    return led


@pytest.fixture
def make_batch() -> Callable[..., memoryview]:
    return batch

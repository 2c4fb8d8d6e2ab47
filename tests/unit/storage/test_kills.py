"""Killed at any change to the disk, a node comes back with everything that was appended: the page cache outlives it."""

import os
from pathlib import Path
from random import Random

import pytest

from ottla.config.log import LogConfig
from ottla.model import TopicPartition, Uuid
from ottla.storage.log_store import LogStore
from ottla.testing.crash_images import FaultyDisk, Killed

STRIDE = int(os.environ.get("OTTLA_KILL_STRIDE", "15"))
CONFIG = LogConfig(segment_bytes=1000, index_interval_bytes=200, segment_index_bytes=480, file_delete_delay_ms=0)
PARTITIONS = [TopicPartition("orders", 0), TopicPartition("clicks", 0)]


class Model:
    """What must be there: by partition, the records from an offset on. During a step two states are right."""

    def __init__(self) -> None:
        self.records: dict[TopicPartition, dict[int, bytes]] = {}
        self.meanwhile: dict[TopicPartition, dict[int, bytes]] | None = None
        self.floor: dict[TopicPartition, int] = {}

    def states(self) -> list[dict[TopicPartition, dict[int, bytes]]]:
        return [self.records] if self.meanwhile is None else [self.records, self.meanwhile]


def open_store(root: Path, disk=None) -> LogStore:
    store = LogStore.open([str(root)], cluster_id="c", node_id=1, disk=disk, rng=Random(5))
    store.load(lambda _: CONFIG, now_ms=0)
    return store


def work(root: Path, disk: FaultyDisk, seed: int, batches, model: Model) -> None:
    rng = Random(seed)
    store = open_store(root, disk)
    for _ in range(45):
        partition = rng.choice(PARTITIONS)
        log = store.get(partition)
        if log is None:
            log = store.create(partition, Uuid.random(Random(partition.topic)), CONFIG, now_ms=0)
            model.records[partition] = {}
        append(log, batches, rng, model)
        action = rng.random()
        if action < 0.2:
            log.flush()
        elif action < 0.3:
            log.roll(0)
        elif action < 0.4:
            store.checkpoint_recovery_points()
        elif action < 0.5:
            truncate(log, rng, model)
        elif action < 0.6:
            log.advance_log_start(rng.randint(log.log_start_offset, log.log_end_offset))
            model.floor[partition] = log.log_start_offset
            log.retain(0, log.log_end_offset)
            store.checkpoint_log_starts()
            log.purge(0)
        elif action < 0.65:
            model.meanwhile = {tp: records for tp, records in model.records.items() if tp != partition}
            store.delete(partition, now_ms=0)
            model.records, model.meanwhile = model.meanwhile, None
            model.floor.pop(partition, None)
            store.purge(0)
        elif action < 0.7:
            store.close()
            store = open_store(root, disk)
    store.close()


def append(log, batches, rng: Random, model: Model) -> None:
    count = rng.randint(1, 3)
    batch, values = batches.build(log.log_end_offset, count, size=rng.randint(5, 300))
    from ottla.records.batch import iter_headers

    partition = log.topic_partition
    after = model.records[partition] | dict(enumerate(values, log.log_end_offset))
    model.meanwhile = model.records | {partition: after}
    log.append(batch, list(iter_headers(batch)), 0)
    model.records, model.meanwhile = model.meanwhile, None


def truncate(log, rng: Random, model: Model) -> None:
    starts = [header.base_offset for segment in log.segments for _, header in segment.headers()]
    offset = rng.choice([*starts, log.log_end_offset])
    partition = log.topic_partition
    kept = {at: value for at, value in model.records[partition].items() if at < offset}
    model.meanwhile = model.records | {partition: kept}
    log.truncate_to(offset)
    model.records, model.meanwhile = model.meanwhile, None


def fits(found: dict, state: dict, floors: dict) -> bool:
    """Whether what was found is the state: records below the floor may be gone, whole batches of a cut may be left."""
    for partition, records in state.items():
        floor = floors.get(partition, 0)
        have = {at: value for at, value in found.get(partition, {}).items() if at >= floor}
        if have != {at: value for at, value in records.items() if at >= floor}:
            return False
    return all(partition in state for partition, values in found.items() if values)


def between(found: dict, states: list, floors: dict) -> bool:
    """Half-way through a truncation some whole segments are gone already: a prefix between the two states."""
    before, after = states
    merged = {}
    for partition, records in before.items():
        end = max(found.get(partition, {}), default=-1)
        reached = after.get(partition, records)
        merged[partition] = {at: value for at, value in records.items() if at <= end or at in reached}
    return fits(found, merged, floors)


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_call(scratch, new_batches, values_in, seed):
    counting = FaultyDisk(lambda number, kind, path: None)
    (scratch / "whole").mkdir()
    work(scratch / "whole", counting, seed, new_batches(), Model())
    assert counting.calls > 300
    for call in range(1 + seed % STRIDE, counting.calls + 1, STRIDE):
        root = scratch / f"killed-{call}"
        root.mkdir()
        model = Model()
        disk = FaultyDisk.dying_at(call)
        with pytest.raises(Killed):
            work(root, disk, seed, new_batches(), model)
        disk.bury()
        store = open_store(root, FaultyDisk(lambda number, kind, path: None))
        assert store.offline_logs == {}, f"call {call}"
        found = {partition: values_in(log) for partition, log in store.logs.items()}
        states = model.states()
        assert any(fits(found, state, model.floor) for state in states) or (
            len(states) == 2 and between(found, states, model.floor)
        ), f"call {call}"
        store.close()
        again = open_store(root, FaultyDisk(lambda number, kind, path: None))
        assert {partition: values_in(log) for partition, log in again.logs.items()} == found, f"call {call}"
        again.close(clean=False)

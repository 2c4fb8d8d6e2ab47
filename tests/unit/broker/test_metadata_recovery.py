"""The metadata log after a crash: a torn end is cut, damage of what was durable stops the start and says where."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ottla.broker.node import Node
from ottla.config.broker import BrokerConfig
from ottla.metadata.controller.topics import CreateTopics, NewTopic
from ottla.storage.errors import CorruptLogError, LogDirectoryError
from ottla.storage.names import CLUSTER_METADATA

CHECKPOINT = "recovery-point-offset-checkpoint"


def config_of(*directories: Path, metadata: Path | None = None) -> BrokerConfig:
    properties = {
        "node.id": "1",
        "listeners": "PLAINTEXT://127.0.0.1:0",
        "log.dirs": ",".join(map(str, directories)),
        "log.flush.offset.checkpoint.interval.ms": "20",
    }
    if metadata is not None:
        properties["metadata.log.dir"] = str(metadata)
    return BrokerConfig.parse(properties)


async def create(node: Node, *names: str) -> None:
    for name in names:
        topics = (NewTopic(name=name, partitions=1),)
        await node._driver.submit(
            lambda controller, _, topics=topics: controller.create_topics(CreateTopics(topics=topics))
        )


async def crash(node: Node) -> None:
    """Stop the tasks and let go of the files as they are."""
    await node._listeners.stop(0)
    await node._abandon()


def in_loop(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


def point_of_metadata(directory: Path) -> int | None:
    path = directory / CHECKPOINT
    lines = path.read_text().splitlines()[2:] if path.exists() else []
    points = {line.rsplit(" ", 1)[0]: int(line.rsplit(" ", 1)[1]) for line in lines}
    return points.get("__cluster_metadata 0")


def segment_of(directory: Path) -> Path:
    return directory / str(CLUSTER_METADATA) / f"{0:020d}.log"


def damage(path: Path, position: int) -> None:
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes((byte[0] ^ 0xFF,)))


async def fill(config: BrokerConfig, directory: Path, *, clean: bool) -> int:
    """Topics early and late, a checkpoint between them; returns where in the segment the first of them is."""
    node = Node(config)
    await node.start()
    begin = segment_of(directory).stat().st_size
    await create(node, "early", "middle")
    flushed = node._metadata_log.log.recovery_point
    while (point_of_metadata(directory) or 0) < flushed:
        await asyncio.sleep(0.01)
    await create(node, "late")
    if clean:
        await node.stop()
    else:
        await crash(node)
    return begin


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("apart", [True, False])
def test_damage_below_the_recovery_point_stops_the_start(tmp_path: Path, clean: bool, apart: bool) -> None:
    metadata = tmp_path / "metadata" if apart else tmp_path / "data"
    config = config_of(tmp_path / "data", metadata=metadata)

    async def scenario() -> None:
        begin = await fill(config, metadata, clean=clean)
        segment = segment_of(metadata)
        damage(segment, begin + 70)
        before = segment.read_bytes()
        for _ in range(2):
            node = Node(config)
            with pytest.raises(CorruptLogError) as raised:
                await node.start()
            assert raised.value.path == str(segment)
            assert raised.value.position == begin
            assert segment.read_bytes() == before
        damage(segment, begin + 70)
        healed = Node(config)
        await healed.start()
        assert {"early", "middle", "late"} <= healed.partitions.image.topics.keys()
        await healed.stop()

    in_loop(scenario)


def test_the_end_is_in_the_checkpoint_after_a_clean_stop_and_survives_its_rewrites(tmp_path: Path) -> None:
    config = config_of(tmp_path)

    async def scenario() -> None:
        await fill(config, tmp_path, clean=True)
        first = point_of_metadata(tmp_path)
        node = Node(config)
        await node.start()
        assert first is not None
        assert node._metadata_log.end_offset > first
        await create(node, "more")
        node._store.checkpoint_recovery_points()
        assert point_of_metadata(tmp_path) == node._metadata_log.end_offset
        await node.stop()
        assert point_of_metadata(tmp_path) == node._metadata_log.end_offset

    in_loop(scenario)


def test_a_torn_end_above_the_recovery_point_is_cut(tmp_path: Path) -> None:
    config = config_of(tmp_path)

    async def scenario() -> None:
        await fill(config, tmp_path, clean=True)
        segment = segment_of(tmp_path)
        with open(segment, "ab") as file:
            file.write(segment.read_bytes()[:100])
        node = Node(config)
        await node.start()
        assert {"early", "middle", "late"} <= node.partitions.image.topics.keys()
        await node.stop()

    in_loop(scenario)


@pytest.mark.parametrize("loss", ["cut", "emptied", "removed"])
def test_a_metadata_log_that_lost_its_end_is_refused(tmp_path: Path, loss: str) -> None:
    config = config_of(tmp_path)

    async def scenario() -> None:
        begin = await fill(config, tmp_path, clean=True)
        segment = segment_of(tmp_path)
        if loss == "removed":
            os.unlink(segment)
        else:
            os.truncate(segment, begin if loss == "cut" else 0)
        with pytest.raises(CorruptLogError, match="durable"):
            await Node(config).start()

    in_loop(scenario)


def test_with_an_unreadable_checkpoint_only_a_torn_end_is_cut(tmp_path: Path) -> None:
    config = config_of(tmp_path)

    async def scenario() -> None:
        begin = await fill(config, tmp_path, clean=True)
        segment = segment_of(tmp_path)
        (tmp_path / CHECKPOINT).write_bytes(b"\0" * 30)
        damage(segment, begin + 70)
        for _ in range(2):
            with pytest.raises(CorruptLogError, match="Good batches follow") as raised:
                await Node(config).start()
            assert raised.value.position == begin
        damage(segment, begin + 70)
        os.truncate(segment, segment.stat().st_size - 5)
        node = Node(config)
        await node.start()
        assert {"early", "middle", "late"} <= node.partitions.image.topics.keys()
        await node.stop()

    in_loop(scenario)


def test_a_metadata_directory_of_its_own_is_locked(tmp_path: Path) -> None:
    async def scenario() -> None:
        node = Node(config_of(tmp_path / "a", metadata=tmp_path / "metadata"))
        await node.start()
        other = Node(config_of(tmp_path / "b", metadata=tmp_path / "metadata"))
        with pytest.raises(LogDirectoryError, match="in use"):
            await other.start()
        await node.stop()
        again = Node(config_of(tmp_path / "b", metadata=tmp_path / "metadata"))
        await again.start()
        await again.stop()

    in_loop(scenario)

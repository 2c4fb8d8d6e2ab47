"""A running node whose disk fails, fills up, or held damage at the start: what clients are told, what goes on."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from harness.nodes import TOPIC, Client, Trouble, config_of, create, in_loop
from ottla.broker.node import Node
from ottla.metadata.image import DIRECTORY_UNASSIGNED
from ottla.storage.errors import LogDirectoryFailed
from ottla.testing.crash_images import FaultyDisk
from ottla.wire.errors import ErrorCode, KafkaError

STORAGE_ERROR = int(ErrorCode.KAFKA_STORAGE_ERROR)


def in_directory(node: Node, name: str) -> int:
    """A partition of the topic that lies in the log directory of that name."""
    return next(
        partition.topic_partition.partition
        for partition in node.partitions
        if os.path.basename(partition.log.log_directory) == name
    )


@pytest.mark.parametrize(("kind", "number"), [("sync", errno.EIO), ("sync", errno.ENOSPC), ("write", errno.EIO)])
def test_one_of_two_directories_fails_and_the_other_serves(tmp_path: Path, kind: str, number: int) -> None:
    trouble = Trouble()

    async def scenario() -> None:
        node = Node(config_of(tmp_path / "a", tmp_path / "b"), disk=trouble.disk)
        await node.start()
        await create(node, 4)
        client = await Client.connect(node)
        good, bad = in_directory(node, "a"), in_directory(node, "b")
        assert await client.produce(bad, b"kept") == 0
        waiting = asyncio.ensure_future((await Client.connect(node)).consume(bad, 1, max_wait_ms=20_000))
        await asyncio.sleep(0.05)

        trouble.begin(tmp_path / "b" / f"{TOPIC}-", kind, number=number)
        assert await client.produce(bad, b"lost") == STORAGE_ERROR
        trouble.end()
        # A disk that claims to work again is not believed: not for this partition, nor for its neighbours.
        neighbour = next(
            other.topic_partition.partition
            for other in node.partitions
            if other.log.log_directory == str(tmp_path / "b") and other.topic_partition.partition != bad
        )
        for partition in (bad, neighbour):
            for acks in (-1, 1):
                assert await client.produce(partition, b"never", acks=acks) == STORAGE_ERROR
        # Whoever waited at the end of the log is told at once, and so is who asks there.
        assert (await waiting)[0] == STORAGE_ERROR
        assert (await client.consume(bad, 1))[0] == STORAGE_ERROR
        assert (await client.end_offset(bad))[0] == STORAGE_ERROR
        assert await client.directories() == {"a": 0, "b": STORAGE_ERROR}
        assert await client.topics() == [TOPIC]
        assert await client.produce(good, b"fine") == 0
        assert await client.consume(good) == (0, [b"fine"])
        assert not node._supervisor.failure.done()
        await node.stop()

        again = Node(config_of(tmp_path / "a", tmp_path / "b"))
        await again.start()
        client = await Client.connect(again)
        error, values = await client.consume(bad)
        assert (error, values[:1]) == (0, [b"kept"])
        assert b"never" not in values
        assert await client.consume(good) == (0, [b"fine"])
        assert await client.produce(bad, b"again") == 0
        assert await client.directories() == {"a": 0, "b": 0}
        await again.stop()

    in_loop(scenario)


def test_the_only_directory_fails_and_the_node_says_why_and_stops(tmp_path: Path) -> None:
    trouble = Trouble()

    async def scenario() -> None:
        node = Node(config_of(tmp_path / "data"), disk=trouble.disk)
        await node.start()
        await create(node, 1)
        client = await Client.connect(node)
        assert await client.produce(0, b"kept") == 0
        trouble.begin(tmp_path / "data" / f"{TOPIC}-", "sync")
        assert await client.produce(0, b"lost") == STORAGE_ERROR
        trouble.end()
        assert await client.produce(0, b"never") == STORAGE_ERROR
        with pytest.raises(LogDirectoryFailed, match="Input/output error"):
            await node.wait_stopped()
        await node.stop()
        assert not (tmp_path / "data" / ".kafka_cleanshutdown").exists()

        again = Node(config_of(tmp_path / "data"))
        await again.start()
        client = await Client.connect(again)
        assert (await client.consume(0))[1][0] == b"kept"
        assert await client.produce(0, b"again") == 0
        await again.stop()

    in_loop(scenario)


@pytest.mark.parametrize("directories", [1, 2])
def test_a_full_disk_is_an_error_that_passes(tmp_path: Path, directories: int) -> None:
    trouble = Trouble()
    paths = [tmp_path / name for name in "ab"[:directories]]

    async def scenario() -> None:
        node = Node(config_of(*paths, log_segment_bytes="1048576"), disk=trouble.disk)
        await node.start()
        await create(node, directories)
        client = await Client.connect(node)
        partition = in_directory(node, "ab"[directories - 1])
        assert await client.produce(partition, b"first") == 0
        trouble.begin(paths[-1] / f"{TOPIC}-", "write", "make_directory", number=errno.ENOSPC)
        for acks in (-1, 1):
            assert await client.produce(partition, b"no room", acks=acks) == STORAGE_ERROR
        assert await client.consume(partition) == (0, [b"first"])
        assert set((await client.directories()).values()) == {0}
        trouble.end()
        assert await client.produce(partition, b"second") == 0
        assert await client.consume(partition) == (0, [b"first", b"second"])
        assert not node._supervisor.failure.done()
        await node.stop()

    in_loop(scenario)


def test_a_topic_can_be_deleted_from_a_full_disk(tmp_path: Path) -> None:
    trouble = Trouble()

    async def scenario() -> None:
        node = Node(config_of(tmp_path / "a", tmp_path / "b"), disk=trouble.disk)
        await node.start()
        await create(node, 2)
        client = await Client.connect(node)
        trouble.begin(tmp_path / "b", "write", number=errno.ENOSPC)
        assert await client.delete_topic() == 0
        assert await client.topics() == []
        assert set((await client.directories()).values()) == {0}
        trouble.end()
        await create(node, 2)
        assert await client.produce(0, b"new") == 0
        assert await client.produce(1, b"new") == 0
        await node.stop()

    in_loop(scenario)


@pytest.mark.parametrize("kind", ["rename", "sync", "write"])
def test_a_topic_can_be_deleted_from_a_failing_disk(tmp_path: Path, kind: str) -> None:
    trouble = Trouble()

    async def scenario() -> None:
        node = Node(config_of(tmp_path / "a", tmp_path / "b"), disk=trouble.disk)
        await node.start()
        await create(node, 2)
        client = await Client.connect(node)
        trouble.begin(tmp_path / "b", kind)
        assert await client.delete_topic() == 0
        assert await client.topics() == []
        assert await client.directories() == {"a": 0, "b": STORAGE_ERROR}
        assert not node._supervisor.failure.done()
        trouble.end()
        await node.stop()

    in_loop(scenario)


def test_a_checkpoint_that_cannot_be_written_counts_against_its_directory(tmp_path: Path) -> None:
    trouble = Trouble()

    async def scenario() -> None:
        node = Node(config_of(tmp_path / "a", tmp_path / "b"), disk=trouble.disk)
        await node.start()
        await create(node, 2)
        client = await Client.connect(node)
        trouble.begin(tmp_path / "b" / "recovery-point", "write", number=errno.ENOSPC)
        await node._housekeeping.checkpoint_recovery_points()
        assert await client.directories() == {"a": 0, "b": 0}
        trouble.begin(tmp_path / "b" / "recovery-point", "write")
        await node._housekeeping.checkpoint_recovery_points()
        assert await client.directories() == {"a": 0, "b": STORAGE_ERROR}
        await node.stop()

    in_loop(scenario)


def test_damage_found_at_the_start_takes_one_partition_offline(tmp_path: Path) -> None:
    async def scenario() -> None:
        node = Node(config_of(tmp_path))
        await node.start()
        await create(node, 3)
        client = await Client.connect(node)
        for partition in range(3):
            assert await client.produce(partition, b"kept") == 0
        await node.stop()
        damaged = tmp_path / f"{TOPIC}-1" / f"{0:020d}.log"
        os.truncate(damaged, damaged.stat().st_size - 1)

        again = Node(config_of(tmp_path))
        await again.start()
        client = await Client.connect(again)
        assert await client.produce(1, b"never") == STORAGE_ERROR
        assert (await client.consume(1))[0] == STORAGE_ERROR
        with pytest.raises(KafkaError, match="damaged at position 0"):
            again.partitions.get(TOPIC, 1)
        for partition in (0, 2):
            assert await client.consume(partition) == (0, [b"kept"])
            assert await client.produce(partition, b"more") == 0
        assert await client.topics() == [TOPIC]
        assert await client.directories() == {os.path.basename(tmp_path): 0}
        await again.stop()
        assert damaged.stat().st_size > 0

    in_loop(scenario)


def test_too_many_open_files_are_no_failure_of_the_disk(tmp_path: Path) -> None:
    class Short(FaultyDisk):
        short_of_files = False

        def open(self, path: str, *, create: bool = False, writable: bool = True) -> int:
            if self.short_of_files and f"{TOPIC}-" in path:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
            return super().open(path, create=create, writable=writable)

    disk = Short(lambda number, kind, path: None)

    async def scenario() -> None:
        node = Node(config_of(tmp_path / "data"), disk=disk)
        await node.start()
        await create(node, 1)
        client = await Client.connect(node)
        assert await client.produce(0, b"sealed") == 0
        node.partitions.get(TOPIC, 0).log.roll(0)
        await node.stop()
        node = Node(config_of(tmp_path / "data"), disk=disk)
        await node.start()
        client = await Client.connect(node)
        disk.short_of_files = True
        node.partitions.get(TOPIC, 0).log.segments[0]._handle = None
        assert (await client.consume(0))[0] == STORAGE_ERROR
        disk.short_of_files = False
        assert await client.consume(0) == (0, [b"sealed"])
        assert await client.produce(0, b"more") == 0
        assert not node._supervisor.failure.done()
        await node.stop()

    in_loop(scenario)


@pytest.mark.parametrize("clean", [True, False])
def test_a_directory_that_cannot_be_opened_is_done_without_until_it_is_back(tmp_path: Path, clean: bool) -> None:
    async def scenario() -> None:
        places = (tmp_path / "a", tmp_path / "b")
        node = Node(config_of(*places))
        await node.start()
        await create(node, 4)
        client = await Client.connect(node)
        good, bad = in_directory(node, "a"), in_directory(node, "b")
        for partition in (good, bad):
            assert await client.produce(partition, b"kept") == 0
        await assigned(node, 4)
        if not clean:
            node._supervisor.fail(RuntimeError("as if killed"))
        await node.stop()

        (tmp_path / "b").rename(tmp_path / "away")
        (tmp_path / "b").write_text("no directory")
        without = Node(config_of(*places))
        await without.start()
        client = await Client.connect(without)
        assert await client.directories() == {"a": 0, "b": STORAGE_ERROR}
        assert await client.consume(good) == (0, [b"kept"])
        assert await client.produce(bad, b"lost") == STORAGE_ERROR
        assert not (tmp_path / "a" / f"{TOPIC}-{bad}").exists(), "no empty log takes the place of the one that is away"
        led = without.partitions.image.topics[TOPIC].partitions
        assert (led[good].leader, led[bad].leader) == (1, -1)
        await without.stop()

        (tmp_path / "b").unlink()
        (tmp_path / "away").rename(tmp_path / "b")
        again = Node(config_of(*places))
        await again.start()
        client = await Client.connect(again)
        for partition in (good, bad):
            assert await client.consume(partition) == (0, [b"kept"])
            assert await client.produce(partition, b"more") == 0
        await again.stop()

    in_loop(scenario)


def test_the_controller_learns_where_replicas_lie(tmp_path: Path) -> None:
    async def scenario() -> None:
        node = Node(config_of(tmp_path / "a", tmp_path / "b"))
        await node.start()
        await create(node, 4)
        await assigned(node, 4)
        for index, partition in enumerate(node.partitions.image.topics[TOPIC].partitions):
            held = node.partitions.get(TOPIC, index).log
            assert partition.directories == (node._store.directory_id(held),)
        assert len({partition.directories for partition in node.partitions.image.topics[TOPIC].partitions}) == 2
        offset = node.partitions.image.provenance.offset
        await node.stop()

        again = Node(config_of(tmp_path / "a", tmp_path / "b"))
        await again.start()
        await asyncio.sleep(0.1)
        written = [d for t in again.partitions.image.topics.values() for p in t.partitions for d in p.directories]
        assert len(set(written)) == 2
        assert again.partitions.image.provenance.offset < offset + 20, "nothing is reported twice"
        await again.stop()

    in_loop(scenario)


async def assigned(node: Node, partitions: int) -> None:
    """Wait until the controller knows the directory of each partition."""
    while True:
        found = [part.directories for part in node.partitions.image.topics[TOPIC].partitions]
        if len(found) == partitions and DIRECTORY_UNASSIGNED not in {one for row in found for one in row}:
            return
        await asyncio.sleep(0.01)

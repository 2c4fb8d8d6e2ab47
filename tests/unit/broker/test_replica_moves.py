"""Replicas move between log directories while they serve: nothing is lost, doubled or out of order."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from harness.nodes import TOPIC, Client, Trouble, config_of, create, in_loop
from ottla.broker.node import Node
from ottla.broker.replica_moves import CHUNK_BYTES
from ottla.metadata.controller.configs import ConfigChange, ConfigOperation
from ottla.metadata.image import ConfigResource, ResourceType
from ottla.model import TopicPartition
from ottla.records.builder import BatchBuilder
from ottla.records.validate import Origin
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.alter_replica_log_dirs_request import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from ottla.wire.messages.describe_log_dirs_request import DescribeLogDirsRequest

KEY = TopicPartition(TOPIC, 0)
VALUE = b"v" * 2000


class Case:
    """A node with two directories and a topic of one partition, which lies in ``here`` and may go ``there``."""

    def __init__(self, place: Path, **properties: str) -> None:
        self.places = (place / "a", place / "b")
        self.properties = properties
        self.trouble = Trouble()
        self.node: Node
        self.client: Client

    async def start(self) -> None:
        self.node = Node(config_of(*self.places, **self.properties), disk=self.trouble.disk)
        await self.node.start()
        self.client = await Client.connect(self.node)

    async def restart(self, *, clean: bool) -> None:
        if not clean:
            self.node._supervisor.fail(RuntimeError("as if killed"))
        await self.node.stop()
        await self.start()

    @property
    def here(self) -> Path:
        return Path(self.node.partitions.get(TOPIC, 0).log.log_directory)

    @property
    def there(self) -> Path:
        return next(place for place in self.places if place != self.here)

    async def alter(self, path: Path | str, topic: str = TOPIC) -> ErrorCode:
        row = AlterReplicaLogDirTopic(name=topic, partitions=[0])
        request = AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=str(path), topics=[row])])
        answer = await self.client.peer.request(ApiKey.ALTER_REPLICA_LOG_DIRS, request)
        return ErrorCode(answer.results[0].partitions[0].error_code)

    async def described(self) -> dict[str, list[tuple[bool, int]]]:
        """By directory: whether it is the future replica, and its lag."""
        answer = await self.client.peer.request(ApiKey.DESCRIBE_LOG_DIRS, DescribeLogDirsRequest(topics=None))
        return {
            Path(result.log_dir).name: [
                (part.is_future_key, part.offset_lag) for topic in result.topics for part in topic.partitions
            ]
            for result in answer.results
        }

    async def moved_to(self, place: Path) -> None:
        while self.here != place or self.node._moves._moves:
            await asyncio.sleep(0.01)

    async def throttle(self, bytes_per_second: int | None) -> None:
        operation = ConfigOperation.DELETE if bytes_per_second is None else ConfigOperation.SET
        change = ConfigChange(
            name="replica.alter.log.dirs.io.max.bytes.per.second",
            operation=operation,
            value=None if bytes_per_second is None else str(bytes_per_second),
        )
        await self.node._driver.submit(
            lambda controller, _: controller.incremental_alter_configs(
                [(ConfigResource(ResourceType.BROKER, ""), [change])]
            )
        )

    async def fill(self, count: int) -> list[bytes]:
        values = [b"%08d" % number + VALUE for number in range(count)]
        for value in values:
            assert await self.client.produce(0, value, acks=1) == 0
        return values

    async def everything(self) -> list[bytes]:
        found: list[bytes] = []
        while True:
            error, values = await self.client.consume(0, len(found), max_wait_ms=0)
            assert error == 0
            if not values:
                return found
            found.extend(values)


def in_case(tmp_path: Path, scenario: Callable[[Case], Awaitable[None]], **properties: str) -> None:
    async def run() -> None:
        case = Case(tmp_path, **properties)
        await case.start()
        await create(case.node, 1)
        await scenario(case)
        await case.node.stop()

    in_loop(run)


@pytest.mark.parametrize("segment_bytes", ["1073741824", "1048576"])
def test_a_replica_moves_while_records_arrive(tmp_path: Path, segment_bytes: str) -> None:
    async def scenario(case: Case) -> None:
        values = await case.fill(1000)
        here, there = case.here, case.there
        sent: list[bytes] = []
        client = await Client.connect(case.node)

        async def more() -> None:
            while case.here == here or len(sent) < 50:
                sent.append(b"more %d" % len(sent))
                assert await client.produce(0, sent[-1]) == 0

        producing = asyncio.ensure_future(more())
        assert await case.alter(there) is ErrorCode.NONE
        await case.moved_to(there)
        await producing
        assert await case.everything() == values + sent
        assert (there / f"{TOPIC}-0").is_dir()
        assert not (here / f"{TOPIC}-0").exists()
        assert [entry.name for entry in here.iterdir() if entry.name.endswith("-delete")]
        held = case.node._store.directory_id(case.node.partitions.get(TOPIC, 0).log)
        while case.node.partitions.image.topics[TOPIC].partitions[0].directories != (held,):
            await asyncio.sleep(0.01)
        await case.restart(clean=False)
        assert case.here == there
        assert await case.everything() == values + sent
        assert await case.client.produce(0, b"last") == 0

    in_case(tmp_path, scenario, log_segment_bytes=segment_bytes)


def test_the_future_replica_is_described_and_the_move_can_be_given_up(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        values = await case.fill(1200)
        here, there = case.here, case.there
        await case.throttle(CHUNK_BYTES // 4)
        assert await case.alter(there) is ErrorCode.NONE
        await asyncio.sleep(0.1)
        shown = await case.described()
        assert shown[here.name] == [(False, 0)]
        ((future, lag),) = shown[there.name]
        assert future
        assert 0 < lag < 1200
        assert await case.alter(there) is ErrorCode.NONE, "asked again, it goes on"
        assert (await case.described())[there.name][0][0]
        assert await case.alter(here) is ErrorCode.NONE
        assert (await case.described())[there.name] == []
        await case.throttle(None)
        while not any(entry.name.endswith("-delete") for entry in there.iterdir()):
            await asyncio.sleep(0.05)
        assert case.here == here
        assert await case.everything() == values
        assert await case.alter(there) is ErrorCode.NONE
        await case.moved_to(there)
        assert await case.everything() == values

    in_case(tmp_path, scenario)


@pytest.mark.parametrize("clean", [True, False])
def test_a_move_goes_on_after_a_restart(tmp_path: Path, clean: bool) -> None:
    async def scenario(case: Case) -> None:
        values = await case.fill(1200)
        there = case.there
        await case.throttle(CHUNK_BYTES // 4)
        assert await case.alter(there) is ErrorCode.NONE
        await asyncio.sleep(0.1)
        await case.restart(clean=clean)
        assert any(entry.name.endswith("-future") for entry in there.iterdir())
        assert (await case.described())[there.name][0][0]
        await case.throttle(None)
        await case.moved_to(there)
        assert await case.everything() == values

    in_case(tmp_path, scenario)


def test_what_retention_deletes_under_a_move_is_not_missed(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        values = await case.fill(1500)
        there = case.there
        await case.throttle(CHUNK_BYTES // 2)
        assert await case.alter(there) is ErrorCode.NONE
        await asyncio.sleep(0.05)
        log = case.node.partitions.get(TOPIC, 0).log
        log.advance_log_start(1400)
        log.retain(0, 1500)
        await case.throttle(None)
        await case.moved_to(there)
        found = case.node.partitions.get(TOPIC, 0).log
        assert (found.log_start_offset, found.log_end_offset) == (1400, 1500)
        error, rest = await case.client.consume(0, 1400)
        assert (error, rest[:1]) == (0, values[1400:1401])

    in_case(tmp_path, scenario, log_segment_bytes="1048576")


def test_a_log_that_begins_within_a_batch_is_moved(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        partition = case.node.partitions.get(TOPIC, 0)
        batches = BatchBuilder()
        for number in range(10):
            batches.append(1_700_000_000_000, None, b"%d" % number)
        records = memoryview(bytearray(batches.build()))
        now_ms = case.node._clock.now_ms()
        partition.append(records, origin=Origin.CLIENT, required_acks=1, now_ms=now_ms)
        while partition.high_watermark < 10:
            await asyncio.sleep(0.01)
        partition.delete_records_before(5)
        target = case.there
        assert await case.alter(target) is ErrorCode.NONE
        await asyncio.wait_for(case.moved_to(target), 5)
        assert partition.log.log_start_offset == 5
        error, values = await case.client.consume(0, 5, max_wait_ms=0)
        assert (error, values[-5:]) == (0, [b"5", b"6", b"7", b"8", b"9"])

    in_case(tmp_path, scenario)


def test_a_topic_that_is_deleted_takes_its_future_replica_along(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        await case.fill(1200)
        there = case.there
        await case.throttle(CHUNK_BYTES // 2)
        assert await case.alter(there) is ErrorCode.NONE
        await asyncio.sleep(0.05)
        assert await case.client.delete_topic() == 0
        await case.throttle(None)
        while any(entry.name.endswith("-future") for entry in there.iterdir()):
            await asyncio.sleep(0.05)
        assert not case.node._store.futures.logs

    in_case(tmp_path, scenario)


def test_a_target_that_fails_leaves_the_replica_where_it_is(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        values = await case.fill(1200)
        here, there = case.here, case.there
        assert there.name == "b", "the metadata log is in the other one"
        await case.throttle(CHUNK_BYTES // 2)
        assert await case.alter(there) is ErrorCode.NONE
        await asyncio.sleep(0.05)
        case.trouble.begin(there, "write", number=errno.EIO)
        await case.throttle(None)
        while there.name not in {name for name, code in (await case.client.directories()).items() if code}:
            await asyncio.sleep(0.05)
        assert case.here == here
        assert await case.everything() == values
        assert await case.client.produce(0, b"more") == 0
        assert await case.alter(there) is ErrorCode.KAFKA_STORAGE_ERROR

    in_case(tmp_path, scenario)


def test_what_cannot_be_moved(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        await case.fill(1)
        here = case.here
        assert await case.alter("/no/such/directory") is ErrorCode.LOG_DIR_NOT_FOUND
        assert await case.alter("relative") is ErrorCode.LOG_DIR_NOT_FOUND
        assert await case.alter(here, "t" * 240) is ErrorCode.INVALID_TOPIC_EXCEPTION
        assert await case.alter(here, "unknown") is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert await case.alter(here) is ErrorCode.NONE
        assert case.node._store.futures.logs == {}

    in_case(tmp_path, scenario)

"""A running node cleans its compacted logs: beside its clients, in a process that comes and goes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from ottla.broker import cleaner as cleaner_module
from ottla.broker.cleaner import Uncleanable
from ottla.broker.node import Node
from ottla.broker.partition import Partition
from ottla.client import Admin, Consumer, Producer
from ottla.config.broker import BrokerConfig
from ottla.model import TopicPartition
from ottla.net.peer import Peer
from ottla.wire.apis import ApiKey
from ottla.wire.errors import KafkaError
from ottla.wire.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.wire.messages.init_producer_id_request import InitProducerIdRequest
from ottla.wire.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.wire.messages.offset_fetch_request import OffsetFetchRequest, OffsetFetchRequestGroup

TOPIC = "state"
COMPACTED = {
    "cleanup.policy": "compact",
    "internal.segment.bytes": "20000",
    "min.cleanable.dirty.ratio": "0.01",
    "file.delete.delay.ms": "0",
}


@asynccontextmanager
async def running(directory: Path, **properties: str) -> AsyncIterator[Node]:
    config = {
        "node.id": "1",
        "listeners": "PLAINTEXT://127.0.0.1:0",
        "log.dirs": str(directory),
        "log.cleaner.backoff.ms": "30",
        **{key.replace("_", "."): value for key, value in properties.items()},
    }
    node = Node(BrokerConfig.parse(config))
    await node.start()
    try:
        yield node
        assert not node._supervisor.failure.done()
    finally:
        await node.stop()


async def create(node: Node, name: str = TOPIC, **config: str) -> None:
    async with Admin(node.bootstrap) as admin:
        overrides = {key.replace("_", "."): value for key, value in config.items()}
        await admin.create_topic(name, partitions=1, replication_factor=1, config=COMPACTED | overrides)


async def write(node: Node, rounds: int, keys: int = 50) -> None:
    async with Producer(node.bootstrap, linger_ms=0, batch_size=4000) as producer:
        for number in range(rounds):
            await producer.send_many(TOPIC, [(b"key-%d" % key, b"%d." % number * 20) for key in range(keys)])
            await producer.flush()


async def read(node: Node) -> list[tuple[int, bytes, bytes]]:
    found: list[tuple[int, bytes, bytes]] = []
    async with Consumer(node.bootstrap, topics=[TOPIC], auto_offset_reset="earliest") as consumer:
        end = (await consumer.end_offsets())[TopicPartition(TOPIC, 0)]
        while consumer.position(TopicPartition(TOPIC, 0)) < end:
            for batch in await consumer.poll(1):
                found += [(record.offset, record.key, record.value) for record in batch]
    return found


def partition_of(node: Node) -> Partition:
    return next(partition for partition in node.partitions if partition.topic_partition.topic == TOPIC)


async def until(what: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.02)


def clean_point(node: Node) -> int:
    return node._store.clean_point(partition_of(node).log) or 0


async def until_clean(node: Node) -> None:
    log = partition_of(node).log
    await until(lambda: log.cleaning is None and clean_point(node) >= log.active_segment.base_offset)


def in_loop(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


def children() -> set[int]:
    """Cleaner processes of this process."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
                command = Path(f"/proc/{entry}/cmdline").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(stat.rpartition(")")[2].split()[1]) == os.getpid() and "cleaner_process" in command:
                found.add(int(entry))
    return found


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc to look for processes in")


def test_the_last_value_of_every_key_is_what_is_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as node:
            await create(node)
            await write(node, 40)
            await until_clean(node)
            log = partition_of(node).log
            after = await read(node)
            assert len(after) < 700
            assert {key: value for _, key, value in after} == {b"key-%d" % key: b"39." * 20 for key in range(50)}
            assert all(value == b"%d." % (offset // 50) * 20 for offset, _, value in after)
            clean = [key for offset, key, _ in after if offset < clean_point(node)]
            assert len(clean) == len(set(clean))
            assert f"{TOPIC} 0 {clean_point(node)}" in (tmp_path / "cleaner-offset-checkpoint").read_text().splitlines()
            assert node.cleaner.status.cleanings >= 1
            assert node.cleaner.status.bytes_read > node.cleaner.status.bytes_written
            assert not node.cleaner.uncleanable
            assert not list(Path(log.directory).glob("*.cleaned"))
        async with running(tmp_path) as node:
            assert await read(node) == after
            await write(node, 40)
            await until_clean(node)
            assert len(await read(node)) < 400

    in_loop(scenario)


@needs_proc
def test_the_process_comes_with_the_first_dirty_log_and_goes_with_the_last(tmp_path: Path) -> None:
    async def scenario() -> None:
        before = children()
        async with running(tmp_path, log_cleaner_io_max_bytes_per_second="100000") as node:
            await create(node)
            await asyncio.sleep(0.2)
            assert children() == before
            await write(node, 40)
            await until(lambda: children() > before)
            await until_clean(node)
            await until(lambda: children() == before)

    in_loop(scenario)


@needs_proc
def test_as_many_logs_at_once_as_there_are_threads(tmp_path: Path) -> None:
    rates = {"log_cleaner_threads": "2", "log_cleaner_io_max_bytes_per_second": "60000"}

    async def scenario() -> None:
        before = children()
        async with running(tmp_path, **rates) as node:
            names = ("first", "second", "third")
            for name in names:
                await create(node, name=name)
                async with Producer(node.bootstrap, linger_ms=0, batch_size=4000) as producer:
                    await producer.send_many(name, [(b"key-%d" % (n % 50), b"value" * 20) for n in range(500)])
            logs = [p.log for p in node.partitions if p.topic_partition.topic in names]
            await until(lambda: sum(log.cleaning is not None for log in logs) == 2)
            await until(lambda: len(children() - before) == 2)
            await until(lambda: all(node._store.clean_point(log) for log in logs))
            assert len(children() - before) <= 2
        assert children() == before

    in_loop(scenario)


@needs_proc
def test_a_node_that_stops_while_cleaning_leaves_no_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        before = children()
        async with running(tmp_path, log_cleaner_io_max_bytes_per_second="20000") as node:
            await create(node)
            await write(node, 40)
            await until(lambda: partition_of(node).log.cleaning)
            await until(lambda: children() > before)
        assert children() == before
        async with running(tmp_path) as node:
            await until_clean(node)

    in_loop(scenario)


@needs_proc
def test_a_process_that_dies_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaner_module, "DEATH_BACKOFF_S", 0.01)

    async def scenario() -> None:
        before = children()
        async with running(tmp_path, log_cleaner_io_max_bytes_per_second="200000") as node:
            await create(node)
            await write(node, 40)
            await until(lambda: children() > before)
            os.kill((children() - before).pop(), signal.SIGKILL)
            await until(lambda: node.cleaner.status.processes_died == 1)
            await until_clean(node)
            assert not node.cleaner.uncleanable

    in_loop(scenario)


@needs_proc
def test_a_log_that_kills_its_cleaner_again_and_again_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaner_module, "DEATH_BACKOFF_S", 0.01)

    async def scenario() -> None:
        before = children()
        async with running(tmp_path, log_cleaner_io_max_bytes_per_second="1000") as node:
            await create(node)
            await write(node, 40)
            while not node.cleaner.uncleanable:
                for process in children() - before:
                    os.kill(process, signal.SIGKILL)
                await asyncio.sleep(0.02)
            assert node.cleaner.status.processes_died == 3
            assert node.cleaner.uncleanable_bytes()[str(tmp_path)] > 0
            assert len(await read(node)) == 2000

    in_loop(scenario)


def test_a_topic_deleted_while_it_is_cleaned(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, log_cleaner_io_max_bytes_per_second="20000") as node:
            await create(node)
            await write(node, 40)
            await until(lambda: partition_of(node).log.cleaning)
            log = partition_of(node).log
            async with Admin(node.bootstrap) as admin:
                await admin.delete_topics([TOPIC])
            await until(lambda: log.cleaning is None)
            await create(node)
            assert clean_point(node) == 0
            await write(node, 1)
            assert len(await read(node)) == 50
            assert not node.cleaner.uncleanable
            assert not node._store.offline_directories

    in_loop(scenario)


def test_a_log_truncated_while_it_is_cleaned(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, log_cleaner_io_max_bytes_per_second="50000") as node:
            await create(node)
            await write(node, 40)
            log = partition_of(node).log
            await until(lambda: log.cleaning)
            cleaning, end = log.cleaning, log.segments[1].base_offset
            log.truncate_to(end)
            assert cleaning.aborted
            await until(lambda: log.cleaning is not cleaning)
            assert log.log_end_offset == end
            assert clean_point(node) <= end
            await until_clean(node)
            assert log.log_end_offset == end
            assert not node.cleaner.uncleanable

    in_loop(scenario)


def test_a_directory_that_fails_while_its_log_is_cleaned(tmp_path: Path) -> None:
    async def scenario() -> None:
        directories = f"{tmp_path / 'a'},{tmp_path / 'b'}"
        async with running(tmp_path, log_dirs=directories, log_cleaner_io_max_bytes_per_second="20000") as node:
            # The first log goes where the metadata log is, whose directory takes the node along.
            await create(node, name="other")
            await create(node)
            await write(node, 40)
            log = partition_of(node).log
            assert log.log_directory != node._store.metadata_directory.path
            await until(lambda: log.cleaning)
            segments = list(log.segments)
            node._store.fail_directory(log.log_directory, OSError(5, "the disk is gone"))
            await until(lambda: log.cleaning is None)
            assert log.segments == segments
            assert not node.cleaner.uncleanable

    in_loop(scenario)


def test_a_damaged_log_is_set_aside_and_serves_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, log_cleaner_enable="false") as node:
            await create(node)
            await write(node, 20)
            log = partition_of(node).log
            await asyncio.to_thread(log.flush)
            path = Path(log.segments[2].log_path)
            await asyncio.sleep(0.3)
            assert clean_point(node) == 0
        content = bytearray(path.read_bytes())
        content[200] ^= 0x10
        path.write_bytes(content)
        async with running(tmp_path) as node:
            await until(lambda: node.cleaner.uncleanable)
            aside = node.cleaner.uncleanable[TopicPartition(TOPIC, 0)]
            assert path.name in aside.reason
            assert "crc" in aside.reason
            assert node.cleaner.uncleanable_bytes() == {str(tmp_path): aside.log.size}
            assert path.read_bytes() == content
            await write(node, 1)
            assert not list(path.parent.glob("*.cleaned"))
            with pytest.raises(KafkaError):
                await read(node)

    in_loop(scenario)


def test_compacted_and_deleted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as node:
            await create(node, cleanup_policy="compact,delete", retention_bytes="60000")
            # More than retention leaves, even if every key is there once.
            await write(node, 3, keys=2000)
            log = partition_of(node).log
            await until(lambda: log.size < 100_000)
            await until(lambda: log.log_start_offset > 0)
            found = await read(node)
            assert found[0][0] >= log.log_start_offset

    in_loop(scenario)


def test_retention_comes_before_the_next_cleaning_however_long_that_takes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, log_cleaner_enable="false") as node:
            await create(node, cleanup_policy="compact,delete", retention_bytes="60000")
            await write(node, 40)
        async with running(tmp_path, log_cleaner_io_max_bytes_per_second="1000") as node:
            log = partition_of(node).log
            await until(lambda: log.log_start_offset > 0)
            await until(lambda: log.cleaning)
            assert not clean_point(node)

    in_loop(scenario)


def test_a_log_that_is_set_aside_keeps_what_it_has(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as node:
            await create(node, cleanup_policy="compact,delete")
            partition = partition_of(node)
            aside = Uncleanable(log=partition.log, reason="by hand")
            node.cleaner.uncleanable[partition.topic_partition] = aside
            await write(node, 40)
            partition.set_config(replace(partition.log.config, retention_bytes=60_000))
            for _ in range(3):
                last_run_ms = node.cleaner.status.time_of_last_run_ms
                await until(lambda ran_ms=last_run_ms: node.cleaner.status.time_of_last_run_ms > ran_ms)
            assert partition.log.log_start_offset == 0
            del node.cleaner.uncleanable[partition.topic_partition]
            await until(lambda: partition.log.log_start_offset > 0)

    in_loop(scenario)


def test_records_without_a_key_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as node:
            await create(node)
            async with Producer(node.bootstrap) as producer:
                with pytest.raises(KafkaError) as refused:
                    await producer.send(TOPIC, b"value")
            assert refused.value.code == 87

    in_loop(scenario)


def test_committed_offsets_outlive_the_cleaning_of_their_topic(tmp_path: Path) -> None:
    settings = {"offsets_topic_num_partitions": "1", "log_cleaner_min_cleanable_ratio": "0.01"}

    async def scenario() -> None:
        async with running(tmp_path, **settings) as node:
            await create(node)
            for offset in range(300):
                await commit(node, f"group-{offset % 7}", offset)
                if offset % 90 == 89:
                    offsets = next(p for p in node.partitions if p.topic_partition.topic == "__consumer_offsets")
                    offsets.log.roll(0)
            await until(lambda: (node._store.clean_point(offsets.log) or 0) > 250)
            await until(lambda: offsets.log.cleaning is None)
            held = sum(header.record_count for segment in offsets.log.segments for _, header in segment.headers())
            assert held < 150
            expected = await committed(node)
            assert sorted(expected.values()) == list(range(293, 300))
        async with running(tmp_path, **settings) as node:
            assert await committed(node) == expected
            await commit(node, "group-3", 1_000)
            assert (await committed(node))["group-3"] == 1_000

    in_loop(scenario)


def test_transactional_ids_outlive_the_cleaning_of_their_topic(tmp_path: Path) -> None:
    settings = {"transaction_state_log_num_partitions": "1", "log_cleaner_min_cleanable_ratio": "0.01"}

    async def scenario() -> None:
        async with running(tmp_path, **settings) as node:
            for turn in range(200):
                await producer_of(node, f"id-{turn % 7}")
                if turn % 60 == 59:
                    states = next(p for p in node.partitions if p.topic_partition.topic == "__transaction_state")
                    states.log.roll(0)
            await until(lambda: (node._store.clean_point(states.log) or 0) > 150)
            await until(lambda: states.log.cleaning is None)
            held = sum(header.record_count for segment in states.log.segments for _, header in segment.headers())
            assert held < 100
            expected = [await producer_of(node, f"id-{number}") for number in range(7)]
        async with running(tmp_path, **settings) as node:
            found = [await producer_of(node, f"id-{number}") for number in range(7)]
            assert found == [(producer_id, epoch + 1) for producer_id, epoch in expected]

    in_loop(scenario)


async def producer_of(node: Node, transactional_id: str) -> tuple[int, int]:
    """Producer id and epoch that the coordinator gives next."""
    host, port = node.bootstrap.rsplit(":", 1)
    peer = await Peer.connect(host, int(port))
    try:
        while True:
            lookup = FindCoordinatorRequest(key_type=1, coordinator_keys=[transactional_id])
            await peer.request(ApiKey.FIND_COORDINATOR, lookup, 4)
            request = InitProducerIdRequest(transactional_id=transactional_id, transaction_timeout_ms=60_000)
            answer = await peer.request(ApiKey.INIT_PRODUCER_ID, request, 4)
            if answer.error_code not in {14, 15, 16, 51}:
                assert answer.error_code == 0
                return answer.producer_id, answer.producer_epoch
            await asyncio.sleep(0.05)
    finally:
        peer.close()


async def ask_coordinator(node: Node, key: ApiKey, request: object, version: int) -> object:
    """Ask until the coordinator has loaded."""
    host, port = node.bootstrap.rsplit(":", 1)
    peer = await Peer.connect(host, int(port))
    try:
        while True:
            answer = await peer.request(key, request, version)
            codes = {group.error_code for group in getattr(answer, "groups", ())}
            codes |= {part.error_code for topic in answer.topics for part in getattr(topic, "partitions", ())}
            if not codes & {14, 15, 16}:
                assert codes <= {0}
                return answer
            if key is ApiKey.OFFSET_COMMIT:
                await peer.request(ApiKey.FIND_COORDINATOR, FindCoordinatorRequest(coordinator_keys=["group"]), 4)
            await asyncio.sleep(0.05)
    finally:
        peer.close()


async def commit(node: Node, group: str, offset: int) -> None:
    part = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
    request = OffsetCommitRequest(group_id=group, topics=[OffsetCommitRequestTopic(name=TOPIC, partitions=[part])])
    await ask_coordinator(node, ApiKey.OFFSET_COMMIT, request, 8)


async def committed(node: Node) -> dict[str, int]:
    found = {}
    for number in range(7):
        group = OffsetFetchRequestGroup(group_id=f"group-{number}", topics=None)
        answer = await ask_coordinator(node, ApiKey.OFFSET_FETCH, OffsetFetchRequest(groups=[group]), 8)
        found[f"group-{number}"] = answer.groups[0].topics[0].partitions[0].committed_offset
    return found

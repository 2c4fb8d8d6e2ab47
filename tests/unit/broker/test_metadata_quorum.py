"""The metadata quorum of one node on a real directory: format, election, group commit, snapshots, restarts, faults."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from ottla.broker.context import RequestContext
from ottla.broker.format import FormatError, open_or_format
from ottla.broker.handlers.delete_topics import DeleteTopicsHandler
from ottla.broker.lifecycle import BrokerLifecycle, LifecycleSettings, LocalController
from ottla.broker.metadata_loader import MetadataLoader
from ottla.broker.metadata_log import MetadataLog, SnapshotId
from ottla.broker.raft_driver import DriverSettings, RaftDriver
from ottla.metadata.controller import ControllerSettings
from ottla.metadata.controller.partitions import MorePartitions
from ottla.metadata.controller.topics import CreateTopics, NewTopic
from ottla.metadata.image import ClusterImage, ConfigResource, Endpoint, ResourceType
from ottla.model import Decision, Uuid
from ottla.quorum.raft import RaftSettings
from ottla.runtime.clock import ManualClock
from ottla.runtime.supervisor import Supervisor
from ottla.storage.disk import Disk
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.frame import RequestHeader
from ottla.wire.messages.delete_topics_request import DeleteTopicsRequest, DeleteTopicState


@dataclass
class Quorum:
    """A running quorum of one; ``lifecycle`` is its broker."""

    driver: RaftDriver
    loader: MetadataLoader
    lifecycle: BrokerLifecycle
    log: MetadataLog
    supervisor: Supervisor
    clock: ManualClock

    @property
    def image(self) -> ClusterImage:
        return self.loader.image

    async def create(self, *names: str, partitions: int = 1) -> Any:
        topics = tuple(NewTopic(name=name, partitions=partitions) for name in names)
        return await self.driver.submit(lambda controller, _: controller.create_topics(CreateTopics(topics=topics)))

    async def stop(self) -> None:
        await self.driver.stop()
        await self.supervisor.stop()
        self.log.close()


class CountingDisk(Disk):
    """Counts syncs of data; fails them on demand."""

    def __init__(self) -> None:
        self.syncs = 0
        self.broken = False

    def sync_data(self, fd: int) -> None:
        self.syncs += 1
        if self.broken:
            raise OSError(5, "injected")
        super().sync_data(fd)


async def start(
    directory: Path, *, disk: Disk | None = None, previous_epoch: int = -1, register: bool = True, **settings: Any
) -> Quorum:
    disk, rng, clock = disk or Disk(), Random(7), ManualClock()
    identity = open_or_format(str(directory), node_id=1, disk=disk, rng=rng, now_ms=clock.now_ms())
    log = MetadataLog.open(str(directory), disk=disk, now_ms=clock.now_ms())
    loader, supervisor = MetadataLoader(), Supervisor()
    driver = RaftDriver(
        settings=DriverSettings(
            raft=RaftSettings(node_id=1, voters=(1,)),
            controller=ControllerSettings(cluster_id=identity.cluster_id, node_id=1, bootstrap=identity.bootstrap),
            **settings,
        ),
        metadata_log=log,
        loader=loader,
        clock=clock,
        rng=rng,
    )
    driver.start(supervisor)
    lifecycle = BrokerLifecycle(
        settings=LifecycleSettings(
            node_id=1,
            cluster_id=identity.cluster_id,
            incarnation_id=Uuid(os.urandom(16)),
            endpoints=(Endpoint(name="PLAINTEXT", host="127.0.0.1", port=9092),),
            controller_endpoints=(),
            log_dirs=(identity.directory_id,),
            previous_epoch=previous_epoch,
        ),
        channel=LocalController(driver),
        loader=loader,
    )
    if register:
        await lifecycle.register()
        await lifecycle.unfence()
    return Quorum(driver, loader, lifecycle, log, supervisor, clock)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(bounded())


def test_a_fresh_node_leads_registers_and_serves(tmp_path: Path) -> None:
    async def scenario() -> None:
        quorum = await start(tmp_path / "data")
        assert quorum.image.features["metadata.version"] == 30
        assert not quorum.image.brokers[1].fenced
        assert quorum.lifecycle.broker_epoch == quorum.image.brokers[1].epoch
        (created,) = await quorum.create("t")
        assert created.problem is None
        assert quorum.image.topics["t"].topic_id == created.topic_id, "published before it is answered"
        await quorum.stop()

    run(scenario)
    state = json.loads((tmp_path / "data/__cluster_metadata-0/quorum-state").read_text())
    assert state == {
        "clusterId": "",
        "leaderId": 1,
        "leaderEpoch": 1,
        "votedId": -1,
        "appliedOffset": 0,
        "currentVoters": [{"voterId": 1}],
        "data_version": 0,
    }
    assert (tmp_path / "data/bootstrap.checkpoint").stat().st_size == 411
    metadata = (tmp_path / "data/__cluster_metadata-0/partition.metadata").read_text()
    assert metadata == "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ"


def test_a_restart_finds_everything(tmp_path: Path) -> None:
    async def scenario() -> None:
        quorum = await start(tmp_path)
        await quorum.create("t", "u", partitions=3)
        assert await quorum.lifecycle.shut_down()
        epoch = quorum.lifecycle.broker_epoch
        await quorum.stop()
        again = await start(tmp_path, previous_epoch=epoch)
        assert list(again.image.topics) == ["t", "u"]
        assert again.image.partition("t", 2) is not None
        assert all(part.leader == 1 and not part.recovering for part in again.image.topics["t"].partitions)
        assert again.driver.raft.epoch == 2
        await again.stop()

    run(scenario)


def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        quorum = await start(tmp_path)
        await quorum.create("t")
        quorum.log.log.release()  # as a kill leaves it: nothing is sealed, nothing handed over
        again = await start(tmp_path)
        assert list(again.image.topics) == ["t"]
        partition = again.image.partition("t", 0)
        assert partition is not None
        assert partition.leader == 1
        await again.stop()
        await quorum.supervisor.stop()

    run(scenario)


def test_what_comes_together_is_flushed_together(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = CountingDisk()
        quorum = await start(tmp_path, disk=disk)
        before = disk.syncs
        await asyncio.gather(*(quorum.create(f"t{number}") for number in range(50)))
        assert len(quorum.image.topics) == 50
        assert disk.syncs - before <= 4
        await quorum.stop()

    run(scenario)


def test_an_answer_waits_for_what_it_has_seen(tmp_path: Path) -> None:
    """The second of two creations is refused because of the first: it must not be answered before that is durable."""

    async def scenario() -> None:
        quorum = await start(tmp_path)
        published: list[int] = []
        quorum.loader.add_listener(lambda _, image: published.append(len(image.topics)))
        (first,), (second,) = await asyncio.gather(quorum.create("t"), quorum.create("t"))
        assert first.problem is None
        assert second.problem.code is ErrorCode.TOPIC_ALREADY_EXISTS
        assert published[-1] == 1
        await quorum.stop()

    run(scenario)


def test_what_is_asked_for_before_an_answer_finds_what_is_not_committed_yet(tmp_path: Path) -> None:
    """As a client does that sends all of this on one connection at once, or that gave up on the first answer."""

    async def main() -> None:
        quorum = await start(tmp_path)
        submit = quorum.driver.submit
        made = asyncio.create_task(quorum.create("t"))
        more = asyncio.create_task(
            submit(lambda controller, _: controller.create_partitions([MorePartitions(name="t", count=3)]))
        )
        resource, settings = ConfigResource(ResourceType.TOPIC, "t"), {"retention.ms": "5"}
        configs = asyncio.create_task(
            submit(lambda controller, _: controller.legacy_alter_configs([(resource, settings)]))
        )
        context = RequestContext(
            header=RequestHeader(20, 6, 1, "t"), client_address=("c", 1), listener_name="L", now_ms=0
        )
        deletion = asyncio.create_task(
            DeleteTopicsHandler(submit=submit, enabled=True).handle(
                context, DeleteTopicsRequest(topics=[DeleteTopicState(name="t")])
            )
        )
        assert await more == [("t", None)]
        assert await configs == [(resource, None)]
        (gone,) = (await deletion).responses
        assert (gone.error_code, gone.topic_id) == (0, (await made)[0].topic_id)
        assert dict(quorum.image.topics) == {}
        await quorum.stop()

    asyncio.run(main())


def test_a_failed_flush_stops_the_node_and_answers_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = CountingDisk()
        quorum = await start(tmp_path, disk=disk)
        disk.broken = True
        with pytest.raises(KafkaError):
            await quorum.create("t")
        assert isinstance(await quorum.supervisor.failure, OSError)
        assert "t" not in quorum.image.topics
        with pytest.raises(KafkaError) as raised:
            await quorum.create("u")
        assert raised.value.code is ErrorCode.NOT_CONTROLLER
        await quorum.driver.stop()
        await quorum.supervisor.stop()
        quorum.log.log.release()

    run(scenario)


def test_a_bug_in_a_decision_stops_the_node(tmp_path: Path) -> None:
    async def scenario() -> None:
        quorum = await start(tmp_path)

        def broken(controller: Any, now_ms: int) -> Decision[Any, Any]:
            raise AssertionError("broken invariant")

        with pytest.raises(AssertionError):
            await quorum.driver.submit(broken)
        assert isinstance(await quorum.supervisor.failure, AssertionError)
        await quorum.stop()

    run(scenario)


def test_a_snapshot_is_taken_and_started_from(tmp_path: Path) -> None:
    async def scenario() -> None:
        quorum = await start(tmp_path, snapshot_after_bytes=3000)
        for number in range(40):
            await quorum.create(f"t{number}")
        snapshot = await _snapshot(quorum)
        assert snapshot.epoch == 1
        image = quorum.image
        await quorum.stop()
        again = await start(tmp_path, register=False)
        assert replace(again.image, provenance=image.provenance, controllers=image.controllers) == image
        assert again.log.read_snapshot(snapshot)[0] > 0
        await again.stop()
        # Even if the log before it is gone.
        for path in (tmp_path / "__cluster_metadata-0").glob("00000000000000000000.*"):
            path.unlink()
        third = await start(tmp_path, register=False)
        assert third.log.start_offset >= snapshot.end_offset
        assert "t0" in third.image.topics
        await third.create("later")
        await third.stop()

    run(scenario)


async def _snapshot(quorum: Quorum) -> SnapshotId:
    while (snapshot := quorum.log.latest_snapshot()) is None:
        await asyncio.sleep(0.01)
    return snapshot


def test_a_directory_belongs_to_one_node_and_cluster(tmp_path: Path) -> None:
    def opened(**options: Any) -> Any:
        return open_or_format(str(tmp_path), disk=Disk(), rng=Random(1), now_ms=0, **options)

    first = opened(node_id=1)
    assert (first.fresh, len(first.bootstrap)) == (True, 6)
    second = opened(node_id=1, cluster_id=first.cluster_id)
    assert (second.fresh, second.directory_id, second.bootstrap) == (False, first.directory_id, first.bootstrap)
    with pytest.raises(FormatError, match="node 1"):
        opened(node_id=2)
    with pytest.raises(FormatError, match="cluster"):
        opened(node_id=1, cluster_id="other")


def test_late_listeners_hear_of_everything(tmp_path: Path) -> None:
    async def scenario() -> None:
        quorum = await start(tmp_path)
        await quorum.create("t", partitions=2)
        heard: list[str] = []
        quorum.loader.add_listener(
            lambda delta, _: heard.extend(f"{topic.name}-{index}" for topic, index, _, _ in delta.changed_partitions())
        )
        assert heard == ["t-0", "t-1"]
        await quorum.create("u")
        assert heard[2:] == ["u-0"]
        await quorum.stop()

    run(scenario)


def test_an_idle_quorum_writes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        quorum = await start(tmp_path)
        end = quorum.log.end_offset
        quorum.clock.advance(60_000)
        await quorum.driver.submit(lambda controller, _: Decision())
        quorum.lifecycle.start(quorum.supervisor)
        quorum.lifecycle.report_offline_dirs(())
        await asyncio.sleep(0.02)
        assert quorum.log.end_offset == end, "neither a fenced broker nor NoOp records"
        await quorum.stop()

    run(scenario)


def test_a_lost_directory_is_reported_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        quorum = await start(tmp_path)
        await quorum.create("t")
        quorum.lifecycle.start(quorum.supervisor)
        quorum.lifecycle.report_offline_dirs(quorum.image.brokers[1].log_dirs)
        while (partition := quorum.image.partition("t", 0)) is not None and partition.leader == 1:
            await asyncio.sleep(0.01)
        await quorum.stop()

    run(scenario)

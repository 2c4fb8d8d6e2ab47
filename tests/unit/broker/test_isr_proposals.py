"""Proposals of leaders: gathered, asked again, taken back; and a node that was killed ends up recovered."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from ottla.broker import isr_proposals
from ottla.broker.isr_proposals import IsrProposals
from ottla.broker.node import Node
from ottla.broker.partition import Isolation
from ottla.config.broker import BrokerConfig
from ottla.metadata.controller.isr import IsrOutcome, IsrProposal
from ottla.metadata.controller.topics import CreateTopics, NewTopic
from ottla.records.validate import Origin
from ottla.runtime.supervisor import Supervisor
from ottla.wire.errors import ErrorCode, KafkaError


class FakeController:
    """Answers when told to; remembers who asked for what."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[KafkaError] = []
        self.error = ErrorCode.NONE

    async def alter(self, proposals: Sequence[IsrProposal]) -> list[IsrOutcome]:
        self.asked.append([proposal.partition for proposal in proposals])
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop()
        return [IsrOutcome(topic_id=p.topic_id, partition=p.partition, error=self.error) for p in proposals]


def in_loop(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_an_uncleanly_elected_leader_proposes_that_it_has_recovered(make_bench, one_led) -> None:
    async def scenario() -> None:
        bench = make_bench()
        bench.publish(orders=[replace(one_led(), recovering=True)])
        ((partition, change),) = bench.proposals
        assert change.isr == (1,)
        assert partition.waits_for(change)
        partition.drop_proposal(change)
        assert not partition.waits_for(change)
        # Still not recorded: newer metadata is the moment to ask again.
        bench.publish(orders=[replace(one_led(partition_epoch=1), recovering=True)])
        assert [change.partition_epoch for _, change in bench.proposals] == [0, 1]
        bench.publish(orders=[one_led(partition_epoch=2)])
        assert len(bench.proposals) == 2
        assert not partition.waits_for(bench.proposals[1][1])

    in_loop(scenario)


def test_proposals_go_out_together_and_are_asked_again(make_bench, one_led, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isr_proposals, "RETRY_SECONDS", 0)

    async def scenario() -> None:
        bench, controller, supervisor = make_bench(), FakeController(), Supervisor()
        proposals = IsrProposals(alter=controller.alter, supervisor=supervisor)
        bench.publish(orders=[replace(one_led(), recovering=True)] * 4)
        controller.gate.clear()
        for partition, change in bench.proposals:
            proposals.propose(partition, change)
            await settle()
        assert controller.asked == [[0]]
        controller.failures = [KafkaError(ErrorCode.NOT_CONTROLLER)]
        # Partition 0 learns meanwhile that it has been done.
        bench.publish(orders=[one_led(partition_epoch=1)])
        controller.gate.set()
        await settle()
        assert controller.asked == [[0], [1, 2, 3]]
        controller.failures = [KafkaError(ErrorCode.STALE_BROKER_EPOCH)]
        controller.error = ErrorCode.INVALID_UPDATE_VERSION
        for partition, change in bench.proposals[1:]:
            proposals.propose(partition, change)
        await settle()
        await settle()
        assert controller.asked[2:] == [[1, 2, 3], [1, 2, 3]]
        assert not any(partition.waits_for(change) for partition, change in bench.proposals)
        await supervisor.stop()

    in_loop(scenario)


def test_a_killed_node_ends_up_recovered_and_serves_meanwhile(tmp_path: Path, make_batch) -> None:
    config = BrokerConfig.parse({"node.id": "1", "listeners": "PLAINTEXT://127.0.0.1:0", "log.dirs": str(tmp_path)})

    async def scenario() -> None:
        node = Node(config)
        await node.start()
        topics = (NewTopic(name="orders", partitions=50),)
        await node._driver.submit(lambda controller, _: controller.create_topics(CreateTopics(topics=topics)))
        await append(node, b"before")
        await node._listeners.stop(0)
        await node._abandon()

        again = Node(config)
        await again.start()
        seen = [image.recovering for image in again.partitions.image.topics["orders"].partitions]
        await append(again, b"after")
        region = again.partitions.get("orders", 7).read(0, 1000, isolation=Isolation.HIGH_WATERMARK, at_least_one=True)
        assert region is not None
        assert b"before" in region.pread()
        region.release()
        while any(image.recovering for image in again.partitions.image.topics["orders"].partitions):
            await asyncio.sleep(0.005)
        assert len(seen) == 50
        partition = again.partitions.get("orders", 0)
        assert partition.partition_epoch == again.partitions.image.topics["orders"].partitions[0].partition_epoch
        await append(again, b"later")
        await again.stop()

    async def append(node: Node, value: bytes) -> None:
        partition = node.partitions.get("orders", 7)
        appended = partition.append(
            make_batch(value), origin=Origin.CLIENT, required_acks=-1, now_ms=node._clock.now_ms()
        )
        acknowledged = partition.acknowledged(appended.last_offset)
        if acknowledged is not None:
            await acknowledged

    in_loop(scenario)

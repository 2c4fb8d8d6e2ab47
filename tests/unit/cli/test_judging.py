"""What is said of clusters that no test can have in a hurry: several brokers, some of them gone, a full disk."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from msgspec.structs import replace

from ottla.cli.judging import judge_cluster
from ottla.cli.rows import HealthRow
from ottla.client import ErrorCode, KafkaError, PartitionMetadata, TopicMetadata
from ottla.client._admin_cluster import (
    BrokerDescription,
    ClusterDescription,
    FeatureDescription,
    LogDirDescription,
    QuorumDescription,
    QuorumReplica,
)
from ottla.client._admin_configs import ConfigResource, ConfigValue
from ottla.client._admin_groups import GroupListing
from ottla.model import Uuid

NOBODY = Uuid(bytes(16))


def partition(number: int, leader: int, replicas: Sequence[int], isr: Sequence[int]) -> PartitionMetadata:
    return PartitionMetadata(
        partition=number, leader=leader, leader_epoch=1, replicas=tuple(replicas), isr=tuple(isr), offline=()
    )


def topic(name: str, *partitions: PartitionMetadata) -> TopicMetadata:
    return TopicMetadata(
        name=name, topic_id=NOBODY, internal=False, partitions={one.partition: one for one in partitions}
    )


def replica(node_id: int, at_ms: int) -> QuorumReplica:
    return QuorumReplica(
        node_id=node_id, directory_id=NOBODY, log_end_offset=9, last_fetch_at=at_ms, last_caught_up_at=at_ms
    )


class Cluster:
    """Answers as an ``Admin`` would: three brokers in good order, until a test changes something."""

    def __init__(self) -> None:
        now_ms = int(time.time() * 1000)
        self.brokers = {
            number: BrokerDescription(node_id=number, host="h", port=9092, rack=None, fenced=False)
            for number in (1, 2, 3)
        }
        self.controller = 1
        self.topics = [topic("orders", *(partition(number, number + 1, (1, 2, 3), (1, 2, 3)) for number in range(3)))]
        self.quorum = QuorumDescription(
            leader=1,
            leader_epoch=4,
            high_watermark=9,
            voters=tuple(replica(number, now_ms) for number in (1, 2, 3)),
            observers=(),
        )
        self.features = {"metadata.version": FeatureDescription(level=30, lowest=7, highest=30)}
        self.directories = {number: self.directory("/data", 50) for number in self.brokers}
        self.groups: list[GroupListing] = []
        self.min_isr = 2
        self.refused: KafkaError | None = None

    @staticmethod
    def directory(path: str, free: int, error: KafkaError | None = None) -> list[LogDirDescription]:
        return [LogDirDescription(path=path, error=error, total_bytes=100, usable_bytes=free, replicas={})]

    async def describe_cluster(self, *, fenced: bool) -> ClusterDescription:
        assert fenced
        return ClusterDescription(cluster_id="c", controller=self.controller, brokers=tuple(self.brokers.values()))

    async def list_topics(self, *, internal: bool) -> list[TopicMetadata]:
        assert internal
        return self.topics

    async def describe_quorum(self) -> QuorumDescription:
        return self.quorum

    async def describe_log_dirs(self, *, brokers: object) -> Mapping[int, object]:
        return self.directories

    async def describe_features(self) -> dict[str, FeatureDescription]:
        return self.features

    async def describe_configs(self, resources: Sequence[ConfigResource], *, names: Sequence[str]) -> dict[Any, Any]:
        value = ConfigValue(name=names[0], value=str(self.min_isr), source=5, read_only=False, sensitive=False)
        return {one: [value] for one in resources}

    async def list_offsets(self, specs: Mapping[Any, Any]) -> dict[Any, Any]:
        return {}

    async def list_groups(self, *, states: Sequence[str], types: Sequence[str]) -> list[GroupListing]:
        if self.refused is not None:
            raise self.refused
        return self.groups

    async def describe_producers(self, places: Sequence[Any]) -> dict[Any, Any]:
        return {place: [] for place in places}


def judged(cluster: Cluster) -> list[HealthRow]:
    return asyncio.run(judge_cluster(cast(Any, cluster), deep=True)).checks


def found(cluster: Cluster) -> tuple[str, str]:
    """The one thing that is wrong: its check, and finding and fix."""
    rows = [row for row in judged(cluster) if row.severity != "ok"]
    assert len(rows) == 1, rows
    assert rows[0].fix
    return f"{rows[0].severity} {rows[0].check}", f"{rows[0].finding} | {rows[0].fix}"


def test_good_order() -> None:
    rows = judged(Cluster())
    assert {row.severity for row in rows} == {"ok"}, rows
    assert len({row.check for row in rows}) == len(rows) == 12


def test_brokers_and_controller() -> None:
    cluster = Cluster()
    cluster.brokers[2] = replace(cluster.brokers[2], fenced=True)
    assert found(cluster) == (
        "error brokers",
        "fenced: 2 | start it, or look at its log: it does not reach the controller.",
    )
    cluster = Cluster()
    cluster.controller = -1
    assert found(cluster)[0] == "error controller"


def test_partitions() -> None:
    cluster = Cluster()
    cluster.topics = [topic("orders", partition(0, -1, (1, 2), ()), partition(1, 1, (1, 2), (1, 2)))]
    rows = {row.check: row.finding for row in judged(cluster) if row.severity == "error"}
    assert rows == {
        "partitions": "1 without a leader: orders-0",
        "writing": "1 refuse acks=all, too few in sync: orders-0",
    }
    cluster.topics = [topic("orders", partition(0, 1, (1, 2, 3), (1, 3)))]
    check, text = found(cluster)
    assert check == "error partitions"
    assert "1 under-replicated: orders-0 | these brokers are down, slow, or have a directory offline: 2;" in text
    cluster.topics = [topic("orders", partition(0, 1, (1,), (1,)))]
    cluster.min_isr = 1
    assert found(cluster)[0] == "warning replication"


def test_quorum_and_clock() -> None:
    cluster = Cluster()
    now_ms = cluster.quorum.voters[0].last_fetch_at
    cluster.quorum = replace(
        cluster.quorum, voters=(replica(1, now_ms), replica(2, now_ms - 60_000), replica(3, now_ms))
    )
    check, text = found(cluster)
    assert (check, "behind for more than 10 s: 2" in text) == ("error quorum", True)
    cluster.quorum = replace(cluster.quorum, voters=(replica(1, now_ms), replica(2, now_ms)))
    assert found(cluster)[0] == "warning quorum"
    cluster.quorum = replace(cluster.quorum, leader=-1)
    assert found(cluster)[0] == "error quorum"
    for shift_ms, word in ((3_600_000, "ahead of"), (-3_600_000, "behind")):
        voters = tuple(replica(number, now_ms + shift_ms) for number in (1, 2, 3))
        cluster.quorum = replace(Cluster().quorum, voters=voters)
        check, text = found(cluster)
        assert (check, f"s {word} this machine" in text, "NTP" in text) == ("warning clock", True, True)


def test_disks_and_versions() -> None:
    cluster = Cluster()
    cluster.directories[3] = cluster.directory("/full", 2)
    check, text = found(cluster)
    assert (check, "/full of broker 3 is nearly full" in text) == ("error log directories", True)
    cluster.directories[3] = cluster.directory("/gone", -1, KafkaError(ErrorCode.KAFKA_STORAGE_ERROR))
    assert "/gone of broker 3 is offline" in found(cluster)[1]
    cluster = Cluster()
    cluster.features["metadata.version"] = FeatureDescription(level=25, lowest=7, highest=30)
    assert "held at metadata.version 25 of 30" in found(cluster)[1]


def test_leaders_and_groups() -> None:
    cluster = Cluster()
    cluster.topics = [topic("orders", *(partition(number, 1, (1, 2, 3), (1, 2, 3)) for number in range(20)))]
    assert found(cluster)[0] == "warning leaders"
    cluster = Cluster()
    cluster.groups = [GroupListing(group_id="g", type="consumer", protocol_type="consumer", state="Reconciling")]
    assert "1 of 1 are rebalancing: g" in found(cluster)[1]


@pytest.mark.parametrize(
    ("code", "severity"), [(ErrorCode.GROUP_AUTHORIZATION_FAILED, "error"), (ErrorCode.UNSUPPORTED_VERSION, "ok")]
)
def test_a_question_that_is_refused(code: ErrorCode, severity: str) -> None:
    """The others are asked all the same; an old broker is no fault."""
    cluster = Cluster()
    cluster.refused = KafkaError(code)
    rows = {row.check: row for row in judged(cluster)}
    assert rows["groups"].severity == severity
    assert rows["transactions"].severity == "ok"
    assert severity == "ok" or rows["groups"].fix

"""Administration: typed results, and of many items each its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.clusters import Cluster, make_node
from ottla.client import (
    Acl,
    AclFilter,
    Admin,
    ConfigChange,
    ConfigResource,
    ErrorCode,
    KafkaError,
    NewTopic,
    OffsetAndMetadata,
    Producer,
    TopicMetadata,
    TopicPartition,
)
from ottla.wire.apis import ApiKey

Run = Callable[[Awaitable[Any]], Any]
Unique = Callable[[str], str]


@pytest.fixture
def needs(cluster: Cluster) -> Callable[..., None]:
    """Skip where the cluster does not serve an API yet."""

    def check(*keys: ApiKey) -> None:
        with cluster.connect(timeout=10.0) as connection:  # type: ignore[attr-defined]  # both kinds have it
            missing = [key.name for key in keys if key not in connection.api_versions()]
        if missing:
            pytest.skip(f"the cluster does not serve {', '.join(missing)}")

    return check


@pytest.fixture
def keeps_rules(cluster_kind: str, tmp_path: Path, needs: Callable[..., None]) -> Iterator[str]:
    """Where rules about who may do what are kept: no cluster keeps any unless it is told to."""
    needs(ApiKey.CREATE_ACLS, ApiKey.DESCRIBE_ACLS, ApiKey.DELETE_ACLS)
    config = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    node = make_node(cluster_kind, tmp_path / "data", config=config)
    node.start()
    try:
        yield node.bootstrap
    finally:
        node.stop()


def code_of(result: object) -> ErrorCode:
    assert isinstance(result, KafkaError), result
    return result.code


async def grown_to(admin: Admin, name: str, partitions: int) -> TopicMetadata:
    """The topic once the broker that is asked has heard of its new partitions, or after a while as it is."""
    for _ in range(100):
        (described,) = await admin.describe_topics([name])
        if len(described.partitions) == partitions:
            break
        await asyncio.sleep(0.05)
    return described


def test_topics_each_with_its_own_fate(bootstrap: str, unique: Unique, run: Run) -> None:
    good, bad = unique("good"), unique("bad")

    async def main() -> None:
        async with Admin(bootstrap) as admin:
            results = await admin.create_topics(
                [
                    NewTopic(good, partitions=2, config={"cleanup.policy": "compact"}),
                    NewTopic(bad, config={"retention.ms": "soon"}),
                    NewTopic("no spaces"),
                ]
            )
            created = results[good]
            assert not isinstance(created, KafkaError)
            assert (created.partitions, created.replication_factor) == (2, 1)
            assert code_of(results[bad]) is ErrorCode.INVALID_CONFIG
            assert code_of(results["no spaces"]) is ErrorCode.INVALID_TOPIC_EXCEPTION
            grown = await admin.create_partitions({good: 3, bad: 2})
            assert grown[good] is None
            assert code_of(grown[bad]) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert code_of((await admin.create_partitions({good: 3}))[good]) is ErrorCode.INVALID_PARTITIONS
            described = await grown_to(admin, good, 3)
            assert sorted(described.partitions) == [0, 1, 2]
            assert described.topic_id == created.topic_id
            gone = await admin.delete_topics([good, bad])
            assert gone[good] is None
            assert code_of(gone[bad]) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            checked = await admin.create_topics([NewTopic(good)], validate_only=True)
            assert not isinstance(checked[good], KafkaError)

    run(main())


def test_records_and_offsets(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic(partitions=2)
    first, second, nowhere = (TopicPartition(topic, number) for number in (0, 1, 9))

    async def main() -> None:
        async with Producer(bootstrap) as producer:
            for number in range(10):
                await producer.send(topic, b"x", partition=0, timestamp_ms=1_000 + number)
        async with Admin(bootstrap) as admin:
            found = await admin.list_offsets({first: "latest", second: "earliest", nowhere: "latest"})
            assert (found[first].offset, found[second].offset) == (10, 0)  # type: ignore[union-attr]  # no errors
            assert code_of(found[nowhere]) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            at = await admin.list_offsets({first: 1_004, second: 5_000})
            assert (at[first].offset, at[first].timestamp) == (4, 1_004)  # type: ignore[union-attr]
            assert at[second].offset == -1  # type: ignore[union-attr]
            newest = await admin.list_offsets({first: "max_timestamp"})
            assert newest[first].timestamp == 1_009  # type: ignore[union-attr]
            trimmed = await admin.delete_records({first: 6, second: 4, nowhere: 0})
            assert trimmed[first] == 6
            assert code_of(trimmed[second]) is ErrorCode.OFFSET_OUT_OF_RANGE
            assert code_of(trimmed[nowhere]) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            (described,) = await admin.describe_topics([topic])
            assert await admin.offsets(described) == {0: (6, 10), 1: (0, 0)}

    run(main())


def test_configurations(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic()
    ours, nothing = ConfigResource("topic", topic), ConfigResource("topic", "never-was")

    async def main() -> None:
        async with Admin(bootstrap) as admin:
            results = await admin.alter_configs(
                {ours: {"retention.ms": "1000", "cleanup.policy": "compact"}, nothing: {"retention.ms": "1"}}
            )
            assert results[ours] is None
            assert code_of(results[nothing]) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            await admin.alter_configs({ours: {"cleanup.policy": ConfigChange("append", "delete")}})
            values = {one.name: one for one in await admin.describe_config(topic)}
            assert values["retention.ms"].value == "1000"
            assert values["retention.ms"].source_name == "topic"
            assert values["retention.ms"].type == "long"
            assert values["cleanup.policy"].value == "compact,delete"
            assert values["retention.ms"].synonyms[0].source == "topic"
            await admin.alter_configs({ours: {"retention.ms": None}})
            found = await admin.describe_configs([ours, nothing], names=["retention.ms"])
            (value,) = found[ours]  # type: ignore[misc]  # no error
            assert value.is_default
            assert code_of(found[nothing]) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            with pytest.raises(KafkaError) as failure:
                await admin.describe_config("never-was")
            assert failure.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            broker = ConfigResource("broker", str((await admin.describe_cluster()).brokers[0].node_id))
            brokers = (await admin.describe_configs([broker], names=["log.retention.hours"], documentation=True))[
                broker
            ]
            assert not isinstance(brokers, KafkaError)
            assert brokers[0].name == "log.retention.hours"

    run(main())


def test_groups(bootstrap: str, make_topic: Callable[..., str], unique: Unique, run: Run) -> None:
    topic, group = make_topic(partitions=2), unique("group")
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)

    async def main() -> None:
        async with Admin(bootstrap) as admin:
            committed = await admin.alter_group_offsets(group, {first: 5, second: OffsetAndMetadata(7, "seven")})
            assert committed == {first: None, second: None}
            offsets = await admin.group_offsets(group)
            assert offsets[second] == OffsetAndMetadata(7, "seven")
            assert (await admin.group_offsets(group, [first]))[first].offset == 5  # type: ignore[union-attr]
            listed = {one.group_id: one for one in await admin.list_groups()}
            assert listed[group].state == "Empty"
            described = await admin.describe_groups([group, "never-was"])
            ours = described[group]
            assert not isinstance(ours, KafkaError)
            assert (ours.state, ours.members, ours.type) == ("Empty", (), "classic")
            assert code_of(described["never-was"]) is ErrorCode.GROUP_ID_NOT_FOUND
            assert await admin.delete_group_offsets(group, [first]) == {first: None}
            assert list(await admin.group_offsets(group)) == [second]
            deleted = await admin.delete_groups([group, "never-was"])
            assert deleted[group] is None
            assert code_of(deleted["never-was"]) is ErrorCode.GROUP_ID_NOT_FOUND
            assert await admin.group_offsets(group) == {}

    run(main())


def test_a_group_with_a_member(bootstrap: str, make_topic: Callable[..., str], unique: Unique, run: Run) -> None:
    confluent_kafka = pytest.importorskip("confluent_kafka")
    topic, group = make_topic(partitions=2), unique("group")
    member = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": group, "group.instance.id": "one", "client.id": "them"}
    )
    try:
        member.subscribe([topic])
        for _ in range(200):
            member.poll(0.1)
            if member.assignment():
                break

        async def main() -> None:
            async with Admin(bootstrap) as admin:
                described = (await admin.describe_groups([group]))[group]
                assert not isinstance(described, KafkaError)
                assert (described.state, described.assignor) == ("Stable", "range")
                (one,) = described.members
                assert (one.instance_id, one.client_id) == ("one", "them")
                assert one.assignment == (TopicPartition(topic, 0), TopicPartition(topic, 1))
                refused = await admin.delete_groups([group])
                assert code_of(refused[group]) is ErrorCode.NON_EMPTY_GROUP
                assert await admin.remove_members(group, instance_ids=["one"]) == {"one": None}
                for _ in range(100):
                    again = (await admin.describe_groups([group]))[group]
                    if not isinstance(again, KafkaError) and not again.members:
                        break
                    await asyncio.sleep(0.1)
                assert not again.members  # type: ignore[union-attr]  # no error

        run(main())
    finally:
        member.close()


def test_the_cluster(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic()

    async def main() -> None:
        async with Admin(bootstrap) as admin:
            cluster = await admin.describe_cluster()
            assert len(cluster.cluster_id) == 22
            (broker,) = cluster.brokers
            assert f"{broker.host}:{broker.port}" == bootstrap
            quorum = await admin.describe_quorum()
            assert [voter.node_id for voter in quorum.voters] == [quorum.leader]
            features = await admin.describe_features()
            assert features["metadata.version"].level > 0
            assert features["metadata.version"].highest >= features["metadata.version"].level
            refused = await admin.update_features({"metadata.version": 9999}, validate_only=True)
            assert code_of(refused["metadata.version"]) is ErrorCode.INVALID_UPDATE_VERSION
            directories = (await admin.describe_log_dirs(places=[TopicPartition(topic, 0)]))[broker.node_id]
            assert not isinstance(directories, KafkaError)
            assert [list(one.replicas) for one in directories] == [[TopicPartition(topic, 0)]]
            assert directories[0].error is None
            assert directories[0].total_bytes > 0

    run(main())


def test_producers_of_a_partition(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    place = TopicPartition(make_topic(), 0)

    async def main() -> None:
        async with Producer(bootstrap) as producer:
            for _ in range(3):
                await producer.send(place.topic, b"x")
        async with Admin(bootstrap) as admin:
            (state,) = (await admin.describe_producers([place]))[place]  # type: ignore[misc]  # no error
            assert (state.last_sequence, state.transaction_start_offset) == (2, -1)
            with pytest.raises(KafkaError, match="no transaction is open"):
                await admin.abort_transaction(place, 0)

    run(main())


def test_transactions(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    place = TopicPartition(make_topic(), 0)

    async def main() -> None:
        async with Producer(bootstrap, transactional_id=place.topic) as producer, Admin(bootstrap) as admin:
            await producer.begin_transaction()
            await producer.send(place.topic, b"x")
            listed = {one.transactional_id: one for one in await admin.list_transactions(states=["Ongoing"])}
            assert listed[place.topic].state == "Ongoing"
            described = await admin.describe_transactions([place.topic, "never-was"])
            ours = described[place.topic]
            assert not isinstance(ours, KafkaError)
            assert (ours.state, ours.partitions) == ("Ongoing", (place,))
            assert code_of(described["never-was"]) is ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
            (state,) = (await admin.describe_producers([place]))[place]  # type: ignore[misc]  # no error
            assert state.transaction_start_offset == 0
            fenced = (await admin.fence_producers([place.topic]))[place.topic]
            assert not isinstance(fenced, KafkaError)
            with pytest.raises(KafkaError, match="another producer"):
                await producer.commit_transaction()

    run(main())


def test_leaders_and_reassignments(
    bootstrap: str, make_topic: Callable[..., str], run: Run, needs: Callable[..., None]
) -> None:
    needs(ApiKey.ELECT_LEADERS, ApiKey.ALTER_PARTITION_REASSIGNMENTS, ApiKey.LIST_PARTITION_REASSIGNMENTS)
    place = TopicPartition(make_topic(), 0)

    async def main() -> None:
        async with Admin(bootstrap) as admin:
            elected = await admin.elect_leaders([place])
            assert code_of(elected[place]) is ErrorCode.ELECTION_NOT_NEEDED
            assert await admin.list_reassignments() == {}
            refused = await admin.alter_reassignments({place: None})
            assert code_of(refused[place]) is ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
            refused = await admin.alter_reassignments({place: [99]})
            assert code_of(refused[place]) is ErrorCode.INVALID_REPLICA_ASSIGNMENT

    run(main())


def test_quotas(bootstrap: str, unique: Unique, run: Run, needs: Callable[..., None]) -> None:
    needs(ApiKey.ALTER_CLIENT_QUOTAS, ApiKey.DESCRIBE_CLIENT_QUOTAS)
    entity = (("user", unique("user")),)

    async def main() -> None:
        async with Admin(bootstrap) as admin:
            changed = await admin.alter_quotas({entity: {"producer_byte_rate": 1e6}, (("user", "x"),): {"nonsense": 1}})
            assert changed[entity] is None
            assert code_of(changed[("user", "x"),]) is ErrorCode.INVALID_REQUEST
            found: dict[Any, Any] = {}
            for _ in range(50):
                found = await admin.describe_quotas({"user": entity[0][1]})
                if found:
                    break
                await asyncio.sleep(0.1)
            assert found == {entity: {"producer_byte_rate": 1e6}}
            assert entity in await admin.describe_quotas()
            await admin.alter_quotas({entity: {"producer_byte_rate": None}})

    run(main())


def test_users(bootstrap: str, unique: Unique, run: Run, needs: Callable[..., None]) -> None:
    needs(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS)
    name = unique("user")

    async def main() -> None:
        async with Admin(bootstrap) as admin:
            assert await admin.alter_users({(name, "SCRAM-SHA-256"): "secret"}) == {name: None}
            found: dict[str, Any] = {}
            for _ in range(50):
                found = await admin.describe_users([name])
                if not isinstance(found[name], KafkaError):
                    break
                await asyncio.sleep(0.1)
            assert [(one.mechanism, one.iterations) for one in found[name]] == [("SCRAM-SHA-256", 8192)]
            assert code_of((await admin.describe_users(["never-was"]))["never-was"]) is ErrorCode.RESOURCE_NOT_FOUND
            assert await admin.alter_users({(name, "SCRAM-SHA-256"): None}) == {name: None}

    run(main())


def test_rules(keeps_rules: str, unique: Unique, run: Run) -> None:
    name = unique("acl")
    rule = Acl("topic", name, "User:alice", "read")
    prefixed = Acl("topic", name, "User:bob", "write", "deny", pattern_type="prefixed")

    async def main() -> None:
        async with Admin(keeps_rules) as admin:
            assert await admin.create_acls([rule, prefixed]) == {rule: None, prefixed: None}
            wanted = AclFilter(resource_type="topic", resource_name=name)
            found: list[Acl] = []
            for _ in range(50):
                found = await admin.describe_acls(wanted)
                if len(found) == 2:
                    break
                await asyncio.sleep(0.1)
            assert found == sorted([rule, prefixed])
            (deleted,) = await admin.delete_acls([wanted])
            assert sorted(deleted) == sorted([rule, prefixed])  # type: ignore[arg-type]  # no errors

    run(main())


def test_what_listens_where(bootstrap: str, make_topic: Callable[..., str], run: Run) -> None:
    topic = make_topic()

    async def main() -> None:
        async with Admin(bootstrap) as admin:
            found = await admin.list_config_resources(["topic"])
            assert ConfigResource("topic", topic) in found

    run(main())

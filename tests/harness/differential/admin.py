"""CreateTopics, CreatePartitions and IncrementalAlterConfigs: what they refuse, in every version."""

from __future__ import annotations

from typing import Any

from harness.differential.topics import learn, make
from harness.twins import Case, Steps, Twin
from ottla.wire.messages.alter_replica_log_dirs_request import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from ottla.wire.messages.create_partitions_request import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from ottla.wire.messages.create_topics_request import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.wire.messages.describe_log_dirs_request import DescribableLogDirTopic, DescribeLogDirsRequest
from ottla.wire.messages.incremental_alter_configs_request import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)

TOPIC, BROKER = 2, 4
SET, DELETE, APPEND, SUBTRACT = range(4)


def _new(name: str, partitions: int = 1, replicas: int = 1, **rest: Any) -> CreatableTopic:
    return CreatableTopic(name=name, num_partitions=partitions, replication_factor=replicas, **rest)


def creations(twin: Twin) -> Steps:
    make(twin, "admin-there")
    own = CreatableReplicaAssignment
    for version in range(2, 8):
        rows = {
            "there": _new("admin-there"),
            "bad name": _new("a/b"),
            "empty name": _new(""),
            "zero partitions": _new("admin-x", 0),
            "negative partitions": _new("admin-x", -2),
            "zero replicas": _new("admin-x", 1, 0),
            "too many replicas": _new("admin-x", 1, 3),
            "bad config": _new("admin-x", configs=[CreatableTopicConfig(name="retention.ms", value="x")]),
            "unknown config": _new("admin-x", configs=[CreatableTopicConfig(name="no.such", value="1")]),
            "null config": _new("admin-x", configs=[CreatableTopicConfig(name="retention.ms", value=None)]),
            "assigned to strangers": _new("admin-x", -1, -1, assignments=[own(partition_index=0, broker_ids=[9])]),
            "assigned twice": _new("admin-x", -1, -1, assignments=[own(partition_index=0, broker_ids=[1, 1])]),
            "assigned from 1": _new("admin-x", -1, -1, assignments=[own(partition_index=1, broker_ids=[1])]),
            "assigned to nobody": _new("admin-x", -1, -1, assignments=[own(partition_index=0)]),
            "assigned and counted": _new("admin-x", 1, 1, assignments=[own(partition_index=0, broker_ids=[1])]),
        }
        for label, row in rows.items():
            for dry in (True, False):
                request = CreateTopicsRequest(topics=[row], timeout_ms=5000, validate_only=dry)
                yield f"v{version} {label} {dry}", twin.ask(request, version)
        request = CreateTopicsRequest(topics=[_new("admin-two"), _new("admin-two")], timeout_ms=5000)
        yield f"v{version} twice", twin.ask(request, version)


def more_partitions(twin: Twin) -> Steps:
    for version in range(4):
        name = make(twin, f"admin-grow-{version}", 2)
        for label, topic, count, assigned in (
            ("topic", "no-such-topic", 3, None),
            ("fewer", name, 1, None),
            ("same", name, 2, None),
            ("zero", name, 0, None),
            ("negative", name, -1, None),
            ("strangers", name, 3, [[9]]),
            ("too many lists", name, 3, [[1], [1]]),
            ("empty list", name, 3, [[]]),
            ("twice the same", name, 3, [[1, 1]]),
            ("two replicas", name, 3, [[1, 9]]),
            ("fine", name, 3, [[1]]),
        ):
            lists = None if assigned is None else [CreatePartitionsAssignment(broker_ids=row) for row in assigned]
            row = CreatePartitionsTopic(name=topic, count=count, assignments=lists)
            for dry in (True, False):
                request = CreatePartitionsRequest(topics=[row], timeout_ms=5000, validate_only=dry)
                yield f"v{version} {label} {dry}", twin.ask(request, version)
        learn(twin, name)


def configs(twin: Twin) -> Steps:
    name = make(twin, "admin-configs")
    for version in range(2):
        for label, kind, resource, key, operation, value in (
            ("set", TOPIC, name, "retention.ms", SET, "1000"),
            ("bad value", TOPIC, name, "retention.ms", SET, "x"),
            ("unknown key", TOPIC, name, "no.such", SET, "1"),
            ("null value", TOPIC, name, "retention.ms", SET, None),
            ("append", TOPIC, name, "cleanup.policy", APPEND, "compact"),
            ("append a number", TOPIC, name, "retention.ms", APPEND, "1"),
            ("subtract", TOPIC, name, "cleanup.policy", SUBTRACT, "compact"),
            ("delete", TOPIC, name, "retention.ms", DELETE, None),
            ("operation 9", TOPIC, name, "retention.ms", 9, "1"),
            ("topic", TOPIC, "no-such-topic", "retention.ms", SET, "1"),
            ("no name", TOPIC, "", "retention.ms", SET, "1"),
            ("other broker", BROKER, "7", "log.cleaner.threads", SET, "1"),
            ("word for a broker", BROKER, "x", "log.cleaner.threads", SET, "1"),
            ("kind 99", 99, "x", "a", SET, "1"),
        ):
            row = AlterConfigsResource(
                resource_type=kind,
                resource_name=resource,
                configs=[AlterableConfig(name=key, config_operation=operation, value=value)],
            )
            request = IncrementalAlterConfigsRequest(resources=[row, row] if label == "twice" else [row])
            yield f"v{version} {label}", twin.ask(request, version)


def log_dirs(twin: Twin) -> Steps:
    """Moving replicas where there is nowhere to go, and what the only directory holds."""
    name = make(twin, "admin-dirs", 2)
    described = twin.call(DescribeLogDirsRequest(topics=None), 4)
    here = described.results[0].log_dir
    for version in (1, 2):
        for label, path, topic, partitions in (
            ("no such directory", "/no/such/directory", name, [0]),
            ("no path", "", name, [0]),
            ("relative", "data", name, [0]),
            ("long topic", "/no/such/directory", "t" * 240, [0]),
            ("no such topic", here, "no-such-topic", [0]),
            ("no topic", here, "", [0]),
            ("no such partition", here, name, [0, 99, -1]),
            ("where it is", here, name, [0, 1]),
            ("the same twice", here, name, [0, 0]),
            ("nothing", here, name, []),
        ):
            row = AlterReplicaLogDirTopic(name=topic, partitions=partitions)
            request = AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=path, topics=[row])])
            yield f"v{version} {label}", twin.ask_any(request, version)
        yield f"v{version} no directories", twin.ask_any(AlterReplicaLogDirsRequest(dirs=[]), version)
    for version in range(1, 6):
        rows = [
            DescribableLogDirTopic(topic=name, partitions=[0, 1, 99]),
            DescribableLogDirTopic(topic="no-such-topic"),
        ]
        yield f"described v{version}", twin.ask_any(DescribeLogDirsRequest(topics=rows), version)


CASES: tuple[Case, ...] = (creations, more_partitions, configs, log_dirs)

"""ApiVersions, Metadata and the other APIs that describe the cluster."""

from __future__ import annotations

import time
from typing import Any

from harness.differential.topics import make, put
from harness.twins import Case, Steps, Twin
from ottla.model import Uuid
from ottla.wire.messages.api_versions_request import ApiVersionsRequest
from ottla.wire.messages.describe_cluster_request import DescribeClusterRequest
from ottla.wire.messages.describe_log_dirs_request import DescribableLogDirTopic, DescribeLogDirsRequest
from ottla.wire.messages.describe_topic_partitions_request import (
    Cursor,
    DescribeTopicPartitionsRequest,
    TopicRequest,
)
from ottla.wire.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic


def api_versions(twin: Twin) -> Steps:
    """Keys that only one of the two serves are left to the test of the advertised list; ranges must be equal."""
    served = twin.served
    for version in range(5):
        answer = twin.ask(ApiVersionsRequest(client_software_name="twin", client_software_version="1"), version)
        answer["api_keys"] = [row for row in answer["api_keys"] if row["api_key"] in served]
        yield f"v{version}", _by_name(answer)
    for name, number in (("", "1"), ("a b", "1"), ("-a", "1"), ("a", ""), ("a", "1-"), ("a.b-c", "1.0-x")):
        answer = twin.ask(ApiVersionsRequest(client_software_name=name, client_software_version=number), 3)
        if answer["error_code"] == 0:
            answer = "fine"
        yield f"name {name!r} {number!r}", answer


def _by_name(answer: Any) -> Any:
    for field in ("supported_features", "finalized_features"):
        answer[field] = sorted(answer[field], key=lambda row: row["name"])
    return answer


def metadata(twin: Twin) -> Steps:
    topic = make(twin, "metadata", 2)
    for version in range(14):
        auto = {"allow_auto_topic_creation": False} if version >= 4 else {}
        for names in (
            [topic],
            [topic, topic],
            ["", "a/b", ".", "..", "x" * 250, "no such", topic],
            ["no-such-topic"] if version >= 4 else [topic] * 3,
        ):
            rows = [MetadataRequestTopic(name=name) for name in names]
            label = f"{len(names)} " + ",".join(name[:12] for name in names)
            yield f"v{version} {label}", twin.ask(MetadataRequest(topics=rows, **auto), version, unordered=True)
        if version >= 1:
            yield f"v{version} none", twin.ask(MetadataRequest(topics=[], **auto), version)
        if version >= 8:
            ask: dict[str, Any] = {"include_topic_authorized_operations": True}
            if version <= 10:
                ask["include_cluster_authorized_operations"] = True
            rows = [MetadataRequestTopic(name=topic)]
            yield f"v{version} operations", twin.ask(MetadataRequest(topics=rows, **auto, **ask), version)
        if version >= 10:
            by_id = [MetadataRequestTopic(name=None, topic_id=twin.ids[topic])]
            stranger = [MetadataRequestTopic(name=None, topic_id=Uuid(b"\x01" * 16))]
            both = [MetadataRequestTopic(name=topic, topic_id=twin.ids[topic])]
            neither = [MetadataRequestTopic(name=None)]
            for label, rows in (("id", by_id), ("stranger", stranger), ("both", both), ("neither", neither)):
                yield f"v{version} {label}", twin.ask(MetadataRequest(topics=rows, **auto), version)
            yield f"v{version} mixed", twin.ask_any(MetadataRequest(topics=[*by_id, *stranger], **auto), version)


def auto_creation(twin: Twin) -> Steps:
    for version in (0, 1, 4, 9, 12, 13):
        name = f"auto-{version}"
        request = MetadataRequest(topics=[MetadataRequestTopic(name=name)])
        yield f"v{version} first", twin.ask(request, version)
        answer: Any = None
        for _ in range(100):
            answer = twin.ask(request, version)
            if answer["topics"][0]["error_code"] == 0:
                break
            time.sleep(0.02)
        yield f"v{version} then", answer
        bad = MetadataRequest(topics=[MetadataRequestTopic(name="bad/name")])
        yield f"v{version} bad", twin.ask(bad, version)
    yield "colliding", twin.ask(MetadataRequest(topics=[MetadataRequestTopic(name="auto.9")]), 9)
    make(twin, "dotted.name_here")
    yield "collides", twin.ask(MetadataRequest(topics=[MetadataRequestTopic(name="dotted_name.here")]), 9)


def partitions(twin: Twin) -> Steps:
    names = [make(twin, f"paging-{letter}", count) for letter, count in (("a", 3), ("b", 1), ("c", 4))]
    for limit in (1, 2, 3, 4, 7, 8, 100, 0, -1):
        cursor: Cursor | None = None
        for page in range(10):
            request = DescribeTopicPartitionsRequest(
                topics=[TopicRequest(name=name) for name in names], response_partition_limit=limit, cursor=cursor
            )
            answer = twin.ask(request, 0)
            yield f"limit {limit} page {page}", answer
            after = answer["next_cursor"] if isinstance(answer, dict) else None
            if after is None:
                break
            cursor = Cursor(topic_name=after["topic_name"], partition_index=after["partition_index"])
    for odd in (("paging-c", "no-such", "paging-a"), ("bad/name",), ("",), ("paging-a", "paging-a"), ("x" * 250,)):
        request = DescribeTopicPartitionsRequest(topics=[TopicRequest(name=name) for name in odd])
        yield f"names {odd}", twin.ask(request, 0)
    for name, index in (("paging-b", 0), ("paging-a", 2), ("paging-aa", 5), ("paging-c", 9), ("zzz", 0), ("", 0)):
        cursor = Cursor(topic_name=name, partition_index=index)
        request = DescribeTopicPartitionsRequest(topics=[TopicRequest(name=n) for n in names], cursor=cursor)
        yield f"cursor {name} {index}", twin.ask(request, 0)
    for index in (-1, -5):
        cursor = Cursor(topic_name="paging-b", partition_index=index)
        request = DescribeTopicPartitionsRequest(topics=[TopicRequest(name=n) for n in names], cursor=cursor)
        yield f"cursor index {index}", twin.ask(request, 0)


def the_cluster(twin: Twin) -> Steps:
    for version in range(3):
        yield f"v{version}", twin.ask(DescribeClusterRequest(), version)
        yield (
            f"v{version} operations",
            twin.ask(DescribeClusterRequest(include_cluster_authorized_operations=True), version),
        )
        if version >= 1:
            for kind in (2, 0, 3):
                yield f"v{version} endpoints {kind}", twin.ask(DescribeClusterRequest(endpoint_type=kind), version)
        if version >= 2:
            yield f"v{version} fenced", twin.ask(DescribeClusterRequest(include_fenced_brokers=True), version)


def coordinators(twin: Twin) -> Steps:
    for _ in range(200):  # a fresh Apache node makes the offsets topic first
        if twin.call(FindCoordinatorRequest(key="group"), 3).error_code == 0:
            break
        time.sleep(0.05)
    for version in range(7):
        for kind in (0, 2, 3, -1) if version else (0,):
            for keys in (["group"], [""], ["a", "b", "a"], []):
                if version < 4:
                    if len(keys) != 1:
                        continue
                    request = FindCoordinatorRequest(key=keys[0], key_type=kind)
                else:
                    request = FindCoordinatorRequest(coordinator_keys=keys, key_type=kind)
                if version >= 6 and kind == 2:
                    continue
                yield f"v{version} {kind} {keys}", twin.ask(request, version)


def log_dirs(twin: Twin) -> Steps:
    topic = make(twin, "dirs", 2)
    put(twin, topic)
    for version in range(1, 6):
        for label, parts in (("all", [0, 1]), ("one", [0]), ("strange", [9]), ("none", []), ("mixed", [9, 1])):
            request = DescribeLogDirsRequest(topics=[DescribableLogDirTopic(topic=topic, partitions=parts)])
            yield f"v{version} {label}", twin.ask(request, version, unordered=True)
        request = DescribeLogDirsRequest(topics=[DescribableLogDirTopic(topic="no-such", partitions=[0])])
        yield f"v{version} topic", twin.ask(request, version)
        yield f"v{version} empty", twin.ask(DescribeLogDirsRequest(topics=[]), version)


CASES: tuple[Case, ...] = (
    api_versions,
    metadata,
    auto_creation,
    partitions,
    the_cluster,
    coordinators,
    log_dirs,
)

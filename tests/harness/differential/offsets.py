"""ListOffsets, OffsetForLeaderEpoch and DeleteRecords."""

from __future__ import annotations

from collections.abc import Iterable

from harness.differential.topics import NOW, Row, make, put
from harness.twins import Case, Steps, Twin
from ottla.wire.messages.delete_records_request import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.wire.messages.list_offsets_request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.wire.messages.offset_for_leader_epoch_request import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)

LIST_VERSIONS = range(1, 12)


def listing(
    topic: str,
    timestamp: int,
    *,
    partitions: Iterable[int] = (0,),
    epoch: int = -1,
    isolation: int = 0,
    replica: int = -1,
) -> ListOffsetsRequest:
    rows = [
        ListOffsetsPartition(partition_index=index, timestamp=timestamp, current_leader_epoch=epoch)
        for index in partitions
    ]
    topics = [ListOffsetsTopic(name=topic, partitions=rows)]
    return ListOffsetsRequest(replica_id=replica, isolation_level=isolation, topics=topics, timeout_ms=5000)


def deletion(topic: str, *offsets: int, first: int = 0) -> DeleteRecordsRequest:
    rows = [DeleteRecordsPartition(partition_index=first + n, offset=offset) for n, offset in enumerate(offsets)]
    return DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=topic, partitions=rows)], timeout_ms=5000)


def stamped(twin: Twin, name: str) -> str:
    """Records whose timestamps rise, fall and repeat."""
    topic = make(twin, name, 2)
    put(twin, topic, Row(time_delta=0), Row(time_delta=100), Row(time_delta=50), first_time=NOW)
    put(twin, topic, Row(), Row(time_delta=300), Row(time_delta=300), first_time=NOW)
    put(twin, topic, Row(), first_time=NOW + 10)
    return topic


def _all_times(twin: Twin, topic: str, label: str) -> Steps:
    for version in LIST_VERSIONS:
        for special in range(-8, 0):
            yield f"{label}v{version} {special}", twin.ask(listing(topic, special), version)
        for delta in (-1000, 0, 1, 50, 75, 100, 101, 300, 301, 10_000):
            yield f"{label}v{version} now{delta:+d}", twin.ask(listing(topic, NOW + delta), version)
        yield f"{label}v{version} zero", twin.ask(listing(topic, 0), version)


def times(twin: Twin) -> Steps:
    yield from _all_times(twin, stamped(twin, "list-times"), "")


def empty(twin: Twin) -> Steps:
    yield from _all_times(twin, make(twin, "list-empty"), "")


def after_deletion(twin: Twin) -> Steps:
    topic = stamped(twin, "list-deleted")
    for offset in (2, 5, 7):
        yield f"delete {offset}", twin.ask(deletion(topic, offset), 2)
        yield from _all_times(twin, topic, f"from {offset} ")


def list_errors(twin: Twin) -> Steps:
    topic = stamped(twin, "list-errors")
    for version in LIST_VERSIONS:
        yield f"v{version} partition", twin.ask_any(listing(topic, -1, partitions=[9, 0, -1]), version)
        yield f"v{version} twice", twin.ask(listing(topic, -1, partitions=[0, 0]), version)
        yield f"v{version} topic", twin.ask(listing("no-such-topic", -1), version)
        for replica in (-2, 1, 5, -3):
            yield f"v{version} replica {replica}", twin.ask(listing(topic, -1, replica=replica), version)
        if version >= 2:
            yield f"v{version} committed", twin.ask(listing(topic, -1, isolation=1), version)
            yield f"v{version} committed by time", twin.ask(listing(topic, NOW + 100, isolation=1), version)
        if version >= 4:
            for epoch in (0, 3, -5):
                yield f"v{version} epoch {epoch}", twin.ask(listing(topic, -1, epoch=epoch), version)


def leader_epochs(twin: Twin) -> Steps:
    topic = stamped(twin, "epochs")
    for version in range(2, 5):
        for replica in (-2, -1, 1, 5):
            for leader in (-1, 0, 1, 9):
                for current in (-1, 0, 4):
                    rows = [
                        OffsetForLeaderPartition(partition=n, leader_epoch=leader, current_leader_epoch=current)
                        for n in (0, 1, 9)
                    ]
                    if version < 3 and replica != -2:
                        continue
                    request = OffsetForLeaderEpochRequest(
                        replica_id=replica, topics=[OffsetForLeaderTopic(topic=topic, partitions=rows)]
                    )
                    yield f"v{version} {replica} {leader} {current}", twin.ask(request, version)
        rows = [OffsetForLeaderPartition(partition=0, leader_epoch=0)]
        request = OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic(topic="no-such-topic", partitions=rows)])
        yield f"v{version} topic", twin.ask(request, version)


def deletions(twin: Twin) -> Steps:
    compacted = make(twin, "delete-compacted", cleanup_policy="compact")
    put(twin, compacted)
    both = make(twin, "delete-both", cleanup_policy="compact,delete")
    put(twin, both)
    for version in range(3):
        topic = stamped(twin, f"delete-{version}")
        for turn, offset in enumerate((0, 8, -2, -9, 2, 1, 6, -1, 0, 7)):
            yield f"v{version} {turn}: {offset}", twin.ask(deletion(topic, offset), version)
        yield f"v{version} partitions", twin.ask(deletion(topic, 0, 0, 0, first=0), version, unordered=True)
        yield f"v{version} topic", twin.ask(deletion("no-such-topic", 0), version)
        yield f"v{version} compacted", twin.ask(deletion(compacted, 1), version)
        yield f"v{version} compact and delete", twin.ask(deletion(both, 1), version)
        yield f"v{version} internal", twin.ask(deletion("__consumer_offsets", 0), version)
        yield f"v{version} metadata", twin.ask(deletion("__cluster_metadata", 0), version)
        yield f"v{version} nothing", twin.ask(DeleteRecordsRequest(timeout_ms=10), version)


CASES: tuple[Case, ...] = (times, empty, after_deletion, list_errors, leader_epochs, deletions)

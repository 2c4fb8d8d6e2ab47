"""Fetch: every version, its errors, limits and sessions."""

from __future__ import annotations

from typing import Any

from harness.differential.topics import Row, fetch, make, produce, put
from harness.twins import Case, Steps, Twin, batch
from ottla.model import Uuid
from ottla.wire.messages.delete_records_request import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic, ReplicaState

VERSIONS = range(4, 19)


def part(partition: int = 0, offset: int = 0, size: int = 1 << 20, **rest: Any) -> FetchPartition:
    return FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=size, **rest)


def filled(twin: Twin, name: str, partitions: int = 2) -> str:
    """A topic with five batches of 1-3 records in every partition."""
    topic = make(twin, name, partitions)
    for partition in range(partitions):
        for index in range(5):
            put(twin, topic, *[Row(value=b"%d" % index * 100)] * (index % 3 + 1), partition=partition)
    return topic


def places(twin: Twin) -> Steps:
    topic = filled(twin, "fetch-places")
    for version in VERSIONS:
        for offset in (0, 1, 2, 8, 9, 10, 100, -1, -5):
            request = fetch(twin, version, part(offset=offset), topic=topic)
            yield f"v{version} at {offset}", twin.ask(request, version)
        yield f"v{version} partition", twin.ask_any(fetch(twin, version, part(7), part(0), topic=topic), version)
        yield f"v{version} negative", twin.ask(fetch(twin, version, part(-1), topic=topic), version)
        yield f"v{version} topic", twin.ask(fetch(twin, version, part(), topic="no-such-topic"), version)
        yield f"v{version} twice", twin.ask_any(fetch(twin, version, part(), part(offset=8), topic=topic), version)
        yield f"v{version} nothing", twin.ask(FetchRequest(max_wait_ms=0), version)
        yield f"v{version} committed", twin.ask(fetch(twin, version, part(), topic=topic, isolation_level=1), version)
        yield f"v{version} isolation 5", twin.ask(fetch(twin, version, part(), topic=topic, isolation_level=5), version)


def sizes(twin: Twin) -> Steps:
    topic = filled(twin, "fetch-sizes")
    for version in (4, 11, 12, 13, 18):
        for size in (0, 1, 61, 200, 500, -1):
            request = fetch(twin, version, part(size=size), part(1, size=size), topic=topic)
            yield f"v{version} partition {size}", twin.ask(request, version)
        for size in (0, 1, 200, 700, -1):
            request = fetch(twin, version, part(), part(1), topic=topic, max_bytes=size)
            yield f"v{version} whole {size}", twin.ask(request, version)
        request = fetch(twin, version, part(), topic=topic, min_bytes=1 << 20, max_wait_ms=20)
        yield f"v{version} min not reached", twin.ask(request, version)
        request = fetch(twin, version, part(offset=9), topic=topic, min_bytes=1, max_wait_ms=20)
        yield f"v{version} at the end", twin.ask(request, version)
        request = fetch(twin, version, part(offset=99), topic=topic, min_bytes=1, max_wait_ms=9000)
        yield f"v{version} an error at once", twin.ask(request, version)


def epochs(twin: Twin) -> Steps:
    topic = filled(twin, "fetch-epochs", 1)
    for version in range(9, 19):
        for epoch in (-1, 0, 1, 7, -3):
            request = fetch(twin, version, part(current_leader_epoch=epoch), topic=topic)
            yield f"v{version} epoch {epoch}", twin.ask(request, version)
        if version < 12:
            continue
        for last in (-1, 0, 1, 5, -2):
            for offset in (0, 4, 9, 12):
                request = fetch(twin, version, part(offset=offset, last_fetched_epoch=last), topic=topic)
                yield f"v{version} last {last} at {offset}", twin.ask(request, version)


def replicas(twin: Twin) -> Steps:
    topic = filled(twin, "fetch-replicas", 1)
    for version in VERSIONS:
        for replica in (1, 5, -2, -3):
            who = {"replica_state": ReplicaState(replica_id=replica)} if version >= 15 else {"replica_id": replica}
            yield f"v{version} replica {replica}", twin.ask(fetch(twin, version, part(), topic=topic, **who), version)


def trimmed(twin: Twin) -> Steps:
    topic = filled(twin, "fetch-trimmed", 1)
    twin.call(
        DeleteRecordsRequest(
            topics=[DeleteRecordsTopic(name=topic, partitions=[DeleteRecordsPartition(partition_index=0, offset=4)])],
            timeout_ms=5000,
        ),
        2,
    )
    for version in VERSIONS:
        for offset in (0, 3, 4, 5):
            yield f"v{version} at {offset}", twin.ask(fetch(twin, version, part(offset=offset), topic=topic), version)


def sessions(twin: Twin) -> Steps:
    topic = filled(twin, "fetch-session", 4)
    for version in (7, 10, 12, 13, 15, 18):
        request = fetch(twin, version, *map(part, range(4)), topic=topic, session_epoch=0)
        first = twin.call(request, version)
        yield f"v{version} opened", twin.plain(first)
        session = first.session_id

        def step(
            epoch: int, *parts: FetchPartition, version: int = version, session: int = session, **rest: Any
        ) -> Any:
            if not parts:
                rest.setdefault("topics", [])
            request = fetch(twin, version, *parts, topic=topic, session_id=session, session_epoch=epoch, **rest)
            return twin.ask_any(request, version)

        yield f"v{version} wrong epoch", step(5)
        yield f"v{version} all again", step(1)
        yield f"v{version} moved", step(2, *(part(index, 9 + index * 0) for index in range(4)))
        yield f"v{version} nothing new", step(3)
        yield f"v{version} one moved", step(4, part(2, 4))
        gone = ForgottenTopic(
            topic="" if version >= 13 else topic,
            topic_id=twin.ids[topic] if version >= 13 else Uuid.ZERO,
            partitions=[2, 9],
        )
        yield f"v{version} forgotten", step(5, forgotten_topics_data=[gone])
        yield f"v{version} stranger added", step(6, part(9))
        yield f"v{version} stranger stays", step(7)
        yield f"v{version} forgotten and wanted", step(8, part(1, 2), forgotten_topics_data=[gone])
        yield f"v{version} old epoch", step(8)
        yield f"v{version} unknown session", step(9, session=session ^ 77)
        yield f"v{version} closed", step(-1, part(0, 8))
        yield f"v{version} closed is gone", step(9)
        yield f"v{version} epoch -1 alone", step(-1, part(0, 8), session=0)
        yield f"v{version} session 0, epoch 4", step(4, part(0, 8), session=0)
        yield f"v{version} epoch -7", step(-7, part(0, 8), session=0)
        yield f"v{version} empty, epoch 0", step(0, session=0)
        other = twin.call(fetch(twin, version, part(), topic="no-such-topic", session_epoch=0), version)
        yield f"v{version} with a stranger", twin.plain(other)


def mixed_ids(twin: Twin) -> Steps:
    """A session begun by name and continued by id, and the other way round; zero ids."""
    topic = filled(twin, "fetch-mixed", 1)
    for before, after in ((12, 13), (13, 12)):
        first = twin.call(fetch(twin, before, part(), topic=topic, session_epoch=0), before)
        request = fetch(twin, after, part(), topic=topic, session_id=first.session_id, session_epoch=1)
        yield f"{before} to {after}", twin.ask(request, after)
    entry = FetchTopic(topic_id=Uuid.ZERO, partitions=[part()])
    yield "zero id", twin.ask(FetchRequest(topics=[entry]), 13)
    two = [
        FetchTopic(topic_id=Uuid(b"\x01" * 16), partitions=[part(), part(1)]),
        FetchTopic(topic_id=twin.ids[topic], partitions=[part()]),
    ]
    for version in (13, 17):
        yield f"v{version} stranger first", twin.ask_any(FetchRequest(topics=two), version)


def waiting(twin: Twin) -> Steps:
    """A fetch that waits is answered by the append that another connection makes."""
    topic = make(twin, "fetch-waiting")
    for version in (4, 12, 18):
        link = twin.other_connection()
        try:
            offset = (version > 4) + (version > 12)
            request = fetch(twin, version, part(offset=offset), topic=topic, min_bytes=1, max_wait_ms=8000)
            twin.send(request, version, connection=link)
            twin.call(produce(twin, 9, topic, batch()), 9)
            yield f"v{version}", twin.plain(twin.receive(1, version, connection=link))
        finally:
            link.close()


CASES: tuple[Case, ...] = (places, sizes, epochs, replicas, trimmed, sessions, mixed_ids, waiting)

"""Produce, InitProducerId and DescribeProducers."""

from __future__ import annotations

import time

from harness.differential.topics import NOW, Row, batch, fetch, make, new_producer, produce, put
from harness.twins import Case, Steps, Twin, legacy_message
from ottla.records.compression import Codec, compress
from ottla.wire.messages.describe_producers_request import DescribeProducersRequest, TopicRequest
from ottla.wire.messages.fetch_request import FetchPartition
from ottla.wire.messages.init_producer_id_request import InitProducerIdRequest

VERSIONS = range(3, 14)
HOUR = 3_600_000


def acks(twin: Twin) -> Steps:
    topic = make(twin, "produce-acks")
    for version in VERSIONS:
        for value in (1, -1, 7):
            yield f"v{version} acks {value}", twin.ask(produce(twin, version, topic, batch(), acks=value), version)
    twin.send(produce(twin, 9, topic, batch(), acks=0), 9)
    yield "after acks 0", twin.ask(produce(twin, 9, topic, batch(), acks=1), 9)
    twin.send(produce(twin, 9, "no-such-topic-0", batch(), acks=0), 9)
    yield "after failing acks 0", twin.ask(produce(twin, 9, topic, batch(), acks=1), 9)
    put(twin, topic)  # acks=all: what came before is visible too
    yield "end", end_of(twin, topic)


def strangers(twin: Twin) -> Steps:
    topic = make(twin, "produce-strangers")
    for version in VERSIONS:
        yield f"v{version} topic", twin.ask(produce(twin, version, "no-such-topic", batch()), version)
        yield f"v{version} partition", twin.ask(produce(twin, version, topic, batch(), partition=9), version)
        yield f"v{version} negative", twin.ask(produce(twin, version, topic, batch(), partition=-1), version)
        yield f"v{version} bad name", twin.ask(produce(twin, version, "no/such topic", batch()), version)
    yield "empty request", twin.ask(type(produce(twin, 9, topic, b""))(acks=-1, timeout_ms=100), 9)


def damage(twin: Twin) -> Steps:
    topic = make(twin, "produce-damage")
    good = batch()
    shapes = {
        "null": None,
        "empty": b"",
        "one byte": b"\0",
        "two batches": good + batch(),
        "batch and rest": good + b"\0" * 10,
        "clipped": good[:-1],
        "bad crc": batch(crc=7),
        "magic 0": legacy_message(0),
        "magic 1": legacy_message(1),
        "magic 3": batch(magic=3),
        "magic -1": batch(magic=-1),
        "control": batch(attributes=32),
        "base offset": batch(base=5),
        "count too large": batch(count=2),
        "count zero": batch(count=0),
        "count negative": batch(count=-1),
        "last too large": batch(last=4),
        "last negative": batch(last=-1),
        "last negative, count zero": batch(last=-1, count=0, body=b""),
        "short length": batch(length=20),
        "tiny length": batch(length=3),
        "negative length": batch(length=-5),
        "long length": batch(length=5000),
        "transactional": batch(attributes=16, producer_id=5, producer_epoch=0, sequence=0),
        "transactional without id": batch(attributes=16),
        "epoch in batch": batch(epoch=40),
        "null key and value": batch(Row(key=None, value=None)),
        "append time flag": batch(attributes=8),
        "append time flag, no time": batch(attributes=8, first_time=-1, last_time=-1),
        "unknown attribute bits": batch(attributes=0x100),
        "delete horizon flag": batch(attributes=64),
        "producer without sequence": batch(producer_id=77, producer_epoch=0),
        "no time": batch(first_time=-1, last_time=-1),
    }
    for version in (3, 7, 8, 9, 12, 13):
        for name, records in shapes.items():
            if records is not None or version == 9:  # Apache Kafka leaves the client waiting: once is enough
                yield f"v{version} {name}", twin.ask(produce(twin, version, topic, records), version)
    yield "end", end_of(twin, topic)


def codecs(twin: Twin) -> Steps:
    names = ("uncompressed", "gzip", "snappy", "lz4", "zstd")
    topics = [make(twin, "codec-producer"), *(make(twin, f"codec-{name}", compression_type=name) for name in names)]
    row = batch(Row(value=b"x" * 300), Row(value=b"y" * 300, time_delta=4))
    for topic in topics:
        for codec in (Codec.NONE, Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD):
            packed = compress(codec, row[61:]) if codec else row[61:]
            records = batch(Row(), Row(time_delta=4), body=packed, attributes=int(codec))
            for version in (3, 6, 7, 9) if codec is Codec.ZSTD else (9,):
                yield f"{topic} {codec.name} v{version}", twin.ask(produce(twin, version, topic, records), version)
        yield (
            f"{topic} read",
            twin.ask(fetch(twin, 11, FetchPartition(partition=0, partition_max_bytes=1 << 20), topic=topic), 11),
        )


def sequences(twin: Twin) -> Steps:
    topic = make(twin, "produce-sequences", 4)
    pid, epoch = new_producer(twin)

    def one(sequence: int, bump: int = 0, count: int = 1, version: int = 9, partition: int = 0) -> object:
        records = batch(*[Row()] * count, producer_id=pid, producer_epoch=epoch + bump, sequence=sequence)
        return twin.ask(produce(twin, version, topic, records, partition=partition), version)

    yield "unknown producer starts late", one(5, partition=1)
    yield "goes on", one(6, partition=1)
    for sequence in range(8):
        yield f"sequence {sequence}", one(sequence)
    yield "duplicate last", one(7)
    yield "duplicate 5 back", one(3)
    yield "duplicate 6 back", one(2)
    yield "duplicate first", one(0)
    yield "gap", one(10)
    yield "other size of a known one", one(7, count=2)
    for version in VERSIONS:
        yield f"v{version} gap", one(100, version=version)
        yield f"v{version} duplicate", one(7, version=version)
    yield "bump not at 0", one(3, bump=1)
    yield "bump at 0", one(0, bump=1)
    yield "lower epoch", one(8)
    yield "lower epoch at 0", one(0)
    yield "next", one(1, bump=1, count=3)
    yield "overlap", one(2, bump=1, count=3)
    yield "negative epoch", one(0, bump=-1 - epoch, partition=2)
    yield "wraps to", one(2**31 - 2, count=2, partition=3)
    yield "wrapped", one(0, partition=3)
    yield (
        "unknown producer id",
        twin.ask(produce(twin, 9, topic, batch(producer_id=123_456_789, producer_epoch=3, sequence=2)), 9),
    )
    for name, parts in ((topic, [0, 1, 3, 2, 9]), ("no-such-topic", [0])):
        answer = twin.ask(DescribeProducersRequest(topics=[TopicRequest(name=name, partition_indexes=parts)]), 0)
        yield f"describe {name}", answer
    yield "end", end_of(twin, topic)


def append_time(twin: Twin) -> Steps:
    topic = make(twin, "produce-append-time", message_timestamp_type="LogAppendTime")
    shapes = {
        "plain": batch(Row(), Row(time_delta=9)),
        "flag set": batch(attributes=8),
        "future": batch(first_time=NOW + 1000 * HOUR),
        "no time": batch(first_time=-1, last_time=-1),
    }
    for version in (3, 8, 13):
        for name, records in shapes.items():
            yield f"v{version} {name}", twin.ask(produce(twin, version, topic, records), version)
    part = FetchPartition(partition=0, partition_max_bytes=1 << 20)
    yield "read", twin.ask(fetch(twin, 12, part, topic=topic), 12)


def limits(twin: Twin) -> Steps:
    topic = make(twin, "produce-limits", max_message_bytes="300")
    timed = make(twin, "produce-timed", message_timestamp_before_max_ms="3600000")
    compacted = make(twin, "produce-compacted", cleanup_policy="compact")
    both = make(twin, "produce-compact-delete", cleanup_policy="compact,delete", compression_type="gzip")
    fresh = time.time_ns() // 1_000_000
    for version in (3, 8, 10, 13):

        def tell(name: str, records: bytes, version: int = version) -> object:
            return twin.ask(produce(twin, version, name, records), version)

        yield f"v{version} too large", tell(topic, batch(Row(value=b"x" * 400)))
        yield f"v{version} fits", tell(topic, batch(Row(value=b"x" * 200)))
        yield f"v{version} just fits", tell(topic, batch(Row(value=b"x" * 229)))
        yield f"v{version} just not", tell(topic, batch(Row(value=b"x" * 230)))
        yield f"v{version} future", tell("produce-acks", batch(Row(), Row(time_delta=2 * HOUR)))
        yield f"v{version} near future", tell("produce-acks", batch(Row(), Row(time_delta=HOUR // 2)))
        yield f"v{version} past", tell(timed, batch(Row(), Row(time_delta=HOUR), first_time=fresh - 2 * HOUR))
        yield f"v{version} past fine", tell(timed, batch(Row(), first_time=fresh))
        yield f"v{version} both wrong", tell(timed, batch(Row(), Row(time_delta=8 * HOUR), first_time=fresh - 2 * HOUR))
        yield f"v{version} no key", tell(compacted, batch(Row(key=None), Row(), Row(key=None)))
        yield f"v{version} four without", tell(compacted, batch(*[Row(key=None)] * 4))
        yield f"v{version} key", tell(compacted, batch(Row(value=None)))
        yield f"v{version} compact gzip", tell(both, batch(Row(), Row(key=None)))
        yield f"v{version} compact gzip fine", tell(both, batch(Row(), Row()))
    yield "far past", twin.ask(produce(twin, 9, "produce-acks", batch(first_time=0)), 9)
    yield "negative", twin.ask(produce(twin, 9, "produce-acks", batch(first_time=-5)), 9)


def internal(twin: Twin) -> Steps:
    for version in (3, 12):
        yield f"v{version}", twin.ask(produce(twin, version, "__cluster_metadata", batch()), version)


def producer_ids(twin: Twin) -> Steps:
    for version in range(6):
        yield f"v{version} idempotent", shape(twin.ask(InitProducerIdRequest(transactional_id=None), version))
        yield (
            f"v{version} empty id",
            shape(twin.ask(InitProducerIdRequest(transactional_id="", transaction_timeout_ms=1000), version)),
        )
    for version in (3, 4, 5):
        for pid, epoch in ((5, 2), (5, -1), (-1, 2), (-2, -2)):
            request = InitProducerIdRequest(transactional_id=None, producer_id=pid, producer_epoch=epoch)
            yield f"v{version} with {pid} {epoch}", shape(twin.ask(request, version))


def transactional_ids(twin: Twin) -> Steps:
    for version in range(6):
        request = InitProducerIdRequest(transactional_id="tx", transaction_timeout_ms=1000)
        yield f"v{version}", shape(twin.ask(request, version))


def several(twin: Twin) -> Steps:
    """Good and bad partitions in one request, and one partition twice."""
    topic = make(twin, "produce-several", 3)
    for version in (3, 9, 13):
        request = produce(twin, version, topic, batch())
        entry = request.topic_data[0]
        part = type(entry.partition_data[0])
        entry.partition_data = [part(index=index, records=batch()) for index in (2, 7, 0)]
        entry.partition_data[2].records = batch(crc=1)
        yield f"v{version}", twin.ask_any(request, version)
    yield "end", end_of(twin, topic)


def end_of(twin: Twin, topic: str) -> object:
    """Everything in partition 0, as read."""
    part = FetchPartition(partition=0, partition_max_bytes=1 << 22)
    return twin.ask(fetch(twin, 11, part, topic=topic), 11)


def shape(answer: object) -> object:
    """An InitProducerId answer with the id as granted or not."""
    if isinstance(answer, dict) and isinstance(answer.get("producer_id"), int):
        answer["producer_id"] = "granted" if answer["producer_id"] >= 0 else answer["producer_id"]
    return answer


CASES: tuple[Case, ...] = (
    acks,
    strangers,
    damage,
    codecs,
    sequences,
    append_time,
    limits,
    internal,
    producer_ids,
    transactional_ids,
    several,
)

"""Encoding and decoding messages, side by side with kio and kafka-python.

Every contender gets the same frames and its own objects of the same content. Rounds are interleaved; the table shows
medians in microseconds a message, and how many times faster Ottla is. Run: ``python bench/codec.py [--rounds N]``.
"""

import argparse
import gc
import importlib
import io
import statistics
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any

from ottla.model import Uuid
from ottla.wire import decode, encode
from ottla.wire.messages import (
    fetch_request,
    fetch_response,
    metadata_response,
    offset_commit_request,
    produce_request,
    produce_response,
)

RECORDS = bytes(range(256)) * 64
TOPICS = [f"orders-{number:02}" for number in range(50)]
IDS = [Uuid.random(Random(number)) for number in range(50)]


def produce() -> Any:
    partitions = [produce_request.PartitionProduceData(index=index, records=RECORDS) for index in range(6)]
    topic = produce_request.TopicProduceData(name="orders", partition_data=partitions)
    return produce_request.ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[topic])


def produce_answer() -> Any:
    partitions = [
        produce_response.PartitionProduceResponse(index=index, base_offset=10**9 + index, log_start_offset=0)
        for index in range(6)
    ]
    topic = produce_response.TopicProduceResponse(name="orders", partition_responses=partitions)
    return produce_response.ProduceResponse(responses=[topic])


def fetch() -> Any:
    topics = [
        fetch_request.FetchTopic(
            topic=name,
            partitions=[
                fetch_request.FetchPartition(
                    partition=index,
                    current_leader_epoch=3,
                    fetch_offset=10**9,
                    log_start_offset=-1,
                    partition_max_bytes=1 << 20,
                )
                for index in range(6)
            ],
        )
        for name in TOPICS
    ]
    return fetch_request.FetchRequest(max_wait_ms=500, min_bytes=1, session_id=7, session_epoch=1, topics=topics)


def fetch_answer() -> Any:
    partitions = [
        fetch_response.PartitionData(
            partition_index=index, high_watermark=10**9, last_stable_offset=10**9, log_start_offset=0, records=RECORDS
        )
        for index in range(6)
    ]
    topic = fetch_response.FetchableTopicResponse(topic="orders", partitions=partitions)
    return fetch_response.FetchResponse(session_id=7, responses=[topic])


def metadata() -> Any:
    brokers = [
        metadata_response.MetadataResponseBroker(node_id=node, host=f"broker-{node}.example", port=9092, rack="a")
        for node in (1, 2, 3)
    ]
    topics = [
        metadata_response.MetadataResponseTopic(
            name=name,
            topic_id=topic_id,
            partitions=[
                metadata_response.MetadataResponsePartition(
                    partition_index=index,
                    leader_id=1 + index % 3,
                    leader_epoch=5,
                    replica_nodes=[1, 2, 3],
                    isr_nodes=[1, 2, 3],
                )
                for index in range(6)
            ],
        )
        for name, topic_id in zip(TOPICS, IDS, strict=True)
    ]
    return metadata_response.MetadataResponse(brokers=brokers, cluster_id="cluster", controller_id=1, topics=topics)


def offset_commit() -> Any:
    topics = [
        offset_commit_request.OffsetCommitRequestTopic(
            name=name,
            partitions=[
                offset_commit_request.OffsetCommitRequestPartition(
                    partition_index=index, committed_offset=10**9, committed_leader_epoch=4, committed_metadata=""
                )
                for index in range(6)
            ],
        )
        for name in TOPICS[:5]
    ]
    return offset_commit_request.OffsetCommitRequest(
        group_id="billing", generation_id_or_member_epoch=9, member_id="billing-1", topics=topics
    )


# label, message, version, kio's module and class, kafka-python's class
CASES = [
    ("Produce request v9, 6 x 16 KB", produce, 9, "produce.v9.request.ProduceRequest", "ProduceRequest"),
    ("Produce response v9", produce_answer, 9, "produce.v9.response.ProduceResponse", "ProduceResponse"),
    ("Fetch request v12, 50 x 6", fetch, 12, "fetch.v12.request.FetchRequest", "FetchRequest"),
    ("Fetch response v12, 6 x 16 KB", fetch_answer, 12, "fetch.v12.response.FetchResponse", "FetchResponse"),
    ("Metadata response v12, 50 x 6", metadata, 12, "metadata.v12.response.MetadataResponse", "MetadataResponse"),
    ("OffsetCommit request v8, 5 x 6", offset_commit, 8, "offset_commit.v8.request.OffsetCommitRequest",
     "OffsetCommitRequest"),
]  # fmt: skip

Contender = tuple[Callable[[], object], Callable[[], object]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    print(f"{'':32}{'':8}{'ottla':>9}{'kio':>9}{'kafka-py':>9}{'x kio':>8}{'x k-py':>8}")
    for label, build, version, kio_path, kafka_name in CASES:
        message = build()
        frame = encode(message, version)
        contenders = [
            ottla(message, frame, version),
            kio(frame, kio_path),
            kafka_python(frame, version, kafka_name),
        ]
        for index, verb in enumerate(("encode", "decode")):
            times = interleaved([contender[index] if contender else None for contender in contenders], rounds)
            report(label if index == 0 else "", verb, times)
    return 0


def ottla(message: Any, frame: bytes, version: int) -> Contender:
    cls = type(message)
    assert encode(decode(cls, frame, version), version) == frame
    return lambda: encode(message, version), lambda: decode(cls, frame, version)


def kio(frame: bytes, path: str) -> Contender | None:
    try:
        from kio.serial import entity_reader, entity_writer
    except ImportError:
        return None
    module, name = path.rsplit(".", 1)
    cls = getattr(importlib.import_module(f"kio.schema.{module}"), name)
    read, write = entity_reader(cls), entity_writer(cls)
    entity = read(frame, 0)[0]

    def encode_it() -> bytes:
        buffer = io.BytesIO()
        write(buffer, entity)
        return buffer.getvalue()

    assert encode_it() == frame, f"kio writes {name} differently"
    return encode_it, lambda: read(frame, 0)


def kafka_python(frame: bytes, version: int, name: str) -> Contender | None:
    try:
        from kafka.protocol import consumer, metadata, producer
    except ImportError:
        return None
    cls = next(getattr(package, name) for package in (consumer, metadata, producer) if hasattr(package, name))
    entity = cls.decode(frame, version=version)
    entity._header = None  # decoding leaves it unset, and encoding asks for it
    if bytes(entity.encode(version=version)) != frame:
        print(f"  (kafka-python writes {name} differently)", file=sys.stderr)
    return lambda: entity.encode(version=version), lambda: cls.decode(frame, version=version)


def interleaved(runs: list[Callable[[], object] | None], rounds: int) -> list[float | None]:
    """Median microseconds a call, garbage collection held off as during a request."""
    loops = [0 if run is None else max(1, int(0.004 / once(run))) for run in runs]
    samples: list[list[float]] = [[] for _ in runs]
    gc.disable()
    for _ in range(rounds):
        for run, loop, sample in zip(runs, loops, samples, strict=True):
            if run is not None:
                started = time.perf_counter()
                for _ in range(loop):
                    run()
                sample.append((time.perf_counter() - started) / loop * 1e6)
        gc.collect()
    gc.enable()
    return [statistics.median(sample) if sample else None for sample in samples]


def once(run: Callable[[], object]) -> float:
    run()
    started = time.perf_counter()
    run()
    return max(time.perf_counter() - started, 1e-7)


def report(label: str, verb: str, times: list[float | None]) -> None:
    ours = times[0]
    assert ours is not None
    cells = "".join(f"{'-' if value is None else f'{value:.1f}':>9}" for value in times)
    ratios = "".join(f"{'-' if value is None else f'{value / ours:.1f}x':>8}" for value in times[1:])
    print(f"{label:32}{verb:8}{cells}{ratios}")


if __name__ == "__main__":
    sys.exit(main())

"""A transactional producer of version 2 over raw requests, and a reader of committed records.

Every request is made by hand, so that a suite can keep one back, send it twice, or kill the broker around it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harness.twins import Twin
from ottla.records.batch import iter_headers
from ottla.records.builder import build_batch
from ottla.records.control import read_end_transaction
from ottla.records.reader import read_records
from ottla.wire.messages.end_txn_request import EndTxnRequest
from ottla.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
from ottla.wire.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.wire.messages.init_producer_id_request import InitProducerIdRequest
from ottla.wire.messages.list_offsets_request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.wire.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from ottla.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.messages.txn_offset_commit_request import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)

RETRY = frozenset((3, 5, 6, 14, 15, 16, 19, 51))
"""What a client asks again after: topics and coordinators on their way, a transaction just ending."""
PATIENCE_SECONDS = 20.0
Kept = tuple[Any, int]


class TransactionalProducer:
    """One producer on one connection; ``kept`` are copies of the requests that were carried out."""

    def __init__(self, node: Any, transactional_id: str, topic: str, group: str = "") -> None:
        self.link = Twin(node, set())
        self.name, self.topic, self.group = transactional_id, topic, group
        self.sequence = 0
        self.producer_id = self.epoch = -1
        self.kept: list[Kept] = []

    def init(self, timeout_ms: int = 60_000) -> None:
        """Take the transactional id over."""
        request = InitProducerIdRequest(transactional_id=self.name, transaction_timeout_ms=timeout_ms)
        self.owner(self.ask(request, 4, lambda one: one.error_code))

    def owner(self, answer: Any) -> None:
        """Go on as whoever the answer says."""
        self.producer_id, self.epoch, self.sequence = answer.producer_id, answer.producer_epoch, 0

    def send(self, value: bytes) -> None:
        """One record to partition 0."""
        records = build_batch(
            [(int(time.time() * 1000), b"k", value)],
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=self.sequence,
            transactional=True,
        )
        part = PartitionProduceData(index=0, records=records)
        data = [TopicProduceData(name=self.topic, partition_data=[part])]
        request = ProduceRequest(transactional_id=self.name, acks=-1, timeout_ms=10_000, topic_data=data)
        self.ask(request, 12, lambda one: one.responses[0].partition_responses[0].error_code, keep=True)
        self.sequence += 1

    def commit_offset(self, offset: int) -> None:
        """Make an offset of the topic a part of the transaction."""
        part = TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
        request = TxnOffsetCommitRequest(
            transactional_id=self.name,
            group_id=self.group,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            topics=[TxnOffsetCommitRequestTopic(name=self.topic, partitions=[part])],
        )
        self.ask(request, 5, lambda one: one.topics[0].partitions[0].error_code, keep=True)

    def end(self, *, commit: bool) -> None:
        """Commit or abort, and take over the next epoch."""
        request = self.ending(commit=commit)
        answer = self.ask(request, 5, lambda one: one.error_code, keep=True)
        # Its opposite may be on its way as well: from a client that gave up waiting and aborted.
        self.kept.append((self.ending(commit=not commit), 5))
        self.owner(answer)

    def ending(self, *, commit: bool) -> EndTxnRequest:
        """The request that ends the present transaction."""
        return EndTxnRequest(
            transactional_id=self.name,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            committed=commit,
        )

    def ask(self, request: Any, version: int, code_of: Callable[[Any], int], *, keep: bool = False) -> Any:
        """Ask until the answer is not "come again"; anything but success is a failure of the test."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            answer = self.link.call(request, version)
            code = code_of(answer)
            if code not in RETRY or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        assert code == 0, f"{type(request).__name__}: error {code}"
        if keep:
            self.kept.append((request, version))
        return answer


def wait_for_coordinators(node: Any) -> None:
    """Until somebody serves groups and transactional ids."""
    link = Twin(node, set())
    for kind in (0, 1):
        eventually(lambda kind=kind: link.call(FindCoordinatorRequest(key="any", key_type=kind), 3).error_code == 0)
    link.close()


def eventually(condition: Callable[[], bool]) -> None:
    """Poll; a failure of the test when it takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def end_offset(link: Twin, topic: str, *, committed: bool) -> int:
    """The stable offset, or the high watermark."""
    part = ListOffsetsPartition(partition_index=0, timestamp=-1)
    topics = [ListOffsetsTopic(name=topic, partitions=[part])]
    request = ListOffsetsRequest(replica_id=-1, isolation_level=int(committed), topics=topics)
    return int(link.call(request, 5).topics[0].partitions[0].offset)


def nothing_open(link: Twin, topic: str) -> bool:
    """Whether no transaction holds readers of committed records back."""
    return end_offset(link, topic, committed=True) == end_offset(link, topic, committed=False)


def committed_offset(link: Twin, group: str, topic: str) -> int:
    """The group's offset, once it is stable."""
    wanted = OffsetFetchRequestTopics(name=topic, partition_indexes=[0])
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=[wanted])], require_stable=True)

    def ask() -> Any:
        group_answer = link.call(request, 8).groups[0]
        return None if group_answer.error_code else group_answer.topics[0].partitions[0]

    eventually(lambda: (found := ask()) is not None and found.error_code == 0)
    return int(ask().committed_offset)


def read_committed(link: Twin, topic: str) -> list[bytes | None]:
    """Partition 0 as a consumer sees it: without what the list of aborted transactions names."""
    part = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 22)
    topics = [FetchTopic(topic=topic, partitions=[part])]
    request = FetchRequest(max_wait_ms=0, min_bytes=0, max_bytes=1 << 22, isolation_level=1, topics=topics)
    found = link.call(request, 11).responses[0].partitions[0]
    assert found.error_code == 0
    aborted = sorted(found.aborted_transactions or (), key=lambda one: one.first_offset)
    raw = bytes(found.records or b"")
    skipped: set[int] = set()
    values: list[bytes | None] = []
    for position, header in iter_headers(raw):
        while aborted and aborted[0].first_offset <= header.last_offset:
            skipped.add(aborted.pop(0).producer_id)
        batch = raw[position : position + header.size]
        if header.is_control:
            end = read_end_transaction(batch)
            if end is not None and not end.committed:
                skipped.discard(header.producer_id)
        elif header.producer_id not in skipped:
            values += [record.value for record in read_records(batch)]
    return values

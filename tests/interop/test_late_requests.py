"""Requests of a transaction that arrive when it is over (KAFKA-17754): by a raw client, in many orders.

A producer of transaction version 2 writes records and offsets in transactions that commit or abort. The network keeps
copies of its Produce, TxnOffsetCommit and EndTxn requests and delivers them again, on another connection, at whatever
time: into a later transaction of the same producer, into one of its successor, after everything. No record may become
visible twice, torn from its transaction or against its abort, no offset move, and the stable offset must not get stuck.

Below version 2 the epoch does not change with the transaction, so a late EndTxn cannot be told from a timely one; there
the broker prevents only what hangs (the partition must be in an open transaction).
"""

from __future__ import annotations

import time
from random import Random

import pytest

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

VARIATIONS = 200
RETRY = frozenset((3, 5, 6, 14, 15, 16, 19, 51))
"""What a client asks again after: topics and coordinators on their way, a transaction just ending."""


class Network:
    """Two connections to one broker: the producer's, and one that delivers late."""

    def __init__(self, cluster):
        self.timely, self.late = Twin(cluster, set()), Twin(cluster, set())
        self.kept = []

    def ask(self, request, version, code_of, *, keep=False):
        """Ask until the answer is not "come again"; returns the answer and its error code."""
        for _ in range(500):
            answer = self.timely.call(request, version)
            code = code_of(answer)
            if code not in RETRY:
                break
            time.sleep(0.01)
        if keep and code == 0:
            self.kept.append((request, version))
        return answer, code

    def deliver_late(self, random):
        if self.kept:
            request, version = random.choice(self.kept)
            self.late.call(request, version)

    def close(self):
        self.timely.close()
        self.late.close()


class Producer:
    def __init__(self, network, transactional_id, topic, group):
        self.network, self.name, self.topic, self.group = network, transactional_id, topic, group
        self.sequence = 0
        self.producer_id = self.epoch = -1

    def init(self):
        request = InitProducerIdRequest(transactional_id=self.name, transaction_timeout_ms=60_000)
        answer, code = self.network.ask(request, 4, lambda one: one.error_code)
        assert code == 0
        self.producer_id, self.epoch, self.sequence = answer.producer_id, answer.producer_epoch, 0

    def send(self, value):
        records = build_batch(
            [(int(time.time() * 1000), b"k", value)],
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=self.sequence,
            transactional=True,
        )
        part = PartitionProduceData(index=0, records=records)
        request = ProduceRequest(
            transactional_id=self.name,
            acks=-1,
            timeout_ms=10_000,
            topic_data=[TopicProduceData(name=self.topic, partition_data=[part])],
        )
        _, code = self.network.ask(
            request, 12, lambda one: one.responses[0].partition_responses[0].error_code, keep=True
        )
        assert code == 0
        self.sequence += 1

    def commit_offset(self, offset):
        part = TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
        request = TxnOffsetCommitRequest(
            transactional_id=self.name,
            group_id=self.group,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            topics=[TxnOffsetCommitRequestTopic(name=self.topic, partitions=[part])],
        )
        _, code = self.network.ask(request, 5, lambda one: one.topics[0].partitions[0].error_code, keep=True)
        assert code == 0

    def end(self, *, commit):
        request = EndTxnRequest(
            transactional_id=self.name,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            committed=commit,
        )
        answer, code = self.network.ask(request, 5, lambda one: one.error_code, keep=True)
        assert code == 0
        # Its opposite may be on its way as well: a client that gave up waiting and aborted.
        self.network.kept.append((EndTxnRequest(**{**fields(request), "committed": not commit}), 5))
        self.producer_id, self.epoch, self.sequence = answer.producer_id, answer.producer_epoch, 0


def fields(request):
    return {name: getattr(request, name) for name in ("transactional_id", "producer_id", "producer_epoch", "committed")}


@pytest.fixture(scope="module")
def ready(cluster):
    link = Twin(cluster, set())
    for kind in (0, 1):
        for _ in range(500):
            if link.call(FindCoordinatorRequest(key="any", key_type=kind), 3).error_code == 0:
                break
            time.sleep(0.02)
    link.close()


@pytest.mark.parametrize("block", range(10))
def test_late_requests_change_nothing(cluster, ready, unique, block):
    for variation in range(block, VARIATIONS, 10):
        play(cluster, Random(variation), unique)


def play(cluster, random, unique):
    topic, group, transactional_id = unique("late"), unique("late"), unique("late")
    with cluster.connect() as link:
        link.create_topic(topic, 1)
    network = Network(cluster)
    try:
        producer = Producer(network, transactional_id, topic, group)
        producer.init()
        committed, offset = [], -1
        for transaction in range(random.randint(2, 5)):
            commit = random.random() < 0.6
            values = [f"{transaction}-{part}".encode() for part in range(random.randint(1, 3))]
            for value in values:
                late(network, random)
                producer.send(value)
            late(network, random)
            if random.random() < 0.7:
                producer.commit_offset(transaction)
                offset = transaction if commit else offset
            late(network, random)
            producer.end(commit=commit)
            committed += values if commit else []
            if random.random() < 0.2:
                late(network, random)
                producer.init()
        for _ in range(4):
            network.deliver_late(random)
        check(network.timely, (topic, group), committed, offset)
    finally:
        network.close()


def late(network, random):
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        network.deliver_late(random)


def check(link, names, committed, offset):
    topic, group = names
    for _ in range(500):
        if end_of(link, topic, 1) == end_of(link, topic, 0):
            break
        time.sleep(0.02)
    else:
        raise AssertionError("the stable offset is stuck")
    assert read_committed(link, topic) == committed
    wanted = OffsetFetchRequestTopics(name=topic, partition_indexes=[0])
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=[wanted])], require_stable=True)
    for _ in range(500):
        found = link.call(request, 8).groups[0].topics[0].partitions[0]
        if found.error_code == 0:
            break
        time.sleep(0.02)
    assert (found.error_code, found.committed_offset) == (0, offset)


def end_of(link, topic, isolation):
    part = ListOffsetsPartition(partition_index=0, timestamp=-1)
    request = ListOffsetsRequest(
        replica_id=-1, isolation_level=isolation, topics=[ListOffsetsTopic(name=topic, partitions=[part])]
    )
    return link.call(request, 5).topics[0].partitions[0].offset


def read_committed(link, topic):
    """As a consumer does it: without what the list of aborted transactions names."""
    part = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 22)
    topics = [FetchTopic(topic=topic, partitions=[part])]
    request = FetchRequest(max_wait_ms=0, min_bytes=0, max_bytes=1 << 22, isolation_level=1, topics=topics)
    found = link.call(request, 11).responses[0].partitions[0]
    assert found.error_code == 0
    aborted = sorted(found.aborted_transactions or (), key=lambda one: one.first_offset)
    raw = bytes(found.records or b"")
    skipped, values = set(), []
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

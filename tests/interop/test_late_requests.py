"""Requests of a transaction that arrive when it is over (KAFKA-17754): by a raw client, in many orders.

A producer of transaction version 2 writes records and offsets in transactions that commit or abort. The network keeps
copies of its Produce, TxnOffsetCommit and EndTxn requests and delivers them again, on another connection, at whatever
time: into a later transaction of the same producer, into one of its successor, after everything. No record may become
visible twice, torn from its transaction or against its abort, no offset move, and the stable offset must not get stuck.

Below version 2 the epoch does not change with the transaction, so a late EndTxn cannot be told from a timely one; there
the broker prevents only what hangs (the partition must be in an open transaction).
"""

from __future__ import annotations

from random import Random

import pytest

from harness.raw_transactions import (
    TransactionalProducer,
    committed_offset,
    eventually,
    nothing_open,
    read_committed,
    wait_for_coordinators,
)
from harness.twins import Twin

VARIATIONS = 200
BLOCKS = 10


@pytest.fixture(scope="module", autouse=True)
def _ready(cluster):
    wait_for_coordinators(cluster)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_late_requests_change_nothing(cluster, unique, block):
    for variation in range(block, VARIATIONS, BLOCKS):
        play(cluster, Random(variation), unique)


def play(cluster, random, unique):
    topic, group = unique("late"), unique("late")
    with cluster.connect() as link:
        link.create_topic(topic, 1)
    producer, network = TransactionalProducer(cluster, unique("late"), topic, group), Twin(cluster, set())
    try:
        producer.init()
        committed, offset = [], -1
        for transaction in range(random.randint(2, 5)):
            commit = random.random() < 0.6
            values = [f"{transaction}-{part}".encode() for part in range(random.randint(1, 3))]
            for value in values:
                deliver_late(network, producer, random)
                producer.send(value)
            deliver_late(network, producer, random)
            if random.random() < 0.7:
                producer.commit_offset(transaction)
                offset = transaction if commit else offset
            deliver_late(network, producer, random)
            producer.end(commit=commit)
            committed += values if commit else []
            if random.random() < 0.2:
                deliver_late(network, producer, random)
                producer.init()
        for _ in range(4):
            deliver_late(network, producer, random)
        eventually(lambda: nothing_open(network, topic))
        assert read_committed(network, topic) == committed
        assert committed_offset(network, group, topic) == offset
    finally:
        producer.link.close()
        network.close()


def deliver_late(network, producer, random):
    """Copies of requests that were carried out, or of the opposite of an end; from this transaction or another."""
    for _ in range(random.choice((0, 0, 1, 1, 2)) if producer.kept else 0):
        request, version = random.choice(producer.kept)
        network.call(request, version)

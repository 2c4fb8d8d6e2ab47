"""kill -9 around transactions: what was committed stays so, what was open ends, and nobody waits for ever."""

from __future__ import annotations

import time
from random import Random

import pytest

from harness.clusters import make_node
from harness.raw_transactions import (
    TransactionalProducer,
    committed_offset,
    eventually,
    nothing_open,
    read_committed,
    wait_for_coordinators,
)
from harness.twins import Twin

CONFIG = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "300"}
TOPIC, GROUP = "kills", "kills"


@pytest.fixture
def node(cluster_kind, tmp_path):
    node = make_node(cluster_kind, tmp_path / "data", config=CONFIG)
    node.start()
    with node.connect() as link:
        link.create_topic(TOPIC, 1)
    wait_for_coordinators(node)
    node.links = []
    yield node
    for link in node.links:
        link.close()
    node.kill()


def producing(node, name):
    producer = TransactionalProducer(node, name, TOPIC, GROUP)
    node.links.append(producer.link)
    return producer


def reading(node):
    node.links.append(Twin(node, set()))
    return node.links[-1]


def again(node):
    node.kill()
    node.start()
    wait_for_coordinators(node)


def test_an_open_transaction_is_aborted_when_its_time_is_over(node):
    producer = producing(node, "open")
    producer.init(timeout_ms=1500)
    producer.send(b"lost")
    producer.commit_offset(7)
    again(node)
    link = reading(node)
    assert not nothing_open(link, TOPIC)
    eventually(lambda: nothing_open(link, TOPIC))
    assert read_committed(link, TOPIC) == []
    assert committed_offset(link, GROUP, TOPIC) == -1


def test_an_open_transaction_goes_on_after_a_restart(node):
    producer = producing(node, "goes-on")
    producer.init()
    producer.send(b"before")
    again(node)
    producer.link.close()
    producer.send(b"after")
    producer.commit_offset(2)
    producer.end(commit=True)
    eventually(lambda: nothing_open(producer.link, TOPIC))
    assert read_committed(producer.link, TOPIC) == [b"before", b"after"]
    assert committed_offset(producer.link, GROUP, TOPIC) == 2


def test_decisions_survive_whenever_the_kill_comes(node, request):
    """The node dies right after it answered EndTxn: before, while or after it writes the markers."""
    rounds = 3 * int(request.config.getoption("--chaos-rounds"))
    random = Random(4)
    committed, offset = [], -1
    for number in range(rounds):
        producer = producing(node, f"round-{number % 3}")
        producer.init()
        values = [f"{number}-{part}".encode() for part in range(random.randint(1, 3))]
        for value in values:
            producer.send(value)
        producer.commit_offset(number)
        commit = random.random() < 0.7
        producer.end(commit=commit)
        if commit:
            committed += values
            offset = number
        time.sleep(random.choice((0, 0, 0, 0.002, 0.01)))
        again(node)
        producer.link.close()
    link = reading(node)
    eventually(lambda: nothing_open(link, TOPIC))
    assert read_committed(link, TOPIC) == committed
    assert committed_offset(link, GROUP, TOPIC) == offset


def test_an_end_that_was_never_answered_happened_or_not(node):
    """The node dies while EndTxn is under way: asked again, the same end is a retry or the first."""
    for number in range(4):
        producer = producing(node, f"unanswered-{number}")
        producer.init()
        producer.send(b"%d" % number)
        producer.link.send(producer.ending(commit=True), 5)
        again(node)
        producer.link.close()
        producer.end(commit=True)
        eventually(lambda producer=producer: nothing_open(producer.link, TOPIC))
    assert read_committed(producer.link, TOPIC) == [b"0", b"1", b"2", b"3"]

"""A directory changes hands in the middle of transactions: open, just decided, with pending offsets; both ways."""

from __future__ import annotations

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

TOPIC, GROUP = "handed", "handed"
CONFIG = {"offsets.topic.num.partitions": "3", "transaction.state.log.num.partitions": "3"}


@pytest.mark.parametrize("kinds", [("apache", "ottla"), ("ottla", "apache")], ids="-to-".join)
@pytest.mark.parametrize("hard", [False, True], ids=["stopped", "killed"])
def test_transactions_go_on_with_the_other_broker(apache_kafka, tmp_path, kinds, hard):
    """After a kill Apache Kafka 4.3.1 mostly writes, with the leader epoch of the broker that is gone and before it
    leads anything, that a prepared transaction is complete, without having written its marker: the producer's next
    transaction, which is aborted here, takes its records along. No directory of ours can keep it from that.
    """
    values, offset = hand_over(tmp_path, kinds, hard)
    if hard and kinds[1] == "apache" and b"decided-0" not in values:
        values.insert(1, b"decided-0")
    assert (values, offset) == ([b"open-0", b"decided-0", b"open-1", b"idle-1"], 4)


def hand_over(tmp_path, kinds, hard):
    """Committed records and offset after both brokers; transactions are open, prepared and over when the first ends."""
    links = []
    first = make_node(kinds[0], tmp_path / "data", config=CONFIG)
    first.start()
    try:
        with first.connect() as link:
            link.create_topic(TOPIC, 1)
        wait_for_coordinators(first)
        idle, open_, decided = (TransactionalProducer(first, name, TOPIC, GROUP) for name in ("idle", "open", "done"))
        links += [one.link for one in (idle, open_, decided)]
        for producer in (idle, open_, decided):
            producer.init()
        idle.send(b"idle-0")
        idle.end(commit=False)
        open_.send(b"open-0")
        open_.commit_offset(4)
        decided.send(b"decided-0")
        decided.end(commit=True)
    finally:
        (first.kill if hard else first.stop)()

    second = make_node(kinds[1], tmp_path / "data", config=CONFIG)
    second.start()
    try:
        wait_for_coordinators(second)
        for producer in (idle, open_, decided):
            producer.link.close()
            producer.link = Twin(second, set())
            links.append(producer.link)
        open_.send(b"open-1")
        open_.end(commit=True)
        idle.send(b"idle-1")
        idle.end(commit=True)
        decided.send(b"decided-1")
        decided.end(commit=False)
        eventually(lambda: nothing_open(open_.link, TOPIC))
        return read_committed(open_.link, TOPIC), committed_offset(open_.link, GROUP, TOPIC)
    finally:
        for link in links:
            link.close()
        second.kill()

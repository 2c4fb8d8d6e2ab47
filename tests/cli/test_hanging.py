"""Transactions that nobody will end: made for the occasion, found, and ended with the command alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from harness.processes import wait_until
from harness.raw import ProtocolFailure, RawConnection
from ottla.client import Producer
from ottla.records.builder import build_batch

if TYPE_CHECKING:
    from cli.conftest import Ottla
    from harness.clusters import Cluster

HOUR_MS = 3_600_000
VERIFICATION = "transaction.partition.verification.enable"


class Careless:
    """Writes records of transactions whose coordinator is never told of the partition, as old clients' bugs did."""

    def __init__(self, connection: RawConnection) -> None:
        self.connection = connection

    def write(self, topic: str, transactional_id: str, producer: tuple[int, int], *, age_ms: int) -> None:
        """One record. The brokers may take a moment to stop asking the coordinator."""
        record = (time.time_ns() // 1_000_000 - age_ms, None, b"hanging")
        batch = build_batch(
            [record], producer_id=producer[0], producer_epoch=producer[1], base_sequence=0, transactional=True
        )

        def written() -> bool:
            try:
                self.connection.produce(topic, 0, batch, transactional_id=transactional_id)
            except ProtocolFailure:
                return False
            return True

        wait_until(written, seconds=20, what="the brokers to take a record without asking its coordinator")


@pytest.fixture
def careless(ottla: Ottla, cluster: Cluster) -> Iterator[Careless]:
    """Somebody whom no broker keeps from leaving transactions behind."""
    ottla("config", "set", "broker", "default", f"{VERIFICATION}=false")
    try:
        with RawConnection("127.0.0.1", cluster.port) as connection:
            yield Careless(connection)
    finally:
        ottla("config", "unset", "broker", "default", VERIFICATION)


def test_a_transaction_that_hangs_is_found_and_aborted(
    ottla: Ottla, careless: Careless, unique: Callable[[str], str]
) -> None:
    topic, name = ottla.topic(), unique("forgotten")
    producer = careless.connection.init_producer()
    careless.write(topic, name, producer, age_ms=HOUR_MS)
    ottla("produce", topic, stdin=b"behind it\n")
    committed = ("consume", topic, "-e", "--isolation", "read_committed")
    assert ottla(*committed).stdout == b""
    assert ottla("consume", topic, "-e").stdout == b"hanging\nbehind it\n"

    (row,) = ottla.json("txn", "find-hanging", "--topic", topic)
    assert (row["producer_id"], row["partition"], row["open_since_offset"]) == (producer[0], 0, 0)
    assert ottla.json("txn", "find-hanging", "--topic", topic, "--older-than", "2h") == []
    assert name not in [one["transactional_id"] for one in ottla.json("txn", "list")]
    (finding,) = [one for one in ottla.json("doctor", code=1)["checks"] if one["check"] == "transactions"]
    assert (finding["severity"], f"{topic}-0" in finding["finding"]) == ("error", True)
    assert "ottla txn abort" in finding["fix"]

    abort = ("txn", "abort", topic, "0", "--start-offset", "0")
    refused = ottla(*abort, code=2).stderr
    assert f"producer {producer[0]} epoch {producer[1]}, open since offset 0".encode() in refused
    assert b"pass --yes" in refused
    assert ottla(*committed).stdout == b""
    assert b"aborted" in ottla(*abort, "--yes").stderr
    assert ottla(*committed).stdout == b"behind it\n"
    assert ottla.json("txn", "find-hanging", "--topic", topic, "--older-than", "0s") == []
    assert b"no hanging transaction" in ottla(*abort, "--yes", code=1).stderr


def test_a_coordinator_that_knows_the_id_but_not_the_partition(
    ottla: Ottla, careless: Careless, unique: Callable[[str], str]
) -> None:
    topic, name = ottla.topic(), unique("known")

    async def begin() -> None:
        async with Producer(ottla.bootstrap, transactional_id=name) as producer, producer.transaction():
            await producer.send(topic, b"committed")

    asyncio.run(begin())
    known = ottla.json("txn", "describe", name)
    careless.write(topic, name, (known["producer_id"], known["producer_epoch"]), age_ms=0)
    (open_one,) = [one for one in ottla.json("txn", "producers", topic) if one["open_since_offset"] is not None]
    (found,) = ottla.json("txn", "find-hanging", "--topic", topic, "--older-than", "0s")
    assert found == open_one
    ottla("produce", topic, stdin=b"behind it\n")
    ottla("txn", "abort", topic, "0", "--start-offset", str(found["open_since_offset"]), "--yes")
    committed = ottla("consume", topic, "-e", "--isolation", "read_committed").stdout
    assert committed == b"committed\nbehind it\n"

    asyncio.run(begin())
    assert ottla("consume", topic, "-e", "--isolation", "read_committed").stdout == committed + b"committed\n"

"""A network that cuts, delays and halves: what was acknowledged is there once and in order, and everybody goes on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from harness.relay import Relay, redirect
from ottla.client import Consumer, KafkaError, Producer

Run = Callable[[Awaitable[Any]], Any]
FAULT_SECONDS = 6.0
# On a slow machine fewer frames pass in that time: the network stays bad until it has done this much, or so long.
FAULTS = 11
MOST_FAULT_SECONDS = 15.0


class Faults:
    """While ``on``, does to each connection what a bad network does."""

    def __init__(self, seed: int, kinds: tuple[str, ...]) -> None:
        self._rng = Random(seed)
        self._kinds = kinds
        self.on = True
        self.done: Counter[str] = Counter()
        self._began = time.monotonic()

    @property
    def are_enough(self) -> bool:
        """Whether the network has been bad for long enough, and often enough unless that takes too long."""
        lasted = time.monotonic() - self._began
        return lasted >= FAULT_SECONDS and (self.done.total() >= FAULTS or lasted >= MOST_FAULT_SECONDS)

    async def alter(self, data: bytes, writer: asyncio.StreamWriter, _is_answer: bool) -> bool:
        kind = self._rng.choice(self._kinds) if self.on and self._rng.random() < 0.08 else ""
        if kind:
            self.done[kind] += 1
        if kind == "cut":
            return False
        if kind == "half":
            # Half a frame, a pause, and then nothing more, or the rest.
            writer.write(data[: len(data) // 2])
            await asyncio.sleep(self._rng.uniform(0, 0.1))
            if self._rng.random() < 0.5:
                return False
            data = data[len(data) // 2 :]
        if kind == "delay":
            await asyncio.sleep(self._rng.uniform(0, 0.4))
        if kind == "silence":
            await asyncio.sleep(1.5)
        writer.write(data)
        return True


async def read_all(bootstrap: str, topic: str) -> dict[int, list[bytes]]:
    async with Consumer(
        bootstrap, topics=[topic], auto_offset_reset="earliest", isolation_level="read_committed"
    ) as consumer:
        ends = await consumer.end_offsets()
        found: dict[int, list[bytes]] = {place.partition: [] for place in ends}
        while any(consumer.position(place) < end for place, end in ends.items()):
            for batch in await consumer.poll(1.0):
                for record in batch:
                    assert record.value is not None
                    found[record.partition].append(record.value)
        return found


@pytest.mark.parametrize(
    ("seed", "kinds"),
    [(1, ("cut",)), (2, ("half",)), (3, ("delay",)), (4, ("silence", "cut")), (5, ("cut", "half", "delay", "silence"))],
)
def test_idempotence(
    bootstrap: str,
    make_topic: Callable[..., str],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    kinds: tuple[str, ...],
) -> None:
    topic = make_topic(partitions=2)

    async def main() -> None:
        faults = Faults(seed, kinds)
        async with Relay(bootstrap, faults.alter) as relay:
            redirect(monkeypatch, relay.port)
            sent: list[tuple[int, bytes, Any]] = []
            async with Producer(
                bootstrap, linger_ms=1, batch_size=400, request_timeout_ms=1_000, delivery_timeout_ms=40_000
            ) as producer:
                number = 0
                while not faults.are_enough:
                    partition = number % 2
                    value = b"%06d" % number
                    sent.append((partition, value, await producer.send_soon(topic, value, partition=partition)))
                    number += 1
                    if number % 10 == 0:
                        await asyncio.sleep(0.005)
                faults.on = False
                healed_at = time.monotonic()
                assert (await producer.send(topic, b"999999", partition=0)).offset >= 0
                await producer.flush()
                assert time.monotonic() - healed_at < 60
            assert faults.done.total() >= FAULTS, "the network was too kind to prove anything"
        monkeypatch.undo()
        await judge(bootstrap, topic, sent)

    run(main())


async def judge(bootstrap: str, topic: str, sent: list[tuple[int, bytes, Any]]) -> None:
    """Acknowledged: once, where it was said, in order. Failed: at most once."""
    found = await read_all(bootstrap, topic)
    for partition, values in found.items():
        counts = Counter(values)
        assert [value for value, count in counts.items() if count > 1] == [], "written twice"
        assert values == sorted(values), "out of order"
        for mine, value, receipt in sent:
            if mine == partition and receipt.exception() is None:
                assert counts[value] == 1, f"{value!r} was acknowledged and is lost"
                assert values[receipt.result().offset] == value
    failed = [receipt.exception() for _, _, receipt in sent if receipt.exception() is not None]
    assert all(isinstance(error, KafkaError) for error in failed)
    assert failed == [], "within the delivery timeout every record gets through"


def test_deadlines_in_the_middle_of_it(
    bootstrap: str, make_topic: Callable[..., str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a delivery timeout shorter than the faults records are given up, and still none is there twice."""
    topic = make_topic(partitions=1)

    async def main() -> None:
        faults = Faults(7, ("silence", "cut", "half"))
        async with Relay(bootstrap, faults.alter) as relay:
            redirect(monkeypatch, relay.port)
            receipts = []
            async with Producer(
                bootstrap, linger_ms=1, batch_size=400, request_timeout_ms=300, delivery_timeout_ms=700
            ) as producer:
                while not faults.are_enough:
                    receipts.append(await producer.send_soon(topic, b"%06d" % len(receipts), partition=0))
                    await asyncio.sleep(0.002)
                faults.on = False
                await producer.flush()
        monkeypatch.undo()
        values = (await read_all(bootstrap, topic))[0]
        assert [value for value, count in Counter(values).items() if count > 1] == []
        assert values == sorted(values)
        acknowledged = {b"%06d" % number for number, one in enumerate(receipts) if one.exception() is None}
        assert acknowledged <= set(values)
        assert len(acknowledged) > 100

    run(main())

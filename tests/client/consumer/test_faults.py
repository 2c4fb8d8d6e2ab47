"""A group behind a proxy that cuts, delays and tears frames: nothing is lost, and everybody gets on afterwards."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from harness.relay import Relay, redirect
from ottla.client import Consumer, KafkaError, Producer

Run = Callable[[Awaitable[Any]], Any]
COUNT = 600
FAULT_SECONDS = 6.0
PROGRESS_SECONDS = 60.0


class Faults:
    """While ``on``, holds up what passes, tears answers within a frame, or cuts the connection."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.on = True
        self.done: Counter[str] = Counter()

    async def alter(self, data: bytes, writer: asyncio.StreamWriter, is_answer: bool) -> bool:
        if self.on and self._rng.random() < 0.15:
            fault = self._rng.choice(("delay", "tear", "cut") if is_answer else ("delay", "cut"))
            self.done[fault] += 1
            if fault == "cut":
                return False
            if fault == "tear":
                writer.write(data[: len(data) // 2])
                await writer.drain()
                return False
            await asyncio.sleep(self._rng.uniform(0.05, 0.8))
        writer.write(data)
        return True


@pytest.mark.parametrize(("seed", "protocol"), [(1, "classic"), (2, "consumer")])
def test_nothing_is_lost_behind_a_faulty_network(
    bootstrap: str,
    make_topic: Callable[..., str],
    unique: Callable[[str], str],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    protocol: Any,
    seed: int,
) -> None:
    topic, group = make_topic(partitions=4), unique("faults")
    seen: Counter[bytes | None] = Counter()

    async def consume(number: int) -> None:
        while True:
            with suppress(KafkaError, ConnectionError):
                async with Consumer(
                    bootstrap,
                    group=group,
                    topics=[topic],
                    group_protocol=protocol,
                    auto_offset_reset="earliest",
                    auto_commit_interval_ms=100,
                    heartbeat_interval_ms=200,
                    session_timeout_ms=6000,
                    default_api_timeout_ms=5000,
                    request_timeout_ms=3000,
                    client_id=f"faulty-{number}",
                ) as consumer:
                    while True:
                        seen.update(record.value for record in await consumer.get_many(20, 0.5))

    async def produce() -> None:
        async with Producer(bootstrap) as producer:
            for number in range(COUNT):
                await producer.send(topic, b"%d" % number, partition=number % 4)
                await asyncio.sleep(FAULT_SECONDS / COUNT)

    async def main() -> None:
        faults = Faults(seed)
        async with Relay(bootstrap, faults.alter) as relay:
            redirect(monkeypatch, relay.port, client_prefix="faulty-")
            readers = [asyncio.create_task(consume(number)) for number in range(2)]
            await produce()
            faults.on = False
            assert faults.done.total() > 10, f"{faults.done}: the test proves nothing"
            try:
                async with asyncio.timeout(PROGRESS_SECONDS):
                    while len(seen) < COUNT:
                        await asyncio.sleep(0.05)
            finally:
                for reader in readers:
                    reader.cancel()
                results = await asyncio.gather(*readers, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results), results
        assert set(seen) == {b"%d" % number for number in range(COUNT)}

    run(main())

"""A network that cuts, delays and halves: what was acknowledged is there once and in order, and everybody goes on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from ottla.client import Consumer, KafkaError, Producer
from ottla.net.peer import Peer

Run = Callable[[Awaitable[Any]], Any]
FAULT_SECONDS = 6.0


class Faults:
    """Passes bytes on to a broker and, while ``on``, does to each connection what a bad network does."""

    def __init__(self, target: str, seed: int, kinds: tuple[str, ...]) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._rng = Random(seed)
        self._kinds = kinds
        self._serving: set[asyncio.Task[None]] = set()
        self.on = True
        self.done: Counter[str] = Counter()
        self.port = 0

    async def __aenter__(self) -> Faults:  # noqa: PYI034 - nobody derives from it
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
        pumps = [
            asyncio.ensure_future(self._pump(reader, upstream_writer)),
            asyncio.ensure_future(self._pump(upstream_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            # What was sent on is carried out although its answer is lost.
            await asyncio.sleep(0.02)
        finally:
            for pump in pumps:
                pump.cancel()
            for closing in (writer, upstream_writer):
                closing.transport.abort()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                kind = self._rng.choice(self._kinds) if self.on and self._rng.random() < 0.08 else ""
                if kind:
                    self.done[kind] += 1
                if kind == "cut":
                    return
                if kind == "half":
                    # Half a frame, a pause, and then nothing more, or the rest.
                    writer.write(data[: len(data) // 2])
                    await asyncio.sleep(self._rng.uniform(0, 0.1))
                    if self._rng.random() < 0.5:
                        return
                    data = data[len(data) // 2 :]
                if kind == "delay":
                    await asyncio.sleep(self._rng.uniform(0, 0.4))
                if kind == "silence":
                    await asyncio.sleep(1.5)
                writer.write(data)
                await writer.drain()


def redirect(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Make clients connect through the proxy, whatever the cluster advertises."""
    connect = Peer.connect.__func__  # type: ignore[attr-defined]  # the plain function behind the class method

    async def redirected(cls: type[Peer], _host: str, _port: int, **options: Any) -> Peer:
        peer: Peer = await connect(cls, "127.0.0.1", port, **options)
        return peer

    monkeypatch.setattr(Peer, "connect", classmethod(redirected))


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
        async with Faults(bootstrap, seed, kinds) as faults:
            redirect(monkeypatch, faults.port)
            sent: list[tuple[int, bytes, Any]] = []
            async with Producer(
                bootstrap, linger_ms=1, batch_size=400, request_timeout_ms=1_000, delivery_timeout_ms=40_000
            ) as producer:
                ends_at = time.monotonic() + FAULT_SECONDS
                number = 0
                while time.monotonic() < ends_at:
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
            assert sum(faults.done.values()) > 10, "the network was too kind to prove anything"
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
        async with Faults(bootstrap, 7, ("silence", "cut", "half")) as faults:
            redirect(monkeypatch, faults.port)
            receipts = []
            async with Producer(
                bootstrap, linger_ms=1, batch_size=400, request_timeout_ms=300, delivery_timeout_ms=700
            ) as producer:
                ends_at = time.monotonic() + FAULT_SECONDS
                while time.monotonic() < ends_at:
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

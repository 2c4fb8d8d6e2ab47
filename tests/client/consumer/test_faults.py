"""A group behind a proxy that cuts, delays and tears frames: nothing is lost, and everybody gets on afterwards."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from ottla.client import Consumer, KafkaError, Producer
from ottla.net.peer import Peer

Run = Callable[[Awaitable[Any]], Any]
COUNT = 600
FAULT_SECONDS = 6.0
PROGRESS_SECONDS = 60.0


class FaultyProxy:
    """Passes bytes on; while ``faulty``, holds answers up, tears them within a frame, or cuts the connection."""

    def __init__(self, target: str, seed: int) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._rng = random.Random(seed)
        self._connections: set[asyncio.Task[None]] = set()
        self.faulty = True
        self.faults: Counter[str] = Counter()
        self.port = 0

    async def __aenter__(self) -> FaultyProxy:  # noqa: PYI034 - nobody derives from it
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends every connection before the loop is closed: uvloop waits for what is still open, for ever."""
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        closing, pumps = [writer], []
        try:
            back_reader, forth_writer = await asyncio.open_connection(*self._target)
            closing.append(forth_writer)
            pumps.append(asyncio.ensure_future(self._pump(reader, forth_writer, answers=False)))
            pumps.append(asyncio.ensure_future(self._pump(back_reader, writer, answers=True)))
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for one in closing:
                one.transport.abort()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self.faulty and self._rng.random() < 0.15:
                    fault = self._rng.choice(("delay", "tear", "cut") if answers else ("delay", "cut"))
                    self.faults[fault] += 1
                    if fault == "cut":
                        return
                    if fault == "tear":
                        writer.write(data[: len(data) // 2])
                        await writer.drain()
                        return
                    await asyncio.sleep(self._rng.uniform(0.05, 0.8))
                writer.write(data)
                await writer.drain()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_behind_a_faulty_network(
    cluster: Any,
    bootstrap: str,
    make_topic: Callable[..., str],
    unique: Callable[[str], str],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    protocol: Any,
    seed: int,
) -> None:
    with cluster.connect() as connection:
        if protocol == "consumer" and 68 not in connection.api_versions():
            pytest.skip("the cluster does not serve the next generation protocol")
    topic, group = make_topic(partitions=4), unique("faults")
    connect = Peer.connect.__func__  # type: ignore[attr-defined]  # the plain function behind the class method
    ports: list[int] = []

    async def redirected(cls: type[Peer], host: str, port: int, **options: Any) -> Peer:
        # Whoever calls himself so goes through the proxy, whatever address the cluster advertises.
        through = ports and str(options.get("client_id")).startswith("faulty")
        found: Peer = await connect(cls, host, ports[0] if through else port, **options)
        return found

    monkeypatch.setattr(Peer, "connect", classmethod(redirected))
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
        async with FaultyProxy(bootstrap, seed) as proxy:
            ports.append(proxy.port)
            readers = [asyncio.create_task(consume(number)) for number in range(2)]
            await produce()
            proxy.faulty = False
            assert proxy.faults.total() > 10, f"{proxy.faults}: the test proves nothing"
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

"""Connections to a broker through a function that does to the bytes what a test wants, on the test's own event loop.

For whole frames, and for clients in other processes, there is ``proxy``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

import pytest

from ottla.net.peer import Peer

PIECE_BYTES = 65_536
CARRY_OUT_SECONDS = 0.02

Alter = Callable[[bytes, asyncio.StreamWriter, bool], Awaitable[bool]]
"""Writes what is to arrive of some bytes; the last argument tells answers from requests. False cuts the connection."""


class Relay:
    """``async with Relay(bootstrap, alter) as relay`` listens on ``relay.port``."""

    def __init__(self, target: str, alter: Alter) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._alter = alter
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends every connection before the loop is closed: uvloop waits for what is still open, for ever."""
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        ends, pumps = [writer], []
        try:
            back_reader, forth_writer = await asyncio.open_connection(*self._target)
            ends.append(forth_writer)
            pumps.append(asyncio.ensure_future(self._pump(reader, forth_writer, False)))
            pumps.append(asyncio.ensure_future(self._pump(back_reader, writer, True)))
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            # What was sent on is carried out although its answer is lost.
            await asyncio.sleep(CARRY_OUT_SECONDS)
        finally:
            for pump in pumps:
                pump.cancel()
            for end in ends:
                end.transport.abort()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(PIECE_BYTES):
                if not await self._alter(data, writer, is_answer):
                    return
                await writer.drain()


def redirect(monkeypatch: pytest.MonkeyPatch, port: int, *, client_prefix: str = "") -> None:
    """Make clients whose id begins so connect to a port of 127.0.0.1, whatever address the cluster advertises."""
    connect = Peer.connect.__func__  # type: ignore[attr-defined]  # the plain function behind the class method

    async def redirected(cls: type[Peer], host: str, advertised: int, **options: Any) -> Peer:
        if str(options.get("client_id", "")).startswith(client_prefix):
            host, advertised = "127.0.0.1", port
        peer: Peer = await connect(cls, host, advertised, **options)
        return peer

    monkeypatch.setattr(Peer, "connect", classmethod(redirected))

"""The broker's end of a cleaner process: started when there is something to clean, ended when there is not.

The process is one that only the broker talks to (``storage.cleaner_process``). It ends with the broker, however that
ends: its standard input is then at its end.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

import msgspec

from ottla.runtime.telemetry import get_logger
from ottla.storage.cleaning_orders import GO, STOP, Cleaned, CleaningOrder, Failed, Finished, Reply

log = get_logger(__name__)

REPLY_BYTES_MAX: Final = 16 * 1024 * 1024
"""A reply names the segments that one replaces."""


class CleanerDied(Exception):
    """The process ended in the middle of a cleaning."""


class CleanerWorker:
    """One cleaner process, or none yet. It cleans one log at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._replies = asyncio.StreamReader()
        self._transports: list[asyncio.BaseTransport] = []
        self._orders: asyncio.WriteTransport | None = None
        self._decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)

    async def clean(self, order: CleaningOrder) -> AsyncGenerator[Cleaned | Finished | Failed, None]:
        """What the process says of the order. After a ``Cleaned`` it goes on when the next reply is asked for.

        Raises ``CleanerDied`` and ``OSError`` (no process can be started).
        """
        if self._process is None:
            await self._start()
        self._tell(msgspec.json.encode(order))
        while True:
            reply = await self._next_reply()
            yield reply
            if not isinstance(reply, Cleaned):
                return
            self._tell(GO)

    def stop_cleaning(self) -> None:
        """Have the present cleaning end soon, with ``Failed``; nothing where there is none."""
        self._tell(STOP)

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        # A start by fork and exec takes a millisecond or two; a thread for it would outlive a cancelled caller.
        process = self._process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "ottla.storage.cleaner_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # Not in the terminal's group: an interrupt is for the broker to hear.
            start_new_session=True,
        )
        replies = self._replies = asyncio.StreamReader(limit=REPLY_BYTES_MAX)
        try:
            reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(replies), process.stdout)
            self._transports.append(reading)
            self._orders, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
            self._transports.append(self._orders)
        except BaseException:
            self.close()
            raise
        log.debug("cleaner process started", pid=process.pid)

    async def _next_reply(self) -> Reply:
        try:
            line = await self._replies.readuntil(b"\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            process = self._process
            self.close()
            code = None if process is None else process.returncode
            raise CleanerDied(f"the cleaner process ended with {code}") from None
        return self._decoder.decode(line)

    def _tell(self, line: bytes) -> None:
        if self._orders is not None and not self._orders.is_closing():
            self._orders.write(line + b"\n")

    def close(self) -> None:
        """End the process, whatever it is doing. Idempotent."""
        process, self._process, self._orders = self._process, None, None
        if process is None:
            return
        process.kill()
        process.wait()
        for transport in self._transports:
            transport.close()
        self._transports.clear()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

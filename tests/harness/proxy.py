"""A TCP proxy between clients and one broker, in user space, that knows where requests begin and end.

It delays, throttles, stops, resets, halves frames, swallows and swaps answers, holds requests back to deliver them
late: what a network does, and worse, without the rights and kernel modules that doing it to a real one takes. One
listener to one target; put one before each broker, or before each pair of brokers. All methods may be called from any
thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Literal, Self, TypeVar
from weakref import WeakSet

from msgspec import Struct

T = TypeVar("T")
Direction = Literal["requests", "answers"]

PIECE_BYTES = 2048
FRAME_BYTES_MAX = 128 << 20
CALL_SECONDS = 20.0
SWAP_SECONDS = 0.5
"""How long an answer waits for the one behind it."""


class Weather(Struct, frozen=True, kw_only=True):
    """What befalls everything that passes an affected link."""

    delay_seconds: float = 0.0
    bytes_per_second: float = 0.0
    """0: as fast as it goes."""
    blackhole: bool = False
    """Nothing is read any more, no socket is closed; what was sent arrives when the weather clears."""
    swallow_answers: bool = False
    """Requests arrive and are served, and nobody hears of it: a half-open connection."""


CLEAR = Weather()


class Held(Struct, eq=False, kw_only=True):
    """A request that was taken off its connection, with the way to deliver it."""

    api_key: int
    version: int
    frame: bytes
    upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    answer: bytes | None = None


class _Link:
    """One client's connection and the one to the broker behind it."""

    def __init__(self, client: _Pair, broker: _Pair) -> None:
        self.client = client
        self.broker = broker
        self.weather = CLEAR
        self.changed = asyncio.Event()
        self.cut: Direction | None = None
        self.swap = False
        self.swallowed = False

    def set(self, weather: Weather) -> None:
        self.weather = weather
        self.changed.set()
        self.changed = asyncio.Event()

    def reset(self) -> None:
        for _, writer in (self.client, self.broker):
            _reset(writer)


_Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """`with Proxy(port) as proxy: connect to proxy.port`."""

    def __init__(self, target_port: int, *, seed: int = 0, port: int = 0) -> None:
        self.target_port = target_port
        self.port = port
        self.held: list[Held] = []
        self.swapped = 0
        """Answers that came before the one they belong behind."""
        self._dice = random.Random(seed)
        self._weather, self._share = CLEAR, 1.0
        self._wanted: set[int] = set()
        self._hold_cuts = True
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: WeakSet[asyncio.WriteTransport] = WeakSet()
        """Those that are not closed; the event loop holds them."""
        self._closing = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Listen."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._thread.start()
        self._call(self._listen(listener))

    def close(self) -> None:
        """Reset every link and stop."""
        if self._thread.is_alive():
            self._call(self._shut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CALL_SECONDS)

    # -- faults -----------------------------------------------------------------------------------------------

    def set_weather(self, weather: Weather, *, share: float = 1.0) -> None:
        """The weather of that share of the links, those to come included; of the others it is clear."""
        self._call(self._set_weather(weather, share))

    def clear(self) -> None:
        """Fine weather: what was blackholed or held arrives now, a link that missed an answer is reset."""
        self._call(self._clear())

    def reset(self, *, share: float = 1.0) -> int:
        """RST on both sides of that share of the links; how many there were."""
        return self._call(self._reset(share))

    def cut(self, direction: Direction, *, share: float = 1.0) -> int:
        """Let only the first half of the next request or answer through, then reset."""
        return self._call(self._cut(direction, share))

    def swap(self, *, share: float = 1.0) -> int:
        """Let the next answer wait for the one behind it, if that comes soon, and deliver it afterwards."""
        return self._call(self._swap(share))

    def hold(self, *api_keys: int, cut: bool = True) -> None:
        """Take the next request of each of these APIs off its connection; with `cut` its client is disconnected, so
        that it tries again elsewhere while the first attempt is still on its way."""
        self._call(self._hold(api_keys, cut))

    def release(self, held: Held) -> bytes | None:
        """Deliver a held request now; the broker's answer, which its client never hears of."""
        return self._call(self._release(held))

    @property
    def link_count(self) -> int:
        """How many clients are connected."""
        return len(self._links)

    # -- on the loop --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _call(self, doing: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(doing, self._loop)
        return future.result(CALL_SECONDS)

    async def _listen(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_server(self._accept, sock=listener)

    async def _shut(self) -> None:
        self._closing = True
        for link in list(self._links):
            link.reset()
        for held in self.held:
            _reset(held.upstream[1])
        # Before their tasks: one that is cancelled while it begins or ends closes nothing.
        for transport in list(self._transports):
            transport.abort()
        for task in self._tasks:
            task.cancel()
        # The listener goes last: what it has accepted without anybody having heard of it would stay open.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        self._server.close()
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._transports.add(writer.transport)
        if self._closing:
            _reset(writer)
            return
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            broker = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            _reset(writer)
            return
        self._transports.add(broker[1].transport)
        link = _Link((reader, writer), broker)
        link.set(self._drawn())
        self._links.add(link)
        pumps = [asyncio.create_task(self._requests(link)), asyncio.create_task(self._answers(link))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # only the proxy itself cancels, at its end
        finally:
            self._links.discard(link)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            upstreams = {id(held.upstream[1]) for held in self.held}
            for _, end in (link.client, link.broker):
                if id(end) not in upstreams:
                    end.close()

    def _drawn(self) -> Weather:
        return self._weather if self._dice.random() < self._share else CLEAR

    async def _requests(self, link: _Link) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await self._next_frame(link, link.client[0])
                api_key, version = struct.unpack_from(">hh", frame, 4)
                if api_key in self._wanted:
                    self._wanted.discard(api_key)
                    held = Held(api_key=api_key, version=version, frame=frame, upstream=link.broker)
                    self.held.append(held)
                    if self._hold_cuts:
                        _reset(link.client[1])
                        return
                    while held in self.held:
                        await asyncio.sleep(0.005)
                await self._forward(link, "requests", frame, link.broker[1])

    async def _answers(self, link: _Link) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await self._next_frame(link, link.broker[0])
                if link.weather.swallow_answers:
                    link.swallowed = True
                elif link.swap:
                    link.swap = False
                    await self._forward_swapped(link, frame)
                else:
                    await self._forward(link, "answers", frame, link.client[1])

    async def _forward_swapped(self, link: _Link, frame: bytes) -> None:
        following = asyncio.ensure_future(self._next_frame(link, link.broker[0]))
        try:
            if (await asyncio.wait((following,), timeout=SWAP_SECONDS))[0]:
                await self._forward(link, "answers", await following, link.client[1])
                self.swapped += 1
                await self._forward(link, "answers", frame, link.client[1])
            else:
                await self._forward(link, "answers", frame, link.client[1])
                await self._forward(link, "answers", await following, link.client[1])
        finally:
            following.cancel()

    async def _next_frame(self, link: _Link, reader: asyncio.StreamReader) -> bytes:
        while link.weather.blackhole:
            await link.changed.wait()
        size = await reader.readexactly(4)
        length = struct.unpack(">i", size)[0]
        if not 0 <= length <= FRAME_BYTES_MAX:
            raise OSError(f"a frame of {length} bytes")
        frame = size + await reader.readexactly(length)
        while link.weather.blackhole:  # what came in meanwhile has to wait as well
            await link.changed.wait()
        return frame

    async def _forward(self, link: _Link, direction: Direction, frame: bytes, writer: asyncio.StreamWriter) -> None:
        weather = link.weather
        if weather.delay_seconds:
            await asyncio.sleep(weather.delay_seconds)
        if link.cut == direction:
            writer.write(frame[: max(1, len(frame) // 2)])
            await writer.drain()
            await asyncio.sleep(0.02)  # a reset overtakes what has not been sent
            link.reset()
            raise ConnectionResetError
        if not weather.bytes_per_second:
            writer.write(frame)
            await writer.drain()
            return
        for begin in range(0, len(frame), PIECE_BYTES):
            piece = frame[begin : begin + PIECE_BYTES]
            writer.write(piece)
            await writer.drain()
            if link.weather.bytes_per_second:
                await asyncio.sleep(len(piece) / link.weather.bytes_per_second)

    async def _set_weather(self, weather: Weather, share: float) -> None:
        self._weather, self._share = weather, share
        for link in self._links:
            link.set(self._drawn())

    async def _clear(self) -> None:
        self._wanted.clear()
        await self._set_weather(CLEAR, 1.0)
        for link in list(self._links):
            link.cut, link.swap = None, False
            if link.swallowed:
                link.reset()
        for held in list(self.held):
            with contextlib.suppress(OSError, TimeoutError):
                await self._release(held)

    def _some(self, share: float) -> list[_Link]:
        return [link for link in self._links if self._dice.random() < share]

    async def _reset(self, share: float) -> int:
        chosen = self._some(share)
        for link in chosen:
            link.reset()
        return len(chosen)

    async def _cut(self, direction: Direction, share: float) -> int:
        chosen = self._some(share)
        for link in chosen:
            link.cut = direction
        return len(chosen)

    async def _swap(self, share: float) -> int:
        chosen = self._some(share)
        for link in chosen:
            link.swap = True
        return len(chosen)

    async def _hold(self, api_keys: tuple[int, ...], cut: bool) -> None:
        self._wanted, self._hold_cuts = set(api_keys), cut

    async def _release(self, held: Held) -> bytes | None:
        if not self._hold_cuts and held in self.held:
            self.held.remove(held)
            return None
        reader, writer = held.upstream
        try:
            writer.write(held.frame)
            await writer.drain()
            async with asyncio.timeout(CALL_SECONDS / 2):
                size = struct.unpack(">i", await reader.readexactly(4))[0]
                held.answer = await reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError):
            held.answer = None
        finally:
            if held in self.held:
                self.held.remove(held)
            writer.close()
        return held.answer


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side gets an RST."""
    end = writer.get_extra_info("socket")
    if end is not None:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

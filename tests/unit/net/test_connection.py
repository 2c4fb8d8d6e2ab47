"""A connection over real sockets: framing, order, back-pressure, limits, file regions."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

import pytest

from harness.regions import CountedRegion
from ottla.net.accept_rate import AcceptRate
from ottla.net.connection import Answer, CloseConnection, Connection, ConnectionLimits
from ottla.net.listener import LAST_WORDS_SECONDS, Listener, ListenerLimits
from ottla.runtime.loop import new_event_loop
from ottla.runtime.supervisor import Supervisor

FRAME_MAX = 3 * 1024 * 1024


def run(main: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())  # type: ignore[arg-type]


def limits(**changes: object) -> ListenerLimits:
    connection: dict[str, object] = {
        "frame_bytes_max": FRAME_MAX,
        "queued_bytes_max": 1 << 20,
        "pending_requests_max": 100,
        "frame_seconds_max": 30.0,
        "idle_seconds_max": 600.0,
    }
    connection.update(changes)
    return ListenerLimits(
        connection=ConnectionLimits(**connection),  # type: ignore[arg-type]
        connections_max=5,
        connections_per_address_max=5,
        receive_buffer_bytes=-1,
        send_buffer_bytes=-1,
    )


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4) + body


class Server:
    """A listener with a scripted ``serve``, and a way to connect to it."""

    def __init__(
        self, serve: Callable[[Connection, memoryview], Answer], *rates: AcceptRate, **changes: object
    ) -> None:
        self.supervisor = Supervisor()
        self.listener = Listener(serve=serve, spawn=self.supervisor.spawn, limits=limits(**changes), rates=rates)
        self.listener.bind("127.0.0.1", 0)
        self.listener.start()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.listener.port)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.listener.stop(0.5)
        await self.supervisor.stop()


def echo(_: Connection, request: memoryview) -> Answer:
    return [frame(bytes(request))]


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(4))
    return await reader.readexactly(size)


@pytest.mark.parametrize("size", [0, 1, 100, 65_531, 65_536, 70_000, 1_000_000, FRAME_MAX])
def test_echoes_frames_of_any_size_also_in_small_pieces(size: int) -> None:
    async def main() -> None:
        async with Server(echo) as server:
            reader, writer = await server.connect()
            body = os.urandom(size)
            for piece in (frame(body), frame(b"after")):
                writer.write(piece[:3])
                await writer.drain()
                writer.write(piece[3:])
            assert await read_frame(reader) == body
            assert await read_frame(reader) == b"after"
            writer.close()

    run(main)


def test_many_pipelined_frames_come_back_in_order() -> None:
    async def main() -> None:
        async with Server(echo) as server:
            reader, writer = await server.connect()
            bodies = [str(n).encode() * (n % 977) for n in range(2000)]
            writer.write(b"".join(map(frame, bodies)))
            for body in bodies:
                assert await read_frame(reader) == body
            writer.close()

    run(main)


def test_answers_keep_the_order_of_requests_whatever_finishes_first() -> None:
    async def main() -> None:
        gates: dict[bytes, asyncio.Event] = {name: asyncio.Event() for name in (b"a", b"b", b"c")}

        async def wait(name: bytes) -> list[bytes]:
            await gates[name].wait()
            return [frame(name)]

        def serve(_: Connection, request: memoryview) -> Answer:
            name = bytes(request)
            return [frame(name)] if name == b"now" else wait(name)  # type: ignore[return-value]

        async with Server(serve) as server:
            reader, writer = await server.connect()
            writer.write(b"".join(frame(name) for name in (b"a", b"b", b"now", b"c")))
            await writer.drain()
            for name in (b"c", b"b"):
                gates[name].set()
            await asyncio.sleep(0.02)
            assert not reader._buffer  # type: ignore[attr-defined]
            gates[b"a"].set()
            assert [await read_frame(reader) for _ in range(4)] == [b"a", b"b", b"now", b"c"]
            writer.close()

    run(main)


@pytest.mark.parametrize("announced", [FRAME_MAX + 1, 2**31 - 1, -1, -(2**31)])
def test_a_frame_beyond_the_limit_ends_the_connection_before_allocation(announced: int) -> None:
    async def main() -> None:
        async with Server(echo) as server:
            reader, writer = await server.connect()
            writer.write(announced.to_bytes(4, signed=True))
            assert await reader.read() == b""
            writer.close()

    run(main)


def test_an_announced_frame_takes_memory_only_as_it_arrives() -> None:
    async def main() -> None:
        async with Server(echo) as server:
            _, writer = await server.connect()
            writer.write(FRAME_MAX.to_bytes(4) + bytes(10))
            await asyncio.sleep(0.05)
            (connection,) = server.listener._connections
            assert len(connection._buffer) == 16 * 1024
            writer.close()

    run(main)


def test_reading_stops_while_answers_are_not_read_and_goes_on_after() -> None:
    async def main() -> None:
        served = 0
        big = frame(bytes(512 * 1024))

        def serve(_: Connection, __: memoryview) -> Answer:
            nonlocal served
            served += 1
            return [big]

        async with Server(serve) as server:
            reader, writer = await server.connect()
            writer.write(frame(b"x") * 200)
            await asyncio.sleep(0.1)
            stalled_at = served
            assert stalled_at < 50
            for _ in range(200):
                await read_frame(reader)
            assert served == 200
            writer.close()

    run(main)


def test_a_full_buffer_of_waiting_frames_is_not_taken_for_the_end() -> None:
    async def main() -> None:
        big = frame(bytes(300 * 1024))

        async with Server(lambda _, __: [big], queued_bytes_max=1 << 16) as server:
            reader, writer = await server.connect()
            count = 16 * 1024
            writer.write(frame(b"") * count)
            for _ in range(200):
                assert await read_frame(reader) == big[4:]
            writer.close()

    run(main)


def test_a_grown_buffer_is_given_back_when_the_peer_is_quiet() -> None:
    async def main() -> None:
        async with Server(echo) as server:
            reader, writer = await server.connect()
            writer.write(frame(bytes(1 << 20)))
            await read_frame(reader)
            (connection,) = server.listener._connections
            assert len(connection._buffer) >= 1 << 20
            server.listener.close_overdue(asyncio.get_running_loop().time() + 60)
            assert len(connection._buffer) == 16 * 1024
            writer.write(frame(b"still here"))
            assert await read_frame(reader) == b"still here"
            writer.close()

    run(main)


def test_unanswered_requests_are_bounded() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        served = 0

        async def wait() -> list[bytes]:
            await gate.wait()
            return [frame(b"ok")]

        def serve(_: Connection, __: memoryview) -> Answer:
            nonlocal served
            served += 1
            return wait()  # type: ignore[return-value]

        async with Server(serve, pending_requests_max=7) as server:
            reader, writer = await server.connect()
            writer.write(frame(b"x") * 50)
            await asyncio.sleep(0.05)
            assert served == 7
            gate.set()
            for _ in range(50):
                assert await read_frame(reader) == b"ok"
            writer.close()

    run(main)


def test_serve_may_drop_the_peer_after_answering_what_came_before() -> None:
    async def main() -> None:
        def serve(_: Connection, request: memoryview) -> Answer:
            if bytes(request) == b"bad":
                raise CloseConnection("bad")
            return [frame(b"fine")]

        async with Server(serve) as server:
            reader, writer = await server.connect()
            writer.write(frame(b"good") + frame(b"bad") + frame(b"good"))
            assert await reader.read() == frame(b"fine")
            writer.close()

    run(main)


@pytest.mark.parametrize("later", [False, True])
def test_a_bug_in_serving_ends_its_connection_and_nothing_else(later: bool) -> None:
    async def late() -> None:
        await asyncio.sleep(0)
        raise RuntimeError("a bug")

    def serve(_: Connection, request: memoryview) -> Answer:
        if request == b"bug":
            if later:
                return late()
            raise RuntimeError("a bug")
        return [frame(bytes(request))]

    async def main() -> None:
        async with Server(serve) as server:
            reader, writer = await server.connect()
            writer.write(frame(b"fine") + frame(b"bug") + frame(b"never"))
            assert await read_frame(reader) == b"fine"
            assert b"never" not in await asyncio.wait_for(reader.read(), 5)
            writer.close()
            reader, writer = await server.connect()
            writer.write(frame(b"still there"))
            assert await read_frame(reader) == b"still there"
            writer.close()
            assert not server.supervisor.failure.done()

    run(main)


def test_answers_behind_a_waiting_one_count_against_the_limit() -> None:
    """One long poll in front, and every cheap question behind it would pile up an answer."""
    gate: asyncio.Future[None]
    served = 0

    async def waiting() -> list[bytes]:
        await gate
        return [frame(b"first")]

    def serve(_: Connection, request: memoryview) -> Answer:
        nonlocal served
        served += 1
        return waiting() if request == b"wait" else [frame(bytes(200_000))]

    async def main() -> None:
        nonlocal gate
        gate = asyncio.get_running_loop().create_future()
        async with Server(serve) as server:
            reader, writer = await server.connect()
            writer.write(frame(b"wait") + frame(b"?") * 50)
            await asyncio.sleep(0.1)
            assert served <= 8
            gate.set_result(None)
            assert await read_frame(reader) == b"first"
            for _ in range(50):
                assert len(await read_frame(reader)) == 200_000
            assert served == 51
            writer.close()

    run(main)


def test_file_regions_are_sent_from_the_file_and_released_once(tmp_path: Path) -> None:
    path = tmp_path / "data"
    content = os.urandom(5_000_000)
    path.write_bytes(content)

    async def main() -> None:
        regions = [CountedRegion(path, 1000, 4_000_000), CountedRegion(path, 0, 0), CountedRegion(path, 7, 11)]

        def serve(_: Connection, __: memoryview) -> Answer:
            return [b"head", *regions, b"tail"]

        async with Server(serve) as server:
            reader, writer = await server.connect()
            writer.write(frame(b"x"))
            expected = b"head" + content[1000:4_001_000] + content[7:18] + b"tail"
            assert await reader.readexactly(len(expected)) == expected
            writer.close()
        assert [region.released for region in regions] == [1, 1, 1]

    run(main)


def test_regions_of_a_dead_peer_are_released(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(8_000_000))

    async def main() -> None:
        regions: list[CountedRegion] = []

        def serve(_: Connection, __: memoryview) -> Answer:
            regions.append(CountedRegion(path, 0, 8_000_000))
            return [regions[-1]]

        async with Server(serve) as server:
            sock = socket.create_connection(("127.0.0.1", server.listener.port))
            sock.sendall(frame(b"x") * 2)
            await asyncio.sleep(0.05)
            sock.close()
            await asyncio.sleep(0.1)
        assert regions
        assert {region.released for region in regions} == {1}

    run(main)


def test_connections_over_the_limit_are_refused_and_places_come_free() -> None:
    async def main() -> None:
        async with Server(echo) as server:
            held = [await server.connect() for _ in range(5)]
            await asyncio.sleep(0.02)
            reader, writer = await server.connect()
            assert await reader.read() == b""
            writer.close()
            held.pop()[1].close()
            await asyncio.sleep(0.02)
            reader, writer = await server.connect()
            writer.write(frame(b"hello"))
            assert await read_frame(reader) == b"hello"
            for _, open_writer in held:
                open_writer.close()
            writer.close()

    run(main)


def test_connections_that_come_too_fast_wait_and_are_served() -> None:
    slow, fast = AcceptRate(), AcceptRate()
    slow.limit(10, 0.1)
    fast.limit(1000, 1.0)

    async def main() -> None:
        async with Server(echo, fast, slow) as server:
            loop = asyncio.get_running_loop()
            begin = loop.time()
            pairs = [await server.connect() for _ in range(4)]
            times = []
            for reader, writer in pairs:
                writer.write(frame(b"hello"))
                assert await read_frame(reader) == b"hello"
                times.append(loop.time() - begin)
            # Two at once, then one each tenth of a second.
            assert times[1] < 0.1
            assert times[3] > 0.19
            for _, writer in pairs:
                writer.close()

    run(main)


def test_a_listener_that_has_connections_wait_can_be_stopped() -> None:
    rate = AcceptRate()
    rate.limit(1, 0.2)

    async def main() -> None:
        async with Server(echo, rate) as server:
            held = [await server.connect() for _ in range(3)]
            await asyncio.sleep(0.02)
            assert server.listener.connection_count == 1
        await asyncio.sleep(1.0)
        assert server.listener.connection_count == 0
        for _, writer in held:
            writer.close()

    run(main)


def test_idle_and_half_frame_connections_are_overdue() -> None:
    async def main() -> None:
        async with Server(echo, idle_seconds_max=600.0, frame_seconds_max=30.0) as server:
            idle_reader, idle_writer = await server.connect()
            half_reader, half_writer = await server.connect()
            half_writer.write(b"\x00\x00")
            await asyncio.sleep(0.05)
            now = asyncio.get_running_loop().time()
            server.listener.close_overdue(now + 20)
            assert server.listener.connection_count == 2
            server.listener.close_overdue(now + 40)
            assert await half_reader.read() == b""
            assert server.listener.connection_count == 1
            server.listener.close_overdue(now + 700)
            assert await idle_reader.read() == b""
            idle_writer.close()
            half_writer.close()

    run(main)


def test_stop_finishes_what_is_in_flight() -> None:
    async def main() -> None:
        async def slow() -> list[bytes]:
            await asyncio.sleep(0.05)
            return [frame(b"done")]

        async with Server(lambda _, __: slow()) as server:  # type: ignore[arg-type,return-value]
            reader, writer = await server.connect()
            writer.write(frame(b"x"))
            await asyncio.sleep(0.01)
            await server.listener.stop(1.0)
            assert await reader.read() == frame(b"done")
            with pytest.raises(ConnectionRefusedError):
                await server.connect()
            writer.close()

    run(main)


def test_stop_lets_a_peer_read_its_answers_that_sends_another_request_meanwhile() -> None:
    """A socket that is closed with something unread is reset, and a peer that writes hears of that first."""

    async def main() -> None:
        async with Server(echo) as server:
            with socket.create_connection(("127.0.0.1", server.listener.port)) as peer:
                peer.sendall(frame(b"one") + frame(b"two"))
                await asyncio.sleep(0.05)
                stopping = asyncio.ensure_future(server.listener.stop(1.0))
                await asyncio.sleep(0.05)
                peer.sendall(frame(b"three"))
                await asyncio.sleep(0.05)
                peer.sendall(frame(b"four"))
                peer.settimeout(1.0)
                received = b""
                while piece := peer.recv(100):
                    received += piece
                assert received == frame(b"one") + frame(b"two")
            await stopping
            assert server.listener.connection_count == 0

    run(main)


def test_stop_ends_when_the_last_peer_has_hung_up_and_drops_what_it_still_sends() -> None:
    async def main() -> None:
        async with Server(echo) as server:
            reader, writer = await server.connect()
            writer.write(frame(b"one"))
            assert await read_frame(reader) == b"one"
            begun = time.monotonic()
            stopping = asyncio.ensure_future(server.listener.stop(30.0))
            assert await reader.read() == b""
            for _ in range(100):
                writer.write(frame(bytes(100_000)))
                await writer.drain()
            writer.close()
            await stopping
            assert time.monotonic() - begun < LAST_WORDS_SECONDS

    run(main)


def test_stop_does_not_wait_for_a_peer_that_is_quiet_or_never_hangs_up() -> None:
    async def main() -> None:
        async with Server(echo) as server:
            with (
                socket.create_connection(("127.0.0.1", server.listener.port)) as quiet,
                socket.create_connection(("127.0.0.1", server.listener.port)) as deaf,
            ):
                for peer in (quiet, deaf):
                    peer.sendall(frame(b"one"))
                await asyncio.sleep(LAST_WORDS_SECONDS)
                deaf.sendall(frame(b"two"))
                await asyncio.sleep(0.02)
                begun = time.monotonic()
                await server.listener.stop(30.0)
                assert time.monotonic() - begun < 5.0
                assert server.listener.connection_count == 0

    run(main)

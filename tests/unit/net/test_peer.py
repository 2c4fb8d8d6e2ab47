"""The client side of a connection against a server that misbehaves on purpose."""

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Self

import pytest

from ottla.net.peer import SCRATCH_BYTES, Peer, PeerLimits, PeerLost, PeerTimeout
from ottla.runtime import loop
from ottla.wire import encode
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.frame import read_request_header, response_header
from ottla.wire.messages.api_versions_response import ApiVersion, ApiVersionsResponse
from ottla.wire.messages.metadata_request import MetadataRequest
from ottla.wire.messages.metadata_response import MetadataResponse
from ottla.wire.messages.produce_request import ProduceRequest

LIMITS = PeerLimits(connect_seconds=2.0, request_seconds=2.0)
VERSIONS = ApiVersionsResponse(
    api_keys=[
        ApiVersion(api_key=ApiKey.API_VERSIONS, min_version=0, max_version=4),
        ApiVersion(api_key=ApiKey.METADATA, min_version=0, max_version=9),
        ApiVersion(api_key=ApiKey.PRODUCE, min_version=99, max_version=99),
    ]
)

Answer = Callable[[int, int, int], bytes | None]
"""Of API key, version and correlation id: the frame without its length, or nothing."""


def frame(api_key: int, version: int, correlation_id: int, message: Any) -> bytes:
    return response_header(api_key, version, correlation_id) + encode(message, version)


def metadata(cluster_id: str) -> Answer:
    return lambda key, version, correlation: frame(key, version, correlation, MetadataResponse(cluster_id=cluster_id))


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, loop.new_event_loop])
def test_a_broker_that_does_not_read_is_waited_for(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """What the system does not take at once waits in the sender, and all of it arrives, in order."""
    size, count = 1_000_000, 40

    async def main() -> None:
        reads, received = asyncio.Event(), bytearray()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            (length,) = struct.unpack(">i", await reader.readexactly(4))
            header, _ = read_request_header(await reader.readexactly(length))
            body = frame(18, header.api_version, header.correlation_id, VERSIONS)
            writer.write(struct.pack(">i", len(body)) + body)
            await reads.wait()
            while len(received) < size * count:
                received.extend(await reader.read(1 << 20))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            peer = await Peer.connect("127.0.0.1", server.sockets[0].getsockname()[1], limits=LIMITS)
            sent = 0
            while peer.ready:
                peer.submit_frame(ApiKey.METADATA, 9, peer.next_correlation_id(), [bytes([sent]) * size], seconds=9.0)
                sent += 1
            assert 0 < sent < count, "the system takes some of it, and then no more"
            reads.set()
            for number in range(sent, count):
                await peer.wait_ready(5.0)
                frames = [bytes([number]) * size]
                peer.submit_frame(ApiKey.METADATA, 9, peer.next_correlation_id(), frames, seconds=9.0)
            while len(received) < size * count:
                await asyncio.sleep(0.01)
            assert received == b"".join(bytes([number]) * size for number in range(count))
            peer.close()

    with contextlib.closing(new_loop()) as running:
        running.run_until_complete(asyncio.wait_for(main(), 20))


class Server:
    """Answers ApiVersions properly and everything else as told."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[int] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = struct.unpack(">i", await reader.readexactly(4))
                header, _ = read_request_header(await reader.readexactly(length))
                self.requests.append(header.api_key)
                if header.api_key == ApiKey.API_VERSIONS:
                    body: bytes | None = frame(18, header.api_version, header.correlation_id, VERSIONS)
                else:
                    body = self.answer(header.api_key, header.api_version, header.correlation_id)
                if body is None:
                    continue
                if body == b"":
                    return
                writer.write(struct.pack(">i", len(body)) + body)
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()


def run(answer: Answer, test: Callable[[Server, Peer], Awaitable[None]], limits: PeerLimits = LIMITS) -> None:
    async def main() -> None:
        async with Server(answer) as server:
            peer = await Peer.connect("127.0.0.1", server.port, limits=limits)
            try:
                await test(server, peer)
            finally:
                peer.close()
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 20))


async def ask(peer: Peer) -> MetadataResponse:
    response: MetadataResponse = await peer.request(ApiKey.METADATA, MetadataRequest(topics=[]))
    return response


def test_versions_are_negotiated() -> None:
    async def check(server: Server, peer: Peer) -> None:
        assert peer.version_of(ApiKey.METADATA) == 9
        assert peer.speaks(ApiKey.METADATA)
        assert not peer.speaks(ApiKey.PRODUCE)
        assert not peer.speaks(ApiKey.FETCH)
        with pytest.raises(KafkaError) as failure:
            await peer.request(ApiKey.PRODUCE, ProduceRequest())
        assert failure.value.code is ErrorCode.UNSUPPORTED_VERSION
        assert (await ask(peer)).cluster_id == "c"

    run(metadata("c"), check)


def test_an_old_broker_answers_in_version_0() -> None:
    async def main() -> None:
        versions: list[int] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(2):
                (length,) = struct.unpack(">i", await reader.readexactly(4))
                header, _position = read_request_header(await reader.readexactly(length))
                versions.append(header.api_version)
                old = ApiVersionsResponse(
                    error_code=35 if header.api_version > 2 else 0,
                    api_keys=[ApiVersion(api_key=18, min_version=0, max_version=2)],
                )
                version = 0 if header.api_version > 2 else header.api_version
                body = frame(18, version, header.correlation_id, old)
                writer.write(struct.pack(">i", len(body)) + body)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            peer = await Peer.connect("127.0.0.1", server.sockets[0].getsockname()[1], limits=LIMITS)
            assert versions == [4, 2]
            assert peer.version_of(ApiKey.API_VERSIONS) == 2
            peer.close()
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("size", [10, SCRATCH_BYTES - 100, SCRATCH_BYTES, 3 * SCRATCH_BYTES])
def test_answers_of_any_size_among_others(size: int) -> None:
    def answer(key: int, version: int, correlation: int) -> bytes:
        text = "x" * (size if correlation % 2 else 10)
        return frame(key, version, correlation, MetadataResponse(cluster_id="y", topics=_topics(text)))

    async def check(_server: Server, peer: Peer) -> None:
        answers = await asyncio.gather(*(ask(peer) for _ in range(6)))
        assert sorted({sum(len(topic.name or "") for topic in one.topics) for one in answers}) == sorted({10, size})

    run(answer, check)


def _topics(text: str) -> list[Any]:
    from ottla.wire.messages.metadata_response import MetadataResponseTopic

    return [MetadataResponseTopic(name=text[start : start + 30_000]) for start in range(0, len(text), 30_000)]


@pytest.mark.parametrize("in_order", [True, False])
def test_answers_come_in_the_order_of_their_requests(in_order: bool) -> None:
    """Out of turn they are no answers: the connection cannot be trusted any more, and both requests fail."""
    held: list[bytes] = []

    def hold(key: int, version: int, correlation: int) -> None:
        held.append(frame(key, version, correlation, MetadataResponse(cluster_id=str(correlation))))

    async def check(_server: Server, peer: Peer) -> None:
        first = (await peer.submit(ApiKey.METADATA, MetadataRequest(topics=[]))).future()
        second = (await peer.submit(ApiKey.METADATA, MetadataRequest(topics=[]))).future()
        while len(held) < 2:
            await asyncio.sleep(0.01)
        for body in held if in_order else reversed(held):
            peer._receive(body)
        if in_order:
            assert int((await first).cluster_id or 0) + 1 == int((await second).cluster_id or 0)
            return
        for one in (first, second):
            with pytest.raises(PeerLost, match="is due"):
                await one
        assert not peer.connected

    run(hold, check)


def throttling(key: int, version: int, correlation: int) -> bytes:
    return frame(key, version, correlation, MetadataResponse(cluster_id="c", throttle_time_ms=400))


def test_throttled_nothing_is_sent() -> None:
    async def check(server: Server, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        assert peer.ready
        began = loop.time()
        await ask(peer)
        assert peer.throttled
        assert not peer.ready
        # Whoever cannot wait that long is told, and the connection is as good as before.
        with pytest.raises(PeerTimeout, match="takes no requests for now"):
            await peer.request(ApiKey.METADATA, MetadataRequest(topics=[]), seconds=0.05)
        assert server.requests.count(ApiKey.METADATA) == 1
        await peer.wait_ready()
        assert loop.time() - began > 0.39
        await asyncio.gather(ask(peer), ask(peer))
        assert loop.time() - began < 2.0

    run(throttling, check)


def test_a_throttle_that_comes_while_the_socket_is_full_is_kept() -> None:
    async def check(_server: Server, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        link = peer._link
        assert link is not None
        began = loop.time()
        first = asyncio.ensure_future(ask(peer))
        await asyncio.sleep(0)
        link.pause_writing()
        second = asyncio.ensure_future(ask(peer))
        await first
        link.resume_writing()
        await second
        assert loop.time() - began > 0.39

    run(throttling, check)


def test_a_full_socket_is_waited_for_as_long_as_asked() -> None:
    async def check(_server: Server, peer: Peer) -> None:
        assert peer._link is not None
        peer._link.pause_writing()
        began = asyncio.get_running_loop().time()
        with pytest.raises(PeerTimeout, match="takes no more bytes"):
            await peer.request(ApiKey.METADATA, MetadataRequest(topics=[]), seconds=0.05)
        assert asyncio.get_running_loop().time() - began < LIMITS.request_seconds

    run(metadata("c"), check)


def test_closing_wakes_who_waits_for_the_end_of_a_throttle() -> None:
    async def check(_server: Server, peer: Peer) -> None:
        await ask(peer)
        waiting = asyncio.ensure_future(ask(peer))
        await asyncio.sleep(0.05)
        assert peer.throttled
        peer.close()
        with pytest.raises(PeerLost, match="was closed"):
            await waiting
        assert peer.throttled

    run(throttling, check)


def test_a_missed_deadline_closes_the_connection() -> None:
    async def check(_server: Server, peer: Peer) -> None:
        with pytest.raises(PeerTimeout, match="did not answer Metadata in time"):
            await peer.request(ApiKey.METADATA, MetadataRequest(topics=[]), seconds=0.05)
        assert not peer.connected
        with pytest.raises(PeerLost):
            await ask(peer)

    run(lambda *_: None, check)


def test_a_deadline_holds_after_others_were_kept() -> None:
    async def check(server: Server, peer: Peer) -> None:
        for seconds in (0.05, 60.0):
            await peer.request(ApiKey.METADATA, MetadataRequest(topics=[]), seconds=seconds)
        server.answer = lambda *_: None
        with pytest.raises(PeerTimeout):
            await peer.request(ApiKey.METADATA, MetadataRequest(topics=[]), seconds=0.1)

    run(metadata("c"), check)


def test_a_cancelled_request_leaves_the_others_alone() -> None:
    async def check(_server: Server, peer: Peer) -> None:
        cancelled = asyncio.ensure_future(ask(peer))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        cancelled.cancel()
        assert (await ask(peer)).cluster_id == "c"
        assert peer.connected

    run(metadata("c"), check)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda *_: b"", "closed the connection"),
        (
            lambda key, version, correlation: frame(key, version, correlation + 7, MetadataResponse()),
            "is due",
        ),
        (lambda key, version, correlation: frame(key, version, correlation, MetadataResponse()) + b"!", "malformed"),
        (lambda key, version, correlation: frame(key, version, correlation, MetadataResponse())[:-1], "malformed"),
    ],
)
def test_what_does_not_fit_closes_the_connection(answer: Answer, message: str) -> None:
    async def check(_server: Server, peer: Peer) -> None:
        with pytest.raises(PeerLost, match=message):
            await ask(peer)
        assert not peer.connected

    run(answer, check)


def test_an_announced_length_beyond_the_limit_is_refused_before_memory_is_taken() -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(struct.pack(">i", 2**31 - 1))
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            with pytest.raises(PeerLost, match="announced an answer of 2147483647 bytes"):
                await Peer.connect("127.0.0.1", server.sockets[0].getsockname()[1], limits=LIMITS)
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_server_that_says_nothing_is_given_up() -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(-1)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        limits = PeerLimits(connect_seconds=0.1)
        with pytest.raises(PeerTimeout, match=r"within 0\.1 s"):
            await Peer.connect("127.0.0.1", port, limits=limits)
        server.close()
        await asyncio.sleep(0.01)
        with pytest.raises(PeerLost, match="cannot connect"):
            await Peer.connect("127.0.0.1", port, limits=LIMITS)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_pending_requests_are_bounded() -> None:

    async def check(server: Server, peer: Peer) -> None:
        tasks = [asyncio.ensure_future(ask(peer)) for _ in range(5)]
        await asyncio.sleep(0.1)
        assert server.requests.count(ApiKey.METADATA) == 2
        peer.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, PeerLost) for result in results)

    run(lambda *_: None, check, PeerLimits(connect_seconds=2.0, request_seconds=2.0, pending_requests_max=2))

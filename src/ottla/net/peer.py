"""The client side of a connection: requests out, answers matched by correlation id, a deadline on every wait.

Invariants:
- The broker's versions are known before the first request: ``connect`` negotiates them (KIP-35, KIP-511).
- An answer's announced length is checked before memory is taken for it. A frame's memory is not used again before the
  last view of it is gone, so the memoryviews of a decoded message (records) stay valid as long as somebody holds them.
- Answers come in the order of their requests. After a missed deadline, an answer out of turn or anything malformed the
  connection is closed: what is on it could be for anybody.
- While the broker throttles (KIP-219) nothing is sent: it would not read it.
"""

import asyncio
import math
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, Self, cast

from msgspec import Struct

from ottla.net.deferred import Deferred
from ottla.net.frames import Frames
from ottla.runtime.turn import of_running_loop
from ottla.wire import DecodeError, decode
from ottla.wire.apis import API_SPECS, ApiKey
from ottla.wire.codec import Message
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.frame import RequestHeader, encode_request, encode_request_parts, response_begin

if TYPE_CHECKING:
    from ssl import SSLContext

SCRATCH_BYTES: Final = 64 * 1024
"""Answers smaller than this are cut out of one shared buffer, larger ones are received in place."""

WRITE_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""What may wait to be encrypted and sent."""

TIMER_TOLERANCE: Final = 0.001
"""Event loops count milliseconds."""

_LENGTH_BYTES: Final = 4
_unpack_length = struct.Struct(">i").unpack_from
_CORRELATION_MODULUS: Final = 2**31
_UNSUPPORTED_VERSION: Final = ErrorCode.UNSUPPORTED_VERSION.to_bytes(2, "big")


class PeerLost(ConnectionError):
    """The connection is gone; whether the request was carried out is not known."""


class PeerUnreachable(PeerLost):
    """There was no connection to begin with: nobody listens, or it could not be secured."""


class PeerTimeout(PeerLost):
    """No answer within the deadline."""


class PeerLimits(Struct, frozen=True, kw_only=True):
    """Bounds of one connection; times in seconds, sizes in bytes."""

    connect_seconds: float = 10.0
    request_seconds: float = 30.0
    response_bytes_max: int = 128 * 1024 * 1024
    pending_requests_max: int = 64
    receive_buffer_bytes: int = 1024 * 1024


class _Pending(Struct):
    api_key: int
    version: int
    answer: Deferred[Any]
    deadline: float
    read: Callable[[bytes], Any] | None
    """Knows what the answer most likely looks like; gives ``None`` where it does not."""


class Peer:
    """One connection to one broker. Any number of tasks may send requests; they are pipelined."""

    def __init__(self, address: tuple[str, int], client_id: str, limits: PeerLimits) -> None:
        self.address = address
        self.limits = limits
        self.client_id = client_id
        self._turn = of_running_loop()
        self._loop = self._turn.loop
        self._link: _Link | None = None
        self._versions: Mapping[int, tuple[int, int]] = {}
        self._correlation_id = 0
        self._pending: dict[int, _Pending] = {}
        self._timer: asyncio.TimerHandle | None = None
        """Rings for the first deadline there was when it was set: one timer for all, left alone as answers come."""
        self._rings_at = math.inf
        self._room: asyncio.Future[None] | None = None
        """Resolved with each answer and at the end; there only while somebody waits to send."""
        self._failure: PeerLost | None = None
        self._throttled_until = 0.0
        """Loop time before which the broker asked not to be sent more."""
        self.features: Mapping[str, int] = {}
        """The finalized level of each feature of the cluster, as the broker knew it when asked."""
        self._closing = False
        self.renew_at: float | None = None
        """Loop time at which to use another connection, since the authentication of this one runs out (KIP-368)."""

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        client_id: str = "ottla",
        limits: PeerLimits | None = None,
        tls: "SSLContext | None" = None,
        authenticate: "Callable[[Peer], Awaitable[float]] | None" = None,
        like: "Peer | None" = None,
    ) -> Self:
        """Connect, encrypted with ``tls``, learn the broker's versions and ``authenticate``, which returns for how many
        seconds that is good (0: for ever). Raises ``PeerLost`` and what ``authenticate`` raises.

        ``like`` is another connection to the same broker, open now: it has the versions.
        """
        limits = limits or PeerLimits()
        peer = cls((host, port), client_id, limits)
        try:
            async with asyncio.timeout(limits.connect_seconds):
                sock = await _open_socket(host, port, limits.receive_buffer_bytes)
                await peer._loop.create_connection(
                    lambda: _Link(peer), sock=sock, ssl=tls, server_hostname=host if tls else None
                )
                if like is None or not like.connected:
                    await peer._negotiate()
                else:
                    peer._versions, peer.features = like._versions, like.features  # noqa: SLF001 - of this class, too
                if authenticate is not None:
                    good_for = await authenticate(peer)
                    peer.renew_at = peer._loop.time() + good_for if good_for > 0 else None
        except TimeoutError:
            peer.close()
            raise PeerTimeout(f"{host}:{port} did not answer within {limits.connect_seconds:g} s") from None
        except OSError as error:
            peer.close()
            if isinstance(error, PeerLost):
                raise
            raise PeerUnreachable(f"cannot connect to {host}:{port}: {error.strerror or error}") from error
        except BaseException:
            peer.close()
            raise
        return peer

    @property
    def connected(self) -> bool:
        return self._failure is None and self._link is not None

    def version_of(self, api_key: ApiKey) -> int:
        """The newest version of an API that both sides speak. Raises ``KafkaError(UNSUPPORTED_VERSION)``."""
        spec = API_SPECS[api_key]
        lowest, highest = self._versions.get(api_key, (0, -1))
        version = min(highest, spec.latest_stable)
        if version < max(lowest, spec.lowest):
            raise KafkaError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"{self.address[0]}:{self.address[1]} does not speak a version of {spec.name} that Ottla knows",
            )
        return version

    def speaks(self, api_key: ApiKey) -> bool:
        """Whether the broker serves an API in some version Ottla knows."""
        try:
            self.version_of(api_key)
        except KafkaError:
            return False
        return True

    async def request(
        self, api_key: ApiKey, message: Message, version: int | None = None, *, seconds: float | None = None
    ) -> Any:
        """Send a request and wait for its answer, of the response class that belongs to ``api_key``.

        ``version`` is negotiated if not given; ``seconds`` replaces the usual deadline. Raises ``PeerLost`` if the
        connection breaks or the deadline passes, ``KafkaError(UNSUPPORTED_VERSION)``, and ``EncodeError``.
        """
        return await (await self.submit(api_key, message, version, seconds=seconds)).future()

    async def submit(
        self, api_key: ApiKey, message: Message, version: int | None = None, *, seconds: float | None = None
    ) -> Deferred[Any]:
        """Send a request and return its answer, which comes in the turn in which it is read: who submits one after the
        other keeps their order.

        Raises as ``request``; the answer fails with ``PeerLost``.
        """
        if version is None:
            version = self.version_of(api_key)
        await self.wait_ready(seconds)
        return self.submit_now(api_key, message, version, seconds=seconds)

    @property
    def ready(self) -> bool:
        """Whether ``submit_now`` may be called."""
        link = self._link
        if self._failure is not None or link is None or (self._throttled_until and self.throttled):
            return False
        return link.writable is None and len(self._pending) < self.limits.pending_requests_max

    @property
    def fresh(self) -> bool:
        """Whether its authentication is good for new requests."""
        return self.renew_at is None or self.fresh_for(0.0)

    def fresh_for(self, seconds: float) -> bool:
        """Whether it will still be ``fresh`` then."""
        return self.renew_at is None or self._loop.time() + seconds < self.renew_at

    @property
    def throttled(self) -> bool:
        """Whether the broker has asked to be left alone for now."""
        return self._throttled_until > self._loop.time()

    def submit_now(
        self, api_key: ApiKey, message: Message, version: int, *, seconds: float | None = None
    ) -> Deferred[Any]:
        """``submit`` without waiting, while ``ready``. Raises ``EncodeError``."""
        correlation_id = self.next_correlation_id()
        parts = encode_request_parts(RequestHeader(api_key, version, correlation_id, self.client_id), message)
        seconds = seconds or self.limits.request_seconds
        return self.submit_frame(api_key, version, correlation_id, parts, seconds=seconds)

    def submit_frame(
        self,
        api_key: ApiKey,
        version: int,
        correlation_id: int,
        parts: list[bytes],
        *,
        seconds: float,
        read: Callable[[bytes], Any] | None = None,
    ) -> Deferred[Any]:
        """``submit_now`` of a request that is written already, with the ``next_correlation_id``.

        The answer is what ``read`` makes of its frame (without the length), or the decoded message where that is
        ``None``. It is not asked about frames of ``SCRATCH_BYTES`` and more, and leaves those that throttle to the
        decoder.
        """
        link = self._link
        assert link is not None, "ready was not asked"
        answer: Deferred[Any] = Deferred()
        deadline = self._loop.time() + seconds
        self._pending[correlation_id] = _Pending(api_key, version, answer, deadline, read)
        if deadline < self._rings_at:
            self._ring_at(deadline)
        if len(parts) == 1:
            link.transport.write(parts[0])
        else:
            link.transport.writelines(parts)
        return answer

    def next_correlation_id(self) -> int:
        """For the request that is sent next."""
        self._correlation_id = (self._correlation_id + 1) % _CORRELATION_MODULUS
        return self._correlation_id

    async def wait_ready(self, seconds: float | None = None) -> None:
        """Wait until ``ready``, at most ``seconds``. Raises ``PeerLost``."""
        deadline = self._loop.time() + (seconds or self.limits.request_seconds)
        while self._failure is None and not self.ready:
            assert self._link is not None, "connect() comes first"
            if self._link.writable is not None:
                await self._link.wait_writable(deadline - self._loop.time())
                continue
            self._room = self._room or self._loop.create_future()
            until = min(deadline, self._throttled_until) if self.throttled else deadline
            try:
                async with asyncio.timeout_at(until):
                    await asyncio.shield(self._room)
            except TimeoutError:
                if until == deadline:
                    raise PeerTimeout(f"{self.address[0]}:{self.address[1]} takes no requests for now") from None
        if self._failure is not None:
            raise self._failure

    def post_now(self, api_key: ApiKey, message: Message, version: int) -> None:
        """Send a request that has no answer (Produce with acks=0), while ``ready``. Raises ``EncodeError``."""
        assert self._link is not None, "ready was not asked"
        header = RequestHeader(api_key, version, self.next_correlation_id(), self.client_id)
        self._link.transport.write(encode_request(header, message))

    def close_when_idle(self) -> None:
        """Close as soon as every request has its answer."""
        self._closing = True
        if not self._pending:
            self.close()

    def close(self, reason: PeerLost | None = None) -> None:
        """Close at once; waiting requests fail with ``reason``."""
        if self._failure is None:
            self._failure = reason or PeerLost(f"the connection to {self.address[0]}:{self.address[1]} was closed")
        if self._link is not None:
            self._link.transport.abort()
            self._link.wake_writers()
        pending, self._pending = self._pending, {}
        for entry in pending.values():
            self._turn.at_end(partial(entry.answer.fail, self._failure))
        self._ring_at(None)
        self._make_room()

    async def _negotiate(self) -> None:
        from ottla.wire.messages.api_versions_request import ApiVersionsRequest  # noqa: PLC0415 - loaded on demand

        request = ApiVersionsRequest(client_software_name="ottla", client_software_version="0.1.0")
        version = API_SPECS[ApiKey.API_VERSIONS].latest_stable
        response = await self.request(ApiKey.API_VERSIONS, request, version)
        if response.error_code == ErrorCode.UNSUPPORTED_VERSION:
            known = {entry.api_key: entry.max_version for entry in response.api_keys}
            version = min(version, known.get(ApiKey.API_VERSIONS, 0))
            response = await self.request(ApiKey.API_VERSIONS, request, version)
        if response.error_code != ErrorCode.NONE:
            raise KafkaError(ErrorCode(response.error_code), "the broker refused to tell its versions")
        self._versions = {entry.api_key: (entry.min_version, entry.max_version) for entry in response.api_keys}
        self.features = {entry.name: entry.max_version_level for entry in response.finalized_features}

    def _make_room(self) -> None:
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None

    def _ring_at(self, deadline: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._rings_at = math.inf if deadline is None else deadline
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        # Also when the caller has given up: answers come in order, so a missing one blocks all that follow.
        now = self._loop.time() + TIMER_TOLERANCE
        late = next((entry for entry in self._pending.values() if entry.deadline <= now), None)
        if late is not None:
            host, port = self.address
            self.close(PeerTimeout(f"{host}:{port} did not answer {API_SPECS[late.api_key].name} in time"))
        else:
            self._ring_at(min((entry.deadline for entry in self._pending.values()), default=None))

    def _attach(self, link: "_Link") -> None:
        self._link = link

    def _lost(self, error: Exception | None) -> None:
        host, port = self.address
        self.close(PeerLost(f"{host}:{port} closed the connection{f': {error}' if error else ''}"))

    def _receive(self, frame: bytes | memoryview) -> None:
        """A whole answer without its length. Anything that does not fit closes the connection."""
        entry: _Pending | None = None
        try:
            correlation_id = _unpack_length(frame)[0]
            expected = next(iter(self._pending), None)
            if correlation_id != expected:
                raise DecodeError(f"an answer to request {correlation_id}, where that to {expected} is due")
            entry = self._pending.pop(correlation_id)
            if self._room is not None:
                self._make_room()
            message = entry.read(frame) if entry.read is not None and isinstance(frame, bytes) else None
            throttle_ms = 0
            if message is None:
                message = self._decode(entry, frame)
                throttle_ms = getattr(message, "throttle_time_ms", 0)
        except (DecodeError, ValueError) as error:
            host, port = self.address
            failure = PeerLost(f"{host}:{port} sent a malformed answer: {error}")
            if entry is not None:
                self._turn.at_end(partial(entry.answer.fail, failure))
            self.close(failure)
            return
        if throttle_ms > 0:
            self._throttled_until = max(self._throttled_until, self._loop.time() + throttle_ms / 1000)
        self._turn.at_end(partial(entry.answer.set, message))
        if self._closing and not self._pending:
            self.close()

    def _decode(self, entry: _Pending, frame: bytes | memoryview) -> Any:
        api_key, version = entry.api_key, entry.version
        position = response_begin(api_key, version, frame)
        if api_key == ApiKey.API_VERSIONS and frame[position : position + 2] == _UNSUPPORTED_VERSION:
            # A broker that does not know the version asked for answers in version 0.
            version = 0
        return decode(_response_class(api_key), frame, version, start=position)


@cache
def _response_class(api_key: int) -> type[Message]:
    return API_SPECS[api_key].load_response()


class _Link(asyncio.BufferedProtocol):
    """Cuts the byte stream into frames; knows nothing of what is in them."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._turn = of_running_loop()
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._filled = 0
        self._frames = Frames()
        self._frame: memoryview | None = None
        self._frame_filled = 0
        self.writable: asyncio.Future[None] | None = None
        """There while the operating system does not keep up with what is written."""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not of asyncio's class.
        self.transport = cast(asyncio.Transport, transport)
        # Each write at once, and no other before the system has taken it all: uvloop would keep even a small one to the
        # end of the loop's turn. The kernel's own buffer feeds the broker meanwhile. TLS has buffers of its own.
        encrypted = transport.get_extra_info("sslcontext") is not None
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES if encrypted else 0)
        self._peer._attach(self)  # noqa: SLF001 - two halves of one connection

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._frame is not None:
            return self._frame[self._frame_filled :]
        return self._scratch[self._filled :] if self._filled else self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self._frame is not None:
            self._frame_filled += nbytes
            if self._frame_filled == len(self._frame):
                frame, self._frame = self._frame, None
                self._turn.run(partial(self._peer._receive, frame))  # noqa: SLF001
            return
        self._filled += nbytes
        self._turn.run(self._cut_frames)

    def connection_lost(self, exc: Exception | None) -> None:
        self._peer._lost(exc)  # noqa: SLF001
        self.wake_writers()

    def pause_writing(self) -> None:
        self.writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        self.wake_writers()

    def wake_writers(self) -> None:
        """Let those who wait to write look again."""
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None

    async def wait_writable(self, seconds: float) -> None:
        """Wait while the operating system takes no more bytes. Raises ``PeerTimeout``."""
        if self.writable is None:
            return
        try:
            async with asyncio.timeout(seconds):
                while self.writable is not None:
                    await asyncio.shield(self.writable)
        except TimeoutError:
            raise PeerTimeout("the broker takes no more bytes") from None

    def _cut_frames(self) -> None:
        position, filled = 0, self._filled
        while filled - position >= _LENGTH_BYTES:
            (length,) = _unpack_length(self._scratch, position)
            if not _LENGTH_BYTES <= length <= self._peer.limits.response_bytes_max:
                host, port = self._peer.address
                self._peer.close(PeerLost(f"{host}:{port} announced an answer of {length} bytes"))
                return
            start = position + _LENGTH_BYTES
            if start + length > filled:
                if _LENGTH_BYTES + length > SCRATCH_BYTES:
                    self._receive_in_place(start, length)
                    return
                break
            if self._frames.kept_bytes:
                # Answers have become small: what large ones needed is given back.
                self._frames.forget_one()
            position = start + length
            self._peer._receive(self._scratch[start:position].tobytes())  # noqa: SLF001
        if position:
            left = filled - position
            if left:
                self._scratch[:left] = self._scratch[position:filled].tobytes()
            self._filled = left

    def _receive_in_place(self, start: int, length: int) -> None:
        """The frame at ``start`` is larger than the shared buffer: the rest goes straight into memory of its own."""
        self._frame = self._frames.take(length)
        self._frame_filled = self._filled - start
        self._frame[: self._frame_filled] = self._scratch[start : self._filled]
        self._filled = 0


async def _open_socket(host: str, port: int, receive_buffer_bytes: int) -> socket.socket:
    """A connected socket; every address of ``host`` is tried. The receive buffer must be set before connecting."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, protocol, _, address in await _addresses(loop, host, port):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError(f"{host} has no address")


async def _addresses(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[tuple[Any, ...]]:
    """What ``host`` stands for, as ``getaddrinfo`` tells it. Raises ``OSError``."""
    try:
        # A number is its own answer; only a name is worth a thread that waits for it.
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except socket.gaierror:
        return list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))

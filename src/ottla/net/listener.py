"""A listening socket and the connections it accepted: counts and delays them, drops the overdue, closes them well."""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, field

from ottla.net.accept_rate import AcceptRate
from ottla.net.connection import Answer, Connection, ConnectionLimits
from ottla.runtime.telemetry import get_logger

log = get_logger(__name__)

ACCEPTS_PER_WAKE = 64
ACCEPT_PAUSE_SECONDS = 0.2
LAST_WORDS_SECONDS = 0.3
"""So long a peer that was answered just now has to read that before its connection is closed."""
OUT_OF_DESCRIPTORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class ListenerLimits(Struct, frozen=True, kw_only=True):
    """Bounds of one listener. ``receive_buffer_bytes`` is SO_RCVBUF; -1 leaves the system's default."""

    connection: ConnectionLimits
    connections_max: int
    connections_per_address_max: int
    connections_per_address_overrides: Mapping[str, int] = field(default_factory=dict)
    receive_buffer_bytes: int
    send_buffer_bytes: int
    backlog: int = 512


class Listener:
    """Accepts on one address. ``port`` is the bound one (useful after asking for port 0)."""

    def __init__(
        self,
        *,
        serve: Callable[[Connection, memoryview], Answer],
        spawn: Callable[..., object],
        limits: ListenerLimits,
        rates: Sequence[AcceptRate] = (),
    ) -> None:
        """``rates``: how fast connections may come, here and where others share them."""
        self._rates = rates
        self._serve = serve
        self._spawn = spawn
        self._limits = limits
        self._sockets: list[socket.socket] = []
        self._connections: set[Connection] = set()
        self._per_address: Counter[str] = Counter()
        self.port = 0

    def set_limits(self, limits: ListenerLimits) -> None:
        """Hold new connections to other limits; those that are open keep theirs."""
        self._limits = limits

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    def bind(self, host: str, port: int) -> None:
        """Bind without accepting yet. An empty host means every interface. Raises ``OSError``."""
        flags = socket.AI_PASSIVE
        # As bytes a name of ASCII goes as it is; as text it would load the codec for all others, 2 ms of every start.
        name = host.encode("ascii") if host.isascii() else host
        found = socket.getaddrinfo(name or None, port, type=socket.SOCK_STREAM, flags=flags)
        wanted = found if not host else found[:1]
        bound_port = port
        try:
            for family, kind, protocol, _, address in wanted:
                sock = socket.socket(family, kind, protocol)
                self._sockets.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if self._limits.receive_buffer_bytes > 0:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._limits.receive_buffer_bytes)
                sock.setblocking(False)
                sock.bind((address[0], bound_port, *address[2:]))
                bound_port = sock.getsockname()[1]
        except OSError:
            self._close_sockets()
            raise
        self.port = bound_port

    def start(self) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            sock.listen(self._limits.backlog)
            loop.add_reader(sock.fileno(), self._on_acceptable, sock)

    def close_overdue(self, now: float | None = None) -> None:
        """Close every connection that is idle, stuck mid-frame or does not read its answers."""
        now = asyncio.get_running_loop().time() if now is None else now
        for connection in list(self._connections):
            reason = connection.overdue(now)
            if reason is not None:
                connection.close(reason)
            else:
                connection.relax(now)

    async def stop(self, grace_seconds: float) -> None:
        """Refuse the new, finish what is in flight within the grace, close the rest."""
        self._close_sockets()
        loop = asyncio.get_running_loop()
        for connection in self._connections:
            connection.drain_and_stop()
        deadline = loop.time() + grace_seconds
        while self._connections and (now := loop.time()) < deadline:
            for connection in list(self._connections):
                if connection.busy:
                    continue
                if now - connection.last_active_at < LAST_WORDS_SECONDS:
                    connection.hang_up()
                else:
                    connection.close("server stops")
            await asyncio.sleep(0.005)
        for connection in list(self._connections):
            connection.close("server stops")

    def unbind(self) -> None:
        """Give the address back; for a listener that was never started."""
        self._close_sockets()

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            if self.port:
                asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()

    def _on_acceptable(self, listening: socket.socket) -> None:
        now = asyncio.get_running_loop().time()
        for _ in range(ACCEPTS_PER_WAKE):
            pause = max((rate.pause(now) for rate in self._rates), default=0.0)
            if pause > 0:
                self._accept_later(listening, pause)
                return
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("accept failed", error=error)
                if error.errno in OUT_OF_DESCRIPTORS:
                    # To try at once again would only spin: wait for some to be closed.
                    self._accept_later(listening, ACCEPT_PAUSE_SECONDS)
                return
            for rate in self._rates:
                rate.count(now)
            self._admit(sock, (str(address[0]), int(address[1])))

    def _admit(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        host = peer[0]
        limits = self._limits
        most = limits.connections_per_address_overrides.get(host, limits.connections_per_address_max)
        if len(self._connections) >= limits.connections_max or self._per_address[host] >= most:
            log.warning("connection refused: too many", peer=peer, connections=len(self._connections))
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._limits.send_buffer_bytes > 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._limits.send_buffer_bytes)
        self._per_address[host] += 1
        self._connections.add(
            Connection(
                sock,
                peer,
                limits=self._limits.connection,
                serve=self._serve,
                spawn=self._spawn,
                on_close=self._forget,
            )
        )

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        host = connection.peer[0]
        self._per_address[host] -= 1
        if self._per_address[host] <= 0:
            del self._per_address[host]

    def _accept_later(self, listening: socket.socket, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.fileno())
        loop.call_later(seconds, self._accept_again, listening)

    def _accept_again(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listening.fileno(), self._on_acceptable, listening)

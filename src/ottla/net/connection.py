"""One client connection: frames in, answers out in the order of their requests.

Invariants:
- A frame's announced length is checked before anything is allocated for it, and the buffer only grows as bytes arrive.
- The memoryview given to ``serve`` is valid during that call only: the buffer is used again right after.
- Requests are served as they arrive (pipelining); answers leave in request order, whatever finishes first.
- Reading stops while unsent bytes or unanswered requests exceed their limits, and goes on when they fall. Answers that
  wait behind an earlier one count as unsent.
- An exception of ``serve`` ends this connection and nothing else: a request without an answer would end it anyway.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from msgspec import Struct

from ottla.net.deferred import Deferred
from ottla.net.outbox import Outbox, Segment
from ottla.runtime.telemetry import get_logger
from ottla.runtime.turn import of_running_loop

log = get_logger(__name__)

Segments: TypeAlias = list[Segment]
Answer: TypeAlias = Segments | Deferred[Segments] | Awaitable[Segments | None] | None

BUFFER_BYTES_START = 16 * 1024
BUFFER_BYTES_KEPT = 4 * 1024 * 1024
BUFFER_IDLE_SECONDS = 10.0
FRAME_BYTES_PER_SECOND_MIN = 16 * 1024
"""A peer that sends a frame at this rate or faster is slow, not stuck."""
LENGTH_BYTES = 4


class CloseConnection(Exception):
    """Raised by ``serve``: this peer gets no further answer. The reason goes to the log."""


class ConnectionLimits(Struct, frozen=True, kw_only=True):
    """Bounds of one connection; times in seconds, sizes in bytes."""

    frame_bytes_max: int
    queued_bytes_max: int
    pending_requests_max: int
    frame_seconds_max: float
    idle_seconds_max: float


class Slot:
    """The place of one answer in the order of answers. ``segments`` is None until it is known."""

    __slots__ = ("segments",)

    def __init__(self) -> None:
        self.segments: Segments | None = None


class Connection:
    """Lives from accept to close on the event loop; all methods are synchronous."""

    __slots__ = (
        "_buffer",
        "_closed",
        "_draining",
        "_frame_started_at",
        "_held_bytes",
        "_hung_up",
        "_loop",
        "_on_close",
        "_outbox",
        "_paused",
        "_pending",
        "_read_position",
        "_sends_soon",
        "_serve",
        "_serve_soon",
        "_sock",
        "_spawn",
        "_turn",
        "_view",
        "_write_position",
        "_writing",
        "last_active_at",
        "limits",
        "peer",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: tuple[str, int],
        *,
        limits: ConnectionLimits,
        serve: Callable[["Connection", memoryview], Answer],
        spawn: Callable[..., object],
        on_close: Callable[["Connection"], None],
    ) -> None:
        self._sends_soon = False
        self._turn = of_running_loop()
        self._loop = self._turn.loop
        self._sock = sock
        self.peer = peer
        self.limits = limits
        self._serve = serve
        self._spawn = spawn
        self._on_close = on_close
        self._outbox = Outbox(sock)
        self._pending: deque[Slot] = deque()
        self._held_bytes = 0
        self._buffer = bytearray(BUFFER_BYTES_START)
        self._view = memoryview(self._buffer)
        self._read_position = 0
        self._write_position = 0
        self._frame_started_at = 0.0
        self._paused = False
        self._writing = False
        self._serve_soon = False
        self._closed = False
        self._draining = False
        self._hung_up = False
        self.last_active_at = self._loop.time()
        self._listen()

    @property
    def busy(self) -> bool:
        """Whether a request is unanswered or an answer unsent."""
        return bool(self._pending) or self._outbox.queued_bytes > 0

    def overdue(self, now: float) -> str | None:
        """Why this connection has outstayed its limits, if it has."""
        if self._frame_started_at:
            patience = self.limits.frame_seconds_max + self._write_position / FRAME_BYTES_PER_SECOND_MIN
            if now - self._frame_started_at > patience:
                return "a frame was begun and not finished in time"
        silent = now - self.last_active_at
        if self._outbox.queued_bytes and silent > self.limits.frame_seconds_max:
            return "answers are not being read"
        if silent > self.limits.idle_seconds_max and not self._pending:
            return "idle"
        return None

    def relax(self, now: float) -> None:
        """Give back a buffer that grew for large frames once the peer has been quiet for a while."""
        empty = self._write_position == self._read_position
        if empty and len(self._buffer) > BUFFER_BYTES_START and now - self.last_active_at > BUFFER_IDLE_SECONDS:
            self._reset_buffer(kept_bytes=BUFFER_BYTES_START)

    def _listen(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._turn.run, self._on_readable)

    def _pause_reading(self) -> None:
        if not self._closed and not self._paused:
            self._paused = True
            self._loop.remove_reader(self._sock.fileno())

    def close(self, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        log.debug("connection closed", peer=self.peer, reason=reason)
        descriptor = self._sock.fileno()
        self._loop.remove_reader(descriptor)
        self._loop.remove_writer(descriptor)
        self._outbox.discard()
        while self._pending:
            release(self._pending.popleft().segments)
        self._held_bytes = 0
        self._sock.close()
        self._on_close(self)

    # -- receiving ---------------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            received = self._sock.recv_into(self._view[self._write_position :])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(str(error))
            return
        if received == 0:
            self.close("peer closed")
            return
        self._write_position += received
        self.last_active_at = self._loop.time()
        if self._take_frames_or_close():
            self._send_ready()

    def _take_frames_or_close(self) -> bool:
        try:
            self._take_frames()
        except CloseConnection as error:
            log.warning("peer dropped", peer=self.peer, reason=error)
            failure = str(error)
        except Exception as error:
            log.error("request failed", peer=self.peer, exc_info=error)
            failure = repr(error)
        else:
            return not self._closed
        # What came before was in order.
        self._send_ready()
        self.close(failure)
        return False

    def _take_frames(self) -> None:
        while not self._closed:
            available = self._write_position - self._read_position
            if available < LENGTH_BYTES:
                self._make_room(LENGTH_BYTES)
                break
            start = self._read_position + LENGTH_BYTES
            size = int.from_bytes(self._view[self._read_position : start], signed=True)
            if size < 0 or size > self.limits.frame_bytes_max:
                raise CloseConnection(f"announced a frame of {size} bytes (limit {self.limits.frame_bytes_max})")
            end = start + size
            if end > self._write_position:
                self._make_room(LENGTH_BYTES + size)
                break
            self._read_position = end
            self._frame_started_at = 0.0
            self._accept(self._serve(self, self._view[start:end]))
            if self._over_limits():
                self._send_ready()
                if self._over_limits():
                    self._pause_reading()
                    break
        unfinished = self._write_position > self._read_position
        if not unfinished:
            self._reset_buffer()
        elif not self._frame_started_at and not self._paused:
            self._frame_started_at = self.last_active_at

    def _make_room(self, frame_bytes: int) -> None:
        """Let more bytes of the current frame in: move it to the front, or double the buffer as it fills."""
        capacity = len(self._buffer)
        if self._read_position + frame_bytes <= capacity:
            return
        held = self._write_position - self._read_position
        if held * 2 > capacity and frame_bytes > capacity:
            grown = bytearray(min(max(capacity * 2, BUFFER_BYTES_START), frame_bytes + BUFFER_BYTES_START))
            grown[:held] = self._view[self._read_position : self._write_position]
            self._buffer = grown
            self._view = memoryview(grown)
        elif self._read_position:
            self._view[:held] = self._view[self._read_position : self._write_position]
        self._read_position = 0
        self._write_position = held

    def _reset_buffer(self, kept_bytes: int = BUFFER_BYTES_KEPT) -> None:
        self._read_position = self._write_position = 0
        if len(self._buffer) > kept_bytes:
            self._buffer = bytearray(BUFFER_BYTES_START)
            self._view = memoryview(self._buffer)

    def _over_limits(self) -> bool:
        return (
            self._outbox.queued_bytes + self._held_bytes > self.limits.queued_bytes_max
            or len(self._pending) >= self.limits.pending_requests_max
        )

    # -- answering ---------------------------------------------------------------------------------------------------

    def _accept(self, answer: Answer) -> None:
        if answer is None:
            return
        if isinstance(answer, list) and not self._pending:
            self._outbox.push(answer)
            return
        slot = Slot()
        self._pending.append(slot)
        if isinstance(answer, list):
            self._fill(slot, answer)
        elif isinstance(answer, Deferred):
            answer.then(partial(self._slot_filled, slot), self._answer_failed)
        elif isinstance(answer, asyncio.Future):
            answer.add_done_callback(lambda done: self._answered(slot, done))
        else:
            self._spawn(self._await_answer(slot, answer), name="request")

    async def _await_answer(self, slot: Slot, answer: Awaitable[Segments | None]) -> None:
        try:
            segments = await answer or []
        except Exception as error:
            self._answer_failed(error)
        else:
            self._slot_filled(slot, segments)

    def _answer_failed(self, error: Exception) -> None:
        if isinstance(error, CloseConnection):
            log.warning("peer dropped", peer=self.peer, reason=error)
            self.close(str(error))
        else:
            log.error("request failed", peer=self.peer, exc_info=error)
            self.close(repr(error))

    def _answered(self, slot: Slot, done: "asyncio.Future[Segments | None]") -> None:
        if done.cancelled():
            self.close("request cancelled")
            return
        error = done.exception()
        if error is not None:
            self.close(str(error))
            return
        self._slot_filled(slot, done.result() or [])

    def _fill(self, slot: Slot, segments: Segments) -> None:
        slot.segments = segments
        self._held_bytes += sum(map(len, segments))

    def _slot_filled(self, slot: Slot, segments: Segments) -> None:
        if self._closed:
            release(segments)
            return
        self._fill(slot, segments)
        if self._pending[0] is slot and not self._sends_soon:
            if self._turn.runs:
                self._sends_soon = True
                self._turn.at_end(self._send_at_end)
            else:
                self._send_ready()

    def _send_at_end(self) -> None:
        self._sends_soon = False
        if not self._closed:
            self._send_ready()

    def _send_ready(self) -> None:
        """Hand every answer at the head of the order to the outbox, and the outbox to the socket."""
        pending = self._pending
        while pending and pending[0].segments is not None:
            segments = pending.popleft().segments
            assert segments is not None
            self._held_bytes -= sum(map(len, segments))
            self._outbox.push(segments)
        if self._outbox.queued_bytes and not self._writing and not self._closed:
            self._drain()
        self._resume_reading()

    def _drain(self) -> None:
        before = self._outbox.queued_bytes
        try:
            emptied = self._outbox.drain()
        except OSError as error:
            self.close(str(error))
            return
        if self._outbox.queued_bytes < before:
            self.last_active_at = self._loop.time()
        if emptied and self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock.fileno())
        elif not emptied and not self._writing:
            self._writing = True
            self._loop.add_writer(self._sock.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        self._drain()
        self._resume_reading()

    def _resume_reading(self) -> None:
        if self._paused and not self._closed and not self._draining and not self._over_limits():
            self._paused = False
            if self._write_position > self._read_position:
                self._serve_soon = True
                self._loop.call_soon(self._turn.run, self._serve_buffered)
            else:
                self._listen()

    def _may_read(self) -> bool:
        return not (self._closed or self._paused or self._serve_soon)

    def _serve_buffered(self) -> None:
        """Frames that were already read when reading stopped are served before the socket is asked again.

        The buffer may be full of them, and a read into no room would look like the end of the stream.
        """
        self._serve_soon = False
        if self._closed or self._paused:
            return
        if not self._take_frames_or_close():
            return
        self._send_ready()
        if self._may_read():
            self._listen()

    def drain_and_stop(self) -> None:
        """Part of a graceful stop: no further request is read, not even when limits allow it again."""
        self._draining = True
        self._pause_reading()

    def hang_up(self) -> None:
        """After the last answer of a graceful stop: say that none follows, and close when the peer does.

        To close a socket with something unread resets the connection, and a peer that notices while it sends another
        request does not read the answers it has: it would repeat what has been done.
        """
        if self._closed or self._hung_up:
            return
        self._hung_up = True
        self._pause_reading()
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.close(str(error))
            return
        self._loop.add_reader(self._sock.fileno(), self._drop_received)

    def _drop_received(self) -> None:
        try:
            dropped = self._sock.recv_into(self._view)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            dropped = 0
        if not dropped:
            self.close("peer closed")


def release(segments: Segments | None) -> None:
    """Unpin the file regions of an answer that will not be sent."""
    for segment in segments or ():
        if not isinstance(segment, bytes | bytearray | memoryview):
            segment.release()

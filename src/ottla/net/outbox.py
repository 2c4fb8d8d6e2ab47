"""What a connection has yet to send: bytes and file regions, in order, straight onto a non-blocking socket.

File regions go out by ``sendfile`` where the system has it, so a fetched record never enters this process. A region
pins its segment until it is released; the outbox releases each one exactly once, sent or not.
"""

import os
import socket
from collections import deque
from typing import Protocol, TypeAlias, runtime_checkable


@runtime_checkable
class FileRegion(Protocol):
    """A run of bytes in a file that stays readable until ``release``."""

    def __len__(self) -> int: ...

    @property
    def position(self) -> int: ...

    def fileno(self) -> int: ...

    def release(self) -> None: ...


Segment: TypeAlias = bytes | bytearray | memoryview | FileRegion

SENDFILE = getattr(os, "sendfile", None)
MSG_MORE = getattr(socket, "MSG_MORE", 0)
COPY_BYTES = 256 * 1024


class TruncatedRegion(OSError):
    """A file ended inside a region: the answer cannot be completed, so the connection must go."""


class Outbox:
    """The send queue of one socket. ``drain`` sends what the socket takes and never blocks."""

    __slots__ = ("_queue", "_sent_of_head", "_sock", "queued_bytes")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._queue: deque[Segment] = deque()
        self._sent_of_head = 0
        self.queued_bytes = 0

    def push(self, segments: list[Segment]) -> None:
        for segment in segments:
            self.queued_bytes += len(segment)
            self._queue.append(segment)

    def drain(self) -> bool:
        """Send until the queue is empty (``True``) or the socket is full (``False``). Raises ``OSError``."""
        queue = self._queue
        while queue:
            head = queue[0]
            size = len(head)
            if isinstance(head, bytes | bytearray | memoryview):
                sent = self._send_bytes(head)
            else:
                sent = self._send_region(head, size)
            if sent < 0:
                return False
            self.queued_bytes -= sent
            self._sent_of_head += sent
            if self._sent_of_head >= size:
                self._sent_of_head = 0
                queue.popleft()
                if not isinstance(head, bytes | bytearray | memoryview):
                    head.release()
        return True

    def discard(self) -> None:
        """Forget everything unsent and unpin its regions."""
        while self._queue:
            segment = self._queue.popleft()
            if not isinstance(segment, bytes | bytearray | memoryview):
                segment.release()
        self.queued_bytes = 0
        self._sent_of_head = 0

    def _send_bytes(self, data: bytes | bytearray | memoryview) -> int:
        if self._sent_of_head:
            data = memoryview(data)[self._sent_of_head :]
        try:
            return self._sock.send(data, MSG_MORE if len(self._queue) > 1 else 0)
        except (BlockingIOError, InterruptedError):
            return -1

    def _send_region(self, region: FileRegion, size: int) -> int:
        if size == 0:
            return 0
        position = region.position + self._sent_of_head
        count = size - self._sent_of_head
        try:
            if SENDFILE is not None:
                sent = int(SENDFILE(self._sock.fileno(), region.fileno(), position, count))
            else:
                chunk = os.pread(region.fileno(), min(count, COPY_BYTES), position)
                sent = self._sock.send(chunk) if chunk else 0
        except (BlockingIOError, InterruptedError):
            return -1
        if sent == 0:
            raise TruncatedRegion(f"file ended {count} bytes before the region did")
        return sent

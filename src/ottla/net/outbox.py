"""What a connection has yet to send: bytes and file regions, in order, straight onto a non-blocking socket.

File regions go out by ``sendfile`` where the system has it, so what is fetched in bulk never enters this process. A
region pins its segment until it is released; the outbox releases each one exactly once, sent or not.
"""

import os
import socket
from collections import deque
from typing import Final, Protocol, TypeAlias, runtime_checkable


@runtime_checkable
class FileRegion(Protocol):
    """A run of bytes in a file that stays readable until ``release``."""

    def __len__(self) -> int: ...

    @property
    def position(self) -> int: ...

    def fileno(self) -> int: ...

    def release(self) -> None: ...


Segment: TypeAlias = bytes | bytearray | memoryview | FileRegion
_BYTES: Final = (bytes, bytearray, memoryview)
"""A union of them would be made anew each time it is asked for."""

SENDFILE = getattr(os, "sendfile", None)
MSG_MORE = getattr(socket, "MSG_MORE", 0)
COPY_BYTES = 256 * 1024
COPIED_BYTES_MAX = 32 * 1024
"""A region as small as this is copied: to send it with what surrounds it takes one system call instead of three."""
BUFFERS_MAX = 64
"""Of one call; the system's own limit is 1,024."""


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
            if isinstance(head, _BYTES) or len(head) <= COPIED_BYTES_MAX:
                sent = self._send_bytes()
            else:
                sent = self._send_region(head, len(head))
            if sent < 0:
                return False
            self._forget(sent)
        return True

    def discard(self) -> None:
        """Forget everything unsent and unpin its regions."""
        while self._queue:
            segment = self._queue.popleft()
            if not isinstance(segment, _BYTES):
                segment.release()
        self.queued_bytes = 0
        self._sent_of_head = 0

    def _forget(self, sent: int) -> None:
        """So many bytes from the head on are gone."""
        queue = self._queue
        self.queued_bytes -= sent
        sent += self._sent_of_head
        while queue and sent >= len(queue[0]):
            head = queue.popleft()
            sent -= len(head)
            if not isinstance(head, _BYTES):
                head.release()
        self._sent_of_head = sent

    def _send_bytes(self) -> int:
        """Everything up to the next region worth a ``sendfile``, with one call."""
        buffers: list[bytes | bytearray | memoryview] = []
        for index, segment in enumerate(self._queue):
            if len(buffers) == BUFFERS_MAX:
                break
            if isinstance(segment, _BYTES):
                buffers.append(segment)
            elif len(segment) <= COPIED_BYTES_MAX:
                copied = read_region(segment)
                self._queue[index] = copied
                segment.release()
                buffers.append(copied)
            else:
                break
        if self._sent_of_head:
            buffers[0] = memoryview(buffers[0])[self._sent_of_head :]
        more = MSG_MORE if len(self._queue) > len(buffers) else 0
        try:
            if len(buffers) == 1:
                return self._sock.send(buffers[0], more)
            return self._sock.sendmsg(buffers, (), more)
        except (BlockingIOError, InterruptedError):
            return -1

    def _send_region(self, region: FileRegion, size: int) -> int:
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


def read_region(region: FileRegion) -> bytes:
    """All of a small region. Raises ``TruncatedRegion``."""
    size = len(region)
    data = os.pread(region.fileno(), size, region.position)
    if len(data) < size:
        raise TruncatedRegion(f"file ended {size - len(data)} bytes before the region did")
    return data

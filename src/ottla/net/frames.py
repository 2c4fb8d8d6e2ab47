"""Memory for large answers, used again once nobody looks at it any longer.

Fresh memory is cleared and costs a page fault for every 4 KiB of it: together more than receiving into it.
"""

from typing import Final

STEP_BYTES: Final = 256 * 1024
"""Sizes are rounded up to this, so that answers of about one size share."""
KEPT_BYTES_MAX: Final = 48 * 1024 * 1024


class Frames:
    """The buffers of one connection. One is free when no view of it is left, wherever views of it went."""

    __slots__ = ("_buffers", "_kept_bytes")

    def __init__(self) -> None:
        self._buffers: list[bytearray] = []
        self._kept_bytes = 0

    def take(self, size: int) -> memoryview:
        """``size`` bytes of a free buffer. What is in them is of no meaning."""
        for buffer in self._buffers:
            if len(buffer) >= size and _free(buffer):
                return memoryview(buffer)[:size]
        buffer = bytearray(-(-size // STEP_BYTES) * STEP_BYTES)
        while self._buffers and self._kept_bytes + len(buffer) > KEPT_BYTES_MAX:
            self.forget_one()
        if len(buffer) <= KEPT_BYTES_MAX:
            self._buffers.append(buffer)
            self._kept_bytes += len(buffer)
        return memoryview(buffer)[:size]

    def forget_one(self) -> None:
        """Keep a buffer less, if there is one: whoever looks at it may go on."""
        if self._buffers:
            self._kept_bytes -= len(self._buffers.pop(0))


def _free(buffer: bytearray) -> bool:
    try:
        buffer.append(buffer.pop())
    except BufferError:  # it cannot change its size while there is a view of it
        return False
    return True

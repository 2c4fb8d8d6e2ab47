"""Memory for large answers, used again once nobody looks at it any longer.

Fresh memory is cleared and costs a page fault for every 4 KiB of it: together more than receiving into it. Looking into
pages of 4 KiB has its price too: for each of them a walk through the tables of the system and, in a virtual machine,
through those of its host. Answers of a megabyte and more lie in huge pages where Linux has them to give.
"""

import mmap
from typing import Final, TypeAlias

STEP_BYTES: Final = 256 * 1024
"""Sizes are rounded up to this, so that answers of about one size share."""
HUGE_PAGE_BYTES: Final = 2 * 1024 * 1024
KEPT_BYTES_MAX: Final = 48 * 1024 * 1024
HUGE_PAGES: Final = getattr(mmap, "MADV_HUGEPAGE", None)

Buffer: TypeAlias = bytearray | mmap.mmap


class Frames:
    """The buffers of one connection. One is free when no view of it is left, wherever views of it went."""

    __slots__ = ("_buffers", "kept_bytes")

    def __init__(self) -> None:
        self._buffers: list[Buffer] = []
        self.kept_bytes = 0
        """How much is held, in use or not."""

    def take(self, size: int) -> memoryview:
        """``size`` bytes of a free buffer. What is in them is of no meaning."""
        for buffer in self._buffers:
            if len(buffer) >= size and _free(buffer):
                return memoryview(buffer)[:size]
        buffer = _fresh(size)
        while self._buffers and self.kept_bytes + len(buffer) > KEPT_BYTES_MAX:
            self.forget_one()
        if len(buffer) <= KEPT_BYTES_MAX:
            self._buffers.append(buffer)
            self.kept_bytes += len(buffer)
        return memoryview(buffer)[:size]

    def forget_one(self) -> None:
        """Keep a buffer less, if there is one: whoever looks at it may go on."""
        if self._buffers:
            self.kept_bytes -= len(self._buffers.pop(0))


def _fresh(size: int) -> Buffer:
    """At least ``size`` bytes, and at most half more: a page is there as a whole once it is written to."""
    rounded = -(-size // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    if HUGE_PAGES is not None and rounded - size <= rounded // 3:
        try:
            pages = mmap.mmap(-1, rounded, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            pages.madvise(HUGE_PAGES)
        except OSError:  # not of this kernel, or no more mappings
            pass
        else:
            return pages
    return bytearray(-(-size // STEP_BYTES) * STEP_BYTES)


def _free(buffer: Buffer) -> bool:
    """Whether there is no view of it: with one it cannot change its size."""
    try:
        if isinstance(buffer, bytearray):
            buffer.append(buffer.pop())
        else:
            buffer.resize(len(buffer))
    except BufferError:
        return False
    return True

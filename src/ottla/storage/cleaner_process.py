"""The process that cleans logs for a broker, so that the broker's interpreter is left to its clients.

``python -m ottla.storage.cleaner_process`` is started by the broker alone. It takes a ``CleaningOrder``, a line of
JSON, from its standard input, and answers on its standard output: ``Cleaned`` for each cleaned segment, after which it
waits for the line ``go`` (the broker has put it in its place), and at the end ``Finished`` or ``Failed``. The line
``stop`` ends a cleaning early, the end of the input ends the process: it does not outlive its broker. Both are looked
for after every read and write.
"""

import os
import select
import sys
import time
from contextlib import suppress
from typing import Final

import msgspec

from ottla.records.errors import CorruptRecord
from ottla.storage.cleaning import CleaningPass, CleaningStuck
from ottla.storage.cleaning_orders import GO, STOP, Cleaned, CleaningOrder, Failed, Finished, Reply
from ottla.storage.disk import Disk
from ottla.storage.errors import CorruptLogError

NICENESS: Final = 10
THROTTLE_INTERVAL_S: Final = 0.3
PIPE_READ_BYTES: Final = 1 << 16


class Stopped(Exception):
    """The broker wants no more of this cleaning."""


class Orders:
    """The lines of the standard input, and how fast what they ask for may go."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = b""
        self._bytes_per_second = float("inf")
        self._since = 0.0
        self._bytes = 0

    def next_line(self) -> bytes:
        """Wait for a line. The end of the input ends the process."""
        while b"\n" not in self._buffer:
            self._fill()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def limit(self, bytes_per_second: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._since = time.monotonic()
        self._bytes = 0

    def wait_go(self) -> None:
        """Raises ``Stopped``."""
        if self.next_line() != GO:
            raise Stopped

    def moved(self, size: int) -> None:
        """Pause where more was moved than may be. Raises ``Stopped``."""
        self._bytes += size
        elapsed = time.monotonic() - self._since
        pause = 0.0
        if elapsed >= THROTTLE_INTERVAL_S or self._bytes > self._bytes_per_second * THROTTLE_INTERVAL_S:
            pause = max(self._bytes / self._bytes_per_second - elapsed, 0.0)
        if self._buffer:
            # It came together with the order.
            raise Stopped
        if select.select([self._fd], [], [], pause)[0]:
            self._fill()
            raise Stopped
        if elapsed >= THROTTLE_INTERVAL_S:
            self.limit(self._bytes_per_second)

    def _fill(self) -> None:
        data = os.read(self._fd, PIPE_READ_BYTES)
        if not data:
            raise SystemExit(0)
        self._buffer += data


def serve(orders: Orders, out: int) -> None:
    """Clean what is ordered, for ever."""
    decoder = msgspec.json.Decoder(CleaningOrder)
    while True:
        line = orders.next_line()
        if line not in (GO, STOP):
            # A stop may come after the end of what it was to stop.
            answer(out, _clean(decoder.decode(line), orders, out))


def answer(out: int, reply: Reply) -> None:
    data = memoryview(msgspec.json.encode(reply) + b"\n")
    while data:
        data = data[os.write(out, data) :]


def _clean(order: CleaningOrder, orders: Orders, out: int) -> Finished | Failed:
    orders.limit(order.bytes_per_second_max)
    work = CleaningPass(order.job, Disk(), orders.moved)
    try:
        end_offset = work.build_map()
        for group in work.groups():
            answer(out, Cleaned(segment=work.clean(group)))
            orders.wait_go()
        return Finished(end_offset=end_offset, keys=len(work.map), keys_max=work.map.entries_max)
    except Stopped:
        with suppress(OSError):
            work.drop_leftovers()
        return Failed(reason="stopped", stopped=True)
    except (CorruptLogError, CorruptRecord, CleaningStuck, ValueError) as error:
        return Failed(reason=str(error))
    except MemoryError as error:
        return Failed(reason=f"out of memory: {error}")
    except OSError as error:
        return Failed(reason=str(error), errno=error.errno)


def main() -> None:
    os.nice(NICENESS)
    try:
        serve(Orders(sys.stdin.fileno()), sys.stdout.fileno())
    except BrokenPipeError:
        # The broker is gone.
        raise SystemExit(0) from None


if __name__ == "__main__":
    main()

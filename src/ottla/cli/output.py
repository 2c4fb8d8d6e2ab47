"""Printing: tables for people, JSON for programs, a progress line for those who wait."""

import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

PROGRESS_SECONDS: Final = 0.2


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need to be; numbers to the right."""
    texts = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    widths = (
        [max(len(heading), *(len(row[index]) for row in texts)) for index, heading in enumerate(headings)]
        if rows
        else []
    )
    right = [bool(rows) and all(isinstance(row[index], int) for row in rows) for index in range(len(headings))]
    lines = [_line(headings, widths or [len(heading) for heading in headings], right or [False] * len(headings))]
    lines += [_line(row, widths, right) for row in texts]
    sys.stdout.write("\n".join(lines) + "\n")


def print_json(value: Any) -> None:
    """One JSON document, indented."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def say(text: str) -> None:
    """A line of talk."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Progress:
    """A line on stderr that counts records, drawn a few times a second and only on a terminal."""

    def __init__(self, verb: str, *, shown: bool | None = None) -> None:
        self.records = 0
        self.bytes = 0
        self._verb = verb
        self._shown = sys.stderr.isatty() if shown is None else shown and sys.stderr.isatty()
        self._started = self._drawn = time.monotonic()

    def add(self, records: int, size: int) -> None:
        self.records += records
        self.bytes += size
        if self._shown and time.monotonic() - self._drawn >= PROGRESS_SECONDS:
            self._drawn = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{self.text()}")
            sys.stderr.flush()

    def text(self) -> str:
        """The count, the size and the rate so far."""
        seconds = max(time.monotonic() - self._started, 1e-3)
        return f"{self._verb} {self.records:,} records, {_size(self.bytes)}, {self.records / seconds:,.0f}/s"

    def end(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _size(size: int) -> str:
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:,.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"
        amount /= 1000
    raise AssertionError

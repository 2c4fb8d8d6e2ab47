"""Printing: tables for people, JSON and YAML for programs, a progress line for those who wait.

What a command shows is a struct, or a list of them: its fields are the stable shape (``-o json``, ``ndjson``, ``yaml``,
and ``-o help`` prints it); columns say what of it goes into a table. Colour is for terminals only, and for none where
``NO_COLOR`` is set.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from ottla.cli.yaml import to_yaml

PROGRESS_SECONDS: Final = 0.2
BAR_WIDTH: Final = 20
FORMATS: Final = ("table", "wide", "json", "ndjson", "yaml")
BOLD, RED, GREEN, YELLOW, DIM = "1", "31", "32", "33", "2"


class Column(NamedTuple):
    """A column of a table: its heading, what a row has in it, and whether only ``-o wide`` shows it."""

    heading: str
    cell: Callable[[Any], object]
    wide: bool = False


def show_all(output: str, items: Sequence[Any], columns: Sequence[Column]) -> None:
    """A list in the format asked for."""
    if output in ("table", "wide"):
        print_columns(items, columns, wide=output == "wide")
    else:
        print_data(output, msgspec.to_builtins(items))


def print_columns(items: Sequence[Any], columns: Sequence[Column], *, wide: bool = False) -> None:
    """Items as a table of columns."""
    chosen = [column for column in columns if wide or not column.wide]
    rows = [[column.cell(item) for column in chosen] for item in items]
    print_table([column.heading for column in chosen], rows)


def print_data(output: str, value: Any) -> None:
    """Builtins as ``json``, ``ndjson`` or ``yaml``. A list is one line an item in ``ndjson``."""
    match output:
        case "ndjson":
            items = value if isinstance(value, list) else [value]
            emit(b"".join([msgspec.json.encode(item) + b"\n" for item in items]))
        case "yaml":
            put(to_yaml(value))
        case _:
            print_json(value)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need to be; numbers to the right."""
    texts = [[_cell(cell) for cell in row] for row in rows]
    widths = [max(len(heading), *(len(row[i]) for row in texts), 0) for i, heading in enumerate(headings)]
    right = [
        bool(rows) and all(isinstance(row[index], int | float) or row[index] is None for row in rows)
        for index in range(len(headings))
    ]
    lines = [style(_line(headings, widths, right), BOLD)]
    lines += [_line(row, widths, right) for row in texts]
    put("\n".join(lines) + "\n")


def print_pairs(pairs: Sequence[tuple[str, object]]) -> None:
    """Names and values, a line each."""
    width = max((len(name) for name, _ in pairs), default=0)
    put("".join([f"{style(name.ljust(width), BOLD)}  {_cell(value)}".rstrip() + "\n" for name, value in pairs]))


def print_json(value: Any) -> None:
    """One JSON document, indented."""
    emit(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def put(text: str) -> None:
    """Text to stdout, all of it."""
    emit(text.encode("utf-8", "backslashreplace"))


def emit(data: bytes) -> None:
    """Bytes to stdout, all of them.

    Where Python does not buffer (``PYTHONUNBUFFERED``), a pipe may take a part of what it is given, and only the return
    value says so.
    """
    sys.stdout.flush()
    out, left = sys.stdout.buffer, memoryview(data)
    while left:
        left = left[out.write(left) or 0 :]


def say(text: str) -> None:
    """A line of talk."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def style(text: str, code: str) -> str:
    """Text in a colour, where stdout is a terminal that shows it."""
    return f"\x1b[{code}m{text}\x1b[0m" if coloured() else text


def coloured() -> bool:
    """Whether stdout shows colours."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def moment(milliseconds: int | None) -> str | None:
    """A time in milliseconds for people, in UTC; nothing where there is none."""
    if milliseconds is None or milliseconds < 0:
        return None
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)


def size_text(size: int) -> str:
    """Bytes with a unit."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            return f"{amount:,.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"
        amount /= 1000
    raise AssertionError


class Progress:
    """A line on stderr that counts records (or another ``unit``), drawn a few times a second, on a terminal only.

    Where the end is known (``total``, in whatever ``add`` is told of as ``done``), a bar says how far it is.
    """

    def __init__(
        self, verb: str, *, unit: str = "records", shown: bool | None = None, total: int | None = None
    ) -> None:
        self.records = 0
        self.bytes = 0
        self.total = total
        self._done = 0
        self._verb = verb
        self._unit = unit
        self._shown = sys.stderr.isatty() if shown is None else shown and sys.stderr.isatty()
        self._started = self._drawn = time.monotonic()

    def add(self, records: int, size: int, done: int | None = None) -> None:
        self.records += records
        self.bytes += size
        self._done += records if done is None else done
        if self._shown and time.monotonic() - self._drawn >= PROGRESS_SECONDS:
            self._drawn = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{self.bar()}{self.text()}")
            sys.stderr.flush()

    def bar(self) -> str:
        """How much of what is to be done is done; nothing where that is not known."""
        if not self.total:
            return ""
        share = min(self._done / self.total, 1.0)
        full = int(share * BAR_WIDTH)
        return f"[{'#' * full}{'.' * (BAR_WIDTH - full)}] {share:4.0%}  "

    def text(self) -> str:
        """The count, the size and the rate so far."""
        seconds = max(time.monotonic() - self._started, 1e-3)
        rate = f"{self.records / seconds:,.0f}/s, {size_text(int(self.bytes / seconds))}/s"
        return f"{self._verb} {self.records:,} {self._unit}, {size_text(self.bytes)}, {rate}"

    def end(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.2f}"
        case tuple() | list():
            return ",".join(map(str, value)) or "-"
        case _:
            # A table keeps its lines whatever a name or a value holds.
            return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value))


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip()

"""The little language of offsets: ``start``, ``end``, ``42``, ``-10``, ``+10``, ``@TIME``, and ranges ``FROM:TO``.

``-10`` is ten before the end, ``+10`` ten after the start, of each partition. ``TIME`` is milliseconds since 1970, an
ISO date and time (UTC where it names no zone), or a duration ago: ``@-1h``, ``@-90s``, ``@-1d12h``. A range ends before
``TO``; an empty side means the start, and the end as it is now.
"""

import re
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from ottla.model import TopicPartition

if TYPE_CHECKING:
    from ottla.client import Admin

SYNTAX: Final = "start|end|N|-N|+N|@TIME|FROM:TO"
_UNITS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION: Final = re.compile(r"(?:\d+(?:ms|[smhdw]))+\Z")


class Position(Struct, frozen=True, kw_only=True):
    """A place in every partition. ``number`` is an offset, a distance, or milliseconds."""

    kind: Literal["start", "end", "offset", "before_end", "after_start", "time"]
    number: int = 0


def parse_position(text: str, now_ms: int | None = None) -> Position:
    """Raises ``ValueError`` that says what would be understood."""
    if text in ("start", "earliest", "beginning"):
        return Position(kind="start")
    if text in ("end", "latest"):
        return Position(kind="end")
    if text.startswith("@"):
        return Position(kind="time", number=parse_time(text[1:], now_ms))
    sign, digits = (text[:1], text[1:]) if text[:1] in ("-", "+") else ("", text)
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{text!r} is not start, end, N, -N, +N or @TIME")
    kinds: dict[str, Literal["before_end", "after_start", "offset"]] = {"-": "before_end", "+": "after_start"}
    return Position(kind=kinds.get(sign, "offset"), number=int(digits))


def parse_range(text: str, now_ms: int | None = None) -> tuple[Position, Position | None]:
    """Where to begin and before what to stop. Raises ``ValueError``."""
    try:
        return parse_position(text, now_ms), None
    except ValueError as error:
        failure = error
    for index in (index for index, char in enumerate(text) if char == ":"):
        left, right = text[:index], text[index + 1 :]
        if left.startswith("@") and right and not right.startswith("@") and right != "end":
            right = f"@{right}"
        try:
            begin = parse_position(left, now_ms) if left else Position(kind="start")
            return begin, parse_position(right, now_ms) if right else Position(kind="end")
        except ValueError:
            continue
    raise failure


def parse_time(text: str, now_ms: int | None = None) -> int:
    """Milliseconds since 1970. Raises ``ValueError``."""
    from datetime import UTC, datetime

    if text.isascii() and text.isdigit():
        return int(text)
    if text.startswith("-") and text != "-":
        return (int(time.time() * 1000) if now_ms is None else now_ms) - parse_duration(text[1:])
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither milliseconds, nor a date and time, nor a duration ago like -1h"
        ) from None
    return int((when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp() * 1000)


def parse_duration(text: str) -> int:
    """``1d12h``, ``90s``, ``250ms`` as milliseconds. Raises ``ValueError``."""
    if not _DURATION.match(text):
        raise ValueError(f"{text!r} is not a duration like 1d12h, 90s or 250ms")
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdw])", text))


async def resolve(
    admin: "Admin",
    position: Position,
    places: Iterable[TopicPartition],
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """The offset that a position means in each partition, within what is there.

    A time after the last record is the end.
    """
    wanted = list(places)
    if position.kind == "time":
        from ottla.client import KafkaError

        offsets = {}
        for place, found in (await admin.list_offsets(dict.fromkeys(wanted, position.number))).items():
            if isinstance(found, KafkaError):
                raise found
            offsets[place] = found.offset if found.offset >= 0 else ends[place]
        return offsets
    return {place: offset_in(position, starts[place], ends[place]) for place in wanted}


def offset_in(position: Position, start: int, end: int) -> int:
    """The offset that a position (not a time) means between ``start`` and ``end``."""
    match position.kind:
        case "start":
            return start
        case "end":
            return end
        case "before_end":
            return max(start, end - position.number)
        case "after_start":
            return min(end, start + position.number)
        case _:
            return min(max(start, position.number), end)


def parse_place(text: str) -> TopicPartition:
    """``topic:partition`` as one partition. Raises ``ValueError``."""
    topic, colon, number = text.rpartition(":")
    if not colon or not topic or not number.isdigit():
        raise ValueError(f"{text!r} is not TOPIC:PARTITION")
    return TopicPartition(topic, int(number))

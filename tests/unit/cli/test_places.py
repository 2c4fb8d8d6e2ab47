"""The little language of offsets."""

from __future__ import annotations

import pytest

from ottla.cli.places import Position, offset_in, parse_duration, parse_place, parse_position, parse_range, parse_time

NOW = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("start", Position(kind="start")),
        ("end", Position(kind="end")),
        ("0", Position(kind="offset", number=0)),
        ("-3", Position(kind="before_end", number=3)),
        ("+3", Position(kind="after_start", number=3)),
        ("@17", Position(kind="time", number=17)),
        ("@-1m", Position(kind="time", number=NOW - 60_000)),
        ("@-1h30m", Position(kind="time", number=NOW - 5_400_000)),
        ("@1970-01-01T00:00:01", Position(kind="time", number=1000)),
        ("@1970-01-01T01:00:01+01:00", Position(kind="time", number=1000)),
    ],
)
def test_positions(text: str, position: Position) -> None:
    assert parse_position(text, NOW) == position


@pytest.mark.parametrize("text", ["", "x", "-", "+", "@", "@-", "@yesterday", "1.5", "--1", "٣", "@-1"])
def test_no_positions(text: str) -> None:
    with pytest.raises(ValueError, match="is n"):
        parse_position(text, NOW)


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("5", Position(kind="offset", number=5), None),
        ("5:9", Position(kind="offset", number=5), Position(kind="offset", number=9)),
        (":9", Position(kind="start"), Position(kind="offset", number=9)),
        ("5:", Position(kind="offset", number=5), Position(kind="end")),
        (":", Position(kind="start"), Position(kind="end")),
        ("-5:-1", Position(kind="before_end", number=5), Position(kind="before_end", number=1)),
        ("@10:20", Position(kind="time", number=10), Position(kind="time", number=20)),
        ("@10:end", Position(kind="time", number=10), Position(kind="end")),
        ("@1970-01-01T00:00:01", Position(kind="time", number=1000), None),
        (
            "@1970-01-01T00:00:01:@1970-01-01T00:00:02",
            Position(kind="time", number=1000),
            Position(kind="time", number=2000),
        ),
    ],
)
def test_ranges(text: str, begin: Position, end: Position | None) -> None:
    assert parse_range(text, NOW) == (begin, end)


def test_no_range() -> None:
    with pytest.raises(ValueError, match="is not start"):
        parse_range("1:x", NOW)


@pytest.mark.parametrize(
    ("text", "offset"),
    [("start", 10), ("end", 20), ("3", 10), ("15", 15), ("99", 20), ("-4", 16), ("-99", 10), ("+4", 14), ("+99", 20)],
)
def test_positions_stay_within_what_is_there(text: str, offset: int) -> None:
    assert offset_in(parse_position(text), 10, 20) == offset


def test_durations_times_and_places() -> None:
    assert parse_duration("1d2h3m4s5ms") == 93_784_005
    assert parse_time("250") == 250
    assert str(parse_place("a:b:3")) == "a:b-3"
    for text in ("5", "h", "1h x", ""):
        with pytest.raises(ValueError, match="not a duration"):
            parse_duration(text)
    for text in ("a", ":1", "a:x"):
        with pytest.raises(ValueError, match="TOPIC:PARTITION"):
            parse_place(text)

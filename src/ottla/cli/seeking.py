"""Moving a group's offsets: where each is to go, and going there."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import msgspec
from msgspec import Struct

from ottla.cli.options import Failure
from ottla.cli.output import say
from ottla.cli.places import Position, parse_place, parse_position, resolve
from ottla.cli.rows import SeekRow
from ottla.model import TopicPartition

if TYPE_CHECKING:
    from ottla.client import Admin

Chosen = Sequence[tuple[str, int | None]]
"""Topics, whole or one partition of them; none means all."""


class Goal(Struct, frozen=True, kw_only=True):
    """One of: a position for every partition, another group, offsets by partition."""

    position: Position | None = None
    group: str | None = None
    offsets: Mapping[TopicPartition, int] | None = None

    @classmethod
    def parse(cls, position: str | None, group: str | None, file: bytes | None) -> Self:
        """Raises ``ValueError``."""
        return cls(
            position=None if position is None else parse_position(position),
            group=group,
            offsets=None if file is None else read_offsets(file),
        )


class _Line(Struct):
    topic: str
    partition: int
    offset: int | None = None
    after: int | None = None
    committed: int | None = None


def read_offsets(content: bytes) -> dict[TopicPartition, int]:
    """Offsets from lines ``topic partition offset`` or from JSON. Raises ``ValueError``."""
    text = content.lstrip()
    lines = _json_lines(text) if text[:1] in (b"[", b"{") else _text_lines(text)
    offsets = {}
    for line in lines:
        offset = next((one for one in (line.offset, line.after, line.committed) if one is not None), None)
        if offset is not None:
            offsets[TopicPartition(line.topic, line.partition)] = offset
    return offsets


async def plan(admin: "Admin", name: str, goal: Goal, chosen: Chosen) -> list[SeekRow]:
    """Before and after of each partition, the cluster unchanged."""
    from ottla.cli.calls import groups

    before = await groups.committed_offsets(admin, name)
    if goal.position is not None:
        if not before and not chosen:
            raise Failure(f"group {name!r} has committed no offsets", "name what it is to read with --topic.")
        places = await _places(admin, before, chosen)
        starts, ends = await groups.bounds(admin, places)
        alive = [place for place in places if place in ends]
        after = await resolve(admin, goal.position, alive, starts, ends)
    else:
        wanted = await groups.committed_offsets(admin, goal.group) if goal.group else dict(goal.offsets or {})
        if goal.group and not wanted:
            await groups.describe_group(admin, goal.group)
            raise Failure(
                f"group {goal.group!r} has committed no offsets", "`ottla group describe` shows those of others."
            )
        wanted = {place: offset for place, offset in wanted.items() if is_chosen(place, chosen)}
        starts, ends = await groups.bounds(admin, wanted)
        # Where the log does not reach, the nearest offset that it has.
        after = {
            place: min(max(offset, starts[place]), ends[place]) for place, offset in wanted.items() if place in ends
        }
        if gone := sorted(wanted.keys() - after.keys()):
            say(f"left out, for they are not there or have no leader: {', '.join(map(str, gone))}")
    return [_row(name, place, before.get(place), after[place]) for place in sorted(after)]


async def carry_out(admin: "Admin", name: str, rows: Sequence[SeekRow]) -> None:
    """Commit what was planned."""
    from ottla.cli.failures import raise_first

    offsets = {TopicPartition(row.topic, row.partition): row.after for row in rows if row.after is not None}
    raise_first(await admin.alter_group_offsets(name, offsets))


def parse_chosen(texts: Iterable[str]) -> Chosen:
    """``TOPIC`` or ``TOPIC:PARTITION``."""
    chosen: list[tuple[str, int | None]] = []
    for text in texts:
        try:
            place = parse_place(text)
            chosen.append((place.topic, place.partition))
        except ValueError:
            chosen.append((text, None))
    return chosen


def is_chosen(place: TopicPartition, chosen: Chosen) -> bool:
    """Whether a partition is one of those; all are where none is named."""
    return not chosen or any(topic == place.topic and number in (None, place.partition) for topic, number in chosen)


async def _places(admin: "Admin", committed: Mapping[TopicPartition, int], chosen: Chosen) -> list[TopicPartition]:
    if not chosen:
        return sorted(committed)
    places: set[TopicPartition] = set()
    for topic, number in chosen:
        (described,) = await admin.describe_topics([topic])
        known = described.partitions
        if number is not None and number not in known:
            raise Failure(f"topic {topic!r} has no partition {number}", f"it has {len(known)}, counted from 0.")
        places |= {TopicPartition(topic, one) for one in known if number in (None, one)}
    return sorted(places)


def _row(group: str, place: TopicPartition, before: int | None, after: int) -> SeekRow:
    return SeekRow(
        group=group,
        topic=place.topic,
        partition=place.partition,
        before=before,
        after=after,
        change=None if before is None else after - before,
    )


def _text_lines(text: bytes) -> list[_Line]:
    lines = []
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 3 or not words[1].isdigit() or not words[2].isdigit():
            raise ValueError(f"line {number} is not `topic partition offset`: {line[:60]!r}")
        lines.append(_Line(topic=words[0], partition=int(words[1]), offset=int(words[2])))
    return lines


def _json_lines(text: bytes) -> list[_Line]:
    lines: list[_Line] = []
    try:
        for document in _documents(text):
            for item in document if isinstance(document, list) else [document]:
                described = isinstance(item, dict) and isinstance(item.get("partitions"), list)
                lines += msgspec.convert(item["partitions"] if described else [item], list[_Line])
    except msgspec.MsgspecError as error:
        raise ValueError(f"not what `group describe -o json` or `group seek -o json` print: {error}") from None
    return lines


def _documents(text: bytes) -> list[Any]:
    """One document, or one a line."""
    try:
        return [msgspec.json.decode(text)]
    except msgspec.DecodeError:
        return [msgspec.json.decode(line) for line in text.splitlines() if line.strip()]

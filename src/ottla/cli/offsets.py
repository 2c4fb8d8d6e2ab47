"""`ottla offsets`: the first and the last offset of partitions, and the one at a time."""

from typing import TYPE_CHECKING, Final

import click

from ottla.cli.connection import Connection
from ottla.cli.options import HELP_NAMES, complete_topic, connection_options, output_option, run_client
from ottla.cli.output import Column, show_all
from ottla.cli.rows import OffsetRow

if TYPE_CHECKING:
    from ottla.cli.places import Position

OFFSETS: Final = (
    Column("TOPIC", lambda row: row.topic),
    Column("PARTITION", lambda row: row.partition),
    Column("START", lambda row: row.start),
    Column("END", lambda row: row.end),
    Column("OFFSETS", lambda row: row.end - row.start),
    Column("AT", lambda row: row.offset),
)


@click.command(name="offsets", context_settings=HELP_NAMES)
@click.argument("topics", metavar="TOPIC...", nargs=-1, required=True, shell_complete=complete_topic)
@click.option("--at", metavar="start|end|-N|+N|@TIME", help="The offset at a place or time: @-1h, @2026-01-31T12:00.")
@connection_options
@output_option(list[OffsetRow])
def command(topics: tuple[str, ...], at: str | None, *, connection: Connection, output: str) -> None:
    """Print where the partitions of TOPICs begin and end, and with --at which offset a place or a time is."""
    from ottla.cli.places import parse_position

    try:
        position = None if at is None else parse_position(at)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from None
    rows = run_client(_offsets(connection, topics, position))
    columns = OFFSETS if position is not None else OFFSETS[:-1]
    show_all(output, rows, columns)


async def _offsets(connection: Connection, topics: tuple[str, ...], position: "Position | None") -> list[OffsetRow]:
    from ottla.cli.calls.groups import bounds
    from ottla.cli.places import resolve
    from ottla.model import TopicPartition

    async with connection.admin() as admin:
        places = [
            TopicPartition(topic.name, number)
            for topic in await admin.describe_topics(topics)
            for number in topic.partitions
        ]
        starts, ends = await bounds(admin, places)
        found = {} if position is None else await resolve(admin, position, places, starts, ends)
    return [
        OffsetRow(
            topic=place.topic,
            partition=place.partition,
            start=starts[place],
            end=ends[place],
            offset=found.get(place),
        )
        for place in places
    ]

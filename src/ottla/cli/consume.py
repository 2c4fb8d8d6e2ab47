"""`ottla consume`: a topic to stdout."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import click
from msgspec import Struct

from ottla.cli.connection import Connection
from ottla.cli.ndjson import encode_line
from ottla.cli.options import connection_options, run_client
from ottla.cli.output import Progress, say
from ottla.cli.templates import compile_template
from ottla.client import Consumer, ConsumerRecord, TopicPartition

POLL_SECONDS: Final = 1.0


class ConsumeOptions(Struct, frozen=True, kw_only=True):
    """What the command line says. ``offset``: start, end, a number, or a negative number counted from the end."""

    topic: str
    offset: str
    count: int | None
    partitions: tuple[int, ...]
    exit_at_end: bool
    isolation: str


@click.command(name="consume", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("topic")
@click.option(
    "-o",
    "--offset",
    default="start",
    show_default=True,
    metavar="start|end|N|-N",
    help="Where to begin: an offset, or -N for the last N of each partition.",
)
@click.option("-n", "--count", type=click.IntRange(0), help="Stop after this many records.")
@click.option(
    "-f",
    "--format",
    "form",
    default="%v\\n",
    show_default=True,
    metavar="TEMPLATE|json",
    help="%k key, %v value, %o offset, %p partition, %t topic, %T timestamp, %h headers, \\n, \\t; or json.",
)
@click.option("-p", "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only this; repeatable.")
@click.option("-e", "--exit", "exit_at_end", is_flag=True, help="Stop at the end as it is now.")
@click.option(
    "--isolation",
    type=click.Choice(["read_uncommitted", "read_committed"]),
    default="read_uncommitted",
    show_default=True,
    help="Whether to show records of open and aborted transactions.",
)
@connection_options
def command(form: str, connection: Connection, **options: Any) -> None:
    """Print the records of TOPIC: values, a line each, unless a format says otherwise.

    Follows the topic until -n records are printed, its end is reached with -e, or Ctrl-C.
    """
    offset = options["offset"]
    if offset not in ("start", "end") and not offset.removeprefix("-").isdigit():
        raise click.BadParameter(f"{offset!r} is not start, end, N or -N", param_hint="-o")
    run_client(_consume(connection, _printer(form), ConsumeOptions(**options)))


def _printer(form: str) -> Callable[[ConsumerRecord], bytes]:
    if form == "json":
        return lambda record: encode_line(record) + b"\n"
    try:
        return compile_template(form)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="-f") from None


async def _consume(connection: Connection, show: Callable[[ConsumerRecord], bytes], options: ConsumeOptions) -> None:
    if options.count == 0:
        return
    progress = Progress("read", shown=not sys.stdout.isatty())
    consumer = connection.consumer(
        topics=[options.topic],
        auto_offset_reset="earliest",
        isolation_level=cast(Any, options.isolation),
    )
    async with consumer:
        places = await _places(consumer, options.partitions)
        starts, ends = await consumer.start_offsets(), await consumer.end_offsets()
        begin = {place: _begin(options.offset, starts[place], ends[place]) for place in places}
        consumer.seek(begin)
        targets = {place: ends[place] for place in places if begin[place] < ends[place]}
        if options.exit_at_end and not targets:
            return
        await _print_records(consumer, show, options, targets, progress)
    progress.end()
    if sys.stderr.isatty() and not sys.stdout.isatty():
        say(progress.text())


async def _print_records(
    consumer: Consumer,
    show: Callable[[ConsumerRecord], bytes],
    options: ConsumeOptions,
    targets: dict[TopicPartition, int],
    progress: Progress,
) -> None:
    """Print until the count or, if asked for, every target offset is reached."""
    left = options.count
    write, flush = sys.stdout.buffer.write, sys.stdout.buffer.flush
    while True:
        for records in await consumer.poll(POLL_SECONDS):
            shown: Sequence[ConsumerRecord] = records
            if options.exit_at_end and records:
                place = TopicPartition(records[0].topic, records[0].partition)
                shown = [record for record in records if record.offset < targets.get(place, 0)]
            if left is not None:
                shown = shown[:left]
                left -= len(shown)
            data = b"".join([show(record) for record in shown])
            write(data)
            progress.add(len(shown), len(data))
            if left == 0:
                break
        flush()
        if left == 0 or (options.exit_at_end and _reached(consumer, targets)):
            return
        await asyncio.sleep(0)


def _reached(consumer: Consumer, targets: dict[TopicPartition, int]) -> bool:
    """Whether everything up to the targets was handed out. Positions count what holds no records too."""
    return all(consumer.position(place) >= end for place, end in targets.items())


async def _places(consumer: Consumer, numbers: Sequence[int]) -> list[TopicPartition]:
    places = await consumer.partitions()
    known = {place.partition for place in places}
    missing = [number for number in numbers if number not in known]
    if missing:
        raise click.BadParameter(f"the topic has no partition {missing[0]}", param_hint="-p")
    return [place for place in places if not numbers or place.partition in numbers]


def _begin(offset: str, start: int, end: int) -> int:
    match offset:
        case "start":
            return start
        case "end":
            return end
        case _ if offset.startswith("-"):
            return max(start, end + int(offset))
        case _:
            return min(max(start, int(offset)), end)

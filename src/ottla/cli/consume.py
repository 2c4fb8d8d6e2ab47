"""`ottla consume`: topics to stdout, alone or as a member of a group."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import click
from msgspec import Struct

from ottla.cli.connection import Connection
from ottla.cli.filters import Matches, compile_filters
from ottla.cli.options import HELP_NAMES, complete_group, complete_topic, connection_options, run_client
from ottla.cli.output import Progress, emit, say
from ottla.cli.places import SYNTAX, Position, offset_in, parse_range
from ottla.model import TopicPartition

if TYPE_CHECKING:
    from ottla.client import Consumer, ConsumerRecord

POLL_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 60.0
"""How long a group may take to hand out partitions before `--exit` gives up waiting for some."""

Show = Callable[["ConsumerRecord"], bytes]


class ConsumeOptions(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    topics: tuple[str, ...]
    begin: Position
    end: Position | None
    count: int | None
    partitions: tuple[int, ...]
    group: str | None
    group_protocol: str
    isolation: str
    commit: bool
    rate: bool


@click.command(name="consume", context_settings=HELP_NAMES)
@click.argument("topics", metavar="TOPIC...", nargs=-1, required=True, shell_complete=complete_topic)
@click.option(
    "-o",
    "--offset",
    default="start",
    show_default=True,
    metavar=SYNTAX,
    help="Where to begin, and before what to end: an offset, -N for the last N of each partition, +N for N after its "
    "start, @TIME for a time (milliseconds, 2026-01-31T12:00, or -1h ago), FROM:TO for a range.",
)
@click.option("-n", "--count", type=click.IntRange(0), help="Stop after this many records.")
@click.option(
    "-f",
    "--format",
    "form",
    default="%v\\n",
    show_default=True,
    metavar="TEMPLATE|json",
    help="%k key, %v value, %o offset, %p partition, %t topic, %T timestamp, %h headers, \\n, \\t; %v{hex}, {base64}, "
    "{json}, %T{iso}; or json, which `produce -f json` reads back byte for byte.",
)
@click.option("-p", "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only this; repeatable.")
@click.option("-e", "--exit", "exit_at_end", is_flag=True, help="Stop at the end as it is now.")
@click.option("-g", "--group", metavar="GROUP", help="Read as a member of this group.", shell_complete=complete_group)
@click.option(
    "--group-protocol",
    type=click.Choice(["classic", "consumer"]),
    default="classic",
    show_default=True,
    help="How the group shares partitions.",
)
@click.option("--no-commit", is_flag=True, help="Leave the group's offsets as they are.")
@click.option("--key", "key_filter", metavar="GLOB", help="Only records whose key matches: * and ?, or ~REGEX.")
@click.option("--value", "value_filter", metavar="GLOB", help="Only records whose value matches.")
@click.option("--header", "headers", metavar="NAME[=GLOB]", multiple=True, help="Only with this header; repeatable.")
@click.option(
    "--isolation",
    type=click.Choice(["read_uncommitted", "read_committed"]),
    default="read_uncommitted",
    show_default=True,
    help="Whether to show records of open and aborted transactions.",
)
@click.option("--rate", is_flag=True, help="Say at the end how many records and bytes came in a second.")
@connection_options
def command(form: str, connection: Connection, **options: Any) -> None:
    """Print the records of TOPICs: values, a line each, unless a format says otherwise.

    Follows them until -n records are printed, the end is reached with -e or a range, or Ctrl-C. With -g the place to
    begin is where the group is, and -o says where a group without offsets begins (start or end).
    """
    chosen = _options(**options)
    run_client(_consume(connection, _printer(form), _filter(options), chosen))


def _options(*, offset: str, exit_at_end: bool, no_commit: bool, **rest: Any) -> ConsumeOptions:
    try:
        begin, end = parse_range(offset)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="-o") from None
    if rest["group"] is not None and (begin.kind not in ("start", "end") or end is not None or rest["partitions"]):
        raise click.UsageError("with -g, -o is start or end, and the group shares out partitions: -p is not for it")
    if exit_at_end and end is None:
        end = Position(kind="end")
    for name in ("key_filter", "value_filter", "headers"):
        rest.pop(name)
    return ConsumeOptions(begin=begin, end=end, commit=not no_commit, **rest)


def _filter(options: dict[str, Any]) -> Matches | None:
    try:
        return compile_filters(options["key_filter"], options["value_filter"], options["headers"])
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _printer(form: str) -> Show:
    if form == "json":
        from ottla.cli.ndjson import encode_line

        return lambda record: encode_line(record) + b"\n"
    from ottla.cli.templates import compile_template

    try:
        return compile_template(form)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="-f") from None


async def _consume(connection: Connection, show: Show, matches: Matches | None, options: ConsumeOptions) -> None:
    if options.count == 0:
        return
    arguments: dict[str, Any] = {
        "topics": list(options.topics),
        "auto_offset_reset": "latest" if options.begin.kind == "end" else "earliest",
        "isolation_level": cast(Any, options.isolation),
    }
    if options.group is not None:
        arguments |= {
            "group": options.group,
            "group_protocol": options.group_protocol,
            "enable_auto_commit": options.commit,
        }
    progress = Progress("read", shown=not sys.stdout.isatty())
    async with connection.consumer(**arguments) as consumer:
        targets = await (_place(consumer, options) if options.group is None else _targets(consumer, options))
        progress.total = _expected(consumer, options, targets)
        if targets is None or targets:
            await _Printing(consumer, show, matches, options, targets, progress).run()
    progress.end()
    if options.rate or (sys.stderr.isatty() and not sys.stdout.isatty()):
        say(progress.text())


async def _place(consumer: "Consumer", options: ConsumeOptions) -> dict[TopicPartition, int] | None:
    """Put the consumer where it is to begin. Where to end, by partition; nothing to end at is ``None``."""
    places = await consumer.partitions()
    known = {place.partition for place in places}
    missing = [number for number in options.partitions if number not in known]
    if missing:
        raise click.BadParameter(f"the topic has no partition {missing[0]}", param_hint="-p")
    places = [place for place in places if not options.partitions or place.partition in options.partitions]
    starts, ends = await consumer.start_offsets(), await consumer.end_offsets()
    begin = await _resolve(consumer, options.begin, places, (starts, ends))
    await consumer.assign(begin)
    if options.end is None:
        return None
    stop = await _resolve(consumer, options.end, places, (starts, ends))
    return {place: stop[place] for place in places if begin[place] < stop[place]}


async def _resolve(
    consumer: "Consumer",
    position: Position,
    places: Iterable[TopicPartition],
    limits: tuple[dict[TopicPartition, int], dict[TopicPartition, int]],
) -> dict[TopicPartition, int]:
    starts, ends = limits
    if position.kind != "time":
        return {place: offset_in(position, starts[place], ends[place]) for place in places}
    found = await consumer.offsets_at(dict.fromkeys(places, position.number))
    return {place: offset if offset >= 0 else ends[place] for place, offset in found.items()}


def _expected(consumer: "Consumer", options: ConsumeOptions, targets: dict[TopicPartition, int] | None) -> int | None:
    """How many offsets there are to read; a group's are not known before it has shared them out."""
    if options.count is not None:
        return options.count
    if targets is None or options.group is not None:
        return None
    return sum(end - consumer.position(place) for place, end in targets.items())


async def _targets(consumer: "Consumer", options: ConsumeOptions) -> dict[TopicPartition, int] | None:
    """Of a group: the ends of all partitions, its share of which has to be reached."""
    return None if options.end is None else await consumer.end_offsets()


class _Printing:
    """Prints records until the count, or every offset that ends the reading, is reached."""

    def __init__(
        self,
        consumer: "Consumer",
        show: Show,
        matches: Matches | None,
        options: ConsumeOptions,
        targets: dict[TopicPartition, int] | None,
        progress: Progress,
    ) -> None:
        self._consumer = consumer
        self._show = show
        self._matches = matches
        self._left = options.count
        self._targets = targets
        self._grouped = options.group is not None
        self._progress = progress

    async def run(self) -> None:
        import asyncio

        flush = sys.stdout.buffer.flush
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_SECONDS
        while True:
            for records in await self._consumer.poll(POLL_SECONDS):
                emit(self._take(records))
                if self._left == 0:
                    break
            flush()
            if self._left == 0 or self._reached(late=loop.time() >= deadline):
                return
            await asyncio.sleep(0)

    def _take(self, records: "Sequence[ConsumerRecord]") -> bytes:
        """The text of those that are to be shown."""
        shown: Sequence[ConsumerRecord] = records
        if self._targets is not None and records:
            end = self._targets.get(TopicPartition(records[0].topic, records[0].partition), 0)
            if records[-1].offset >= end:
                shown = [record for record in records if record.offset < end]
        if self._matches is not None:
            shown = list(filter(self._matches, shown))
        if self._left is not None:
            shown = shown[: self._left]
            self._left -= len(shown)
        data = b"".join([self._show(record) for record in shown])
        # Towards an end what the filters leave out counts too; towards a count it does not.
        self._progress.add(len(shown), len(data), len(shown) if self._left is not None else len(records))
        return data

    def _reached(self, *, late: bool) -> bool:
        """Whether all up to the targets was handed out. Positions count what holds no records too."""
        if self._targets is None:
            return False
        targets = self._targets
        if self._grouped:
            mine = self._consumer.assignment()
            if not mine:
                return late
            targets = {place: end for place, end in targets.items() if place in mine}
        return all(self._consumer.position(place) >= end for place, end in targets.items())

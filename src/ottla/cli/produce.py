"""`ottla produce`: stdin to a topic. Lines are handed on by the chunk they were read in, so a pipe is kept busy."""

import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click
from msgspec import Struct

from ottla.cli.connection import Connection
from ottla.cli.ndjson import Header, decode_line
from ottla.cli.options import HELP_NAMES, Failure, complete_topic, connection_options, run_client
from ottla.cli.output import Progress, say

if TYPE_CHECKING:
    from ottla.client import Delivery, Producer

CHUNK_BYTES: Final = 1 << 20
BATCH_BYTES: Final = 256 * 1024
PACE_SECONDS: Final = 0.005
LINE_BYTES_MAX: Final = 64 * 1024 * 1024
_MEND: Final = "mend the line, and leave out what was acknowledged; `ottla produce --help` shows the formats."


class ProduceOptions(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    topic: str
    key: bytes | None
    separator: bytes | None
    partition: int | None
    headers: tuple[tuple[str, bytes], ...]
    keep_partitions: bool
    empty_is_null: bool
    timestamp_ms: int | None
    rate: int | None


@click.command(name="produce", context_settings=HELP_NAMES)
@click.argument("topic", shell_complete=complete_topic)
@click.option(
    "-f",
    "--format",
    "form",
    default="lines",
    show_default=True,
    metavar="lines|json|TEMPLATE",
    help="A record a line; a JSON object a line as `consume -f json` prints it; or fields with text between them: "
    "%k %v %p %T %h, %k{hex}, %v{base64}.",
)
@click.option("-k", "--key", help="The key of every record.")
@click.option("-K", "--key-separator", metavar="SEP", help="A line is KEY SEP VALUE.")
@click.option("-p", "--partition", type=click.IntRange(0), help="Send everything to this partition.")
@click.option("-H", "--header", "headers", metavar="NAME=VALUE", multiple=True, help="A header; repeatable.")
@click.option("-Z", "--empty-is-null", is_flag=True, help="An empty value is null: on a compacted topic, a deletion.")
@click.option("--timestamp", "timestamp_ms", type=click.IntRange(0), metavar="MS", help="The time of every record.")
@click.option("--keep-partitions", is_flag=True, help="JSON: send each record to the partition it names.")
@click.option(
    "--acks", type=click.Choice(["all", "1", "0"]), default="all", show_default=True, help="Who must have it."
)
@click.option(
    "-z",
    "--compression",
    type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]),
    default="none",
    show_default=True,
    help="Codec of the batches.",
)
@click.option("--rate", type=click.IntRange(1), metavar="RECORDS", help="Send no more than this in a second.")
@connection_options
def command(form: str, connection: Connection, acks: str, compression: str, **rest: Any) -> None:
    """Send stdin to TOPIC: a record a line, without the line's end.

    A topic that is not there is created if the broker allows that.
    """
    options = _options(**rest)
    parse = _parser(form, options)
    arguments = {"acks": acks if acks == "all" else int(acks), "compression": compression}
    run_client(_produce(connection, parse, arguments, options))


def _options(*, key: str | None, key_separator: str | None, headers: Sequence[str], **rest: Any) -> ProduceOptions:
    separator = None if key_separator is None else key_separator.encode().decode("unicode_escape").encode()
    if key is not None and separator is not None:
        raise click.UsageError("--key and --key-separator exclude each other")
    if separator == b"":
        raise click.UsageError("--key-separator must not be empty")
    return ProduceOptions(
        key=None if key is None else os.fsencode(key),
        separator=separator,
        headers=tuple(_header(text) for text in headers),
        **rest,
    )


def _header(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE", param_hint="-H")
    return name, os.fsencode(value)


async def _produce(
    connection: Connection, parse: "Parse | None", arguments: dict[str, Any], options: ProduceOptions
) -> None:
    """``parse`` of ``None``: plain lines, which go whole chunks at a time."""
    import asyncio

    from ottla.client import Delivery

    progress = Progress("sent", total=_size_of_stdin())
    delivery = Delivery()
    try:
        async with connection.producer(batch_size=BATCH_BYTES, **arguments) as producer:
            sending = _Sending(producer, options, delivery, progress)
            await (sending.send_lines() if parse is None else sending.send_records(parse))
            await delivery.wait()
    except (asyncio.CancelledError, Exception):
        progress.end()
        if progress.records:
            say(f"{delivery.acknowledged:,} of {progress.records:,} records were acknowledged")
        raise
    progress.end()
    if sys.stderr.isatty() or options.rate is not None:
        say(progress.text())


Parsed = tuple[bytes | None, bytes | None, tuple[Header, ...], int | None, int | None] | None
"""Key, value, headers, partition, timestamp; nothing for a line that is no record."""
Parse = Callable[[bytes, int], Parsed]
"""Of a line and its number."""


class _Sending:
    """Carries stdin to the producer, no faster than asked."""

    def __init__(self, producer: "Producer", options: ProduceOptions, delivery: "Delivery", progress: Progress) -> None:
        import asyncio

        self._producer = producer
        self._options = options
        self._delivery = delivery
        self._progress = progress
        self._began = asyncio.get_running_loop().time()

    async def send_lines(self) -> None:
        """The fast way: whole chunks of lines become records at once."""
        options, number = self._options, 0
        async for lines, size in _chunks():
            if options.separator is None:
                records: Sequence[tuple[bytes | None, bytes]] = [(options.key, line) for line in lines]
            else:
                records = [_split(line, options.separator, number + index) for index, line in enumerate(lines, 1)]
            number += len(lines)
            await self._producer.send_many(options.topic, records, partition=options.partition, delivery=self._delivery)
            self._sent(len(lines), size)

    async def send_records(self, parse: "Parse") -> None:
        """Record by record, for headers and timestamps of their own."""
        number = 0
        async for lines, size in _chunks():
            for line in lines:
                number += 1
                parsed = parse(line, number)
                if parsed is None:
                    continue
                key, value, headers, partition, timestamp = parsed
                await self._keep_pace(number)
                await self._producer.send_counted(
                    self._options.topic,
                    value,
                    key=key,
                    partition=partition,
                    headers=headers,
                    timestamp_ms=timestamp,
                    delivery=self._delivery,
                )
            self._sent(len(lines), size)

    async def _keep_pace(self, number: int) -> None:
        import asyncio

        if self._options.rate is not None:
            ahead = self._began + number / self._options.rate - asyncio.get_running_loop().time()
            if ahead > PACE_SECONDS:
                await asyncio.sleep(ahead)

    def _sent(self, records: int, size: int) -> None:
        self._progress.add(records, size, size)
        if self._delivery.error is not None:
            raise self._delivery.error


def _parser(form: str, options: ProduceOptions) -> "Parse | None":
    if form == "json":
        return _parse_json(options)
    if form != "lines":
        return _parse_template(form, options)
    plain = not (options.headers or options.empty_is_null or options.timestamp_ms is not None or options.rate)
    return None if plain else _parse_line(options)


def _parse_template(form: str, options: ProduceOptions) -> "Parse":
    from ottla.cli.templates import compile_reader

    if options.separator is not None:
        raise click.UsageError("a template says itself what separates key and value")
    try:
        read = compile_reader(form)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="-f") from None

    def from_template(line: bytes, number: int) -> Parsed:
        try:
            fields = read(line)
        except ValueError as error:
            raise Failure(f"line {number}: {error}", _MEND) from None
        return (
            fields.key if options.key is None else options.key,
            None if options.empty_is_null and not fields.value else fields.value,
            fields.headers + options.headers,
            fields.partition if options.partition is None else options.partition,
            fields.timestamp if options.timestamp_ms is None else options.timestamp_ms,
        )

    return from_template


def _parse_line(options: ProduceOptions) -> Parse:
    def from_line(line: bytes, number: int) -> Parsed:
        key, value = (options.key, line) if options.separator is None else _split(line, options.separator, number)
        sent = None if options.empty_is_null and not value else value
        return key, sent, options.headers, options.partition, options.timestamp_ms

    return from_line


def _parse_json(options: ProduceOptions) -> Parse:
    def from_json(line: bytes, number: int) -> Parsed:
        if not line.strip():
            return None
        try:
            record = decode_line(line)
        except ValueError as error:
            raise Failure(f"line {number}: {error}", _MEND) from None
        partition = record.partition if options.keep_partitions else options.partition
        key = record.key if options.key is None else options.key
        timestamp = record.timestamp if options.timestamp_ms is None else options.timestamp_ms
        return key, record.value, record.headers + options.headers, partition, timestamp

    return from_json


def _split(line: bytes, separator: bytes, number: int) -> tuple[bytes, bytes]:
    key, found, value = line.partition(separator)
    if not found:
        raise Failure(f"line {number} has no key separator {separator!r}: {line[:60]!r}", _MEND)
    return key, value


async def _chunks() -> AsyncIterator[tuple[list[bytes], int]]:
    """Whole lines of stdin without their ends, a chunk at a time, with the chunk's size."""
    begun: list[bytes] = []
    async for chunk in _stdin():
        if b"\n" not in chunk:
            begun.append(chunk)
            if sum(map(len, begun)) > LINE_BYTES_MAX:
                raise Failure(f"a line is longer than {LINE_BYTES_MAX} bytes", "a record is one line: is this text?")
            continue
        lines = b"".join([*begun, chunk]).split(b"\n")
        begun = [last] if (last := lines.pop()) else []
        yield lines, len(chunk)
    if begun:
        last = b"".join(begun)
        yield [last], len(last)


def _size_of_stdin() -> int | None:
    """How many bytes are to come, where stdin is a file."""
    found = os.fstat(sys.stdin.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else None


async def _stdin() -> AsyncIterator[bytes]:
    """Pieces of stdin until its end. Pipes and terminals are waited for on the loop, so Ctrl-C always gets through."""
    import asyncio

    descriptor = sys.stdin.fileno()
    kind = os.fstat(descriptor).st_mode
    waits = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or os.isatty(descriptor)
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    if waits:
        loop.add_reader(descriptor, readable.set)
    try:
        while True:
            if waits:
                await readable.wait()
                readable.clear()
            chunk = os.read(descriptor, CHUNK_BYTES)
            if not chunk:
                return
            yield chunk
            await asyncio.sleep(0)
    finally:
        if waits:
            loop.remove_reader(descriptor)

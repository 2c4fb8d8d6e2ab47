"""`ottla produce`: stdin to a topic. Lines are handed on by the chunk they were read in, so a pipe is kept busy."""

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, cast

import click
from msgspec import Struct

from ottla.cli.connection import Connection
from ottla.cli.ndjson import Header, decode_line
from ottla.cli.options import connection_options, key_values, run_client
from ottla.cli.output import Progress, say
from ottla.client import Delivery, Producer

CHUNK_BYTES: Final = 1 << 20
BATCH_BYTES: Final = 256 * 1024
LINE_BYTES_MAX: Final = 64 * 1024 * 1024


class ProduceOptions(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    topic: str
    key: bytes | None
    separator: bytes | None
    partition: int | None
    headers: tuple[tuple[str, bytes], ...]
    keep_partitions: bool


@click.command(name="produce", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("topic")
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["lines", "json"]),
    default="lines",
    show_default=True,
    help="A record a line, or a JSON object a line as `consume -f json` prints it.",
)
@click.option("-k", "--key", help="The key of every record.")
@click.option("-K", "--key-separator", metavar="SEP", help="A line is KEY SEP VALUE.")
@click.option("-p", "--partition", type=click.IntRange(0), help="Send everything to this partition.")
@click.option("-H", "--header", metavar="NAME=VALUE", multiple=True, callback=key_values, help="A header; repeatable.")
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
@connection_options
def command(form: str, connection: Connection, acks: str, compression: str, **rest: Any) -> None:
    """Send stdin to TOPIC: a record a line, without the line's end.

    A topic that is not there is created if the broker allows that.
    """
    options = _options(**rest)
    run_client(_produce(connection, form, acks, compression, options))


def _options(
    *,
    topic: str,
    key: str | None,
    key_separator: str | None,
    partition: int | None,
    header: dict[str, str],
    keep_partitions: bool,
) -> ProduceOptions:
    separator = None if key_separator is None else key_separator.encode().decode("unicode_escape").encode()
    if key is not None and separator is not None:
        raise click.UsageError("--key and --key-separator exclude each other")
    if separator == b"":
        raise click.UsageError("--key-separator must not be empty")
    return ProduceOptions(
        topic=topic,
        key=None if key is None else os.fsencode(key),
        separator=separator,
        partition=partition,
        headers=tuple((name, os.fsencode(value)) for name, value in header.items()),
        keep_partitions=keep_partitions,
    )


async def _produce(connection: Connection, form: str, acks: str, compression: str, options: ProduceOptions) -> None:
    progress = Progress("sent")
    delivery = Delivery()
    producer = connection.producer(
        acks=cast(Any, acks if acks == "all" else int(acks)),
        compression=cast(Any, compression),
        batch_size=BATCH_BYTES,
    )
    send = _send_lines if form == "lines" and not options.headers else _send_records
    parse = _parse_line(options) if form == "lines" else _parse_json(options)
    try:
        async with producer:
            await send(producer, parse, options, delivery, progress)
            await delivery.wait()
    except (asyncio.CancelledError, Exception):
        progress.end()
        say(f"{delivery.acknowledged:,} of {progress.records:,} records were acknowledged")
        raise
    progress.end()
    if sys.stderr.isatty():
        say(progress.text())


Parsed = tuple[bytes | None, bytes | None, tuple[Header, ...], int | None, int | None] | None
"""Key, value, headers, partition, timestamp; nothing for a line that is no record."""
Parse = Callable[[bytes, int], Parsed]
"""Of a line and its number."""


async def _send_lines(
    producer: Producer, _parse: Parse, options: ProduceOptions, delivery: Delivery, progress: Progress
) -> None:
    """The fast way: whole chunks of lines become records at once."""
    number = 0
    async for lines, size in _chunks():
        if options.separator is None:
            records: Sequence[tuple[bytes | None, bytes]] = [(options.key, line) for line in lines]
        else:
            records = [_split(line, options.separator, number + index) for index, line in enumerate(lines, 1)]
        number += len(lines)
        await producer.send_many(options.topic, records, partition=options.partition, delivery=delivery)
        progress.add(len(lines), size)
        if delivery.error is not None:
            raise delivery.error


async def _send_records(
    producer: Producer, parse: Parse, options: ProduceOptions, delivery: Delivery, progress: Progress
) -> None:
    """Record by record, for headers and timestamps of their own."""
    number = 0
    async for lines, size in _chunks():
        for line in lines:
            number += 1
            parsed = parse(line, number)
            if parsed is None:
                continue
            key, value, headers, partition, timestamp = parsed
            await producer.send_counted(
                options.topic,
                value,
                key=key,
                partition=partition,
                headers=headers,
                timestamp_ms=timestamp,
                delivery=delivery,
            )
        progress.add(len(lines), size)
        if delivery.error is not None:
            raise delivery.error


def _parse_line(options: ProduceOptions) -> Parse:
    def from_line(line: bytes, number: int) -> Parsed:
        key, value = (options.key, line) if options.separator is None else _split(line, options.separator, number)
        return key, value, options.headers, options.partition, None

    return from_line


def _parse_json(options: ProduceOptions) -> Parse:
    def from_json(line: bytes, number: int) -> Parsed:
        if not line.strip():
            return None
        try:
            record = decode_line(line)
        except ValueError as error:
            raise click.ClickException(f"line {number}: {error}") from None
        partition = record.partition if options.keep_partitions else options.partition
        key = record.key if options.key is None else options.key
        return key, record.value, record.headers + options.headers, partition, record.timestamp

    return from_json


def _split(line: bytes, separator: bytes, number: int) -> tuple[bytes, bytes]:
    key, found, value = line.partition(separator)
    if not found:
        raise click.ClickException(f"line {number} has no key separator {separator!r}: {line[:60]!r}")
    return key, value


async def _chunks() -> AsyncIterator[tuple[list[bytes], int]]:
    """Whole lines of stdin without their ends, a chunk at a time, with the chunk's size."""
    begun: list[bytes] = []
    async for chunk in _stdin():
        if b"\n" not in chunk:
            begun.append(chunk)
            if sum(map(len, begun)) > LINE_BYTES_MAX:
                raise click.ClickException(f"a line is longer than {LINE_BYTES_MAX} bytes")
            continue
        lines = b"".join([*begun, chunk]).split(b"\n")
        begun = [last] if (last := lines.pop()) else []
        yield lines, len(chunk)
    if begun:
        last = b"".join(begun)
        yield [last], len(last)


async def _stdin() -> AsyncIterator[bytes]:
    """Pieces of stdin until its end. Pipes and terminals are waited for on the loop, so Ctrl-C always gets through."""
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

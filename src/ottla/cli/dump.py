"""`ottla dump`: what is in the files of a data directory, without a broker."""

from pathlib import Path
from typing import Any, Final

import click
import msgspec

from ottla.cli.options import HELP_NAMES, Failure, output_option
from ottla.cli.output import Column, moment, print_data, say, show_all, size_text
from ottla.cli.rows import (
    AbortedRow,
    BatchRow,
    CheckpointRow,
    EpochRow,
    IndexRow,
    ProducerEntryRow,
    PropertyRow,
    SegmentRow,
    StoredRecord,
    TimeIndexRow,
)

SHAPES: Final = (
    SegmentRow
    | BatchRow
    | StoredRecord
    | IndexRow
    | TimeIndexRow
    | AbortedRow
    | ProducerEntryRow
    | EpochRow
    | CheckpointRow
    | PropertyRow
)
WIDE: Final = frozenset(("crc", "timestamp_type", "headers", "base_sequence", "producer_epoch", "batches"))


@click.command(name="dump", context_settings=HELP_NAMES)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("-r", "--records", is_flag=True, help="Of a log: its records instead of its batches.")
@click.option("-n", "--count", type=click.IntRange(0), help="Stop after this many rows of a file.")
@output_option(list[SHAPES])  # type: ignore[valid-type]  # a shape is data here
def command(paths: tuple[Path, ...], *, records: bool, count: int | None, output: str) -> int:
    """Print what files of a data directory hold. Nothing is changed, and no broker is needed.

    A PATH is a segment (.log), an index (.index, .timeindex, .txnindex), producers (.snapshot), a metadata snapshot
    (.checkpoint), leader-epoch-checkpoint, *-offset-checkpoint, quorum-state, meta.properties, partition.metadata; or a
    partition's directory, whose segments are checked and listed; or a data directory with all its partitions. Records
    of __cluster_metadata, __consumer_offsets and __transaction_state are decoded. The exit code is 1 if something is
    damaged.
    """
    from ottla.cli.files import NotADataFile

    damaged = False
    for index, path in enumerate(paths):
        try:
            rows = _rows(path, records=records, count=count)
        except NotADataFile as error:
            raise Failure(str(error), "`ottla dump --help` lists what can be read.") from None
        damaged |= any(getattr(row, "flaw", None) for row in rows)
        if output in ("table", "wide"):
            if len(paths) > 1:
                click.echo(("\n" if index else "") + f"{path}:")
            if rows:
                show_all(output, rows, _columns(rows))
            else:
                say(f"{path.name} holds nothing")
        else:
            print_data(output, msgspec.to_builtins(rows))
    return 1 if damaged else 0


def _rows(path: Path, *, records: bool, count: int | None) -> list[Any]:
    from itertools import chain, islice

    from ottla.cli import files

    if not path.is_dir():
        return list(islice(files.read_file(path, records=records), count))
    inner = files.partitions(path)
    if not inner and not any(files.is_log(one) for one in path.iterdir()):
        raise files.NotADataFile(f"{path} is no directory of a partition, and holds none")
    directories = inner or [path]
    rows = chain.from_iterable(files.segments(one) for one in directories)
    return list(islice(rows, count))


def _columns(rows: list[Any]) -> list[Column]:
    fields = rows[0].__struct_fields__ if rows else ()
    return [_column(name) for name in fields]


def _column(name: str) -> Column:
    heading = name.removesuffix("_ms").replace("_", "-").upper()
    if name in ("timestamp", "max_timestamp_ms", "timestamp_ms"):
        return Column(heading, lambda row: moment(getattr(row, name)))
    if name == "size":
        return Column(heading, lambda row: size_text(row.size), wide=False)
    if name in ("key", "value", "headers"):
        return Column(heading, lambda row: _short(getattr(row, name)), wide=name in WIDE)
    return Column(heading, lambda row: getattr(row, name), wide=name in WIDE)


def _short(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()

"""`ottla topic`: create, list, describe, alter, add-partitions, trim, delete."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ottla.cli.connection import Connection
from ottla.cli.options import (
    HELP_NAMES,
    complete_topic,
    confirm,
    connection_options,
    key_values,
    output_option,
    run_client,
    yes_option,
)
from ottla.cli.output import RED, YELLOW, Column, print_columns, print_data, print_table, put, say, show_all, style
from ottla.cli.rows import ConfigRow, CreatedRow, PartitionRow, TopicDescription, TopicRow, TrimRow

if TYPE_CHECKING:
    from ottla.client import ConfigValue, KafkaError, PartitionMetadata, TopicMetadata


TOPICS = (
    Column("NAME", lambda row: row.name),
    Column("PARTITIONS", lambda row: row.partitions),
    Column("REPLICAS", lambda row: row.replication_factor),
    Column("UNDER-REPLICATED", lambda row: row.under_replicated, wide=True),
    Column("INTERNAL", lambda row: row.internal, wide=True),
    Column("ID", lambda row: row.topic_id, wide=True),
)
PARTITIONS = (
    Column("PARTITION", lambda row: row.partition),
    Column("LEADER", lambda row: None if row.leader < 0 else row.leader),
    Column("REPLICAS", lambda row: row.replicas),
    Column("ISR", lambda row: row.isr),
    Column("START", lambda row: row.start_offset),
    Column("END", lambda row: row.end_offset),
    Column("EPOCH", lambda row: row.leader_epoch, wide=True),
    Column("OFFLINE", lambda row: row.offline, wide=True),
)
TRIMS = (
    Column("TOPIC", lambda row: row.topic),
    Column("PARTITION", lambda row: row.partition),
    Column("START-BEFORE", lambda row: row.start_before),
    Column("START", lambda row: row.start_offset),
    Column("OFFSETS", lambda row: row.records),
)


@click.group(name="topic", context_settings=HELP_NAMES)
def command() -> None:
    """Create, list, describe, change, trim and delete topics."""


@command.command()
@click.argument("name")
@click.option("-p", "--partitions", type=click.IntRange(1), help="Partitions.  [default: the broker's num.partitions]")
@click.option("-r", "--replicas", type=click.IntRange(1), help="Replicas.  [default: the broker's]")
@click.option("-c", "--config", metavar="K=V", multiple=True, callback=key_values, help="A configuration; repeatable.")
@click.option("--if-not-exists", is_flag=True, help="Be content if the topic is there already.")
@click.option("--dry-run", is_flag=True, help="Have it checked, create nothing.")
@connection_options
@output_option(CreatedRow)
def create(
    name: str,
    partitions: int | None,
    replicas: int | None,
    config: dict[str, str],
    *,
    if_not_exists: bool,
    dry_run: bool,
    connection: Connection,
    output: str,
) -> None:
    """Create the topic NAME."""
    options: dict[str, Any] = {"partitions": partitions or -1, "replication_factor": replicas or -1, "config": config}
    options["validate_only"] = dry_run
    created = run_client(_create(connection, name, options, if_not_exists=if_not_exists))
    if created is None:
        say(f"{name} is there already")
    elif output in ("table", "wide"):
        said = "would be created" if dry_run else "created"
        say(f"{said} {created.name}: {created.partitions} partitions, {created.replication_factor} replicas")
    else:
        print_data(output, _builtins(created))


@command.command(name="list")
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.option("--internal", is_flag=True, help="Show Kafka's own topics too.")
@connection_options
@output_option(list[TopicRow])
def list_topics(patterns: tuple[str, ...], *, internal: bool, connection: Connection, output: str) -> None:
    """List topics, all of them or those that match a PATTERN with * and ?."""
    from fnmatch import fnmatchcase

    topics = run_client(_list(connection, internal=internal))
    chosen = [one for one in topics if not patterns or any(fnmatchcase(one.name, pattern) for pattern in patterns)]
    show_all(output, [_row(topic) for topic in chosen], TOPICS)


@command.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_topic)
@click.option("-a", "--all", "all_configs", is_flag=True, help="Show configurations that are defaults too.")
@connection_options
@output_option(list[TopicDescription])
def describe(names: tuple[str, ...], *, all_configs: bool, connection: Connection, output: str) -> None:
    """Describe topics: partitions, leaders, offsets, configurations."""
    shown = [_description(*one, all_configs=all_configs) for one in run_client(_describe(connection, names))]
    if output not in ("table", "wide"):
        print_data(output, _builtins(shown))
        return
    for index, one in enumerate(shown):
        if index:
            put("\n")
        _print_description(one, wide=output == "wide")


@command.command()
@click.argument("name", shell_complete=complete_topic)
@click.option("-c", "--config", metavar="K=V", multiple=True, callback=key_values, help="Set it; repeatable.")
@click.option("-d", "--delete", "deleted", metavar="K", multiple=True, help="Back to the default; repeatable.")
@click.option("--dry-run", is_flag=True, help="Have it checked, change nothing.")
@connection_options
def alter(
    name: str, config: dict[str, str], deleted: tuple[str, ...], *, dry_run: bool, connection: Connection
) -> None:
    """Change the configuration of the topic NAME."""
    from ottla.cli.config import alter_and_show

    changes: dict[str, str | None] = {**config, **dict.fromkeys(deleted)}
    if not changes:
        raise click.UsageError("nothing to change: pass -c KEY=VALUE or -d KEY")
    run_client(alter_and_show(connection, ("topic", name), changes, dry_run=dry_run))


@command.command(name="add-partitions")
@click.argument("name", shell_complete=complete_topic)
@click.option("-n", "--num", type=click.IntRange(1), help="How many more.")
@click.option("--to", "total", type=click.IntRange(1), help="How many in the end.")
@click.option("--dry-run", is_flag=True, help="Have it checked, change nothing.")
@connection_options
def add_partitions(name: str, num: int | None, total: int | None, *, dry_run: bool, connection: Connection) -> None:
    """Give the topic NAME more partitions. It cannot have fewer again, and keys find other partitions than before."""
    if (num is None) == (total is None):
        raise click.UsageError("pass either --num or --to")
    before, after = run_client(_add_partitions(connection, name, (num, total), dry_run=dry_run))
    say(f"{name}: {before} -> {after} partitions{' (dry run)' if dry_run else ''}")


@command.command()
@click.argument("name", shell_complete=complete_topic)
@click.option("-o", "--offset", required=True, metavar="N|-N|+N|@TIME|end", help="The new first offset.")
@click.option("-p", "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only this; repeatable.")
@yes_option
@click.option("--dry-run", is_flag=True, help="Show what would go, delete nothing.")
@connection_options
def trim(
    name: str, offset: str, partitions: tuple[int, ...], *, yes: bool, dry_run: bool, connection: Connection
) -> None:
    """Delete the records of NAME before an offset. Shows first what would go, and asks."""
    from ottla.cli.places import parse_position

    try:
        position = parse_position(offset)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="-o") from None
    rows = run_client(_trim_plan(connection, name, position, partitions))
    print_columns(rows, TRIMS)
    if dry_run or not any(row.records for row in rows):
        say("nothing was deleted")
        return
    confirm(f"Delete these {sum(row.records for row in rows):,} offsets' records?", (), yes=yes)
    run_client(_trim(connection, rows))
    say(f"trimmed {name}")


@command.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_topic)
@yes_option
@connection_options
def delete(names: tuple[str, ...], *, yes: bool, connection: Connection) -> int:
    """Delete topics with all their records. Shows first what would go, and asks."""
    from ottla.cli.failures import say_outcomes

    preview = []
    if not yes:
        for topic, offsets, _ in run_client(_describe(connection, names)):
            held = sum(end - start for start, end in offsets.values())
            preview.append(f"{topic.name}: {len(topic.partitions)} partitions, {held:,} offsets")
    confirm(f"Delete {', '.join(names)} with all records?", preview, yes=yes)
    return say_outcomes("deleted", run_client(_delete(connection, names)))


async def _create(
    connection: Connection, name: str, options: dict[str, Any], *, if_not_exists: bool
) -> CreatedRow | None:
    from ottla.client import ErrorCode, KafkaError

    async with connection.admin() as admin:
        try:
            topic = await admin.create_topic(name, **options)
        except KafkaError as error:
            if error.code is ErrorCode.TOPIC_ALREADY_EXISTS and if_not_exists:
                return None
            raise
    return CreatedRow(
        name=topic.name,
        topic_id=str(topic.topic_id),
        partitions=topic.partitions,
        replication_factor=topic.replication_factor,
    )


async def _list(connection: Connection, *, internal: bool) -> "list[TopicMetadata]":
    async with connection.admin() as admin:
        return await admin.list_topics(internal=internal)


async def _describe(
    connection: Connection, names: Sequence[str]
) -> "list[tuple[TopicMetadata, dict[int, tuple[int, int]], list[ConfigValue]]]":
    async with connection.admin() as admin:
        described = []
        for topic in await admin.describe_topics(names):
            # The offsets of a partition without a leader cannot be had; the rest is worth seeing all the more.
            led = {number: one for number, one in topic.partitions.items() if one.leader >= 0}
            offsets = await admin.offsets(_with(topic, led))
            described.append((topic, offsets, await admin.describe_config(topic.name)))
        return described


def _with(topic: "TopicMetadata", partitions: "Mapping[int, PartitionMetadata]") -> "TopicMetadata":
    from msgspec.structs import replace

    return replace(topic, partitions=partitions)


async def _delete(connection: Connection, names: Sequence[str]) -> "dict[str, KafkaError | None]":
    async with connection.admin() as admin:
        return await admin.delete_topics(names)


async def _add_partitions(
    connection: Connection, name: str, wanted: tuple[int | None, int | None], *, dry_run: bool
) -> tuple[int, int]:
    from ottla.cli.failures import raise_first

    more, total = wanted
    async with connection.admin() as admin:
        (topic,) = await admin.describe_topics([name])
        before = len(topic.partitions)
        after = before + more if more is not None else total or before
        raise_first(await admin.create_partitions({name: after}, validate_only=dry_run))
        return before, after


async def _trim_plan(connection: Connection, name: str, position: Any, partitions: Sequence[int]) -> list[TrimRow]:
    from ottla.cli.calls import groups
    from ottla.cli.places import resolve
    from ottla.model import TopicPartition

    async with connection.admin() as admin:
        (topic,) = await admin.describe_topics([name])
        missing = set(partitions) - topic.partitions.keys()
        if missing:
            raise click.BadParameter(f"the topic has no partition {min(missing)}", param_hint="-p")
        places = [TopicPartition(name, number) for number in partitions or topic.partitions]
        starts, ends = await groups.bounds(admin, places)
        offsets = await resolve(admin, position, places, starts, ends)
    return [
        TrimRow(
            topic=name,
            partition=place.partition,
            start_before=starts[place],
            start_offset=offsets[place],
            records=offsets[place] - starts[place],
        )
        for place in places
    ]


async def _trim(connection: Connection, rows: Sequence[TrimRow]) -> None:
    from ottla.cli.failures import raise_first
    from ottla.model import TopicPartition

    before = {TopicPartition(row.topic, row.partition): row.start_offset for row in rows if row.records}
    async with connection.admin() as admin:
        raise_first(await admin.delete_records(before))


def _row(topic: "TopicMetadata") -> TopicRow:
    return TopicRow(
        name=topic.name,
        topic_id=str(topic.topic_id),
        internal=topic.internal,
        partitions=len(topic.partitions),
        replication_factor=_replicas(topic),
        under_replicated=_under_replicated(topic),
    )


def _replicas(topic: "TopicMetadata") -> int:
    return max((len(partition.replicas) for partition in topic.partitions.values()), default=0)


def _under_replicated(topic: "TopicMetadata") -> int:
    return sum(len(one.isr) < len(one.replicas) for one in topic.partitions.values())


def _description(
    topic: "TopicMetadata",
    offsets: "Mapping[int, tuple[int, int]]",
    configs: "Sequence[ConfigValue]",
    *,
    all_configs: bool,
) -> TopicDescription:
    partitions = [
        PartitionRow(
            partition=one.partition,
            leader=one.leader,
            leader_epoch=one.leader_epoch,
            replicas=list(one.replicas),
            isr=list(one.isr),
            offline=list(one.offline),
            start_offset=offsets[one.partition][0] if one.partition in offsets else None,
            end_offset=offsets[one.partition][1] if one.partition in offsets else None,
        )
        for one in topic.partitions.values()
    ]
    return TopicDescription(
        name=topic.name,
        topic_id=str(topic.topic_id),
        internal=topic.internal,
        partitions=partitions,
        replication_factor=_replicas(topic),
        under_replicated=_under_replicated(topic),
        config=[
            ConfigRow(name=one.name, value="(hidden)" if one.sensitive else one.value, default=one.is_default)
            for one in configs
            if all_configs or not one.is_default
        ],
    )


def _print_description(topic: TopicDescription, *, wide: bool) -> None:
    put(f"{topic.name}  id {topic.topic_id}\n")
    leaderless = sum(one.leader < 0 for one in topic.partitions)
    if leaderless:
        put(style(f"{leaderless} partitions have no leader", RED) + "\n")
    elif topic.under_replicated:
        put(style(f"{topic.under_replicated} partitions are under-replicated", YELLOW) + "\n")
    print_columns(topic.partitions, PARTITIONS, wide=wide)
    if topic.config:
        print_table(("CONFIG", "VALUE"), [(one.name, one.value) for one in topic.config])


def _builtins(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)

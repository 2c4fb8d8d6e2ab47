"""`ottla group`: list, describe, seek, delete, delete-offsets."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from ottla.cli.connection import Connection
from ottla.cli.options import (
    HELP_NAMES,
    complete_group,
    confirm,
    connection_options,
    output_option,
    run_client,
    states_option,
    yes_option,
)
from ottla.cli.output import RED, YELLOW, Column, print_columns, print_data, put, say, show_all, style
from ottla.cli.rows import GroupDescription, GroupRow, SeekRow

if TYPE_CHECKING:
    from ottla.client import Admin
    from ottla.model import TopicPartition

STATES: Final = (
    *("Stable", "Empty", "Dead", "PreparingRebalance", "CompletingRebalance"),
    *("Assigning", "Reconciling", "NotReady"),
)
GROUPS: Final = (
    Column("GROUP", lambda row: row.group),
    Column("STATE", lambda row: row.state),
    Column("TYPE", lambda row: row.type),
    Column("PROTOCOL", lambda row: row.protocol_type, wide=True),
)
PARTITIONS: Final = (
    Column("TOPIC", lambda row: row.topic),
    Column("PARTITION", lambda row: row.partition),
    Column("COMMITTED", lambda row: row.committed),
    Column("END", lambda row: row.end),
    Column("LAG", lambda row: row.lag),
    Column("CLIENT", lambda row: row.client_id),
    Column("HOST", lambda row: row.host),
    Column("START", lambda row: row.start, wide=True),
    Column("MEMBER", lambda row: row.member_id, wide=True),
)
MEMBERS: Final = (
    Column("MEMBER", lambda row: row.member_id),
    Column("INSTANCE", lambda row: row.instance_id),
    Column("CLIENT", lambda row: row.client_id),
    Column("HOST", lambda row: row.host),
    Column("PARTITIONS", lambda row: len(row.partitions)),
    Column("EPOCH", lambda row: row.epoch, wide=True),
    Column("ASSIGNED", lambda row: row.partitions, wide=True),
)
SEEKS: Final = (
    Column("TOPIC", lambda row: row.topic),
    Column("PARTITION", lambda row: row.partition),
    Column("BEFORE", lambda row: row.before),
    Column("AFTER", lambda row: row.after),
    Column("CHANGE", lambda row: None if row.change is None else f"{row.change:+}"),
)

watch_option: Final = click.option(
    "-w", "--watch", is_flag=False, flag_value=2.0, type=click.FloatRange(0.1), metavar="[SECONDS]", help="Do it again."
)


@click.group(name="group", context_settings=HELP_NAMES)
def command() -> None:
    """List, describe, move and delete groups of consumers."""


@command.command(name="list")
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@states_option(STATES)
@click.option(
    "-t",
    "--type",
    "types",
    type=click.Choice(["classic", "consumer", "share", "streams"]),
    multiple=True,
    help="Only these.",
)
@watch_option
@connection_options
@output_option(list[GroupRow])
def list_groups(
    patterns: tuple[str, ...],
    states: tuple[str, ...],
    types: tuple[str, ...],
    *,
    watch: float | None,
    connection: Connection,
    output: str,
) -> None:
    """List groups, all of them or those that match a PATTERN with * and ?."""
    from fnmatch import fnmatchcase

    async def look(admin: "Admin") -> None:
        from ottla.cli.calls import groups

        rows = await groups.list_groups(admin, states, types)
        chosen = [row for row in rows if not patterns or any(fnmatchcase(row.group, one) for one in patterns)]
        show_all(output, chosen, GROUPS)

    run_client(_watch(connection, look, watch))


@command.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_group)
@watch_option
@connection_options
@output_option(list[GroupDescription])
def describe(names: tuple[str, ...], *, watch: float | None, connection: Connection, output: str) -> None:
    """Describe groups: members, committed offsets, lag."""

    async def look(admin: "Admin") -> None:
        import msgspec

        from ottla.cli.calls import groups

        described = [await groups.describe_group(admin, name) for name in names]
        if output not in ("table", "wide"):
            print_data(output, msgspec.to_builtins(described))
            return
        for index, group in enumerate(described):
            if index:
                put("\n")
            _print_description(group, wide=output == "wide")

    run_client(_watch(connection, look, watch))


@command.command()
@click.argument("name", shell_complete=complete_group)
@click.option("--to", "target", metavar="start|end|N|-N|+N|@TIME", help="Where to, in every partition.")
@click.option("--to-group", metavar="GROUP", help="Where that group is.", shell_complete=complete_group)
@click.option(
    "--to-file",
    type=click.File("rb"),
    metavar="FILE",
    help="What a file says: lines `topic partition offset`, or JSON as `group describe` and `group seek` print it.",
)
@click.option("--topic", "topics", multiple=True, metavar="TOPIC[:PARTITION]", help="Only these; repeatable.")
@click.option("--dry-run", is_flag=True, help="Show what would change, change nothing.")
@yes_option
@connection_options
@output_option(list[SeekRow])
def seek(
    name: str,
    target: str | None,
    to_group: str | None,
    to_file: Any,
    *,
    topics: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    connection: Connection,
    output: str,
) -> None:
    """Move the committed offsets of the group NAME. Shows before and after, and asks.

    The group must have no members. Without --topic, every partition it has an offset of is moved (with --to-group and
    --to-file: every one that is named there).
    """
    if sum(one is not None for one in (target, to_group, to_file)) != 1:
        raise click.UsageError("pass one of --to, --to-group and --to-file")
    from ottla.cli import seeking

    try:
        goal = seeking.Goal.parse(target, to_group, None if to_file is None else to_file.read())
        chosen = seeking.parse_chosen(topics)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    rows = run_client(_with(connection, lambda admin: seeking.plan(admin, name, goal, chosen)))
    show_all(output, rows, SEEKS)
    changed = [row for row in rows if row.change != 0]
    if dry_run or not changed:
        say("nothing was changed" + ("" if changed else ": every offset is there already"))
        return
    confirm(f"Move {len(changed)} offsets of {name}?", (), yes=yes)
    run_client(_with(connection, lambda admin: seeking.carry_out(admin, name, changed)))
    say(f"moved {len(changed)} offsets of {name}")


@command.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_group)
@yes_option
@connection_options
def delete(names: tuple[str, ...], *, yes: bool, connection: Connection) -> int:
    """Delete groups with their offsets. They must have no members."""
    from ottla.cli.failures import say_outcomes

    preview = []
    if not yes:
        described = run_client(_with(connection, lambda admin: _describe_all(admin, names)))
        preview = [f"{one.group}: {one.state}, {len(one.partitions)} offsets, lag {one.lag:,}" for one in described]
    confirm(f"Delete {', '.join(names)}?", preview, yes=yes)
    return say_outcomes("deleted", run_client(_with(connection, lambda admin: admin.delete_groups(names))))


@command.command(name="delete-offsets")
@click.argument("name", shell_complete=complete_group)
@click.option("--topic", "topics", multiple=True, required=True, metavar="TOPIC[:PARTITION]", help="Whose; repeatable.")
@yes_option
@connection_options
def delete_offsets(name: str, topics: tuple[str, ...], *, yes: bool, connection: Connection) -> None:
    """Make the group NAME forget its offsets of topics it does not read any more."""
    from ottla.cli import seeking
    from ottla.cli.calls import groups
    from ottla.cli.failures import raise_first

    chosen = seeking.parse_chosen(topics)

    async def look(admin: "Admin") -> "dict[TopicPartition, int]":
        found = await groups.committed_offsets(admin, name)
        if not found:
            await groups.describe_group(admin, name)
        return found

    committed = run_client(_with(connection, look))
    places = [place for place in sorted(committed) if seeking.is_chosen(place, chosen)]
    if not places:
        say("nothing was deleted: the group has no such offsets")
        return
    confirm(f"Delete {len(places)} offsets of {name}?", [f"{one}: {committed[one]}" for one in places], yes=yes)
    results = run_client(_with(connection, lambda admin: admin.delete_group_offsets(name, places)))
    raise_first(results)
    say(f"deleted {len(places)} offsets of {name}")


async def _watch(connection: Connection, look: "Callable[[Admin], Awaitable[None]]", seconds: float | None) -> None:
    import asyncio

    async with connection.admin() as admin:
        while True:
            if seconds is not None and sys.stdout.isatty():
                put("\x1b[H\x1b[2J")
            await look(admin)
            sys.stdout.flush()
            if seconds is None:
                return
            await asyncio.sleep(seconds)


async def _with(connection: Connection, act: "Callable[[Admin], Awaitable[Any]]") -> Any:
    async with connection.admin() as admin:
        return await act(admin)


async def _describe_all(admin: "Admin", names: Sequence[str]) -> list[GroupDescription]:
    from ottla.cli.calls import groups

    return [await groups.describe_group(admin, name) for name in names]


def _print_description(group: GroupDescription, *, wide: bool) -> None:
    state = style(group.state, YELLOW) if group.state not in ("Stable", "Empty") else group.state
    lag = style(f"lag {group.lag:,}", RED) if group.lag else "lag 0"
    head = f"{group.group}  {state}  {group.type}  {lag}  coordinator {group.coordinator}"
    if group.assignor:
        head += f"  assignor {group.assignor}"
    put(head + "\n")
    if group.partitions:
        print_columns(group.partitions, PARTITIONS, wide=wide)
    if group.members:
        put("\n")
        print_columns(group.members, MEMBERS, wide=wide)

"""`ottla config`: the configuration of topics, brokers, groups and client metrics; and the table of all keys."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from ottla.cli.calls.kinds import RESOURCES
from ottla.cli.connection import Connection
from ottla.cli.options import HELP_NAMES, Failure, connection_options, key_values, output_option, run_client
from ottla.cli.output import FORMATS, Column, print_table, put, say, show_all
from ottla.cli.rows import ConfigEntry, KeyRow, ResourceRow

if TYPE_CHECKING:
    from ottla.config.key import ConfigKey

SCOPES: Final = ("broker", "topic", "group")
DEFAULT_BROKER: Final = "default"


ENTRIES: Final = (
    Column("NAME", lambda row: row.name),
    Column("VALUE", lambda row: "(hidden)" if row.sensitive else row.value),
    Column("SOURCE", lambda row: row.source),
    Column("TYPE", lambda row: row.type, wide=True),
    Column("READ-ONLY", lambda row: row.read_only, wide=True),
    Column("SYNONYMS", lambda row: row.synonyms, wide=True),
)
KEYS: Final = (
    Column("NAME", lambda row: row.name),
    Column("TYPE", lambda row: row.type.lower()),
    Column("DEFAULT", lambda row: '""' if row.default == "" else row.default),
    Column("CHANGED", lambda row: row.update_mode),
    Column("STATUS", lambda row: row.status),
    Column("IMPORTANCE", lambda row: row.importance, wide=True),
    Column("VALUES", lambda row: row.rule, wide=True),
    Column("DOCUMENTATION", lambda row: row.documentation, wide=True),
)
NAMED: Final = (Column("KIND", lambda row: row.kind), Column("NAME", lambda row: row.name or DEFAULT_BROKER))

kind_argument: Final = click.argument("kind", type=click.Choice(RESOURCES), metavar="KIND")
name_argument: Final = click.argument("name")


@click.group(name="config", context_settings=HELP_NAMES)
def command() -> None:
    """Configurations of topics, brokers, groups and client metrics; the table of all keys.

    KIND is topic, broker, broker-logger, group or client-metrics. The broker named `default` stands for all brokers.
    """


@command.command()
@kind_argument
@name_argument
@click.option("-a", "--all", "every", is_flag=True, help="Show defaults too.")
@connection_options
@output_option(list[ConfigEntry])
def describe(kind: str, name: str, *, every: bool, connection: Connection, output: str) -> None:
    """Print what is configured for NAME, and where each value comes from."""
    entries = run_client(_describe(connection, kind, name, None))
    show_all(output, [one for one in entries if every or not one.default], ENTRIES)


@command.command()
@kind_argument
@name_argument
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@connection_options
@output_option(list[ConfigEntry])
def get(kind: str, name: str, keys: tuple[str, ...], *, connection: Connection, output: str) -> None:
    """Print the values of KEYs: the value alone if there is one KEY and no other format is asked for."""
    found = {one.name: one for one in run_client(_describe(connection, kind, name, keys))}
    missing = [key for key in keys if key not in found]
    if missing:
        raise Failure(
            f"{kind} {name!r} has no configuration {missing[0]!r}",
            f"`ottla config describe {kind} {name} --all` shows what there is.",
        )
    if len(keys) == 1 and output == "table":
        click.echo("" if (value := found[keys[0]].value) is None else value)
    else:
        show_all(output, [found[key] for key in keys], ENTRIES)


@command.command(name="set")
@kind_argument
@name_argument
@click.argument("values", metavar="KEY=VALUE...", nargs=-1, required=True, callback=key_values)
@click.option("--dry-run", is_flag=True, help="Have it checked, change nothing.")
@connection_options
def set_values(kind: str, name: str, values: dict[str, str], *, dry_run: bool, connection: Connection) -> None:
    """Set KEYs of NAME and print before and after."""
    run_client(alter_and_show(connection, (kind, name), dict(values), dry_run=dry_run))


@command.command()
@kind_argument
@name_argument
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Have it checked, change nothing.")
@connection_options
def unset(kind: str, name: str, keys: tuple[str, ...], *, dry_run: bool, connection: Connection) -> None:
    """Put KEYs of NAME back to what holds without them."""
    run_client(alter_and_show(connection, (kind, name), dict.fromkeys(keys), dry_run=dry_run))


@command.command(name="list")
@click.argument("kinds", type=click.Choice(RESOURCES), metavar="[KIND]...", nargs=-1)
@connection_options
@output_option(list[ResourceRow])
def list_resources(kinds: tuple[str, ...], *, connection: Connection, output: str) -> None:
    """List the resources that can be described or that something is configured for."""
    show_all(output, run_client(_list(connection, kinds or RESOURCES)), NAMED)


@command.command()
@click.argument("pattern", required=False, default="")
@click.option("-s", "--scope", type=click.Choice(SCOPES), default="broker", show_default=True, help="Whose keys.")
@output_option(list[KeyRow], formats=(*FORMATS, "markdown"))
def table(pattern: str, scope: str, output: str) -> None:
    """Print every configuration key that Ottla knows, or those whose name holds PATTERN.

    `-o markdown` is the whole reference page.
    """
    from ottla.config.definitions import broker_keys, group_keys, topic_keys
    from ottla.config.reference import markdown

    scopes = {"broker": broker_keys, "topic": topic_keys, "group": group_keys}
    keys = [key for key in scopes[scope]() if pattern in key.name and not key.internal]
    if output == "markdown":
        put(markdown())
    else:
        show_all(output, [_key_row(key) for key in keys], KEYS)


async def alter_and_show(
    connection: Connection, resource: tuple[str, str], changes: Mapping[str, str | None], *, dry_run: bool
) -> None:
    """Change values, and print what each was and is."""
    from ottla.cli.calls.configs import alter_config, describe_config

    kind, name = resource[0], _resource_name(*resource)
    async with connection.admin() as admin:
        before = {one.name: one.value for one in await describe_config(admin, kind, name, changes)}
        await alter_config(admin, kind, name, changes, dry_run=dry_run)
        after = before if dry_run else await _settled(admin, (kind, name), changes)
    rows = [(key, before.get(key), after.get(key) if not dry_run else changes[key]) for key in changes]
    print_table(("CONFIG", "BEFORE", "AFTER"), rows)
    if dry_run:
        say("dry run: nothing was changed")


async def _settled(admin: Any, resource: tuple[str, str], changes: Mapping[str, str | None]) -> dict[str, str | None]:
    """What brokers say once the change has reached the one that is asked, or after a moment whatever it says."""
    import asyncio

    from ottla.cli.calls.configs import describe_config

    after: dict[str, str | None] = {}
    for _ in range(20):
        entries = await describe_config(admin, *resource, changes)
        after = {one.name: one.value for one in entries}
        hidden = {one.name for one in entries if one.sensitive}
        if all(value is None or key in hidden or after.get(key) == value for key, value in changes.items()):
            break
        await asyncio.sleep(0.05)
    return after


async def _describe(connection: Connection, kind: str, name: str, keys: Sequence[str] | None) -> list[ConfigEntry]:
    from ottla.cli.calls.configs import describe_config

    async with connection.admin() as admin:
        if kind == "topic":
            await admin.describe_topics([name])
        return await describe_config(admin, kind, _resource_name(kind, name), keys)


async def _list(connection: Connection, kinds: Sequence[str]) -> list[ResourceRow]:
    from ottla.cli.calls.configs import configured

    rows: list[ResourceRow] = []
    async with connection.admin() as admin:
        for kind in kinds:
            rows += [ResourceRow(kind=kind, name=name) for name in await configured(admin, kind)]
    return rows


def _resource_name(kind: str, name: str) -> str:
    if kind in ("broker", "broker-logger") and not name.isdigit() and name != DEFAULT_BROKER:
        raise click.BadParameter(f"{name!r} is not the number of a broker", param_hint="NAME")
    return "" if kind == "broker" and name == DEFAULT_BROKER else name


def _key_row(key: "ConfigKey") -> KeyRow:
    return KeyRow(
        name=key.name,
        type=key.type.name,
        default=key.default,
        kafka_default=key.kafka_default,
        importance=key.importance,
        update_mode=key.update_mode.value,
        rule=key.rule,
        status=key.effect.value,
        documentation=key.documentation,
    )

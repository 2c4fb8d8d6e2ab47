"""Options that several commands share, and how a command reaches the cluster.

Where settings come from, the later winning: the current profile, ``KAFKA_BOOTSTRAP_SERVERS``, a profile named with
``--profile`` (or ``OTTLA_PROFILE``), ``--command-config``, ``-X``, ``-b``.
"""

import functools
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ottla.cli.connection import DEFAULT_BOOTSTRAP, Connection
from ottla.cli.output import FORMATS, say

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
T = TypeVar("T")

HELP_NAMES: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def connection_options(command: CommandT) -> CommandT:
    """``-b``, ``--profile``, ``-X`` and ``--command-config``: the parameter ``connection`` of the command."""

    @functools.wraps(command)
    def connected(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in ("bootstrap", "profile", "settings", "command_config")}
        return command(*args, connection=connect(**given), **kwargs)

    for option in reversed(_CONNECTION):
        connected = option(connected)
    return connected  # type: ignore[return-value]


_CONNECTION: Final = (
    click.option(
        "-b",
        "--bootstrap",
        metavar="HOST:PORT,...",
        help=f"Brokers to begin with.  [env: KAFKA_BOOTSTRAP_SERVERS; default: {DEFAULT_BOOTSTRAP}]",
    ),
    click.option("--profile", metavar="NAME", envvar="OTTLA_PROFILE", help="A cluster of `ottla profile list`."),
    click.option("-X", "settings", metavar="KEY=VALUE", multiple=True, help="A client's setting; repeatable."),
    click.option(
        "--command-config",
        type=click.Path(dir_okay=False, exists=True),
        metavar="FILE",
        help="A client's settings as Java properties.",
    ),
)


def connect(
    bootstrap: str | None, profile: str | None, settings: Sequence[str], command_config: str | None
) -> Connection:
    """What the options, the environment and the profiles say together."""
    from ottla.cli.profiles import ProfileError, load

    config = {"bootstrap.servers": DEFAULT_BOOTSTRAP}
    try:
        profiles = load()
        if profiles.current is not None and profile is None:
            config |= profiles.named(profiles.current)
        if environment := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            config["bootstrap.servers"] = environment
        if profile is not None:
            config |= profiles.named(profile)
    except ProfileError as error:
        raise click.UsageError(str(error)) from None
    if command_config is not None:
        config |= _read_properties(command_config)
    config |= key_values(None, None, settings)
    if bootstrap is not None:
        config["bootstrap.servers"] = bootstrap
    connection = Connection(config=config)
    try:
        connection.check()
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return connection


def output_option(shape: Any, *, formats: Sequence[str] = FORMATS) -> Callable[[CommandT], CommandT]:
    """``-o/--output``: the parameter ``output``; ``-o help`` prints ``shape`` and ends the command."""

    def read(ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
        if value == "help":
            from ottla.cli.shapes import describe

            click.echo(describe(shape))
            ctx.exit()
        return value

    option = click.option(
        "-o",
        "--output",
        type=click.Choice([*formats, "help"]),
        default="table",
        show_default=True,
        # Before a missing argument is complained about.
        is_eager=True,
        callback=read,
        help="How to print; help prints the shape of the JSON.",
    )

    def decorate(command: CommandT) -> CommandT:
        # The reference page shows it; `functools.wraps` carries it outwards.
        command.shape = shape  # type: ignore[attr-defined]
        return option(command)

    return decorate


def states_option(states: Sequence[str]) -> Callable[[CommandT], CommandT]:
    """``-s/--state``: the parameter ``states``, some of those there are."""
    return click.option(
        "-s",
        "--state",
        "states",
        type=click.Choice(states, case_sensitive=False),
        multiple=True,
        metavar="STATE",
        help=f"Only these: {', '.join(states)}; repeatable.",
    )


class Failure(click.ClickException):
    """What the command itself refuses or cannot find, with what to do about it. The exit code is 1."""

    def __init__(self, message: str, fix: str | None = None) -> None:
        super().__init__(message)
        self.fix = fix


yes_option: Final = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


def confirm(question: str, preview: Sequence[str], *, yes: bool) -> None:
    """Show what would happen and ask. Without a terminal to ask on, only ``--yes`` goes on."""
    for line in preview:
        say(line)
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        refusal = click.UsageError("nothing was changed: there is no terminal to ask on")
        refusal.fix = "pass --yes to do it without being asked."  # type: ignore[attr-defined]  # shown by main
        raise refusal
    click.confirm(question, abort=True, err=True)


def key_values(_ctx: click.Context | None, _parameter: click.Parameter | None, values: Sequence[str]) -> dict[str, str]:
    """A click callback: ``K=V`` arguments as a mapping."""
    pairs = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{value!r} is not of the form KEY=VALUE")
        pairs[key] = text
    return pairs


def run_client(main: Coroutine[Any, Any, T]) -> T:
    """Run a client command to its end."""
    from ottla.runtime import loop

    return loop.run(main)


def complete_topic(ctx: click.Context, _parameter: click.Parameter, begun: str) -> "list[CompletionItem]":
    """Live topic names, for the shell."""
    from ottla.cli.completing import names

    return names(ctx, "topics", begun)


def complete_group(ctx: click.Context, _parameter: click.Parameter, begun: str) -> "list[CompletionItem]":
    """Live group names, for the shell."""
    from ottla.cli.completing import names

    return names(ctx, "groups", begun)


def _read_properties(path: str) -> dict[str, str]:
    from ottla.config.sources import parse_properties

    with open(path, encoding="utf-8") as file:
        return parse_properties(file.read())

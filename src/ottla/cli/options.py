"""Options that several commands share, and how a command reaches the cluster."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from ottla.runtime import loop

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
T = TypeVar("T")

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"


def bootstrap_option(command: CommandT) -> CommandT:
    """``-b/--bootstrap``: the parameter ``bootstrap`` of the command."""
    return click.option(
        "-b",
        "--bootstrap",
        envvar="KAFKA_BOOTSTRAP_SERVERS",
        default=DEFAULT_BOOTSTRAP,
        metavar="HOST:PORT,...",
        callback=_check_bootstrap,
        help=f"Brokers to begin with.  [env: KAFKA_BOOTSTRAP_SERVERS; default: {DEFAULT_BOOTSTRAP}]",
    )(command)


def output_option(command: CommandT) -> CommandT:
    """``-o/--output``: the parameter ``output``, ``table`` or ``json``."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How to print.",
    )(command)


def key_values(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
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
    return loop.run(main)


def _check_bootstrap(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    from ottla.client import parse_bootstrap  # noqa: PLC0415 - not for --help

    try:
        parse_bootstrap(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value

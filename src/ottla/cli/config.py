"""`ottla config`: the configuration table, for people, programs and the documentation."""

import sys
from collections.abc import Sequence
from typing import Final

import click

from ottla.cli.output import print_json, print_table
from ottla.config.definitions import broker_keys, group_keys, topic_keys
from ottla.config.key import ConfigKey
from ottla.config.reference import markdown

SCOPES: Final = {"broker": broker_keys, "topic": topic_keys, "group": group_keys}


@click.group(name="config", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """The configuration table."""


@command.command()
@click.argument("pattern", required=False, default="")
@click.option("-s", "--scope", type=click.Choice(list(SCOPES)), default="broker", show_default=True, help="Whose keys.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="How to print; markdown is the whole reference page.",
)
def table(pattern: str, scope: str, output: str) -> None:
    """Print every configuration key, or those whose name holds PATTERN."""
    keys = [key for key in SCOPES[scope]() if pattern in key.name and not key.internal]
    match output:
        case "json":
            print_json([_as_json(key) for key in keys])
        case "markdown":
            sys.stdout.write(markdown())
        case _:
            _print(keys)


def _print(keys: Sequence[ConfigKey]) -> None:
    rows = [
        (key.name, key.type.name.lower(), _shown(key.default), key.update_mode.value, key.effect.value) for key in keys
    ]
    print_table(("NAME", "TYPE", "DEFAULT", "CHANGED", "STATUS"), rows)


def _shown(default: str | None) -> str | None:
    return '""' if default == "" else default


def _as_json(key: ConfigKey) -> dict[str, object]:
    return {
        "name": key.name,
        "type": key.type.name,
        "default": key.default,
        "kafka_default": key.kafka_default,
        "importance": key.importance,
        "update_mode": key.update_mode.value,
        "rule": key.rule,
        "status": key.effect.value,
        "documentation": key.documentation,
    }

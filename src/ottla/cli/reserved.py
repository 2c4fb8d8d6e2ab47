"""`ottla acl`, `user`, `quota`: names kept for what is to come, so that nobody builds upon another meaning."""

from typing import Final

import click

from ottla.cli.options import HELP_NAMES

WHAT: Final = {
    "acl": "who may do what",
    "user": "users and their SCRAM credentials",
    "quota": "limits on clients",
}


def _reserve(name: str) -> click.Command:
    @click.command(
        name=name,
        context_settings={**HELP_NAMES, "ignore_unknown_options": True},
        help=f"Reserved for {WHAT[name]}: not a command yet.",
        hidden=True,
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:
        del arguments
        raise click.UsageError(
            f"`ottla {name}` is reserved for {WHAT[name]} and does nothing yet; "
            "`ottla.client.Admin` and Apache Kafka's own tools do this against any cluster."
        )

    return command


acl, user, quota = map(_reserve, WHAT)

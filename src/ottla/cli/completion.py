"""`ottla completion`: the script that teaches a shell our commands, options, and the names on the cluster."""

from typing import Final

import click

from ottla.cli.options import HELP_NAMES

WHERE: Final = {
    "bash": '~/.bashrc:  eval "$(ottla completion bash)"',
    "zsh": '~/.zshrc:  eval "$(ottla completion zsh)"',
    "fish": "~/.config/fish/completions/ottla.fish:  ottla completion fish | source",
}


@click.command(
    name="completion",
    context_settings=HELP_NAMES,
    epilog="Put into " + "; ".join(WHERE.values()),
)
@click.argument("shell", type=click.Choice(list(WHERE)))
def command(shell: str) -> None:
    """Print the completion script for a SHELL. Topic and group names come from the cluster as it is."""
    from click.shell_completion import get_completion_class

    from ottla.cli.main import root

    completion = get_completion_class(shell)
    assert completion is not None
    script = completion(root, {}, "ottla", "_OTTLA_COMPLETE")
    # Not `source()`: bash's asks for its version, which matters where the script runs and not where it is printed.
    click.echo(script.source_template % script.source_vars())

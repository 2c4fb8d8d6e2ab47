"""The root of the command tree. Commands are imported when they run: `ottla --help` reads this table only.

Exit codes: 0 done; 1 the operation failed; 2 the command line or configuration is wrong; 3 the cluster cannot be
reached; 130 interrupted; 141 the reader of stdout went away.
"""

import errno
import os
import signal
import sys
from importlib import import_module
from typing import Any, Final

import click

from ottla import __version__

EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 failed, 2 wrong command line or configuration, 3 cluster not reachable, 130 interrupted, "
    "141 the reader of stdout went away."
)

COMMANDS: Final = {
    "bench": ("ottla.cli.bench", "Measure a cluster: produce, consume, latency."),
    "cluster": ("ottla.cli.cluster", "Brokers, quorum, log directories, features, health."),
    "completion": ("ottla.cli.completion", "Completion for bash, zsh and fish."),
    "config": ("ottla.cli.config", "Configurations; the table of all keys."),
    "consume": ("ottla.cli.consume", "Print the records of a topic."),
    "doctor": ("ottla.cli.doctor", "What is wrong with a cluster or a directory, in words."),
    "dump": ("ottla.cli.dump", "Read the files of a data directory."),
    "explain": ("ottla.cli.explain", "What an error of Kafka's means, and what to do."),
    "group": ("ottla.cli.group", "List, describe, move and delete groups of consumers."),
    "offsets": ("ottla.cli.offsets", "Where partitions begin and end."),
    "produce": ("ottla.cli.produce", "Send lines or JSON from stdin to a topic."),
    "profile": ("ottla.cli.profile", "Names for clusters."),
    "start": ("ottla.cli.start", "Run a broker."),
    "topic": ("ottla.cli.topic", "Create, list, describe, change, trim and delete topics."),
    "txn": ("ottla.cli.txn", "Transactions, and those that hang."),
}

RESERVED: Final = ("acl", "user", "quota")


class LazyGroup(click.Group):
    """A group whose commands are modules: a name is imported when it is called, not when it is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in RESERVED:
            reserved: click.Command = getattr(import_module("ottla.cli.reserved"), cmd_name)
            return reserved
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in (*COMMANDS, *RESERVED) and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in sorted(COMMANDS.items())])


@click.group(
    cls=LazyGroup,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ottla")
def root() -> None:
    """Ottla: Apache Kafka in Python. A durable event log that every Kafka client can use.

    Begin with `ottla start`; in another terminal `ottla produce TOPIC` and `ottla consume TOPIC`.
    """


def main() -> None:
    """The console script."""
    if "_OTTLA_COMPLETE" in os.environ:
        # The shell asks for completions: click answers and exits.
        root.main(prog_name="ottla")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line and turn what it raises into words on stderr and an exit code."""
    try:
        with root.make_context("ottla", arguments) as context:
            result = root.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        return _show(error)
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("interrupted\n")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        if error.errno == errno.EPIPE:
            return _reader_gone()
        return _explain(error)
    except Exception as error:
        return _explain(error)
    return result if isinstance(result, int) else 0


def _show(error: click.ClickException) -> int:
    """What is wrong with a command line, in the form of every error; a command without a verb shows its help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    lines = [("error", error.format_message()), ("fix", getattr(error, "fix", None))]
    context = getattr(error, "ctx", None)
    if context is not None:
        lines += [("usage", context.get_usage().removeprefix("Usage: ")), ("read", f"`{context.command_path} --help`")]
    sys.stderr.write("".join(f"{name}: {text}\n" for name, text in lines if text))
    return error.exit_code


def _explain(error: Exception) -> int:
    from ottla.cli.failures import explain

    text, code = explain(error)
    if text is None:
        raise error
    sys.stderr.write(text)
    return code


def _reader_gone() -> int:
    # The interpreter flushes stdout once more at its end: give it somewhere to go.
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
    return 128 + signal.SIGPIPE

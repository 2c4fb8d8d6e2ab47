"""`ottla start`: a broker in the foreground, until SIGINT or SIGTERM."""

import errno
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ottla.cli.output import say

if TYPE_CHECKING:
    import asyncio

    from ottla.config.broker import BrokerConfig
    from ottla.config.sources import Settings

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 9092


@click.command(name="start", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", help=f"Address to listen on.  [default: {DEFAULT_HOST}]")
@click.option("--port", type=click.IntRange(0, 65535), help=f"Port, 0 for a free one.  [default: {DEFAULT_PORT}]")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory.  [default: ./.ottla]")
@click.option("--ephemeral", is_flag=True, help="Keep data in a temporary directory and remove it at the end.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A server.properties or a .toml file.",
)
@click.option("-c", "assignments", metavar="KEY=VALUE", multiple=True, help="A configuration; repeatable.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="What to tell on stderr.",
)
def command(
    *,
    host: str | None,
    port: int | None,
    data: Path | None,
    ephemeral: bool,
    config_file: Path | None,
    assignments: tuple[str, ...],
    log_level: str,
) -> int:
    """Run a broker. When it can serve, the first line on stdout is `ready bootstrap=HOST:PORT`."""
    from ottla.runtime import collector

    collector.relax()
    import shutil
    import tempfile

    from ottla.config.broker import BrokerConfig
    from ottla.runtime import loop
    from ottla.runtime.telemetry import log_to_stderr

    if ephemeral and data is not None:
        raise click.UsageError("--data and --ephemeral exclude each other")
    log_to_stderr(log_level)
    settings = read_settings(host, port, data, config_file, assignments)
    temporary = tempfile.mkdtemp(prefix="ottla-") if ephemeral else None
    try:
        if temporary is not None:
            settings.add({"log.dirs": temporary}, "--ephemeral")
        config = BrokerConfig.parse(settings.values, settings.origins)
        return loop.run(_serve(config, ephemeral=ephemeral))
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def read_settings(
    host: str | None, port: int | None, data: Path | None, config_file: Path | None, assignments: tuple[str, ...]
) -> "Settings":
    """File, then ``-c``, then the options of their own: the later wins. Raises ``ConfigError``."""
    from ottla.config.key import ConfigError
    from ottla.config.sources import Settings

    settings = Settings()
    if config_file is not None:
        try:
            settings.add_file(config_file.read_text(encoding="utf-8"), str(config_file))
        except UnicodeDecodeError:
            raise ConfigError(str(config_file), "is not UTF-8 text", origin=str(config_file)) from None
    settings.add_assignments(assignments)
    if host is not None or port is not None:
        shown = DEFAULT_HOST if host is None else host
        address = f"[{shown}]" if ":" in shown else shown
        listener = f"PLAINTEXT://{address}:{DEFAULT_PORT if port is None else port}"
        settings.add({"listeners": listener}, "--host or --port")
        # What a file advertises belongs to the listeners of that file.
        settings.values.pop("advertised.listeners", None)
    if data is not None:
        settings.add({"log.dirs": str(data)}, "--data")
    return settings


async def _serve(config: "BrokerConfig", *, ephemeral: bool) -> int:
    import asyncio

    from ottla.broker.node import Node
    from ottla.runtime import collector
    from ottla.runtime.limits import raise_open_files_limit

    raise_open_files_limit()
    stop = asyncio.Event()
    _stop_on_signals(stop)
    node = Node(config, ephemeral=ephemeral)
    try:
        await node.start()
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
            return _explain_address(config, error)
        raise
    collector.settle()
    try:
        _greet(node.bootstrap)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(node.wait_stopped(), name="watch the node")
            await stop.wait()
            watch.cancel()
    finally:
        await node.stop()
    return 0


def _stop_on_signals(stop: "asyncio.Event") -> None:
    import asyncio

    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        stop.set()
        # The second signal is not asked to be patient.
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)


def _greet(bootstrap: str) -> None:
    sys.stdout.write(f"ready bootstrap={bootstrap}\n")
    if sys.stdout.isatty():
        option = "" if bootstrap == f"{DEFAULT_HOST}:{DEFAULT_PORT}" else f" -b {bootstrap}"
        sys.stdout.write(
            f"  ottla topic create hello{option}\n"
            f"  echo 'hello, world' | ottla produce hello{option}\n"
            f"  ottla consume hello -n 1{option}\n"
        )
    sys.stdout.flush()


def _explain_address(config: "BrokerConfig", error: OSError) -> int:
    listeners = ", ".join(f"{one.host or '*'}:{one.port}" for one in config.broker_listeners)
    if error.errno == errno.EADDRINUSE:
        port = config.broker_listeners[0].port
        say(f"error: {listeners} is taken by another process")
        say(f"fix: stop that one, or choose another port: `ottla start --port {port + 1}`, or 0 for any free one.")
    else:
        say(f"error: cannot listen on {listeners}: {error.strerror}")
        say("fix: choose an address of this machine with --host and a port above 1023 with --port.")
    return 1

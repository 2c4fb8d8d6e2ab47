"""`ottla doctor`: what is wrong with a cluster or a directory, in words, and what to do about it."""

import os
import sys
from pathlib import Path

import click

from ottla.cli.connection import Connection
from ottla.cli.options import HELP_NAMES, connection_options, output_option, run_client
from ottla.cli.output import print_data
from ottla.cli.rows import ClusterHealth, HealthRow


@click.command(name="doctor", context_settings=HELP_NAMES)
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False, exists=True))
@connection_options
@output_option(ClusterHealth)
def command(directory: Path | None, *, connection: Connection, output: str) -> int:
    """Examine a running cluster, or with DIRECTORY the files of a broker that does not run.

    Looks at the machine first. Reads only. The exit code is 1 if something needs attention, 3 if the cluster cannot be
    reached.
    """
    import msgspec

    from ottla.cli.cluster import print_health
    from ottla.cli.judging import judge_cluster, verdict

    rows = _machine()
    if directory is not None:
        from ottla.cli.autopsy import judge_directory

        rows += judge_directory(directory)
    else:

        async def examine() -> ClusterHealth:
            async with connection.admin() as admin:
                return await judge_cluster(admin, deep=True)

        rows += run_client(examine()).checks
    found = verdict(rows)
    if output in ("table", "wide"):
        print_health(found)
    else:
        print_data(output, msgspec.to_builtins(found))
    return 0 if found.healthy else 1


def _machine() -> list[HealthRow]:
    import importlib.metadata

    from ottla import __version__
    from ottla.cli.judging import ok, warning

    version = ".".join(map(str, sys.version_info[:3]))
    rows = [ok("ottla", f"{__version__}, Python {version}, {os.cpu_count()} processors")]
    try:
        rows.append(ok("event loop", f"uvloop {importlib.metadata.version('uvloop')}"))
    except importlib.metadata.PackageNotFoundError:
        rows.append(warning("event loop", "asyncio's own", "`pip install uvloop` makes broker and clients faster."))
    try:
        import resource
    except ImportError:
        return rows
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < 4096:
        fix = f"`ulimit -n {hard if hard > 0 else 65536}` before starting a broker: it keeps files of segments open."
        rows.append(warning("open files", f"at most {soft}", fix))
    else:
        rows.append(ok("open files", "no limit" if soft < 0 else f"at most {soft}"))
    return rows

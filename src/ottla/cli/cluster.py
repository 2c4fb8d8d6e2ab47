"""`ottla cluster`: info, health, brokers, quorum, logdirs, features, apis."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import click

from ottla.cli.connection import Connection
from ottla.cli.options import HELP_NAMES, connection_options, output_option, run_client
from ottla.cli.output import (
    GREEN,
    RED,
    YELLOW,
    Column,
    moment,
    print_columns,
    print_data,
    print_pairs,
    put,
    show_all,
    size_text,
    style,
)
from ottla.cli.rows import ApiRow, BrokerRow, ClusterHealth, ClusterInfo, FeatureRow, LogDirRow, Quorum

if TYPE_CHECKING:
    from ottla.client import Admin

BROKERS: Final = (
    Column("NODE", lambda row: row.node_id),
    Column("ADDRESS", lambda row: f"{row.host}:{row.port}"),
    Column("RACK", lambda row: row.rack),
    Column("CONTROLLER", lambda row: row.controller),
    Column("FENCED", lambda row: row.fenced),
    Column("LEADERS", lambda row: row.leaders, wide=True),
    Column("REPLICAS", lambda row: row.replicas, wide=True),
)
REPLICAS: Final = (
    Column("NODE", lambda row: row.node_id),
    Column("ROLE", lambda row: row.role),
    Column("LOG-END", lambda row: row.log_end_offset),
    Column("LAG", lambda row: row.lag),
    Column("LAST-CAUGHT-UP", lambda row: moment(row.last_caught_up_ms)),
    Column("LAST-FETCH", lambda row: moment(row.last_fetch_ms), wide=True),
    Column("DIRECTORY", lambda row: row.directory_id, wide=True),
)
DIRECTORIES: Final = (
    Column("BROKER", lambda row: row.broker),
    Column("DIRECTORY", lambda row: row.directory),
    Column("STATE", lambda row: row.error or "online"),
    Column("PARTITIONS", lambda row: row.partitions),
    Column("SIZE", lambda row: size_text(row.size)),
    Column("DISK-FREE", lambda row: None if row.usable_bytes is None else size_text(row.usable_bytes)),
    Column("DISK", lambda row: None if row.total_bytes is None else size_text(row.total_bytes), wide=True),
    Column("LARGEST", lambda row: row.largest, wide=True),
)
FEATURES: Final = (
    Column("FEATURE", lambda row: row.feature),
    Column("FINALIZED", lambda row: row.finalized),
    Column("SUPPORTED", lambda row: f"{row.min_supported}-{row.max_supported}"),
)
APIS: Final = (
    Column("API", lambda row: row.api),
    Column("KEY", lambda row: row.key),
    Column("VERSIONS", lambda row: f"{row.min_version}-{row.max_version}"),
    Column("USED", lambda row: row.used),
)


@click.group(name="cluster", context_settings=HELP_NAMES)
def command() -> None:
    """The cluster as a whole: brokers, quorum, log directories, features, health."""


@command.command()
@connection_options
@output_option(ClusterInfo)
def info(*, connection: Connection, output: str) -> None:
    """Who is in the cluster and what it holds."""
    from ottla.cli.calls import cluster as calls

    found: ClusterInfo = run_client(_with(connection, calls.describe_cluster))
    if output not in ("table", "wide"):
        _data(output, found)
        return
    print_pairs(
        (
            ("cluster", found.cluster_id),
            ("controller", None if found.controller < 0 else found.controller),
            ("topics", found.topics),
            ("partitions", found.partitions),
            ("under-replicated", found.under_replicated),
            ("without leader", found.offline),
        )
    )
    put("\n")
    print_columns(found.brokers, BROKERS, wide=output == "wide")


@command.command()
@connection_options
@output_option(list[BrokerRow])
def brokers(*, connection: Connection, output: str) -> None:
    """List brokers, fenced ones too where the cluster tells of them."""
    from ottla.cli.calls import cluster as calls

    show_all(output, run_client(_with(connection, calls.describe_cluster)).brokers, BROKERS)


@command.command()
@connection_options
@output_option(ClusterHealth)
def health(*, connection: Connection, output: str) -> int:
    """Judge the cluster. The exit code is 1 if something needs attention."""
    from ottla.cli.judging import judge_cluster

    found: ClusterHealth = run_client(_with(connection, judge_cluster))
    if output in ("table", "wide"):
        print_health(found)
    else:
        _data(output, found)
    return 0 if found.healthy else 1


@command.command()
@connection_options
@output_option(Quorum)
def quorum(*, connection: Connection, output: str) -> None:
    """Voters and observers of the metadata log, and how far behind each is."""
    from ottla.cli.calls import cluster as calls

    found: Quorum = run_client(_with(connection, calls.describe_quorum))
    if output not in ("table", "wide"):
        _data(output, found)
        return
    print_pairs((("leader", found.leader), ("epoch", found.leader_epoch), ("high watermark", found.high_watermark)))
    put("\n")
    print_columns(found.replicas, REPLICAS, wide=output == "wide")


@command.command()
@click.option("--broker", "node_ids", type=int, multiple=True, metavar="ID", help="Only this one's; repeatable.")
@connection_options
@output_option(list[LogDirRow])
def logdirs(node_ids: tuple[int, ...], *, connection: Connection, output: str) -> None:
    """Log directories of the brokers: state, size, room on the disk."""
    from ottla.cli.calls import cluster as calls

    rows = run_client(_with(connection, lambda admin: calls.log_directories(admin, node_ids)))
    show_all(output, rows, DIRECTORIES)


@command.command()
@connection_options
@output_option(list[FeatureRow])
def features(*, connection: Connection, output: str) -> None:
    """Features of the cluster: the level settled on, the levels possible."""
    from ottla.cli.calls import cluster as calls

    show_all(output, run_client(_with(connection, calls.features)), FEATURES)


@command.command()
@connection_options
@output_option(list[ApiRow])
def apis(*, connection: Connection, output: str) -> None:
    """The APIs that a broker serves, and the version this command speaks of each."""
    from ottla.cli.calls import cluster as calls

    async def ask() -> list[ApiRow]:
        async with connection.cluster() as cluster:
            return await calls.api_versions(cluster)

    show_all(output, run_client(ask()), APIS)


def print_health(found: ClusterHealth) -> None:
    """Findings, a line each, what is wrong first; what is to be done about several alike is said once."""
    from itertools import groupby

    marks = {"ok": style("ok  ", GREEN), "warning": style("warn", YELLOW), "error": style("FAIL", RED)}
    order = {"error": 0, "warning": 1, "ok": 2}
    rows = sorted(found.checks, key=lambda one: order[one.severity])
    for (severity, check, fix), alike in groupby(rows, key=lambda one: (one.severity, one.check, one.fix)):
        for row in alike:
            put(f"{marks[severity]}  {check}: {row.finding}\n")
        if fix is not None:
            put(f"      fix: {fix}\n")
    put((style("healthy", GREEN) if found.healthy else style("needs attention", RED)) + "\n")


async def _with(connection: Connection, act: "Callable[[Admin], Awaitable[Any]]") -> Any:
    async with connection.admin() as admin:
        return await act(admin)


def _data(output: str, value: Any) -> None:
    import msgspec

    print_data(output, msgspec.to_builtins(value))

"""`ottla txn`: list, describe, producers, find-hanging, abort."""

import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import click

from ottla.cli.connection import Connection
from ottla.cli.options import (
    HELP_NAMES,
    Failure,
    complete_topic,
    confirm,
    connection_options,
    output_option,
    run_client,
    states_option,
    yes_option,
)
from ottla.cli.output import Column, moment, print_data, print_pairs, say, show_all
from ottla.cli.rows import ProducerRow, Transaction, TransactionRow

if TYPE_CHECKING:
    from ottla.client import Admin
    from ottla.model import TopicPartition

STATES: Final = (
    *("Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"),
    *("PrepareEpochFence", "Dead"),
)
HANGING_AFTER: Final = "15m"
TRANSACTIONS: Final = (
    Column("TRANSACTIONAL-ID", lambda row: row.transactional_id),
    Column("STATE", lambda row: row.state),
    Column("PRODUCER", lambda row: row.producer_id),
)
PRODUCERS: Final = (
    Column("TOPIC", lambda row: row.topic),
    Column("PARTITION", lambda row: row.partition),
    Column("PRODUCER", lambda row: row.producer_id),
    Column("EPOCH", lambda row: row.producer_epoch),
    Column("OPEN-SINCE", lambda row: row.open_since_offset),
    Column("LAST", lambda row: moment(row.last_ms)),
    Column("SEQUENCE", lambda row: row.last_sequence, wide=True),
    Column("COORDINATOR-EPOCH", lambda row: row.coordinator_epoch, wide=True),
)


@click.group(name="txn", context_settings=HELP_NAMES)
def command() -> None:
    """Transactions: list, describe, find those that hang, end them."""


@command.command(name="list")
@states_option(STATES)
@click.option("--longer-than", metavar="DURATION", help="Only those open for longer, 10m say.")
@connection_options
@output_option(list[TransactionRow])
def list_transactions(states: tuple[str, ...], longer_than: str | None, *, connection: Connection, output: str) -> None:
    """List transactional ids."""
    from ottla.cli.calls import transactions as calls

    longer_ms = None if longer_than is None else _duration(longer_than)
    rows = run_client(_with(connection, lambda admin: calls.list_transactions(admin, states, longer_ms)))
    show_all(output, rows, TRANSACTIONS)


@command.command()
@click.argument("name")
@connection_options
@output_option(Transaction)
def describe(name: str, *, connection: Connection, output: str) -> None:
    """Describe the transactional id NAME."""
    import msgspec

    from ottla.cli.calls import transactions as calls

    found: Transaction = run_client(_with(connection, lambda admin: calls.describe_transaction(admin, name)))
    if output not in ("table", "wide"):
        print_data(output, msgspec.to_builtins(found))
        return
    print_pairs(
        (
            ("transactional id", found.transactional_id),
            ("state", found.state),
            ("producer", f"{found.producer_id} epoch {found.producer_epoch}"),
            ("coordinator", found.coordinator),
            ("timeout", f"{found.timeout_ms} ms"),
            ("started", moment(found.started_ms)),
            ("partitions", found.partitions),
        )
    )


@command.command()
@click.argument("topic", shell_complete=complete_topic)
@connection_options
@output_option(list[ProducerRow])
def producers(topic: str, *, connection: Connection, output: str) -> None:
    """List the producers that the partitions of TOPIC know, open transactions among them."""
    from ottla.cli.calls import transactions as calls

    async def look(admin: "Admin") -> list[ProducerRow]:
        return await calls.producers(admin, await _places(admin, topic))

    show_all(output, run_client(_with(connection, look)), PRODUCERS)


@command.command(name="find-hanging")
@click.option("--topic", metavar="TOPIC", help="Look here only.", shell_complete=complete_topic)
@click.option("--older-than", default=HANGING_AFTER, show_default=True, metavar="DURATION", help="Open for longer.")
@connection_options
@output_option(list[ProducerRow])
def find_hanging(topic: str | None, older_than: str, *, connection: Connection, output: str) -> None:
    """Find transactions that no coordinator will end: they keep readers of committed records waiting."""
    rows = run_client(_with(connection, lambda admin: _hanging(admin, topic, _duration(older_than))))
    show_all(output, rows, PRODUCERS)


@command.command()
@click.argument("topic", shell_complete=complete_topic)
@click.argument("partition", type=click.IntRange(0))
@click.option("--start-offset", type=click.IntRange(0), required=True, help="Where it begins: OPEN-SINCE.")
@click.option("--force", is_flag=True, help="Even if its coordinator may still end it.")
@yes_option
@connection_options
def abort(topic: str, partition: int, *, start_offset: int, force: bool, yes: bool, connection: Connection) -> None:
    """Abort the hanging transaction of a PARTITION of TOPIC that begins at --start-offset."""
    from ottla.cli.calls import transactions as calls
    from ottla.model import TopicPartition

    async def find(admin: "Admin") -> ProducerRow:
        place = [TopicPartition(topic, partition)]
        rows = await (calls.producers(admin, place) if force else calls.hanging(admin, place, 0, _now()))
        found = [row for row in rows if row.open_since_offset == start_offset]
        if not found:
            what = "open" if force else "hanging"
            raise Failure(
                f"no {what} transaction of {topic}-{partition} begins at offset {start_offset}",
                f"`ottla txn producers {topic}` shows open ones, `ottla txn find-hanging` those nobody will end.",
            )
        return found[0]

    row = run_client(_with(connection, find))
    preview = (
        f"{topic}-{partition}: producer {row.producer_id} epoch {row.producer_epoch}, open since offset "
        f"{row.open_since_offset}, last heard of {moment(row.last_ms)}"
    )
    confirm("Abort this transaction? Its records will never be read as committed.", [preview], yes=yes)

    place = TopicPartition(topic, partition)
    run_client(_with(connection, lambda admin: admin.abort_transaction(place, start_offset)))
    say(f"aborted the transaction of producer {row.producer_id} on {topic}-{partition}")
    sys.stderr.flush()


async def _hanging(admin: "Admin", topic: str | None, older_ms: int) -> list[ProducerRow]:
    from ottla.cli.calls import transactions as calls

    return await calls.hanging(admin, await _places(admin, topic), older_ms, _now())


async def _places(admin: "Admin", name: str | None) -> "list[TopicPartition]":
    from ottla.cli.judging import led

    topics = await (admin.list_topics(internal=True) if name is None else admin.describe_topics([name]))
    without = sum(one.leader < 0 for topic in topics for one in topic.partitions.values())
    if without:
        sys.stderr.write(f"warning: {without} partitions have no leader to ask: `ottla doctor` names them\n")
    return led(topics)


async def _with(connection: Connection, act: "Callable[[Admin], Awaitable[Any]]") -> Any:
    async with connection.admin() as admin:
        return await act(admin)


def _duration(text: str) -> int:
    from ottla.cli.places import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _now() -> int:
    return int(time.time() * 1000)

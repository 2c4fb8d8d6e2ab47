"""`ottla bench`: how fast this cluster takes records, gives them, and passes one on, as seen from here."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from ottla.cli.connection import Connection
from ottla.cli.options import HELP_NAMES, complete_topic, connection_options, output_option, run_client
from ottla.cli.output import Progress, print_data, print_pairs, size_text
from ottla.cli.rows import BenchResult

if TYPE_CHECKING:
    from ottla.client import Admin, Producer

CHUNK_RECORDS: Final = 2000
WARM_UP_RECORDS: Final = 50
SECONDS_MAX: Final = 600.0

size_option: Final = click.option(
    "-s", "--size", type=click.IntRange(0), default=100, show_default=True, help="Bytes of a record's value."
)
keep_option: Final = click.option("--keep", is_flag=True, help="Keep the topic that was made for this.")
partitions_option: Final = click.option(
    "-p", "--partitions", type=click.IntRange(1), default=1, show_default=True, help="Of the topic made for this."
)
compression_option: Final = click.option(
    "-z",
    "--compression",
    type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]),
    default="none",
    show_default=True,
    help="Codec of the batches.",
)


def records_option(default: int) -> Callable[[Any], Any]:
    """``-n``: how many records."""
    return click.option(
        "-n", "--records", type=click.IntRange(1), default=default, show_default=True, help="How many records."
    )


@click.group(name="bench", context_settings=HELP_NAMES)
def command() -> None:
    """Measure a cluster from here: one producer or consumer of this process, topics made and deleted again.

    Figures are of this client and the way to the cluster too. Measure twice, and on a machine that does nothing else.
    """


@command.command()
@records_option(500_000)
@size_option
@partitions_option
@compression_option
@click.option(
    "--acks", type=click.Choice(["all", "1", "0"]), default="all", show_default=True, help="Who must have it."
)
@click.option("--topic", metavar="TOPIC", help="Send to this one, and keep it.", shell_complete=complete_topic)
@keep_option
@connection_options
@output_option(BenchResult)
def produce(*, topic: str | None, keep: bool, connection: Connection, output: str, **options: Any) -> None:
    """Send records as fast as they are taken, all acknowledged."""

    async def measure(name: str) -> BenchResult:
        return await _produce(connection, name, options)

    _run(connection, measure, topic, options["partitions"], keep=keep, output=output)


@command.command()
@records_option(500_000)
@size_option
@partitions_option
@compression_option
@click.option("--topic", metavar="TOPIC", help="Read what this one has.", shell_complete=complete_topic)
@keep_option
@connection_options
@output_option(BenchResult)
def consume(*, topic: str | None, keep: bool, connection: Connection, output: str, **options: Any) -> None:
    """Read records as fast as they come, in columns. Without --topic they are sent first, which is not measured."""

    async def measure(name: str) -> BenchResult:
        if topic is None:
            await _produce(connection, name, {**options, "acks": "all"})
        return await _consume(connection, name, options["records"])

    _run(connection, measure, topic, options["partitions"], keep=keep, output=output)


@command.command()
@records_option(2_000)
@size_option
@partitions_option
@click.option("--rate", type=click.IntRange(1), default=200, show_default=True, help="Records in a second.")
@keep_option
@connection_options
@output_option(BenchResult)
def latency(*, keep: bool, connection: Connection, output: str, **options: Any) -> None:
    """From sending a record to having it back from a consumer, at a steady rate."""

    async def measure(name: str) -> BenchResult:
        return await _latency(connection, name, options)

    _run(connection, measure, None, options["partitions"], keep=keep, output=output)


def _run(
    connection: Connection,
    measure: Callable[[str], Awaitable[BenchResult]],
    topic: str | None,
    partitions: int,
    *,
    keep: bool,
    output: str,
) -> None:
    result = run_client(_with_topic(connection, measure, topic, partitions, keep=keep or topic is not None))
    if output not in ("table", "wide"):
        import msgspec

        print_data(output, msgspec.to_builtins(result))
        return
    pairs: list[tuple[str, object]] = [
        ("records", f"{result.records:,} of {result.record_bytes:,} B in {result.seconds:.2f} s"),
        ("rate", f"{result.records_per_second:,.0f} records/s, {size_text(int(result.bytes_per_second))}/s"),
    ]
    if result.p50_ms is not None:
        quantiles = (
            f"p50 {result.p50_ms:.2f}, p95 {result.p95_ms:.2f}, p99 {result.p99_ms:.2f}, max {result.max_ms:.2f}"
        )
        pairs.append(("latency ms", quantiles))
    print_pairs(pairs)


async def _with_topic(
    connection: Connection,
    measure: Callable[[str], Awaitable[BenchResult]],
    topic: str | None,
    partitions: int,
    *,
    keep: bool,
) -> BenchResult:
    import asyncio

    name = topic or f"ottla-bench-{time.time_ns():x}"
    async with connection.admin() as admin, asyncio.timeout(SECONDS_MAX):
        if topic is None:
            try:
                await admin.create_topic(name, partitions=partitions)
            except asyncio.CancelledError:
                # The cluster has been asked: the topic may appear a moment later.
                await _discard(admin, name, tries=10)
                raise
        else:
            await admin.describe_topics([topic])
        try:
            return await measure(name)
        finally:
            if not keep:
                await _discard(admin, name)


async def _discard(admin: "Admin", name: str, tries: int = 1) -> None:
    import asyncio

    for attempt in range(tries):
        if attempt:
            await asyncio.sleep(0.1)
        if (await admin.delete_topics([name]))[name] is None:
            return


async def _produce(connection: Connection, topic: str, options: dict[str, Any]) -> BenchResult:
    from ottla.client import Delivery

    acks = options["acks"]
    arguments = {"acks": acks if acks == "all" else int(acks), "compression": options["compression"]}
    total, size = options["records"], options["size"]
    values = _values(size)
    async with connection.producer(linger_ms=5, batch_size=256 * 1024, **arguments) as producer:
        await _warm_up(producer, topic, values)
        progress, delivery, sent = Progress("sent", total=total), Delivery(), 0
        began = time.perf_counter()
        while sent < total:
            chunk = values[: min(len(values), total - sent)]
            await producer.send_many(topic, chunk, delivery=delivery)
            sent += len(chunk)
            progress.add(len(chunk), len(chunk) * size)
            if delivery.error is not None:
                raise delivery.error
        await producer.flush()
        await delivery.wait()
        seconds = time.perf_counter() - began
        progress.end()
    return _result("produce", topic, total, size, seconds)


async def _consume(connection: Connection, topic: str, wanted: int) -> BenchResult:
    progress, count, size = Progress("read"), 0, 0
    async with connection.consumer(topics=[topic], auto_offset_reset="earliest", fetch_max_wait_ms=100) as consumer:
        ends = await consumer.end_offsets()
        starts = await consumer.start_offsets()
        there = sum(ends.values()) - sum(starts.values())
        progress.total = target = min(wanted, there)
        began = time.perf_counter()
        while count < target:
            before, size_before = count, size
            for batch in await consumer.poll(1.0):
                count += len(batch)
                # As columns: what is measured is the way from the broker, not the making of objects.
                size += sum(length for length in batch.values.sizes if length > 0)
            if count == before and all(consumer.position(place) >= end for place, end in ends.items()):
                break
            progress.add(count - before, size - size_before)
        seconds = time.perf_counter() - began
        progress.end()
    return _result("consume", topic, count, size // max(count, 1), seconds)


async def _latency(connection: Connection, topic: str, options: dict[str, Any]) -> BenchResult:
    import asyncio

    total, size, rate = options["records"], options["size"], options["rate"]
    samples: list[float] = []
    consumer = connection.consumer(topics=[topic], auto_offset_reset="latest", fetch_max_wait_ms=500)
    async with consumer, connection.producer(linger_ms=0) as producer:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(_receive(consumer, total + WARM_UP_RECORDS, samples))
            for index in range(total + WARM_UP_RECORDS):
                due = began + index / rate
                ahead = due - time.perf_counter()
                if ahead > 0:
                    await asyncio.sleep(ahead)
                # Measured from when it was due: a stall is not hidden by the records that were not sent in it.
                stamp = max(due, began).hex().encode()
                await producer.send_soon(topic, stamp.ljust(size))
        seconds = time.perf_counter() - began
    return _result("latency", topic, total, size, seconds, sorted(samples[WARM_UP_RECORDS:]))


async def _receive(consumer: Any, total: int, samples: list[float]) -> None:
    while len(samples) < total:
        for batch in await consumer.poll(1.0):
            now = time.perf_counter()
            samples += [(now - float.fromhex(record.value.decode())) * 1000 for record in batch]


async def _warm_up(producer: "Producer", topic: str, values: Sequence[bytes]) -> None:
    for value in values[:WARM_UP_RECORDS]:
        await producer.send_soon(topic, value)
    await producer.flush()


def _values(size: int) -> list[bytes]:
    """Values that differ, so that a codec has something to do."""
    return [
        (b"%016x" % (index * 0x9E3779B97F4A7C15 & (1 << 64) - 1) * (size // 16 + 1))[:size]
        for index in range(CHUNK_RECORDS)
    ]


def _result(
    what: str, topic: str, records: int, size: int, seconds: float, samples: Sequence[float] = ()
) -> BenchResult:
    def quantile(share: float) -> float | None:
        return round(samples[min(len(samples) - 1, int(len(samples) * share))], 3) if samples else None

    rate = records / seconds if seconds else 0.0
    return BenchResult(
        what=what,
        topic=topic,
        records=records,
        record_bytes=size,
        seconds=round(seconds, 4),
        records_per_second=round(rate, 1),
        bytes_per_second=round(rate * size, 1),
        p50_ms=quantile(0.5),
        p95_ms=quantile(0.95),
        p99_ms=quantile(0.99),
        max_ms=quantile(1.0),
    )

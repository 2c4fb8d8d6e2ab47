"""How long a node takes to come back: `python bench/restart.py` (1 GiB after kill -9), `--partitions 1000 --clean`.

One topic is filled with batches of 16 KB, the node is killed (or stopped), and started again and again. After every
round what the node knew of its disk is put back, so that each start has all of it to check. Measured are the time from
the start of the process to the ready line, and to a fetch of the last record of every partition. Prints a table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
for place in (HERE, HERE.parent / "tests", HERE.parent / "tools"):
    sys.path.insert(0, str(place))

from harness.clusters import BENCH_SERVER_FLAGS, ApacheNode, OttlaNode  # noqa: E402  # the path above comes first
from harness.raw import build_batch, retry  # noqa: E402  # the path above comes first

TOPIC = "filled"
BATCH_BYTES = 16 * 1024
RECORDS = 16
CHECKPOINT = "recovery-point-offset-checkpoint"
CLEAN = ".kafka_cleanshutdown"
Node = ApacheNode | OttlaNode


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rows = ["| node | ready p50 s | ready p95 s | fetched p50 s | fetched p95 s |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="ottla-restart-") as scratch:
        for kind in options.kind or ["ottla"]:
            node = _make(kind, Path(scratch) / kind)
            try:
                samples = _measure(node, options)
            finally:
                node.kill()
            shutil.rmtree(node.data)
            cells = [f"{value:.2f}" for column in zip(*samples, strict=True) for value in _summary(column)]
            rows.append(f"| {kind} | " + " | ".join(cells) + " |")
    print("\n".join(rows))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=("ottla", "apache"), help="may be given again")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--clean", action="store_true", help="stop the node in order instead of killing it")
    parser.add_argument("--scratch", type=Path, help="where the data directories go (default: the temporary directory)")
    return parser.parse_args(arguments)


def _make(kind: str, data: Path) -> Node:
    if kind == "apache":
        return ApacheNode(data, flags=BENCH_SERVER_FLAGS)
    return OttlaNode(data)


def _measure(node: Node, options: argparse.Namespace) -> list[tuple[float, float]]:
    node.start()
    ends = _fill(node, options.partitions, options.mebibytes << 20)
    samples = []
    known: bytes | None = None
    for _ in range(options.rounds):
        if options.clean:
            node.stop()
        else:
            node.kill()
            assert not (node.data / CLEAN).exists()
            known = _put_back(node.data / CHECKPOINT, known)
        samples.append(_start(node, ends))
        print(f"{node.kind}: ready {samples[-1][0]:.2f} s, fetched {samples[-1][1]:.2f} s", file=sys.stderr, flush=True)
    return samples


def _fill(node: Node, partitions: int, size: int) -> list[int]:
    """The end of each partition."""
    batch = build_batch([os.urandom(BATCH_BYTES // RECORDS - 16) for _ in range(RECORDS)])
    with node.connect(timeout=60.0) as connection:
        connection.create_topic(TOPIC, partitions)
        retry(lambda: [connection.end_offset(TOPIC, index) for index in range(partitions)], seconds=60.0)
        for number in range(max(size // len(batch), partitions)):
            connection.produce(TOPIC, number % partitions, batch, acks=1)
        for index in range(partitions):
            connection.produce(TOPIC, index, batch, acks=-1)
        return [connection.end_offset(TOPIC, index) for index in range(partitions)]


def _put_back(checkpoint: Path, known: bytes | None) -> bytes:
    if known is None:
        return checkpoint.read_bytes() if checkpoint.exists() else b""
    if known:
        checkpoint.write_bytes(known)
    else:
        checkpoint.unlink(missing_ok=True)
    return known


def _start(node: Node, ends: Sequence[int]) -> tuple[float, float]:
    begin = time.monotonic()
    node.start()
    ready = time.monotonic() - begin
    with node.connect(timeout=60.0) as connection:

        def fetch_all() -> None:
            for index, end in enumerate(ends):
                _, records = connection.fetch(TOPIC, index, end - 1)
                assert records[-1].offset == end - 1, (index, end, records[-1].offset)

        retry(fetch_all, seconds=60.0)
    return ready, time.monotonic() - begin


def _summary(values: Sequence[float]) -> tuple[float, float]:
    """The median, and the value at the 95th of a hundred."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]


if __name__ == "__main__":
    sys.exit(main())

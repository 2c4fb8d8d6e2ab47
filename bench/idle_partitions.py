"""What many partitions cost a node that does nothing: `python bench/idle_partitions.py --partitions 1000`.

Prints CPU in percent of a core over the measured time, resident memory, threads and open files, and how long starts
take after a clean stop and after kill -9.
"""

from __future__ import annotations

import argparse
import os
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

TOPIC = "idle"
Node = ApacheNode | OttlaNode


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=("ottla", "apache"), help="may be given again")
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the idle node is watched")
    options = parser.parse_args(arguments)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    print("| node | partitions | CPU % | RSS MB | threads | files | clean start s | unclean start s |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="ottla-idle-") as scratch:
        for kind in options.kind or ["ottla"]:
            data = Path(scratch) / kind
            node: Node = ApacheNode(data, flags=BENCH_SERVER_FLAGS) if kind == "apache" else OttlaNode(data)
            try:
                print(_row(node, options.partitions, options.seconds), flush=True)
            finally:
                node.kill()
    return 0


def _row(node: Node, partitions: int, seconds: float) -> str:
    node.start()
    _fill(node, partitions)
    time.sleep(3.0)
    before = node.usage()
    time.sleep(seconds)
    after = node.usage()
    percent = 100 * (after.cpu_seconds - before.cpu_seconds) / seconds
    threads = len(list(Path(f"/proc/{node.pid}/task").iterdir()))
    files = len(list(Path(f"/proc/{node.pid}/fd").iterdir()))
    node.stop()
    clean = _start(node, partitions)
    node.kill()
    unclean = _start(node, partitions)
    cells = (f"{percent:.1f}", f"{after.resident_bytes / 1e6:.0f}", str(threads), str(files))
    return f"| {node.kind} | {partitions} | {' | '.join(cells)} | {clean:.2f} | {unclean:.2f} |"


def _fill(node: Node, partitions: int) -> None:
    batch = build_batch([b"x" * 100])
    with node.connect(timeout=120.0) as connection:
        connection.create_topic(TOPIC, partitions)
        for index in range(partitions):
            retry(lambda index=index: connection.produce(TOPIC, index, batch, acks=-1), seconds=60.0)


def _start(node: Node, partitions: int) -> float:
    begin = time.monotonic()
    node.start()
    with node.connect(timeout=60.0) as connection:
        retry(lambda: [connection.end_offset(TOPIC, index) for index in range(partitions)], seconds=60.0)
    return time.monotonic() - begin


if __name__ == "__main__":
    sys.exit(main())

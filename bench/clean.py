"""Cleaning a compacted log, beside Apache Kafka: MB/s on the same files, and what producers notice of it meanwhile.

`python bench/clean.py [--mib 1024] [--rounds 3]` needs Java and the jars as `bench/compare.py` does. Each round fills a
partition by writing its segments, hands a copy to a node of each kind, lets it clean by taking back a compaction lag,
and takes the time until `cleaner-offset-checkpoint` says that it is done. A producer sends 1,000 records a second to
another topic before and during it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
for place in (HERE, HERE.parent / "tests", HERE.parent / "tools"):
    sys.path.insert(0, str(place))

from confluent_kafka.admin import (  # noqa: E402
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from harness.clusters import BENCH_SERVER_FLAGS, ApacheNode, OttlaNode  # noqa: E402
from harness.processes import wait_until  # noqa: E402
from loads import NativeClient  # noqa: E402  # the path above comes first
from ottla.config.log import LogConfig  # noqa: E402
from ottla.model import TopicPartition  # noqa: E402
from ottla.records.batch import Codec, iter_headers  # noqa: E402
from ottla.records.builder import BatchBuilder  # noqa: E402
from ottla.storage.log import Log  # noqa: E402

LAG_MS = 10**12
TOPIC = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": str(LAG_MS),
    "segment.bytes": str(64 * 1024 * 1024),
    "file.delete.delay.ms": "1000",
}
NODE = {"log.cleaner.backoff.ms": "200"}
BATCH_BYTES = 16_000
LATENCY_SECONDS = 4
CLEAN_SECONDS = 280


class Shape:
    """What the log is made of: values of a size, by a codec, over so many keys."""

    def __init__(self, name: str, size: int, codec: Codec, keys_share: float) -> None:
        self.name = name
        self.size = size
        self.codec = codec
        self.keys_share = keys_share


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("1 KB", 1000, Codec.NONE, 0.25),
        Shape("100 B", 100, Codec.NONE, 0.25),
        Shape("100 B lz4", 100, Codec.LZ4, 0.25),
    )
}


def fill(directory: Path, shape: Shape, size: int) -> None:
    """Append `size` bytes to the empty log in `directory`, as a producer with random keys would have."""
    config = LogConfig(cleanup_policy=frozenset(("compact",)), segment_bytes=int(TOPIC["segment.bytes"]))
    log = Log.open(directory, TopicPartition("state", 0), config, clean_shutdown=True)
    rng = Random(1)
    records = BATCH_BYTES // (shape.size + 30)
    keys = max(int(size / (shape.size + 30) * shape.keys_share), 1)
    values = [rng.randbytes(shape.size // 2).hex().encode() for _ in range(256)]
    now_ms = int(time.time() * 1000) - 3_600_000
    written = 0
    while written < size:
        builder = BatchBuilder(base_offset=log.log_end_offset, leader_epoch=0, codec=shape.codec)
        for _ in range(records):
            builder.append(now_ms, b"key-%012d" % rng.randrange(keys), values[rng.randrange(256)])
        batch = builder.build()
        log.append(batch, list(iter_headers(batch)), now_ms)
        written += builder.estimated_size
    log.roll(now_ms)
    batch = BatchBuilder(base_offset=log.log_end_offset, leader_epoch=0)
    batch.append(now_ms, b"last", b"")
    data = batch.build()
    log.append(data, list(iter_headers(data)), now_ms)
    log.close()


def prepare(data: Path, shape: Shape, size: int) -> None:
    """A data directory with the topics, filled."""
    node = OttlaNode(data, config={"log.cleaner.enable": "false"})
    node.start()
    try:
        with node.connect() as connection:
            connection.create_topic("state", 1, TOPIC)
            for topic in ("warm", "idle", "busy"):
                connection.create_topic(topic, 1)
    finally:
        node.stop()
    fill(data / "state-0", shape, size)


def run(kind: str, data: Path, native: NativeClient) -> dict[str, float]:
    """Clean the copy in `data` with a node of the kind."""
    config = NODE | ({"ottla.flush": "never"} if kind == "ottla-never" else {})
    node = (
        ApacheNode(data, config=config, flags=BENCH_SERVER_FLAGS)
        if kind == "apache"
        else OttlaNode(data, config=config)
    )
    size = sum(path.stat().st_size for path in (data / "state-0").glob("*.log"))
    node.start()
    try:
        native.run("latency", node.bootstrap, "warm", 1000, 3000, 100, acks="all", linger_ms="0")
        count = LATENCY_SECONDS * 1000
        idle = native.run("latency", node.bootstrap, "idle", 1000, count, 100, acks="all", linger_ms="0")
        admin = AdminClient({"bootstrap.servers": node.bootstrap})
        entry = ConfigEntry("min.compaction.lag.ms", "0", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, "state", incremental_configs=[entry])
        load = native.start("latency", node.bootstrap, "busy", 1000, count, 100, acks="all", linger_ms="0")
        begin = time.monotonic()
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(30)
        wait_until(lambda: clean_point(data) > 0, seconds=CLEAN_SECONDS, what="cleaning", pause=0.01)
        seconds = time.monotonic() - begin
        printed, _ = load.communicate(timeout=120)
        left = sum(path.stat().st_size for path in (data / "state-0").glob("*.log"))
    finally:
        node.stop()
    return {
        "mb_per_second": size / seconds / 1e6,
        "seconds": seconds,
        "left_mb": left / 1e6,
        "idle_p99_ms": idle["p99_ms"],
        "cleaning_p99_ms": json.loads(printed)["p99_ms"],
    }


def clean_point(data: Path) -> int:
    try:
        lines = (data / "cleaner-offset-checkpoint").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[2]) for line in lines if line.startswith("state 0 ")), 0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="size of the log, before compression")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", action="append", choices=list(SHAPES), help="default: all")
    parser.add_argument("--kind", action="append", choices=["apache", "ottla", "ottla-never"], help="default: all")
    parser.add_argument("--scratch", type=Path, help="where the data goes")
    options = parser.parse_args(arguments)
    kinds = options.kind or ["apache", "ottla", "ottla-never"]
    with tempfile.TemporaryDirectory(prefix="ottla-clean-", dir=options.scratch) as scratch:
        native = NativeClient(Path(scratch))
        for name in options.shape or SHAPES:
            found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
            prepare(Path(scratch) / "filled", SHAPES[name], options.mib << 20)
            for _ in range(options.rounds):
                for kind in kinds:
                    data = Path(scratch) / "data"
                    shutil.copytree(Path(scratch) / "filled", data)
                    os.sync()
                    found[kind].append(run(kind, data, native))
                    shutil.rmtree(data)
            shutil.rmtree(Path(scratch) / "filled")
            for kind in kinds:
                medians = {key: statistics.median(row[key] for row in found[kind]) for key in found[kind][0]}
                print(name, kind, " ".join(f"{key}={value:.1f}" for key, value in medians.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

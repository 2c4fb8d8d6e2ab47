"""Ottla's client beside confluent-kafka, aiokafka and kafka-python: one broker, one run, interleaved rounds.

    python bench/clients.py [--line consume] [--size 100] [--rounds 5] [--scale 1.0] [--cluster ottla|apache]

Every measurement is a process of its own. A round measures each client of a line once, the order rotating from round to
round; a ratio is the median of the rounds' ratios, so that what slows a round slows both of its sides. The table at the
end holds them against what is promised; the exit status is 1 if a promise was not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
for place in (HERE, HERE.parent / "tests", HERE.parent / "tools"):
    sys.path.insert(0, str(place))

import client_consume  # noqa: E402  # the path above comes first
import client_latency  # noqa: E402
import client_produce  # noqa: E402

LINES = ("consume", "produce", "many", "latency", "import")
SIZES = (100, 1000)
TOPIC_RECORDS = {100: 2_000_000, 1000: 600_000}
IMPORTS = {
    "ottla": "from ottla.client import Consumer, Producer",
    "confluent-kafka": "from confluent_kafka import Consumer, Producer",
    "aiokafka": "from aiokafka import AIOKafkaConsumer, AIOKafkaProducer",
    "kafka-python": "from kafka import KafkaConsumer, KafkaProducer",
}
CHILD_SECONDS = 240
# What one client did, by round: records a second, or milliseconds.
Samples = dict[tuple[str, int], dict[str, list[float]]]


class Promise(NamedTuple):
    """What is held of a measure: ``ours`` beside ``rival`` (``None``: by itself), at least or at most."""

    title: str
    measure: str
    ours: str
    rival: str | None
    must: float
    aim: float | None
    unit: str = "records/s"


PROMISES = (
    Promise("consume, record objects", "consume", "ottla", "aiokafka", 2.0, None),
    Promise("consume, record objects", "consume", "ottla", "confluent-kafka", 0.8, 1.5),
    Promise("consume, batches as columns", "consume", "ottla columns", "confluent-kafka", 2.0, 5.0),
    Promise("produce, each record's result", "produce", "ottla", "aiokafka", 2.0, None),
    Promise("produce, each record's result", "produce", "ottla", "confluent-kafka", 0.8, 1.3),
    Promise("produce, send_many", "many", "ottla", "confluent-kafka", 1.5, 3.0),
    Promise("end to end at 1,000/s, p50", "p50", "ottla", "confluent-kafka", 1.0, 0.7, "ms"),
    Promise("end to end at 1,000/s, p99", "p99", "ottla", "confluent-kafka", 1.0, 0.7, "ms"),
    Promise("import", "import", "ottla", None, 120.0, 80.0, "ms"),
)
MEASURES = {"latency": ("p50", "p99")}
"""What a line measures, where that is not what it is called."""


class Run:
    """The rounds of the chosen lines against one broker."""

    def __init__(self, options: argparse.Namespace, bootstrap: str) -> None:
        self.options = options
        self.bootstrap = bootstrap
        self.samples: Samples = {}
        self._topics = 0

    def measure(self) -> None:
        """All lines, round by round."""
        if "consume" in self.options.line:
            for size in self.options.size:
                client_consume.fill(self.bootstrap, _topic_to_read(size), size, self._topic_records(size))
        for number in range(self.options.rounds):
            for line in self.options.line:
                for size in (0,) if line == "import" else self.options.size:
                    getattr(self, f"_{line}")(number, size)
            print(f"round {number + 1} of {self.options.rounds} done", file=sys.stderr, flush=True)

    def _consume(self, number: int, size: int) -> None:
        for way in _turned(self._clients(client_consume.WAYS), number):
            task = client_consume.task_of(way, self.bootstrap, _topic_to_read(size), size, self._topic_records(size))
            self._note("consume", size, way, float(_child("consume", way, task)))

    def _produce(self, number: int, size: int) -> None:
        self._send("produce", "records", number, size)

    def _many(self, number: int, size: int) -> None:
        self._send("many", "many", number, size)

    def _send(self, measure: str, kind: str, number: int, size: int) -> None:
        for way in _turned(self._clients(client_produce.WAYS[kind]), number):
            known = self.samples.get((measure, size), {}).get(way)
            with self._topic(client_produce.PARTITIONS) as topic:
                seconds = 1.5 * self.options.scale
                rate = known[-1] if known else None
                task = client_produce.task_of(way, self.bootstrap, topic, size, rate=rate, seconds=seconds)
                self._note(measure, size, way, float(_child(kind, way, task)))

    def _latency(self, number: int, size: int) -> None:
        for way in _turned(self._clients(client_latency.SENDERS), number):
            with self._topic(1) as topic:
                task = client_latency.task_of(self.bootstrap, topic, size, 5.0 * self.options.scale)
                sender = _start("send", way, task)
                try:
                    p50, p99 = client_latency.percentiles(_child("read", way, task))
                    _result(sender)
                finally:
                    sender.kill()
                    sender.wait()
            self._note("p50", size, way, p50)
            self._note("p99", size, way, p99)

    def _import(self, number: int, size: int) -> None:
        for way in _turned(self._clients(IMPORTS), number):
            program = f"import time; t = time.perf_counter(); {IMPORTS[way]}; print(time.perf_counter() - t)"
            if number == 0:
                subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)  # compiled from now on
            times = [
                float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
                for _ in range(3)
            ]
            self._note("import", size, way, statistics.median(times) * 1000)

    def _clients(self, ways: Any) -> list[str]:
        return [way for way in ways if way.split()[0] in self.options.client]

    def _topic_records(self, size: int) -> int:
        return int(TOPIC_RECORDS.get(size, 300_000_000 // size) * self.options.scale)

    def _note(self, measure: str, size: int, way: str, value: float) -> None:
        self.samples.setdefault((measure, size), {}).setdefault(way, []).append(value)
        shown = f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"
        print(f"{measure} {size or ''} {way}: {shown}", file=sys.stderr, flush=True)

    @contextmanager
    def _topic(self, partitions: int) -> Iterator[str]:
        """A fresh topic, gone afterwards."""
        from ottla.client import Admin

        self._topics += 1
        name = f"bench-{self._topics}"

        async def create() -> None:
            async with Admin(self.bootstrap) as admin:
                await admin.create_topic(name, partitions=partitions, config={"file.delete.delay.ms": "1000"})

        async def delete() -> None:
            async with Admin(self.bootstrap) as admin:
                await admin.delete_topics([name])

        asyncio.run(create())
        try:
            yield name
        finally:
            asyncio.run(delete())


def _topic_to_read(size: int) -> str:
    return f"consume-{size}"


def _turned(ways: Sequence[str], number: int) -> list[str]:
    """The order of round ``number``."""
    start = number % len(ways) if ways else 0
    return [*ways[start:], *ways[:start]]


# A measurement in a process of its own


def _start(job: str, way: str, task: tuple[Any, ...]) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--child", json.dumps([job, way, task])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _result(process: subprocess.Popen[str]) -> Any:
    try:
        out, err = process.communicate(timeout=CHILD_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    if process.returncode != 0:
        raise RuntimeError(f"{process.args}: {err[-2000:]}")
    lines = out.splitlines() or [""]
    try:
        return json.loads(lines[-1])
    except json.JSONDecodeError as error:
        place = error.pos
        around = lines[-1][max(0, place - 60) : place + 60]
        told = f"{len(lines)} lines, {len(out)} characters, around {place}: {around!r}; {err[-500:]}"
        raise RuntimeError(f"{process.args}: no result in {told}") from error


def _child(job: str, way: str, task: tuple[Any, ...]) -> Any:
    return _result(_start(job, way, task))


def _as_child(text: str) -> None:
    job, way, task = json.loads(text)
    result: object
    if job == "consume":
        result = client_consume.WAYS[way](client_consume.Task(*task))
    elif job == "send":
        client_latency.SENDERS[way](client_latency.Task(*task))
        result = None
    elif job == "read":
        result = client_latency.READERS[way](client_latency.Task(*task))
    else:
        result = client_produce.WAYS[job][way](client_produce.Task(*task))
    print(json.dumps(result))


# What it comes to


def figures(samples: Samples) -> str:
    """A Markdown table of medians: what each client did, and how far ours is ahead."""
    rows = ["| measure | client | median | best | ottla is |", "|---|---|---|---|---|"]
    for (measure, size), ways in samples.items():
        falling = measure in ("p50", "p99", "import")
        name = f"{measure} {size} B" if size else measure
        for way, values in ways.items():
            best = min(values) if falling else max(values)
            ahead = "" if way.startswith("ottla") or "ottla" not in ways else f"{_ratio(ways['ottla'], values):.2f}x"
            rows.append(f"| {name} | {way} | {_shown(statistics.median(values))} | {_shown(best)} | {ahead} |")
    return "\n".join(rows)


def verdicts(samples: Samples) -> tuple[str, bool]:
    """A Markdown table of the promises, and whether every one that was measured is kept."""
    rows = ["| line | beside | ratio | rounds | must | aim | |", "|---|---|---|---|---|---|---|"]
    kept = True
    for promise in PROMISES:
        for (measure, size), ways in samples.items():
            if measure != promise.measure or promise.ours not in ways or (promise.rival or "ottla") not in ways:
                continue
            ours = ways[promise.ours]
            each = ours if promise.rival is None else _ratios(ours, ways[promise.rival])
            found = statistics.median(each)
            falling = promise.unit == "ms"
            met = _meets(found, promise.must, falling=falling)
            kept = kept and met
            aim = "" if promise.aim is None else "aim met" if _meets(found, promise.aim, falling=falling) else ""
            unit, sign = (" ms" if promise.rival is None else "x"), ("<=" if falling else ">=")
            title = f"{promise.title}, {size} B" if size else promise.title
            rows.append(
                f"| {title} | {promise.rival or ''} | {found:.2f}{unit} | {min(each):.2f} to {max(each):.2f} "
                f"| {sign} {promise.must:g}{unit} | {'' if promise.aim is None else f'{promise.aim:g}{unit}'} "
                f"| {aim or ('met' if met else 'MISSED')} |"
            )
    return "\n".join(rows), kept


def _meets(found: float, bound: float, *, falling: bool) -> bool:
    return found <= bound if falling else found >= bound


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(_ratios(ours, theirs))


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _facts(options: argparse.Namespace) -> Iterator[str]:
    from importlib.metadata import version

    from ottla.records import scan

    names = ("confluent-kafka", "aiokafka", "kafka-python", "uvloop")
    yield f"{options.cluster}, {os.cpu_count()} CPUs, Python {sys.version.split()[0]}, {options.rounds} rounds; " + (
        ", ".join(f"{name} {version(name)}" for name in names)
    )
    compiled = not str(scan.__file__).endswith(".py")
    yield f"ottla's scanner is {'compiled' if compiled else 'pure Python'}; all asyncio clients run on uvloop"
    yield client_consume.SETTINGS
    yield client_produce.SETTINGS
    yield client_latency.SETTINGS


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--line", nargs="+", choices=LINES, default=LINES, help="only these lines")
    parser.add_argument("--size", nargs="+", type=int, default=SIZES, help="bytes of a record's value")
    parser.add_argument("--client", nargs="+", choices=tuple(IMPORTS), default=tuple(IMPORTS), help="only these")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the length of each measurement")
    parser.add_argument("--cluster", choices=("ottla", "apache"), default="ottla")
    parser.add_argument("--config", action="append", default=[], metavar="KEY=VALUE", help="for the broker")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the chosen lines and print the tables."""
    options = _options(arguments)
    if options.child:
        _as_child(options.child)
        return 0
    # Users have compiled modules; an import that compiles its own would measure the compiler.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with _broker(options) as bootstrap:
        run = Run(options, bootstrap)
        run.measure()
    table, kept = verdicts(run.samples)
    print("\n".join(_facts(options)), figures(run.samples), table, sep="\n\n")
    return 0 if kept else 1


@contextmanager
def _broker(options: argparse.Namespace) -> Iterator[str]:
    from harness.clusters import BENCH_SERVER_FLAGS, make_node

    config = dict(pair.split("=", 1) for pair in options.config)
    flags: dict[str, object] = {"flags": BENCH_SERVER_FLAGS} if options.cluster == "apache" else {}
    with tempfile.TemporaryDirectory(prefix="ottla-bench-") as scratch:
        node = make_node(options.cluster, Path(scratch) / "data", config=config, **flags)
        node.start()
        try:
            yield node.bootstrap
        finally:
            node.stop()


if __name__ == "__main__":
    sys.exit(main())

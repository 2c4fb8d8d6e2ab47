"""Ottla beside Apache Kafka on the same machine in the same run: `python bench/compare.py --rounds 3`.

Rounds are interleaved (each measures every node of a line before the next begins, another one first each time), the
table shows medians and the ratio to Apache Kafka. All data directories lie side by side on one file system. JSON and
the table go to `bench/results/`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
for place in (HERE, HERE.parent / "tests", HERE.parent / "tools"):
    sys.path.insert(0, str(place))

import measure  # noqa: E402  # the path above comes first

Samples = dict[str, dict[str, dict[str, list[float]]]]
# Where less is better the ratio reads the same way: 0.5x is half of Apache Kafka's.
UNITS = {
    "records_per_second": "records/s",
    "cpu_seconds_per_gb": "broker CPU s/GB",
    "commits_per_second": "commits/s",
    "commit_p50_ms": "p50 ms a transaction",
    "join_ms": "ms to first record",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "seconds": "s to first ack",
    "idle_mb": "MB idle",
    "usable_ms": "ms to usable",
    "import_ms": "ms of import",
    "stop_ms": "ms to stop",
}

ALL_KINDS = (*measure.KINDS, *measure.EARLIER.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the chosen lines and print the table."""
    options = _options(arguments)
    # Users have compiled modules; a start that compiles its own would measure the compiler.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    lines = [name for name in measure.LINES if not options.line or any(part in name for part in options.line)]
    kinds = options.kind or [*measure.KINDS, *(measure.EARLIER.values() if options.earlier else ())]
    samples: Samples = {}
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="ottla-bench-") as scratch:
        bench = measure.Bench(scratch=Path(scratch), scale=options.scale, earlier=options.earlier)
        try:
            for number in range(options.rounds):
                for name in lines:
                    _measure_line(bench, name, kinds, samples, number)
                print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
        finally:
            bench.close()
    table = render(samples)
    print(table)
    _save(table, samples, options)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--line", action="append", help="only lines whose name has this text (may be given again)")
    parser.add_argument("--kind", action="append", choices=ALL_KINDS, help="only these nodes")
    parser.add_argument("--earlier", type=Path, help="the `ottla` command of an earlier version, to be measured beside")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of records of each run")
    parser.add_argument("--scratch", type=Path, help="where the data directories go (default: the temporary directory)")
    parser.add_argument("--name", default=time.strftime("%Y%m%d-%H%M%S", time.gmtime()), help="of the result files")
    parser.add_argument("--list", action="store_true", help="print the names of the lines")
    options = parser.parse_args(arguments)
    if not options.earlier and any(kind in measure.EARLIER.values() for kind in options.kind or ()):
        parser.error("--earlier says where the earlier version is")
    if options.list:
        print("\n".join(measure.LINES))
        parser.exit()
    return options


def _measure_line(bench: measure.Bench, name: str, kinds: Sequence[str], samples: Samples, number: int) -> None:
    run, able = measure.LINES[name]
    able = (*able, *(measure.EARLIER[kind] for kind in able if kind in measure.EARLIER and name != "fixture"))
    chosen = [kind for kind in able if kind in kinds]
    # What the one before leaves behind, deletions above all, does not always fall on the same.
    first = number % len(chosen) if chosen else 0
    for kind in (*chosen[first:], *chosen[:first]):
        try:
            values = run(bench, kind)
        except Exception as failure:
            print(f"{name}, {kind}: {type(failure).__name__}: {failure}", file=sys.stderr)
            continue
        for key, value in values.items():
            samples.setdefault(name, {}).setdefault(key, {}).setdefault(kind, []).append(value)
        shown = ", ".join(f"{value:.4g} {UNITS.get(key, key)}" for key, value in values.items())
        print(f"{name}, {kind}: {shown}", file=sys.stderr, flush=True)


def render(samples: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> str:
    """A Markdown table of medians; behind each of ours the ratio to Apache Kafka, or to the earlier version."""
    measured = {kind for values in samples.values() for by_kind in values.values() for kind in by_kind}
    kinds = [kind for kind in ALL_KINDS if kind in measured]
    rows = ["| line | unit | " + " | ".join(kinds) + " |", "|---|---|" + "---|" * len(kinds)]
    for name, values in samples.items():
        for key, by_kind in values.items():
            medians = {kind: statistics.median(found) for kind, found in by_kind.items()}
            cells = [_cell(kind, medians) for kind in kinds]
            rows.append(f"| {name} | {UNITS.get(key, key)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _cell(kind: str, medians: Mapping[str, float]) -> str:
    if kind not in medians:
        return ""
    median = medians[kind]
    reference = medians.get("apache" if "apache" in medians else measure.EARLIER.get(kind, ""), 0.0)
    ratio = f" ({median / reference:.2f}x)" if reference and kind != "apache" else ""
    return f"{median:,.0f}{ratio}" if median >= 1000 else f"{median:.3g}{ratio}"


def _save(table: str, samples: Samples, options: argparse.Namespace) -> None:
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    facts = {"machine": measure.machine(), "rounds": options.rounds, "scale": options.scale, "samples": samples}
    (results / f"{options.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    (results / f"{options.name}.md").write_text(table + "\n")
    print(f"saved as bench/results/{options.name}.json and .md", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

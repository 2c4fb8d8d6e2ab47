"""How long the command `ottla` takes: `python bench/command.py`, `--cluster apache`, `--rounds 15`.

Wall-clock time from the start of the process to its end, against a cluster of one node that has answered before. Prints
a table; the exit code is 1 if a median is above its limit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
for place in (HERE, HERE.parent / "tests", HERE.parent / "tools"):
    sys.path.insert(0, str(place))

from harness.clusters import make_node, ottla_command  # noqa: E402  # the path above comes first

HELP_MS, CLUSTER_MS = 100, 250
LIMITS = {
    "--help": HELP_MS,
    "topic --help": HELP_MS,
    "consume --help": HELP_MS,
    "completion bash": HELP_MS,
    "topic list": CLUSTER_MS,
    "topic describe t": CLUSTER_MS,
    "group list": CLUSTER_MS,
    "cluster info": CLUSTER_MS,
    "config describe topic t": CLUSTER_MS,
    "offsets t": CLUSTER_MS,
    "consume t --exit": CLUSTER_MS,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", choices=("ottla", "apache"), default="ottla")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="ottla-command-") as scratch:
        node = make_node(options.cluster, Path(scratch) / "data")
        node.start()
        try:
            environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": node.bootstrap, "XDG_CONFIG_HOME": scratch}
            _run("topic create t", environment)
            _run("produce t", environment)
            samples = {line: [_run(line, environment) for _ in range(options.rounds + 1)][1:] for line in LIMITS}
        finally:
            node.stop()
    print("| command | p50 ms | lowest | highest | limit |\n|---|---|---|---|---|")
    medians = {line: statistics.median(values) for line, values in samples.items()}
    for line, values in samples.items():
        cells = [f"{value:.0f}" for value in (medians[line], min(values), max(values), LIMITS[line])]
        print(f"| `ottla {line}` | {' | '.join(cells)} |")
    return int(any(medians[line] > limit for line, limit in LIMITS.items()))


def _run(line: str, environment: dict[str, str]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    subprocess.run(
        [*ottla_command(), *line.split()], env=environment, input=b"x\n", capture_output=True, check=True, timeout=60
    )
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    sys.exit(main())

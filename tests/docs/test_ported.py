"""Programs written for other clients, and what became of them: both do the same, and the guide shows what changed.

`pytest tests/docs --rewrite` takes the differences over into the page.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness import clusters

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"
PORTS = {
    "aiokafka": ("meter_aiokafka.py", "meter_from_aiokafka.py"),
    "confluent_kafka": ("meter_confluent.py", "meter_from_confluent.py"),
}
PRINTED = {
    "load": "sent 100 to 2 partitions\n",
    "work": "worked on 100\n",
    "show": "attic 12.00\ncellar 13.00\ngarden 14.00\nkitchen 15.00\n",
    "replay": "readings since: 20\n",
}


def difference(before: str, after: str) -> str:
    texts = [
        (HOW_TO / "ported" / name).read_text(encoding="utf-8").splitlines(keepends=True) for name in (before, after)
    ]
    return "".join(difflib.unified_diff(*texts, before, after, n=1))


@pytest.mark.parametrize("client", PORTS)
def test_the_guide_shows_the_whole_difference(client: str, *, rewrite: bool) -> None:
    page = HOW_TO / "move-clients.md"
    text = page.read_text(encoding="utf-8")
    shown = f"```diff\n{difference(*PORTS[client])}```\n"
    if rewrite:
        text = re.sub(
            rf"```diff\n--- {PORTS[client][0]}\n.*?^```\n", lambda _: shown, text, flags=re.DOTALL | re.MULTILINE
        )
        page.write_text(text, encoding="utf-8")
    assert shown in text, "`pytest tests/docs/test_ported.py --rewrite` takes over what has changed"


@pytest.mark.parametrize("program", [name for pair in PORTS.values() for name in pair])
def test_the_programs_do_the_same(cluster: clusters.Cluster, program: str) -> None:
    foreign = {before: client for client, (before, _) in PORTS.items()}.get(program)
    if foreign is not None and importlib.util.find_spec(foreign) is None:
        pytest.skip(f"{foreign} is not installed (extra `interop`)")
    printed = {}
    for verb in PRINTED:
        done = subprocess.run(
            [sys.executable, str(HOW_TO / "ported" / program), cluster.bootstrap, verb],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (verb, done.stderr[-3000:])
        printed[verb] = done.stdout
    assert printed == PRINTED
    for line in ("topic delete meter.readings meter.averages --yes", "group delete meter --yes"):
        cleared = clusters.ottla(*line.split(), "-b", cluster.bootstrap)
        assert cleared.returncode == 0, cleared.stderr

"""The measuring commands are there when somebody wants a figure: each says what it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHES = Path(__file__).parents[2] / "bench"
COMMANDS = sorted(path.name for path in BENCHES.glob("*.py") if "__main__" in path.read_text())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bench_says_what_it_does(name: str) -> None:
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed (extra `interop`)")
    done = subprocess.run(
        [sys.executable, BENCHES / name, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout

"""The documentation, executed: what a page says is printed is what is printed, on Ottla and on Apache Kafka.

A ``bash`` block is run; a ``text`` block behind it is what it has to print. A ``python`` block with a title is a file.
Blocks without a language are for readers. The address in the pages is that of the cluster under test.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from harness import clusters

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "```bash" in path.read_text(encoding="utf-8"))
BLOCK = re.compile(r"^```(\w+)(?: title=\"([\w.]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, its title, what is in it."""

    language: str
    title: str
    content: str


def blocks(page: Path) -> Iterator[Block]:
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield Block(match[1], match[2] or "", match[3])


def test_pages_are_found() -> None:
    assert {"tutorial.md", "replay.md", "exactly-once.md", "move-clients.md", "pytest.md"} == {
        one.name for one in PAGES
    }


@pytest.fixture(scope="module")
def fresh(cluster_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    """A cluster that holds nothing, as the reader's does: listings are compared whole."""
    node = clusters.make_node(cluster_kind, tmp_path_factory.mktemp("docs") / "data")
    node.start()
    yield node
    node.stop()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page: Path, fresh: clusters.Cluster, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": fresh.bootstrap,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "NO_COLOR": "1",
    }
    printed = ""
    for block in blocks(page):
        content = block.content.replace("localhost:9092", fresh.bootstrap)
        if block.language == "python" and block.title:
            (tmp_path / block.title).write_text(content, encoding="utf-8")
        elif block.language == "bash":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", content],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
            assert done.returncode == 0, (content, done.stdout, done.stderr[-3000:])
            printed = done.stdout
        elif block.language == "text":
            assert [line.rstrip() for line in printed.splitlines()] == block.content.splitlines()

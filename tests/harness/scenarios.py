"""Scenario files: what happens to a machine, line by line, and what it answers; test and documentation at once.

A block is one event, ``----``, and the lines of the answer; blocks are separated by blank lines, and lines that begin
with ``#`` stand in front of an event, or alone. ``pytest --rewrite`` takes over what the machine answers now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ottla.wire.errors import KafkaError

SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"
SEPARATOR = "----"
Act = Callable[[str], Iterable[str]]


def scenarios(area: str) -> pytest.MarkDecorator:
    """Parametrizes a test with the ``path`` of each scenario of an area."""
    paths = sorted((SCENARIOS / area).glob("*.txt"))
    assert paths, f"there are no scenarios of {area}"
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


def check(path: Path, act: Act, *, rewrite: bool) -> None:
    """Have a scenario's events happen, and compare the answers with what is written."""
    written = path.read_text()
    played = play(written, act)
    if rewrite:
        path.write_text(played)
    assert played == written


def play(text: str, act: Act) -> str:
    """The scenario with the answers as they are now."""
    blocks = []
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        event = lines[: lines.index(SEPARATOR)] if SEPARATOR in lines else lines
        command = [line for line in event if not line.startswith("#")]
        if not command:
            blocks.append("\n".join(event))
            continue
        assert len(command) == 1, f"one event a block: {command}"
        blocks.append("\n".join([*event, SEPARATOR, *act(command[0])]))
    return "\n\n".join(blocks) + "\n"


def act_by_name(stage: Any, line: str) -> list[str]:
    """``name word key=value`` calls ``stage.do_name(word, key=value)``, which puts the answer into ``stage.out``."""
    stage.out = []
    name, *words = line.split()
    options = dict(word.split("=", 1) for word in words if "=" in word)
    plain = [word for word in words if "=" not in word]
    try:
        getattr(stage, "do_" + name.replace("-", "_"))(*plain, **options)
    except KafkaError as error:
        stage.out.append(f"refused {error.code.name}")
    return stage.out or ["nothing"]

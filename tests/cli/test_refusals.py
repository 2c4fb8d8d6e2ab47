"""What cannot be done is said in one form: cause, fix, where to read; the exit code says what kind of failure it is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import clusters

if TYPE_CHECKING:
    from cli.conftest import Ottla

FAILED = {
    "topic describe nix": "UNKNOWN_TOPIC_OR_PARTITION",
    "topic alter nix -c retention.ms=1": "UNKNOWN_TOPIC_OR_PARTITION",
    "topic add-partitions nix -n 1": "UNKNOWN_TOPIC_OR_PARTITION",
    "topic trim nix -o end": "UNKNOWN_TOPIC_OR_PARTITION",
    "topic delete nix": "UNKNOWN_TOPIC_OR_PARTITION",
    "topic delete nix --yes": "UNKNOWN_TOPIC_OR_PARTITION",
    "topic create TOPIC": "TOPIC_ALREADY_EXISTS",
    "topic create a/b": "INVALID_TOPIC_EXCEPTION",
    "topic create many -r 30": "INVALID_REPLICATION_FACTOR",
    "config set topic nix retention.ms=1": "UNKNOWN_TOPIC_OR_PARTITION",
    "config get topic TOPIC nix": "no configuration",
    "offsets nix": "UNKNOWN_TOPIC_OR_PARTITION",
    "consume nix -e": "UNKNOWN_TOPIC_OR_PARTITION",
    "produce TOPIC -p 9": "has no partition 9",
    "bench produce -n 1 --topic nix": "UNKNOWN_TOPIC_OR_PARTITION",
    "group describe nix": "GROUP_ID_NOT_FOUND",
    "group delete nix": "GROUP_ID_NOT_FOUND",
    "group delete nix --yes": "GROUP_ID_NOT_FOUND",
    "group delete-offsets nix --topic TOPIC": "GROUP_ID_NOT_FOUND",
    "group seek nix --to start": "has committed no offsets",
    "group seek nix --to start --topic TOPIC:9": "has no partition 9",
    "group seek nix --to-group never": "GROUP_ID_NOT_FOUND",
    "txn describe nix": "TRANSACTIONAL_ID_NOT_FOUND",
    "txn producers nix": "UNKNOWN_TOPIC_OR_PARTITION",
    "txn abort nix 0 --start-offset 0": "UNKNOWN_TOPIC_OR_PARTITION",
    "txn abort TOPIC 9 --start-offset 0": "UNKNOWN_TOPIC_OR_PARTITION",
    "txn abort TOPIC 0 --start-offset 0 --yes": "no hanging transaction",
    "cluster logdirs --broker 9999": "broker 9999 is not known",
}
WRONG_USE = {
    "topic": "Usage",
    "topic nonsense": "No such command",
    "topic delete TOPIC": "no terminal to ask on",
    "config set broker x a=1": "not the number of a broker",
    "group list --state nonsense": "nonsense",
    "txn list --state nonsense": "nonsense",
    "topic list -o xml": "xml",
    "topic list -X nix=1": "nobody knows nix",
    "consume TOPIC -p 9 -e": "has no partition 9",
}


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(("commands", "code"), [(FAILED, 1), (WRONG_USE, 2)], ids=["failed", "wrong use"])
def test_cause_fix_and_where_to_read(ottla: Ottla, commands: dict[str, str], code: int) -> None:
    topic = ottla.topic()

    def said_by(line: str) -> str:
        words = [word.replace("TOPIC", topic) for word in line.split()]
        return ottla(*words, code=code, stdin=b"x\n").stderr.decode()

    with ThreadPoolExecutor(4) as pool:
        for (line, cause), said in zip(commands.items(), pool.map(said_by, commands), strict=True):
            kinds = [one.partition(":")[0] for one in said.splitlines() if one]
            assert cause in said, (line, said)
            if line == "topic":
                continue
            assert "error" in kinds, (line, said)
            assert ("fix" if code == 1 else "read") in kinds, (line, said)
            assert "Traceback" not in said, line


@pytest.mark.parametrize("line", ["topic list", "consume t -e", "group delete g --yes", "doctor", "produce t"])
def test_nobody_there(ottla: Ottla, line: str) -> None:
    said = ottla(*line.split(), "-b", "127.0.0.1:1", code=3, stdin=b"x\n").stderr.decode().splitlines()
    assert [one.partition(":")[0] for one in said] == ["error", "fix", "read"]
    assert ottla(*line.split(), "-b", "nobody.invalid:9092", code=3, stdin=b"x\n").stderr.startswith(b"error: ")


def test_ctrl_c_gets_through_whatever_is_waited_for(ottla: Ottla, silent: str) -> None:
    topic = ottla.topic()
    waiting = [
        ("topic", "list", "-b", silent),
        ("doctor", "-b", silent),
        ("consume", topic, "-b", silent),
        ("produce", topic, "-b", silent),
        ("group", "list", "--watch"),
        ("bench", "latency", "-n", "100000", "--rate", "10"),
    ]
    processes = [_interruptible(ottla, line) for line in waiting]
    try:
        for process in processes:
            _wait_until_it_waits(process)
            process.send_signal(signal.SIGINT)
        for process, line in zip(processes, waiting, strict=True):
            _, said = process.communicate(timeout=30)
            assert process.returncode == 130, (line, said)
            assert said.endswith(b"interrupted\n"), (line, said)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert ottla.json("topic", "list", "ottla-bench-*") == []


def _interruptible(ottla: Ottla, line: tuple[str, ...]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*clusters.ottla_command(), *line],
        env=ottla.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _wait_until_it_waits(process: subprocess.Popen[bytes]) -> None:
    """Until it has made its connection: it is then past the imports, and waits for an answer or for the time."""
    from harness.processes import wait_until

    def connected() -> bool:
        return process.poll() is not None or any(map(_is_socket, Path(f"/proc/{process.pid}/fd").iterdir()))

    wait_until(connected, seconds=30, what="the command to connect", pause=0.05)


def _is_socket(descriptor: Path) -> bool:
    try:
        return os.readlink(descriptor).startswith("socket:")
    except FileNotFoundError:  # closed in between
        return False

"""Planted faults in a data directory: each is found, named, and comes with what to do about it."""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.clusters import make_node
from ottla.cli import autopsy
from ottla.cli.files import read_batches
from ottla.cli.judging import verdict
from ottla.client.sync import Admin, Producer
from ottla.storage.names import FILLER
from ottla.storage.recovery import MAGIC_OFFSET

RECORDS = 200


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that a broker has left in good order, with two segments and their indexes in `t-0`."""
    data = tmp_path_factory.mktemp("sound") / "data"
    node = make_node("ottla", data)
    node.start()
    try:
        with Admin(node.bootstrap) as admin:
            admin.create_topic("t", config={"segment.bytes": "1048576", "index.interval.bytes": "100"})
        with Producer(node.bootstrap) as producer:
            for number in range(RECORDS):
                producer.send("t", b"%08d" % number * 1000)
    finally:
        assert node.stop() == 0
    return data


@pytest.fixture
def directory(sound: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy to do harm to; `t-0` in it is the partition."""
    copy = tmp_path / "data"
    shutil.copytree(sound, copy)
    yield copy
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755)


def log_of(directory: Path, *, last: bool = False) -> Path:
    found = sorted((directory / "t-0").glob("*.log"))
    assert len(found) > 1
    return found[-1 if last else 0]


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


def cut(path: Path, size: int) -> None:
    os.truncate(path, path.stat().st_size - size)


def test_good_order(directory: Path) -> None:
    rows = autopsy.judge_directory(directory)
    assert [row for row in rows if row.severity != "ok"] == []
    assert verdict(rows).healthy


def index_elsewhere(directory: Path) -> None:
    """Its entries in order, and pointing into the middle of batches."""
    path = log_of(directory).with_suffix(".index")
    entries = list(struct.iter_unpack(">ii", path.read_bytes()))
    path.write_bytes(b"".join(struct.pack(">ii", relative, position + 7) for relative, position in entries))


def recovery_point_ahead(directory: Path) -> None:
    log = log_of(directory, last=True)
    log.write_bytes(b"")
    for suffix in (".index", ".timeindex"):
        log.with_suffix(suffix).write_bytes(b"")


def power_cut(directory: Path) -> None:
    """The last batch half written, into room that had been written ahead."""
    log = log_of(directory, last=True)
    flip(log, log.stat().st_size - 10)
    with log.open("ab") as file:
        file.write(FILLER * 4096)


def header_gone(directory: Path) -> None:
    """Of a batch that others follow."""
    log = log_of(directory, last=True)
    flip(log, list(read_batches(log))[3].position + MAGIC_OFFSET)


FAULTS: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "identity lost": (lambda d: (d / "meta.properties").unlink(), "identity", "error", "no meta.properties"),
    "of another age": (
        lambda d: (d / "meta.properties").write_text("version=0\nbroker.id=1\nnode.id=1\ncluster.id=x\n"),
        "identity",
        "error",
        "version 0",
    ),
    "without a node": (lambda d: (d / "meta.properties").write_text("version=1\n"), "identity", "error", "lacks"),
    "not stopped": (lambda d: (d / ".kafka_cleanshutdown").unlink(), "shutdown", "warning", "not clean"),
    "file closed": (lambda d: log_of(d).chmod(0o044), "rights", "error", "may not read and write"),
    "directory closed": (lambda d: log_of(d).parent.chmod(0o500), "rights", "error", "may not read and write"),
    "torn tail": (lambda d: cut(log_of(d, last=True), 100), "logs", "warning", "no batch begins here"),
    "power cut in a batch": (power_cut, "logs", "warning", ".log: byte "),
    "header gone, good batches behind it": (header_gone, "logs", "error", "no batch begins here"),
    "hole in the middle": (lambda d: cut(log_of(d), 100), "logs", "error", "no batch begins here"),
    "bit gone": (lambda d: flip(log_of(d), 5000), "logs", "error", ".log: "),
    "bit gone, good batches behind it": (lambda d: flip(log_of(d, last=True), 5000), "logs", "error", ".log: byte "),
    "index missing": (lambda d: log_of(d).with_suffix(".index").unlink(), "logs", "warning", ".index is missing"),
    "index cut": (lambda d: cut(log_of(d).with_suffix(".index"), 3), "logs", "warning", "whole number of entries"),
    "index elsewhere": (index_elsewhere, "logs", "warning", "where no batch begins"),
    "epochs garbled": (
        lambda d: (log_of(d).parent / "leader-epoch-checkpoint").write_text("x"),
        "logs",
        "warning",
        "leader-epoch-checkpoint",
    ),
    "producers garbled": (
        lambda d: flip(max(log_of(d).parent.glob("*.snapshot")), 3),
        "logs",
        "warning",
        "producer snapshot is corrupt",
    ),
    "checkpoint garbled": (
        lambda d: (d / "recovery-point-offset-checkpoint").write_text("0\n5\nt 0 0\n"),
        "checkpoints",
        "error",
        "cannot be read",
    ),
    "partition gone": (lambda d: shutil.rmtree(log_of(d).parent), "checkpoints", "warning", "that are not here"),
    "end gone": (recovery_point_ahead, "checkpoints", "error", "records are missing at the end of"),
    "quorum garbled": (
        lambda d: (d / "__cluster_metadata-0" / "quorum-state").write_text("{"),
        "quorum",
        "error",
        "quorum-state cannot be read",
    ),
    "stray": (
        lambda d: log_of(d).parent.rename(d / f"t-0.{'0' * 32}-stray"),
        "leftovers",
        "warning",
        "stray partitions",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault(directory: Path, fault: str) -> None:
    plant, check, severity, words = FAULTS[fault]
    plant(directory)
    wrong = [row for row in autopsy.judge_directory(directory) if row.severity != "ok"]
    assert all(row.fix for row in wrong), wrong
    assert [row for row in wrong if (row.check, row.severity) == (check, severity) and words in row.finding], wrong


HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
getattr(fcntl, sys.argv[2])(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["lockf", "flock"])
def test_a_lock_of_either_kind_means_a_broker_at_work(directory: Path, kind: str) -> None:
    """Java locks by record (``lockf``) and sees no other kind; Ottla takes both."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory / ".lock"), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        (row,) = [row for row in autopsy.judge_directory(directory) if row.severity != "ok"]
        assert (row.check, row.severity, "by a broker" in row.finding) == ("in use", "warning", True)
        assert row.fix
        holder.communicate()
    assert holder.returncode == 0
    assert {row.severity for row in autopsy.judge_directory(directory)} == {"ok"}

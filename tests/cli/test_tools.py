"""Profiles, settings, completion, bench, dump, doctor, terminals: the tools around the commands."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import clusters

if TYPE_CHECKING:
    from cli.conftest import Ottla

UNREACHABLE = "127.0.0.1:1"


def test_where_settings_come_from(ottla: Ottla, tmp_path: Path) -> None:
    good = ottla.bootstrap
    del ottla.environment["KAFKA_BOOTSTRAP_SERVERS"]
    ottla("profile", "create", "away", "-b", UNREACHABLE)
    ottla("profile", "create", "here", "-b", good, "-X", "client.id=me", "-X", "sasl.password=x")
    assert ottla("profile", "prompt").stdout == b"away\n"
    assert b"not reachable" in ottla("topic", "list", code=3).stderr
    ottla("topic", "list", "--profile", "here")
    ottla("profile", "use", "here")
    ottla("topic", "list")
    assert ottla.json("profile", "show")["sasl.password"] == "(hidden)"
    assert ottla.json("profile", "show", "--secrets")["sasl.password"] == "x"
    assert {row["name"]: row["current"] for row in ottla.json("profile", "list")} == {"away": False, "here": True}

    ottla.environment["KAFKA_BOOTSTRAP_SERVERS"] = UNREACHABLE
    ottla("topic", "list", code=3)
    ottla("topic", "list", "--profile", "here")
    properties = tmp_path / "client.properties"
    properties.write_text(f"# ours\nbootstrap.servers = {good}\nclient.id=x\nlinger.ms=3\n")
    ottla("topic", "list", "--command-config", str(properties))
    ottla("topic", "list", "--command-config", str(properties), "-X", f"bootstrap.servers={UNREACHABLE}", code=3)
    ottla("topic", "list", "-X", f"bootstrap.servers={UNREACHABLE}", "-b", good)

    assert b"did you mean" in ottla("topic", "list", "-b", good, "-X", "client.idd=x", code=2).stderr
    assert b"no profile 'nix'" in ottla("topic", "list", "--profile", "nix", code=2).stderr
    assert b"--yes" in ottla("profile", "delete", "away", code=2).stderr
    ottla("profile", "delete", "away", "--yes")
    mode = (tmp_path / "config" / "ottla" / "profiles.toml").stat().st_mode
    assert mode & 0o077 == 0


def test_a_project_has_profiles_of_its_own(ottla: Ottla, tmp_path: Path) -> None:
    inside = tmp_path / "project" / "deep"
    inside.mkdir(parents=True)
    good = ottla.environment.pop("KAFKA_BOOTSTRAP_SERVERS")
    ottla("profile", "create", "mine", "-b", UNREACHABLE)
    ottla("profile", "create", "ours", "-b", good, "--project", cwd=inside.parent)
    ottla("topic", "list", cwd=inside)
    ottla("topic", "list", cwd=tmp_path, code=3)
    (inside.parent / ".ottla.toml").write_text("nonsense = 1\n")
    assert b"unknown key 'nonsense'" in ottla("topic", "list", cwd=inside, code=2).stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(ottla: Ottla, shell: str) -> None:
    script = ottla("completion", shell).stdout
    assert b"_OTTLA_COMPLETE" in script
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, check=False).returncode == 0


def test_completion_knows_the_cluster(ottla: Ottla, unique: Callable[[str], str]) -> None:
    topic, group = ottla.topic(), unique("group")
    ottla("group", "seek", group, "--to", "start", "--topic", topic, "--yes")

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        ottla.environment |= {
            "_OTTLA_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        try:
            return [one.partition(",")[2] for one in ottla().stdout.decode().splitlines() if one]
        finally:
            del ottla.environment["_OTTLA_COMPLETE"]

    assert topic in complete("ottla consume ")
    assert complete(f"ottla topic describe {topic}") == [topic]
    assert group in complete("ottla group describe gr")
    assert "describe" in complete("ottla group de")
    ottla.environment["KAFKA_BOOTSTRAP_SERVERS"] = UNREACHABLE
    assert complete("ottla consume ") == []


@pytest.mark.parametrize("what", ["produce", "consume", "latency"])
def test_bench(ottla: Ottla, what: str) -> None:
    options = ("--rate", "500") if what == "latency" else ("-z", "lz4")
    result = ottla.json("bench", what, "-n", "300", "-s", "64", *options)
    assert result["records"] >= 300
    assert result["record_bytes"] == 64
    assert result["records_per_second"] > 0
    if what == "latency":
        assert 0 < result["p50_ms"] <= result["p99_ms"] <= result["max_ms"]
    assert ottla.json("topic", "list", "ottla-bench-*") == []


def test_doctor_of_a_cluster(ottla: Ottla) -> None:
    found = ottla.json("doctor")
    assert found["healthy"], found
    assert {"controller", "partitions", "quorum", "log directories", "groups", "transactions"} <= {
        row["check"] for row in found["checks"]
    }
    assert b"not reachable" in ottla("doctor", "-b", UNREACHABLE, code=3).stderr


def test_dump_and_doctor_of_a_directory(cluster_kind: str, tmp_path: Path) -> None:
    from cli.conftest import Ottla

    data = tmp_path / "data"
    node = clusters.make_node(cluster_kind, data)
    node.start()
    try:
        ottla = Ottla(node.bootstrap, tmp_path)
        ottla("topic", "create", "t")
        ottla("produce", "t", "-K", ":", "-z", "lz4", stdin=b"k:one\nk:two\nk:three\n")
        ottla("consume", "t", "-e", "-g", "readers")
        at_work = {row["check"]: row for row in ottla.json("doctor", str(data))["checks"]}
        assert at_work["in use"]["severity"] == "warning"
        assert "by a broker" in at_work["in use"]["finding"]
    finally:
        assert node.stop() in (0, 143)
    found = ottla.json("doctor", str(data))
    assert found["healthy"], found
    log = data / "t-0" / f"{0:020d}.log"
    batches = ottla.json("dump", str(log))
    assert (sum(one["records"] for one in batches), batches[0]["codec"], batches[0]["flaw"]) == (3, "lz4", None)
    records = ottla.json("dump", "-r", str(log))
    assert [(one["key"], one["value"]) for one in records] == [("k", "one"), ("k", "two"), ("k", "three")]
    metadata = [one for path in data.glob("__cluster_metadata-0/*.log") for one in ottla.json("dump", "-r", str(path))]
    topics = [one["value"]["name"] for one in metadata if one["kind"] == "TopicRecord"]
    assert "t" in topics
    offsets = [
        one
        for path in data.glob("__consumer_offsets-*/*.log")
        if path.stat().st_size
        for one in ottla.json("dump", "-r", str(path))
        if one["kind"] == "offset"
    ]
    assert offsets[-1]["key"] == {"group_id": "readers", "topic": "t", "partition": 0}
    assert offsets[-1]["value"]["offset"] == 3
    for path in sorted(data.glob("t-0/*")) + sorted(data.glob("*checkpoint")) + [data / "meta.properties"]:
        ottla("dump", str(path))
    (segment,) = ottla.json("dump", str(data / "t-0"))
    assert (segment["records"], segment["last_offset"]) == (3, 2)

    damaged = bytearray(log.read_bytes())
    damaged[-1] ^= 0xFF
    log.write_bytes(damaged)
    shown = json.loads(ottla("dump", str(log), "-o", "json", code=1).stdout)
    assert "checksum" in shown[-1]["flaw"].lower() or "crc" in shown[-1]["flaw"].lower()
    assert [
        row
        for row in json.loads(ottla("doctor", str(data), "-o", "json", code=1).stdout)["checks"]
        if "t-0" in row["finding"]
    ]
    log.write_bytes(damaged[:30])
    assert b"no batch" in ottla("dump", str(log), code=1).stdout
    assert b"not a file of a data directory" in ottla("dump", __file__, code=1).stderr


def test_a_terminal_is_asked_and_sees_colour(ottla: Ottla) -> None:
    topic = ottla.topic()
    ottla("produce", topic, stdin=b"a\nb\n")
    environment = {key: value for key, value in ottla.environment.items() if key != "NO_COLOR"} | {"TERM": "xterm"}

    def on_terminal(answer: bytes, *arguments: str) -> tuple[int, bytes]:
        controller, terminal = pty.openpty()
        with subprocess.Popen(
            [*clusters.ottla_command(), *arguments], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
        ) as process:
            os.close(terminal)
            os.write(controller, answer)
            seen = b""
            while True:
                try:
                    piece = os.read(controller, 65536)
                except OSError:  # how a terminal says that nobody is at the other end
                    break
                if not piece:
                    break
                seen += piece
            os.close(controller)
            return process.wait(30), seen

    code, seen = on_terminal(b"n\n", "topic", "trim", topic, "-o", "end")
    assert (code, b"Delete these 2 offsets" in seen) == (130, True)
    assert b"\x1b[1m" in seen
    assert ottla.json("offsets", topic)[0]["start"] == 0
    code, seen = on_terminal(b"y\n", "topic", "trim", topic, "-o", "end")
    assert (code, ottla.json("offsets", topic)[0]["start"]) == (0, 2)


def test_reserved_names_and_errors(ottla: Ottla) -> None:
    for name in ("acl", "user", "quota"):
        assert b"reserved" in ottla(name, "list", "--all", code=2).stderr
    said = ottla("group", "describe", "never-was", code=1).stderr.decode().splitlines()
    assert [line.partition(":")[0] for line in said] == ["error", "fix", "read"]
    assert ottla.json("explain", "3")["name"] == "UNKNOWN_TOPIC_OR_PARTITION"
    assert ottla.json("explain", "unknown_topic_or_partition")["number"] == 3
    assert b"did you mean NOT_COORDINATOR" in ottla("explain", "NOT_COORDINATER", code=2).stderr

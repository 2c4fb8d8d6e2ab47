"""The command as people run it: processes, pipes, signals, exit codes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ottla.testing import KafkaBroker

OTTLA = [sys.executable, "-c", "from ottla.cli.main import main; main()"]
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def ottla(kafka: KafkaBroker) -> Run:
    """Run a command line against the session's broker."""
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}

    def run(*arguments: str, stdin: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [*OTTLA, *arguments], input=stdin, capture_output=True, env=environment, timeout=60, check=False
        )
        assert done.returncode == code, (arguments, done.stdout[-500:], done.stderr[-2000:].decode())
        return done

    return run


def test_topic_commands(ottla: Run) -> None:
    done = ottla("topic", "create", "cli-made", "-p", "2", "-c", "retention.ms=5000")
    assert (done.stdout, b"2 partitions" in done.stderr) == (b"", True)
    assert b"TOPIC_ALREADY_EXISTS" in ottla("topic", "create", "cli-made", code=1).stderr
    ottla("topic", "create", "cli-made", "--if-not-exists")
    listed = {one["name"]: one for one in json.loads(ottla("topic", "list", "-o", "json").stdout)}
    assert listed["cli-made"]["partitions"] == 2
    assert b"cli-made" in ottla("topic", "list").stdout
    (described,) = json.loads(ottla("topic", "describe", "cli-made", "-o", "json").stdout)
    assert [one["end_offset"] for one in described["partitions"]] == [0, 0]
    assert {"name": "retention.ms", "value": "5000", "default": False} in described["config"]
    assert b"PARTITION" in ottla("topic", "describe", "cli-made").stdout
    refused = ottla("topic", "delete", "cli-made", code=2).stderr
    assert b"cli-made: 2 partitions, 0 offsets" in refused
    assert b"pass --yes" in refused
    assert b"UNKNOWN_TOPIC_OR_PARTITION" in ottla("topic", "delete", "cli-made", "nix", code=1).stderr
    assert b"cli-made" in ottla("topic", "list").stdout
    said = ottla("topic", "delete", "cli-made", "nix", "--yes", code=1).stderr.decode()
    assert [line.split()[:2] for line in said.splitlines()[-1:]] == [["deleted", "cli-made"]]
    assert "fix: `ottla topic list`" in said
    assert b"fix: `ottla topic list`" in ottla("topic", "describe", "cli-made", code=1).stderr
    wrong = ottla("topic", "create", "x", "-c", "retention.m=1", code=1).stderr
    assert b"retention.m" in wrong


def test_lines_come_back_byte_for_byte(ottla: Run, kafka: KafkaBroker) -> None:
    topic = kafka.topic("cli")
    lines = b"plain\n\nwith \xff bytes\ttab\r\n" + b"x" * 100_000 + b"\nno end"
    ottla("produce", topic, stdin=lines)
    assert ottla("consume", topic, "-n", "5").stdout == lines + b"\n"
    assert ottla("consume", topic, "-o", "-2", "-e").stdout == b"x" * 100_000 + b"\nno end\n"
    assert ottla("consume", topic, "-o", "1", "-n", "1", "-f", "%o|%v").stdout == b"1|"
    assert ottla("consume", topic, "-o", "end", "-e").stdout == b""
    assert ottla("consume", topic, "-n", "0").stdout == b""


def test_json_round_trip(ottla: Run, kafka: KafkaBroker) -> None:
    source, copy = kafka.topic("cli"), kafka.topic("cli")
    ottla("produce", source, "-K", ":", "-H", "h=1", stdin=b"k1:v1\nk\xff:v:2\n")
    printed = ottla("consume", source, "-e", "-f", "json").stdout
    ottla("produce", copy, "-f", "json", stdin=printed + b'\n{"value":null}\n')
    again = ottla("consume", copy, "-e", "-f", "json").stdout.splitlines()
    assert b"\n".join(again[:2]).replace(copy.encode(), source.encode()) + b"\n" == printed
    assert json.loads(again[2])["value"] is None
    assert b"line 2" in ottla("produce", copy, "-f", "json", stdin=b'{"value":"x"}\n{\n', code=1).stderr
    assert b"no key separator" in ottla("produce", copy, "-K", "|", stdin=b"a|b\nc\n", code=1).stderr


def test_wrong_use(ottla: Run) -> None:
    assert b"Did you mean 'topic'" in ottla("topik", code=2).stderr
    ottla("consume", "t", "-o", "x", code=2)
    ottla("consume", "t", "-f", "%z", code=2)
    ottla("topic", "list", "-b", "nonsense:x", code=2)
    ottla("produce", "t", "-k", "a", "-K", "b", code=2)
    done = ottla("topic", "list", "-b", "127.0.0.1:1", code=3)
    assert done.stderr.startswith(b"error: the cluster is not reachable: cannot connect to 127.0.0.1:1")
    assert b"fix: start a broker" in done.stderr
    assert b"does not exist" in ottla("consume", "never-was", code=1).stderr
    assert b"Did you mean num.partitions" in ottla("start", "-c", "num.partition=1", code=2).stderr
    ottla("start", "--ephemeral", "--data", "x", code=2)


def test_config_table(ottla: Run) -> None:
    assert b"ottla.flush" in ottla("config", "table").stdout
    keys = json.loads(ottla("config", "table", "retention", "--scope", "topic", "-o", "json").stdout)
    assert {"retention.ms", "retention.bytes"} <= {key["name"] for key in keys}
    page = Path(__file__).parents[3] / "docs" / "configuration.md"
    assert ottla("config", "table", "-o", "markdown").stdout.decode() == page.read_text(encoding="utf-8")


def test_a_reader_that_goes_away(kafka: KafkaBroker, ottla: Run) -> None:
    topic = kafka.topic("cli")
    ottla("produce", topic, stdin=b"%0100d\n" % 0 * 20_000)
    process = subprocess.Popen(
        [*OTTLA, "consume", topic, "-b", kafka.bootstrap_servers], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 128 + signal.SIGPIPE
    assert process.stderr.read() == b""
    process.stderr.close()


def test_interrupted_while_following(kafka: KafkaBroker) -> None:
    topic = kafka.topic("cli")
    with (
        subprocess.Popen(
            [*OTTLA, "produce", topic, "-b", kafka.bootstrap_servers], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        ) as producing,
        subprocess.Popen(
            [*OTTLA, "consume", topic, "-b", kafka.bootstrap_servers], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as consuming,
    ):
        assert producing.stdin is not None
        assert producing.stderr is not None
        assert consuming.stdout is not None
        producing.stdin.write(b"first\n")
        producing.stdin.flush()
        assert consuming.stdout.readline() == b"first\n"
        for process in (producing, consuming):
            process.send_signal(signal.SIGINT)
        assert producing.wait(10) == 130
        assert consuming.wait(10) == 130
        assert b"1 of 1 records were acknowledged" in producing.stderr.read()


def test_start_serves_and_stops(tmp_path: Path) -> None:
    command = [*OTTLA, "start", "--port", "0", "--data", str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith("ready bootstrap=127.0.0.1:")
        port = int(line.rpartition(":")[2])
        taken = subprocess.run([*OTTLA, "start", "--port", str(port), "--ephemeral"], capture_output=True, check=False)
        assert taken.returncode == 1
        assert f"127.0.0.1:{port} is taken".encode() in taken.stderr
        assert b"fix: " in taken.stderr
        again = subprocess.run([*command], capture_output=True, check=False, timeout=30)
        assert again.returncode == 1
        assert b"error: " in again.stderr
        assert b"Traceback" not in again.stderr
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - begun < 5
        assert process.stdout.read() == b""
    with pytest.raises(ConnectionRefusedError), socket.socket() as sock:
        sock.connect(("127.0.0.1", port))


def test_ephemeral_data_is_gone_after_the_stop(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*OTTLA, "start", "--port", "0", "--ephemeral"], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert list(tmp_path.iterdir()) == []


def test_help_loads_no_command() -> None:
    code = (
        "import sys; from ottla.cli.main import run; run(['--help']); "
        "print(*[name for name in sys.modules if name.startswith('ottla')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Exit codes" in done.stdout
    assert set(done.stderr.split()) == {"ottla", "ottla.cli", "ottla.cli.main"}

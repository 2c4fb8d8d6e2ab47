"""One-node clusters as real processes: Ottla and Apache Kafka behind the same face.

A suite that runs against both proves itself: what Apache Kafka passes is a fair demand.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import oracle
from harness.processes import Usage, end, first_line, free_port, spawn, usage, wait_until
from harness.raw import ProtocolFailure, RawConnection

START_SECONDS = 90.0
LOG_FLAG = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
# The flags of its own start script, with a smaller heap.
SERVER_FLAGS = (
    "-Xmx512m",
    "-Xms512m",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    LOG_FLAG,
)
BENCH_SERVER_FLAGS = tuple(flag.replace("512m", "1G") for flag in SERVER_FLAGS)
# What a tool needs to start fast; it lives for a second or two.
TOOL_FLAGS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", LOG_FLAG)


class Cluster(Protocol):
    """A node that can be started, stopped and killed again and again on the same data and the same port."""

    kind: str
    data: Path
    port: int

    @property
    def bootstrap(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> int: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def usage(self) -> Usage: ...
    def log_text(self) -> str: ...


class _Node:
    kind = ""

    def __init__(self, data: Path, *, config: Mapping[str, str] | None = None, port: int | None = None) -> None:
        self.data = data
        self.config = dict(config or {})
        self.port = port or free_port()
        self.talk = data.with_name(data.name + ".stderr")
        self.process: subprocess.Popen[bytes] | None = None
        self.env: dict[str, str] = {}

    @property
    def bootstrap(self) -> str:
        """What clients are given."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The broker's process id."""
        assert self.process is not None
        return self.process.pid

    def connect(self, **options: float) -> RawConnection:
        """A raw connection to the node."""
        return RawConnection("127.0.0.1", self.port, **options)  # type: ignore[arg-type]  # options are keyword floats

    def stop(self) -> int:
        """Stop as an operator would (SIGTERM); the exit status."""
        assert self.process is not None
        return end(self.process, patience=40.0)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            end(self.process, signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: the process stands still, its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def usage(self) -> Usage:
        """CPU and memory so far."""
        return usage(self.pid)

    def log_text(self) -> str:
        """What the process said on stderr."""
        return self.talk.read_text(errors="replace") if self.talk.exists() else ""

    def _died(self, line: str) -> RuntimeError:
        end_of_log = self.log_text()[-3000:]
        self.kill()
        return RuntimeError(f"{self.kind} did not start (first line {line!r}); its log ends with:\n{end_of_log}")


class OttlaNode(_Node):
    """`ottla start` as a child process."""

    kind = "ottla"

    def __init__(
        self,
        data: Path,
        *,
        config: Mapping[str, str] | None = None,
        port: int | None = None,
        launcher: Sequence[str] | None = None,
    ) -> None:
        super().__init__(data, config=config, port=port)
        self.launcher = list(launcher or ottla_command())

    def start(self) -> None:
        """Start and wait for the ready line."""
        # Not `--port`: what is advertised may be the address of a proxy.
        listeners = {"listeners": f"PLAINTEXT://127.0.0.1:{self.port}"}
        command = [*self.launcher, "start"]
        if "log.dirs" not in self.config:
            command += ["--data", str(self.data)]
        for key, value in (listeners | self.config).items():
            command += ["-c", f"{key}={value}"]
        self.process = spawn(command, stderr=self.talk, env=self.env)
        line = first_line(self.process, seconds=START_SECONDS)
        if not line.startswith("ready bootstrap="):
            raise self._died(line)


class ApacheNode(_Node):
    """Apache Kafka in KRaft mode as a child process; takes over a directory that is formatted already."""

    kind = "apache"

    def __init__(
        self,
        data: Path,
        *,
        config: Mapping[str, str] | None = None,
        port: int | None = None,
        flags: Sequence[str] = SERVER_FLAGS,
    ) -> None:
        super().__init__(data, config=config, port=port)
        self.flags = flags
        self.controller_port = free_port()
        self.properties = data.with_name(data.name + ".properties")

    def start(self) -> None:
        """Format where needed, start, and wait until requests are answered."""
        self.data.mkdir(parents=True, exist_ok=True)
        meta = self.data / "meta.properties"
        self.properties.write_text(self._server_properties(read_properties(meta)))
        if not meta.exists():
            identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            # An identity may begin with a dash: as a word of its own it would pass for an option.
            arguments = ["format", f"--cluster-id={identity}", "-c", str(self.properties)]
            done = java("kafka.tools.StorageTool", *arguments)
            if done.returncode != 0:
                raise RuntimeError(f"format failed: {done.stdout}{done.stderr}")
        command = [oracle.require_java(), *self.flags, "-cp", class_path(), "kafka.Kafka", str(self.properties)]
        self.process = spawn(command, stderr=self.talk, env=self.env)
        try:
            wait_until(self._serving, seconds=START_SECONDS, what="Apache Kafka to serve", pause=0.1)
        except (TimeoutError, RuntimeError) as failure:
            raise self._died(str(failure)) from failure

    def _serving(self) -> bool:
        if not self.running():
            raise RuntimeError("the process ended")
        try:
            with self.connect(timeout=2.0) as connection:
                return bool(connection.api_versions())
        except (OSError, ProtocolFailure):
            return False

    def _server_properties(self, meta: Mapping[str, str]) -> str:
        node = meta.get("node.id", "1")
        values = {
            "process.roles": "broker,controller",
            "node.id": node,
            "controller.quorum.voters": f"{node}@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self.data),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "3",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "3",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.retention.check.interval.ms": "600000",
            **self.config,
        }
        return "".join(f"{key}={value}\n" for key, value in values.items())


def make_node(kind: str, data: Path, **options: object) -> OttlaNode | ApacheNode:
    """A node of either kind, not started."""
    node = {"ottla": OttlaNode, "apache": ApacheNode}[kind]
    return node(data, **options)  # type: ignore[arg-type]  # the options both kinds share


def ottla_command() -> list[str]:
    """The `ottla` command of the running interpreter's environment."""
    script = Path(sys.executable).with_name("ottla")
    found = str(script) if script.exists() else shutil.which("ottla")
    return [found] if found else [sys.executable, "-m", "ottla"]


def class_path() -> str:
    """All jars of the oracle."""
    return f"{oracle.libraries()}{os.sep}*"


def java_command(main_class: str, *arguments: str) -> list[str]:
    """The command that runs one of Apache Kafka's programs."""
    return [oracle.require_java(), *TOOL_FLAGS, "-cp", class_path(), main_class, *arguments]


def java(
    main_class: str, *arguments: str, text: str | None = None, seconds: float = 90.0
) -> subprocess.CompletedProcess[str]:
    """Run one of Apache Kafka's programs to its end."""
    command = java_command(main_class, *arguments)
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds, check=False)


def ottla(*arguments: str, data: bytes = b"", seconds: float = 60.0) -> subprocess.CompletedProcess[bytes]:
    """Run one `ottla` command to its end."""
    return subprocess.run([*ottla_command(), *arguments], input=data, capture_output=True, timeout=seconds, check=False)


def read_properties(path: Path) -> dict[str, str]:
    """A Java properties file as far as Kafka writes them; empty when there is none."""
    if not path.exists():
        return {}
    pairs = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}

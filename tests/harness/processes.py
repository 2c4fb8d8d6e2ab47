"""Child processes that never outlive the test run: started here, remembered here, killed here."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Below what Linux (32768), macOS and IANA (49152) take for outgoing connections.
PORTS = (12_000, 32_000)
_running: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process used so far, from `/proc`."""

    cpu_seconds: float
    resident_bytes: int


def spawn(command: Sequence[str], *, stderr: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process with a piped stdout and its stderr appended to a file.

    A node starts as an installed one does, with modules that were compiled before: that is half of a start.
    """
    around = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | dict(env or {})
    with stderr.open("ab") as talk:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=talk, env=around)
    _running.add(process)
    return process


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM, *, patience: float = 20.0) -> int:
    """Signal the process and wait for it; a deaf one is killed. The exit status comes back."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
    _running.discard(process)
    return process.returncode


def first_line(process: subprocess.Popen[bytes], *, seconds: float) -> str:
    """The first line of the process's stdout; empty when it ended or stayed silent for too long."""
    assert process.stdout is not None
    line = bytearray()
    deadline = time.monotonic() + seconds
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            break
        byte = os.read(process.stdout.fileno(), 1)
        if not byte:
            break
        line += byte
    return line.decode(errors="replace").strip()


def free_port() -> int:
    """A port that was free a moment ago, of those the kernel gives to nobody's outgoing connection.

    A node that is down would not get its port again if a client of a test beside it had been given that.
    """
    while True:
        port = random.SystemRandom().randrange(*PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str, pause: float = 0.02) -> None:
    """Poll `condition`; a `TimeoutError` names what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not after {seconds} s")
        time.sleep(pause)


def usage(pid: int) -> Usage:
    """CPU time and resident memory of a live process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Usage(cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"), resident_bytes=pages * os.sysconf("SC_PAGE_SIZE"))


def reset_peak(pid: int) -> None:
    """Forget the highest resident size so far, so that `peak_bytes` speaks of what comes now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The highest resident size since `reset_peak`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM line")


@atexit.register
def _end_all() -> None:
    for process in list(_running):
        end(process, signal.SIGKILL)

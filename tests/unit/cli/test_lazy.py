"""What a command imports, counted in modules: imports are what it waits for, and a count is the same on any machine."""

import os
import subprocess
import sys

import pytest

from ottla.cli.main import COMMANDS
from ottla.testing import KafkaBroker

HELP_MODULES = 190
LISTING_MODULES = 260
PROGRAM = """
import sys
from contextlib import redirect_stdout
from io import StringIO, TextIOWrapper, BytesIO

before = set(sys.modules)
from ottla.cli.main import run
out, sys.stdout = sys.stdout, TextIOWrapper(BytesIO())
codes = [run(line.split()) for line in sys.argv[1:]]
sys.stdout = out
print(*codes)
print(*sorted(set(sys.modules) - before))
"""


def loaded(bootstrap: str, *lines: str) -> set[str]:
    """The modules that command lines load, one after the other in one process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *lines],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": bootstrap},
    )
    codes, modules = done.stdout.splitlines()
    assert set(codes.split()) == {"0"}, done.stderr
    return set(modules.split())


def packages(modules: set[str]) -> set[str]:
    """The standard library's at the top, and our own a level below."""
    return {".".join(name.split(".")[: 2 if name.startswith("ottla") else 1]) for name in modules}


def test_help_needs_no_client_no_loop_and_no_broker() -> None:
    """Of all commands together."""
    modules = loaded("", "--help", *(f"{name} --help" for name in COMMANDS), "completion bash")
    forbidden = {"asyncio", "ssl", "socket", "email", "http", "logging", "uvloop", "cramjam", "importlib.metadata"}
    own = {"ottla.client", "ottla.wire", "ottla.net", "ottla.broker", "ottla.storage", "ottla.config", "ottla.records"}
    assert packages(modules) & (forbidden | own) == set()
    assert len(modules) <= HELP_MODULES, sorted(modules)


@pytest.mark.parametrize("line", ["topic list", "group list", "cluster brokers", "txn list"])
def test_a_listing_needs_no_broker(kafka: KafkaBroker, line: str) -> None:
    modules = loaded(kafka.bootstrap_servers, line)
    unneeded = {"ottla.broker", "ottla.storage", "ottla.config", "ottla.records", "ottla.groups", "ottla.metadata"}
    assert packages(modules) & (unneeded | {"cramjam", "email", "http", "tempfile", "shutil"}) == set()
    assert len(modules) <= LISTING_MODULES, len(modules)


START = """
import sys
from ottla.cli import start

def ready(bootstrap):
    print(*sys.modules)
    raise SystemExit

start._greet = ready
start.command(["--port", "0", "--data", sys.argv[1]], standalone_mode=False)
"""


def test_a_start_loads_what_it_needs_until_there_are_groups_transactions_or_something_to_clean(tmp_path) -> None:
    done = subprocess.run([sys.executable, "-c", START, tmp_path], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    deciding = {name for name in modules if name.startswith(("ottla.groups.", "ottla.transactions."))}
    deferred = {"ottla.groups.shard", "ottla.groups.records", "ottla.groups.assignors", "ottla.transactions.shard"}
    assert deciding & deferred == set()
    assert modules & {"ottla.storage.cleaning", "ottla.records.offset_map", "ottla.re2", "hashlib", "ctypes"} == set()
    assert not {name for name in modules if name.startswith("ottla.wire.messages.consumer_group")}
    assert "encodings.idna" not in modules, "no name of an address needs it"

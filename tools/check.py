"""What people and CI run before a change goes in; `tools/check` starts it with the right interpreter.

Each check prints one line; the output of a failed one follows it. The exit status is the number of failed checks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHON_PATHS = ("src", "tests", "tools", "bench")
TESTS = "unit tests"
UNIT_SUITES = ("tests/unit", "tests/scenarios", "tests/sim", "tests/chaos/test_rules.py", "tests/chaos/test_proxy.py")
OUTPUT_LINES_MAX = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One command that has to succeed."""

    name: str
    command: tuple[str, ...]
    slow: bool = False
    # Left out where this file does not exist (a source distribution carries no generator input, say).
    needs: str = ""


def checks() -> tuple[Check, ...]:
    """All checks, cheap ones first."""
    python = sys.executable
    scripts = Path(python).parent
    ruff, mypy = str(scripts / "ruff"), str(scripts / "mypy")
    suites = [suite for suite in UNIT_SUITES if (REPOSITORY / suite).exists()]
    return (
        Check(name="format", command=(ruff, "format", "--check", "--quiet", *PYTHON_PATHS)),
        Check(name="lint", command=(ruff, "check", "--quiet", "--output-format", "concise", *PYTHON_PATHS)),
        Check(name="tidy", command=(python, "tools/tidy.py")),
        Check(name="imports", command=(str(scripts / "lint-imports"), "--no-cache")),
        Check(
            name="generated messages",
            command=(python, "tools/generate_messages.py", "--check"),
            needs="tools/generate_messages.py",
            slow=True,
        ),
        Check(
            name="generated docs",
            command=(python, "tools/generate_config_docs.py", "--check"),
            needs="tools/generate_config_docs.py",
        ),
        Check(
            name="generated reference",
            command=(python, "tools/generate_cli_docs.py", "--check"),
            needs="tools/generate_cli_docs.py",
        ),
        Check(
            name="generated clients",
            command=(python, "tools/generate_sync_client.py", "--check"),
            needs="tools/generate_sync_client.py",
        ),
        Check(name="types", command=(mypy,), slow=True),
        Check(name=TESTS, command=(python, "-m", "pytest", "-q", "-n", "auto", *suites)),
    )


def run(check: Check) -> bool:
    """Run one check, print its line, and its output when it failed."""
    begin = time.monotonic()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(check.command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begin
    print(f"{'ok  ' if done.returncode == 0 else 'FAIL'} {check.name:<20} {seconds:6.1f} s", flush=True)
    if done.returncode != 0:
        _print_tail(done.stdout + done.stderr)
    return done.returncode == 0


def _print_tail(output: str) -> None:
    lines = output.rstrip().splitlines()
    if len(lines) > OUTPUT_LINES_MAX:
        print(f"     ... {len(lines) - OUTPUT_LINES_MAX} lines before")
    for line in lines[-OUTPUT_LINES_MAX:]:
        print(f"     {line}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks; the number of failed ones is the exit status."""
    parser = argparse.ArgumentParser(description="format, lint, tidy, imports, generated code, types, unit tests")
    parser.add_argument("--fast", action="store_true", help="leave out types and the check of the generated messages")
    parser.add_argument("--no-tests", action="store_true", help="leave out the unit tests")
    parser.add_argument("--fix", action="store_true", help="format and repair what ruff can repair, then check")
    options = parser.parse_args(arguments)
    if options.fix:
        ruff = str(Path(sys.executable).parent / "ruff")
        subprocess.run((ruff, "format", "--quiet", *PYTHON_PATHS), cwd=REPOSITORY, check=False)
        subprocess.run((ruff, "check", "--quiet", "--fix", *PYTHON_PATHS), cwd=REPOSITORY, check=False)
    wanted = [check for check in checks() if not (options.fast and check.slow)]
    wanted = [check for check in wanted if not (options.no_tests and check.name == TESTS)]
    wanted = [check for check in wanted if not check.needs or (REPOSITORY / check.needs).exists()]
    failed = [check.name for check in wanted if not run(check)]
    print(
        f"{len(wanted) - len(failed)} of {len(wanted)} checks passed"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())

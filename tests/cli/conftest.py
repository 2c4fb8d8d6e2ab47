"""The command against a running cluster: `--cluster ottla` or `--cluster apache`, the same tests for both."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness import clusters, names


class Ottla:
    """Runs command lines against the cluster under test."""

    def __init__(self, bootstrap: str, home: Path) -> None:
        self.bootstrap = bootstrap
        self.environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_CACHE_HOME": str(home / "cache"),
        }

    def __call__(
        self, *arguments: str, stdin: bytes = b"", code: int = 0, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """A command line that has to end with ``code``."""
        done = subprocess.run(
            [*clusters.ottla_command(), *arguments],
            input=stdin,
            capture_output=True,
            env=self.environment,
            timeout=90,
            check=False,
            cwd=cwd,
        )
        assert done.returncode == code, (arguments, done.returncode, done.stdout[-800:], done.stderr[-2000:].decode())
        return done

    def json(self, *arguments: str, **options: Any) -> Any:
        """What a command prints with ``-o json``."""
        return json.loads(self(*arguments, "-o", "json", **options).stdout)

    def topic(self, *options: str) -> str:
        """A fresh topic. Nothing expires: tests give their records times of long ago."""
        name = names.unique("cli")
        self("topic", "create", name, "-c", "retention.ms=-1", *options)
        return name


@pytest.fixture
def ottla(cluster: clusters.Cluster, tmp_path: Path) -> Ottla:
    """The command, with an empty home."""
    return Ottla(cluster.bootstrap, tmp_path)

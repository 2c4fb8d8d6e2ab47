"""Everything below kills or starves real processes; it carries the marker `chaos`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.planted import planted_command


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark everything below this directory; the time is by rounds, for a restart of Apache Kafka takes many seconds."""
    here = Path(__file__).parent
    seconds = 180 + 30 * int(config.getoption("--chaos-rounds"))
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.timeout(seconds))


@pytest.fixture
def planted(cluster_kind: str) -> Callable[[str], list[str]]:
    """The command that runs Ottla with a bug of `harness.planted`."""
    if cluster_kind != "ottla":
        pytest.skip("bugs are planted in Ottla only")
    return planted_command

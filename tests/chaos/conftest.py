"""Everything below kills or starves real processes; it carries the marker `chaos`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.run import new_seed
from harness.planted import planted_command


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark everything below this directory; a restart of Apache Kafka takes many seconds."""
    here = Path(__file__).parent
    seconds = 240 + 30 * int(config.getoption("--chaos-rounds")) + 3 * float(config.getoption("--chaos-seconds"))
    seconds += 5 * int(config.getoption("--chaos-images")) + int(config.getoption("--chaos-records")) / 100
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


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Where everything random of a test begins; printed where the test fails."""
    given = request.config.getoption("--chaos-seed")
    drawn = new_seed() if given is None else int(given)
    print(f"seed {drawn} (repeat with --chaos-seed {drawn})")
    return drawn


@pytest.fixture
def librdkafka() -> None:
    """Skips where the workloads' client is missing."""
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed (extra `interop`)")

"""Ottla's client against the cluster of the session: `--cluster ottla` (default) or `--cluster apache`.

A test belongs here if Apache Kafka must pass it too. Tests use topics, groups and transactional ids of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.clusters import Cluster
from ottla.client import Admin
from ottla.runtime import loop

SECONDS = 90


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Apache Kafka takes seconds to start; a test itself has its own limit in `run`."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture
def bootstrap(cluster: Cluster) -> str:
    """What clients are given."""
    return cluster.bootstrap


@pytest.fixture
def run() -> Callable[[Awaitable[Any]], Any]:
    """Run a coroutine to its end on a fresh event loop, within a limit."""

    def within(main: Awaitable[Any]) -> Any:
        async def limited() -> Any:
            return await asyncio.wait_for(main, SECONDS)

        return loop.run(limited())

    return within


@pytest.fixture
def make_topic(
    bootstrap: str, unique: Callable[[str], str], run: Callable[[Awaitable[Any]], Any]
) -> Callable[..., str]:
    """Create a topic of the test's own; its name."""

    def make(partitions: int = 1, config: dict[str, str] | None = None) -> str:
        name = unique("topic")

        async def create() -> None:
            async with Admin(bootstrap) as admin:
                await admin.create_topic(name, partitions=partitions, config=config)

        run(create())
        return name

    return make

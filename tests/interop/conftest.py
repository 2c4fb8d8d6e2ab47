"""Foreign clients against the cluster of the session; everything here carries the marker `interop`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything below this directory."""
    here = Path(__file__).parent
    # What takes longest begins first: the processes that share the tests end together.
    items.sort(key=lambda item: item.path != here / "test_streams.py")
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.interop)
            # Programs on the Java runtime start slowly on a small, busy machine.
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture
def topic(unique: Callable[[str], str]) -> str:
    """A topic name of the test's own."""
    return unique("topic")

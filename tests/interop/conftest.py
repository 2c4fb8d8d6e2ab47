"""Foreign clients against the cluster of the session; everything here carries the marker `interop`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

_names = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything below this directory."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.interop)
            # Programs on the Java runtime start slowly on a small, busy machine.
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture
def unique() -> Callable[[str], str]:
    """A name no other test uses."""
    return lambda prefix: f"{prefix}-{os.getpid()}-{next(_names)}"


@pytest.fixture
def topic(unique: Callable[[str], str]) -> str:
    """A topic name of the test's own."""
    return unique("topic")

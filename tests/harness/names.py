"""Names of topics, groups and transactional ids: suites share the cluster of a session, so one place makes them all."""

from __future__ import annotations

import itertools
import os

_numbers = itertools.count(1)


def unique(prefix: str) -> str:
    """A name that nothing else of this session has, nor another process of the suite."""
    return f"{prefix}-{os.getpid()}-{next(_numbers)}"

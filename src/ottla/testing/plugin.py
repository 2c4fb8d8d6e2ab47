"""The pytest plugin: the session fixture ``kafka``, a broker of this process's own.

Safe with pytest-xdist: every worker has its own broker on a free port with its own temporary directory. Settings for it
go into the ini option ``ottla_config``, a ``key=value`` a line.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ottla.testing.broker import KafkaBroker


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("ottla_config", type="linelist", default=[], help="settings of the fixture kafka, key=value a line")


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> "Iterator[KafkaBroker]":
    """A running broker: ``kafka.bootstrap_servers`` is its address, ``kafka.topic()`` makes a topic for one test."""
    from ottla.config.sources import parse_assignments  # noqa: PLC0415 - only for runs that use the fixture
    from ottla.testing.broker import KafkaBroker  # noqa: PLC0415

    with KafkaBroker(config=parse_assignments(request.config.getini("ottla_config"))) as broker:
        yield broker

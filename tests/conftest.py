"""What every suite shares: the import path of the harness, the command line options, the cluster under test."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
for place in (TESTS, TESTS.parent / "tools"):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

import oracle  # noqa: E402  # the path above comes first
from harness import clusters, names  # noqa: E402  # the path above comes first

# What tests would otherwise wait for: members hear of a new assignment every 5 s, transactions time out every 10 s.
QUICK = {
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}


def pytest_configure() -> None:
    """A suite that a shell started in the background ignores SIGINT, and so would the processes it interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes share the tests (`-n auto`, the default): more of the time is spent waiting than working.

    What is named file by file runs in this process, and so does what writes to the sources or to the terminal.
    """
    alone = config.getoption("capture") == "no" or config.getoption("--rewrite")
    if alone or not any(Path(argument).is_dir() for argument in config.args):
        return 0
    return min(4, 1 + (os.cpu_count() or 1))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of all suites."""
    group = parser.getgroup("ottla tests")
    group.addoption("--rewrite", action="store_true", help="scenario files take over what the machines answer now")
    group.addoption(
        "--cluster", choices=("ottla", "apache"), default="ottla", help="what the suites of whole processes talk to"
    )
    group.addoption("--client-seconds", type=float, default=8.0, help="client suite: how long a network stays broken")
    group.addoption("--chaos-rounds", type=int, default=3, help="chaos suite: kills of each run that counts them")
    group.addoption("--chaos-seconds", type=float, default=6.0, help="chaos suite: length of each run that has one")
    group.addoption("--chaos-images", type=int, default=8, help="chaos suite: power cuts of a whole node to look at")
    group.addoption("--chaos-records", type=int, default=4000, help="chaos suite: how much is copied exactly once")
    group.addoption("--chaos-seed", type=int, help="chaos suite: repeat a run; without it seeds are drawn and printed")


@pytest.fixture(scope="session")
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether scenario files should be rewritten instead of compared."""
    return bool(request.config.getoption("--rewrite"))


@pytest.fixture(scope="session")
def cluster_kind(request: pytest.FixtureRequest) -> str:
    """`ottla` or `apache`; skips when Apache Kafka is asked for and cannot run here."""
    kind = str(request.config.getoption("--cluster"))
    if kind == "apache":
        _require_oracle()
    return kind


@pytest.fixture(scope="session")
def apache_kafka() -> Path:
    """The directory of Apache Kafka's jars, or a skip with the reason."""
    return _require_oracle()


@pytest.fixture(scope="session")
def cluster(cluster_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    """One running node for the whole session (of each worker); tests use topics and groups of their own."""
    node = clusters.make_node(cluster_kind, tmp_path_factory.mktemp("cluster") / "data", config=QUICK)
    node.start()
    try:
        yield node
    finally:
        if node.running():
            node.stop()


@pytest.fixture
def unique() -> Callable[[str], str]:
    """A name that no other test uses, whatever suite it is of."""
    return names.unique


def _require_oracle() -> Path:
    try:
        oracle.require_java()
        # Never fetched behind somebody's back: `python tools/oracle.py` does that.
        return oracle.libraries(fetch=False)
    except oracle.OracleMissing as missing:
        pytest.skip(str(missing))

"""An acknowledgement waits for the disk when the flush policy says so, and a disk that fails gets no more of them."""

from __future__ import annotations

import contextlib
import time

import pytest

from chaos.nemesis import build_shim, compiler
from harness.clusters import make_node
from harness.processes import wait_until
from harness.raw import ProtocolFailure, build_batch, retry

TOPIC = "chaos-disk"
SLOW_SECONDS = 0.5


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The library that slows down or fails every sync."""
    if compiler() is None:
        pytest.skip("no C compiler for the disk shim")
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def on_shim(shim, tmp_path, cluster_kind):
    """Start a node on the shim; the second value sets what its disk does."""
    if cluster_kind == "apache":
        pytest.skip("Apache Kafka acknowledges before it flushes")
    order = tmp_path / "order"
    nodes = []

    def start(config=None, **options):
        order.write_text("")
        node = make_node("ottla", tmp_path / f"data{len(nodes)}", config=config or {}, **options)
        node.env = {"LD_PRELOAD": str(shim), "OTTLA_SHIM": str(order)}
        nodes.append(node)
        node.start()
        with node.connect() as connection:
            connection.create_topic(TOPIC, 1)
            retry(lambda: connection.end_offset(TOPIC, 0))
            # The first flush also makes the new names durable: more than one sync.
            connection.produce(TOPIC, 0, build_batch([b"first"]))
        return node, order.write_text

    yield start
    for node in nodes:
        node.kill()


def seconds_to_acknowledge(node, acks):
    with node.connect() as connection:
        begin = time.monotonic()
        connection.produce(TOPIC, 0, build_batch([b"x"]), acks=acks)
        return time.monotonic() - begin


def acknowledges_on_a_failed_disk(node, disk):
    """Whether anything is acknowledged once a sync has failed, even after the disk claims to work again."""
    acknowledged = 0
    disk("fail")
    for number in range(6):
        if number == 3:
            disk("")
        with contextlib.suppress(ProtocolFailure, OSError), node.connect(timeout=3) as connection:
            connection.produce(TOPIC, 0, build_batch([b"never"]))
            acknowledged += 1
    return acknowledged > 0


@pytest.mark.parametrize(
    ("flush", "acks", "waits"),
    [
        ("auto", -1, True),
        ("auto", 1, False),
        ("never", -1, False),
        ("never", 1, False),
        ("always", -1, True),
        ("always", 1, True),
    ],
)
def test_an_acknowledgement_waits_for_the_disk_as_asked(on_shim, flush, acks, waits):
    node, disk = on_shim({"ottla.flush": flush})
    disk(f"sleep {int(SLOW_SECONDS * 1000)}")
    assert (seconds_to_acknowledge(node, acks) >= SLOW_SECONDS) == waits


def test_one_flush_serves_all_who_wait(on_shim):
    """Twenty appends on a slow disk take a few flushes, not twenty."""
    from concurrent.futures import ThreadPoolExecutor

    node, disk = on_shim()
    disk(f"sleep {int(SLOW_SECONDS * 1000)}")
    begin = time.monotonic()
    with ThreadPoolExecutor(20) as crowd:
        list(crowd.map(lambda _: seconds_to_acknowledge(node, -1), range(20)))
    assert time.monotonic() - begin < 5 * SLOW_SECONDS


def test_nothing_is_acknowledged_after_a_failed_flush(on_shim):
    node, disk = on_shim()
    with node.connect() as connection:
        assert connection.produce(TOPIC, 0, build_batch([b"kept"])) == 1
    assert not acknowledges_on_a_failed_disk(node, disk)
    assert "EIO" in node.log_text() or "Input/output error" in node.log_text()
    node.kill()
    node.start()
    with node.connect() as connection:
        wait_until(lambda: retry(lambda: connection.end_offset(TOPIC, 0)) >= 2, seconds=10, what="the kept records")
        assert [record.value for record in connection.fetch(TOPIC, 0, 0)[1][:2]] == [b"first", b"kept"]


def test_a_planted_early_acknowledgement_is_caught(on_shim, planted):
    node, disk = on_shim(launcher=planted("acknowledge-before-flush"))
    disk(f"sleep {int(SLOW_SECONDS * 1000)}")
    assert seconds_to_acknowledge(node, -1) < SLOW_SECONDS


def test_a_planted_deaf_ear_is_caught(on_shim, planted):
    node, disk = on_shim(launcher=planted("ignore-failed-flush"))
    assert acknowledges_on_a_failed_disk(node, disk)

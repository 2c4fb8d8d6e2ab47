"""What the listeners of a node share, and what each has for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from ottla.broker.listeners import Listeners
from ottla.config.broker import BrokerConfig
from ottla.runtime.clock import SystemClock
from ottla.runtime.supervisor import Supervisor

TWO = {
    "listeners": "CLIENTS://127.0.0.1:0,BROKERS://127.0.0.1:0",
    "listener.security.protocol.map": "CLIENTS:PLAINTEXT,BROKERS:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "BROKERS",
    "quota.window.num": "3",
}


async def accepted(changes: Mapping[str, str], *, first: Mapping[str, str] | None = None) -> list[int]:
    """Of 20 connections to each listener at once, those that were not kept waiting. ``first``: the settings before."""
    supervisor = Supervisor()
    listeners = Listeners(BrokerConfig.parse(TWO | dict(changes if first is None else first)), supervisor)
    listeners.bind()
    if first is not None:
        listeners.set_config(BrokerConfig.parse(TWO | dict(changes)))
    listeners.open({}, SystemClock())
    bound = [listener for _, listener in listeners._bound]
    writers = []
    for listener in bound:
        writers += [(await asyncio.open_connection("127.0.0.1", listener.port))[1] for _ in range(20)]
    await asyncio.sleep(0.05)
    counts = [listener.connection_count for listener in bound]
    for writer in writers:
        writer.close()
    await listeners.stop(0.5)
    await supervisor.stop()
    return counts


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, [20, 20]),
        # Two seconds' worth and one; where brokers meet only what is set for that listener counts.
        ({"max.connection.creation.rate": "5"}, [11, 20]),
        ({"listener.name.brokers.max.connection.creation.rate": "3"}, [20, 7]),
        ({"max.connection.creation.rate": "5", "listener.name.clients.max.connection.creation.rate": "2"}, [5, 20]),
    ],
)
def test_connections_wait_where_they_come_too_fast(changes: Mapping[str, str], counts: list[int]) -> None:
    assert asyncio.run(accepted(changes)) == counts


def test_the_rate_may_change_while_it_runs() -> None:
    assert asyncio.run(accepted({"max.connection.creation.rate": "5"}, first={})) == [11, 20]

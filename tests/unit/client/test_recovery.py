"""When no known broker answers: the bootstrap addresses again, at once, after a while, or never."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from harness.scripted import TOPIC, ScriptedCluster
from ottla.client import Admin, ClusterUnreachable, ConfigError, ErrorCode, KafkaError, _cluster
from ottla.client._cluster import Cluster, Recovery
from ottla.net.peer import Peer
from ottla.wire.apis import ApiKey
from ottla.wire.messages.metadata_response import MetadataResponse


def run(main: Awaitable[None]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(main, 30)

    asyncio.run(limited())


async def moving(check: Callable[[ScriptedCluster, ScriptedCluster, str], Awaitable[None]]) -> None:
    """A cluster whose bootstrap address, node 0, names node 1 only, and another one that may come to that address."""
    async with ScriptedCluster(nodes=2) as old, ScriptedCluster() as new:
        old.brokers = [1]
        old.leader = 1
        await check(old, new, old.bootstrap)


def test_no_known_broker_answers() -> None:
    async def check(old: ScriptedCluster, new: ScriptedCluster, bootstrap: str) -> None:
        async with Cluster(bootstrap) as cluster:
            await cluster.refresh((TOPIC,))
            assert [one.port for one in cluster.brokers.values()] == [old.ports[1]]
            await old.replace(0, new)
            await old.close(1)
            await cluster.refresh((TOPIC,))
            assert [one.port for one in cluster.brokers.values()] == new.ports

    run(moving(check))


def test_without_recovery_it_stays_lost() -> None:
    async def check(old: ScriptedCluster, new: ScriptedCluster, bootstrap: str) -> None:
        async with Cluster(bootstrap, recovery=Recovery.of("none", 300_000)) as cluster:
            await cluster.refresh((TOPIC,))
            await old.replace(0, new)
            await old.close(1)
            for _ in range(2):
                with pytest.raises(ClusterUnreachable):
                    await cluster.refresh((TOPIC,))
            assert [one.port for one in cluster.brokers.values()] == [old.ports[1]]
            assert new.asked(ApiKey.METADATA) == []

    run(moving(check))


def test_what_was_known_is_kept_while_bootstrap_does_not_answer_either() -> None:
    async def check(old: ScriptedCluster, _: ScriptedCluster, bootstrap: str) -> None:
        async with Cluster(bootstrap) as cluster:
            await cluster.refresh((TOPIC,))
            await old.close(0)
            await old.close(1)
            with pytest.raises(ClusterUnreachable):
                await cluster.refresh((TOPIC,))
            await old.reopen(1)
            await cluster.refresh((TOPIC,))

    run(moving(check))


def test_known_brokers_that_only_listen_are_forgotten_after_the_trigger() -> None:
    async def check(old: ScriptedCluster, new: ScriptedCluster, bootstrap: str) -> None:
        async with Cluster(bootstrap, recovery=Recovery.of("rebootstrap", 400)) as cluster:
            await cluster.refresh((TOPIC,))
            peer = await cluster.peer(1)
            old.handlers[ApiKey.METADATA] = lambda _node, _request: None
            await old.replace(0, new)
            began = asyncio.get_running_loop().time()
            await asyncio.gather(*(cluster.refresh((TOPIC,)) for _ in range(3)))
            assert 0.35 < asyncio.get_running_loop().time() - began < 5.0
            assert [one.port for one in cluster.brokers.values()] == new.ports
            assert not peer.connected
            # The clock begins anew with the next question that nobody answers.
            new.handlers[ApiKey.METADATA] = lambda _node, _request: None
            with pytest.raises(ClusterUnreachable):
                await cluster.refresh((TOPIC,), seconds=0.1)
            assert cluster.brokers

    run(moving(check))


def test_time_in_which_nobody_asks_does_not_count() -> None:
    async def main() -> None:
        async with (
            ScriptedCluster() as served,
            Cluster(served.bootstrap, recovery=Recovery(trigger_seconds=2)) as cluster,
        ):
            answer = served.handlers[ApiKey.METADATA]
            served.handlers[ApiKey.METADATA] = lambda _node, _request: None
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(cluster.refresh((TOPIC,)), 0.1)
            with pytest.raises(ClusterUnreachable):
                await cluster.refresh((TOPIC,), seconds=0.1)
            served.handlers[ApiKey.METADATA] = answer
            peer = await cluster.peer(0)
            await asyncio.sleep(2)
            await cluster.refresh((TOPIC,))
            assert peer.connected

    run(main())


def required(*_: Any) -> MetadataResponse:
    return MetadataResponse(error_code=ErrorCode.REBOOTSTRAP_REQUIRED)


def test_a_broker_sends_its_clients_away() -> None:
    async def check(old: ScriptedCluster, new: ScriptedCluster, bootstrap: str) -> None:
        async with Cluster(bootstrap) as cluster:
            old.handlers[ApiKey.METADATA] = required
            await old.replace(0, new)
            await cluster.refresh((TOPIC,))
            assert [one.port for one in cluster.brokers.values()] == new.ports
            new.handlers[ApiKey.METADATA] = required
            with pytest.raises(ClusterUnreachable, match="sends us back"):
                await cluster.refresh((TOPIC,))

    run(moving(check))


def test_what_another_question_has_found_by_now_is_kept_when_one_is_sent_away() -> None:
    async def check(old: ScriptedCluster, new: ScriptedCluster, bootstrap: str) -> None:
        async with Cluster(bootstrap) as cluster:
            old.handlers[ApiKey.METADATA] = required
            await old.replace(0, new)
            gate = asyncio.Event()
            opened = cluster._open

            async def opens(address: tuple[str, int], like: Peer | None) -> Peer:
                peer = await opened(address, like)
                if address[1] == old.ports[1]:
                    await gate.wait()
                return peer

            cluster._open = opens  # type: ignore[method-assign]
            late = asyncio.create_task(cluster.refresh((TOPIC,)))
            await asyncio.sleep(0)
            cluster.rebootstrap()
            await cluster.refresh((TOPIC,))
            peer = await cluster.peer(0)
            gate.set()
            await late
            assert peer.connected

    run(moving(check))


def test_who_comes_later_leaves_a_bootstrap_connection_alone() -> None:
    async def check(old: ScriptedCluster, new: ScriptedCluster, bootstrap: str) -> None:
        async with Cluster(bootstrap) as cluster:
            await old.replace(0, new)
            await old.close(1)
            gate = asyncio.Event()
            opened = cluster._open
            tries: list[int] = []

            async def opens(address: tuple[str, int], like: Peer | None) -> Peer:
                tries.append(address[1])
                if tries.count(old.ports[1]) == 2 and address[1] == old.ports[1]:
                    await gate.wait()
                peer = await opened(address, like)
                gate.set()
                return peer

            cluster._open = opens  # type: ignore[method-assign]
            await asyncio.gather(cluster.refresh((TOPIC,)), cluster.refresh((TOPIC,)))
            assert sorted(tries) == sorted([old.ports[1], old.ports[1], old.ports[0]])

    run(moving(check))


def test_without_recovery_being_sent_away_is_an_error() -> None:
    async def main() -> None:
        async with ScriptedCluster() as old, Admin(old.bootstrap, metadata_recovery_strategy="none") as admin:
            old.handlers[ApiKey.METADATA] = required
            with pytest.raises(KafkaError) as caught:
                await admin.list_topics()
            assert caught.value.code is ErrorCode.REBOOTSTRAP_REQUIRED

    run(main())


def test_an_unknown_strategy() -> None:
    with pytest.raises(ConfigError, match="rebootstrap and none"):
        Admin.from_config({"bootstrap.servers": "a:1", "metadata.recovery.strategy": "sometimes"})
    Admin.from_config(
        {
            "bootstrap.servers": "a:1",
            "metadata.recovery.strategy": "NONE",
            "metadata.recovery.rebootstrap.trigger.ms": "1000",
        }
    )


def test_a_lane_does_not_wait_for_a_connection_that_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cluster, "MAIN_CONNECTION_SECONDS", 0.1)

    async def main() -> None:
        async with ScriptedCluster() as scripted, Cluster(scripted.bootstrap) as cluster:
            await cluster.refresh((TOPIC,))
            await scripted.close(0)
            heard = asyncio.Event()

            async def first_is_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                if heard.is_set():
                    await scripted._serve(0)(reader, writer)
                else:
                    heard.set()
                    await reader.read()
                    writer.close()

            server = await asyncio.start_server(first_is_silent, "127.0.0.1", scripted.ports[0])
            silent = asyncio.create_task(cluster.peer(0))
            await heard.wait()
            async with asyncio.timeout(5):
                assert (await cluster.peer(0, lane="x")).connected
            assert not silent.done()
            silent.cancel()
            server.close()

    run(main())

"""One of two log directories fills up, fails or turns read-only under load (R9): `--chaos-rounds 50` for all of it.

Every round has its own seed, which a failure names; `OTTLA_CHAOS_SEED` repeats one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from pathlib import Path
from random import Random

import pytest

from harness.nodes import Client, Trouble, config_of, create, in_loop
from ottla.broker.node import Node

PARTITIONS = 4
BEFORE, DURING, AFTER = 12, 24, 12
RESUME_SECONDS = 30.0


class Round:
    """A node with the directories ``a`` and ``b``; the second one is in trouble."""

    def __init__(self, place: Path, seed: int) -> None:
        self.rng = Random(seed)
        self.places = (place / "a", place / "b")
        self.trouble = Trouble()
        self.trouble.disk.short = self.rng.choice((0.0, 0.3, 0.99))
        self.acknowledged: dict[int, list[bytes]] = {index: [] for index in range(PARTITIONS)}
        self.refused: dict[int, list[bytes]] = {index: [] for index in range(PARTITIONS)}
        self.sent = 0
        self.node: Node
        self.client: Client

    async def start(self) -> None:
        self.node = Node(config_of(*self.places, log_segment_bytes="1048576"), disk=self.trouble.disk)
        await self.node.start()
        self.client = await Client.connect(self.node)

    async def kill(self) -> None:
        self.trouble.end()
        self.node._supervisor.fail(RuntimeError("as if killed"))
        await self.node.stop()

    def in_trouble(self, partition: int) -> bool:
        return self.node.partitions.get("orders", partition).log.log_directory == str(self.places[1])

    async def produce(self, partition: int) -> bool:
        self.sent += 1
        value = b"%d " % self.sent + b"v" * self.rng.choice((10, 3000, 200_000))
        code = await self.client.produce(partition, value, acks=self.rng.choice((-1, 1)))
        (self.refused if code else self.acknowledged)[partition].append(value)
        return not code

    async def produce_some(self, count: int) -> None:
        for _ in range(count):
            await self.produce(self.rng.randrange(PARTITIONS))

    async def check(self) -> None:
        """What was acknowledged is there, once, in order; what was refused is not, unless it was left in doubt."""
        for partition in range(PARTITIONS):
            # acks=1 does not wait for the flush, and readers see what is flushed: a moment later.
            assert await self.produce(partition)
            found: list[bytes] = []
            while not found or found[-1] != self.acknowledged[partition][-1]:
                error, values = await self.client.consume(partition, len(found), max_wait_ms=1000)
                assert error == 0, (partition, error)
                assert values, "the last acknowledged record does not come"
                found.extend(values)
            doubtful = set(self.refused[partition])
            assert [value for value in found if value not in doubtful] == self.acknowledged[partition]
            assert len(set(found)) == len(found)


def seeds(request: pytest.FixtureRequest, share: float = 1.0) -> list[int]:
    if "OTTLA_CHAOS_SEED" in os.environ:
        return [int(os.environ["OTTLA_CHAOS_SEED"])]
    rounds = max(1, int(request.config.getoption("--chaos-rounds") * share))
    first = Random().randrange(10**9)
    return list(range(first, first + rounds))


def run(tmp_path: Path, seed: int, scenario: object) -> None:
    place = tmp_path / str(seed)
    place.mkdir()

    async def whole() -> None:
        one = Round(place, seed)
        await one.start()
        await create(one.node, PARTITIONS)
        await one.produce_some(BEFORE)
        await scenario(one)  # type: ignore[operator]  # a coroutine function of this module
        await one.kill()
        await one.start()
        await one.check()
        await one.check()
        await one.node.stop()

    try:
        in_loop(whole)
    except BaseException as failure:
        failure.add_note(f"OTTLA_CHAOS_SEED={seed} repeats the round")
        raise


def test_a_full_disk_takes_nothing_and_gives_nothing_up(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    async def scenario(one: Round) -> None:
        one.trouble.begin(one.places[1], "write", "open", "make_directory", number=errno.ENOSPC)
        for _ in range(DURING):
            partition = one.rng.randrange(PARTITIONS)
            taken = await one.produce(partition)
            assert taken is not one.in_trouble(partition)
        one.trouble.end()
        space_returned = time.monotonic()
        for partition in range(PARTITIONS):
            while not await one.produce(partition):
                await asyncio.sleep(0.05)
            assert time.monotonic() - space_returned < RESUME_SECONDS
        await one.produce_some(AFTER)
        await one.check()

    for seed in seeds(request):
        run(tmp_path, seed, scenario)


@pytest.mark.parametrize("kind", ["failed sync", "read-only"])
def test_nothing_is_acknowledged_by_a_directory_that_failed(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    async def scenario(one: Round) -> None:
        one.trouble.begin(
            one.places[1],
            *(
                ("sync",)
                if kind == "failed sync"
                else ("write", "open", "make_directory", "rename", "truncate", "sync")
            ),
            number=errno.EIO if kind == "failed sync" else errno.EROFS,
        )
        victim = next(index for index in range(PARTITIONS) if one.in_trouble(index))
        before = len(one.acknowledged[victim])
        code = await one.client.produce(victim, b"the first to fail", acks=-1)
        assert code, "acknowledged after a failed flush"
        one.refused[victim].append(b"the first to fail")
        if one.rng.random() < 0.5:
            # A disk that claims to work again is not believed.
            one.trouble.end()
        for _ in range(DURING):
            partition = one.rng.randrange(PARTITIONS)
            taken = await one.produce(partition)
            assert taken is not one.in_trouble(partition), "only the other directory serves"
        assert len(one.acknowledged[victim]) == before
        assert not one.node._supervisor.failure.done()

    for seed in seeds(request, 1.0 if kind == "failed sync" else 0.2):
        run(tmp_path, seed, scenario)

"""Our own clients behind a network that breaks in every way there is, judged by the checker of the chaos suite.

Nothing acknowledged is lost, nothing is there twice, readers pass over nothing, and everybody gets on again within
`PROGRESS_SECONDS` of the end of a fault. `--client-seconds 600` makes a long run of it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chaos.checker import check
from chaos.history import BEGINS, ENDS, NEMESIS, RUN, Header, History, Poll, Send, make_record, read_record
from chaos.report import summary
from chaos.run import catch_up
from chaos.stage import Stage
from harness import clusters
from harness.processes import free_port
from harness.proxy import Proxy, Weather
from ottla.client import Admin, Consumer, ConsumerRecord, Producer, Receipt, TopicPartition

TOPIC, PARTITIONS = "t", 2
PROGRESS_SECONDS = 60.0
PAUSE_SECONDS = (0.2, 0.6)


class Play:
    """The workers of a run, and how often each has got on."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.history = stage.history
        self.progress: Counter[str] = Counter()
        self.over = asyncio.Event()

    async def produce(self, name: str) -> None:
        """Records one after the other without waiting; the history learns of each where it lies."""
        stage, process = self.stage, self.stage.new_process()
        dice = random.Random(f"{name} {stage.seed}")
        self.history.mark(RUN, BEGINS, worker=name)
        async with Producer(stage.bootstrap, linger_ms=1, batch_size=600, request_timeout_ms=2_000) as producer:
            while not self.over.is_set():
                send = stage.new_send(dice.choice(stage.keys(TOPIC)))
                invoked = self.history.invoke(process, "send", [send], worker=name)
                record = make_record(send.key, int(send.value), name, dice.choice((0, 300)))
                partition = stage.place(send.key)[1]
                receipt = await producer.send_soon(TOPIC, record, partition=partition)
                receipt.add_done_callback(partial(self._sent, invoked, send))
                await asyncio.sleep(dice.expovariate(stage.rate))
        self.history.mark(RUN, ENDS, worker=name)

    def _sent(self, invoked: Any, send: Send, receipt: Receipt) -> None:
        if receipt.exception() is not None:
            self.history.complete(invoked, "info", err=str(receipt.exception()))
            return
        self.progress[invoked.w] += 1
        self.history.complete(invoked, "ok", [Send(send.key, receipt.result().offset, send.value)])

    async def follow(self, name: str) -> None:
        """Every partition from its beginning, by one process: it may pass over nothing and never go back."""
        offsets = {TopicPartition(*self.stage.place(key)): 0 for key in self.stage.keys(TOPIC)}
        await self._read(name, "assign", topics=[TOPIC], offsets=offsets)

    async def be_member(self, name: str, protocol: str) -> None:
        await self._read(
            name,
            "subscribe",
            topics=[TOPIC],
            group=f"group-{protocol}",
            group_protocol=protocol,
            auto_offset_reset="earliest",
            auto_commit_interval_ms=200,
            heartbeat_interval_ms=300,
            session_timeout_ms=6_000,
        )

    async def _read(self, name: str, mode: str, **options: Any) -> None:
        process = self.stage.new_process()
        self.history.mark(RUN, BEGINS, worker=name)
        async with Consumer(
            self.stage.bootstrap,
            isolation_level="read_committed",
            fetch_max_wait_ms=50,
            request_timeout_ms=2_000,
            default_api_timeout_ms=10_000,
            **options,
        ) as consumer:
            self.history.complete(self.history.invoke(process, mode, worker=name), "ok")
            while not self.over.is_set():
                records = await consumer.get_many(50, 0.2)
                if records:
                    self.progress[name] += 1
                    invoked = self.history.invoke(process, "poll", worker=name)
                    self.history.complete(invoked, "ok", [Poll(self._values(records))])
        self.history.mark(RUN, ENDS, worker=name)

    def _values(self, records: list[ConsumerRecord]) -> dict[int, list[tuple[int, Any]]]:
        found: dict[int, list[tuple[int, Any]]] = {}
        for record in records:
            key = self.stage.key_of(record.topic, record.partition)
            found.setdefault(key, []).append((record.offset, read_record(key, record.value)))
        return found

    async def break_network(self, seconds: float) -> Counter[str]:
        """One fault after the other, and peace between them; then everybody has to get on."""
        proxy, dice = self.stage.proxy, random.Random(self.stage.seed)
        kinds: dict[str, Callable[[], object]] = {
            "half an answer": lambda: proxy.cut("answers", share=0.7),
            "half a request": lambda: proxy.cut("requests", share=0.7),
            "swapped answers": proxy.swap,
            "resets": lambda: proxy.reset(share=0.7),
            "delay": lambda: proxy.set_weather(Weather(delay_seconds=0.3), share=0.7),
            "silence": lambda: proxy.set_weather(Weather(blackhole=True), share=0.7),
            "no answers": lambda: proxy.set_weather(Weather(swallow_answers=True), share=0.7),
            "slow": lambda: proxy.set_weather(Weather(bytes_per_second=20_000), share=0.7),
        }
        done: Counter[str] = Counter()
        ends_at = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < ends_at or len(done) < len(kinds) or not proxy.swapped:
            # Each once before any comes again; answers are swapped until it was seen.
            kind = dice.choice([one for one in kinds if done[one] == min(done[one] for one in kinds)])
            if len(done) == len(kinds) and not proxy.swapped:
                kind = "swapped answers"
            done[kind] += 1
            self.history.mark(NEMESIS, kind.replace(" ", "-"))
            await asyncio.to_thread(kinds[kind])
            await asyncio.sleep(dice.uniform(*PAUSE_SECONDS))
            await asyncio.to_thread(proxy.clear)
            self.history.mark(NEMESIS, "heal")
            await asyncio.sleep(dice.uniform(*PAUSE_SECONDS))
        return done

    async def see_progress(self, workers: list[str]) -> None:
        before = self.progress.copy()
        async with asyncio.timeout(PROGRESS_SECONDS):
            while any(self.progress[name] == before[name] for name in workers):
                await asyncio.sleep(0.05)


@pytest.fixture
def stage(cluster_kind: str, tmp_path: Path) -> Iterator[Stage]:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    port = free_port()
    with Proxy(port, seed=seed) as proxy:
        config = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{proxy.port}"}
        node = clusters.make_node(cluster_kind, tmp_path / "data", port=port, config=config)
        node.start()
        try:
            header = Header(keys={number: (TOPIC, number) for number in range(PARTITIONS)}, seed=seed)
            with History(header, tmp_path / "history.jsonl") as history:
                yield Stage(history, proxy=proxy, node_port=port, seed=seed, rate=100.0)
        finally:
            node.kill()


def test_our_clients_behind_a_broken_network(stage: Stage, request: pytest.FixtureRequest) -> None:
    seconds = float(request.config.getoption("--client-seconds"))

    async def main() -> None:
        async with Admin(stage.bootstrap) as admin:
            await admin.create_topic(TOPIC, partitions=PARTITIONS)
        play = Play(stage)
        stage.history.mark(RUN, "start", "ottla.client behind a broken network")
        workers = {
            "producer-0": play.produce("producer-0"),
            "producer-1": play.produce("producer-1"),
            "follower": play.follow("follower"),
            "classic-0": play.be_member("classic-0", "classic"),
            "next-0": play.be_member("next-0", "consumer"),
        }
        async with asyncio.TaskGroup() as group:
            for name, worker in workers.items():
                group.create_task(worker, name=name)
            await play.see_progress(list(workers))
            done = await play.break_network(seconds)
            await play.see_progress(list(workers))
            play.over.set()
        stage.history.mark(RUN, "end")
        assert stage.proxy.swapped
        assert len(done) == 8, "every kind of fault has come"

    asyncio.run(asyncio.wait_for(main(), seconds + 2 * PROGRESS_SECONDS + 60))
    catch_up(stage, [])
    verdict = check(stage.history)
    print(summary(stage.history, verdict))
    assert verdict.bad == ()
    assert verdict.acknowledged > 100

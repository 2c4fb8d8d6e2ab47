"""The fetcher against brokers that answer by script: followers, hints, truncation, throttling, silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from harness import scripted
from ottla.client import Consumer, ErrorCode, KafkaError, TopicPartition
from ottla.client._backoff import Backoff
from ottla.client._cluster import Cluster
from ottla.client._fetch_session import FetchSession, FetchSettings
from ottla.client._fetcher import Fetcher
from ottla.wire.apis import ApiKey
from ottla.wire.messages.fetch_response import FetchResponse, LeaderIdAndEpoch, NodeEndpoint
from ottla.wire.messages.offset_for_leader_epoch_response import (
    EpochEndOffset,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
)
from ottla.wire.mold import AnswerMold

PLACE = TopicPartition(scripted.TOPIC, 0)


def run(main: Awaitable[None]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(main, 30)

    asyncio.run(limited())


async def offsets(consumer: Consumer, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found += [record.offset for record in await consumer.get_many(count - len(found), 5.0)]
    return found


def growing(cluster: scripted.ScriptedCluster, *, until: int) -> Callable[[int, Any], FetchResponse]:
    """Answers fetches that read on, each with a record more as long as there are fewer than ``until``."""

    def fetch(node: int, request: Any) -> FetchResponse:
        if request.topics and cluster.end < until:
            cluster.append(b"one more")
        return cluster.fetch(node, request)

    return fetch


@pytest.mark.parametrize(("size", "order"), [(10, "fetch record fetch"), (100_000, "fetch fetch record")])
def test_little_is_handed_out_before_the_next_fetch_and_much_after_it(
    monkeypatch: pytest.MonkeyPatch, size: int, order: str
) -> None:
    happened: list[str] = []

    def note(name: str) -> None:
        written = getattr(FetchSession, name)

        def noted(self: FetchSession, *rest: Any) -> Any:
            happened.append("fetch")
            return written(self, *rest)

        monkeypatch.setattr(FetchSession, name, noted)

    async def main() -> None:
        async with scripted.ScriptedCluster() as cluster:
            cluster.append(bytes(size))
            async with Consumer(cluster.bootstrap, topics=[scripted.TOPIC], auto_offset_reset="earliest") as consumer:
                async for _ in consumer:
                    happened.append("record")
                    break
                while len(happened) < 3:
                    await asyncio.sleep(0.01)

    note("request")
    note("frame")
    run(main())
    assert " ".join(happened[:3]) == order


def test_connects_ahead_and_asks_for_nothing() -> None:
    async def main() -> None:
        async with scripted.ScriptedCluster() as cluster, Cluster(cluster.bootstrap) as known:
            await known.refresh((scripted.TOPIC,))
            fetcher = Fetcher(known, FetchSettings(), reset_timestamp=lambda: None)
            running = asyncio.create_task(fetcher.run())
            await asyncio.sleep(0)
            connections = cluster.accepted[0]
            fetcher.expect((PLACE,))
            while cluster.accepted[0] == connections:
                await asyncio.sleep(0.01)
            assert await fetcher.next(0.1) is None
            assert not cluster.asked(ApiKey.FETCH)
            fetcher.stop()
            await running

    run(main())


def test_sessions_name_only_what_changed() -> None:
    async def main() -> None:
        async with scripted.ScriptedCluster() as cluster:
            cluster.append(b"0", b"1")
            async with Consumer(cluster.bootstrap, topics=[scripted.TOPIC], auto_offset_reset="earliest") as consumer:
                assert await offsets(consumer, 2) == [0, 1]
                while len(cluster.asked(ApiKey.FETCH)) < 4:
                    await asyncio.sleep(0.01)
            first, second, third = cluster.asked(ApiKey.FETCH)[:3]
            assert (first.session_id, first.session_epoch) == (0, 0)
            assert (second.session_id, second.session_epoch) == (5, 1)
            assert second.topics[0].partitions[0].fetch_offset == 2
            assert (third.session_epoch, third.topics, third.forgotten_topics_data) == (2, [], [])

    run(main())


def test_what_is_only_read_on_is_filled_into_the_last_request_until_something_else_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[int] = []
    request = FetchSession.request

    def noted(self: FetchSession, wanted: Any, *rest: Any) -> Any:
        written.extend(want.offset for want in wanted.values())
        return request(self, wanted, *rest)

    async def main() -> None:
        async with scripted.ScriptedCluster() as cluster:
            cluster.handlers[ApiKey.FETCH] = growing(cluster, until=20)
            async with Consumer(cluster.bootstrap, topics=[scripted.TOPIC], auto_offset_reset="earliest") as consumer:
                assert await offsets(consumer, 20) == list(range(20))
                while (fetches := cluster.asked(ApiKey.FETCH))[-1].topics:
                    await asyncio.sleep(0.01)
                named = [one.topics[0].partitions[0].fetch_offset for one in fetches if one.topics]
                assert named == list(range(21))
                assert [one.session_epoch for one in fetches] == list(range(len(fetches)))
                assert {one.session_id for one in fetches[1:]} == {5}
                assert set(written) == {0, 20}, "the first, and those after an answer that brought nothing"
                consumer.seek({PLACE: 3})
                assert await offsets(consumer, 17) == list(range(3, 20))
                assert set(written) == {0, 20, 3}
                consumer.pause(PLACE)
                await asyncio.sleep(0.1)
                assert cluster.asked(ApiKey.FETCH)[-1].session_epoch == len(cluster.asked(ApiKey.FETCH)) - 1

    monkeypatch.setattr(FetchSession, "request", noted)
    run(main())


@pytest.mark.parametrize("change", ["seek", "pause"])
def test_an_answer_in_the_mold_that_comes_too_late_is_dropped(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """The partition moves, or rests, while the request that only reads on is at the broker."""
    read: list[int] = []
    read_of = AnswerMold.read

    def noted(self: AnswerMold, frame: bytes) -> Any:
        found = read_of(self, frame)
        if found is not None and found.records is not None:
            read.append(len(found.records))
        return found

    async def main() -> None:
        async with scripted.ScriptedCluster() as cluster:
            held, release = asyncio.Event(), asyncio.Event()
            grow = growing(cluster, until=10)

            async def fetch(node: int, request: Any) -> FetchResponse:
                if request.topics and cluster.end == 6:
                    held.set()
                    await release.wait()
                return grow(node, request)

            cluster.handlers[ApiKey.FETCH] = fetch
            async with Consumer(cluster.bootstrap, topics=[scripted.TOPIC], auto_offset_reset="earliest") as consumer:
                assert await offsets(consumer, 6) == list(range(6))
                await held.wait()
                assert len(read) > 2
                if change == "seek":
                    consumer.seek({PLACE: 2})
                else:
                    consumer.pause(PLACE)
                before = len(read)
                release.set()
                while len(read) == before:
                    await asyncio.sleep(0.01)
                if change == "pause":
                    assert await consumer.get_many(1, 0.1) == []
                    consumer.resume(PLACE)
                    # Another offset than the one it rested at: these brokers remember no sessions.
                    consumer.seek({PLACE: 5})
                    assert await offsets(consumer, 5) == list(range(5, 10))
                else:
                    assert await offsets(consumer, 8) == list(range(2, 10))
                epochs = [one.session_epoch for one in cluster.asked(ApiKey.FETCH)]
                assert epochs == list(range(len(epochs)))

    monkeypatch.setattr(AnswerMold, "read", noted)
    run(main())


def near(cluster: scripted.ScriptedCluster) -> Consumer:
    """A reader whose rack has a follower."""
    return Consumer(cluster.bootstrap, topics=[scripted.TOPIC], auto_offset_reset="earliest", client_rack="near")


def test_reads_from_the_follower_that_the_leader_names_and_returns_where_that_fails() -> None:
    async def main() -> None:
        async with scripted.ScriptedCluster(nodes=2) as cluster:
            cluster.append(b"0")
            behind = False

            def fetch(node: int, request: Any) -> FetchResponse:
                if node == 0 and not behind:
                    return cluster.fetch(node, request, records=None, preferred_read_replica=1)
                if node == 1 and behind:
                    return cluster.fetch(node, request, records=None, error_code=ErrorCode.OFFSET_OUT_OF_RANGE)
                return cluster.fetch(node, request)

            cluster.handlers[ApiKey.FETCH] = fetch
            async with near(cluster) as consumer:
                assert await offsets(consumer, 1) == [0]
                assert cluster.asked(ApiKey.FETCH, 1)
                assert cluster.asked(ApiKey.FETCH, 0)[0].rack_id == "near"
                behind = True
                cluster.append(b"1")
                consumer.seek({PLACE: 1})
                assert await offsets(consumer, 1) == [1]

    run(main())


def test_returns_to_the_leader_when_its_word_is_too_old() -> None:
    async def main() -> None:
        async with scripted.ScriptedCluster(nodes=2) as cluster:
            cluster.append(b"0")
            named = True

            def fetch(node: int, request: Any) -> FetchResponse:
                if node == 0 and named:
                    return cluster.fetch(node, request, records=None, preferred_read_replica=1)
                return cluster.fetch(node, request)

            cluster.handlers[ApiKey.FETCH] = fetch
            async with near(cluster) as consumer:
                assert await offsets(consumer, 1) == [0]
                named = False
                asked = len(cluster.asked(ApiKey.FETCH, 0))
                for reading in consumer._fetcher.readings.all():
                    reading.replica_until = 0.0
                async with asyncio.timeout(10):
                    while len(cluster.asked(ApiKey.FETCH, 0)) == asked:
                        await asyncio.sleep(0.01)

    run(main())


def test_a_former_leader_that_takes_long_to_say_so_is_not_asked_for_ever() -> None:
    async def main() -> None:
        async with scripted.ScriptedCluster(nodes=2) as cluster:
            cluster.append(b"a", b"b")
            answer = cluster.handlers[ApiKey.LIST_OFFSETS]

            async def slowly(node: int, request: Any) -> Any:
                # Longer than the patience of one look-up.
                await asyncio.sleep(0.15)
                cluster.leader = 1
                return answer(node, request)

            cluster.handlers[ApiKey.LIST_OFFSETS] = slowly
            async with Consumer(cluster.bootstrap, auto_offset_reset="earliest") as consumer:
                await consumer.assign([PLACE])
                assert await offsets(consumer, 2) == [0, 1]
            assert [node for node, key, _, _ in cluster.requests if key is ApiKey.LIST_OFFSETS] == [0, 1]

    run(main())


def test_follows_a_hint_without_asking_for_metadata() -> None:
    async def main() -> None:
        async with scripted.ScriptedCluster(nodes=2) as cluster:
            cluster.append(b"0")
            cluster.brokers = [0]

            def fetch(node: int, request: Any) -> FetchResponse:
                if node == 1:
                    return cluster.fetch(node, request)
                hint = LeaderIdAndEpoch(leader_id=1, leader_epoch=4)
                answer = cluster.fetch(
                    node, request, records=None, error_code=ErrorCode.NOT_LEADER_OR_FOLLOWER, current_leader=hint
                )
                answer.node_endpoints = [NodeEndpoint(node_id=1, host="127.0.0.1", port=cluster.ports[1])]
                return answer

            cluster.handlers[ApiKey.FETCH] = fetch
            async with Consumer(cluster.bootstrap, topics=[scripted.TOPIC], auto_offset_reset="earliest") as consumer:
                known = len(cluster.asked(ApiKey.METADATA))
                assert await offsets(consumer, 1) == [0]
                assert len(cluster.asked(ApiKey.METADATA)) == known
                fetched = cluster.asked(ApiKey.FETCH, 1)[0].topics[0].partitions[0]
                assert fetched.current_leader_epoch == 4

    run(main())


def truncating(cluster: Any) -> None:
    """The new leader's log of epoch 0 ended at offset 3."""

    def end(node: int, request: Any) -> OffsetForLeaderEpochResponse:
        asked = request.topics[0].partitions[0]
        assert (asked.leader_epoch, asked.current_leader_epoch) == (0, 1)
        answer = EpochEndOffset(partition=0, leader_epoch=0, end_offset=3)
        return OffsetForLeaderEpochResponse(
            topics=[OffsetForLeaderTopicResult(topic=scripted.TOPIC, partitions=[answer])]
        )

    cluster.handlers[ApiKey.OFFSET_FOR_LEADER_EPOCH] = end


@pytest.mark.parametrize("reset", ["earliest", "none"])
def test_a_truncated_log_is_noticed(reset: Any) -> None:
    async def main() -> None:
        async with scripted.ScriptedCluster() as cluster:
            truncating(cluster)
            cluster.append(b"0", b"1", b"2", b"3", b"4")
            async with Consumer(
                cluster.bootstrap,
                topics=[scripted.TOPIC],
                offsets={PLACE: 0},
                auto_offset_reset=reset,
                metadata_max_age_ms=200,
            ) as consumer:
                assert await offsets(consumer, 5) == [0, 1, 2, 3, 4]
                cluster.log, cluster.end, cluster.leader_epoch = b"", 0, 1
                cluster.append(b"0", b"1", b"2", epoch=0)
                cluster.append(b"other")
                if reset == "none":
                    with pytest.raises(KafkaError, match="truncated to 3"):
                        await consumer.get_many(1, 10.0)
                else:
                    (record,) = await consumer.get_many(1, 10.0)
                    assert (record.offset, record.value) == (3, b"other")

    run(main())


def test_throttling_is_honoured() -> None:
    async def main() -> None:
        async with scripted.ScriptedCluster() as cluster:
            cluster.append(b"0")

            def fetch(node: int, request: Any) -> FetchResponse:
                answer = cluster.fetch(node, request)
                answer.throttle_time_ms = 400
                return answer

            cluster.handlers[ApiKey.FETCH] = fetch
            async with Consumer(cluster.bootstrap, topics=[scripted.TOPIC], auto_offset_reset="earliest") as consumer:
                await offsets(consumer, 1)
                while len(cluster.asked(ApiKey.FETCH)) < 3:
                    await asyncio.sleep(0.02)
            times = [when for _, key, _, when in cluster.requests if key is ApiKey.FETCH]
            assert times[1] - times[0] > 0.39
            assert times[2] - times[1] > 0.39

    run(main())


def test_silence_does_not_hang() -> None:
    async def main() -> None:
        async with scripted.ScriptedCluster() as cluster:
            cluster.handlers[ApiKey.FETCH] = lambda _node, _request: None
            began = asyncio.get_running_loop().time()
            async with Consumer(cluster.bootstrap, topics=[scripted.TOPIC]) as consumer:
                assert await consumer.poll(0.2) == []
            assert asyncio.get_running_loop().time() - began < 5.0

    run(main())


def test_a_damaged_batch_is_fetched_again() -> None:
    async def main() -> None:
        async with scripted.ScriptedCluster() as cluster:
            cluster.append(b"0")
            cluster.append(b"1")
            whole = cluster.log
            cluster.log = whole[:-1] + b"\xff"
            async with Consumer(cluster.bootstrap, topics=[scripted.TOPIC], auto_offset_reset="earliest") as consumer:
                assert await offsets(consumer, 1) == [0]
                with pytest.raises(KafkaError) as caught:
                    await consumer.get_many(1, 5.0)
                assert caught.value.code is ErrorCode.CORRUPT_MESSAGE
                assert consumer.position(PLACE) == 1
                cluster.log = whole
                while True:
                    try:
                        assert await offsets(consumer, 1) == [1]
                        break
                    except KafkaError:
                        continue

    run(main())


def test_a_consumer_that_is_closed_does_not_wait_until_it_would_have_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Backoff, "next_seconds", lambda _self: 60.0)

    async def main() -> None:
        async with scripted.ScriptedCluster() as cluster:
            cluster.handlers[ApiKey.FETCH] = lambda _node, _request: None
            async with Consumer(cluster.bootstrap, topics=[scripted.TOPIC], auto_offset_reset="earliest"):
                while not cluster.asked(ApiKey.FETCH):
                    await asyncio.sleep(0.01)

    run(main())

"""Groups: by the classic and the next generation protocol, alone and mixed with other clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from typing import Any

import pytest

from ottla.client import (
    Admin,
    Consumer,
    ConsumerGroupMetadata,
    ErrorCode,
    KafkaError,
    Producer,
    RebalanceListener,
    TopicPartition,
)

Run = Callable[[Awaitable[Any]], Any]


@pytest.fixture(params=["classic", "consumer"])
def protocol(request: pytest.FixtureRequest) -> str:
    """Each group protocol."""
    return str(request.param)


class Heard(RebalanceListener):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.assigned: list[frozenset[TopicPartition]] = []
        self.revoked: list[frozenset[TopicPartition]] = []
        self.lost: list[frozenset[TopicPartition]] = []

    async def on_assigned(self, partitions: Collection[TopicPartition]) -> None:
        self.assigned.append(frozenset(partitions))

    def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.revoked.append(frozenset(partitions))

    async def on_lost(self, partitions: Collection[TopicPartition]) -> None:
        self.lost.append(frozenset(partitions))


class Members:
    """Consumers of one group that read at the same time, each in a task."""

    def __init__(self, bootstrap: str, **options: Any) -> None:
        self.bootstrap = bootstrap
        self.options = {"heartbeat_interval_ms": 300, "auto_offset_reset": "earliest", **options}
        self.values: Counter[bytes] = Counter()
        self.stack = AsyncExitStack()
        self.consumers: list[Consumer] = []
        self.tasks: dict[Consumer, asyncio.Task[None]] = {}

    async def join(self, **options: Any) -> Consumer:
        consumer = Consumer(self.bootstrap, **{**self.options, **options})
        await consumer.__aenter__()
        self.consumers.append(consumer)
        self.tasks[consumer] = asyncio.create_task(self._read(consumer))
        return consumer

    async def leave(self, consumer: Consumer) -> None:
        self.tasks.pop(consumer).cancel()
        self.consumers.remove(consumer)
        await consumer.__aexit__(None, None, None)

    async def __aenter__(self) -> Members:  # noqa: PYI034 - nobody derives from it
        return self

    async def __aexit__(self, *_: object) -> None:
        for consumer in list(self.consumers):
            await self.leave(consumer)

    async def settled(self, *counts: int, seconds: float = 40.0) -> None:
        """Wait until the members own these numbers of partitions, nothing twice."""
        deadline = time.monotonic() + seconds
        while True:
            owned = [consumer.assignment() for consumer in self.consumers]
            union = frozenset().union(*owned)
            if sorted(len(one) for one in owned) == sorted(counts) and len(union) == sum(counts):
                return
            assert time.monotonic() < deadline, f"{owned} never became {counts}"
            await asyncio.sleep(0.05)

    async def seen(self, count: int, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while len(self.values) < count:
            assert time.monotonic() < deadline, f"{len(self.values)} of {count} records"
            await asyncio.sleep(0.05)

    async def _read(self, consumer: Consumer) -> None:
        while True:
            for record in await consumer.get_many(50, 0.2):
                self.values[record.value or b""] += 1


async def produce(bootstrap: str, topic: str, count: int, partitions: int, first: int = 0) -> None:
    async with Producer(bootstrap) as producer:
        await asyncio.gather(
            *[
                producer.send(topic, b"value %d" % number, partition=number % partitions)
                for number in range(first, first + count)
            ]
        )


def test_commits_carry_over(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run, protocol: Any
) -> None:
    topic, group = make_topic(partitions=2, count=100), unique("group")

    async def main() -> None:
        options: Any = {"group": group, "topics": [topic], "group_protocol": protocol, "auto_offset_reset": "earliest"}
        seen: Counter[bytes | None] = Counter()
        async with Consumer(bootstrap, **options) as consumer:
            async for record in consumer:
                seen[record.value] += 1
                if sum(seen.values()) == 60:
                    break
        async with Consumer(bootstrap, **options) as consumer:
            async for record in consumer:
                seen[record.value] += 1
                if sum(seen.values()) == 100:
                    break
            assert await consumer.get_many(1, 0.3) == []
            committed = await consumer.committed(consumer.assignment())
            assert sum(one.offset for one in committed.values() if one is not None) == 60
            await consumer.commit()
            committed = await consumer.committed(consumer.assignment())
            assert sum(one.offset for one in committed.values() if one is not None) == 100
        assert set(seen.values()) == {1}

    run(main())


def test_what_is_in_hand_is_not_committed_when_the_application_fails(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run, protocol: Any
) -> None:
    topic, group = make_topic(partitions=1, count=10), unique("group")

    async def main() -> None:
        options: Any = {"group": group, "topics": [topic], "group_protocol": protocol, "auto_offset_reset": "earliest"}

        async def fail_at_four() -> None:
            async with Consumer(bootstrap, **options) as consumer:
                async for record in consumer:
                    if record.offset == 4:
                        raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail_at_four()
        async with Consumer(bootstrap, **options) as consumer:
            assert (await consumer.get_many(1, 20.0))[0].offset == 4

    run(main())


@pytest.mark.parametrize("assignors", [("range",), ("roundrobin",), ("sticky",), ("cooperative-sticky",)])
def test_members_come_and_go(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run, assignors: Any
) -> None:
    topic, group = make_topic(partitions=6), unique("group")

    async def main() -> None:
        async with Members(bootstrap, group=group, topics=[topic], assignors=assignors) as members:
            first = await members.join()
            await members.settled(6)
            await produce(bootstrap, topic, 60, 6)
            await members.join()
            await members.settled(3, 3)
            await members.join()
            await members.settled(2, 2, 2)
            await produce(bootstrap, topic, 60, 6, first=60)
            await members.seen(120)
            await members.leave(first)
            await members.settled(3, 3)
            await produce(bootstrap, topic, 60, 6, first=120)
            await members.seen(180)
        assert set(members.values.values()) == {1}

    run(main())


def test_closing_ends_a_commit_that_waits_for_the_coordinator(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run, protocol: Any
) -> None:
    """It would come after the last commit, with offsets of before, or hold up the end until it gives up."""
    place, group = TopicPartition(make_topic(count=10), 0), unique("group")

    async def main() -> None:
        begun = asyncio.Event()
        async with Consumer(
            bootstrap,
            group=group,
            topics=[place.topic],
            group_protocol=protocol,
            auto_offset_reset="earliest",
            auto_commit_interval_ms=50,
        ) as consumer:
            assert consumer._commits is not None
            commit = consumer._commits.commit

            async def slowly(offsets: Any, seconds: float) -> None:
                if offsets and not begun.is_set():
                    begun.set()
                    await asyncio.sleep(60)
                await commit(offsets, seconds)

            consumer._commits.commit = slowly  # type: ignore[method-assign]  # as if the coordinator were away
            seen = len(await consumer.get_many(5, 20.0))
            async with asyncio.timeout(20):
                while not begun.is_set():
                    seen += len(await consumer.get_many(1, 0.1))
            closing_at = time.monotonic()
        assert time.monotonic() - closing_at < 20
        async with Consumer(bootstrap, group=group) as reader:
            found = (await reader.committed([place]))[place]
        assert found is not None
        assert found.offset == seen

    run(main())


def test_next_generation_members_come_and_go(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run
) -> None:
    topic, group = make_topic(partitions=6), unique("group")

    async def main() -> None:
        async with Members(bootstrap, group=group, topics=[topic], group_protocol="consumer") as members:
            first = await members.join()
            await members.settled(6)
            await produce(bootstrap, topic, 60, 6)
            await members.join(group_remote_assignor="uniform")
            await members.settled(3, 3)
            await produce(bootstrap, topic, 60, 6, first=60)
            await members.seen(120)
            await members.leave(first)
            await members.settled(6)
            await produce(bootstrap, topic, 60, 6, first=120)
            await members.seen(180)
        assert set(members.values.values()) == {1}

    run(main())


def test_cooperative_members_keep_reading(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run
) -> None:
    topic, group = make_topic(partitions=4), unique("group")
    heard = Heard()

    async def main() -> None:
        async with Members(bootstrap, group=group, topics=[topic], assignors=["cooperative-sticky"]) as members:
            await members.join(listener=heard)
            await members.settled(4)
            await members.join()
            await members.settled(2, 2)
        assert heard.assigned[0] == {TopicPartition(topic, number) for number in range(4)}
        assert len(heard.revoked[0]) == 2, "only what moves is revoked"
        assert heard.lost == []

    run(main())


def test_listener_hears_in_order_and_may_commit(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run, protocol: Any
) -> None:
    topic, group = make_topic(partitions=2, count=20), unique("group")
    place = TopicPartition(topic, 0)

    class Committing(Heard):
        consumer: Consumer

        async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:  # type: ignore[override]
            await self.consumer.commit({place: 7})
            self.revoked.append(frozenset(partitions))

    async def main() -> None:
        heard = Committing()
        options: Any = {"group": group, "topics": [topic], "group_protocol": protocol, "auto_offset_reset": "earliest"}
        async with Consumer(bootstrap, listener=heard, enable_auto_commit=False, **options) as consumer:
            heard.consumer = consumer
            await consumer.get_many(20, 20.0)
        everything = {place, TopicPartition(topic, 1)}
        assert frozenset().union(*heard.assigned) == everything
        assert frozenset().union(*heard.revoked) == everything
        assert heard.lost == []
        async with Consumer(bootstrap, group=group) as reader:
            assert (await reader.committed([place]))[place].offset == 7

    run(main())


def test_static_member_comes_back_without_a_rebalance(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run, protocol: Any
) -> None:
    topic, group = make_topic(partitions=4), unique("group")

    async def main() -> None:
        heard = Heard()
        async with Members(bootstrap, group=group, topics=[topic], group_protocol=protocol) as members:
            await members.join(group_instance_id="stays", listener=heard)
            restarted = await members.join(group_instance_id="restarts")
            await members.settled(2, 2)
            before, changes = restarted.assignment(), len(heard.assigned) + len(heard.revoked)
            await members.leave(restarted)
            again = await members.join(group_instance_id="restarts")
            await members.settled(2, 2)
            assert again.assignment() == before
            assert len(heard.assigned) + len(heard.revoked) == changes

    run(main())


def test_a_second_holder_of_an_instance_id_fences_the_first(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run
) -> None:
    topic, group = make_topic(partitions=1), unique("group")

    async def main() -> None:
        options: Any = {"group": group, "topics": [topic], "group_instance_id": "one", "heartbeat_interval_ms": 200}
        async with Consumer(bootstrap, **options) as first:
            await first.get_many(1, 1.0)
            async with Consumer(bootstrap, **options) as second:
                await second.get_many(1, 1.0)
                with pytest.raises(KafkaError) as caught:
                    await first.get_many(1, 20.0)
                assert caught.value.code is ErrorCode.FENCED_INSTANCE_ID
                with pytest.raises(KafkaError):
                    await first.get_many(1, 20.0)
                assert "'one'" in str(caught.value)

    run(main())


def test_pattern_finds_new_topics(bootstrap: str, unique: Callable[[str], str], run: Run, protocol: Any) -> None:
    prefix, group = unique("pattern"), unique("group")

    async def main() -> None:
        async with Admin(bootstrap) as admin:
            await admin.create_topic(f"{prefix}-one", partitions=1)
            await admin.create_topic(f"other-{prefix}-one", partitions=1)
            async with Members(
                bootstrap, group=group, pattern=f"{prefix}-.*", metadata_max_age_ms=500, group_protocol=protocol
            ) as members:
                consumer = await members.join()
                await members.settled(1)
                await admin.create_topic(f"{prefix}-two", partitions=2)
                await members.settled(3)
                assert {place.topic for place in consumer.assignment()} == {f"{prefix}-one", f"{prefix}-two"}

    run(main())


def test_subscription_may_change(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run, protocol: Any
) -> None:
    one, two = make_topic(partitions=1), make_topic(partitions=2)

    async def main() -> None:
        async with Members(bootstrap, group=unique("group"), topics=[one], group_protocol=protocol) as members:
            consumer = await members.join()
            await members.settled(1)
            await consumer.subscribe([two])
            await members.settled(2)
            assert {place.topic for place in consumer.assignment()} == {two}

    run(main())


def test_who_does_not_poll_has_to_leave_and_comes_back(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run, protocol: Any
) -> None:
    topic, group = make_topic(partitions=2, count=10), unique("group")

    async def main() -> None:
        heard = Heard()
        async with (
            Members(bootstrap, group=group, topics=[topic], group_protocol=protocol) as members,
            Consumer(
                bootstrap,
                group=group,
                topics=[topic],
                group_protocol=protocol,
                listener=heard,
                max_poll_interval_ms=2000,
                session_timeout_ms=6000,
                heartbeat_interval_ms=300,
                auto_offset_reset="earliest",
            ) as sleeper,
        ):
            await sleeper.get_many(1, 10.0)
            await members.join()
            await members.settled(2, seconds=40)
            assert sleeper.assignment() == frozenset()
            assert heard.lost or heard.revoked
            began = time.monotonic()
            while len(sleeper.assignment()) != 1:
                assert time.monotonic() - began < 40
                await sleeper.get_many(1, 0.2)

    run(main())


def test_commit_by_who_is_no_member_any_more_is_refused(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run
) -> None:
    topic, group = make_topic(partitions=1, count=5), unique("group")

    async def main() -> None:
        async with Consumer(bootstrap, group=group, topics=[topic], auto_offset_reset="earliest") as member:
            await member.get_many(1, 10.0)
            identity = member.group_metadata()
            assert identity.generation_id > 0
            async with Consumer(bootstrap, group=group) as stranger:
                with pytest.raises(KafkaError) as caught:
                    await stranger.commit({TopicPartition(topic, 0): 3})
                assert caught.value.code is ErrorCode.UNKNOWN_MEMBER_ID
                assert "rebalanced" in str(caught.value)
                assert stranger.group_metadata() == ConsumerGroupMetadata(group_id=group)

    run(main())


def test_assign_with_a_group_begins_where_it_committed(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run
) -> None:
    topic, group = make_topic(partitions=1, count=10), unique("group")
    place = TopicPartition(topic, 0)

    async def main() -> None:
        async with Consumer(bootstrap, group=group, auto_offset_reset="earliest") as consumer:
            await consumer.assign([place])
            assert (await consumer.get_many(4, 10.0))[-1].offset == 3
            await consumer.commit()
        async with Consumer(bootstrap, group=group, auto_offset_reset="earliest") as consumer:
            await consumer.assign([place])
            assert (await consumer.get_many(1, 10.0))[0].offset == 4
            assert await consumer.committed([place]) is not None

    run(main())


def test_offsets_belong_to_a_topic_and_not_to_its_name(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run
) -> None:
    topic, group = make_topic(partitions=1), unique("group")
    place = TopicPartition(topic, 0)

    async def main() -> None:
        async with Consumer(bootstrap, group=group) as consumer, Admin(bootstrap) as admin:
            await consumer.start_offsets([place])
            await consumer.commit({place: 0})
            found = (await consumer.committed([place]))[place]
            assert found is not None
            assert found.offset == 0
            assert await admin.delete_topics([topic]) == {topic: None}
            await admin.create_topic(topic, partitions=1)
            with pytest.raises(KafkaError, match="created anew") as caught:
                await consumer.commit({place: 0})
            assert caught.value.code is ErrorCode.UNKNOWN_TOPIC_ID
            # A coordinator hears of the deletion in its own time.
            async with asyncio.timeout(10):
                while await consumer.committed([place]) != {place: None}:
                    await asyncio.sleep(0.05)

    run(main())


@pytest.mark.parametrize(
    ("assignors", "strategy"),
    [(("range",), "range"), (("roundrobin",), "roundrobin"), (("cooperative-sticky",), "cooperative-sticky")],
)
def test_mixed_with_confluent(
    bootstrap: str,
    make_topic: Callable[..., str],
    unique: Callable[[str], str],
    run: Run,
    assignors: Any,
    strategy: str,
) -> None:
    with Confluent(bootstrap, unique("group"), make_topic(partitions=6), strategy=strategy) as other:
        run(_share_with(other, bootstrap, assignors=assignors, heartbeat_interval_ms=300))


def test_mixed_with_confluent_next_generation(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run
) -> None:
    with Confluent(bootstrap, unique("group"), make_topic(partitions=6), protocol="consumer") as other:
        run(_share_with(other, bootstrap, group_protocol="consumer"))


async def _share_with(other: Confluent, bootstrap: str, **options: Any) -> None:
    """The other client is there first and leads; ours joins; then ours is there first and the other joins."""
    await other.owns(6)
    async with Members(bootstrap, group=other.group, topics=[other.topic], **options) as members:
        await members.join()
        await members.settled(3, seconds=60)
        await other.owns(3)
        await produce(bootstrap, other.topic, 60, 6)
        deadline = time.monotonic() + 30
        while len(members.values + other.values) < 60:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        other.leave()
        await members.settled(6, seconds=60)
        other.join()
        await members.settled(3, seconds=60)
        await other.owns(3)
        await produce(bootstrap, other.topic, 60, 6, first=60)
        while len(members.values + other.values) < 120:
            assert time.monotonic() < deadline + 60
            await asyncio.sleep(0.1)
    assert set((members.values + other.values).values()) == {1}


class Confluent:
    """A member of librdkafka in a thread."""

    def __init__(self, bootstrap: str, group: str, topic: str, *, strategy: str = "", protocol: str = "") -> None:
        self.group, self.topic = group, topic
        self.values: Counter[bytes] = Counter()
        self.assigned = 0
        self._config = {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
        if protocol:
            self._config |= {"group.protocol": protocol}
        else:
            self._config |= {"partition.assignment.strategy": strategy, "heartbeat.interval.ms": "300"}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Confluent:  # noqa: PYI034 - nobody derives from it
        pytest.importorskip("confluent_kafka")
        self.join()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def join(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def leave(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(30)
            self._thread = None

    async def owns(self, count: int, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while self.assigned != count:
            assert time.monotonic() < deadline, f"confluent-kafka owns {self.assigned} instead of {count}"
            await asyncio.sleep(0.05)

    def _run(self) -> None:
        import confluent_kafka

        consumer = confluent_kafka.Consumer(self._config)
        consumer.subscribe([self.topic])
        try:
            while not self._stop.is_set():
                message = consumer.poll(0.1)
                self.assigned = len(consumer.assignment())
                if message is not None and message.error() is None:
                    self.values[message.value()] += 1
        finally:
            consumer.close()
            self.assigned = 0

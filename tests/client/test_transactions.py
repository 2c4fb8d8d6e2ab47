"""Transactions: all or nothing, fencing, offsets with the records, on version 1 and version 2 of the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.client import (
    Admin,
    Consumer,
    ErrorCode,
    FencedError,
    KafkaError,
    OffsetAndMetadata,
    Producer,
    TopicPartition,
)
from ottla.client._coordinator import CoordinatorKind, CoordinatorLink
from ottla.client._transactions import Transactions
from ottla.wire.apis import ApiKey
from ottla.wire.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)

Run = Callable[[Awaitable[Any]], Any]


@pytest.fixture(params=["v2", "v1"])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both protocols, on one cluster: version 1 is what a client speaks that takes the feature for absent."""
    if request.param == "v1":
        monkeypatch.setattr(Transactions, "_speaks_v2", lambda _self: False)
    return str(request.param)


async def markers_written(bootstrap: str) -> None:
    """A commit is answered when it is decided; readers see it when its markers are written, some time later."""
    async with Admin(bootstrap) as admin, asyncio.timeout(30):
        while await admin.list_transactions(states=["PrepareCommit", "PrepareAbort"]):
            await asyncio.sleep(0.01)


async def committed_values(bootstrap: str, topic: str, *, isolation: Any = "read_committed") -> list[bytes | None]:
    await markers_written(bootstrap)
    async with Consumer(bootstrap, topics=[topic], auto_offset_reset="earliest", isolation_level=isolation) as consumer:
        ends = await consumer.end_offsets()
        values: list[bytes | None] = []
        while any(consumer.position(place) < end for place, end in ends.items()):
            values += [record.value for batch in await consumer.poll(1.0) for record in batch]
        return values


def test_commit_and_abort(bootstrap: str, make_topic: Callable[..., str], run: Run, version: str) -> None:
    topic = make_topic(partitions=2)

    async def main() -> None:
        async with Admin(bootstrap) as admin:
            level = (await admin.describe_features())["transaction.version"].level
        async with Producer(bootstrap, transactional_id=topic) as producer:
            for number in range(6):
                try:
                    async with producer.transaction():
                        for part in range(2):
                            await producer.send_soon(topic, b"%d" % number, partition=part)
                        if number % 2:
                            raise ZeroDivisionError
                except ZeroDivisionError:
                    pass
            assert producer._transactions is not None
            assert producer._transactions._v2 is (version == "v2" and level >= 2)
            with pytest.raises(RuntimeError, match="no transaction is open"):
                await producer.send(topic, b"outside")
        assert sorted(await committed_values(bootstrap, topic)) == sorted([b"0", b"2", b"4"] * 2)
        everything = await committed_values(bootstrap, topic, isolation="read_uncommitted")
        assert set(everything) >= {b"0", b"2", b"4"}

    run(main())


def test_nothing_sent_is_nothing_to_end(bootstrap: str, unique: Callable[[str], str], run: Run, version: str) -> None:
    async def main() -> None:
        async with Producer(bootstrap, transactional_id=unique("txn")) as producer:
            for _ in range(3):
                async with producer.transaction():
                    pass
            await producer.begin_transaction()
            with pytest.raises(RuntimeError, match="still open"):
                await producer.begin_transaction()
            await producer.abort_transaction()

    run(main())


def test_the_younger_producer_fences_the_older(
    bootstrap: str, make_topic: Callable[..., str], run: Run, version: str
) -> None:
    topic = make_topic()

    async def main() -> None:
        async with Producer(bootstrap, transactional_id=topic) as older:
            await older.begin_transaction()
            await older.send(topic, b"lost")
            async with Producer(bootstrap, transactional_id=topic) as younger:
                async with younger.transaction():
                    await younger.send(topic, b"kept")
                with pytest.raises(FencedError, match="another producer with transactional_id="):
                    await older.commit_transaction()
                with pytest.raises(FencedError) as failure:
                    await older.begin_transaction()
                assert failure.value.fatal
        assert await committed_values(bootstrap, topic) == [b"kept"]

    run(main())


def test_offsets_are_committed_with_the_records(
    bootstrap: str, make_topic: Callable[..., str], run: Run, version: str
) -> None:
    topic = make_topic()
    group = f"group-{topic}"
    place = TopicPartition(topic, 0)

    async def main() -> None:
        async with Producer(bootstrap, transactional_id=topic) as producer:
            async with producer.transaction():
                await producer.send(topic, b"a")
                await producer.send_offsets({place: OffsetAndMetadata(7, "seven")}, group)
            assert await committed_offset(producer, group, place) == (7, "seven")
            await producer.begin_transaction()
            await producer.send_offsets({place: 9}, group)
            await producer.abort_transaction()
            assert (await committed_offset(producer, group, place))[0] == 7
            async with producer.transaction():
                await producer.send_offsets({place: 11}, group)
            assert (await committed_offset(producer, group, place))[0] == 11

    run(main())


def test_a_failed_record_fails_the_transaction_and_an_abort_heals_it(
    bootstrap: str, make_topic: Callable[..., str], run: Run, version: str
) -> None:
    topic = make_topic(config={"max.message.bytes": "1000"})

    async def main() -> None:
        async with Producer(bootstrap, transactional_id=topic) as producer:
            await producer.begin_transaction()
            await producer.send(topic, b"first")
            await producer.send_soon(topic, b"x" * 5000)
            with pytest.raises(KafkaError, match="MESSAGE_TOO_LARGE"):
                await producer.commit_transaction()
            await producer.abort_transaction()
            for number in range(3):
                async with producer.transaction():
                    await producer.send(topic, b"%d" % number)
        assert await committed_values(bootstrap, topic) == [b"0", b"1", b"2"]

    run(main())


def test_a_group_that_fenced_its_member_refuses_the_offsets(
    bootstrap: str, make_topic: Callable[..., str], run: Run, version: str
) -> None:
    class Gone:
        group_id = f"gone-{version}"
        generation_id = 7
        member_id = "never-was"
        group_instance_id = None

    topic = make_topic()

    async def main() -> None:
        async with Producer(bootstrap, transactional_id=topic) as producer:
            with pytest.raises(KafkaError) as failure:
                async with producer.transaction():
                    await producer.send_offsets({TopicPartition(topic, 0): 1}, Gone())
            assert failure.value.abortable
            async with producer.transaction():
                await producer.send(topic, b"after")
        assert await committed_values(bootstrap, topic) == [b"after"]

    run(main())


def test_a_transaction_that_takes_too_long_is_over(
    bootstrap: str, make_topic: Callable[..., str], run: Run, version: str
) -> None:
    topic = make_topic()

    async def main() -> None:
        async with Producer(bootstrap, transactional_id=topic, transaction_timeout_ms=1000) as producer:
            await producer.begin_transaction()
            await producer.send(topic, b"late")
            async with Admin(bootstrap) as admin:
                for _ in range(600):
                    listed = await admin.describe_transactions([topic])
                    if listed[topic].state in ("CompleteAbort", "Empty"):
                        break
                    await asyncio.sleep(0.1)
            with pytest.raises(KafkaError):
                await producer.commit_transaction()
        assert await committed_values(bootstrap, topic) == []

    run(main())


async def committed_offset(producer: Producer, group: str, place: TopicPartition) -> tuple[int, str | None]:
    request = OffsetFetchRequest(
        groups=[
            OffsetFetchRequestGroup(
                group_id=group,
                topics=[OffsetFetchRequestTopics(name=place.topic, partition_indexes=[place.partition])],
            )
        ],
        require_stable=True,
    )
    link = CoordinatorLink(producer._cluster, CoordinatorKind.GROUP, group)
    response = await link.ask(
        ApiKey.OFFSET_FETCH,
        lambda peer: (request, min(9, peer.version_of(ApiKey.OFFSET_FETCH))),
        lambda answer: answer.groups[0].error_code or answer.groups[0].topics[0].partitions[0].error_code,
        seconds=30,
        again=frozenset((ErrorCode.UNSTABLE_OFFSET_COMMIT,)),
    )
    (partition,) = response.groups[0].topics[0].partitions
    return partition.committed_offset, partition.metadata


def test_read_process_write_exactly_once(
    bootstrap: str, make_topic: Callable[..., str], run: Run, version: str
) -> None:
    """The loop that transactions are for: a crash in the middle is as if it had not begun."""
    source, target = make_topic(partitions=2), make_topic()

    async def work(group: str, crash_after: int | None, wanted: int = 100) -> None:
        async with (
            Producer(bootstrap, transactional_id=target) as producer,
            Consumer(
                bootstrap, group=group, topics=[source], auto_offset_reset="earliest", enable_auto_commit=False
            ) as consumer,
        ):
            done = 0
            while done < wanted:
                batches = await consumer.poll(1.0)
                async with producer.transaction():
                    offsets: dict[TopicPartition, int] = {}
                    for batch in batches:
                        for record in batch:
                            await producer.send_soon(target, record.value)
                            offsets[TopicPartition(record.topic, record.partition)] = record.offset + 1
                            done += 1
                            if done == crash_after:
                                raise ZeroDivisionError
                    if offsets:
                        await producer.send_offsets(offsets, consumer.group_metadata())

    async def main() -> None:
        async with Producer(bootstrap, batch_size=500) as producer:
            await (await producer.send_many(source, [(b"%d" % number, b"%03d" % number) for number in range(100)]))
        group = f"group-{target}"
        with pytest.raises(ZeroDivisionError):
            await work(group, 60)
        async with Admin(bootstrap) as admin:
            already = sum(one.offset for one in (await admin.group_offsets(group)).values())  # type: ignore[union-attr]
        assert already < 100
        done = await committed_values(bootstrap, target)
        assert len(done) == already, "records and offsets are committed together"
        await work(group, None, wanted=100 - already)
        assert sorted(await committed_values(bootstrap, target)) == [b"%03d" % number for number in range(100)]

    run(main())

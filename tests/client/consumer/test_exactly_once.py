"""Read, transform, write: offsets committed by the producer's transaction, and a zombie that is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.client import Consumer, KafkaError, Producer, TopicPartition

Run = Callable[[Awaitable[Any]], Any]


def test_each_record_is_transformed_once(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run
) -> None:
    source, target, group = make_topic(partitions=2, count=60), make_topic(partitions=1), unique("group")
    options: Any = {
        "group": group,
        "topics": [source],
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
    }

    async def copy(fail_at: int | None) -> None:
        async with (
            Consumer(bootstrap, **options) as consumer,
            Producer(bootstrap, transactional_id=unique("copy")) as producer,
        ):
            done = 0
            while records := await consumer.get_many(7, 3.0):
                async with producer.transaction():
                    for record in records:
                        await producer.send_soon(target, record.value)
                    offsets = {place: consumer.position(place) for place in consumer.assignment()}
                    await producer.send_offsets(offsets, consumer.group_metadata())
                    done += 1
                    if done == fail_at:
                        raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await copy(fail_at=4)
        await copy(fail_at=None)
        async with Consumer(
            bootstrap, topics=[target], auto_offset_reset="earliest", isolation_level="read_committed"
        ) as reader:
            end = (await reader.end_offsets())[TopicPartition(target, 0)]
            values: list[bytes | None] = []
            while reader.position(TopicPartition(target, 0)) < end:
                values += [record.value for record in await reader.get_many(100, 1.0)]
        assert sorted(values, key=str) == sorted((b"value %d" % number for number in range(60)), key=str)

    run(main())


def test_who_left_the_group_commits_no_offsets(
    bootstrap: str, make_topic: Callable[..., str], unique: Callable[[str], str], run: Run
) -> None:
    source, target, group = make_topic(partitions=1, count=5), make_topic(partitions=1), unique("group")

    async def main() -> None:
        async with Consumer(bootstrap, group=group, topics=[source], auto_offset_reset="earliest") as consumer:
            await consumer.get_many(5, 10.0)
            zombie = consumer.group_metadata()
            assert zombie.generation_id > 0
        async with (
            Consumer(bootstrap, group=group, topics=[source]) as successor,
            Producer(bootstrap, transactional_id=unique("zombie")) as producer,
        ):
            await successor.get_many(1, 1.0)

            async def commit_as_zombie() -> None:
                async with producer.transaction():
                    await producer.send(target, b"from the grave")
                    await producer.send_offsets({TopicPartition(source, 0): 1}, zombie)

            with pytest.raises(KafkaError):
                await commit_as_zombie()

    run(main())

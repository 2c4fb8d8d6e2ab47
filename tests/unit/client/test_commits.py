"""Commits name topics by id where that can be done: to a coordinator that has not heard of one yet, or not any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from harness.scripted import TOPIC, TOPIC_ID, ScriptedCluster
from ottla.client import ClusterUnreachable, Consumer, ErrorCode, KafkaError, OffsetAndMetadata, TopicPartition
from ottla.client._commits import _commit_code
from ottla.client._partitions import Reading, Readings
from ottla.model import Uuid
from ottla.wire.apis import ApiKey
from ottla.wire.messages.metadata_response import MetadataResponseTopic
from ottla.wire.messages.offset_commit_response import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from ottla.wire.messages.offset_fetch_response import (
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
)

PLACE = TopicPartition(TOPIC, 0)
OTHER_ID = Uuid(b"scripted-topic-2")


class Coordinating(ScriptedCluster):
    """Knows ``served`` ids of topics only."""

    def __init__(self) -> None:
        super().__init__()
        self.served: list[Uuid] = [TOPIC_ID]
        self.handlers |= {
            ApiKey.OFFSET_COMMIT: self._commit,
            ApiKey.OFFSET_FETCH: self._fetch_offsets,
        }

    def _error(self, topic: Any) -> int:
        return 0 if topic.topic_id in self.served else int(ErrorCode.UNKNOWN_TOPIC_ID)

    def _commit(self, _node: int, request: Any) -> OffsetCommitResponse:
        answers = [
            OffsetCommitResponseTopic(
                topic_id=topic.topic_id,
                partitions=[OffsetCommitResponsePartition(partition_index=0, error_code=self._error(topic))],
            )
            for topic in request.topics
        ]
        return OffsetCommitResponse(topics=answers)

    def _fetch_offsets(self, _node: int, request: Any) -> OffsetFetchResponse:
        topics = [
            OffsetFetchResponseTopics(
                topic_id=topic.topic_id,
                partitions=[
                    OffsetFetchResponsePartitions(
                        partition_index=0,
                        committed_offset=5 if topic.topic_id == TOPIC_ID else 7,
                        error_code=self._error(topic),
                    )
                ],
            )
            for topic in request.groups[0].topics
        ]
        return OffsetFetchResponse(groups=[OffsetFetchResponseGroup(group_id="g", topics=topics)])

    def recreate(self, *, heard: bool = True) -> None:
        """The topic is deleted and created anew."""
        answer = self._metadata

        def metadata(node: int, request: Any) -> Any:
            found = answer(node, request)
            for topic in found.topics:
                topic.topic_id = OTHER_ID
            return found

        self.handlers[ApiKey.METADATA] = metadata
        self.served = [OTHER_ID] if heard else []


def run(main: Callable[[Coordinating, Consumer], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30), Coordinating() as cluster, Consumer(cluster.bootstrap, group="g") as consumer:
            await consumer.assign({PLACE: 0})
            await main(cluster, consumer)

    asyncio.run(limited())


def test_topics_are_named_by_id() -> None:
    async def main(cluster: Coordinating, consumer: Consumer) -> None:
        await consumer.commit({PLACE: 5})
        committed = (await consumer.committed([PLACE]))[PLACE]
        assert committed is not None
        assert committed.offset == 5
        for request in (cluster.asked(ApiKey.OFFSET_COMMIT)[0], cluster.asked(ApiKey.OFFSET_FETCH)[0].groups[0]):
            assert [(topic.name, topic.topic_id) for topic in request.topics] == [("", TOPIC_ID)]

    run(main)


def test_without_an_id_the_name_has_to_do() -> None:
    async def main(cluster: Coordinating, consumer: Consumer) -> None:
        cluster.served.append(Uuid.ZERO)
        await consumer.commit({PLACE: 5, TopicPartition("other", 0): 1})
        asked = cluster.asked(ApiKey.OFFSET_COMMIT)[0]
        assert [(topic.name, topic.topic_id) for topic in asked.topics] == [(TOPIC, Uuid.ZERO), ("other", Uuid.ZERO)]

    run(main)


def test_a_coordinator_that_is_behind_is_asked_again() -> None:
    async def main(cluster: Coordinating, consumer: Consumer) -> None:
        for action in (lambda: consumer.commit({PLACE: 5}), lambda: consumer.committed([PLACE])):
            cluster.served = []
            asyncio.get_running_loop().call_later(0.3, cluster.served.append, TOPIC_ID)
            await action()

    run(main)


def test_offsets_of_a_former_topic_are_not_committed_to_the_new_one() -> None:
    async def main(cluster: Coordinating, consumer: Consumer) -> None:
        cluster.recreate()
        with pytest.raises(KafkaError, match="created anew") as caught:
            await consumer.commit({PLACE: 5})
        assert caught.value.code is ErrorCode.UNKNOWN_TOPIC_ID
        assert [one.topics[0].topic_id for one in cluster.asked(ApiKey.OFFSET_COMMIT)] == [TOPIC_ID]

    run(main)


def test_the_new_topics_offset_is_found() -> None:
    async def main(cluster: Coordinating, consumer: Consumer) -> None:
        cluster.recreate(heard=False)
        asyncio.get_running_loop().call_later(0.3, cluster.served.append, OTHER_ID)
        committed = (await consumer.committed([PLACE]))[PLACE]
        assert committed is not None
        assert committed.offset == 7

    run(main)


@pytest.mark.parametrize("silent", [True, False])
def test_a_commit_ends_in_time_when_there_is_no_metadata(silent: bool) -> None:
    async def main(cluster: Coordinating, consumer: Consumer) -> None:
        refresh = consumer._cluster.refresh

        async def refreshed(*_: Any, **__: Any) -> dict[str, ErrorCode]:
            if silent:
                await asyncio.sleep(60)
            raise ClusterUnreachable("nobody there")

        consumer._cluster.refresh = refreshed  # type: ignore[method-assign]
        cluster.served = []
        assert consumer._commits is not None
        async with asyncio.timeout(10):
            with pytest.raises(KafkaError) as caught:
                await consumer._commits.commit({PLACE: OffsetAndMetadata(5)}, 0.3)
            assert caught.value.code in (ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.REQUEST_TIMED_OUT)
            with pytest.raises(KafkaError) as caught:
                await consumer._commits.committed([PLACE], 0.3)
            assert caught.value.code in (ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.REQUEST_TIMED_OUT)
        consumer._cluster.refresh = refresh  # type: ignore[method-assign]
        cluster.served = [TOPIC_ID]

    run(main)


def test_what_is_stored_beside_a_topic_that_is_gone_counts() -> None:
    other = TopicPartition("other", 0)

    async def main(cluster: Coordinating, consumer: Consumer) -> None:
        answer = cluster.handlers[ApiKey.METADATA]

        def metadata(node: int, request: Any) -> Any:
            found = answer(node, request)
            partitions = found.topics[0].partitions
            found.topics.append(MetadataResponseTopic(name="other", topic_id=OTHER_ID, partitions=partitions))
            return found

        cluster.handlers[ApiKey.METADATA] = metadata
        await consumer._cluster.refresh(None)
        assert consumer._commits is not None
        with pytest.raises(KafkaError, match="was deleted"):
            await consumer._commits.commit({other: OffsetAndMetadata(3), PLACE: OffsetAndMetadata(5)}, 0.3)
        assert consumer._committed == {PLACE: 5}

    run(main)


def test_a_group_that_has_moved_on_is_told_of_before_a_topic_that_is_gone() -> None:
    codes = (ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.STALE_MEMBER_EPOCH)
    partitions = [OffsetCommitResponsePartition(partition_index=0, error_code=code) for code in codes]
    response = OffsetCommitResponse(topics=[OffsetCommitResponseTopic(partitions=partitions)])
    assert _commit_code(response) == ErrorCode.STALE_MEMBER_EPOCH


def test_what_was_read_of_a_former_topic_is_not_committed_once_the_new_one_is_known() -> None:
    async def main(cluster: Coordinating, consumer: Consumer) -> None:
        await consumer.assign({PLACE: 5})
        cluster.recreate()
        await consumer._cluster.refresh((TOPIC,))
        await consumer.commit()
        await consumer._commit_finished()
        assert cluster.asked(ApiKey.OFFSET_COMMIT) == []
        consumer.seek({PLACE: 3})
        await consumer.commit()
        assert [one.topics[0].topic_id for one in cluster.asked(ApiKey.OFFSET_COMMIT)] == [OTHER_ID]

    run(main)


def test_an_offset_that_is_gone_is_not_committed() -> None:
    readings, reading = Readings(), Reading(PLACE, 5)
    readings.put(reading)
    assert readings.finished() == {PLACE: (5, -1)}
    reading.reset_to = -2
    assert readings.finished() == {}

"""What a consumer that joins does meanwhile: one question for metadata, and the connections it will need."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
from msgspec import structs

from harness.scripted import TOPIC, TOPIC_ID, Handler, ScriptedCluster
from ottla.client import AuthorizationError, Consumer
from ottla.net.peer import Peer
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.consumer_group_heartbeat_response import (
    Assignment,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from ottla.wire.messages.offset_fetch_response import (
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
)


async def settled(cluster: ScriptedCluster) -> None:
    """Until the consumer has nothing left to ask."""
    known = -1
    while known != len(cluster.requests):
        known = len(cluster.requests)
        await asyncio.sleep(0.2)


def joined(*leaders: int, protocol: Literal["classic", "consumer"] = "consumer") -> ScriptedCluster:
    """What a consumer asks whose coordinator does not answer. ``leaders`` of the partitions it is subscribed to."""
    cluster = ScriptedCluster(nodes=2)
    answer = cluster.handlers[ApiKey.METADATA]

    def metadata(node: int, request: Any) -> Any:
        found = answer(node, request)
        for topic in found.topics:
            topic.partitions = [
                structs.replace(topic.partitions[0], partition_index=index, leader_id=leader)
                for index, leader in enumerate(leaders)
            ]
        return found

    async def main() -> None:
        async with (
            cluster,
            Consumer(
                cluster.bootstrap, group="g", topics=[TOPIC], group_protocol=protocol, default_api_timeout_ms=1000
            ),
        ):
            await settled(cluster)

    cluster.handlers |= {
        ApiKey.METADATA: metadata,
        ApiKey.CONSUMER_GROUP_HEARTBEAT: lambda _node, _request: None,
        ApiKey.JOIN_GROUP: lambda _node, _request: None,
        ApiKey.OFFSET_FETCH: lambda _node, _request: None,
    }
    asyncio.run(asyncio.wait_for(main(), 30))
    return cluster


def test_metadata_is_asked_for_once_and_the_leader_connected_to_while_the_coordinator_thinks() -> None:
    cluster = joined(1, 1)
    assert len(cluster.asked(ApiKey.METADATA)) == 1
    assert len(cluster.asked(ApiKey.CONSUMER_GROUP_HEARTBEAT)) == 1
    # The bootstrap, which is the coordinator and needs no second connection for heartbeats; the leader.
    assert [len(cluster.asked(ApiKey.API_VERSIONS, node)) for node in (0, 1)] == [1, 1]


def test_what_waits_for_other_members_has_a_connection_of_its_own() -> None:
    cluster = joined(1, 1, protocol="classic")
    assert len(cluster.asked(ApiKey.JOIN_GROUP)) == 1
    assert cluster.accepted == [2, 1]
    # Who has asked a broker for its versions need not do so again beside that connection.
    assert [len(cluster.asked(ApiKey.API_VERSIONS, node)) for node in (0, 1)] == [1, 1]


def test_where_several_lead_it_waits_for_the_assignment() -> None:
    cluster = joined(0, 1)
    assert [len(cluster.asked(ApiKey.API_VERSIONS, node)) for node in (0, 1)] == [1, 0]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_the_coordinator_is_asked_for_while_metadata_is_on_its_way(protocol: Literal["classic", "consumer"]) -> None:
    async def main() -> None:
        async with ScriptedCluster() as cluster:
            for key in (ApiKey.METADATA, ApiKey.FIND_COORDINATOR):
                cluster.handlers[key] = lambda _node, _request: None
            consumer = Consumer(
                cluster.bootstrap, group="g", topics=[TOPIC], group_protocol=protocol, request_timeout_ms=300
            )
            with pytest.raises(ConnectionError):
                await consumer.start()
            kinds = [key for _, key, _, _ in cluster.requests]
            assert kinds == [ApiKey.API_VERSIONS, ApiKey.METADATA, ApiKey.FIND_COORDINATOR]

    asyncio.run(main())


class Assigned:
    """A group of one whose member gets the only partition, which node 1 leads; node 0 is the coordinator.

    ``committed``: what the group is found to have committed; whoever asks once more gets the next number, if any.
    """

    def __init__(self, *committed: int, **handlers: Handler) -> None:
        self.cluster = cluster = ScriptedCluster(nodes=2)
        cluster.leader = 1
        cluster.handlers |= {
            ApiKey.CONSUMER_GROUP_HEARTBEAT: self._beat,
            ApiKey.OFFSET_FETCH: self._committed,
            **{ApiKey[name]: handler for name, handler in handlers.items()},
        }
        self._offsets = list(committed)

    def _beat(self, _node: int, request: Any) -> ConsumerGroupHeartbeatResponse:
        return self.given(request, 0)

    def given(self, request: Any, *partitions: int) -> ConsumerGroupHeartbeatResponse:
        """A heartbeat's answer; without ``partitions`` nothing is said of an assignment."""
        share = TopicPartitions(topic_id=TOPIC_ID, partitions=list(partitions))
        return ConsumerGroupHeartbeatResponse(
            member_id=request.member_id,
            member_epoch=1,
            heartbeat_interval_ms=50,
            assignment=Assignment(topic_partitions=[share]) if partitions else None,
        )

    async def _committed(self, _node: int, request: Any) -> OffsetFetchResponse:
        """Not before the other question has come, too."""
        for _ in range(200):
            if self.cluster.asked(ApiKey.LIST_OFFSETS, 1):
                break
            await asyncio.sleep(0.01)
        offset = self._offsets.pop(0) if len(self._offsets) > 1 else self._offsets[0]
        asked = request.groups[0].topics[0].partition_indexes
        parts = [OffsetFetchResponsePartitions(partition_index=index, committed_offset=offset) for index in asked]
        topic = OffsetFetchResponseTopics(topic_id=TOPIC_ID, partitions=parts)
        return OffsetFetchResponse(groups=[OffsetFetchResponseGroup(group_id="g", topics=[topic])])

    async def first_offset(self, *, api_ms: float = 100) -> int:
        async with self.cluster as cluster:
            cluster.append(*(b"%d" % number for number in range(9)))
            cluster.start = 2
            async with (
                asyncio.timeout(10),
                Consumer(
                    cluster.bootstrap,
                    group="g",
                    topics=[TOPIC],
                    group_protocol="consumer",
                    auto_offset_reset="earliest",
                    default_api_timeout_ms=api_ms,
                ) as consumer,
            ):
                return (await anext(aiter(consumer))).offset
        raise AssertionError("the timeout ends it")


@pytest.mark.parametrize(("committed", "first"), [(-1, 2), (5, 5)])
def test_where_a_partition_begins_is_asked_together_with_what_is_committed(committed: int, first: int) -> None:
    case = Assigned(committed)
    assert asyncio.run(case.first_offset()) == first
    assert len(case.cluster.asked(ApiKey.LIST_OFFSETS)) == 1


def test_a_look_up_that_fails_is_made_again() -> None:
    case = Assigned(-1)
    answer, failed = case.cluster.handlers[ApiKey.LIST_OFFSETS], []

    def once(node: int, request: Any) -> Any:
        found = answer(node, request)
        if not failed:
            failed.append(node)
            found.topics[0].partitions[0].error_code = int(ErrorCode.LEADER_NOT_AVAILABLE)
        return found

    case.cluster.handlers[ApiKey.LIST_OFFSETS] = once
    assert asyncio.run(case.first_offset()) == 2
    assert len(case.cluster.asked(ApiKey.LIST_OFFSETS)) == 2


def test_a_look_up_that_is_not_answered_is_made_again() -> None:
    case = Assigned(-1)
    answer, silent = case.cluster.handlers[ApiKey.LIST_OFFSETS], []

    def not_at_first(node: int, request: Any) -> Any:
        if silent:
            return answer(node, request)
        silent.append(node)
        return None

    case.cluster.handlers[ApiKey.LIST_OFFSETS] = not_at_first
    assert asyncio.run(case.first_offset()) == 2


def test_who_reads_in_a_groups_name_without_being_a_member_does_not_look_for_it() -> None:
    async def main() -> None:
        async with ScriptedCluster() as cluster, Consumer(cluster.bootstrap, group="g", group_protocol="classic"):
            await settled(cluster)
            assert not cluster.asked(ApiKey.FIND_COORDINATOR)
            assert cluster.accepted == [1]

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_leader_that_is_silent_delays_nothing_that_is_committed() -> None:
    case = Assigned(5, LIST_OFFSETS=lambda _node, _request: None)
    assert asyncio.run(case.first_offset()) == 5


def asked_offsets(case: Assigned) -> list[tuple[str | None, list[int]]]:
    """By which member, and of which partitions, committed offsets were asked."""
    groups = [request.groups[0] for request in case.cluster.asked(ApiKey.OFFSET_FETCH)]
    return [(group.member_id, group.topics[0].partition_indexes) for group in groups]


def test_what_is_committed_is_asked_right_behind_the_join() -> None:
    case = Assigned(5)
    assert asyncio.run(case.first_offset()) == 5
    # In nobody's name: the answer that makes it a member has not come.
    assert asked_offsets(case) == [(None, [0])]
    kinds = [key for _, key, _, _ in case.cluster.requests]
    assert kinds.index(ApiKey.CONSUMER_GROUP_HEARTBEAT) < kinds.index(ApiKey.OFFSET_FETCH)


def test_nothing_is_asked_behind_the_join_on_a_connection_that_is_about_to_be_renewed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect = Peer.connect.__func__  # type: ignore[attr-defined]

    async def briefly(cls: type[Peer], *address: Any, **options: Any) -> Peer:
        peer: Peer = await connect(cls, *address, **options)
        peer.renew_at = asyncio.get_running_loop().time() + 0.9
        return peer

    monkeypatch.setattr(Peer, "connect", classmethod(briefly))
    case = Assigned(5)
    assert asyncio.run(case.first_offset(api_ms=8000)) == 5
    assert [member is None for member, _ in asked_offsets(case)] == [False]


def test_where_logs_begin_is_asked_while_the_coordinator_thinks() -> None:
    case = Assigned(-1)
    asked: list[bool] = []

    async def think(_node: int, request: Any) -> Any:
        for _ in range(300):
            if case.cluster.asked(ApiKey.LIST_OFFSETS, 1):
                break
            await asyncio.sleep(0.01)
        asked.append(bool(case.cluster.asked(ApiKey.LIST_OFFSETS, 1)))
        return case.given(request, 0)

    case.cluster.handlers[ApiKey.CONSUMER_GROUP_HEARTBEAT] = think
    assert asyncio.run(case.first_offset()) == 2
    assert asked[0]


def test_questions_of_what_was_not_given_are_given_up() -> None:
    case = Assigned(5)
    answer, during = case.cluster.handlers[ApiKey.OFFSET_FETCH], []
    over = asyncio.Event()

    async def wait(node: int, request: Any) -> Any:
        during.append(left_behind())
        await over.wait()
        return await answer(node, request)

    case.cluster.handlers[ApiKey.OFFSET_FETCH] = wait
    case.cluster.handlers[ApiKey.CONSUMER_GROUP_HEARTBEAT] = lambda _node, request: case.given(request)

    async def main() -> None:
        async with (
            case.cluster as cluster,
            Consumer(cluster.bootstrap, group="g", topics=[TOPIC], group_protocol="consumer"),
        ):
            while not during or "group offsets" in left_behind():
                await asyncio.sleep(0.01)
            over.set()

    asyncio.run(asyncio.wait_for(main(), 20))
    assert "group offsets" in during[0]


def test_what_was_committed_before_a_join_that_was_made_again_does_not_count() -> None:
    case = Assigned(3, 5)
    beat, refused = case.cluster.handlers[ApiKey.CONSUMER_GROUP_HEARTBEAT], []

    def not_at_first(node: int, request: Any) -> Any:
        if refused:
            return beat(node, request)
        refused.append(node)
        return ConsumerGroupHeartbeatResponse(error_code=int(ErrorCode.NOT_COORDINATOR))

    case.cluster.handlers[ApiKey.CONSUMER_GROUP_HEARTBEAT] = not_at_first
    assert asyncio.run(case.first_offset()) == 5
    assert [member is None for member, _ in asked_offsets(case)] == [True, False]


def test_what_was_committed_before_a_partition_was_given_does_not_count() -> None:
    case = Assigned(3, 5)

    def later(_node: int, request: Any) -> Any:
        # The join is answered, and somebody else still has the partition.
        return case.given(request, *([0] if request.member_epoch > 0 else []))

    case.cluster.handlers[ApiKey.CONSUMER_GROUP_HEARTBEAT] = later
    assert asyncio.run(case.first_offset()) == 5


def test_of_partitions_that_nobody_foresaw_it_is_asked_again() -> None:
    case = Assigned(3, 5)
    case.cluster.handlers[ApiKey.CONSUMER_GROUP_HEARTBEAT] = lambda _node, request: case.given(request, 0, 1)
    assert asyncio.run(case.first_offset()) == 5
    assert [partitions for _, partitions in asked_offsets(case)] == [[0], [0, 1]]


def test_a_question_behind_the_join_that_fails_is_asked_again() -> None:
    case = Assigned(5)
    answer, failed = case.cluster.handlers[ApiKey.OFFSET_FETCH], []

    async def once(node: int, request: Any) -> Any:
        if failed:
            return await answer(node, request)
        failed.append(node)
        refused = OffsetFetchResponseGroup(group_id="g", error_code=int(ErrorCode.GROUP_AUTHORIZATION_FAILED))
        return OffsetFetchResponse(groups=[refused])

    case.cluster.handlers[ApiKey.OFFSET_FETCH] = once
    assert asyncio.run(case.first_offset()) == 5
    assert [member is None for member, _ in asked_offsets(case)] == [True, False]


def test_of_very_many_partitions_only_those_given_are_asked_about() -> None:
    case = Assigned(5)
    answer = case.cluster.handlers[ApiKey.METADATA]

    def metadata(node: int, request: Any) -> Any:
        found = answer(node, request)
        for topic in found.topics:
            topic.partitions = [structs.replace(topic.partitions[0], partition_index=index) for index in range(101)]
        return found

    case.cluster.handlers[ApiKey.METADATA] = metadata
    assert asyncio.run(case.first_offset(api_ms=8000)) == 5
    assert [(member is None, partitions) for member, partitions in asked_offsets(case)] == [(False, [0])]


def left_behind() -> list[str]:
    """The tasks of consumers that are still there."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith(("consumer", "group"))]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_who_may_not_read_a_topic_is_told_at_the_start_and_has_joined_nothing(
    protocol: Literal["classic", "consumer"],
) -> None:
    async def main() -> None:
        async with ScriptedCluster() as cluster:
            answer = cluster.handlers[ApiKey.METADATA]

            def metadata(node: int, request: Any) -> Any:
                found = answer(node, request)
                for topic in found.topics:
                    topic.error_code = int(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
                return found

            cluster.handlers[ApiKey.METADATA] = metadata
            consumer = Consumer(cluster.bootstrap, group="g", topics=[TOPIC], group_protocol=protocol)
            with pytest.raises(AuthorizationError):
                await consumer.start()
            asked = {key for _, key, _, _ in cluster.requests}
            assert not asked & {ApiKey.CONSUMER_GROUP_HEARTBEAT, ApiKey.JOIN_GROUP}
            assert not left_behind()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_start_that_is_given_up_ends_at_once() -> None:
    async def main() -> None:
        async with ScriptedCluster() as cluster:
            for key in (ApiKey.METADATA, ApiKey.FIND_COORDINATOR):
                cluster.handlers[key] = lambda _node, _request: None
            consumer = Consumer(cluster.bootstrap, group="g", topics=[TOPIC], group_protocol="consumer")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(consumer.start(), 0.3)
            assert not left_behind()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_what_holds_up_the_question_behind_the_join_holds_up_nothing_that_was_given() -> None:
    case = Assigned(5)
    answer = case.cluster.handlers[ApiKey.OFFSET_FETCH]

    async def unstable(node: int, request: Any) -> Any:
        found = await answer(node, request)
        if request.groups[0].member_id is None:
            found.groups[0].topics[0].partitions[0].error_code = int(ErrorCode.UNSTABLE_OFFSET_COMMIT)
        return found

    case.cluster.handlers[ApiKey.OFFSET_FETCH] = unstable
    assert asyncio.run(case.first_offset()) == 5
    assert asked_offsets(case)[-1][0] is not None


def test_who_joins_again_asks_what_is_committed_only_when_everything_was_given_up() -> None:
    case = Assigned(3, 5)
    beats: list[int] = []

    def fenced_once(_node: int, request: Any) -> Any:
        beats.append(request.member_epoch)
        if len(beats) == 2:
            return ConsumerGroupHeartbeatResponse(error_code=int(ErrorCode.FENCED_MEMBER_EPOCH))
        return case.given(request, 0)

    case.cluster.handlers[ApiKey.CONSUMER_GROUP_HEARTBEAT] = fenced_once

    async def main() -> None:
        async with case.cluster as cluster:
            cluster.append(*(b"%d" % number for number in range(9)))
            async with Consumer(
                cluster.bootstrap, group="g", topics=[TOPIC], group_protocol="consumer", default_api_timeout_ms=100
            ):
                while len(asked_offsets(case)) < 2:
                    await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 20))
    assert [member is None for member, _ in asked_offsets(case)[:2]] == [True, False]

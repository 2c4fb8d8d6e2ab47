"""The group APIs from request to response, over a coordinator on a real log: every version, and what each can say."""

import asyncio
import types
import typing
from inspect import isawaitable
from random import Random

import pytest
from msgspec.structs import replace

from ottla.broker.context import RequestContext
from ottla.broker.group_coordinator import CONSUMER_OFFSETS, GroupCoordinator
from ottla.broker.handlers.consumer_group_describe import ConsumerGroupDescribeHandler
from ottla.broker.handlers.consumer_group_heartbeat import ConsumerGroupHeartbeatHandler
from ottla.broker.handlers.delete_groups import DeleteGroupsHandler
from ottla.broker.handlers.describe_groups import DescribeGroupsHandler
from ottla.broker.handlers.find_coordinator import FindCoordinatorHandler
from ottla.broker.handlers.heartbeat import HeartbeatHandler
from ottla.broker.handlers.join_group import JoinGroupHandler
from ottla.broker.handlers.leave_group import LeaveGroupHandler
from ottla.broker.handlers.list_groups import ListGroupsHandler
from ottla.broker.handlers.offset_commit import OffsetCommitHandler
from ottla.broker.handlers.offset_delete import OffsetDeleteHandler
from ottla.broker.handlers.offset_fetch import OffsetFetchHandler
from ottla.broker.handlers.sync_group import SyncGroupHandler
from ottla.broker.partition import FlushPolicy
from ottla.config.broker import BrokerConfig
from ottla.metadata.delta import ImageDelta, TopicDelta
from ottla.metadata.image import (
    BrokerRegistration,
    ClusterImage,
    ConfigResource,
    Endpoint,
    Provenance,
    ResourceType,
)
from ottla.model import Uuid
from ottla.net.deferred import Deferred
from ottla.runtime.supervisor import Supervisor
from ottla.wire import decode, encode
from ottla.wire.apis import API_SPECS, ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.frame import RequestHeader

NODE_ID = 1
PARTITIONS = 3
TOPIC_ID = Uuid(b"orders".ljust(16, b"\0"))
SUBSCRIPTION = b"\x00\x01\x00\x00\x00\x01\x00\x06orders\xff\xff\xff\xff"
HANDLERS = {
    ApiKey.FIND_COORDINATOR: FindCoordinatorHandler,
    ApiKey.JOIN_GROUP: JoinGroupHandler,
    ApiKey.SYNC_GROUP: SyncGroupHandler,
    ApiKey.HEARTBEAT: HeartbeatHandler,
    ApiKey.LEAVE_GROUP: LeaveGroupHandler,
    ApiKey.OFFSET_COMMIT: OffsetCommitHandler,
    ApiKey.OFFSET_FETCH: OffsetFetchHandler,
    ApiKey.OFFSET_DELETE: OffsetDeleteHandler,
    ApiKey.DESCRIBE_GROUPS: DescribeGroupsHandler,
    ApiKey.LIST_GROUPS: ListGroupsHandler,
    ApiKey.DELETE_GROUPS: DeleteGroupsHandler,
    ApiKey.CONSUMER_GROUP_HEARTBEAT: ConsumerGroupHeartbeatHandler,
    ApiKey.CONSUMER_GROUP_DESCRIBE: ConsumerGroupDescribeHandler,
}


async def answer_of(handler, context, request):
    answer = handler.handle(context, request)
    if isinstance(answer, Deferred):
        return await answer.future()
    return await answer if isawaitable(answer) else answer


class Broker:
    """Partitions, a coordinator on them, and handlers behind real encodings."""

    def __init__(self, bench, one_led):
        self.bench = bench
        self.one_led = one_led
        self.created = []
        self.creation_error = None
        self.has_consumer_groups = True
        self.configs = {}
        self.supervisor = Supervisor()
        self.coordinator = self.new_coordinator()
        self.publish(orders=[one_led(), one_led()])

    def new_coordinator(self):
        config = BrokerConfig.parse(
            {"node.id": "1", "offsets.topic.num.partitions": str(PARTITIONS), "group.initial.rebalance.delay.ms": "0"}
        )
        return GroupCoordinator(
            node_id=NODE_ID,
            config=config.groups,
            partitions=self.bench.partitions,
            create_topic=self.create_topic,
            clock=self.bench.clock,
            supervisor=self.supervisor,
            random=Random(1),
        )

    @property
    def image(self):
        return self.bench.partitions.image

    def publish(self, **topics):
        """A new image with these topics set, or deleted; first the partitions follow, then the coordinator."""
        before = self.image
        delta = ImageDelta(before)
        by_name = dict(before.topics)
        for name, images in topics.items():
            topic_id = Uuid(name.encode().ljust(18, b"\0")[:16])
            old = by_name.get(name)
            if images is None:
                delta.deleted_topics[topic_id] = by_name.pop(name)
                continue
            changed = delta.topics[topic_id] = TopicDelta(name=name, topic_id=topic_id, before=old)
            changed.changed.update(enumerate(images))
            by_name[name] = changed.finish()
        endpoints = (Endpoint(name="PLAINTEXT", host="127.0.0.1", port=9092),)
        registered = BrokerRegistration(
            broker_id=NODE_ID, epoch=1, incarnation_id=Uuid.ONE, endpoints=endpoints, fenced=False
        )
        delta.changed_configs.update(dict.fromkeys(self.configs))
        image = ClusterImage(
            provenance=Provenance(offset=before.provenance.offset + 1),
            configs=self.configs,
            brokers={NODE_ID: registered},
            topics=by_name,
            topics_by_id={topic.topic_id: topic for topic in by_name.values()},
        )
        self.bench.partitions.on_image(delta, image)
        self.coordinator.on_image(delta, image)

    async def create_topic(self, name, partitions, replication_factor, configs):
        await asyncio.sleep(0)
        self.created.append((name, partitions, replication_factor, dict(configs)))
        if self.creation_error is not None:
            raise self.creation_error
        self.open_offsets()

    def open_offsets(self, epoch=0, partition_epoch=0):
        images = [self.one_led(epoch=epoch, partition_epoch=partition_epoch) for _ in range(PARTITIONS)]
        self.publish(**{CONSUMER_OFFSETS: images})

    async def ask(self, key, version, /, **fields):
        """Through both codecs, as a client of that version would see it."""
        response = await asyncio.wait_for(self.begin(key, version, fields), 10)
        response_class = API_SPECS[key].load()[1]
        return decode(response_class, encode(response, version), version)

    def ask_at_once(self, key, version, /, **fields):
        """For requests that must not wait: nothing else runs in between."""
        coroutine = self.begin(key, version, fields)
        with pytest.raises(StopIteration) as answered:
            coroutine.send(None)
        return answered.value.value

    def begin(self, key, version, fields):
        request_class = API_SPECS[key].load()[0]
        request = decode(request_class, encode(build(request_class, fields), version), version)
        handler_class = HANDLERS[key]
        options = {
            "coordinator": self.coordinator,
            "image": lambda: self.image,
            "lookups": {0: self.coordinator.topic},
            "is_enabled": lambda: self.has_consumer_groups,
            "assignors": ("uniform", "range"),
        }
        wanted = handler_class.__struct_fields__
        handler = handler_class(**{name: value for name, value in options.items() if name in wanted})
        header = RequestHeader(api_key=int(key), api_version=version, correlation_id=1, client_id="tester")
        context = RequestContext(
            header=header, client_address=("10.0.0.9", 4), listener_name="PLAINTEXT", now_ms=self.bench.clock.now_ms()
        )
        return answer_of(handler, context, request)

    async def member(self, version=3, **fields):
        """A stable group of one; returns its member id."""
        fields = {
            "group_id": "g",
            "session_timeout_ms": 10_000,
            "protocol_type": "consumer",
            "protocols": [{"name": "range", "metadata": SUBSCRIPTION}],
            **fields,
        }
        joined = await self.ask(ApiKey.JOIN_GROUP, version, **fields)
        assert joined.error_code == 0, joined
        synced = await self.ask(
            ApiKey.SYNC_GROUP,
            0,
            group_id=fields["group_id"],
            generation_id=joined.generation_id,
            member_id=joined.member_id,
            assignments=[{"member_id": joined.member_id, "assignment": b"all"}],
        )
        assert (synced.error_code, synced.assignment) == (0, b"all")
        return joined.member_id


def build(cls, fields):
    """A message of nested dictionaries, by its annotated types."""
    hints = typing.get_type_hints(cls)
    made = {}
    for name, value in fields.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            [element] = typing.get_args(unwrap(hints[name]))
            made[name] = [build(element, item) for item in value]
        else:
            made[name] = value
    return cls(**made)


def unwrap(hint):
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(arg for arg in typing.get_args(hint) if arg is not type(None))
    return hint


@pytest.fixture
def run(make_bench, one_led):
    """Run a test body against a broker; ``offsets=False`` leaves the offsets topic to the first question."""

    def start(body, *, offsets=True, policy=FlushPolicy.NEVER):
        async def main():
            broker = Broker(make_bench(policy), one_led)
            if offsets:
                broker.open_offsets()
            try:
                await body(broker)
            finally:
                broker.coordinator.close()
                await broker.supervisor.stop()
            assert not broker.supervisor.failure.done()

        asyncio.run(main())

    return start


def versions(key):
    spec = API_SPECS[key]
    return range(spec.lowest, spec.latest_stable + 1)


# -- FindCoordinator


def test_the_first_question_creates_the_offsets_topic(run):
    async def body(broker):
        both = (broker.ask(ApiKey.FIND_COORDINATOR, version, key="g") for version in (0, 3))
        for found in await asyncio.gather(*list(both)):
            assert (found.error_code, found.node_id, found.host, found.port) == (0, 1, "127.0.0.1", 9092)
        [(name, partitions, factor, configs)] = broker.created
        assert (name, partitions, factor) == (CONSUMER_OFFSETS, PARTITIONS, 1)
        assert configs == {"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": "104857600"}

    run(body, offsets=False)


def test_a_creation_that_fails_is_tried_again_by_the_next_question(run):
    async def body(broker):
        broker.creation_error = KafkaError(ErrorCode.INVALID_REPLICATION_FACTOR)
        for _ in range(2):
            found = await broker.ask(ApiKey.FIND_COORDINATOR, 1, key="g")
            assert (found.error_code, found.node_id, found.port) == (ErrorCode.COORDINATOR_NOT_AVAILABLE, -1, -1)
        assert len(broker.created) == 2

    run(body, offsets=False)


@pytest.mark.parametrize("version", [4, 5, 6])
def test_many_coordinators_in_one_question(run, version):
    async def body(broker):
        found = await broker.ask(ApiKey.FIND_COORDINATOR, version, coordinator_keys=["g", "h", ""])
        assert [(one.key, one.error_code, one.node_id) for one in found.coordinators] == [
            ("g", 0, 1),
            ("h", 0, 1),
            ("", 0, 1),
        ]

    run(body)


@pytest.mark.parametrize("kind", [1, 2, 7])
def test_coordinators_of_other_kinds_are_refused_with_a_reason(run, kind):
    async def body(broker):
        found = await broker.ask(ApiKey.FIND_COORDINATOR, 6, coordinator_keys=["x"], key_type=kind)
        assert found.coordinators[0].error_code == ErrorCode.INVALID_REQUEST
        assert "coordinator" in found.coordinators[0].error_message

    run(body)


# -- membership


@pytest.mark.parametrize("version", versions(ApiKey.JOIN_GROUP))
def test_join_of_every_version(run, version):
    async def body(broker):
        fields = {
            "group_id": "g",
            "session_timeout_ms": 10_000,
            "protocol_type": "consumer",
            "protocols": [{"name": "range", "metadata": SUBSCRIPTION}],
        }
        if version >= 1:
            fields["rebalance_timeout_ms"] = 20_000
        joined = await broker.ask(ApiKey.JOIN_GROUP, version, **fields)
        if version >= 4:
            assert joined.error_code == ErrorCode.MEMBER_ID_REQUIRED
            joined = await broker.ask(ApiKey.JOIN_GROUP, version, **{**fields, "member_id": joined.member_id})
        assert joined.error_code == 0
        assert joined.member_id.startswith("tester-")
        assert joined.leader == joined.member_id
        assert (joined.generation_id, joined.protocol_name) == (1, "range")
        assert joined.protocol_type == ("consumer" if version >= 7 else None)
        assert [(member.member_id, member.metadata) for member in joined.members] == [(joined.member_id, SUBSCRIPTION)]
        refused = await broker.ask(ApiKey.JOIN_GROUP, version, **{**fields, "session_timeout_ms": 1})
        assert refused.error_code == ErrorCode.INVALID_SESSION_TIMEOUT
        assert refused.protocol_name == (None if version >= 7 else "")

    run(body)


@pytest.mark.parametrize("version", versions(ApiKey.SYNC_GROUP))
def test_sync_and_heartbeat_of_every_version(run, version):
    async def body(broker):
        member_id = await broker.member()
        fields = {"group_id": "g", "generation_id": 1, "member_id": member_id}
        named = {"protocol_type": "consumer", "protocol_name": "range"} if version >= 5 else {}
        synced = await broker.ask(ApiKey.SYNC_GROUP, version, **fields, **named)
        assert (synced.error_code, synced.assignment) == (0, b"all")
        if version >= 5:
            assert (synced.protocol_type, synced.protocol_name) == ("consumer", "range")
            for other in ({"protocol_type": "consumer"}, {"protocol_type": "x", "protocol_name": "range"}):
                synced = await broker.ask(ApiKey.SYNC_GROUP, version, **fields, **other)
                assert synced.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        beat = min(version, 4)
        assert (await broker.ask(ApiKey.HEARTBEAT, beat, **fields)).error_code == 0
        stale = {**fields, "generation_id": 0}
        assert (await broker.ask(ApiKey.HEARTBEAT, beat, **stale)).error_code == ErrorCode.ILLEGAL_GENERATION
        assert (await broker.ask(ApiKey.SYNC_GROUP, 2, **stale)).error_code == ErrorCode.ILLEGAL_GENERATION

    run(body)


@pytest.mark.parametrize("version", versions(ApiKey.LEAVE_GROUP))
def test_leave_of_every_version(run, version):
    async def body(broker):
        member_id = await broker.member()
        if version < 3:
            stranger = await broker.ask(ApiKey.LEAVE_GROUP, version, group_id="g", member_id="x")
            assert stranger.error_code == ErrorCode.UNKNOWN_MEMBER_ID
            assert (await broker.ask(ApiKey.LEAVE_GROUP, version, group_id="g", member_id=member_id)).error_code == 0
        else:
            members = [{"member_id": "x"}, {"member_id": member_id}]
            left = await broker.ask(ApiKey.LEAVE_GROUP, version, group_id="g", members=members)
            assert left.error_code == 0
            assert [member.error_code for member in left.members] == [ErrorCode.UNKNOWN_MEMBER_ID, 0]
        [group] = (await broker.ask(ApiKey.LIST_GROUPS, 5)).groups
        assert (group.group_id, group.group_state) == ("g", "Empty")

    run(body)


def test_a_group_without_a_name_is_refused_by_membership(run):
    async def body(broker):
        member = {"group_id": "", "generation_id": 1, "member_id": "x"}
        assert (await broker.ask(ApiKey.HEARTBEAT, 4, **member)).error_code == ErrorCode.INVALID_GROUP_ID
        assert (await broker.ask(ApiKey.SYNC_GROUP, 4, **member)).error_code == ErrorCode.INVALID_GROUP_ID
        assert (await broker.ask(ApiKey.LEAVE_GROUP, 4, group_id="")).error_code == ErrorCode.INVALID_GROUP_ID
        assert (await broker.ask(ApiKey.OFFSET_DELETE, 0, group_id="")).error_code == ErrorCode.INVALID_GROUP_ID

    run(body)


# -- offsets


def commit_fields(version, partitions=(0,), **fields):
    topic = {"topic_id": TOPIC_ID} if version >= 10 else {"name": "orders"}
    topic["partitions"] = [
        {"partition_index": index, "committed_offset": 7, "committed_metadata": "m"} for index in partitions
    ]
    return {"group_id": "g", "topics": [topic], **fields}


@pytest.mark.parametrize("version", versions(ApiKey.OFFSET_COMMIT))
def test_commit_of_every_version(run, version):
    async def body(broker):
        fields = commit_fields(version, (0, 9))
        if 2 <= version <= 4:
            fields["retention_time_ms"] = 1_000
        committed = await broker.ask(ApiKey.OFFSET_COMMIT, version, **fields)
        [topic] = committed.topics
        assert [part.error_code for part in topic.partitions] == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
        assert (topic.topic_id if version >= 10 else topic.name) == (TOPIC_ID if version >= 10 else "orders")
        fields = commit_fields(version, generation_id_or_member_epoch=3, member_id="x", group_id="nobody")
        committed = await broker.ask(ApiKey.OFFSET_COMMIT, version, **fields)
        expected = ErrorCode.GROUP_ID_NOT_FOUND if version >= 9 else ErrorCode.ILLEGAL_GENERATION
        assert committed.topics[0].partitions[0].error_code == expected

    run(body)


def test_commit_to_topics_nobody_knows(run):
    async def body(broker):
        parts = [{"partition_index": 0, "committed_offset": 1, "committed_metadata": None}]
        by_name = await broker.ask(ApiKey.OFFSET_COMMIT, 9, group_id="g", topics=[{"name": "x", "partitions": parts}])
        assert by_name.topics[0].partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        topics = [{"topic_id": Uuid.ONE, "partitions": parts}, commit_fields(10)["topics"][0]]
        by_id = await broker.ask(ApiKey.OFFSET_COMMIT, 10, group_id="g", topics=topics)
        assert [topic.partitions[0].error_code for topic in by_id.topics] == [ErrorCode.UNKNOWN_TOPIC_ID, 0]

    run(body)


@pytest.mark.parametrize("version", versions(ApiKey.OFFSET_FETCH))
def test_fetch_of_every_version(run, version):
    async def body(broker):
        await broker.ask(ApiKey.OFFSET_COMMIT, 9, **commit_fields(9))
        name = {"topic_id": TOPIC_ID} if version >= 10 else {"name": "orders"}
        wanted = [{**name, "partition_indexes": [0, 1]}]
        if version >= 8:
            groups = [{"group_id": "g", "topics": wanted}, {"group_id": "g", "topics": None}]
            fetched = await broker.ask(ApiKey.OFFSET_FETCH, version, groups=groups)
            asked, everything = (group.topics for group in fetched.groups)
        else:
            asked = (await broker.ask(ApiKey.OFFSET_FETCH, version, group_id="g", topics=wanted)).topics
            everything = asked[:0]
            if version >= 2:
                everything = (await broker.ask(ApiKey.OFFSET_FETCH, version, group_id="g", topics=None)).topics
        [topic] = asked
        assert [(part.committed_offset, part.metadata) for part in topic.partitions] == [(7, "m"), (-1, "")]
        if version >= 2:
            [topic] = everything
            assert [(part.partition_index, part.committed_offset) for part in topic.partitions] == [(0, 7)]
            assert (topic.topic_id if version >= 10 else topic.name) == (TOPIC_ID if version >= 10 else "orders")

    run(body)


def test_fetch_by_an_id_nobody_knows(run):
    async def body(broker):
        groups = [{"group_id": "g", "topics": [{"topic_id": Uuid.ONE, "partition_indexes": [0]}]}]
        fetched = await broker.ask(ApiKey.OFFSET_FETCH, 10, groups=groups)
        part = fetched.groups[0].topics[0].partitions[0]
        assert (part.error_code, part.committed_offset) == (ErrorCode.UNKNOWN_TOPIC_ID, -1)

    run(body)


@pytest.mark.parametrize("version", [1, 2, 8])
def test_an_error_of_the_group_is_where_the_version_has_room_for_it(run, version):
    async def body(broker):
        broker.coordinator.close()
        topics = [{"name": "orders", "partition_indexes": [0]}]
        code = ErrorCode.NOT_COORDINATOR
        if version >= 8:
            fetched = await broker.ask(ApiKey.OFFSET_FETCH, version, groups=[{"group_id": "g", "topics": topics}])
            assert fetched.groups[0].error_code == code
            return
        fetched = await broker.ask(ApiKey.OFFSET_FETCH, version, group_id="g", topics=topics)
        if version >= 2:
            assert (fetched.error_code, fetched.topics) == (code, [])
        else:
            assert fetched.topics[0].partitions[0].error_code == code

    run(body)


def test_deleting_offsets(run):
    async def body(broker):
        await broker.ask(ApiKey.OFFSET_COMMIT, 9, **commit_fields(9))
        topics = [{"name": "orders", "partitions": [{"partition_index": 0}, {"partition_index": 5}]}]
        deleted = await broker.ask(ApiKey.OFFSET_DELETE, 0, group_id="g", topics=topics)
        assert [part.error_code for part in deleted.topics[0].partitions] == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
        fetched = await broker.ask(ApiKey.OFFSET_FETCH, 7, group_id="g", topics=None)
        assert fetched.topics == []
        await broker.member(group_id="h")
        deleted = await broker.ask(ApiKey.OFFSET_DELETE, 0, group_id="h", topics=topics)
        assert deleted.topics[0].partitions[0].error_code == ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
        assert (await broker.ask(ApiKey.OFFSET_DELETE, 0, group_id="no")).error_code == ErrorCode.GROUP_ID_NOT_FOUND

    run(body)


# -- whole groups


@pytest.mark.parametrize("version", versions(ApiKey.DESCRIBE_GROUPS))
def test_describe_of_every_version(run, version):
    async def body(broker):
        member_id = await broker.member()
        more = {"include_authorized_operations": True} if version >= 3 else {}
        described = await broker.ask(ApiKey.DESCRIBE_GROUPS, version, groups=["g", "nobody"], **more)
        group, nobody = described.groups
        assert (group.error_code, group.group_state, group.protocol_type, group.protocol_data) == (
            0,
            "Stable",
            "consumer",
            "range",
        )
        [member] = group.members
        assert (member.member_id, member.client_id, member.client_host) == (member_id, "tester", "/10.0.0.9")
        assert (member.member_metadata, member.member_assignment) == (SUBSCRIPTION, b"all")
        assert group.authorized_operations == (3400 if version >= 3 else -(2**31))
        assert nobody.group_state == "Dead"
        assert nobody.error_code == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else 0)
        assert nobody.error_message == ("Group nobody not found." if version >= 6 else None)

    run(body)


@pytest.mark.parametrize("version", versions(ApiKey.LIST_GROUPS))
def test_list_of_every_version(run, version):
    async def body(broker):
        await broker.member(group_id="members")
        await broker.ask(ApiKey.OFFSET_COMMIT, 9, **commit_fields(9, group_id="offsets"))
        listed = await broker.ask(ApiKey.LIST_GROUPS, version)
        assert {(group.group_id, group.protocol_type) for group in listed.groups} == {
            ("members", "consumer"),
            ("offsets", ""),
        }
        if version >= 4:
            listed = await broker.ask(ApiKey.LIST_GROUPS, version, states_filter=["stable"])
            assert [(group.group_id, group.group_state) for group in listed.groups] == [("members", "Stable")]
        if version >= 5:
            assert (await broker.ask(ApiKey.LIST_GROUPS, version, types_filter=["consumer"])).groups == []
            listed = await broker.ask(ApiKey.LIST_GROUPS, version, types_filter=["Classic"])
            assert [group.group_type for group in listed.groups] == ["classic", "classic"]

    run(body)


@pytest.mark.parametrize("version", versions(ApiKey.DELETE_GROUPS))
def test_delete_of_every_version(run, version):
    async def body(broker):
        await broker.member(group_id="members")
        await broker.ask(ApiKey.OFFSET_COMMIT, 9, **commit_fields(9, group_id="offsets"))
        deleted = await broker.ask(ApiKey.DELETE_GROUPS, version, groups_names=["members", "offsets", "nobody"])
        assert [result.error_code for result in deleted.results] == [
            ErrorCode.NON_EMPTY_GROUP,
            0,
            ErrorCode.GROUP_ID_NOT_FOUND,
        ]
        assert [group.group_id for group in (await broker.ask(ApiKey.LIST_GROUPS, 5)).groups] == ["members"]

    run(body)


# -- the coordinator's life


def test_a_new_term_reloads_and_sends_waiting_members_away(run):
    async def body(broker):
        member_id = await broker.member()
        await broker.ask(
            ApiKey.OFFSET_COMMIT, 9, **commit_fields(9, member_id=member_id, generation_id_or_member_epoch=1)
        )
        waiting = asyncio.get_running_loop().create_task(broker.member())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        broker.open_offsets(epoch=1, partition_epoch=1)
        loading = broker.ask_at_once(ApiKey.LIST_GROUPS, 5)
        assert loading.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        beat = {"group_id": "g", "generation_id": 1, "member_id": member_id}
        assert broker.ask_at_once(ApiKey.HEARTBEAT, 4, **beat).error_code == 0, "heartbeats succeed while loading"
        with pytest.raises(AssertionError, match="error_code=16"):
            await waiting
        while (await broker.ask(ApiKey.LIST_GROUPS, 5)).error_code:
            await asyncio.sleep(0.001)
        assert (await broker.ask(ApiKey.HEARTBEAT, 4, **beat)).error_code == 0
        fetched = await broker.ask(ApiKey.OFFSET_FETCH, 7, group_id="g", topics=None)
        assert fetched.topics[0].partitions[0].committed_offset == 7

    run(body)


def test_offsets_of_a_deleted_topic_are_forgotten_also_if_the_shard_was_loading(run):
    async def body(broker):
        for group in ("a", "b", "c", "d"):
            await broker.ask(ApiKey.OFFSET_COMMIT, 9, **commit_fields(9, group_id=group))
        broker.open_offsets(epoch=1, partition_epoch=1)
        broker.publish(orders=None)
        while (await broker.ask(ApiKey.LIST_GROUPS, 5)).error_code:
            await asyncio.sleep(0.001)
        for group in ("a", "b", "c", "d"):
            assert (await broker.ask(ApiKey.OFFSET_FETCH, 7, group_id=group, topics=None)).topics == []

    run(body)


def test_without_offsets_topic_or_leadership_there_is_no_coordinator(run):
    async def body(broker):
        beat = {"group_id": "g", "generation_id": 1, "member_id": "m"}
        code = (await broker.ask(ApiKey.HEARTBEAT, 4, **beat)).error_code
        assert code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert (await broker.ask(ApiKey.LIST_GROUPS, 5)).groups == []

    run(body, offsets=False)


def test_records_that_do_not_fit_the_log_are_refused_by_name(run):
    async def body(broker):
        for index in range(PARTITIONS):
            log = broker.bench.partitions.get(CONSUMER_OFFSETS, index).log
            log.config = replace(log.config, max_message_bytes=100)
        committed = await broker.ask(ApiKey.OFFSET_COMMIT, 9, **commit_fields(9, (0, 1), group_id="g" * 50))
        codes = [part.error_code for part in committed.topics[0].partitions]
        assert codes == [ErrorCode.INVALID_COMMIT_OFFSET_SIZE] * 2

    run(body)


def test_a_commit_is_answered_when_it_is_durable(run):
    async def body(broker):
        asking = asyncio.get_running_loop().create_task(broker.ask(ApiKey.OFFSET_COMMIT, 9, **commit_fields(9)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not asking.done()
        await broker.bench.flushes.flush()
        assert (await asking).topics[0].partitions[0].error_code == 0

    run(body, policy=FlushPolicy.ALWAYS)


# -- ConsumerGroupHeartbeat and ConsumerGroupDescribe


def joining(**fields):
    return {"group_id": "g", "rebalance_timeout_ms": 30_000, "topic_partitions": [], **fields}


@pytest.mark.parametrize("version", versions(ApiKey.CONSUMER_GROUP_HEARTBEAT))
def test_a_consumer_group_of_every_version(run, version):
    async def body(broker):
        beat, describe = ApiKey.CONSUMER_GROUP_HEARTBEAT, ApiKey.CONSUMER_GROUP_DESCRIBE
        mine = {"member_id": "m"} if version else {}
        joined = await broker.ask(beat, version, **joining(subscribed_topic_names=["orders"], **mine))
        assert (joined.error_code, joined.member_epoch, joined.heartbeat_interval_ms) == (0, 2, 5_000)
        [row] = joined.assignment.topic_partitions
        assert (row.topic_id, row.partitions) == (TOPIC_ID, [0, 1])
        me = {"group_id": "g", "member_id": joined.member_id}
        quiet = await broker.ask(beat, version, **me, member_epoch=2)
        assert (quiet.error_code, quiet.assignment) == (0, None)

        described = await broker.ask(describe, version, group_ids=["g", "", "no"], include_authorized_operations=True)
        group, unnamed, unknown = described.groups
        assert (group.group_state, group.group_epoch, group.assignor_name) == ("Stable", 2, "uniform")
        [member] = group.members
        assert member.client_host == "/10.0.0.9"
        assert member.assignment.topic_partitions[0].topic_name == "orders"
        assert (unnamed.error_code, unknown.error_code) == (
            ErrorCode.INVALID_GROUP_ID,
            ErrorCode.GROUP_ID_NOT_FOUND,
        )
        fenced = await broker.ask(beat, version, **me, member_epoch=9)
        assert fenced.error_code == ErrorCode.FENCED_MEMBER_EPOCH
        assert "greater member epoch (9)" in fenced.error_message
        left = await broker.ask(beat, version, **me, member_epoch=-1)
        assert (left.error_code, left.member_epoch) == (0, -1)

    run(body)


def test_members_follow_the_image_with_their_next_heartbeat(run, one_led):
    async def body(broker):
        beat = ApiKey.CONSUMER_GROUP_HEARTBEAT
        await broker.ask(beat, 1, **joining(member_id="m", subscribed_topic_names=["orders", "later"]))
        broker.bench.clock.advance(2_000)
        broker.publish(orders=[one_led(), one_led(), one_led()])
        grown = await broker.ask(beat, 1, group_id="g", member_id="m", member_epoch=2)
        assert [row.partitions for row in grown.assignment.topic_partitions] == [[0, 1, 2]]
        broker.bench.clock.advance(2_000)
        broker.publish(later=[one_led()])
        more = await broker.ask(beat, 1, group_id="g", member_id="m", member_epoch=3)
        assert sorted(row.partitions for row in more.assignment.topic_partitions) == [[0], [0, 1, 2]]

    run(body)


def test_consumer_groups_are_refused_where_the_cluster_has_none(run):
    async def body(broker):
        broker.has_consumer_groups = False
        beat = await broker.ask(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, **joining(member_id="m"))
        assert beat.error_code == ErrorCode.UNSUPPORTED_VERSION
        described = await broker.ask(ApiKey.CONSUMER_GROUP_DESCRIBE, 1, group_ids=["a", "b"])
        assert [group.error_code for group in described.groups] == [ErrorCode.UNSUPPORTED_VERSION] * 2

    run(body)


def test_a_group_may_have_times_of_its_own_within_the_brokers_bounds(run):
    async def body(broker):
        own = {"consumer.heartbeat.interval.ms": "9000", "consumer.session.timeout.ms": "1"}
        broker.configs = {ConfigResource(ResourceType.GROUP, "g"): own}
        broker.publish()
        for group, expected in (("g", 9_000), ("other", 5_000)):
            fields = joining(member_id="m", subscribed_topic_names=["orders"]) | {"group_id": group}
            answer = await broker.ask(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, **fields)
            assert answer.heartbeat_interval_ms == expected
        times = broker.coordinator._settings.consumer.times_of("g")
        assert times.session_timeout_ms == 45_000, "not below group.consumer.min.session.timeout.ms"
        broker.configs = {ConfigResource(ResourceType.GROUP, "g"): {}}
        broker.publish()
        assert broker.coordinator._settings.consumer.own == {}

    run(body)

"""Administration of groups of every kind: who is in them, what they have committed, and taking both away."""

import asyncio
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from ottla.client._admin_ask import ask_every_broker, outcome
from ottla.client._cluster import Cluster
from ottla.client._coordinator import CoordinatorKind, CoordinatorLink
from ottla.client._errors import error_of
from ottla.client._offsets import OffsetAndMetadata
from ottla.model import TopicPartition
from ottla.net.peer import Peer
from ottla.wire.apis import ApiKey
from ottla.wire.codec import Message
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.delete_groups_request import DeleteGroupsRequest
from ottla.wire.messages.describe_groups_request import DescribeGroupsRequest
from ottla.wire.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from ottla.wire.messages.list_groups_request import ListGroupsRequest
from ottla.wire.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.wire.messages.offset_delete_request import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.wire.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)

SECONDS: Final = 30.0
BY_NAME_VERSION: Final = 9
"""The last version of OffsetCommit and OffsetFetch that names topics; later ones want ids."""
REASON_VERSION: Final = 5
"""From here on LeaveGroup says why."""
MANY_GROUPS_VERSION: Final = 8
DELAYED: Final = frozenset({ErrorCode.UNSTABLE_OFFSET_COMMIT})
NOT_THIS_KIND: Final = frozenset(
    {ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.UNSUPPORTED_VERSION, ErrorCode.INVALID_GROUP_ID}
)


class GroupListing(Struct, frozen=True, kw_only=True):
    """A group as the list of groups has it. ``type``: classic, consumer, share, streams."""

    group_id: str
    type: str
    state: str
    protocol_type: str


class MemberDescription(Struct, frozen=True, kw_only=True):
    """A member. Of a classic group with an unknown protocol, ``assignment`` is empty."""

    member_id: str
    instance_id: str | None
    client_id: str
    host: str
    assignment: tuple[TopicPartition, ...] = ()
    target_assignment: tuple[TopicPartition, ...] = ()
    epoch: int = -1
    subscribed: tuple[str, ...] = ()
    subscribed_regex: str | None = None


class GroupDescription(Struct, frozen=True, kw_only=True):
    """A group with its members. ``assignor`` is the protocol they agreed on, or the server's assignor."""

    group_id: str
    type: str
    state: str
    assignor: str
    coordinator: int
    members: tuple[MemberDescription, ...]
    epoch: int = -1
    assignment_epoch: int = -1


async def list_groups(cluster: Cluster, *, states: Sequence[str], types: Sequence[str]) -> list[GroupListing]:
    def request(version: int) -> ListGroupsRequest:
        message = ListGroupsRequest()
        if version >= 4:
            message.states_filter = list(states)
        if version >= 5:
            message.types_filter = list(types)
        return message

    answers = await ask_every_broker(cluster, ApiKey.LIST_GROUPS, request)
    found: dict[str, GroupListing] = {}
    for answer in answers.values():
        if isinstance(answer, ConnectionError):
            continue
        if answer.error_code not in (ErrorCode.NONE, ErrorCode.COORDINATOR_NOT_AVAILABLE):
            raise error_of(answer.error_code, "the groups could not be listed")
        for group in answer.groups:
            found[group.group_id] = GroupListing(
                group_id=group.group_id,
                type=group.group_type or "classic",
                state=group.group_state,
                protocol_type=group.protocol_type,
            )
    return [found[name] for name in sorted(found)]


async def describe_groups(cluster: Cluster, names: Iterable[str]) -> dict[str, GroupDescription | KafkaError]:
    wanted = list(dict.fromkeys(names))
    described = await asyncio.gather(*(_described(cluster, name) for name in wanted))
    return dict(zip(wanted, described, strict=True))


async def delete_groups(cluster: Cluster, names: Iterable[str]) -> dict[str, KafkaError | None]:
    async def delete(name: str) -> KafkaError | None:
        answer = await _ask(
            cluster, name, ApiKey.DELETE_GROUPS, DeleteGroupsRequest(groups_names=[name]), _first_result
        )
        return answer if isinstance(answer, KafkaError) else outcome(_first_result(answer), None, _group(name), None)

    wanted = list(dict.fromkeys(names))
    return dict(zip(wanted, await asyncio.gather(*map(delete, wanted)), strict=True))


async def group_offsets(
    cluster: Cluster, group_id: str, places: Iterable[TopicPartition] | None, *, require_stable: bool
) -> dict[TopicPartition, OffsetAndMetadata | KafkaError]:
    topics: dict[str, list[int]] | None = None
    if places is not None:
        topics = {}
        for place in places:
            topics.setdefault(place.topic, []).append(place.partition)

    def request(peer: Peer) -> tuple[Message, int]:
        version = min(peer.version_of(ApiKey.OFFSET_FETCH), BY_NAME_VERSION)
        return _offset_fetch(group_id, topics, version, stable=require_stable), version

    answer = await _ask(cluster, group_id, ApiKey.OFFSET_FETCH, request, _fetch_error, again=DELAYED)
    if isinstance(answer, KafkaError):
        raise answer
    found: dict[TopicPartition, OffsetAndMetadata | KafkaError] = {}
    for topic in answer.groups[0].topics if answer.groups else answer.topics:
        for one in topic.partitions:
            if one.committed_offset < 0 and one.error_code == ErrorCode.NONE:
                continue
            value = OffsetAndMetadata(one.committed_offset, one.metadata or "", one.committed_leader_epoch)
            found[TopicPartition(topic.name, one.partition_index)] = outcome(
                one.error_code, None, f"offset of group {group_id!r}", value
            )
    return found


async def alter_group_offsets(
    cluster: Cluster, group_id: str, offsets: Mapping[TopicPartition, int | OffsetAndMetadata]
) -> dict[TopicPartition, KafkaError | None]:
    topics: dict[str, OffsetCommitRequestTopic] = {}
    for place, offset in offsets.items():
        given = OffsetAndMetadata(offset) if isinstance(offset, int) else offset
        topic = topics.setdefault(place.topic, OffsetCommitRequestTopic(name=place.topic, partitions=[]))
        topic.partitions.append(
            OffsetCommitRequestPartition(
                partition_index=place.partition,
                committed_offset=given.offset,
                committed_leader_epoch=given.leader_epoch,
                committed_metadata=given.metadata,
            )
        )

    def request(peer: Peer) -> tuple[Message, int]:
        version = min(peer.version_of(ApiKey.OFFSET_COMMIT), BY_NAME_VERSION)
        return OffsetCommitRequest(group_id=group_id, topics=list(topics.values())), version

    answer = await _ask(cluster, group_id, ApiKey.OFFSET_COMMIT, request, _first_partition)
    return _by_partition(answer, offsets, f"offsets of group {group_id!r}")


async def delete_group_offsets(
    cluster: Cluster, group_id: str, places: Iterable[TopicPartition]
) -> dict[TopicPartition, KafkaError | None]:
    topics: dict[str, OffsetDeleteRequestTopic] = {}
    wanted = dict.fromkeys(places)
    for place in wanted:
        topic = topics.setdefault(place.topic, OffsetDeleteRequestTopic(name=place.topic, partitions=[]))
        topic.partitions.append(OffsetDeleteRequestPartition(partition_index=place.partition))
    request = OffsetDeleteRequest(group_id=group_id, topics=list(topics.values()))
    answer = await _ask(cluster, group_id, ApiKey.OFFSET_DELETE, request, lambda one: one.error_code)
    if not isinstance(answer, KafkaError) and answer.error_code != ErrorCode.NONE:
        answer = error_of(answer.error_code, f"{_group(group_id)}: {ErrorCode.of(answer.error_code).description}")
    return _by_partition(answer, wanted, f"offsets of group {group_id!r}")


async def remove_members(
    cluster: Cluster, group_id: str, member_ids: Sequence[str], instance_ids: Sequence[str], reason: str
) -> dict[str, KafkaError | None]:
    def request(peer: Peer) -> tuple[Message, int]:
        version = peer.version_of(ApiKey.LEAVE_GROUP)
        members = [MemberIdentity(member_id=one) for one in member_ids]
        members += [MemberIdentity(member_id="", group_instance_id=one) for one in instance_ids]
        if version >= REASON_VERSION:
            for member in members:
                member.reason = reason
        return LeaveGroupRequest(group_id=group_id, members=members), version

    answer = await _ask(cluster, group_id, ApiKey.LEAVE_GROUP, request, lambda one: one.error_code)
    if isinstance(answer, KafkaError):
        raise answer
    if answer.error_code != ErrorCode.NONE:
        raise error_of(answer.error_code, f"{_group(group_id)}: {ErrorCode.of(answer.error_code).description}")
    return {
        one.group_instance_id or one.member_id: outcome(one.error_code, None, f"member {one.member_id!r}", None)
        for one in answer.members
    }


async def _described(cluster: Cluster, name: str) -> GroupDescription | KafkaError:
    """As a group of the next generation, then as a share group, then as a classic one."""
    for api_key, kind in ((ApiKey.CONSUMER_GROUP_DESCRIBE, "consumer"), (ApiKey.SHARE_GROUP_DESCRIBE, "share")):
        answer = await _ask(cluster, name, api_key, lambda peer, key=api_key: _describe_request(peer, key, name))
        if isinstance(answer, KafkaError):
            if answer.code in NOT_THIS_KIND:
                continue
            return answer
        group = answer[0].groups[0]
        if ErrorCode.of(group.error_code) not in NOT_THIS_KIND:
            modern = _modern(group, kind, answer[1])
            return outcome(group.error_code, group.error_message, _group(name), modern)
    answer = await _ask(
        cluster, name, ApiKey.DESCRIBE_GROUPS, lambda peer: _describe_request(peer, ApiKey.DESCRIBE_GROUPS, name)
    )
    if isinstance(answer, KafkaError):
        return answer
    group = answer[0].groups[0]
    if group.error_code == ErrorCode.NONE and group.group_state == "Dead":
        # Versions up to 5 say so of a group that does not exist.
        return error_of(ErrorCode.GROUP_ID_NOT_FOUND, f"{_group(name)} does not exist")
    return outcome(group.error_code, group.error_message, _group(name), _classic(group, answer[1]))


def _describe_request(peer: Peer, api_key: ApiKey, name: str) -> tuple[Message, int]:
    from ottla.wire.messages.consumer_group_describe_request import (  # noqa: PLC0415 - loaded on demand
        ConsumerGroupDescribeRequest,
    )
    from ottla.wire.messages.share_group_describe_request import ShareGroupDescribeRequest  # noqa: PLC0415 - as above

    version = peer.version_of(api_key)
    if api_key is ApiKey.DESCRIBE_GROUPS:
        return DescribeGroupsRequest(groups=[name]), version
    if api_key is ApiKey.SHARE_GROUP_DESCRIBE:
        return ShareGroupDescribeRequest(group_ids=[name]), version
    return ConsumerGroupDescribeRequest(group_ids=[name]), version


def _modern(group: Any, kind: str, coordinator: int) -> GroupDescription:
    members = tuple(
        MemberDescription(
            member_id=one.member_id,
            instance_id=getattr(one, "instance_id", None),
            client_id=one.client_id,
            host=one.client_host,
            epoch=one.member_epoch,
            subscribed=tuple(one.subscribed_topic_names),
            subscribed_regex=getattr(one, "subscribed_topic_regex", None) or None,
            assignment=_places(one.assignment),
            target_assignment=_places(getattr(one, "target_assignment", one.assignment)),
        )
        for one in group.members
    )
    return GroupDescription(
        group_id=group.group_id,
        type=kind,
        state=group.group_state,
        assignor=group.assignor_name,
        coordinator=coordinator,
        members=members,
        epoch=group.group_epoch,
        assignment_epoch=group.assignment_epoch,
    )


def _places(assignment: Any) -> tuple[TopicPartition, ...]:
    return tuple(
        TopicPartition(topic.topic_name, number) for topic in assignment.topic_partitions for number in topic.partitions
    )


def _classic(group: Any, coordinator: int) -> GroupDescription:
    ours = group.protocol_type == "consumer"
    members = tuple(
        MemberDescription(
            member_id=one.member_id,
            instance_id=one.group_instance_id,
            client_id=one.client_id,
            host=one.client_host,
            assignment=decode_assignment(bytes(one.member_assignment)) if ours else (),
        )
        for one in group.members
    )
    return GroupDescription(
        group_id=group.group_id,
        type="classic",
        state=group.group_state,
        assignor=group.protocol_data,
        coordinator=coordinator,
        members=members,
    )


def decode_assignment(data: bytes) -> tuple[TopicPartition, ...]:
    """The partitions in a classic member's assignment; none for what cannot be read."""
    places: list[TopicPartition] = []
    try:
        _, topics = struct.unpack_from(">hi", data)
        position = 6
        for _ in range(topics):
            (length,) = struct.unpack_from(">h", data, position)
            name = data[position + 2 : position + 2 + length].decode()
            position += 2 + length
            (count,) = struct.unpack_from(">i", data, position)
            numbers = struct.unpack_from(f">{count}i", data, position + 4)
            position += 4 + 4 * count
            places += [TopicPartition(name, number) for number in numbers]
    except (ValueError, struct.error):
        return ()
    return tuple(places)


def _offset_fetch(
    group_id: str, topics: Mapping[str, list[int]] | None, version: int, *, stable: bool
) -> OffsetFetchRequest:
    if version >= MANY_GROUPS_VERSION:
        wanted = None
        if topics is not None:
            wanted = [OffsetFetchRequestTopics(name=name, partition_indexes=all_) for name, all_ in topics.items()]
        group = OffsetFetchRequestGroup(group_id=group_id, topics=wanted)
        return OffsetFetchRequest(groups=[group], require_stable=stable)
    request = OffsetFetchRequest(group_id=group_id, topics=None)
    if topics is not None:
        request.topics = [OffsetFetchRequestTopic(name=name, partition_indexes=all_) for name, all_ in topics.items()]
    if version >= 7:
        request.require_stable = stable
    return request


def _by_partition(
    answer: Any, places: Iterable[TopicPartition], subject: str
) -> dict[TopicPartition, KafkaError | None]:
    if isinstance(answer, KafkaError):
        return dict.fromkeys(places, answer)
    return {
        TopicPartition(topic.name, one.partition_index): outcome(one.error_code, None, subject, None)
        for topic in answer.topics
        for one in topic.partitions
    }


async def _ask(
    cluster: Cluster,
    group_id: str,
    api_key: ApiKey,
    request: Any,
    code_of: Any = None,
    *,
    again: frozenset[ErrorCode] = frozenset(),
) -> Any:
    """The coordinator's answer, or the error there was. Without ``code_of``: a description, with who described it."""
    link = CoordinatorLink(cluster, CoordinatorKind.GROUP, group_id)
    try:
        if code_of is not None:
            return await link.ask(api_key, request, code_of, seconds=SECONDS, again=again)
        answer = await link.ask(api_key, request, lambda one: one.groups[0].error_code, seconds=SECONDS, again=again)
    except KafkaError as error:
        return error
    return answer, link.node_id


def _first_result(answer: Any) -> int:
    return int(answer.results[0].error_code)


def _first_partition(answer: Any) -> int:
    return next((one.error_code for topic in answer.topics for one in topic.partitions if one.error_code), 0)


def _fetch_error(answer: Any) -> int:
    group = answer.groups[0] if answer.groups else answer
    return int(group.error_code) or _first_partition(group)


def _group(name: str) -> str:
    return f"group {name!r}"

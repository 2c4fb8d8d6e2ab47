"""Groups of consumers: which there are, who is in them, how far they have read, moving and deleting their offsets.

Members of classic groups come from DescribeGroups, of next-generation ones (KIP-848) from ConsumerGroupDescribe, which
is asked first where the coordinator speaks it, of share groups (KIP-932) from ShareGroupDescribe.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from ottla.cli.calls.asking import ask_each, check
from ottla.cli.rows import GroupDescription, GroupMember, GroupPartition, GroupRow
from ottla.client._cluster import Cluster
from ottla.client._coordinator import CoordinatorKind, find_coordinator
from ottla.client._offsets import EARLIEST, LATEST, list_offsets
from ottla.model import TopicPartition
from ottla.net.peer import Peer
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError

NAMED_TOPICS: Final = 9
"""The last version of OffsetFetch and OffsetCommit that names topics instead of numbering them."""
EMPTY_STATES: Final = frozenset(("Empty", "Dead"))


class _Group(Struct, frozen=True, kw_only=True):
    type: str
    state: str
    assignor: str
    epoch: int | None
    members: list[tuple[GroupMember, list[TopicPartition]]]


async def list_groups(cluster: Cluster, states: Iterable[str] = (), types: Iterable[str] = ()) -> list[GroupRow]:
    """Every group of every coordinator, by name."""
    from ottla.wire.messages.list_groups_request import ListGroupsRequest

    wanted_states, wanted_types = list(states), list(types)

    def request(version: int) -> ListGroupsRequest:
        return ListGroupsRequest(
            states_filter=wanted_states if version >= 4 else [], types_filter=wanted_types if version >= 5 else []
        )

    rows: dict[str, GroupRow] = {}
    for node_id, answer in (await ask_each(cluster, ApiKey.LIST_GROUPS, request)).items():
        check(answer.error_code, None, f"groups of broker {node_id}")
        for one in answer.groups:
            rows[one.group_id] = GroupRow(
                group=one.group_id,
                type=one.group_type.lower() or "classic",
                protocol_type=one.protocol_type,
                state=one.group_state,
                coordinator=node_id,
            )
    return [rows[name] for name in sorted(rows)]


async def describe_group(cluster: Cluster, name: str) -> GroupDescription:
    """A group with its members, offsets and lag. Raises ``KafkaError(GROUP_ID_NOT_FOUND)``."""
    node_id = await find_coordinator(cluster, CoordinatorKind.GROUP, name)
    peer = await cluster.peer(node_id)
    group = await _describe(peer, name)
    committed = await _committed(peer, name) if group.type != "share" else {}
    owners = {place: member for member, places in group.members for place in places}
    places = sorted({*committed, *owners})
    starts, ends = await bounds(cluster, places)
    partitions = [_partition(place, committed.get(place), starts, ends, owners.get(place)) for place in places]
    return GroupDescription(
        group=name,
        type=group.type,
        state=group.state,
        assignor=group.assignor,
        coordinator=node_id,
        epoch=group.epoch,
        lag=sum(one.lag or 0 for one in partitions),
        members=[member for member, _ in group.members],
        partitions=partitions,
    )


async def committed_offsets(cluster: Cluster, name: str) -> dict[TopicPartition, int]:
    """The offsets a group has committed."""
    peer = await cluster.peer(await find_coordinator(cluster, CoordinatorKind.GROUP, name))
    return {place: offset for place, (offset, _) in (await _committed(peer, name)).items()}


async def commit_offsets(cluster: Cluster, name: str, offsets: Mapping[TopicPartition, int]) -> None:
    """Commit for a group without members. Raises ``KafkaError`` for the first partition that is refused."""
    from ottla.wire.messages.offset_commit_request import (
        OffsetCommitRequest,
        OffsetCommitRequestPartition,
        OffsetCommitRequestTopic,
    )

    topics = [
        OffsetCommitRequestTopic(
            name=topic,
            partitions=[
                OffsetCommitRequestPartition(
                    partition_index=number,
                    committed_offset=offsets[TopicPartition(topic, number)],
                    committed_leader_epoch=-1,
                    committed_metadata="",
                )
                for number in numbers
            ],
        )
        for topic, numbers in _by_topic(offsets).items()
    ]
    request = OffsetCommitRequest(
        group_id=name, generation_id_or_member_epoch=-1, member_id="", retention_time_ms=-1, topics=topics
    )
    peer = await cluster.peer(await find_coordinator(cluster, CoordinatorKind.GROUP, name))
    answer = await peer.request(ApiKey.OFFSET_COMMIT, request, _named(peer, ApiKey.OFFSET_COMMIT))
    for topic in answer.topics:
        for one in topic.partitions:
            check(one.error_code, None, f"group {name!r}, {topic.name}-{one.partition_index}")


async def delete_offsets(cluster: Cluster, name: str, places: Iterable[TopicPartition]) -> None:
    """Forget a group's offsets. Raises ``KafkaError`` for the first partition that is refused."""
    from ottla.wire.messages.offset_delete_request import (
        OffsetDeleteRequest,
        OffsetDeleteRequestPartition,
        OffsetDeleteRequestTopic,
    )

    topics = [
        OffsetDeleteRequestTopic(
            name=topic, partitions=[OffsetDeleteRequestPartition(partition_index=number) for number in numbers]
        )
        for topic, numbers in _by_topic(places).items()
    ]
    peer = await cluster.peer(await find_coordinator(cluster, CoordinatorKind.GROUP, name))
    answer = await peer.request(ApiKey.OFFSET_DELETE, OffsetDeleteRequest(group_id=name, topics=topics))
    check(answer.error_code, None, f"group {name!r}")
    for topic in answer.topics:
        for one in topic.partitions:
            check(one.error_code, None, f"group {name!r}, {topic.name}-{one.partition_index}")


async def delete_group(cluster: Cluster, name: str) -> None:
    """Delete a group without members, with its offsets."""
    from ottla.wire.messages.delete_groups_request import DeleteGroupsRequest

    peer = await cluster.peer(await find_coordinator(cluster, CoordinatorKind.GROUP, name))
    answer = await peer.request(ApiKey.DELETE_GROUPS, DeleteGroupsRequest(groups_names=[name]))
    for one in answer.results:
        check(one.error_code, None, f"group {one.group_id!r}")


async def bounds(
    cluster: Cluster, places: Iterable[TopicPartition]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """The first offset and the one after the last of partitions; topics that are gone have none."""
    wanted = list(places)
    gone = await cluster.refresh({place.topic for place in wanted}) if wanted else {}
    alive = [place for place in wanted if place.topic not in gone and cluster.leader(place) >= 0]
    starts = await list_offsets(cluster, dict.fromkeys(alive, EARLIEST))
    ends = await list_offsets(cluster, dict.fromkeys(alive, LATEST))
    return starts, ends


def _partition(
    place: TopicPartition,
    committed: tuple[int, str | None] | None,
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    owner: GroupMember | None,
) -> GroupPartition:
    offset = None if committed is None else committed[0]
    end = ends.get(place)
    return GroupPartition(
        topic=place.topic,
        partition=place.partition,
        committed=offset,
        start=starts.get(place),
        end=end,
        lag=None if offset is None or end is None else max(0, end - offset),
        member_id=None if owner is None else owner.member_id,
        client_id=None if owner is None else owner.client_id,
        host=None if owner is None else owner.host,
        metadata=None if committed is None else committed[1],
    )


async def _describe(peer: Peer, name: str) -> _Group:
    if peer.speaks(ApiKey.CONSUMER_GROUP_DESCRIBE):
        group = await _describe_next(peer, name)
        if group is not None:
            return group
    if peer.speaks(ApiKey.SHARE_GROUP_DESCRIBE):
        group = await _describe_share(peer, name)
        if group is not None:
            return group
    return await _describe_classic(peer, name)


async def _describe_next(peer: Peer, name: str) -> _Group | None:
    from ottla.wire.messages.consumer_group_describe_request import ConsumerGroupDescribeRequest

    request = ConsumerGroupDescribeRequest(group_ids=[name])
    (group,) = (await peer.request(ApiKey.CONSUMER_GROUP_DESCRIBE, request)).groups
    if group.error_code in (ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.UNSUPPORTED_VERSION):
        return None
    check(group.error_code, group.error_message, f"group {name!r}")
    return _modern("consumer", group)


async def _describe_share(peer: Peer, name: str) -> _Group | None:
    from ottla.wire.messages.share_group_describe_request import ShareGroupDescribeRequest

    request = ShareGroupDescribeRequest(group_ids=[name])
    (group,) = (await peer.request(ApiKey.SHARE_GROUP_DESCRIBE, request)).groups
    if group.error_code in (ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.UNSUPPORTED_VERSION):
        return None
    check(group.error_code, group.error_message, f"group {name!r}")
    return _modern("share", group)


def _modern(kind: str, group: Any) -> _Group:
    members = []
    for one in group.members:
        places = [
            TopicPartition(topic.topic_name, number)
            for topic in one.assignment.topic_partitions
            for number in topic.partitions
        ]
        member = GroupMember(
            member_id=one.member_id,
            instance_id=getattr(one, "instance_id", None),
            client_id=one.client_id,
            host=one.client_host,
            epoch=one.member_epoch,
            partitions=[str(place) for place in places],
        )
        members.append((member, places))
    return _Group(
        type=kind, state=group.group_state, assignor=group.assignor_name, epoch=group.group_epoch, members=members
    )


async def _describe_classic(peer: Peer, name: str) -> _Group:
    from ottla.wire.messages.describe_groups_request import DescribeGroupsRequest

    (group,) = (await peer.request(ApiKey.DESCRIBE_GROUPS, DescribeGroupsRequest(groups=[name]))).groups
    if group.error_code == ErrorCode.GROUP_ID_NOT_FOUND or (not group.error_code and group.group_state == "Dead"):
        raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"group {name!r} does not exist")
    check(group.error_code, group.error_message, f"group {name!r}")
    members = []
    for one in group.members:
        places = _assigned(one.member_assignment) if group.protocol_type == "consumer" else []
        member = GroupMember(
            member_id=one.member_id,
            instance_id=one.group_instance_id,
            client_id=one.client_id,
            host=one.client_host,
            epoch=None,
            partitions=[str(place) for place in places],
        )
        members.append((member, places))
    return _Group(type="classic", state=group.group_state, assignor=group.protocol_data, epoch=None, members=members)


def _assigned(content: bytes) -> list[TopicPartition]:
    """What a leader gave a member, in the consumer's own protocol. Unreadable is as good as nothing."""
    from ottla.wire import DecodeError
    from ottla.wire.codec import decode
    from ottla.wire.messages.consumer_protocol_assignment import ConsumerProtocolAssignment

    if len(content) < 2:
        return []
    version = min(int.from_bytes(content[:2], "big"), ConsumerProtocolAssignment.HIGHEST_VERSION)
    try:
        assignment = decode(ConsumerProtocolAssignment, content[2:], version, allow_trailing=True)
    except DecodeError:
        return []
    return [
        TopicPartition(topic.topic, number) for topic in assignment.assigned_partitions for number in topic.partitions
    ]


async def _committed(peer: Peer, name: str) -> dict[TopicPartition, tuple[int, str | None]]:
    from ottla.wire.messages.offset_fetch_request import OffsetFetchRequest, OffsetFetchRequestGroup

    version = _named(peer, ApiKey.OFFSET_FETCH)
    if version >= 8:
        request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=name, topics=None)])
        answer = (await peer.request(ApiKey.OFFSET_FETCH, request, version)).groups[0]
    else:
        request = OffsetFetchRequest(group_id=name, topics=None)
        answer = await peer.request(ApiKey.OFFSET_FETCH, request, version)
    if answer.error_code != ErrorCode.GROUP_ID_NOT_FOUND:
        check(answer.error_code, None, f"group {name!r}")
    return {
        TopicPartition(topic.name, one.partition_index): (one.committed_offset, one.metadata or None)
        for topic in answer.topics
        for one in topic.partitions
        if one.error_code == ErrorCode.NONE and one.committed_offset >= 0
    }


def _named(peer: Peer, api_key: ApiKey) -> int:
    return min(NAMED_TOPICS, peer.version_of(api_key))


def _by_topic(places: Iterable[TopicPartition]) -> dict[str, list[int]]:
    topics: defaultdict[str, list[int]] = defaultdict(list)
    for place in sorted(places):
        topics[place.topic].append(place.partition)
    return topics

"""Groups of consumers with their offsets and lag."""

from collections.abc import Iterable, Mapping

from ottla.cli.rows import GroupDescription, GroupMember, GroupPartition, GroupRow
from ottla.client import Admin, ErrorCode, KafkaError
from ottla.model import TopicPartition

Offsets = dict[TopicPartition, int]


async def list_groups(admin: Admin, states: Iterable[str] = (), types: Iterable[str] = ()) -> list[GroupRow]:
    """Every group of every coordinator, by name."""
    found = await admin.list_groups(states=list(states), types=list(types))
    return [
        GroupRow(group=one.group_id, type=one.type, protocol_type=one.protocol_type, state=one.state)
        for one in sorted(found, key=lambda group: group.group_id)
    ]


async def describe_group(admin: Admin, name: str) -> GroupDescription:
    """A group with its members, offsets and lag. Raises ``KafkaError(GROUP_ID_NOT_FOUND)``."""
    group = (await admin.describe_groups([name]))[name]
    if isinstance(group, KafkaError):
        raise group
    if group.type == "classic" and group.state == "Dead":
        raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"group {name!r} does not exist")
    committed = await committed_offsets(admin, name) if group.type in ("classic", "consumer") else {}
    members = [
        GroupMember(
            member_id=one.member_id,
            instance_id=one.instance_id,
            client_id=one.client_id,
            host=one.host,
            epoch=one.epoch if one.epoch >= 0 else None,
            partitions=[str(place) for place in one.assignment],
        )
        for one in group.members
    ]
    owners = {place: member for one, member in zip(group.members, members, strict=True) for place in one.assignment}
    places = sorted({*committed, *owners})
    starts, ends = await bounds(admin, places)
    partitions = [_partition(place, committed.get(place), (starts, ends), owners.get(place)) for place in places]
    return GroupDescription(
        group=name,
        type=group.type,
        state=group.state,
        assignor=group.assignor,
        coordinator=group.coordinator,
        epoch=group.epoch if group.epoch >= 0 else None,
        lag=sum(one.lag or 0 for one in partitions),
        members=members,
        partitions=partitions,
    )


async def committed_offsets(admin: Admin, name: str) -> Offsets:
    """The offsets a group has committed; those that cannot be had are left out."""
    found = await admin.group_offsets(name)
    return {place: one.offset for place, one in found.items() if not isinstance(one, KafkaError)}


async def bounds(admin: Admin, places: Iterable[TopicPartition]) -> tuple[Offsets, Offsets]:
    """The first offset and the one after the last of partitions; what is gone or has no leader has none."""
    known = {topic.name: topic for topic in await admin.list_topics(internal=True)}
    alive = [
        place
        for place in places
        if place.topic in known
        and place.partition in known[place.topic].partitions
        and known[place.topic].partitions[place.partition].leader >= 0
    ]
    starts = await admin.list_offsets(dict.fromkeys(alive, "earliest"))
    ends = await admin.list_offsets(dict.fromkeys(alive, "latest"))
    return (
        {place: one.offset for place, one in starts.items() if not isinstance(one, KafkaError)},
        {place: one.offset for place, one in ends.items() if not isinstance(one, KafkaError)},
    )


def _partition(
    place: TopicPartition,
    committed: int | None,
    limits: tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]],
    owner: GroupMember | None,
) -> GroupPartition:
    starts, ends = limits
    end = ends.get(place)
    return GroupPartition(
        topic=place.topic,
        partition=place.partition,
        committed=committed,
        start=starts.get(place),
        end=end,
        lag=None if committed is None or end is None else max(0, end - committed),
        member_id=None if owner is None else owner.member_id,
        client_id=None if owner is None else owner.client_id,
        host=None if owner is None else owner.host,
    )

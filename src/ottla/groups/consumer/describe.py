"""A consumer group as ConsumerGroupDescribe shows it."""

from collections.abc import Iterable, Mapping

from ottla.groups.commands import DescribedConsumerGroup, DescribedConsumerMember
from ottla.groups.consumer.group import ConsumerGroup, ConsumerMember
from ottla.groups.consumer.topics import Topics
from ottla.model import Uuid


def describe_group(group: ConsumerGroup, topics: Topics, default_assignor: str) -> DescribedConsumerGroup:
    return DescribedConsumerGroup(
        group_id=group.group_id,
        state=group.state_name,
        epoch=group.epoch,
        assignment_epoch=group.assignment_epoch,
        assignor=group.assignor_with(None, None) or default_assignor,
        members=tuple(_member(group, member, topics) for member in group.members.values()),
    )


def _member(group: ConsumerGroup, member: ConsumerMember, topics: Topics) -> DescribedConsumerMember:
    metadata, current = member.metadata, member.current
    held: dict[Uuid, list[int]] = {}
    for owned in (current.assigned, current.revoking):
        for topic_id, partitions in owned.items():
            held.setdefault(topic_id, []).extend(partitions)
    return DescribedConsumerMember(
        member_id=member.member_id,
        member_epoch=member.epoch,
        group_instance_id=metadata.instance_id,
        rack_id=metadata.rack_id,
        client_id=metadata.client_id,
        client_host=metadata.client_host,
        topics=metadata.topics,
        regex=metadata.regex,
        assigned=_named(held, topics),
        target=_named(group.targets.get(member.member_id, {}), topics),
        speaks_classic=member.speaks_classic,
    )


def _named(partitions: Mapping[Uuid, Iterable[int]], topics: Topics) -> tuple[tuple[Uuid, str, tuple[int, ...]], ...]:
    found = ((topic_id, topics.identified(topic_id), indexes) for topic_id, indexes in partitions.items())
    return tuple((topic_id, topic.name, tuple(indexes)) for topic_id, topic, indexes in found if topic is not None)

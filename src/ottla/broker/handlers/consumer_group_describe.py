"""ConsumerGroupDescribe (69), versions 0-1: consumer groups, their epochs, their members' assignments and targets.

A group of another kind or none at all is GROUP_ID_NOT_FOUND. v1 tells which protocol each member speaks. Refused as a
whole (UNSUPPORTED_VERSION) where the cluster does not have the protocol. Without an authorizer everything that can be
done to a group is allowed.
"""

import asyncio
from collections.abc import Callable, Sequence

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.groups.commands import DescribedConsumerGroup, DescribedConsumerMember
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.consumer_group_describe_request import ConsumerGroupDescribeRequest
from ottla.wire.messages.consumer_group_describe_response import (
    Assignment,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
    Member,
    TopicPartitions,
)

NOT_ASKED = -(2**31)
GROUP_OPERATIONS = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11
"""Read, Delete, Describe, DescribeConfigs, AlterConfigs."""
CLASSIC_MEMBER = 0
CONSUMER_MEMBER = 1


class ConsumerGroupDescribeHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator. ``is_enabled`` tells whether the cluster has the protocol."""

    coordinator: GroupCoordinator
    is_enabled: Callable[[], bool]

    async def handle(
        self, _context: RequestContext, request: ConsumerGroupDescribeRequest
    ) -> ConsumerGroupDescribeResponse:
        if self.is_enabled():
            groups = await asyncio.gather(*(self._describe(group_id) for group_id in request.group_ids))
        else:
            refused = ErrorCode.UNSUPPORTED_VERSION
            groups = [DescribedConsumerGroup(group_id=group_id, error=refused) for group_id in request.group_ids]
        allowed = GROUP_OPERATIONS if request.include_authorized_operations else NOT_ASKED
        return ConsumerGroupDescribeResponse(groups=[_group(group, allowed) for group in groups])

    async def _describe(self, group_id: str) -> DescribedConsumerGroup:
        if not group_id:
            return DescribedConsumerGroup(group_id=group_id, error=ErrorCode.INVALID_GROUP_ID)
        try:
            described: list[DescribedConsumerGroup] = await self.coordinator.ask(
                group_id, lambda shard, _now_ms, _token: shard.describe_consumer_groups((group_id,))
            )
        except KafkaError as error:
            return DescribedConsumerGroup(group_id=group_id, error=error.code)
        return described[0]


def _group(group: DescribedConsumerGroup, allowed: int) -> DescribedGroup:
    return DescribedGroup(
        error_code=int(group.error),
        error_message=group.error_message,
        group_id=group.group_id,
        group_state=group.state,
        group_epoch=group.epoch,
        assignment_epoch=group.assignment_epoch,
        assignor_name=group.assignor,
        members=[_member(member) for member in group.members],
        authorized_operations=allowed if group.error is ErrorCode.NONE else NOT_ASKED,
    )


def _member(member: DescribedConsumerMember) -> Member:
    return Member(
        member_id=member.member_id,
        instance_id=member.group_instance_id,
        rack_id=member.rack_id,
        member_epoch=member.member_epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=list(member.topics),
        subscribed_topic_regex=member.regex,
        assignment=_assignment(member.assigned),
        target_assignment=_assignment(member.target),
        member_type=CLASSIC_MEMBER if member.speaks_classic else CONSUMER_MEMBER,
    )


def _assignment(rows: Sequence[tuple[Uuid, str, tuple[int, ...]]]) -> Assignment:
    return Assignment(
        topic_partitions=[
            TopicPartitions(topic_id=topic_id, topic_name=name, partitions=list(partitions))
            for topic_id, name, partitions in rows
        ]
    )

"""DescribeGroups (15), versions 0-6: classic groups, their state and members.

Members' metadata and assignments are shown while the group is stable. Up to v5 a group that does not exist is
described as Dead without an error, from v6 with GROUP_ID_NOT_FOUND (KIP-1043). v3+ may ask for authorized operations;
without an authorizer everything that can be done to a group is allowed.
"""

import asyncio

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.groups.commands import DescribedGroup
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.describe_groups_request import DescribeGroupsRequest
from ottla.wire.messages.describe_groups_response import (
    DescribedGroup as WireGroup,
)
from ottla.wire.messages.describe_groups_response import (
    DescribedGroupMember,
    DescribeGroupsResponse,
)

FIRST_NOT_FOUND_VERSION = 6
NOT_ASKED = -(2**31)
GROUP_OPERATIONS = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11
"""Read, Delete, Describe, DescribeConfigs, AlterConfigs."""


class DescribeGroupsHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator."""

    coordinator: GroupCoordinator

    async def handle(self, context: RequestContext, request: DescribeGroupsRequest) -> DescribeGroupsResponse:
        groups = await asyncio.gather(*(self._describe(group_id) for group_id in request.groups))
        allowed = GROUP_OPERATIONS if request.include_authorized_operations else NOT_ASKED
        return DescribeGroupsResponse(
            groups=[_group(group, context.api_version, allowed) for group in groups],
        )

    async def _describe(self, group_id: str) -> DescribedGroup:
        try:
            described: list[DescribedGroup] = await self.coordinator.ask(
                group_id, lambda shard, _now_ms, _token: shard.describe_groups((group_id,))
            )
        except KafkaError as error:
            return DescribedGroup(group_id=group_id, state="", error=error.code)
        return described[0]


def _group(group: DescribedGroup, version: int, allowed: int) -> WireGroup:
    error, message = group.error, group.error_message
    if error is ErrorCode.GROUP_ID_NOT_FOUND and version < FIRST_NOT_FOUND_VERSION:
        error, message = ErrorCode.NONE, None
    return WireGroup(
        error_code=int(error),
        error_message=message if version >= FIRST_NOT_FOUND_VERSION else None,
        group_id=group.group_id,
        group_state=group.state,
        protocol_type=group.protocol_type,
        protocol_data=group.protocol,
        members=[
            DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata,
                member_assignment=member.assignment,
            )
            for member in group.members
        ],
        authorized_operations=allowed if error is ErrorCode.NONE else NOT_ASKED,
    )

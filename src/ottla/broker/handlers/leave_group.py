"""LeaveGroup (13), versions 0-5: members go, and the group rebalances without waiting for their sessions to end.

v0-2 name one member, and its error is the answer's; v3+ name many, each with an error of its own, and may name a static
member by its ``group.instance.id`` alone (as administrators do).
"""

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.coordinator_topic import as_coordinator
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.groups.commands import Leave, LeaveResult, LeavingMember
from ottla.net.deferred import Deferred
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.leave_group_request import LeaveGroupRequest
from ottla.wire.messages.leave_group_response import LeaveGroupResponse, MemberResponse

FIRST_BATCHED_VERSION = 3


class LeaveGroupHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator."""

    coordinator: GroupCoordinator

    def handle(self, context: RequestContext, request: LeaveGroupRequest) -> Deferred[LeaveGroupResponse]:
        batched = context.api_version >= FIRST_BATCHED_VERSION
        if batched:
            members = tuple(
                LeavingMember(
                    member_id=member.member_id, group_instance_id=member.group_instance_id, reason=member.reason
                )
                for member in request.members
            )
        else:
            members = (LeavingMember(member_id=request.member_id),)
        command = Leave(group_id=request.group_id, members=members)
        result: Deferred[LeaveResult] = self.coordinator.begin(
            request.group_id, lambda shard, now_ms, _token: shard.leave(command, now_ms)
        )
        response = _response if batched else _single
        return result.map(response, lambda error: response(_refused(error)))


def _refused(error: Exception) -> LeaveResult:
    return LeaveResult(error=as_coordinator(error, ErrorCode.UNKNOWN_SERVER_ERROR).code)


def _single(result: LeaveResult) -> LeaveGroupResponse:
    errors = [result.error, *(error for _, error in result.members)]
    first = next((error for error in errors if error is not ErrorCode.NONE), ErrorCode.NONE)
    return LeaveGroupResponse(error_code=int(first))


def _response(result: LeaveResult) -> LeaveGroupResponse:
    return LeaveGroupResponse(
        error_code=int(result.error),
        members=[
            MemberResponse(
                member_id=member.member_id, group_instance_id=member.group_instance_id, error_code=int(error)
            )
            for member, error in result.members
        ],
    )

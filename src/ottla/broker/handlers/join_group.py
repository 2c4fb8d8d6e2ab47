"""JoinGroup (11), versions 0-9: become a member of a classic group, or take part in its rebalance.

Parked until the join phase is over. Where no rebalance timeout is given (v0), the session timeout serves; from v4 a
member without id is given one and asked to come back with it (MEMBER_ID_REQUIRED); v5+ carries ``group.instance.id``
(static members); from v9 a leader that came back under its instance id is told to skip the assignment.
"""

from functools import partial

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.coordinator_topic import as_coordinator
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.groups.commands import Join, JoinResult
from ottla.net.deferred import Deferred
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.join_group_request import JoinGroupRequest
from ottla.wire.messages.join_group_response import JoinGroupResponse, JoinGroupResponseMember

FIRST_KNOWN_MEMBER_ID_VERSION = 4
FIRST_NULLABLE_PROTOCOL_VERSION = 7
FIRST_SKIP_ASSIGNMENT_VERSION = 9


class JoinGroupHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator."""

    coordinator: GroupCoordinator

    def handle(self, context: RequestContext, request: JoinGroupRequest) -> Deferred[JoinGroupResponse]:
        command = _command(context, request)
        result: Deferred[JoinResult] = self.coordinator.begin(
            request.group_id, lambda shard, now_ms, token: shard.join(command, now_ms, token)
        )
        return result.map(partial(_response, context.api_version), partial(_refusal, context.api_version, command))


def _response(version: int, result: JoinResult) -> JoinGroupResponse:
    protocol = result.protocol
    if protocol is None and version < FIRST_NULLABLE_PROTOCOL_VERSION:
        protocol = ""
    return JoinGroupResponse(
        error_code=int(result.error),
        generation_id=result.generation,
        protocol_type=result.protocol_type,
        protocol_name=protocol,
        leader=result.leader,
        skip_assignment=result.skip_assignment,
        member_id=result.member_id,
        members=[
            JoinGroupResponseMember(
                member_id=member.member_id, group_instance_id=member.group_instance_id, metadata=member.metadata
            )
            for member in result.members
        ],
    )


def _refusal(version: int, command: Join, error: Exception) -> JoinGroupResponse:
    code = as_coordinator(error, ErrorCode.UNKNOWN_SERVER_ERROR).code
    return _response(version, JoinResult(error=code, member_id=command.member_id))


def _command(context: RequestContext, request: JoinGroupRequest) -> Join:
    version = context.api_version
    stated = request.rebalance_timeout_ms
    return Join(
        group_id=request.group_id,
        member_id=request.member_id,
        group_instance_id=request.group_instance_id,
        client_id=context.client_id,
        client_host=f"/{context.client_address[0]}",
        protocol_type=request.protocol_type,
        protocols=tuple((protocol.name, protocol.metadata) for protocol in request.protocols),
        session_timeout_ms=request.session_timeout_ms,
        rebalance_timeout_ms=request.session_timeout_ms if stated < 0 else stated,
        reason=request.reason,
        requires_known_member_id=version >= FIRST_KNOWN_MEMBER_ID_VERSION,
        supports_skipping_assignment=version >= FIRST_SKIP_ASSIGNMENT_VERSION,
    )

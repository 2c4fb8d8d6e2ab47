"""Heartbeat (12), versions 0-4: a member of a classic group is alive; the answer says whether to rejoin.

v3+ carries ``group.instance.id``. While the coordinator loads, heartbeats succeed: sessions start anew after the load.
"""

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.coordinator_topic import as_coordinator
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.groups.commands import Heartbeat
from ottla.net.deferred import Deferred
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.heartbeat_request import HeartbeatRequest
from ottla.wire.messages.heartbeat_response import HeartbeatResponse


class HeartbeatHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator."""

    coordinator: GroupCoordinator

    def handle(self, _context: RequestContext, request: HeartbeatRequest) -> Deferred[HeartbeatResponse]:
        command = Heartbeat(
            group_id=request.group_id,
            generation=request.generation_id,
            member_id=request.member_id,
            group_instance_id=request.group_instance_id,
        )
        code: Deferred[ErrorCode] = self.coordinator.begin(
            request.group_id, lambda shard, now_ms, _token: shard.heartbeat(command, now_ms)
        )
        return code.map(_response, _refusal)


def _response(code: ErrorCode) -> HeartbeatResponse:
    return HeartbeatResponse(error_code=int(code))


def _refusal(error: Exception) -> HeartbeatResponse:
    code = as_coordinator(error, ErrorCode.UNKNOWN_SERVER_ERROR).code
    return _response(ErrorCode.NONE if code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS else code)

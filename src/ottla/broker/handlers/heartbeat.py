"""Heartbeat (12), versions 0-4: a member of a classic group is alive; the answer says whether to rejoin.

v3+ carries ``group.instance.id``. While the coordinator loads, heartbeats succeed: sessions start anew after the load.
"""

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.groups.commands import Heartbeat
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.heartbeat_request import HeartbeatRequest
from ottla.wire.messages.heartbeat_response import HeartbeatResponse


class HeartbeatHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator."""

    coordinator: GroupCoordinator

    async def handle(self, _context: RequestContext, request: HeartbeatRequest) -> HeartbeatResponse:
        command = Heartbeat(
            group_id=request.group_id,
            generation=request.generation_id,
            member_id=request.member_id,
            group_instance_id=request.group_instance_id,
        )
        try:
            code: ErrorCode = await self.coordinator.ask(
                request.group_id, lambda shard, now_ms, _token: shard.heartbeat(command, now_ms)
            )
        except KafkaError as error:
            code = ErrorCode.NONE if error.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS else error.code
        return HeartbeatResponse(error_code=int(code))

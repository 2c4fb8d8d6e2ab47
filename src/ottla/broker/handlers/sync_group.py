"""SyncGroup (14), versions 0-5: fetch the assignment of a classic group's generation; the leader brings it along.

Parked until the leader's assignment is in the log. v3+ carries ``group.instance.id``; from v5 protocol type and name
are mandatory and must be those of the generation (INCONSISTENT_GROUP_PROTOCOL).
"""

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.coordinator_topic import as_coordinator
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.groups.commands import Sync, SyncResult
from ottla.net.deferred import Deferred
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.sync_group_request import SyncGroupRequest
from ottla.wire.messages.sync_group_response import SyncGroupResponse

FIRST_PROTOCOL_VERSION = 5


class SyncGroupHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator."""

    coordinator: GroupCoordinator

    def handle(
        self, context: RequestContext, request: SyncGroupRequest
    ) -> SyncGroupResponse | Deferred[SyncGroupResponse]:
        names_protocol = request.protocol_type is not None and request.protocol_name is not None
        if context.api_version >= FIRST_PROTOCOL_VERSION and not names_protocol:
            return SyncGroupResponse(error_code=int(ErrorCode.INCONSISTENT_GROUP_PROTOCOL))
        command = Sync(
            group_id=request.group_id,
            generation=request.generation_id,
            member_id=request.member_id,
            group_instance_id=request.group_instance_id,
            protocol_type=request.protocol_type,
            protocol=request.protocol_name,
            assignments=tuple((given.member_id, given.assignment) for given in request.assignments),
        )
        result: Deferred[SyncResult] = self.coordinator.begin(
            request.group_id, lambda shard, now_ms, token: shard.sync(command, now_ms, token)
        )
        return result.map(_response, _refusal)


def _response(result: SyncResult) -> SyncGroupResponse:
    return SyncGroupResponse(
        error_code=int(result.error),
        protocol_type=result.protocol_type,
        protocol_name=result.protocol,
        assignment=result.assignment,
    )


def _refusal(error: Exception) -> SyncGroupResponse:
    return _response(SyncResult(error=as_coordinator(error, ErrorCode.UNKNOWN_SERVER_ERROR).code))

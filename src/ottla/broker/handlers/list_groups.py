"""ListGroups (16), versions 0-5: the groups this broker coordinates.

v4+ filter by state, v5+ by type, both without regard to case; an empty filter lets everything through. While one of
this broker's coordinator partitions loads the answer is COORDINATOR_LOAD_IN_PROGRESS: half a list would pass for a
whole one.
"""

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.wire.errors import KafkaError
from ottla.wire.messages.list_groups_request import ListGroupsRequest
from ottla.wire.messages.list_groups_response import ListedGroup, ListGroupsResponse


class ListGroupsHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator."""

    coordinator: GroupCoordinator

    async def handle(self, _context: RequestContext, request: ListGroupsRequest) -> ListGroupsResponse:
        states = frozenset(state.lower() for state in request.states_filter)
        kinds = frozenset(kind.lower() for kind in request.types_filter)
        try:
            lists = await self.coordinator.ask_all(lambda shard, _now_ms, _token: shard.list_groups(states, kinds))
        except KafkaError as error:
            return ListGroupsResponse(error_code=int(error.code))
        return ListGroupsResponse(
            groups=[
                ListedGroup(
                    group_id=group.group_id,
                    protocol_type=group.protocol_type,
                    group_state=group.state,
                    group_type=group.kind,
                )
                for groups in lists
                for group in groups
            ]
        )

"""DeleteGroups (42), versions 0-2: remove empty groups with everything they committed.

A group with members is refused (NON_EMPTY_GROUP), one that does not exist is GROUP_ID_NOT_FOUND; each group has its own
result.
"""

import asyncio

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.delete_groups_request import DeleteGroupsRequest
from ottla.wire.messages.delete_groups_response import DeletableGroupResult, DeleteGroupsResponse


class DeleteGroupsHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator."""

    coordinator: GroupCoordinator

    async def handle(self, _context: RequestContext, request: DeleteGroupsRequest) -> DeleteGroupsResponse:
        group_ids = list(dict.fromkeys(request.groups_names))
        codes = await asyncio.gather(*(self._delete(group_id) for group_id in group_ids))
        return DeleteGroupsResponse(
            results=[
                DeletableGroupResult(group_id=group_id, error_code=int(code))
                for group_id, code in zip(group_ids, codes, strict=True)
            ]
        )

    async def _delete(self, group_id: str) -> ErrorCode:
        try:
            results: list[tuple[str, ErrorCode]] = await self.coordinator.ask(
                group_id, lambda shard, _now_ms, _token: shard.delete_groups((group_id,))
            )
        except KafkaError as error:
            return error.code
        return results[0][1]

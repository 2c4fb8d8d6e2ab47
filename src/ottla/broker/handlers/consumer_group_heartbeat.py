"""ConsumerGroupHeartbeat (68), versions 0-1: a member of a consumer group joins, lives, changes or leaves (KIP-848).

v1 adds the subscription by regular expression, and has members make their own ids; in v0 a member without one is given
one. Served where the cluster's ``group.version`` is 1 and ``group.coordinator.rebalance.protocols`` names the protocol,
else refused (UNSUPPORTED_VERSION).
"""

from collections.abc import Callable

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.coordinator_topic import as_coordinator
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.groups.commands import ConsumerHeartbeat, ConsumerHeartbeatResult
from ottla.groups.consumer.requests import check_heartbeat
from ottla.net.deferred import Deferred
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest
from ottla.wire.messages.consumer_group_heartbeat_response import (
    Assignment,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

FIRST_OWN_MEMBER_ID_VERSION = 1


class ConsumerGroupHeartbeatHandler(Struct, frozen=True, kw_only=True):
    """Touches the group coordinator. ``is_enabled`` tells whether the cluster has the protocol."""

    coordinator: GroupCoordinator
    is_enabled: Callable[[], bool]
    assignors: tuple[str, ...]

    def handle(
        self, context: RequestContext, request: ConsumerGroupHeartbeatRequest
    ) -> ConsumerGroupHeartbeatResponse | Deferred[ConsumerGroupHeartbeatResponse]:
        if not self.is_enabled():
            return ConsumerGroupHeartbeatResponse(error_code=int(ErrorCode.UNSUPPORTED_VERSION))
        command = _command(context, request)
        try:
            check_heartbeat(
                command,
                brings_member_id=context.api_version >= FIRST_OWN_MEMBER_ID_VERSION,
                assignors=self.assignors,
            )
        except KafkaError as error:
            return _refusal(error)
        result: Deferred[ConsumerHeartbeatResult] = self.coordinator.begin(
            request.group_id, lambda shard, now_ms, _token: shard.consumer_heartbeat(command, now_ms)
        )
        return result.map(_response, _refusal)


def _command(context: RequestContext, request: ConsumerGroupHeartbeatRequest) -> ConsumerHeartbeat:
    names, owned = request.subscribed_topic_names, request.topic_partitions
    return ConsumerHeartbeat(
        group_id=request.group_id,
        member_id=request.member_id,
        member_epoch=request.member_epoch,
        client_id=context.client_id,
        client_host=f"/{context.client_address[0]}",
        group_instance_id=request.instance_id,
        rack_id=request.rack_id,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        topics=None if names is None else tuple(names),
        regex=request.subscribed_topic_regex,
        assignor=request.server_assignor,
        owned=None if owned is None else {row.topic_id: tuple(row.partitions) for row in owned},
    )


def _refusal(error: Exception) -> ConsumerGroupHeartbeatResponse:
    told = as_coordinator(error, ErrorCode.UNKNOWN_SERVER_ERROR)
    return ConsumerGroupHeartbeatResponse(
        error_code=int(told.code), error_message=told.message or told.code.description
    )


def _response(result: ConsumerHeartbeatResult) -> ConsumerGroupHeartbeatResponse:
    assignment = None
    if result.assignment is not None:
        rows = [
            TopicPartitions(topic_id=topic_id, partitions=list(partitions))
            for topic_id, partitions in result.assignment.items()
        ]
        assignment = Assignment(topic_partitions=rows)
    return ConsumerGroupHeartbeatResponse(
        member_id=result.member_id,
        member_epoch=result.member_epoch,
        heartbeat_interval_ms=result.heartbeat_interval_ms,
        assignment=assignment,
    )

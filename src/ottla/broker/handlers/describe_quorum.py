"""DescribeQuorum (55), versions 0-2: the leader of the metadata quorum, how far each replica is.

Only ``__cluster_metadata`` partition 0 can be described; only the leader knows the replicas (NOT_LEADER_OR_FOLLOWER
from others). v1+: when each replica fetched last and was caught up last. v2: the voters' endpoints.
"""

from collections.abc import Callable

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.metadata.image import ClusterImage
from ottla.quorum.raft import Raft
from ottla.quorum.roles import Leader
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.describe_quorum_request import DescribeQuorumRequest
from ottla.wire.messages.describe_quorum_response import (
    DescribeQuorumResponse,
    Listener,
    Node,
    PartitionData,
    ReplicaState,
    TopicData,
)

_TOPIC = "__cluster_metadata"


class DescribeQuorumHandler(Struct, frozen=True, kw_only=True):
    raft: Raft
    image: Callable[[], ClusterImage]

    def handle(self, context: RequestContext, request: DescribeQuorumRequest) -> DescribeQuorumResponse:
        asked = [(topic.topic_name, part.partition_index) for topic in request.topics for part in topic.partitions]
        if asked != [(_TOPIC, 0)]:
            return DescribeQuorumResponse(
                topics=[
                    TopicData(
                        topic_name=topic.topic_name,
                        partitions=[
                            _refused(
                                part.partition_index,
                                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                                "This server does not host this topic-partition.",
                            )
                            for part in topic.partitions
                        ],
                    )
                    for topic in request.topics
                ],
            )
        partition = self._describe(context.now_ms)
        response = DescribeQuorumResponse(topics=[TopicData(topic_name=_TOPIC, partitions=[partition])])
        if context.api_version >= 2:
            response.nodes = self._nodes()
        return response

    def _describe(self, now_ms: int) -> PartitionData:
        raft, leader = self.raft, self.raft.role
        if not isinstance(leader, Leader):
            message = "This node does not lead the metadata quorum."
            return _refused(0, ErrorCode.NOT_LEADER_OR_FOLLOWER, message)
        own = raft.settings.node_id
        voters = [
            ReplicaState(
                replica_id=voter,
                log_end_offset=raft.ledger.end_offset if voter == own else progress.end_offset,
                last_fetch_timestamp=now_ms if voter == own else progress.last_fetch_ms,
                last_caught_up_timestamp=now_ms if voter == own else progress.last_caught_up_ms,
            )
            for voter, progress in leader.voters.items()
        ]
        observers = [
            ReplicaState(
                replica_id=replica,
                log_end_offset=progress.end_offset,
                last_fetch_timestamp=progress.last_fetch_ms,
                last_caught_up_timestamp=progress.last_caught_up_ms,
            )
            for replica, progress in leader.observers.items()
        ]
        return PartitionData(
            partition_index=0,
            leader_id=own,
            leader_epoch=raft.epoch,
            high_watermark=raft.high_watermark,
            current_voters=voters,
            observers=observers,
        )

    def _nodes(self) -> list[Node]:
        controllers = self.image().controllers
        return [
            Node(
                node_id=voter,
                listeners=[
                    Listener(name=endpoint.name, host=endpoint.host, port=endpoint.port)
                    for endpoint in controllers[voter].endpoints
                ],
            )
            for voter in self.raft.settings.voters
            if voter in controllers
        ]


def _refused(index: int, code: ErrorCode, message: str) -> PartitionData:
    return PartitionData(partition_index=index, error_code=int(code), error_message=message)

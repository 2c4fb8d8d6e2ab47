"""DescribeTopicPartitions (75), version 0: topics in the order of their names, page by page, with eligible leader
replicas.

No topics asked for means all. The page is limited by the client and by ``max.request.partition.size.limit``; the
cursor names the first partition that did not fit. A cursor topic that was not asked for, or a negative partition, is
INVALID_REQUEST.
"""

from collections.abc import Callable

from msgspec import Struct

from ottla.broker.cluster_view import TOPIC_OPERATIONS, view_partition
from ottla.broker.context import RequestContext
from ottla.metadata.controller.topics import topic_name_problem
from ottla.metadata.image import ClusterImage, TopicImage
from ottla.model.internal_topics import INTERNAL_TOPICS
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.describe_topic_partitions_request import DescribeTopicPartitionsRequest
from ottla.wire.messages.describe_topic_partitions_response import (
    Cursor,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)


class DescribeTopicPartitionsHandler(Struct, frozen=True, kw_only=True):
    image: Callable[[], ClusterImage]
    partitions_max: int

    def handle(
        self, context: RequestContext, request: DescribeTopicPartitionsRequest
    ) -> DescribeTopicPartitionsResponse:
        image = self.image()
        asked = sorted({topic.name for topic in request.topics})
        cursor = request.cursor
        if cursor is not None and (cursor.partition_index < 0 or (asked and cursor.topic_name not in asked)):
            return _refused(asked)
        start_topic = "" if cursor is None else cursor.topic_name
        names = [name for name in asked or sorted(image.topics) if name >= start_topic]
        left = max(min(self.partitions_max, request.response_partition_limit), 1)
        response = DescribeTopicPartitionsResponse()
        for name in names:
            first = cursor.partition_index if cursor is not None and name == start_topic else 0
            topic = image.topics.get(name)
            if topic is None:
                if asked:
                    response.topics.append(_missing(name))
                continue
            if left <= 0:
                response.next_cursor = Cursor(topic_name=name, partition_index=0)
                break
            answered = _topic(context, image, topic, range(first, min(first + left, len(topic.partitions))))
            response.topics.append(answered)
            left -= len(answered.partitions)
            if first + len(answered.partitions) < len(topic.partitions):
                response.next_cursor = Cursor(topic_name=name, partition_index=first + len(answered.partitions))
                break
        return response


def _topic(
    context: RequestContext, image: ClusterImage, topic: TopicImage, indexes: range
) -> DescribeTopicPartitionsResponseTopic:
    partitions: list[DescribeTopicPartitionsResponsePartition] = []
    for index in indexes:
        partition = topic.partitions[index]
        view = view_partition(image, partition, context.listener_name, listener_errors=True)
        partitions.append(
            DescribeTopicPartitionsResponsePartition(
                error_code=int(view.error),
                partition_index=index,
                leader_id=view.leader_id,
                leader_epoch=partition.leader_epoch,
                replica_nodes=view.replicas,
                isr_nodes=view.isr,
                eligible_leader_replicas=list(partition.elr),
                last_known_elr=list(partition.last_known_elr),
                offline_replicas=view.offline_replicas,
            )
        )
    return DescribeTopicPartitionsResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.internal,
        partitions=partitions,
        topic_authorized_operations=TOPIC_OPERATIONS,
    )


def _missing(name: str) -> DescribeTopicPartitionsResponseTopic:
    valid = topic_name_problem(name) is None
    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if valid else ErrorCode.INVALID_TOPIC_EXCEPTION
    return DescribeTopicPartitionsResponseTopic(
        error_code=int(code),
        name=name,
        is_internal=name in INTERNAL_TOPICS,
        topic_authorized_operations=TOPIC_OPERATIONS,
    )


def _refused(names: list[str]) -> DescribeTopicPartitionsResponse:
    code = int(ErrorCode.INVALID_REQUEST)
    return DescribeTopicPartitionsResponse(
        topics=[DescribeTopicPartitionsResponseTopic(error_code=code, name=name) for name in names]
    )

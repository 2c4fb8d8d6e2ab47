"""Metadata (3), versions 0-13: who the brokers are, where the partitions are led; may create the topics it is asked
for.

v0: an empty list means all topics; dead replicas are hidden. v1+: null means all. v4+: the client may forbid
creation. v6+: a leader that lacks the client's listener is LISTENER_NOT_FOUND. v8-10: cluster operations. v12+:
topics by id. v13: an error of the whole request has a place of its own.

Deviation: a topic that is created on the way is answered with its partitions as soon as it is there; Apache Kafka
answers UNKNOWN_TOPIC_OR_PARTITION once and lets the client ask again. The controller id is this broker rather than a
random one. Internal topics are created by their coordinators only.
"""

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from ottla.broker.cluster_view import CLUSTER_OPERATIONS, TOPIC_OPERATIONS, brokers_on, contact_id, view_partition
from ottla.broker.context import RequestContext
from ottla.metadata.controller.topics import topic_name_problem
from ottla.metadata.image import ClusterImage, TopicImage
from ottla.model import Uuid
from ottla.model.internal_topics import INTERNAL_TOPICS
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from ottla.wire.messages.metadata_response import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)


class MetadataHandler(Struct, frozen=True, kw_only=True):
    """``create_missing`` makes topics with default settings and tells what went wrong; ``None``: never created."""

    node_id: int
    cluster_id: str
    image: Callable[[], ClusterImage]
    create_missing: Callable[[Sequence[str]], Awaitable[dict[str, ErrorCode]]] | None

    def handle(
        self, context: RequestContext, request: MetadataRequest
    ) -> MetadataResponse | Awaitable[MetadataResponse]:
        version = context.api_version
        if request.topics is None or (version == 0 and not request.topics):
            return self._answer(context, request, list(self._all(context, request)))
        if version < 12 and any(topic.name is None or topic.topic_id != Uuid.ZERO for topic in request.topics):
            return self._refused(context, request.topics)
        missing = self._creatable(request)
        if missing:
            return self._after_creation(context, request, request.topics, missing)
        return self._answer(context, request, self._asked(context, request, request.topics, {}))

    async def _after_creation(
        self,
        context: RequestContext,
        request: MetadataRequest,
        asked: Sequence[MetadataRequestTopic],
        missing: Sequence[str],
    ) -> MetadataResponse:
        assert self.create_missing is not None
        errors = await self.create_missing(missing)
        return self._answer(context, request, self._asked(context, request, asked, errors))

    def _creatable(self, request: MetadataRequest) -> list[str]:
        if self.create_missing is None or not request.allow_auto_topic_creation or not request.topics:
            return []
        known = self.image().topics
        return [
            topic.name
            for topic in request.topics
            if topic.name is not None
            and topic.topic_id == Uuid.ZERO
            and topic.name not in known
            and topic.name not in INTERNAL_TOPICS
            and topic_name_problem(topic.name) is None
        ]

    def _all(self, context: RequestContext, request: MetadataRequest) -> list[MetadataResponseTopic]:
        image = self.image()
        return [_topic(context, request, image, topic) for topic in image.topics.values()]

    def _asked(
        self,
        context: RequestContext,
        request: MetadataRequest,
        asked: Sequence[MetadataRequestTopic],
        errors: dict[str, ErrorCode],
    ) -> list[MetadataResponseTopic]:
        image = self.image()
        answered: list[MetadataResponseTopic] = []
        for topic in {(topic.name, topic.topic_id): topic for topic in asked}.values():
            by_id = topic.topic_id != Uuid.ZERO
            found = image.topics_by_id.get(topic.topic_id) if by_id else image.topics.get(topic.name or "")
            if found is not None:
                answered.append(_topic(context, request, image, found))
            elif by_id:
                answered.append(
                    MetadataResponseTopic(
                        error_code=int(ErrorCode.UNKNOWN_TOPIC_ID), name=None, topic_id=topic.topic_id
                    )
                )
            else:
                answered.append(_missing(topic.name or "", errors))
        return answered

    def _answer(
        self, context: RequestContext, request: MetadataRequest, topics: list[MetadataResponseTopic]
    ) -> MetadataResponse:
        image = self.image()
        response = MetadataResponse(
            brokers=[
                MetadataResponseBroker(
                    node_id=broker.broker_id, host=endpoint.host, port=endpoint.port, rack=broker.rack
                )
                for broker, endpoint in brokers_on(image, context.listener_name)
                if not broker.fenced
            ],
            cluster_id=self.cluster_id,
            controller_id=contact_id(image, self.node_id),
            topics=topics,
        )
        if request.include_cluster_authorized_operations and 8 <= context.api_version <= 10:
            response.cluster_authorized_operations = CLUSTER_OPERATIONS
        return response

    def _refused(self, context: RequestContext, asked: Sequence[MetadataRequestTopic]) -> MetadataResponse:
        """Ids, or no name, in a version that knows names only."""
        code = int(ErrorCode.INVALID_REQUEST)
        topics = [
            MetadataResponseTopic(error_code=code, name=topic.name or "", topic_id=topic.topic_id) for topic in asked
        ]
        return MetadataResponse(topics=topics, cluster_id=self.cluster_id)


def _topic(
    context: RequestContext, request: MetadataRequest, image: ClusterImage, topic: TopicImage
) -> MetadataResponseTopic:
    version = context.api_version
    partitions: list[MetadataResponsePartition] = []
    for index, partition in enumerate(topic.partitions):
        view = view_partition(
            image, partition, context.listener_name, listener_errors=version >= 6, alive_only=version == 0
        )
        partitions.append(
            MetadataResponsePartition(
                error_code=int(view.error),
                partition_index=index,
                leader_id=view.leader_id,
                leader_epoch=partition.leader_epoch,
                replica_nodes=view.replicas,
                isr_nodes=view.isr,
                offline_replicas=view.offline_replicas,
            )
        )
    answer = MetadataResponseTopic(
        name=topic.name, topic_id=topic.topic_id, is_internal=topic.internal, partitions=partitions
    )
    if request.include_topic_authorized_operations and version >= 8:
        answer.topic_authorized_operations = TOPIC_OPERATIONS
    return answer


def _missing(name: str, errors: dict[str, ErrorCode]) -> MetadataResponseTopic:
    code = errors.get(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if topic_name_problem(name) is not None:
        code = ErrorCode.INVALID_TOPIC_EXCEPTION
    return MetadataResponseTopic(error_code=int(code), name=name, is_internal=name in INTERNAL_TOPICS)

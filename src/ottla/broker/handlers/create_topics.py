"""CreateTopics (19), versions 2-7: with defaults, by hand, or only to see whether it would work.

v4+: -1 partitions or replicas ask for the default. v5+: the answer tells partitions, replicas and effective
configuration. v7: the topic's id. A name that comes twice is INVALID_REQUEST, so is the metadata log's. The answer
comes when every broker that was asked can see the topic; ``timeout_ms`` is not needed for that. There are no
policies: POLICY_VIOLATION only guards the number of partitions (10,000).
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.raft_driver import Command
from ottla.metadata.controller.topics import CreateTopics, NewTopic, TopicCreation
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.create_topics_request import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.create_topics_response import (
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsResponse,
)

_METADATA_TOPIC = "__cluster_metadata"


class CreateTopicsHandler(Struct, frozen=True, kw_only=True):
    """``submit`` puts a command before the active controller."""

    submit: Callable[[Command], Awaitable[Any]]

    async def handle(self, context: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse:
        counts = Counter(topic.name for topic in request.topics)
        asked = [
            _new_topic(topic) for topic in request.topics if counts[topic.name] == 1 and topic.name != _METADATA_TOPIC
        ]
        command = CreateTopics(
            topics=asked, validate_only=request.validate_only, describe_configs=context.api_version >= 5
        )
        results = await self._create(command) if asked else []
        for name, count in counts.items():
            if count > 1:
                results.append(_refused(name, ErrorCode.INVALID_REQUEST, "Duplicate topic name."))
            elif name == _METADATA_TOPIC:
                message = f"Creation of internal topic {_METADATA_TOPIC} is prohibited."
                results.append(_refused(name, ErrorCode.INVALID_REQUEST, message))
        return CreateTopicsResponse(topics=results)

    async def _create(self, command: CreateTopics) -> list[CreatableTopicResult]:
        try:
            creations: list[TopicCreation] = await self.submit(lambda controller, _: controller.create_topics(command))
        except KafkaError as error:
            return [_refused(topic.name, error.code, error.message) for topic in command.topics]
        return [_result(creation) for creation in creations]


def _new_topic(topic: CreatableTopic) -> NewTopic:
    return NewTopic(
        name=topic.name,
        partitions=topic.num_partitions,
        replication_factor=topic.replication_factor,
        assignments=tuple((part.partition_index, tuple(part.broker_ids)) for part in topic.assignments),
        configs=tuple((config.name, config.value) for config in topic.configs),
    )


def _result(creation: TopicCreation) -> CreatableTopicResult:
    if creation.problem is not None:
        return _refused(creation.name, creation.problem.code, creation.problem.message)
    return CreatableTopicResult(
        name=creation.name,
        topic_id=creation.topic_id,
        error_message=None,
        num_partitions=creation.partitions,
        replication_factor=creation.replication_factor,
        configs=[
            CreatableTopicConfigs(
                name=entry.name,
                value=entry.value,
                read_only=entry.read_only,
                config_source=entry.source,
                is_sensitive=entry.sensitive,
            )
            for entry in creation.configs
        ],
    )


def _refused(name: str, code: ErrorCode, message: str | None) -> CreatableTopicResult:
    return CreatableTopicResult(name=name, error_code=int(code), error_message=message)

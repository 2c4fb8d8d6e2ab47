"""DeleteTopics (20), versions 1-6: by name; v6 by id as well.

v3+: TOPIC_DELETION_DISABLED where ``delete.topic.enable`` is off (before: INVALID_REQUEST). v5+: messages. What comes
twice, by name, by id, or once each, is INVALID_REQUEST.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.raft_driver import Command
from ottla.metadata.controller.state import Problem
from ottla.metadata.image import ClusterImage
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.delete_topics_request import DeleteTopicsRequest, DeleteTopicState
from ottla.wire.messages.delete_topics_response import DeletableTopicResult, DeleteTopicsResponse


class DeleteTopicsHandler(Struct, frozen=True, kw_only=True):
    """``submit`` puts a command before the active controller."""

    submit: Callable[[Command], Awaitable[Any]]
    image: Callable[[], ClusterImage]
    enabled: bool

    async def handle(self, context: RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
        asked = request.topics or [DeleteTopicState(name=name) for name in request.topic_names]
        if not self.enabled:
            disabled = ErrorCode.INVALID_REQUEST if context.api_version < 3 else ErrorCode.TOPIC_DELETION_DISABLED
            return DeleteTopicsResponse(
                responses=[_refused(topic.name, topic.topic_id, Problem(disabled)) for topic in asked]
            )
        resolved, responses = _resolve(asked, self.image())
        if resolved:
            responses.extend(await self._delete(resolved))
        return DeleteTopicsResponse(responses=responses)

    async def _delete(self, resolved: dict[Uuid, str]) -> list[DeletableTopicResult]:
        try:
            outcomes: dict[Uuid, Problem | None] = await self.submit(
                lambda controller, _: controller.delete_topics(list(resolved))
            )
        except KafkaError as error:
            outcomes = dict.fromkeys(resolved, Problem.of(error))
        return [
            DeletableTopicResult(name=name, topic_id=topic_id)
            if (problem := outcomes[topic_id]) is None
            else _refused(name, topic_id, problem)
            for topic_id, name in resolved.items()
        ]


def _resolve(asked: list[DeleteTopicState], image: ClusterImage) -> tuple[dict[Uuid, str], list[DeletableTopicResult]]:
    """(topics to delete, name by id; answers that are clear already)."""
    responses: list[DeletableTopicResult] = []
    names = Counter(topic.name for topic in asked if topic.name is not None)
    ids = Counter(topic.topic_id for topic in asked if topic.name is None)
    resolved: dict[Uuid, str] = {}
    for topic_id, count in ids.items():
        found = image.topics_by_id.get(topic_id)
        if topic_id == Uuid.ZERO:
            problem = Problem(ErrorCode.INVALID_REQUEST, "Neither topic name nor id were specified.")
        elif count > 1:
            problem = Problem(ErrorCode.INVALID_REQUEST, "Duplicate topic id.")
        elif found is None:
            problem = Problem(ErrorCode.UNKNOWN_TOPIC_ID, "This server does not host this topic ID.")
        else:
            resolved[topic_id] = found.name
            continue
        responses.append(_refused(None, topic_id, problem))
    both = {topic.name: topic.topic_id for topic in asked if topic.name is not None and topic.topic_id != Uuid.ZERO}
    for name, count in names.items():
        by_name = image.topics.get(name)
        if name in both:
            problem = Problem(ErrorCode.INVALID_REQUEST, "You may not specify both topic name and topic id.")
        elif count > 1:
            problem = Problem(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
        elif by_name is None:
            message = "This server does not host this topic-partition."
            problem = Problem(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message)
        elif by_name.topic_id in resolved:
            del resolved[by_name.topic_id]
            message = "The provided topic name maps to an ID that was already supplied."
            problem = Problem(ErrorCode.INVALID_REQUEST, message)
            responses.append(_refused(None, by_name.topic_id, problem))
        else:
            resolved[by_name.topic_id] = name
            continue
        responses.append(_refused(name, both.get(name, Uuid.ZERO), problem))
    return resolved, responses


def _refused(name: str | None, topic_id: Uuid, problem: Problem) -> DeletableTopicResult:
    return DeletableTopicResult(
        name=name, topic_id=topic_id, error_code=int(problem.code), error_message=problem.message
    )

"""DeleteTopics (20), versions 1-6: by name; v6 by id as well.

v3+: TOPIC_DELETION_DISABLED where ``delete.topic.enable`` is off (before: INVALID_REQUEST). v5+: messages. What comes
twice, by name, by id, or once each, is INVALID_REQUEST. The controller looks the names up: it knows of topics whose
creation is not committed yet.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.raft_driver import Command
from ottla.metadata.controller.state import Problem
from ottla.metadata.controller.topics import TopicDeletion, TopicRef
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.delete_topics_request import DeleteTopicsRequest
from ottla.wire.messages.delete_topics_response import DeletableTopicResult, DeleteTopicsResponse


class DeleteTopicsHandler(Struct, frozen=True, kw_only=True):
    """``submit`` puts a command before the active controller."""

    submit: Callable[[Command], Awaitable[Any]]
    enabled: bool

    async def handle(self, context: RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
        asked = [TopicRef(name=topic.name, topic_id=topic.topic_id) for topic in request.topics]
        asked += [TopicRef(name=name) for name in request.topic_names]
        if self.enabled:
            outcomes = await self._delete(asked)
        else:
            disabled = ErrorCode.INVALID_REQUEST if context.api_version < 3 else ErrorCode.TOPIC_DELETION_DISABLED
            outcomes = _refused(asked, Problem(disabled))
        return DeleteTopicsResponse(responses=[_result(outcome) for outcome in outcomes])

    async def _delete(self, asked: list[TopicRef]) -> list[TopicDeletion]:
        try:
            outcomes: list[TopicDeletion] = await self.submit(lambda controller, _: controller.delete_topics(asked))
        except KafkaError as error:
            return _refused(asked, Problem.of(error))
        return outcomes


def _refused(asked: list[TopicRef], problem: Problem) -> list[TopicDeletion]:
    return [TopicDeletion(name=topic.name, topic_id=topic.topic_id, problem=problem) for topic in asked]


def _result(outcome: TopicDeletion) -> DeletableTopicResult:
    if outcome.problem is None:
        return DeletableTopicResult(name=outcome.name, topic_id=outcome.topic_id)
    return DeletableTopicResult(
        name=outcome.name,
        topic_id=outcome.topic_id,
        error_code=int(outcome.problem.code),
        error_message=outcome.problem.message,
    )

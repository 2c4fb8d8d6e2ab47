"""CreatePartitions (37), versions 0-3: more partitions for a topic, placed by the controller or by hand.

A name that comes twice is INVALID_REQUEST. ``timeout_ms`` is not needed: the answer comes with the commit.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.raft_driver import Command
from ottla.metadata.controller.partitions import MorePartitions
from ottla.metadata.controller.state import Problem
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.create_partitions_request import CreatePartitionsRequest
from ottla.wire.messages.create_partitions_response import CreatePartitionsResponse, CreatePartitionsTopicResult


class CreatePartitionsHandler(Struct, frozen=True, kw_only=True):
    """``submit`` puts a command before the active controller."""

    submit: Callable[[Command], Awaitable[Any]]

    async def handle(self, context: RequestContext, request: CreatePartitionsRequest) -> CreatePartitionsResponse:
        counts = Counter(topic.name for topic in request.topics)
        wanted = [
            MorePartitions(
                name=topic.name,
                count=topic.count,
                assignments=None
                if topic.assignments is None
                else tuple(tuple(assignment.broker_ids) for assignment in topic.assignments),
            )
            for topic in request.topics
            if counts[topic.name] == 1
        ]
        results = [
            _result(name, Problem(ErrorCode.INVALID_REQUEST, "Duplicate topic name."))
            for name, count in counts.items()
            if count > 1
        ]
        if wanted:
            results.extend(_result(*outcome) for outcome in await self._create(wanted, request.validate_only))
        return CreatePartitionsResponse(results=results)

    async def _create(self, wanted: list[MorePartitions], validate_only: bool) -> list[tuple[str, Problem | None]]:
        try:
            outcomes: list[tuple[str, Problem | None]] = await self.submit(
                lambda controller, _: controller.create_partitions(wanted, validate_only=validate_only)
            )
        except KafkaError as error:
            return [(topic.name, Problem.of(error)) for topic in wanted]
        return outcomes


def _result(name: str, problem: Problem | None) -> CreatePartitionsTopicResult:
    if problem is None:
        return CreatePartitionsTopicResult(name=name)
    return CreatePartitionsTopicResult(name=name, error_code=int(problem.code), error_message=problem.message)

"""AlterConfigs (33), versions 0-2: the whole configuration of a resource; keys it does not name go back to their
defaults.

Superseded by IncrementalAlterConfigs. A resource or a key that comes twice is INVALID_REQUEST, so is a key without a
value. Broker loggers cannot be changed this way.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.raft_driver import Command
from ottla.metadata.controller.state import Problem
from ottla.metadata.image import ConfigResource, ResourceType
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.alter_configs_request import AlterConfigsRequest, AlterConfigsResource
from ottla.wire.messages.alter_configs_response import AlterConfigsResourceResponse, AlterConfigsResponse


class AlterConfigsHandler(Struct, frozen=True, kw_only=True):
    """``submit`` puts a command before the active controller."""

    submit: Callable[[Command], Awaitable[Any]]

    async def handle(self, context: RequestContext, request: AlterConfigsRequest) -> AlterConfigsResponse:
        counts = Counter((resource.resource_type, resource.resource_name) for resource in request.resources)
        outcomes: dict[int, Problem | None] = {}
        forwarded: dict[int, tuple[ConfigResource, Mapping[str, str]]] = {}
        for position, resource in enumerate(request.resources):
            try:
                if counts[resource.resource_type, resource.resource_name] > 1:
                    raise KafkaError(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
                settings = _settings(resource)
            except KafkaError as error:
                outcomes[position] = Problem.of(error)
                continue
            forwarded[position] = (ConfigResource(resource.resource_type, resource.resource_name), settings)
        if forwarded:
            problems = await self._alter(list(forwarded.values()), request.validate_only)
            outcomes.update(zip(forwarded, problems, strict=True))
        return AlterConfigsResponse(
            responses=[_result(resource, outcomes[position]) for position, resource in enumerate(request.resources)]
        )

    async def _alter(
        self, settings: list[tuple[ConfigResource, Mapping[str, str]]], validate_only: bool
    ) -> list[Problem | None]:
        try:
            outcomes: list[tuple[ConfigResource, Problem | None]] = await self.submit(
                lambda controller, _: controller.legacy_alter_configs(settings, validate_only=validate_only)
            )
        except KafkaError as error:
            return [Problem.of(error) for _ in settings]
        return [problem for _, problem in outcomes]


def _settings(resource: AlterConfigsResource) -> dict[str, str]:
    if resource.resource_type == ResourceType.BROKER_LOGGER:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Unknown resource type 8")
    nulls = [config.name for config in resource.configs if config.value is None]
    if nulls:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {','.join(nulls)}")
    if len({config.name for config in resource.configs}) != len(resource.configs):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
    return {config.name: config.value for config in resource.configs if config.value is not None}


def _result(resource: AlterConfigsResource, problem: Problem | None) -> AlterConfigsResourceResponse:
    return AlterConfigsResourceResponse(
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        error_code=0 if problem is None else int(problem.code),
        error_message=None if problem is None else problem.message,
    )

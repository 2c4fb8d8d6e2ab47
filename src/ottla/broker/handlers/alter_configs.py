"""AlterConfigs (33), versions 0-2: the whole configuration of a resource; keys it does not name go back to their
defaults.

Superseded by IncrementalAlterConfigs. A resource or a key that comes twice is INVALID_REQUEST, so is a key without a
value. Broker loggers cannot be changed this way.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from ottla.broker.config_changes import BrokerSettings, change_configs
from ottla.broker.context import RequestContext
from ottla.broker.raft_driver import Command
from ottla.metadata.image import ConfigResource, ResourceType
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.alter_configs_request import AlterConfigsRequest, AlterConfigsResource
from ottla.wire.messages.alter_configs_response import AlterConfigsResourceResponse, AlterConfigsResponse


class AlterConfigsHandler(Struct, frozen=True, kw_only=True):
    """``submit`` puts a command before the active controller."""

    broker: BrokerSettings
    submit: Callable[[Command], Awaitable[Any]]

    async def handle(self, context: RequestContext, request: AlterConfigsRequest) -> AlterConfigsResponse:
        def prepare(resource: AlterConfigsResource) -> dict[str, str]:
            settings = _settings(resource)
            if resource.resource_type == ResourceType.BROKER:
                self.broker.check_node(resource.resource_type, resource.resource_name)
                self.broker.check(resource.resource_name, settings)
            return settings

        def submit(settings: list[tuple[ConfigResource, dict[str, str]]]) -> Awaitable[Any]:
            return self.submit(
                lambda controller, _: controller.legacy_alter_configs(settings, validate_only=request.validate_only)
            )

        return AlterConfigsResponse(
            responses=await change_configs(request.resources, prepare, submit, AlterConfigsResourceResponse)
        )


def _settings(resource: AlterConfigsResource) -> dict[str, str]:
    if resource.resource_type == ResourceType.BROKER_LOGGER:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Unknown resource type 8")
    nulls = [config.name for config in resource.configs if config.value is None]
    if nulls:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {','.join(nulls)}")
    if len({config.name for config in resource.configs}) != len(resource.configs):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
    return {config.name: config.value for config in resource.configs if config.value is not None}

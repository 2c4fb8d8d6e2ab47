"""IncrementalAlterConfigs (44), versions 0-1: set, remove, append to or subtract from single keys.

Broker loggers are changed on the spot and forgotten at a restart; everything else is written by the controller. A
resource or a key that comes twice is INVALID_REQUEST, so is a change without a value. Each resource stands or falls
alone.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import Struct

from ottla.broker.config_changes import BrokerSettings, change_configs
from ottla.broker.context import RequestContext
from ottla.broker.loggers import is_level, logger_levels, set_logger_level
from ottla.broker.raft_driver import Command
from ottla.metadata.controller.configs import ConfigChange, ConfigOperation, broker_settings_after
from ottla.metadata.image import ConfigResource, ResourceType
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.incremental_alter_configs_request import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.wire.messages.incremental_alter_configs_response import (
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsResponse,
)

LEVELS = "Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN"
_OPERATIONS = {int(operation): operation for operation in ConfigOperation}


class IncrementalAlterConfigsHandler(Struct, frozen=True, kw_only=True):
    """``submit`` puts a command before the active controller."""

    broker: BrokerSettings
    submit: Callable[[Command], Awaitable[Any]]

    async def handle(
        self, context: RequestContext, request: IncrementalAlterConfigsRequest
    ) -> IncrementalAlterConfigsResponse:
        def prepare(resource: AlterConfigsResource) -> list[ConfigChange] | None:
            _check_keys(resource.configs)
            changes = _changes(resource)
            name, resource_type = resource.resource_name, resource.resource_type
            if resource_type in (ResourceType.BROKER, ResourceType.BROKER_LOGGER):
                self.broker.check_node(resource_type, name)
            if resource_type == ResourceType.BROKER_LOGGER:
                _alter_loggers(changes, request.validate_only)
                return None
            if resource_type == ResourceType.BROKER:
                self.broker.check(name, broker_settings_after(self.broker.current(name), changes))
            return changes

        def submit(changes: list[tuple[ConfigResource, list[ConfigChange]]]) -> Awaitable[Any]:
            return self.submit(
                lambda controller, _: controller.incremental_alter_configs(changes, validate_only=request.validate_only)
            )

        return IncrementalAlterConfigsResponse(
            responses=await change_configs(request.resources, prepare, submit, AlterConfigsResourceResponse)
        )


def _alter_loggers(changes: Sequence[ConfigChange], validate_only: bool) -> None:
    known = logger_levels()
    for change in changes:
        _check_logger(change, known)
    for change in changes:
        if not validate_only:
            set_logger_level(change.name, change.value)


def _check_keys(configs: Sequence[AlterableConfig]) -> None:
    counts = Counter(config.name for config in configs)
    if any(count > 1 for count in counts.values()):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
    nulls = [
        config.name for config in configs if config.value is None and config.config_operation != ConfigOperation.DELETE
    ]
    if nulls:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {','.join(nulls)}")


def _changes(resource: AlterConfigsResource) -> list[ConfigChange]:
    changes: list[ConfigChange] = []
    for config in resource.configs:
        operation = _OPERATIONS.get(config.config_operation)
        if operation is None:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown operations type {config.config_operation}")
        value = None if operation is ConfigOperation.DELETE else config.value
        changes.append(ConfigChange(name=config.name, operation=operation, value=value))
    return changes


def _check_logger(change: ConfigChange, known: dict[str, str]) -> None:
    if change.name not in known:
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Logger {change.name} does not exist!")
    match change.operation:
        case ConfigOperation.SET:
            if not is_level(change.value or ""):
                message = (
                    f"Cannot set the log level of {change.name} to {change.value} as it is not a supported log level. "
                    f"{LEVELS}"
                )
                raise KafkaError(ErrorCode.INVALID_CONFIG, message)
        case ConfigOperation.DELETE:
            if change.name == "root":
                message = "Removing the log level of the root logger is not allowed"
                raise KafkaError(ErrorCode.INVALID_REQUEST, message)
        case _:
            message = f"{change.operation.name} operation is not allowed for the BROKER_LOGGER resource"
            raise KafkaError(ErrorCode.INVALID_REQUEST, message)

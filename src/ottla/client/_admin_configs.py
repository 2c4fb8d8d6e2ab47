"""Administration of configurations: of topics, brokers, broker loggers, groups and client metrics."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from msgspec import Struct

from ottla.client._admin_ask import outcome
from ottla.client._cluster import Cluster
from ottla.client._errors import error_of, raise_for
from ottla.wire.apis import ApiKey
from ottla.wire.codec import Message
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.describe_configs_request import DescribeConfigsRequest, DescribeConfigsResource
from ottla.wire.messages.describe_configs_response import DescribeConfigsResourceResult, DescribeConfigsResponse
from ottla.wire.messages.incremental_alter_configs_request import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.wire.messages.incremental_alter_configs_response import IncrementalAlterConfigsResponse
from ottla.wire.messages.list_config_resources_request import ListConfigResourcesRequest
from ottla.wire.messages.list_config_resources_response import ListConfigResourcesResponse

ResourceKind = Literal["topic", "broker", "broker_logger", "client_metrics", "group"]
NUMBERS: Final[dict[str, int]] = {"topic": 2, "broker": 4, "broker_logger": 8, "client_metrics": 16, "group": 32}
KINDS: Final = {number: kind for kind, number in NUMBERS.items()}
SOURCES: Final = {
    1: "topic",
    2: "broker",
    3: "brokers",
    4: "file",
    5: "default",
    6: "broker_logger",
    7: "client_metrics",
    8: "group",
}
TYPES: Final = ("unknown", "boolean", "string", "int", "short", "long", "double", "list", "class", "password")


class ConfigResource(NamedTuple):
    """What has a configuration. The name of a broker is its id, or empty for all brokers' defaults."""

    kind: ResourceKind
    name: str


class ConfigSynonym(Struct, frozen=True, kw_only=True):
    """A place a value could come from, the nearest first."""

    name: str
    value: str | None
    source: str


class ConfigValue(Struct, frozen=True, kw_only=True):
    """One configuration of a resource. ``source`` is Kafka's number, 5 for a default; ``source_name`` says it."""

    name: str
    value: str | None
    source: int
    read_only: bool
    sensitive: bool
    type: str = "unknown"
    documentation: str | None = None
    synonyms: tuple[ConfigSynonym, ...] = ()

    @property
    def is_default(self) -> bool:
        return self.source == 5

    @property
    def source_name(self) -> str:
        return SOURCES.get(self.source, "unknown")


class ConfigChange(NamedTuple):
    """A change of one configuration; ``append`` and ``subtract`` are for lists."""

    operation: Literal["set", "delete", "append", "subtract"]
    value: str | None = None


_OPERATIONS: Final = {"set": 0, "delete": 1, "append": 2, "subtract": 3}


async def describe_configs(
    cluster: Cluster, resources: Iterable[ConfigResource], *, names: Sequence[str] | None, documentation: bool
) -> dict[ConfigResource, list[ConfigValue] | KafkaError]:
    found: dict[ConfigResource, list[ConfigValue] | KafkaError] = {}
    for node_id, part in _by_broker(resources).items():
        request = DescribeConfigsRequest(
            resources=[
                DescribeConfigsResource(
                    resource_type=NUMBERS[resource.kind],
                    resource_name=resource.name,
                    configuration_keys=None if names is None else list(names),
                )
                for resource in part
            ],
            include_synonyms=True,
            include_documentation=documentation,
        )
        response: DescribeConfigsResponse = await _ask(cluster, node_id, ApiKey.DESCRIBE_CONFIGS, request)
        for result in response.results:
            resource = ConfigResource(_kind(result.resource_type), result.resource_name)
            values = [_value(entry) for entry in result.configs]
            found[resource] = outcome(result.error_code, result.error_message, _subject(resource), values)
    return found


async def alter_configs(
    cluster: Cluster,
    changes: Mapping[ConfigResource, Mapping[str, str | ConfigChange | None]],
    *,
    validate_only: bool,
) -> dict[ConfigResource, KafkaError | None]:
    found: dict[ConfigResource, KafkaError | None] = {}
    for node_id, part in _by_broker(changes).items():
        request = IncrementalAlterConfigsRequest(
            resources=[
                AlterConfigsResource(
                    resource_type=NUMBERS[resource.kind],
                    resource_name=resource.name,
                    configs=[_alteration(name, change) for name, change in changes[resource].items()],
                )
                for resource in part
            ],
            validate_only=validate_only,
        )
        response: IncrementalAlterConfigsResponse = await _ask(
            cluster, node_id, ApiKey.INCREMENTAL_ALTER_CONFIGS, request
        )
        for result in response.responses:
            resource = ConfigResource(_kind(result.resource_type), result.resource_name)
            found[resource] = outcome(result.error_code, result.error_message, _subject(resource), None)
    return found


async def list_config_resources(cluster: Cluster, kinds: Iterable[ResourceKind]) -> list[ConfigResource]:
    numbers = [NUMBERS[kind] for kind in kinds]

    def request(version: int) -> ListConfigResourcesRequest:
        if version >= 1:
            return ListConfigResourcesRequest(resource_types=numbers)
        if numbers not in ([], [NUMBERS["client_metrics"]]):
            raise error_of(ErrorCode.UNSUPPORTED_VERSION, "the broker lists client metrics only")
        return ListConfigResourcesRequest()

    response: ListConfigResourcesResponse = await cluster.ask_any(ApiKey.LIST_CONFIG_RESOURCES, request)
    raise_for(response.error_code, None, "resources")
    return sorted(ConfigResource(_kind(one.resource_type), one.resource_name) for one in response.config_resources)


async def _ask(cluster: Cluster, node_id: int, api_key: ApiKey, request: Message) -> Any:
    if node_id < 0:
        return await cluster.ask_any(api_key, request)
    return await (await cluster.peer(node_id)).request(api_key, request)


def _by_broker(resources: Iterable[ConfigResource]) -> dict[int, list[ConfigResource]]:
    """A broker answers for itself; anybody answers for everything else (-1)."""
    parts: dict[int, list[ConfigResource]] = {}
    for resource in resources:
        own = resource.kind in ("broker", "broker_logger") and resource.name.isdigit()
        parts.setdefault(int(resource.name) if own else -1, []).append(resource)
    return parts


def _alteration(name: str, change: str | ConfigChange | None) -> AlterableConfig:
    if not isinstance(change, ConfigChange):
        change = ConfigChange("delete") if change is None else ConfigChange("set", change)
    return AlterableConfig(name=name, config_operation=_OPERATIONS[change.operation], value=change.value)


def _value(entry: DescribeConfigsResourceResult) -> ConfigValue:
    return ConfigValue(
        name=entry.name,
        value=entry.value,
        source=entry.config_source,
        read_only=entry.read_only,
        sensitive=entry.is_sensitive,
        type=TYPES[entry.config_type] if 0 <= entry.config_type < len(TYPES) else "unknown",
        documentation=entry.documentation or None,
        synonyms=tuple(
            ConfigSynonym(name=one.name, value=one.value, source=SOURCES.get(one.source, "unknown"))
            for one in entry.synonyms
        ),
    )


def _kind(number: int) -> ResourceKind:
    return KINDS.get(number, "topic")  # type: ignore[return-value]  # the table holds the literals


def _subject(resource: ConfigResource) -> str:
    return f"configuration of {resource.kind} {resource.name!r}"

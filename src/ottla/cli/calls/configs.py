"""Configurations of every kind of resource: described, changed one by one, listed."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ottla.cli.calls.asking import check
from ottla.cli.calls.kinds import RESOURCES
from ottla.cli.rows import ConfigEntry
from ottla.client._cluster import Cluster
from ottla.wire.apis import ApiKey

SOURCES: Final = {
    1: "topic",
    2: "broker",
    3: "cluster",
    4: "file",
    5: "default",
    6: "logger",
    7: "client-metrics",
    8: "group",
}
TYPES: Final = {
    1: "boolean",
    2: "string",
    3: "int",
    4: "short",
    5: "long",
    6: "double",
    7: "list",
    8: "class",
    9: "password",
}
SET, DELETE = 0, 1


async def describe_config(
    cluster: Cluster, kind: str, name: str, keys: Iterable[str] | None = None
) -> list[ConfigEntry]:
    """What is configured, with where each value comes from. The empty broker name is the whole cluster's default."""
    from ottla.wire.messages.describe_configs_request import DescribeConfigsRequest, DescribeConfigsResource

    resource = DescribeConfigsResource(
        resource_type=RESOURCES[kind],
        resource_name=name,
        configuration_keys=None if keys is None else list(keys),
    )

    def request(version: int) -> DescribeConfigsRequest:
        return DescribeConfigsRequest(
            resources=[resource], include_synonyms=version >= 1, include_documentation=version >= 3
        )

    result = (await _ask(cluster, ApiKey.DESCRIBE_CONFIGS, request, kind, name)).results[0]
    check(result.error_code, result.error_message, f"{kind} {name!r}")
    return [_entry(one) for one in sorted(result.configs, key=lambda config: config.name)]


async def alter_config(
    cluster: Cluster, kind: str, name: str, changes: Mapping[str, str | None], *, dry_run: bool = False
) -> None:
    """Set values; ``None`` takes one away."""
    from ottla.wire.messages.incremental_alter_configs_request import (
        AlterableConfig,
        AlterConfigsResource,
        IncrementalAlterConfigsRequest,
    )

    configs = [
        AlterableConfig(name=key, config_operation=DELETE if value is None else SET, value=value)
        for key, value in changes.items()
    ]
    resource = AlterConfigsResource(resource_type=RESOURCES[kind], resource_name=name, configs=configs)
    request = IncrementalAlterConfigsRequest(resources=[resource], validate_only=dry_run)
    answer = await _ask(cluster, ApiKey.INCREMENTAL_ALTER_CONFIGS, request, kind, name)
    for one in answer.responses:
        check(one.error_code, one.error_message, f"{kind} {name!r}")


async def configured(cluster: Cluster, kind: str) -> list[str]:
    """The names of the resources of a kind that something is configured for."""
    from ottla.wire.messages.list_config_resources_request import ListConfigResourcesRequest

    request = ListConfigResourcesRequest(resource_types=[RESOURCES[kind]])
    answer = await cluster.ask_any(ApiKey.LIST_CONFIG_RESOURCES, request)
    check(answer.error_code, None, f"configurations of kind {kind}")
    return sorted(one.resource_name for one in answer.config_resources)


async def _ask(cluster: Cluster, api_key: ApiKey, request: Any, kind: str, name: str) -> Any:
    """A broker answers for itself; everything else any broker knows."""
    if kind in ("broker", "broker-logger") and name.isdigit():
        peer = await cluster.peer(int(name))
        version = peer.version_of(api_key)
        return await peer.request(api_key, request(version) if callable(request) else request, version)
    return await cluster.ask_any(api_key, request)


def _entry(config: Any) -> ConfigEntry:
    return ConfigEntry(
        name=config.name,
        value=config.value,
        source=SOURCES.get(config.config_source, str(config.config_source)),
        default=config.config_source == 5,
        read_only=config.read_only,
        sensitive=config.is_sensitive,
        type=TYPES.get(config.config_type, "unknown"),
        documentation=config.documentation or None,
        synonyms=[f"{SOURCES.get(one.source, one.source)}:{one.name}={one.value}" for one in config.synonyms],
    )

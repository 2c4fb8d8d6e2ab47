"""Configurations of every kind of resource: described, changed one by one, listed."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from ottla.cli.rows import ConfigEntry
from ottla.client import Admin, ConfigResource, KafkaError


async def describe_config(admin: Admin, kind: str, name: str, keys: Iterable[str] | None = None) -> list[ConfigEntry]:
    """What is configured, with where each value comes from. The empty broker name is the whole cluster's default."""
    resource = _resource(kind, name)
    names = None if keys is None else list(keys)
    found = (await admin.describe_configs([resource], names=names, documentation=True))[resource]
    if isinstance(found, KafkaError):
        raise found
    return [
        ConfigEntry(
            name=one.name,
            value=one.value,
            source=one.source_name,
            default=one.is_default,
            read_only=one.read_only,
            sensitive=one.sensitive,
            type=one.type,
            documentation=one.documentation or None,
            synonyms=[f"{other.source}:{other.name}={other.value}" for other in one.synonyms],
        )
        for one in sorted(found, key=lambda config: config.name)
    ]


async def alter_config(
    admin: Admin, kind: str, name: str, changes: Mapping[str, str | None], *, dry_run: bool = False
) -> None:
    """Set values; ``None`` takes one away."""
    resource = _resource(kind, name)
    error = (await admin.alter_configs({resource: changes}, validate_only=dry_run))[resource]
    if error is not None:
        raise error


async def configured(admin: Admin, kind: str) -> list[str]:
    """The names of the resources of a kind."""
    found = await admin.list_config_resources([cast(Any, kind.replace("-", "_"))])
    return sorted(one.name for one in found)


def _resource(kind: str, name: str) -> ConfigResource:
    return ConfigResource(cast(Any, kind.replace("-", "_")), name)

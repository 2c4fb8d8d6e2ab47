"""Administration of who may do what, and how much: access control lists, quotas, SCRAM users."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from msgspec import Struct

from ottla.client._admin_ask import outcome
from ottla.client._cluster import Cluster
from ottla.client._errors import error_of, raise_for
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.alter_client_quotas_request import AlterClientQuotasRequest, EntityData, EntryData, OpData
from ottla.wire.messages.alter_client_quotas_response import AlterClientQuotasResponse
from ottla.wire.messages.alter_user_scram_credentials_request import (
    AlterUserScramCredentialsRequest,
    ScramCredentialDeletion,
    ScramCredentialUpsertion,
)
from ottla.wire.messages.alter_user_scram_credentials_response import AlterUserScramCredentialsResponse
from ottla.wire.messages.create_acls_request import AclCreation, CreateAclsRequest
from ottla.wire.messages.create_acls_response import CreateAclsResponse
from ottla.wire.messages.delete_acls_request import DeleteAclsFilter, DeleteAclsRequest
from ottla.wire.messages.delete_acls_response import DeleteAclsResponse
from ottla.wire.messages.describe_acls_request import DescribeAclsRequest
from ottla.wire.messages.describe_acls_response import DescribeAclsResponse
from ottla.wire.messages.describe_client_quotas_request import ComponentData, DescribeClientQuotasRequest
from ottla.wire.messages.describe_client_quotas_response import DescribeClientQuotasResponse
from ottla.wire.messages.describe_user_scram_credentials_request import DescribeUserScramCredentialsRequest, UserName
from ottla.wire.messages.describe_user_scram_credentials_response import DescribeUserScramCredentialsResponse

ResourceType = Literal["any", "topic", "group", "cluster", "transactional_id", "delegation_token", "user"]
PatternType = Literal["any", "match", "literal", "prefixed"]
Operation = Literal[
    "any",
    "all",
    "read",
    "write",
    "create",
    "delete",
    "alter",
    "describe",
    "cluster_action",
    "describe_configs",
    "alter_configs",
    "idempotent_write",
    "create_tokens",
    "describe_tokens",
    "two_phase_commit",
]
Permission = Literal["any", "deny", "allow"]
ScramMechanism = Literal["SCRAM-SHA-256", "SCRAM-SHA-512"]

# Kafka's numbers; 0 is "unknown" everywhere, 1 is what matches anything.
_RESOURCES: Final = (None, "any", "topic", "group", "cluster", "transactional_id", "delegation_token", "user")
_PATTERNS: Final = (None, "any", "match", "literal", "prefixed")
_OPERATIONS: Final = (
    *(None, "any", "all", "read", "write", "create", "delete", "alter", "describe", "cluster_action"),
    *("describe_configs", "alter_configs", "idempotent_write", "create_tokens", "describe_tokens", "two_phase_commit"),
)
_PERMISSIONS: Final = (None, "any", "deny", "allow")
_MECHANISMS: Final = {1: "SCRAM-SHA-256", 2: "SCRAM-SHA-512"}
_MECHANISM_NUMBERS: Final = {name: number for number, name in _MECHANISMS.items()}
_HASHES: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}


class Acl(NamedTuple):
    """One rule: who (``User:alice``, ``User:*``) may, or may not, do what to which resource."""

    resource_type: ResourceType
    resource_name: str
    principal: str
    operation: Operation
    permission: Permission = "allow"
    host: str = "*"
    pattern_type: PatternType = "literal"


class AclFilter(NamedTuple):
    """Rules that match; ``None`` and ``any`` match everything."""

    resource_type: ResourceType = "any"
    resource_name: str | None = None
    principal: str | None = None
    operation: Operation = "any"
    permission: Permission = "any"
    host: str | None = None
    pattern_type: PatternType = "any"


QuotaEntity = tuple[tuple[str, str | None], ...]
"""Pairs of kind (``user``, ``client-id``, ``ip``) and name, ``None`` for the default."""


class ScramCredential(Struct, frozen=True, kw_only=True):
    """That a user has a password, not the password."""

    mechanism: str
    iterations: int


async def create_acls(cluster: Cluster, acls: Iterable[Acl]) -> dict[Acl, KafkaError | None]:
    wanted = list(dict.fromkeys(acls))
    creations = [
        AclCreation(
            resource_type=_RESOURCES.index(acl.resource_type),
            resource_name=acl.resource_name,
            resource_pattern_type=_PATTERNS.index(acl.pattern_type),
            principal=acl.principal,
            host=acl.host,
            operation=_OPERATIONS.index(acl.operation),
            permission_type=_PERMISSIONS.index(acl.permission),
        )
        for acl in wanted
    ]
    response: CreateAclsResponse = await cluster.ask_any(ApiKey.CREATE_ACLS, CreateAclsRequest(creations=creations))
    return {
        acl: outcome(result.error_code, result.error_message, f"rule for {acl.principal}", None)
        for acl, result in zip(wanted, response.results, strict=True)
    }


async def describe_acls(cluster: Cluster, wanted: AclFilter) -> list[Acl]:
    request = DescribeAclsRequest(
        resource_type_filter=_RESOURCES.index(wanted.resource_type),
        resource_name_filter=wanted.resource_name,
        pattern_type_filter=_PATTERNS.index(wanted.pattern_type),
        principal_filter=wanted.principal,
        host_filter=wanted.host,
        operation=_OPERATIONS.index(wanted.operation),
        permission_type=_PERMISSIONS.index(wanted.permission),
    )
    response: DescribeAclsResponse = await cluster.ask_any(ApiKey.DESCRIBE_ACLS, request)
    raise_for(response.error_code, response.error_message, "rules")
    return sorted(
        _acl(resource.resource_type, resource.resource_name, resource.pattern_type, one)
        for resource in response.resources
        for one in resource.acls
    )


async def delete_acls(cluster: Cluster, filters: Sequence[AclFilter]) -> list[list[Acl | KafkaError] | KafkaError]:
    request = DeleteAclsRequest(
        filters=[
            DeleteAclsFilter(
                resource_type_filter=_RESOURCES.index(one.resource_type),
                resource_name_filter=one.resource_name,
                pattern_type_filter=_PATTERNS.index(one.pattern_type),
                principal_filter=one.principal,
                host_filter=one.host,
                operation=_OPERATIONS.index(one.operation),
                permission_type=_PERMISSIONS.index(one.permission),
            )
            for one in filters
        ]
    )
    response: DeleteAclsResponse = await cluster.ask_any(ApiKey.DELETE_ACLS, request)
    return [
        outcome(
            result.error_code,
            result.error_message,
            "rules",
            [
                outcome(
                    one.error_code,
                    one.error_message,
                    f"rule for {one.principal}",
                    _acl(one.resource_type, one.resource_name, one.pattern_type, one),
                )
                for one in result.matching_acls
            ],
        )
        for result in response.filter_results
    ]


async def describe_quotas(
    cluster: Cluster, components: Mapping[str, str | None], *, strict: bool
) -> dict[QuotaEntity, dict[str, float]]:
    """``components``: kind to name, ``None`` for any name, the empty string for the default."""
    wanted = [
        ComponentData(entity_type=kind, match_type=2)
        if name is None
        else ComponentData(entity_type=kind, match_type=1 if not name else 0, match=name or None)
        for kind, name in components.items()
    ]
    for component in wanted:
        component.match = component.match or None
    request = DescribeClientQuotasRequest(components=wanted, strict=strict)
    response: DescribeClientQuotasResponse = await cluster.ask_any(ApiKey.DESCRIBE_CLIENT_QUOTAS, request)
    raise_for(response.error_code, response.error_message, "quotas")
    return {
        tuple((one.entity_type, one.entity_name) for one in entry.entity): {
            value.key: value.value for value in entry.values
        }
        for entry in response.entries or []
    }


async def alter_quotas(
    cluster: Cluster, changes: Mapping[QuotaEntity, Mapping[str, float | None]], *, validate_only: bool
) -> dict[QuotaEntity, KafkaError | None]:
    entries = [
        EntryData(
            entity=[EntityData(entity_type=kind, entity_name=name) for kind, name in entity],
            ops=[
                OpData(key=key, remove=True) if value is None else OpData(key=key, value=float(value))
                for key, value in values.items()
            ],
        )
        for entity, values in changes.items()
    ]
    request = AlterClientQuotasRequest(entries=entries, validate_only=validate_only)
    response: AlterClientQuotasResponse = await cluster.ask_any(ApiKey.ALTER_CLIENT_QUOTAS, request)
    return {
        tuple((one.entity_type, one.entity_name) for one in entry.entity): outcome(
            entry.error_code, entry.error_message, "quotas", None
        )
        for entry in response.entries
    }


async def describe_users(
    cluster: Cluster, names: Iterable[str] | None
) -> dict[str, list[ScramCredential] | KafkaError]:
    users = None if names is None else [UserName(name=name) for name in names]
    response: DescribeUserScramCredentialsResponse = await cluster.ask_any(
        ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, DescribeUserScramCredentialsRequest(users=users)
    )
    raise_for(response.error_code, response.error_message, "users")
    return {
        result.user: outcome(
            result.error_code,
            result.error_message,
            f"user {result.user!r}",
            [
                ScramCredential(mechanism=_MECHANISMS.get(one.mechanism, "unknown"), iterations=one.iterations)
                for one in result.credential_infos
            ],
        )
        for result in response.results
    }


async def alter_users(
    cluster: Cluster,
    passwords: Mapping[tuple[str, ScramMechanism], str | None],
    *,
    iterations: int,
) -> dict[str, KafkaError | None]:
    deletions = [
        ScramCredentialDeletion(name=name, mechanism=_MECHANISM_NUMBERS[mechanism])
        for (name, mechanism), password in passwords.items()
        if password is None
    ]
    upsertions = [
        _upsertion(name, mechanism, password, iterations)
        for (name, mechanism), password in passwords.items()
        if password is not None
    ]
    response: AlterUserScramCredentialsResponse = await cluster.ask_any(
        ApiKey.ALTER_USER_SCRAM_CREDENTIALS,
        AlterUserScramCredentialsRequest(deletions=deletions, upsertions=upsertions),
    )
    return {
        result.user: outcome(result.error_code, result.error_message, f"user {result.user!r}", None)
        for result in response.results
    }


def _upsertion(name: str, mechanism: ScramMechanism, password: str, iterations: int) -> ScramCredentialUpsertion:
    """The password is salted here: it never leaves this process."""
    if iterations < 4096:
        raise error_of(ErrorCode.UNACCEPTABLE_CREDENTIAL, f"{iterations} iterations are too few: at least 4096")
    salt = secrets.token_bytes(24)
    salted = hashlib.pbkdf2_hmac(_HASHES[mechanism], password.encode(), salt, iterations)
    return ScramCredentialUpsertion(
        name=name, mechanism=_MECHANISM_NUMBERS[mechanism], iterations=iterations, salt=salt, salted_password=salted
    )


def _acl(resource_type: int, resource_name: str, pattern_type: int, entry: Any) -> Acl:
    return Acl(
        resource_type=_named(_RESOURCES, resource_type),
        resource_name=resource_name,
        principal=entry.principal,
        operation=_named(_OPERATIONS, entry.operation),
        permission=_named(_PERMISSIONS, entry.permission_type),
        host=entry.host,
        pattern_type=_named(_PATTERNS, pattern_type),
    )


def _named(names: Sequence[str | None], number: int) -> Any:
    return (names[number] if 0 <= number < len(names) else None) or f"unknown-{number}"

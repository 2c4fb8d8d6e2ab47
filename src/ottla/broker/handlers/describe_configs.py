"""DescribeConfigs (32), versions 1-4: topics, brokers, the brokers' common default, broker loggers, client metrics,
groups.

Each value comes with its source and, if asked for, the places it could come from (synonyms) and, v3+, its
documentation. Secrets have no value. Only this broker's own static configuration is known here: another broker's id
is INVALID_REQUEST, as clients send such requests to the broker itself.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from ottla.broker.config_changes import node_id_in
from ottla.broker.context import RequestContext
from ottla.broker.loggers import logger_levels
from ottla.config.describe import (
    ConfigEntry,
    ConfigLayers,
    ConfigSource,
    ConfigSynonym,
    describe_broker,
    describe_cluster_default,
    describe_group,
    describe_topic,
)
from ottla.config.key import ConfigError, ConfigType
from ottla.metadata.controller.configs import CLIENT_METRICS_KEYS
from ottla.metadata.controller.topics import topic_name_problem
from ottla.metadata.image import CLUSTER_DEFAULT, ClusterImage, ConfigResource, ResourceType
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.describe_configs_request import DescribeConfigsRequest, DescribeConfigsResource
from ottla.wire.messages.describe_configs_response import (
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)

KNOWN_TYPES = frozenset(int(resource_type) for resource_type in ResourceType)


class DescribeConfigsHandler(Struct, frozen=True, kw_only=True):
    """``static_config`` are the broker keys set in this node's file or on its command line."""

    node_id: int
    static_config: Mapping[str, str]
    image: Callable[[], ClusterImage]

    def handle(self, context: RequestContext, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
        if any(resource.resource_type not in KNOWN_TYPES for resource in request.resources):
            return DescribeConfigsResponse(results=[_malformed(resource) for resource in request.resources])
        return DescribeConfigsResponse(results=[self._describe(resource, request) for resource in request.resources])

    def _describe(self, resource: DescribeConfigsResource, request: DescribeConfigsRequest) -> DescribeConfigsResult:
        result = DescribeConfigsResult(resource_type=resource.resource_type, resource_name=resource.resource_name)
        try:
            entries = self._entries(resource.resource_type, resource.resource_name)
        except KafkaError as error:
            result.error_code, result.error_message = int(error.code), error.message or ""
            return result
        except ConfigError as error:
            result.error_code, result.error_message = int(ErrorCode.INVALID_CONFIG), str(error)
            return result
        wanted = resource.configuration_keys
        result.configs = [
            _result(entry, request) for entry in entries if wanted is None or not wanted or entry.name in wanted
        ]
        return result

    def _entries(self, resource_type: int, name: str) -> Sequence[ConfigEntry]:
        image = self.image()
        match resource_type:
            case ResourceType.TOPIC:
                _check_topic(image, name)
                return describe_topic(image.topic_config(name), self._layers(image))
            case ResourceType.BROKER:
                if not name:
                    return describe_cluster_default(self._layers(image))
                self._check_broker(name, f"{self.node_id} or empty string,")
                return describe_broker(self._layers(image))
            case ResourceType.BROKER_LOGGER:
                if not name:
                    raise KafkaError(ErrorCode.INVALID_REQUEST, "Broker id must not be empty")
                self._check_broker(name, str(self.node_id))
                return [_logger_entry(logger, level) for logger, level in logger_levels().items()]
            case ResourceType.CLIENT_METRICS:
                if not name:
                    message = "Client metrics subscription name must not be empty"
                    raise KafkaError(ErrorCode.INVALID_REQUEST, message)
                return _client_metrics(image.config(ConfigResource(resource_type, name)))
            case ResourceType.GROUP:
                if not name:
                    raise KafkaError(ErrorCode.INVALID_REQUEST, "Group name must not be empty")
                return describe_group(image.config(ConfigResource(resource_type, name)), self._layers(image))
        raise AssertionError(f"not a known type of resource: {resource_type}")

    def _layers(self, image: ClusterImage) -> ConfigLayers:
        return ConfigLayers(
            static=self.static_config,
            cluster=image.config(CLUSTER_DEFAULT),
            broker=image.config(ConfigResource(ResourceType.BROKER, str(self.node_id))),
        )

    def _check_broker(self, name: str, expected: str) -> None:
        broker_id = node_id_in(name)
        if broker_id is None:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name}")
        if broker_id != self.node_id:
            message = f"Unexpected broker id, expected {expected} but received {name}"
            raise KafkaError(ErrorCode.INVALID_REQUEST, message)


def _malformed(resource: DescribeConfigsResource) -> DescribeConfigsResult:
    """One resource of an unknown type spoils the whole request."""
    return DescribeConfigsResult(
        error_code=int(ErrorCode.INVALID_REQUEST),
        error_message="This most likely occurs because of a request being malformed by the client library or the "
        "message was sent to an incompatible broker. See the broker logs for more details.",
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )


def _check_topic(image: ClusterImage, name: str) -> None:
    problem = topic_name_problem(name)
    if problem is not None:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
    if name not in image.topics:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)


def _client_metrics(overrides: Mapping[str, str]) -> list[ConfigEntry]:
    return [
        ConfigEntry(
            name=name,
            value=overrides.get(name, default),
            source=ConfigSource.CLIENT_METRICS_CONFIG if name in overrides else ConfigSource.DEFAULT_CONFIG,
            read_only=False,
            sensitive=False,
            type=ConfigType.INT if name == "interval.ms" else ConfigType.LIST,
            documentation="",
            synonyms=(
                (ConfigSynonym(name=name, value=overrides[name], source=ConfigSource.CLIENT_METRICS_CONFIG),)
                if name in overrides
                else ()
            ),
        )
        for name, default in CLIENT_METRICS_KEYS.items()
    ]


def _logger_entry(name: str, level: str) -> ConfigEntry:
    return ConfigEntry(
        name=name,
        value=level,
        source=ConfigSource.DYNAMIC_BROKER_LOGGER_CONFIG,
        read_only=False,
        sensitive=False,
        type=ConfigType.STRING,
        documentation="",
        synonyms=(),
    )


def _result(entry: ConfigEntry, request: DescribeConfigsRequest) -> DescribeConfigsResourceResult:
    synonyms = entry.synonyms if request.include_synonyms else ()
    return DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        is_sensitive=entry.sensitive,
        synonyms=[
            DescribeConfigsSynonym(name=synonym.name, value=synonym.value, source=synonym.source)
            for synonym in synonyms
        ],
        config_type=entry.type,
        documentation=(entry.documentation or None) if request.include_documentation else None,
    )

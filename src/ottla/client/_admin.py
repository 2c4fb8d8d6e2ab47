"""The admin's face: topics and configurations. Any broker is asked; Kafka forwards what its controller decides."""

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from ottla.client._cluster import Cluster, TopicMetadata, topic_error
from ottla.client._offsets import EARLIEST, LATEST, list_offsets
from ottla.model import TopicPartition, Uuid
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.create_topics_request import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from ottla.wire.messages.create_topics_response import CreateTopicsResponse
from ottla.wire.messages.delete_groups_request import DeleteGroupsRequest
from ottla.wire.messages.delete_groups_response import DeleteGroupsResponse
from ottla.wire.messages.delete_topics_request import DeleteTopicsRequest, DeleteTopicState
from ottla.wire.messages.delete_topics_response import DeleteTopicsResponse
from ottla.wire.messages.describe_configs_request import DescribeConfigsRequest, DescribeConfigsResource
from ottla.wire.messages.describe_configs_response import DescribeConfigsResponse
from ottla.wire.messages.list_groups_request import ListGroupsRequest
from ottla.wire.messages.list_groups_response import ListGroupsResponse

if TYPE_CHECKING:
    from ssl import SSLContext

    from ottla.client._security import Sasl, Tls

TOPIC_RESOURCE = 2


class ConfigValue(Struct, frozen=True, kw_only=True):
    """One configuration of a resource. ``source`` is Kafka's number, 5 for a default."""

    name: str
    value: str | None
    source: int
    read_only: bool
    sensitive: bool

    @property
    def is_default(self) -> bool:
        return self.source == 5


class CreatedTopic(Struct, frozen=True, kw_only=True):
    """A topic as it was created."""

    name: str
    topic_id: Uuid
    partitions: int
    replication_factor: int


class Admin:
    """Manages topics. Use it as ``async with Admin("host:port") as admin``. Everything raises ``KafkaError``."""

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        *,
        request_timeout_ms: int = 30_000,
        client_id: str = "ottla-admin",
        tls: "bool | Tls | SSLContext" = False,
        sasl: "Sasl | None" = None,
    ) -> None:
        self._cluster = Cluster(bootstrap_servers, client_id=client_id, tls=tls, sasl=sasl)
        self._timeout_ms = request_timeout_ms

    async def __aenter__(self) -> Self:
        await self._cluster.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cluster.close()

    async def create_topic(
        self,
        name: str,
        *,
        partitions: int = -1,
        replication_factor: int = -1,
        config: Mapping[str, str] | None = None,
        validate_only: bool = False,
    ) -> CreatedTopic:
        """Create a topic; -1 takes the broker's default."""
        topic = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=replication_factor,
            configs=[CreatableTopicConfig(name=key, value=value) for key, value in (config or {}).items()],
        )
        request = CreateTopicsRequest(topics=[topic], timeout_ms=self._timeout_ms, validate_only=validate_only)
        response: CreateTopicsResponse = await self._cluster.ask_any(ApiKey.CREATE_TOPICS, request)
        result = response.topics[0]
        _raise_error(result.error_code, result.error_message, f"topic {name!r}")
        return CreatedTopic(
            name=name,
            topic_id=result.topic_id,
            partitions=result.num_partitions,
            replication_factor=result.replication_factor,
        )

    async def delete_topics(self, names: Iterable[str]) -> dict[str, KafkaError | None]:
        """Delete topics; what went wrong, by name."""
        wanted = list(names)
        request = DeleteTopicsRequest(
            topics=[DeleteTopicState(name=name) for name in wanted], topic_names=wanted, timeout_ms=self._timeout_ms
        )
        response: DeleteTopicsResponse = await self._cluster.ask_any(ApiKey.DELETE_TOPICS, request)
        results: dict[str, KafkaError | None] = {}
        for result in response.responses:
            code = ErrorCode(result.error_code)
            error = None if code is ErrorCode.NONE else KafkaError(code, result.error_message or f"{result.name}")
            results[result.name or ""] = error
        return results

    async def list_topics(self, *, internal: bool = False) -> list[TopicMetadata]:
        """Every topic, by name."""
        await self._cluster.refresh(None)
        topics = [self._cluster.known_topic(name) for name in sorted(self._cluster.topic_names)]
        return [topic for topic in topics if topic is not None and (internal or not topic.internal)]

    async def describe_topics(self, names: Iterable[str]) -> list[TopicMetadata]:
        """These topics; raises ``KafkaError`` for the first that does not exist."""
        wanted = list(names)
        errors = await self._cluster.refresh(wanted)
        for name, code in errors.items():
            raise topic_error(name, code)
        topics = [self._cluster.known_topic(name) for name in wanted]
        return [topic for topic in topics if topic is not None]

    async def describe_config(self, topic: str) -> list[ConfigValue]:
        """The configuration of a topic."""
        resource = DescribeConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=topic, configuration_keys=None)
        response: DescribeConfigsResponse = await self._cluster.ask_any(
            ApiKey.DESCRIBE_CONFIGS, DescribeConfigsRequest(resources=[resource])
        )
        result = response.results[0]
        _raise_error(result.error_code, result.error_message, f"topic {topic!r}")
        return [
            ConfigValue(
                name=entry.name,
                value=entry.value,
                source=entry.config_source,
                read_only=entry.read_only,
                sensitive=entry.is_sensitive,
            )
            for entry in result.configs
        ]

    async def delete_empty_groups(self) -> list[str]:
        """Delete every group without members on every broker; the names of those deleted."""
        await self._cluster.refresh(())
        deleted = []
        for node_id in self._cluster.brokers:
            peer = await self._cluster.peer(node_id)
            listed: ListGroupsResponse = await peer.request(ApiKey.LIST_GROUPS, ListGroupsRequest())
            _raise_error(listed.error_code, None, "groups")
            names = [group.group_id for group in listed.groups if group.group_state in ("Empty", "Dead", "")]
            if names:
                request = DeleteGroupsRequest(groups_names=names)
                response: DeleteGroupsResponse = await peer.request(ApiKey.DELETE_GROUPS, request)
                deleted += [one.group_id for one in response.results if one.error_code == ErrorCode.NONE]
        return deleted

    async def offsets(self, topic: TopicMetadata) -> dict[int, tuple[int, int]]:
        """The first offset and the one after the last record, by partition."""
        places = [TopicPartition(topic.name, number) for number in topic.partitions]
        starts = await list_offsets(self._cluster, dict.fromkeys(places, EARLIEST))
        ends = await list_offsets(self._cluster, dict.fromkeys(places, LATEST))
        return {place.partition: (starts[place], ends[place]) for place in places}


def _raise_error(code: int, message: str | None, subject: str) -> None:
    if code != ErrorCode.NONE:
        raise KafkaError(ErrorCode(code), message or subject)

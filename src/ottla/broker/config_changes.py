"""The way of a request that changes configurations, the old or the incremental one, to the controller and back.

Each resource stands or falls alone: those the handler refuses are answered with its reason, the others go to the
controller together. A resource that comes twice is refused both times.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from ottla.config.describe import ConfigLayers
from ottla.config.dynamic import check_broker_settings
from ottla.config.key import ConfigError
from ottla.metadata.controller.state import Problem
from ottla.metadata.image import ClusterImage, ConfigResource, ResourceType
from ottla.wire.errors import ErrorCode, KafkaError


class Resource(Protocol):
    """One resource of either request."""

    resource_type: int
    resource_name: str


class ResourceResponse(Protocol):
    """One resource of either response."""

    def __init__(
        self, *, error_code: int, error_message: str | None, resource_type: int, resource_name: str
    ) -> None: ...


class BrokerSettings(Struct, frozen=True, kw_only=True):
    """What a broker checks itself before it forwards a change of its own settings, or of those of all brokers.

    ``static_config`` are the broker keys set in this node's file or on its command line.
    """

    node_id: int
    static_config: Mapping[str, str]
    image: Callable[[], ClusterImage]

    def current(self, name: str) -> Mapping[str, str]:
        return self.image().config(ConfigResource(ResourceType.BROKER, name))

    def check_node(self, resource_type: int, name: str) -> None:
        """Settings of one broker, and its loggers, are changed by asking that broker. Raises ``KafkaError``."""
        if resource_type == ResourceType.BROKER and not name:
            return
        node_id = node_id_in(name)
        if node_id is None:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Node id must be an integer, but it is: {name}")
        if node_id != self.node_id:
            message = f"Unexpected broker id, expected {self.node_id}, but received {name}"
            if resource_type == ResourceType.BROKER_LOGGER:
                message = f"Unexpected node id. Expected {self.node_id}, but received {name}"
            raise KafkaError(ErrorCode.INVALID_REQUEST, message)

    def check(self, name: str, after: Mapping[str, str]) -> None:
        """Whether ``after`` may be the dynamic settings of broker ``name``, or of all (no name)."""
        layers = ConfigLayers(
            static=self.static_config, cluster=self.current(""), broker=self.current(str(self.node_id))
        )
        try:
            check_broker_settings(after, layers, per_broker=bool(name))
        except ConfigError as error:
            raise KafkaError(ErrorCode.INVALID_REQUEST, error.message) from error


def node_id_in(name: str) -> int | None:
    """The node a resource is named after, if it is: as Java reads integers, without blanks."""
    return int(name) if re.fullmatch(r"[+-]?[0-9]{1,10}", name) else None


Asked = TypeVar("Asked", bound=Resource)
Answer = TypeVar("Answer", bound=ResourceResponse)
Wanted = TypeVar("Wanted")


async def change_configs(
    resources: Sequence[Asked],
    prepare: Callable[[Asked], Wanted | None],
    submit: Callable[[list[tuple[ConfigResource, Wanted]]], Awaitable[Any]],
    answer: type[Answer],
) -> list[Answer]:
    """``prepare`` gives what the controller is to do with a resource, ``None`` where it is done already, or raises
    ``KafkaError``; ``submit`` asks for all of that and returns ``list[tuple[ConfigResource, Problem | None]]``."""
    counts = Counter((resource.resource_type, resource.resource_name) for resource in resources)
    problems: list[Problem | None] = [None] * len(resources)
    forwarded: dict[int, tuple[ConfigResource, Wanted]] = {}
    for position, resource in enumerate(resources):
        try:
            if counts[resource.resource_type, resource.resource_name] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
            wanted = prepare(resource)
        except KafkaError as error:
            problems[position] = Problem.of(error)
            continue
        if wanted is not None:
            forwarded[position] = (ConfigResource(resource.resource_type, resource.resource_name), wanted)
    if forwarded:
        for position, problem in zip(forwarded, await _decided(submit, list(forwarded.values())), strict=True):
            problems[position] = problem
    return [
        answer(
            error_code=0 if problem is None else int(problem.code),
            error_message=None if problem is None else problem.message,
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
        )
        for resource, problem in zip(resources, problems, strict=True)
    ]


async def _decided(
    submit: Callable[[list[tuple[ConfigResource, Wanted]]], Awaitable[Any]], wanted: list[tuple[ConfigResource, Wanted]]
) -> list[Problem | None]:
    try:
        return [problem for _, problem in await submit(wanted)]
    except KafkaError as error:
        return [Problem.of(error)] * len(wanted)

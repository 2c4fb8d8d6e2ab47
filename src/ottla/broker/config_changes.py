"""The way of a request that changes configurations, the old or the incremental one, to the controller and back.

Each resource stands or falls alone: those the handler refuses are answered with its reason, the others go to the
controller together. A resource that comes twice is refused both times.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from ottla.metadata.controller.state import Problem
from ottla.metadata.image import ConfigResource
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

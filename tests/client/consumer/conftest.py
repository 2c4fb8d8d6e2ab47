"""Topics with records in them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.client import Producer


@pytest.fixture
def make_topic(
    make_topic: Callable[..., str], bootstrap: str, run: Callable[[Awaitable[Any]], Any]
) -> Callable[..., str]:
    """Create a topic of the test's own, with ``count`` records dealt out to its partitions in turn; its name."""

    def make(partitions: int = 1, count: int = 0, config: dict[str, str] | None = None) -> str:
        name = make_topic(partitions=partitions, config=config)

        async def fill() -> None:
            async with Producer(bootstrap) as producer:
                await asyncio.gather(
                    *[
                        producer.send(name, b"value %d" % number, key=b"%d" % number, partition=number % partitions)
                        for number in range(count)
                    ]
                )

        if count:
            run(fill())
        return name

    return make

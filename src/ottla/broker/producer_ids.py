"""Producer ids, handed out from blocks that the controller allots (KIP-730): one trip to the controller per thousand.

Ids of a block that was not used up when the broker stops are lost, never handed out twice.
"""

import asyncio
from collections.abc import Awaitable, Callable

from ottla.metadata.controller.producer_ids import ProducerIdBlock
from ottla.wire.errors import ErrorCode, KafkaError


class ProducerIds:
    """``allocate`` asks the controller for the next block; only one question is under way at a time."""

    def __init__(self, allocate: Callable[[], Awaitable[ProducerIdBlock]]) -> None:
        self._allocate = allocate
        self._next = 0
        self._end = 0
        self._refill = asyncio.Lock()

    async def next(self) -> int:
        """An id that nobody else gets. Raises what ``allocate`` raises."""
        while True:
            await self.refill()
            if self._next < self._end:
                return self.take()

    def take(self) -> int:
        """The same for those who cannot wait. Raises COORDINATOR_LOAD_IN_PROGRESS where the block is used up."""
        if self._next >= self._end:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "no producer id is at hand")
        self._next += 1
        return self._next - 1

    async def refill(self) -> None:
        """See to it that there is an id to take. Raises what ``allocate`` raises."""
        if self._next < self._end:
            return
        async with self._refill:
            if self._next >= self._end:
                block = await self._allocate()
                self._next, self._end = block.first, block.first + block.length

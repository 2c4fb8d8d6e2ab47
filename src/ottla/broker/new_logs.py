"""New partitions: their directories and names are synced before a first record has to wait for that.

A partition is durable with its first flush, which syncs four names besides the record. Nobody waits for them here, one
log after the other, while the disk has little else to do. The logs of coordinators get some room ahead on this occasion
(``storage.fill_ahead``): whoever joins a group waits for the first flush of one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from ottla.model.internal_topics import INTERNAL_TOPICS
from ottla.storage.log import Log
from ottla.wire.errors import KafkaError

BEGIN_SECONDS: Final = 0.02
"""Whoever creates a topic may be about to write to it."""
PAUSE_SECONDS: Final = 0.001
"""Between two logs."""


class NewLogs:
    """Those that are waiting. Belongs to the loop; ``run`` is its task."""

    def __init__(self, settle: Callable[[Log], Awaitable[None]]) -> None:
        self._settle = settle
        self._waiting: deque[Log] = deque()
        self._come = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, log: Log) -> None:
        self._waiting.append(log)
        self._come.set()

    async def run(self) -> None:
        while True:
            await self._come.wait()
            await asyncio.sleep(BEGIN_SECONDS)
            while self._waiting:
                log = self._waiting.popleft()
                if log.topic_partition.topic in INTERNAL_TOPICS and not log.log_end_offset:
                    log.fill_ahead.begin(log.active_segment, log.config.segment_bytes)
                try:
                    await self._settle(log)
                except KafkaError:
                    # Its directory is offline, which is dealt with.
                    continue
                await asyncio.sleep(PAUSE_SECONDS)
            self._come.clear()

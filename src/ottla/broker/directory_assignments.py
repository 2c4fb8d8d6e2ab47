"""Tells the controller which log directory holds which replica, where its metadata says otherwise (KIP-858).

Owns the reports that have no answer yet. All that comes while a request is on its way goes out with the next; of two
reports of a replica the later one counts. A controller that cannot be reached is asked again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ottla.metadata.controller.directories import DirectoryAssignment
from ottla.model import Uuid
from ottla.runtime.supervisor import Supervisor
from ottla.runtime.telemetry import get_logger
from ottla.wire.errors import ErrorCode, KafkaError

log = get_logger(__name__)

RETRY_SECONDS: Final = 0.5
ASSIGNMENTS_MAX: Final = 2000
"""Replicas in one request, as in Kafka."""

Assign = Callable[[Sequence[DirectoryAssignment]], Awaitable[list[ErrorCode]]]


class DirectoryAssignments:
    """One request at a time. ``assign`` raises ``KafkaError`` where the controller could not be asked."""

    def __init__(self, *, assign: Assign, supervisor: Supervisor) -> None:
        self._assign = assign
        self._supervisor = supervisor
        self._waiting: dict[tuple[Uuid, int], DirectoryAssignment] = {}
        self._sending = False

    def report(self, topic_id: Uuid, partition: int, directory_id: Uuid) -> None:
        self._waiting[topic_id, partition] = DirectoryAssignment(
            topic_id=topic_id, partition=partition, directory_id=directory_id
        )
        if not self._sending:
            self._sending = True
            self._supervisor.spawn(self._send(), "directory assignments")

    async def _send(self) -> None:
        try:
            while self._waiting:
                asked = [self._waiting.pop(key) for key in list(self._waiting)[:ASSIGNMENTS_MAX]]
                try:
                    outcomes = await self._assign(asked)
                except KafkaError as error:
                    log.warning("directory assignments put off", count=len(asked), reason=error)
                    await asyncio.sleep(RETRY_SECONDS)
                    for assignment in asked:
                        self._waiting.setdefault((assignment.topic_id, assignment.partition), assignment)
                    continue
                for assignment, outcome in zip(asked, outcomes, strict=True):
                    if outcome is not ErrorCode.NONE:
                        log.info("directory assignment refused", assignment=assignment, reason=outcome.name)
        finally:
            self._sending = False

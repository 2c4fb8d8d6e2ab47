"""Carries what leaders propose (who is in sync, that a recovery is over) to the controller: AlterPartition.

Owns the proposals that have no answer yet. All that is proposed while a request is on its way goes out with the next,
so that a node that leads a thousand partitions after a crash asks once or twice. What the controller decides comes back
as metadata; a refusal takes the proposal back, and a controller that cannot be reached is asked again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ottla.broker.partition import Partition
from ottla.metadata.controller.isr import IsrOutcome, IsrProposal
from ottla.model import TopicPartition
from ottla.replication.leader import IsrChange, LeaderRecoveryState
from ottla.runtime.supervisor import Supervisor
from ottla.runtime.telemetry import get_logger
from ottla.wire.errors import ErrorCode, KafkaError

log = get_logger(__name__)

RETRY_SECONDS: Final = 0.5

Alter = Callable[[Sequence[IsrProposal]], Awaitable[list[IsrOutcome]]]


class IsrProposals:
    """One request at a time. ``alter`` raises ``KafkaError`` where the controller could not be asked."""

    def __init__(self, *, alter: Alter, supervisor: Supervisor) -> None:
        self._alter = alter
        self._supervisor = supervisor
        self._waiting: dict[TopicPartition, tuple[Partition, IsrChange]] = {}
        self._sending = False

    def propose(self, partition: Partition, change: IsrChange) -> None:
        self._waiting[partition.topic_partition] = (partition, change)
        if not self._sending:
            self._sending = True
            self._supervisor.spawn(self._send(), "ISR proposals")

    async def _send(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = tuple(self._waiting.values()), {}
                try:
                    outcomes = await self._alter([proposal_of(partition, change) for partition, change in asked])
                except KafkaError as error:
                    log.warning("proposals put off", count=len(asked), reason=error)
                    await asyncio.sleep(RETRY_SECONDS)
                    self._put_back(asked)
                    continue
                for (partition, change), outcome in zip(asked, outcomes, strict=True):
                    if outcome.error is not ErrorCode.NONE:
                        log.info("proposal refused", partition=partition.topic_partition, reason=outcome.error.name)
                        partition.drop_proposal(change)
        finally:
            self._sending = False

    def _put_back(self, asked: Sequence[tuple[Partition, IsrChange]]) -> None:
        """To be sent again, but for what a newer proposal or newer metadata has overtaken."""
        for partition, change in asked:
            if partition.waits_for(change):
                self._waiting.setdefault(partition.topic_partition, (partition, change))


def proposal_of(partition: Partition, change: IsrChange) -> IsrProposal:
    return IsrProposal(
        topic_id=partition.topic_id,
        partition=partition.topic_partition.partition,
        leader_epoch=change.leader_epoch,
        partition_epoch=change.partition_epoch,
        new_isr=tuple(zip(change.isr, change.broker_epochs, strict=True)),
        recovering=change.leader_recovery_state is LeaderRecoveryState.RECOVERING,
    )

"""Asking the transaction coordinator before a transaction's first records are appended (KIP-890).

Clients below transaction version 2 have added the partition themselves, and the coordinator is asked whether that is
so. For clients of version 2 the same question adds it. Which of the two, and in which words a refusal is told, follows
from the version of the request: ``Asking``.
"""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum

from msgspec import Struct

from ottla.broker.transaction_coordinator import TransactionCoordinator
from ottla.model import TopicPartition
from ottla.transactions.commands import AddPartitions
from ottla.transactions.transaction import FIRST_VERSION_WITH_EPOCH_BUMP
from ottla.wire.errors import ErrorCode, KafkaError

Refusals = dict[TopicPartition, ErrorCode]


class Asking(Enum):
    """What the client understands: nothing but the old errors, TRANSACTION_ABORTABLE, or all of version 2."""

    OLD_ERRORS = "old errors"
    ABORTABLE_ERROR = "abortable error"
    ADDING = "adding"

    @property
    def adds_partition(self) -> bool:
        return self is Asking.ADDING

    @classmethod
    def of_produce(cls, api_version: int) -> "Asking":
        return _asking(api_version, abortable_from=11, adding_from=12)

    @classmethod
    def of_txn_offset_commit(cls, api_version: int) -> "Asking":
        return _asking(api_version, abortable_from=4, adding_from=5)


class TransactionVerification(Struct, frozen=True, kw_only=True):
    """Puts the question, and waits ``seconds_max`` for its answer.

    ``enabled`` says whether anybody is asked about clients that add partitions themselves.
    """

    coordinator: TransactionCoordinator
    enabled: Callable[[], bool]
    seconds_max: float

    def is_needed(self, asking: Asking) -> bool:
        return asking.adds_partition or self.enabled()

    async def ask(
        self, transactional_id: str, producer: tuple[int, int], partitions: Sequence[TopicPartition], asking: Asking
    ) -> Refusals:
        """The partitions that may not be written to, and why; ``producer`` is id and epoch."""
        command = AddPartitions(
            transactional_id=transactional_id,
            producer_id=producer[0],
            producer_epoch=producer[1],
            partitions=tuple(partitions),
            client_version=FIRST_VERSION_WITH_EPOCH_BUMP,
        )
        try:
            async with asyncio.timeout(self.seconds_max):
                if asking.adds_partition:
                    await self.coordinator.ask_patiently(
                        transactional_id, lambda shard, now_ms, _token: shard.add_partitions(command, now_ms)
                    )
                    return {}
                found = await self.coordinator.ask(
                    transactional_id, lambda shard, _now_ms, _token: shard.verify_partitions(command)
                )
        except TimeoutError:
            found = dict.fromkeys(partitions, ErrorCode.NETWORK_EXCEPTION)
        except KafkaError as error:
            found = dict.fromkeys(partitions, error.code)
        return {key: _in_words_of(asking, code) for key, code in found.items() if code is not ErrorCode.NONE}


def _asking(api_version: int, *, abortable_from: int, adding_from: int) -> Asking:
    if api_version >= adding_from:
        return Asking.ADDING
    return Asking.ABORTABLE_ERROR if api_version >= abortable_from else Asking.OLD_ERRORS


def _in_words_of(asking: Asking, code: ErrorCode) -> ErrorCode:
    if code is ErrorCode.PRODUCER_FENCED:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    if code is ErrorCode.TRANSACTION_ABORTABLE and asking is Asking.OLD_ERRORS:
        return ErrorCode.INVALID_TXN_STATE
    return code

"""What a transaction shard is asked and what it answers: one value per command, free of wire versions.

``client_version`` is the transaction version the client speaks, not the cluster's: 2 where its requests know the epoch
that comes with every transaction, else 0.
"""

from msgspec import Struct

from ottla.model import TopicPartition
from ottla.records.batch import NO_PRODUCER_EPOCH, NO_PRODUCER_ID
from ottla.transactions.transaction import Transaction, TransactionState
from ottla.wire.errors import ErrorCode


class ProducerIdAndEpoch(Struct, frozen=True, kw_only=True):
    producer_id: int
    producer_epoch: int


class InitProducerId(Struct, frozen=True, kw_only=True):
    """``expected`` is who the producer believes to be; ``None`` takes the id over from whoever has it."""

    transactional_id: str
    timeout_ms: int
    expected: ProducerIdAndEpoch | None = None


class AddPartitions(Struct, frozen=True, kw_only=True):
    transactional_id: str
    producer_id: int
    producer_epoch: int
    partitions: tuple[TopicPartition, ...]
    client_version: int = 0


class EndTransaction(Struct, frozen=True, kw_only=True):
    transactional_id: str
    producer_id: int
    producer_epoch: int
    commit: bool
    client_version: int = 0


class ProducerResult(Struct, frozen=True, kw_only=True):
    """Who the producer is from now on. With an error that came of a write, nobody."""

    error: ErrorCode = ErrorCode.NONE
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH


class TransactionFilter(Struct, frozen=True, kw_only=True):
    """Which transactions to list; empty lets everything through. A duration of -1 asks for none."""

    states: frozenset[TransactionState] | None = None
    producer_ids: frozenset[int] = frozenset()
    duration_ms: int = -1

    def accepts(self, transaction: Transaction, now_ms: int) -> bool:
        if self.producer_ids and transaction.producer_id not in self.producer_ids:
            return False
        if self.states is not None and transaction.state not in self.states:
            return False
        return self.duration_ms < 0 or now_ms - transaction.started_ms > self.duration_ms

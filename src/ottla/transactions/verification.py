"""What a partition knows of transactions that are about to write to it: the guards of KIP-890.

Before a producer's first record of a transaction is appended, the transaction coordinator is asked whether the
partition takes part in it. A ``Guard`` stands for that question: it is made before asking, and what is appended must
bring it. Everything transactional that reaches the log meanwhile, a marker above all, makes it worthless: the answer
may be about a transaction that is over. A client of transaction version 2 has the partition added by the same question,
and may ask for its next transaction before the marker of the last one is here; that marker leaves its guard alone.
"""

from typing import NamedTuple

from ottla.records.batch import NO_SEQUENCE, BatchHeader
from ottla.transactions.producer_state import ProducerStateTable
from ottla.wire.errors import ErrorCode, KafkaError


class Asker(NamedTuple):
    """Whose first batch of a transaction waits, and its sequence; -1 for coordinators, who number nothing."""

    producer_id: int
    producer_epoch: int
    sequence: int = NO_SEQUENCE


class Guard:
    """One question under way; ``lowest_sequence`` is that of the first batch that waits for its answer."""

    __slots__ = ("adds_partition", "lowest_sequence", "made_ms", "producer_epoch")

    def __init__(self, producer_epoch: int, sequence: int, now_ms: int, *, adds_partition: bool) -> None:
        self.producer_epoch = producer_epoch
        self.lowest_sequence = sequence
        self.made_ms = now_ms
        self.adds_partition = adds_partition

    def see(self, producer_epoch: int, sequence: int) -> None:
        """Another batch waits for the same answer."""
        if producer_epoch > self.producer_epoch:
            self.producer_epoch, self.lowest_sequence = producer_epoch, sequence
        elif producer_epoch == self.producer_epoch and sequence < self.lowest_sequence:
            self.lowest_sequence = sequence


class Verifications:
    """The guards of one partition, by producer id."""

    __slots__ = ("_guards",)

    def __init__(self) -> None:
        self._guards: dict[int, Guard] = {}

    def __len__(self) -> int:
        return len(self._guards)

    def start(self, producers: ProducerStateTable, asker: Asker, now_ms: int, *, adds_partition: bool) -> Guard | None:
        """The guard to ask with; ``None`` where the transaction has written here already and nothing need be asked.

        Raises ``KafkaError(INVALID_PRODUCER_EPOCH)``.
        """
        producer_id, epoch, sequence = asker
        producers.check_epoch(producer_id, epoch)
        if producers.has_open_transaction(producer_id, epoch):
            return None
        guard = self._guards.get(producer_id)
        if guard is None:
            guard = self._guards[producer_id] = Guard(epoch, sequence, now_ms, adds_partition=adds_partition)
        guard.see(epoch, sequence)
        return guard

    def check(self, producers: ProducerStateTable, header: BatchHeader, guard: Guard | None, *, required: bool) -> None:
        """May this transactional batch be appended, as far as the coordinator was asked?

        Raises ``KafkaError``: INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE.
        """
        producer_id = header.producer_id
        if producers.has_open_transaction(producer_id, header.producer_epoch):
            return
        producers.check_epoch(producer_id, header.producer_epoch)
        if required and (guard is None or self._guards.get(producer_id) is not guard):
            raise KafkaError(ErrorCode.INVALID_TXN_STATE, "Record was not part of an ongoing transaction")

    def check_sequence(self, producers: ProducerStateTable, header: BatchHeader) -> None:
        """A batch must not overtake the one before it while both wait. Raises OUT_OF_ORDER_SEQUENCE_NUMBER."""
        guard = self._guards.get(header.producer_id)
        if guard is None:
            return
        sequence = header.base_sequence
        state = producers.get(header.producer_id)
        if guard.adds_partition and sequence != 0 and (state is None or not state.batches):
            raise KafkaError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"Invalid sequence number for producer {header.producer_id}: {sequence} (incoming seq. number). "
                "Expected sequence 0 for a producer without state in a transaction of version 2",
            )
        if sequence > guard.lowest_sequence:
            raise KafkaError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"Out of order sequence number for producer {header.producer_id}: {sequence} (incoming seq. number), "
                f"{guard.lowest_sequence} (earliest seen sequence)",
            )

    def record(self, header: BatchHeader) -> None:
        """A batch was appended; only transactional ones, markers or data, mean anything here."""
        guard = self._guards.get(header.producer_id)
        if guard is None or not header.is_transactional:
            return
        belongs_to_next = guard.adds_partition and header.is_control and header.producer_epoch == guard.producer_epoch
        if not belongs_to_next:
            del self._guards[header.producer_id]

    def expire(self, now_ms: int, after_ms: int) -> None:
        """Drop guards whose question came to nothing."""
        for producer_id in [known for known, guard in self._guards.items() if now_ms - guard.made_ms >= after_ms]:
            del self._guards[producer_id]

    def clear(self) -> None:
        self._guards.clear()

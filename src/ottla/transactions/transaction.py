"""One transactional id: who owns it, what its transaction is doing, and the moves it may make.

Follows KIP-98 and, from transaction version 2 on, KIP-890: there every end of a transaction raises the producer's
epoch, so a request that comes late carries an epoch nobody accepts any more. A ``Transaction`` is a value; each move
returns the next one, which the coordinator writes to its log before anybody is told.

Invariants: only the moves of ``_COMES_FROM`` happen; the epoch never falls while the producer id stays; the highest
epoch is never given to a client, so there is always one left to fence it with.
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from ottla.model import TopicPartition
from ottla.records.batch import NO_PRODUCER_EPOCH, NO_PRODUCER_ID

EPOCH_MAX: Final = 2**15 - 1
LAST_CLIENT_EPOCH: Final = EPOCH_MAX - 1
NOT_STARTED: Final = -1
NO_TIMEOUT_MS: Final = 2**31 - 1
"""Of a transaction that takes part in a two-phase commit: somebody else decides when it ends."""
FIRST_VERSION_WITH_EPOCH_BUMP: Final = 2


class TransactionState(IntEnum):
    """Numbered as in the log; ``display`` is what the admin APIs show."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7

    @property
    def display(self) -> str:
        return _DISPLAY[self]


_DISPLAY: Final = {state: state.name.title().replace("_", "") for state in TransactionState}
STATES_BY_DISPLAY: Final[Mapping[str, TransactionState]] = {name: state for state, name in _DISPLAY.items()}

PREPARED: Final = frozenset((TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT))
COMPLETE: Final = frozenset((TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT))
IDLE: Final = COMPLETE | {TransactionState.EMPTY}
OPEN: Final = frozenset((TransactionState.ONGOING, TransactionState.PREPARE_EPOCH_FENCE))
"""A log may hold PREPARE_EPOCH_FENCE though nobody writes it: such a transaction is open, and can only be aborted."""

_COMES_FROM: Final[Mapping[TransactionState, frozenset[TransactionState]]] = {
    TransactionState.EMPTY: IDLE,
    TransactionState.ONGOING: IDLE | {TransactionState.ONGOING},
    TransactionState.PREPARE_COMMIT: frozenset((TransactionState.ONGOING,)),
    TransactionState.PREPARE_ABORT: OPEN | IDLE,
    TransactionState.COMPLETE_COMMIT: frozenset((TransactionState.PREPARE_COMMIT,)),
    TransactionState.COMPLETE_ABORT: frozenset((TransactionState.PREPARE_ABORT,)),
}


class Transaction(Struct, frozen=True, kw_only=True):
    """A transactional id as it stands in the log. Times are wall-clock milliseconds; -1 stands for none.

    ``next_producer_id`` is set while a transaction ends with the last epoch of its producer id: the id the producer
    goes on with. ``last_producer_epoch`` is not stored: a retry across a restart is fenced, as in Apache Kafka.
    """

    transactional_id: str
    producer_id: int
    producer_epoch: int
    timeout_ms: int
    state: TransactionState
    updated_ms: int
    started_ms: int = NOT_STARTED
    partitions: tuple[TopicPartition, ...] = ()
    last_producer_epoch: int = NO_PRODUCER_EPOCH
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    next_producer_epoch: int = NO_PRODUCER_EPOCH
    client_version: int = 0

    @property
    def is_epoch_exhausted(self) -> bool:
        return self.producer_epoch >= LAST_CLIENT_EPOCH

    @property
    def bumps_epoch(self) -> bool:
        """Whether the client that moved it last gets a new epoch with every transaction."""
        return self.client_version >= FIRST_VERSION_WITH_EPOCH_BUMP

    @property
    def commits(self) -> bool:
        return self.state in (TransactionState.PREPARE_COMMIT, TransactionState.COMPLETE_COMMIT)

    # -- moves -------------------------------------------------------------------------------------------------------

    def bump_epoch(self, now_ms: int, timeout_ms: int, *, last_epoch: int) -> "Transaction":
        """A producer takes the id over: the next epoch, nothing open."""
        assert not self.is_epoch_exhausted
        return self._begin_anew(now_ms, timeout_ms, self.producer_id, self.producer_epoch + 1, last_epoch)

    def repeat_epoch(self, now_ms: int, timeout_ms: int) -> "Transaction":
        """The same producer asks again, because it did not hear the answer."""
        return self._begin_anew(now_ms, timeout_ms, self.producer_id, self.producer_epoch, self.last_producer_epoch)

    def rotate(self, now_ms: int, timeout_ms: int, producer_id: int, *, last_epoch: int) -> "Transaction":
        """The epochs of the producer id are used up: go on with another id from epoch 0."""
        return self._begin_anew(now_ms, timeout_ms, producer_id, 0, last_epoch)

    def add(self, partitions: Iterable[TopicPartition], now_ms: int, client_version: int) -> "Transaction":
        """These partitions take part; the first ones start the transaction."""
        started_ms = now_ms if self.state in IDLE else self.started_ms
        return self._move(
            TransactionState.ONGOING,
            now_ms,
            partitions=tuple(dict.fromkeys((*self.partitions, *partitions))),
            started_ms=started_ms,
            client_version=client_version,
        )

    def prepare(
        self, now_ms: int, *, commit: bool, client_version: int, next_producer_id: int = NO_PRODUCER_ID
    ) -> "Transaction":
        """It is decided how the transaction ends; from version 2 on the epoch rises with that."""
        state = TransactionState.PREPARE_COMMIT if commit else TransactionState.PREPARE_ABORT
        epoch, last_epoch = self.producer_epoch, self.last_producer_epoch
        if client_version >= FIRST_VERSION_WITH_EPOCH_BUMP:
            epoch, last_epoch = min(epoch + 1, EPOCH_MAX), epoch
        return self._move(
            state,
            now_ms,
            producer_epoch=epoch,
            last_producer_epoch=last_epoch,
            started_ms=now_ms if self.state in IDLE else self.started_ms,
            next_producer_id=next_producer_id,
            client_version=client_version,
        )

    def fence(self, now_ms: int, *, version: int, next_producer_id: int = NO_PRODUCER_ID) -> "Transaction":
        """Abort against the will of its producer, whose epoch is spent with that."""
        if version >= FIRST_VERSION_WITH_EPOCH_BUMP:
            return self.prepare(now_ms, commit=False, client_version=version, next_producer_id=next_producer_id)
        fenced = replace(
            self, producer_epoch=min(self.producer_epoch + 1, EPOCH_MAX), last_producer_epoch=NO_PRODUCER_EPOCH
        )
        return fenced.prepare(now_ms, commit=False, client_version=0)

    def complete(self, now_ms: int) -> "Transaction":
        """Every partition has its marker."""
        state = TransactionState.COMPLETE_COMMIT if self.commits else TransactionState.COMPLETE_ABORT
        rotates = self.bumps_epoch and self.next_producer_id != NO_PRODUCER_ID
        return self._move(
            state,
            now_ms,
            producer_id=self.next_producer_id if rotates else self.producer_id,
            producer_epoch=0 if rotates else self.producer_epoch,
            next_producer_id=NO_PRODUCER_ID,
            partitions=(),
        )

    def _begin_anew(
        self, now_ms: int, timeout_ms: int, producer_id: int, producer_epoch: int, last_epoch: int
    ) -> "Transaction":
        return self._move(
            TransactionState.EMPTY,
            now_ms,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            last_producer_epoch=last_epoch,
            timeout_ms=timeout_ms,
            started_ms=NOT_STARTED,
            partitions=(),
        )

    def _move(self, state: TransactionState, now_ms: int, **changes: Any) -> "Transaction":
        assert self.state in _COMES_FROM[state], (self.state, state)
        return replace(
            self,
            state=state,
            updated_ms=now_ms,
            previous_producer_id=self.producer_id,
            next_producer_epoch=NO_PRODUCER_EPOCH,
            **changes,
        )


def new_transaction(transactional_id: str, producer_id: int, now_ms: int) -> Transaction:
    """A transactional id nobody has used: its first producer gets epoch 0 by the same move as any later one."""
    return Transaction(
        transactional_id=transactional_id,
        producer_id=producer_id,
        producer_epoch=NO_PRODUCER_EPOCH,
        timeout_ms=0,
        state=TransactionState.EMPTY,
        updated_ms=now_ms,
    )

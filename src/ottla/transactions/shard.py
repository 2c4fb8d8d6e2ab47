"""The replicated machine of one ``__transaction_state`` partition: its transactional ids and what each is doing.

Commands decide and hand out records and answers; ``apply`` folds what was written. Where a transaction is decided
(PrepareCommit, PrepareAbort) somebody outside writes the markers once the record is committed, and then says so by
``complete``; ``prepared`` is what is left to do after a replay. There is no soft state but two times.

Errors follow Kafka 4.3.1. Where Kafka answers CONCURRENT_TRANSACTIONS because a write is still under way, the next
command simply sees what was written; its answer waits for the log like any other.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from ottla.model import Decision
from ottla.records.batch import NO_PRODUCER_EPOCH, NO_PRODUCER_ID
from ottla.transactions.commands import (
    AddPartitions,
    EndTransaction,
    InitProducerId,
    ProducerIdAndEpoch,
    ProducerResult,
    TransactionFilter,
)
from ottla.transactions.records import TransactionRecord
from ottla.transactions.settings import TransactionSettings
from ottla.transactions.transaction import (
    COMPLETE,
    FIRST_VERSION_WITH_EPOCH_BUMP,
    IDLE,
    LAST_CLIENT_EPOCH,
    NO_TIMEOUT_MS,
    OPEN,
    PREPARED,
    Transaction,
    TransactionState,
    new_transaction,
)
from ottla.wire.errors import ErrorCode, KafkaError

TransactionDecision: TypeAlias = Decision[TransactionRecord, object]


class TransactionShard:
    """Everything one coordinator partition knows. Not usable before ``on_loaded``.

    ``next_producer_id`` hands out an id that nobody else gets, or raises ``KafkaError`` where there is none at hand.
    """

    __slots__ = ("_next_abort_ms", "_next_expiry_ms", "_next_producer_id", "_open", "_settings", "_transactions")

    def __init__(self, *, settings: TransactionSettings, next_producer_id: Callable[[], int]) -> None:
        self._settings = settings
        self._next_producer_id = next_producer_id
        self._transactions: dict[str, Transaction] = {}
        self._open: dict[str, None] = {}
        self._next_abort_ms = 0
        self._next_expiry_ms = 0

    def reconfigure(self, settings: TransactionSettings) -> None:
        """Obey other limits and times from the next command on."""
        self._settings = settings

    # -- commands of producers

    def init_producer_id(self, command: InitProducerId, now_ms: int) -> TransactionDecision:
        """Answers with a ``ProducerResult``. An open transaction is aborted, and the caller told to come again."""
        if not command.transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        self._settings.check_timeout(command.timeout_ms)
        known = self._transactions.get(command.transactional_id)
        if known is None:
            known = new_transaction(command.transactional_id, self._next_producer_id(), now_ms)
        _require_settled(known)
        if not _may_be(command.expected, known):
            raise KafkaError(ErrorCode.PRODUCER_FENCED)
        if known.state in OPEN:
            return _write(self._fence(known, now_ms), ProducerResult(error=ErrorCode.CONCURRENT_TRANSACTIONS))
        taken = self._take_over(known, command, now_ms)
        return _write(taken, ProducerResult(producer_id=taken.producer_id, producer_epoch=taken.producer_epoch))

    def add_partitions(self, command: AddPartitions, now_ms: int) -> TransactionDecision:
        """Answers with ``ErrorCode.NONE``: the partitions belong to the transaction, which begins with its first."""
        known = self._existing(command.transactional_id)
        _require_settled(known)
        _check_owner(known, command)
        self._check_client(command)
        if known.state is TransactionState.PREPARE_EPOCH_FENCE:
            raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
        if known.state is TransactionState.ONGOING and set(command.partitions) <= set(known.partitions):
            return Decision(response=ErrorCode.NONE)
        return _write(known.add(command.partitions, now_ms, command.client_version), ErrorCode.NONE)

    def verify_partitions(self, command: AddPartitions) -> TransactionDecision:
        """Answers with an ``ErrorCode`` for each partition: whether it belongs to the transaction already."""
        known = self._existing(command.transactional_id)
        _check_owner(known, command)
        _require_settled(known)
        return Decision(
            response={
                partition: ErrorCode.NONE if partition in known.partitions else ErrorCode.TRANSACTION_ABORTABLE
                for partition in command.partitions
            }
        )

    def end_transaction(self, command: EndTransaction, now_ms: int) -> TransactionDecision:
        """Answers with a ``ProducerResult``; who the producer is from now on is told only to clients of version 2."""
        known = self._existing(command.transactional_id)
        _require_settled(known)
        self._check_client(command)
        if command.client_version < FIRST_VERSION_WITH_EPOCH_BUMP:
            return self._end_once(known, command, now_ms)
        return self._end_and_bump(known, command, now_ms)

    def complete(self, prepared: Transaction, now_ms: int) -> TransactionDecision:
        """All markers of ``prepared`` are in. Answers whether that was news."""
        known = self._transactions.get(prepared.transactional_id)
        if known is None or known.state is not prepared.state or _identity(known) != _identity(prepared):
            return Decision(response=False)
        return _write(known.complete(now_ms), response=True)

    # -- questions

    def prepared(self) -> TransactionDecision:
        """Answers with the transactions whose markers may be missing."""
        return Decision(response=[known for known in self._transactions.values() if known.state in PREPARED])

    def describe(self, transactional_id: str) -> TransactionDecision:
        """Answers with a ``Transaction``."""
        if not transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        known = self._transactions.get(transactional_id)
        if known is None:
            raise KafkaError(ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)
        return Decision(response=known)

    def list_transactions(self, wanted: TransactionFilter, now_ms: int) -> TransactionDecision:
        """Answers with a list of ``Transaction``."""
        return Decision(response=[known for known in self._transactions.values() if wanted.accepts(known, now_ms)])

    # -- time

    def next_deadline(self) -> int | None:
        if self._open:
            return min(self._next_abort_ms, self._next_expiry_ms)
        return self._next_expiry_ms

    def on_deadline(self, now_ms: int) -> TransactionDecision:
        """Abort what ran out of time, forget ids that nobody used for long: each in its own interval."""
        records: list[TransactionRecord] = []
        if now_ms >= self._next_abort_ms:
            self._next_abort_ms = now_ms + self._settings.abort_interval_ms
            records += self._abort_timed_out(now_ms)
        if now_ms >= self._next_expiry_ms:
            self._next_expiry_ms = now_ms + self._settings.expiration_interval_ms
            oldest_ms = now_ms - self._settings.id_expiration_ms
            records += [
                TransactionRecord(known.transactional_id, None)
                for known in self._transactions.values()
                if known.state in IDLE and known.updated_ms <= oldest_ms
            ]
        return Decision(records=tuple(records), atomic=False)

    def _abort_timed_out(self, now_ms: int) -> Iterable[TransactionRecord]:
        for transactional_id in self._open:
            known = self._transactions[transactional_id]
            if known.timeout_ms == NO_TIMEOUT_MS or known.started_ms + known.timeout_ms >= now_ms:
                continue
            try:
                aborted = self._fence(known, now_ms)
            except KafkaError:
                continue  # no producer id at hand to go on with: the next round finds it again
            yield TransactionRecord(transactional_id, aborted)

    # -- the log

    def apply(self, record: TransactionRecord, offset: int) -> None:
        transactional_id, value = record
        self._open.pop(transactional_id, None)
        if value is None or value.state is TransactionState.DEAD:
            self._transactions.pop(transactional_id, None)
            return
        self._transactions[transactional_id] = value
        if value.state in OPEN:
            self._open[transactional_id] = None

    def on_loaded(self, now_ms: int) -> TransactionDecision:
        """The log has been replayed: commands may come."""
        self._next_abort_ms = now_ms + self._settings.abort_interval_ms
        self._next_expiry_ms = now_ms + self._settings.expiration_interval_ms
        return Decision()

    def on_append_failed(self, records: Iterable[TransactionRecord], now_ms: int) -> TransactionDecision:
        """Nothing was changed while deciding, so nothing has to be taken back."""
        return Decision()

    # -- below

    def _existing(self, transactional_id: str) -> Transaction:
        if not transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        known = self._transactions.get(transactional_id)
        if known is None:
            raise KafkaError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        return known

    def _check_client(self, command: AddPartitions | EndTransaction) -> None:
        """A client of version 2 that did not look at the cluster's: its transaction does not fit into old records."""
        if command.client_version >= FIRST_VERSION_WITH_EPOCH_BUMP and self._settings.transaction_version == 0:
            raise KafkaError(ErrorCode.UNSUPPORTED_VERSION)

    def _take_over(self, known: Transaction, command: InitProducerId, now_ms: int) -> Transaction:
        expected, timeout_ms = command.expected, command.timeout_ms
        if known.is_epoch_exhausted and (expected is None or expected.producer_epoch == known.producer_epoch):
            last_epoch = NO_PRODUCER_EPOCH if expected is None else known.producer_epoch
            return known.rotate(now_ms, timeout_ms, self._next_producer_id(), last_epoch=last_epoch)
        if known.is_epoch_exhausted:
            raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, "no epoch is left for another producer of this id")
        if expected is None:
            return known.bump_epoch(now_ms, timeout_ms, last_epoch=NO_PRODUCER_EPOCH)
        if known.producer_epoch in (NO_PRODUCER_EPOCH, expected.producer_epoch):
            return known.bump_epoch(now_ms, timeout_ms, last_epoch=known.producer_epoch)
        if expected.producer_epoch == known.last_producer_epoch:
            return known.repeat_epoch(now_ms, timeout_ms)
        raise KafkaError(ErrorCode.PRODUCER_FENCED)

    def _fence(self, known: Transaction, now_ms: int) -> Transaction:
        version = self._settings.transaction_version
        next_producer_id = self._id_to_go_on_with(known) if version >= FIRST_VERSION_WITH_EPOCH_BUMP else NO_PRODUCER_ID
        return known.fence(now_ms, version=version, next_producer_id=next_producer_id)

    def _id_to_go_on_with(self, known: Transaction) -> int:
        return self._next_producer_id() if known.is_epoch_exhausted else NO_PRODUCER_ID

    def _end_once(self, known: Transaction, command: EndTransaction, now_ms: int) -> TransactionDecision:
        """Clients below version 2: the epoch stays, and the same request again is a retry."""
        _check_owner(known, command)
        if known.state is TransactionState.ONGOING:
            return _write(known.prepare(now_ms, commit=command.commit, client_version=0), ProducerResult())
        if known.state in COMPLETE and known.commits is command.commit:
            return Decision(response=ProducerResult())
        raise _invalid_state(known, command)

    def _end_and_bump(self, known: Transaction, command: EndTransaction, now_ms: int) -> TransactionDecision:
        """Clients of version 2: a retry brings the epoch before the present one; the present one means another end."""
        rotated = (
            known.previous_producer_id == command.producer_id
            and command.producer_epoch == LAST_CLIENT_EPOCH
            and known.producer_epoch == 0
        )
        if known.producer_id != command.producer_id and not rotated:
            raise KafkaError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        bumped = known.producer_epoch == command.producer_epoch + 1
        if known.state in COMPLETE and (bumped or rotated):
            if known.commits is not command.commit:
                raise _invalid_state(known, command)
            return Decision(response=_identity(known))
        if known.producer_epoch != command.producer_epoch:
            raise KafkaError(ErrorCode.PRODUCER_FENCED)
        if command.commit and known.state is not TransactionState.ONGOING:
            raise _invalid_state(known, command)
        ended = known.prepare(
            now_ms,
            commit=command.commit,
            client_version=command.client_version,
            next_producer_id=self._id_to_go_on_with(known),
        )
        return _write(ended, _identity(ended.complete(now_ms)))


def _require_settled(known: Transaction) -> None:
    """While markers are being written nothing else may happen, whoever asks: the producer id may be about to change."""
    if known.state in PREPARED:
        raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)


def _check_owner(known: Transaction, command: AddPartitions | EndTransaction) -> None:
    if known.producer_id != command.producer_id:
        raise KafkaError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
    if known.producer_epoch != command.producer_epoch:
        raise KafkaError(ErrorCode.PRODUCER_FENCED)


def _may_be(expected: ProducerIdAndEpoch | None, known: Transaction) -> bool:
    """Whether who asks can be the present producer, or one that did not hear of its new id."""
    if expected is None or known.producer_epoch == NO_PRODUCER_EPOCH or expected.producer_id == known.producer_id:
        return True
    return expected.producer_id == known.previous_producer_id and expected.producer_epoch >= LAST_CLIENT_EPOCH


def _identity(known: Transaction) -> ProducerResult:
    return ProducerResult(producer_id=known.producer_id, producer_epoch=known.producer_epoch)


def _invalid_state(known: Transaction, command: EndTransaction) -> KafkaError:
    wish = "commit" if command.commit else "abort"
    return KafkaError(ErrorCode.INVALID_TXN_STATE, f"a transaction in state {known.state.display} cannot {wish}")


def _write(value: Transaction, response: object) -> TransactionDecision:
    return Decision(records=(TransactionRecord(value.transactional_id, value),), response=response)

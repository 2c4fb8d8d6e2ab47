"""The records of ``__transaction_state`` as values, and their bytes as Apache Kafka 4.3.1 writes them.

A key is ``int16 0`` and the transactional id, a value ``int16 version`` and its body, a tombstone a null value.
Version 1 (flexible; from ``transaction.version`` 1 on) also remembers the producer id before and after this one, and
which version its client spoke.
"""

import struct
from typing import Final, NamedTuple

from ottla.model import TopicPartition
from ottla.records.batch import NO_PRODUCER_EPOCH, NO_PRODUCER_ID
from ottla.transactions.transaction import Transaction, TransactionState
from ottla.wire import DecodeError, decode, encode
from ottla.wire.messages.transaction_log_key import TransactionLogKey
from ottla.wire.messages.transaction_log_value import PartitionsSchema, TransactionLogValue

_VERSION: Final = struct.Struct(">h")
_KEY_TYPE: Final = 0
_FLEXIBLE: Final = 1


class TransactionRecord(NamedTuple):
    """What became of a transactional id; ``value`` is ``None`` where it is forgotten."""

    transactional_id: str
    value: Transaction | None


def encode_record(record: TransactionRecord, transaction_version: int) -> tuple[bytes, bytes | None]:
    """Key and value bytes for a cluster of that ``transaction.version``."""
    key = _VERSION.pack(_KEY_TYPE) + encode(TransactionLogKey(transactional_id=record.transactional_id), 0)
    if record.value is None:
        return key, None
    version = min(transaction_version, _FLEXIBLE)
    return key, _VERSION.pack(version) + encode(_message(record.value, version), version)


def decode_record(key: bytes, value: bytes | None) -> TransactionRecord | None:
    """Read a record back; ``None`` for a key or value of an unknown version. Raises ``DecodeError`` on damage."""
    if _version(key) != _KEY_TYPE:
        return None
    transactional_id = decode(TransactionLogKey, memoryview(key)[_VERSION.size :], 0).transactional_id
    if value is None:
        return TransactionRecord(transactional_id, None)
    version = _version(value)
    if not TransactionLogValue.LOWEST_VERSION <= version <= TransactionLogValue.HIGHEST_VERSION:
        return None
    stored = decode(TransactionLogValue, memoryview(value)[_VERSION.size :], version)
    return TransactionRecord(transactional_id, _transaction(transactional_id, stored))


def _message(transaction: Transaction, version: int) -> TransactionLogValue:
    partitions: dict[str, list[int]] = {}
    for topic, partition in transaction.partitions:
        partitions.setdefault(topic, []).append(partition)
    message = TransactionLogValue(
        producer_id=transaction.producer_id,
        producer_epoch=transaction.producer_epoch,
        transaction_timeout_ms=transaction.timeout_ms,
        transaction_status=transaction.state,
        transaction_partitions=(
            None
            if transaction.state is TransactionState.EMPTY
            else [PartitionsSchema(topic=topic, partition_ids=ids) for topic, ids in partitions.items()]
        ),
        transaction_last_update_timestamp_ms=transaction.updated_ms,
        transaction_start_timestamp_ms=transaction.started_ms,
    )
    if version >= _FLEXIBLE:
        message.previous_producer_id = transaction.previous_producer_id
        message.next_producer_id = transaction.next_producer_id
        message.client_transaction_version = transaction.client_version
        message.next_producer_epoch = transaction.next_producer_epoch
    return message


def _transaction(transactional_id: str, stored: TransactionLogValue) -> Transaction:
    try:
        state = TransactionState(stored.transaction_status)
    except ValueError:
        raise DecodeError(f"unknown transaction status {stored.transaction_status}") from None
    if stored.producer_id <= NO_PRODUCER_ID or stored.producer_epoch <= NO_PRODUCER_EPOCH:
        raise DecodeError(f"producer {stored.producer_id} with epoch {stored.producer_epoch} cannot own a transaction")
    topics = stored.transaction_partitions or () if state is not TransactionState.EMPTY else ()
    return Transaction(
        transactional_id=transactional_id,
        producer_id=stored.producer_id,
        producer_epoch=stored.producer_epoch,
        timeout_ms=stored.transaction_timeout_ms,
        state=state,
        updated_ms=stored.transaction_last_update_timestamp_ms,
        started_ms=stored.transaction_start_timestamp_ms,
        partitions=tuple(
            dict.fromkeys(TopicPartition(topic.topic, index) for topic in topics for index in topic.partition_ids)
        ),
        previous_producer_id=stored.previous_producer_id,
        next_producer_id=stored.next_producer_id,
        next_producer_epoch=stored.next_producer_epoch,
        client_version=stored.client_transaction_version,
    )


def _version(data: bytes) -> int:
    if len(data) < _VERSION.size:
        raise DecodeError("a transaction record begins with its version")
    version: int = _VERSION.unpack_from(data)[0]
    return version

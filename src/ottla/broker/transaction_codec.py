"""The records of ``__transaction_state`` as a driver of transaction shards writes and reads them."""

from collections.abc import Callable

from ottla.transactions.records import TransactionRecord, decode_record, encode_record


class TransactionCodec:
    """``MachineCodec`` of transaction shards. The log has no transactions of its own, and so no markers."""

    __slots__ = ("_transaction_version",)

    def __init__(self, transaction_version: Callable[[], int]) -> None:
        self._transaction_version = transaction_version

    def encode(self, record: TransactionRecord, /) -> tuple[bytes, bytes | None]:
        return encode_record(record, self._transaction_version())

    def decode(self, key: bytes, value: bytes | None, producer_id: int, /) -> TransactionRecord | None:
        return decode_record(key, value)

    def decode_marker(self, producer_id: int, committed: bool, /) -> TransactionRecord | None:
        return None

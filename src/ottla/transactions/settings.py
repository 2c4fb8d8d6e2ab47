"""The limits and times a transaction shard obeys; Kafka's defaults."""

from msgspec import Struct

from ottla.wire.errors import ErrorCode, KafkaError


class TransactionSettings(Struct, frozen=True, kw_only=True):
    """``transaction.*`` and ``transactional.id.*`` of the broker, and the cluster's ``transaction.version``."""

    transaction_version: int = 2
    max_timeout_ms: int = 900_000
    abort_interval_ms: int = 10_000
    id_expiration_ms: int = 604_800_000
    expiration_interval_ms: int = 3_600_000

    def check_timeout(self, timeout_ms: int) -> None:
        """Raises ``KafkaError(INVALID_TRANSACTION_TIMEOUT)``."""
        if not 0 < timeout_ms <= self.max_timeout_ms:
            raise KafkaError(ErrorCode.INVALID_TRANSACTION_TIMEOUT)

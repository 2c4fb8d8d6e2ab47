"""What goes wrong, as a small tree: ``KafkaError`` above all, below it what a program would catch.

Each error carries Kafka's code and says what to do: ``retriable`` (the same again may help), ``abortable`` (abort the
transaction, then go on) or ``fatal`` (this client can do nothing more). What Kafka has no code for because it happens
on this side of the wire (a full buffer, a deadline) takes the code of what is nearest.
"""

from typing import Final

from ottla.wire.errors import ErrorCode, KafkaError

__all__ = [
    "AuthenticationError",
    "AuthorizationError",
    "BufferExhaustedError",
    "ClientClosedError",
    "ConfigError",
    "ErrorCode",
    "FencedError",
    "InvalidRecordError",
    "KafkaError",
    "KafkaTimeoutError",
    "RecordTooLargeError",
    "RetriableError",
    "TransactionAbortedError",
    "UnknownTopicError",
    "UnsupportedError",
    "error_of",
    "raise_for",
]


class RetriableError(KafkaError):
    """The same again may help; a client did so until its deadline."""


class UnknownTopicError(RetriableError):
    """The topic or partition does not exist, or not yet."""


class KafkaTimeoutError(RetriableError, TimeoutError):
    """A deadline passed. What was asked for may have been done."""


class BufferExhaustedError(KafkaTimeoutError):
    """No room in the producer's buffer within ``max_block_ms``: records come faster than the cluster takes them."""


class AuthenticationError(KafkaError):
    """The broker does not believe who we are."""


class AuthorizationError(KafkaError):
    """The broker knows who we are and says no."""


class FencedError(KafkaError):
    """Another client has taken this one's place: of its transactional id, its group instance, or its member epoch."""


class TransactionAbortedError(KafkaError):
    """The record's transaction was aborted before it was sent."""


class RecordTooLargeError(KafkaError):
    """A record, or a batch of them, exceeds what the client or the topic allows."""


class InvalidRecordError(KafkaError):
    """The broker refuses the record: no key on a compacted topic, a timestamp out of bounds."""


class UnsupportedError(KafkaError):
    """The broker is too old, too new, or not set up for this."""


class ClientClosedError(KafkaError):
    """The client was closed before it could be done."""


class ConfigError(ValueError):
    """A configuration nobody knows, or a value that cannot be."""


_CLASSES: Final[dict[ErrorCode, type[KafkaError]]] = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: UnknownTopicError,
    ErrorCode.UNKNOWN_TOPIC_ID: UnknownTopicError,
    ErrorCode.REQUEST_TIMED_OUT: KafkaTimeoutError,
    ErrorCode.MESSAGE_TOO_LARGE: RecordTooLargeError,
    ErrorCode.RECORD_LIST_TOO_LARGE: RecordTooLargeError,
    ErrorCode.INVALID_RECORD: InvalidRecordError,
    ErrorCode.INVALID_TIMESTAMP: InvalidRecordError,
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: AuthorizationError,
    ErrorCode.GROUP_AUTHORIZATION_FAILED: AuthorizationError,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: AuthorizationError,
    ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: AuthorizationError,
    ErrorCode.DELEGATION_TOKEN_AUTHORIZATION_FAILED: AuthorizationError,
    ErrorCode.SASL_AUTHENTICATION_FAILED: AuthenticationError,
    ErrorCode.UNSUPPORTED_SASL_MECHANISM: AuthenticationError,
    ErrorCode.ILLEGAL_SASL_STATE: AuthenticationError,
    ErrorCode.PRODUCER_FENCED: FencedError,
    ErrorCode.INVALID_PRODUCER_EPOCH: FencedError,
    ErrorCode.TRANSACTION_COORDINATOR_FENCED: FencedError,
    ErrorCode.FENCED_INSTANCE_ID: FencedError,
    ErrorCode.FENCED_MEMBER_EPOCH: FencedError,
    ErrorCode.UNSUPPORTED_VERSION: UnsupportedError,
    ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT: UnsupportedError,
    ErrorCode.UNSUPPORTED_COMPRESSION_TYPE: UnsupportedError,
}


def error_of(code: int, message: str | None = None) -> KafkaError:
    """The exception for a code from the wire, of the class that belongs to it."""
    known = ErrorCode.of(code)
    kind = _CLASSES.get(known) or (RetriableError if known.retriable else KafkaError)
    return kind(known, message)


def raise_for(code: int, message: str | None, subject: str) -> None:
    """Raise unless ``code`` is zero."""
    if code != ErrorCode.NONE:
        raise error_of(code, message or f"{subject}: {ErrorCode.of(code).description}")

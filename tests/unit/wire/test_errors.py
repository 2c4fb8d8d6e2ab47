"""Error codes as Kafka 4.3.1 numbers them."""

import pytest

from ottla.wire.errors import ErrorCode, KafkaError


def test_numbers() -> None:
    assert [code.value for code in ErrorCode] == list(range(-1, 134))
    assert ErrorCode.NOT_LEADER_OR_FOLLOWER == 6
    assert ErrorCode.SHARE_SESSION_LIMIT_REACHED == 133


def test_properties() -> None:
    assert sum(code.retriable for code in ErrorCode) == 32
    assert sum(code.stale_metadata for code in ErrorCode) == 13
    assert all(code.retriable for code in ErrorCode if code.stale_metadata)
    assert not ErrorCode.NONE.retriable
    assert ErrorCode.NOT_COORDINATOR.retriable
    assert not ErrorCode.NOT_COORDINATOR.stale_metadata
    assert not ErrorCode.REBALANCE_IN_PROGRESS.retriable


def test_numbers_of_the_future() -> None:
    assert ErrorCode.of(3) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert ErrorCode.of(9999) is ErrorCode.UNKNOWN_SERVER_ERROR


@pytest.mark.parametrize(
    ("message", "text"), [(None, "INVALID_CONFIG: invalid config"), ("a=b", "INVALID_CONFIG: a=b")]
)
def test_the_exception(message: str | None, text: str) -> None:
    error = KafkaError(ErrorCode.INVALID_CONFIG, message)
    assert (error.code, error.message, str(error)) == (ErrorCode.INVALID_CONFIG, message, text)

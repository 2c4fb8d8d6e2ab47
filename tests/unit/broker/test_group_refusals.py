"""What the members of a group are told when the log of their coordinator fails."""

from typing import Any

import pytest

from ottla.broker.context import RequestContext
from ottla.broker.handlers.heartbeat import HeartbeatHandler
from ottla.broker.handlers.join_group import JoinGroupHandler
from ottla.broker.handlers.leave_group import LeaveGroupHandler
from ottla.broker.handlers.sync_group import SyncGroupHandler
from ottla.net.deferred import Deferred
from ottla.wire.apis import API_SPECS, ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.frame import RequestHeader

HANDLERS: dict[ApiKey, Any] = {
    ApiKey.JOIN_GROUP: JoinGroupHandler,
    ApiKey.SYNC_GROUP: SyncGroupHandler,
    ApiKey.HEARTBEAT: HeartbeatHandler,
    ApiKey.LEAVE_GROUP: LeaveGroupHandler,
}
TOLD = [
    (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.COORDINATOR_NOT_AVAILABLE),
    (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
    (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.COORDINATOR_NOT_AVAILABLE),
    (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
    (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_COORDINATOR),
    (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNKNOWN_SERVER_ERROR),
    (ErrorCode.NOT_COORDINATOR, ErrorCode.NOT_COORDINATOR),
]


class Failing:
    """A coordinator none of whose answers is written."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def begin(self, *_: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        answer.fail(self._error)
        return answer


def told(api_key: ApiKey, version: int, error: Exception) -> Any:
    """The response, or the error that the network answers as UNKNOWN_SERVER_ERROR."""
    header = RequestHeader(api_key=api_key, api_version=version, correlation_id=1, client_id="c")
    context = RequestContext(header=header, client_address=("127.0.0.1", 1), listener_name="PLAINTEXT", now_ms=0)
    handler = HANDLERS[api_key](coordinator=Failing(error))
    outcome: list[Any] = []
    protocol = {"protocol_type": "consumer", "protocol_name": "range"} if api_key is ApiKey.SYNC_GROUP else {}
    request = API_SPECS[api_key].load_request()(group_id="g", member_id="m", **protocol)
    handler.handle(context, request).then(outcome.append, outcome.append)
    return outcome[0]


@pytest.mark.parametrize("api_key", HANDLERS)
@pytest.mark.parametrize(("error", "code"), TOLD)
def test_an_error_of_the_log_is_one_of_the_coordinator(api_key: ApiKey, error: ErrorCode, code: ErrorCode) -> None:
    for version in (API_SPECS[api_key].lowest, API_SPECS[api_key].highest):
        assert told(api_key, version, KafkaError(error, "the log")).error_code == code


@pytest.mark.parametrize("api_key", HANDLERS)
def test_while_the_group_is_loaded_only_heartbeats_say_that_all_is_well(api_key: ApiKey) -> None:
    error = KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "wait")
    code = told(api_key, API_SPECS[api_key].highest, error).error_code
    assert code == (ErrorCode.NONE if api_key is ApiKey.HEARTBEAT else ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)


@pytest.mark.parametrize("api_key", HANDLERS)
def test_what_is_no_answer_of_kafka_is_not_turned_into_one(api_key: ApiKey) -> None:
    error = ZeroDivisionError("a defect")
    assert told(api_key, API_SPECS[api_key].highest, error) is error

"""What went wrong, in words: cause, and what to do about it."""

import sys
from collections.abc import Mapping
from typing import Any, Final

from ottla.cli.output import say
from ottla.client import ClusterUnreachable, ErrorCode, KafkaError
from ottla.config.key import ConfigError
from ottla.storage.errors import CorruptLogError, LogDirectoryError, LogDirectoryFailed
from ottla.wire import DecodeError

FAILED: Final = 1
WRONG_USE: Final = 2
UNREACHABLE: Final = 3

_WHO_IS_THERE: Final = "`ottla cluster brokers` shows who is there, `ottla doctor` what is wrong."
_START_ONE: Final = "start a broker with `ottla start`, or name another with -b HOST:PORT or KAFKA_BOOTSTRAP_SERVERS."
_OTHER_PROTOCOL: Final = "is it a broker, and does it want TLS or SASL? Then pass -X security.protocol=SASL_SSL, say."
_NO_FILE: Final = "is it there, and may this user read and write it?"
_DAMAGED: Final = "restore the file from a copy. Nothing has been cut or changed; the disk may be failing."
_NOT_ALLOWED: Final = "this user may not: another profile, or an ACL on the cluster."
_TOOK_OVER: Final = "another one with the same name has taken over: one only at a time."
_IDLE_MEMBERS: Final = "stop the group's members, or wait until they are settled: `ottla group describe`."

FIXES: Final = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: "`ottla topic list` shows what there is; `ottla topic create` makes a topic.",
    ErrorCode.TOPIC_ALREADY_EXISTS: "choose another name, or pass --if-not-exists.",
    ErrorCode.INVALID_REPLICATION_FACTOR: "ask for at most as many replicas as there are brokers.",
    ErrorCode.INVALID_CONFIG: "`ottla config table --scope topic` shows every key with its values.",
    ErrorCode.INVALID_TOPIC_EXCEPTION: "use letters, digits, '.', '_' and '-', at most 249 of them.",
    ErrorCode.MESSAGE_TOO_LARGE: "raise max.message.bytes of the topic, or send smaller records.",
    ErrorCode.OFFSET_OUT_OF_RANGE: "begin with -o start or -o end.",
    ErrorCode.NOT_ENOUGH_REPLICAS: "start more brokers, or lower min.insync.replicas of the topic.",
    ErrorCode.KAFKA_STORAGE_ERROR: "look at the broker's log: a directory may be full or failing.",
    ErrorCode.GROUP_ID_NOT_FOUND: "`ottla group list` shows what there is.",
    ErrorCode.NON_EMPTY_GROUP: "stop its members first; `ottla group describe` names them.",
    ErrorCode.UNKNOWN_MEMBER_ID: "stop the group's members first: offsets of a group that is at work are its own.",
    ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC: "the group reads this topic: stop its members first.",
    ErrorCode.TRANSACTIONAL_ID_NOT_FOUND: "`ottla txn list` shows what there is.",
    ErrorCode.INVALID_PARTITIONS: "partitions can be added, never taken away: ask for more than there are.",
    ErrorCode.UNSUPPORTED_VERSION: "`ottla cluster apis` shows what the brokers serve; an older broker cannot do this.",
    ErrorCode.SASL_AUTHENTICATION_FAILED: "check sasl.username, sasl.password and sasl.mechanism of the profile.",
    ErrorCode.UNSUPPORTED_SASL_MECHANISM: "set sasl.mechanism to one that the broker offers.",
    ErrorCode.ILLEGAL_SASL_STATE: "set security.protocol to what the listener is: SASL_PLAINTEXT or SASL_SSL.",
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: _NOT_ALLOWED,
    ErrorCode.GROUP_AUTHORIZATION_FAILED: _NOT_ALLOWED,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: _NOT_ALLOWED,
    ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: _NOT_ALLOWED,
    ErrorCode.DELEGATION_TOKEN_AUTHORIZATION_FAILED: _NOT_ALLOWED,
    ErrorCode.SECURITY_DISABLED: "the brokers have no authorizer: set authorizer.class.name on them.",
    ErrorCode.BROKER_NOT_AVAILABLE: _WHO_IS_THERE,
    ErrorCode.BROKER_ID_NOT_REGISTERED: _WHO_IS_THERE,
    ErrorCode.NETWORK_EXCEPTION: _WHO_IS_THERE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: "a leader is moving: try again; `ottla topic describe` shows who leads.",
    ErrorCode.REPLICA_NOT_AVAILABLE: "`ottla topic describe` shows which replicas are in ISR.",
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: "start more brokers, or lower min.insync.replicas of the topic.",
    ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE: "start a broker that is in the partition's replicas.",
    ErrorCode.INVALID_REPLICA_ASSIGNMENT: "name brokers of `ottla cluster brokers`, each once for a partition.",
    ErrorCode.INVALID_RECORD: "a compacted topic takes no record without a key: pass -k or -K.",
    ErrorCode.INVALID_TIMESTAMP: "send a time within message.timestamp.before.max.ms and after.max.ms of the topic.",
    ErrorCode.RECORD_LIST_TOO_LARGE: "send smaller batches, or raise max.message.bytes of the topic.",
    ErrorCode.CORRUPT_MESSAGE: "`ottla doctor DIRECTORY` checks every batch of a broker that is stopped.",
    ErrorCode.UNSUPPORTED_COMPRESSION_TYPE: "send with another codec: -z none, say.",
    ErrorCode.INVALID_REQUIRED_ACKS: "acks is all, 1 or 0.",
    ErrorCode.INVALID_GROUP_ID: "a group has a name; an empty one is none.",
    ErrorCode.GROUP_MAX_SIZE_REACHED: "stop members, or raise group.max.size on the brokers.",
    ErrorCode.INCONSISTENT_GROUP_PROTOCOL: "the group's members share another assignor or protocol: use theirs.",
    ErrorCode.INVALID_SESSION_TIMEOUT: "keep session.timeout.ms within group.min and group.max.session.timeout.ms.",
    ErrorCode.REBALANCE_IN_PROGRESS: _IDLE_MEMBERS,
    ErrorCode.ILLEGAL_GENERATION: _IDLE_MEMBERS,
    ErrorCode.STALE_MEMBER_EPOCH: _IDLE_MEMBERS,
    ErrorCode.UNRELEASED_INSTANCE_ID: "another member has this group.instance.id: one only at a time.",
    ErrorCode.FENCED_INSTANCE_ID: _TOOK_OVER,
    ErrorCode.FENCED_MEMBER_EPOCH: _TOOK_OVER,
    ErrorCode.INVALID_PRODUCER_EPOCH: _TOOK_OVER,
    ErrorCode.TRANSACTION_COORDINATOR_FENCED: "a newer coordinator has taken over: look with `ottla txn producers`.",
    ErrorCode.TRANSACTION_ABORTABLE: "abort the transaction, and do it again from its begin.",
    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER: "a record before this one is missing: start the producer anew.",
    ErrorCode.UNKNOWN_PRODUCER_ID: "the broker has forgotten the producer: start it anew.",
    ErrorCode.INVALID_PRODUCER_ID_MAPPING: "the transactional id has another producer now: start this one anew.",
    ErrorCode.UNSUPPORTED_ASSIGNOR: "name one of the brokers' group.consumer.assignors.",
    ErrorCode.INVALID_REGULAR_EXPRESSION: "the brokers read regular expressions as RE2 does.",
    ErrorCode.OFFSET_METADATA_TOO_LARGE: "commit shorter metadata, or raise offset.metadata.max.bytes.",
    ErrorCode.UNKNOWN_CONTROLLER_ID: _WHO_IS_THERE,
    ErrorCode.INVALID_TXN_STATE: "`ottla txn describe` shows the state; a producer started anew aborts what is open.",
    ErrorCode.CONCURRENT_TRANSACTIONS: "the one before is just ending: try again.",
    ErrorCode.INVALID_TRANSACTION_TIMEOUT: "keep it at or below transaction.max.timeout.ms of the brokers.",
    ErrorCode.THROTTLING_QUOTA_EXCEEDED: "slow down, or raise the quota of this client.",
    ErrorCode.REASSIGNMENT_IN_PROGRESS: "wait until the replicas have moved.",
    ErrorCode.LOG_DIR_NOT_FOUND: "`ottla cluster logdirs` shows the directories there are.",
    ErrorCode.RESOURCE_NOT_FOUND: "`ottla config list` shows what there is.",
    ErrorCode.FEATURE_UPDATE_FAILED: "`ottla cluster features` shows the levels that are possible.",
    ErrorCode.NOT_CONTROLLER: "the controller is moving: try again; `ottla cluster quorum` shows it.",
    ErrorCode.UNKNOWN_SERVER_ERROR: "look at the broker's log: it says what happened.",
    ErrorCode.INVALID_REQUEST: "the message says what is wrong; `ottla cluster apis` shows what the brokers serve.",
    ErrorCode.COORDINATOR_NOT_AVAILABLE: "`ottla cluster health`: the coordinators' topic may have no leader.",
    ErrorCode.LEADER_NOT_AVAILABLE: "`ottla topic describe` shows which partition has no leader, `ottla doctor` why.",
    ErrorCode.REQUEST_TIMED_OUT: "`ottla doctor` looks for what is slow or gone.",
    ErrorCode.PRODUCER_FENCED: "another producer with this transactional id has taken over: one only at a time.",
    ErrorCode.POLICY_VIOLATION: "the brokers' policy refuses it; the message says why.",
    ErrorCode.TOPIC_DELETION_DISABLED: "set delete.topic.enable=true on the brokers.",
}


def fix_of(code: ErrorCode) -> str | None:
    """What to do about an error."""
    retry = "try again; `ottla doctor` looks for what is slow or gone." if code.retriable else None
    return FIXES.get(code, retry)


def raise_first(results: Mapping[Any, object]) -> None:
    """Raise the first error among the results of many items."""
    for one in results.values():
        if isinstance(one, KafkaError):
            raise one


def say_outcomes(done: str, results: Mapping[str, KafkaError | None]) -> int:
    """Say of each item by name that it was ``done``, or why not and what to do about it. The exit code."""
    failed = {name: error for name, error in results.items() if error is not None}
    for name, error in failed.items():
        cause = _kafka_cause(error)
        text = _text(cause if name in cause else f"{name}: {cause}", fix_of(error.code), _page(error))
        sys.stderr.write(text)
    carried_out = [name for name in results if name not in failed]
    if carried_out:
        say(f"{done} {', '.join(carried_out)}")
    return FAILED if failed else 0


def explain(error: Exception) -> tuple[str | None, int]:
    """The text for stderr and the exit code; no text for what must be a bug, so that its traceback is seen."""
    match error:
        case ClusterUnreachable():
            hint = _START_ONE if "cannot connect" in str(error) else _OTHER_PROTOCOL
            return _text(f"the cluster is not reachable: {error}", hint, "`ottla profile --help`"), UNREACHABLE
        case CorruptLogError():
            return _text(error.message or str(error), _DAMAGED), FAILED
        case KafkaError():
            return _text(_kafka_cause(error), fix_of(error.code), _page(error)), FAILED
        case ConfigError():
            return _text(str(error), "`ottla config table` shows every key with its values."), WRONG_USE
        case ConnectionError():
            return _text(str(error) or type(error).__name__, _WHO_IS_THERE), UNREACHABLE
        case OSError():
            name = f": {error.filename}" if error.filename else ""
            return _text(f"{error.strerror or error}{name}", _NO_FILE if name else None), FAILED
        case DecodeError():
            return _text(f"the broker sent something malformed: {error}", _OTHER_PROTOCOL), FAILED
        case ExceptionGroup() if len(error.exceptions) == 1:
            return explain(error.exceptions[0])
        case _ if (fix := _fix_of_directory(error)) is not None:
            return _text(str(error), fix), FAILED
        case _:
            return None, FAILED


def _fix_of_directory(error: Exception) -> str | None:
    match error:
        case LogDirectoryFailed():
            return "look at the disk; what was acknowledged is found again at the next start."
        case LogDirectoryError():
            return "stop the other process, or choose another directory with --data."
        case _ if type(error).__name__ == "FormatError":
            # Named, not imported: the broker is not loaded to explain a client's failure.
            return "choose another directory with --data, or the node.id it was written with."
        case _:
            return None


def _kafka_cause(error: KafkaError) -> str:
    return f"{error.message} ({error.code.name})" if error.message else error.code.description


def _page(error: KafkaError) -> str:
    return f"`ottla explain {error.code.name}`"


def _text(cause: str, fix: str | None, read: str | None = None) -> str:
    lines = (("error", cause), ("fix", fix), ("read", read))
    return "".join(f"{name}: {text}\n" for name, text in lines if text)

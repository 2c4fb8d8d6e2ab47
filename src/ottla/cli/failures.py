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
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: "this user may not: another profile, or an ACL on the cluster.",
    ErrorCode.GROUP_AUTHORIZATION_FAILED: "this user may not: another profile, or an ACL on the cluster.",
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: "this user may not: another profile, or an ACL on the cluster.",
    ErrorCode.COORDINATOR_NOT_AVAILABLE: "`ottla cluster health`: the coordinators' topic may have no leader.",
    ErrorCode.LEADER_NOT_AVAILABLE: "`ottla topic describe` shows which partition has no leader, `ottla doctor` why.",
    ErrorCode.REQUEST_TIMED_OUT: "`ottla doctor` looks for what is slow or gone.",
    ErrorCode.PRODUCER_FENCED: "another producer with this transactional id has taken over: one only at a time.",
    ErrorCode.POLICY_VIOLATION: "the brokers' policy refuses it; the message says why.",
    ErrorCode.TOPIC_DELETION_DISABLED: "set delete.topic.enable=true on the brokers.",
}


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
        text = _text(cause if name in cause else f"{name}: {cause}", FIXES.get(error.code), _page(error))
        sys.stderr.write(text)
    carried_out = [name for name in results if name not in failed]
    if carried_out:
        say(f"{done} {', '.join(carried_out)}")
    return FAILED if failed else 0


def explain(error: Exception) -> tuple[str | None, int]:
    """The text for stderr and the exit code; no text for what must be a bug, so that its traceback is seen."""
    match error:
        case ClusterUnreachable():
            fix = "start a broker with `ottla start`, or name another with -b HOST:PORT or KAFKA_BOOTSTRAP_SERVERS."
            return _text(f"the cluster is not reachable: {error}", fix, "`ottla profile --help`"), UNREACHABLE
        case CorruptLogError():
            fix = "restore the file from a copy. Nothing has been cut or changed; the disk may be failing."
            return _text(error.message or str(error), fix), FAILED
        case KafkaError():
            return _text(_kafka_cause(error), FIXES.get(error.code), _page(error)), FAILED
        case ConfigError():
            return _text(str(error), "`ottla config table` shows every key with its values."), WRONG_USE
        case ConnectionError():
            return _text(str(error) or type(error).__name__, None), UNREACHABLE
        case OSError():
            name = f": {error.filename}" if error.filename else ""
            return _text(f"{error.strerror or error}{name}", None), FAILED
        case DecodeError():
            return _text(f"the broker sent something malformed: {error}", None), FAILED
        case ExceptionGroup() if len(error.exceptions) == 1:
            return explain(error.exceptions[0])
        case LogDirectoryFailed():
            return _text(
                str(error), "look at the disk; what was acknowledged is found again at the next start."
            ), FAILED
        case LogDirectoryError():
            return _text(str(error), "stop the other process, or choose another directory with --data."), FAILED
        case _ if type(error).__name__ == "FormatError":
            # Named, not imported: the broker is not loaded to explain a client's failure.
            return _text(
                str(error), "choose another directory with --data, or the node.id it was written with."
            ), FAILED
        case _:
            return None, FAILED


def _kafka_cause(error: KafkaError) -> str:
    return f"{error.message} ({error.code.name})" if error.message else error.code.description


def _page(error: KafkaError) -> str:
    return f"`ottla explain {error.code.name}`"


def _text(cause: str, fix: str | None, read: str | None = None) -> str:
    lines = (("error", cause), ("fix", fix), ("read", read))
    return "".join(f"{name}: {text}\n" for name, text in lines if text)

"""What Kafka refuses about a ConsumerGroupHeartbeat before it looks at the group."""

from collections.abc import Sequence

from ottla.groups.commands import ConsumerHeartbeat
from ottla.groups.consumer.group import LEAVE_EPOCH, STATIC_LEAVE_EPOCH
from ottla.wire.errors import ErrorCode, KafkaError


def check_heartbeat(command: ConsumerHeartbeat, *, brings_member_id: bool, assignors: Sequence[str]) -> None:
    """Raises INVALID_REQUEST or UNSUPPORTED_ASSIGNOR. ``brings_member_id``: the version has clients make their own."""
    epoch = command.member_epoch
    if not command.member_id.strip() and (brings_member_id or epoch > 0 or epoch == LEAVE_EPOCH):
        raise _invalid("MemberId can't be empty.")
    for name, value in (
        ("GroupId", command.group_id),
        ("InstanceId", command.group_instance_id),
        ("RackId", command.rack_id),
    ):
        if value is not None and not value.strip():
            raise _invalid(f"{name} can't be empty.")
    if epoch == 0:
        _check_joining(command)
    elif epoch == STATIC_LEAVE_EPOCH and command.group_instance_id is None:
        raise _invalid("InstanceId can't be null.")
    elif epoch < STATIC_LEAVE_EPOCH:
        raise _invalid("MemberEpoch is invalid.")
    if command.assignor is not None and command.assignor not in assignors:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_ASSIGNOR,
            f"ServerAssignor {command.assignor} is not supported. Supported assignors: {', '.join(assignors)}.",
        )


def _check_joining(command: ConsumerHeartbeat) -> None:
    if command.rebalance_timeout_ms == -1:
        raise _invalid("RebalanceTimeoutMs must be provided in first request.")
    if command.owned is None or command.owned:
        raise _invalid("TopicPartitions must be empty when (re-)joining.")
    if command.topics is None and command.regex is None:
        raise _invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")


def _invalid(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REQUEST, message)

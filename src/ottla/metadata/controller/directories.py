"""A broker says which of its log directories hold which replicas (AssignReplicasToDirs, KIP-858).

A replica of a broker with several directories is created UNASSIGNED; the broker chooses and reports. From then on the
controller knows which replicas go when a directory does. A replica reported in a directory that is offline by now goes
with it.
"""

from collections.abc import Sequence

from msgspec import Struct

from ottla.metadata.controller.leadership import Departure, leader_and_isr_changes, partition_change
from ottla.metadata.controller.state import ControllerState, MetadataDecision
from ottla.metadata.image import BrokerRegistration, PartitionImage
from ottla.metadata.record import MetadataRecord
from ottla.model import Decision, Uuid
from ottla.wire.errors import ErrorCode, KafkaError


class DirectoryAssignment(Struct, frozen=True, kw_only=True):
    """A replica of the asking broker, and the directory it lies in."""

    topic_id: Uuid
    partition: int
    directory_id: Uuid


def decide_assign_replicas_to_dirs(
    state: ControllerState, *, broker_id: int, broker_epoch: int, assignments: Sequence[DirectoryAssignment]
) -> MetadataDecision:
    """Answers ``list[ErrorCode]`` in the order asked. Raises UnsupportedVersion, StaleBrokerEpoch."""
    if not state.image.versions.directories_supported:
        raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, "Directory assignment is not supported yet.")
    broker = state.require_broker(broker_id, broker_epoch)
    records: list[MetadataRecord] = []
    outcomes: list[ErrorCode] = []
    lost: dict[tuple[Uuid, int], None] = {}
    for assignment in assignments:
        error, record = _decide(state, broker, assignment)
        outcomes.append(error)
        if record is not None:
            records.append(record)
        if error is ErrorCode.NONE and not broker.has_online_dir(assignment.directory_id):
            lost[assignment.topic_id, assignment.partition] = None
    if lost:
        records.extend(_departures(state, broker_id, lost))
    return Decision(records=tuple(records), response=outcomes)


def _decide(
    state: ControllerState, broker: BrokerRegistration, assignment: DirectoryAssignment
) -> tuple[ErrorCode, MetadataRecord | None]:
    topic = state.image.topics_by_id.get(assignment.topic_id)
    if topic is None:
        return ErrorCode.UNKNOWN_TOPIC_ID, None
    if not 0 <= assignment.partition < len(topic.partitions):
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None
    if broker.broker_id not in topic.partitions[assignment.partition].replicas:
        return ErrorCode.NOT_LEADER_OR_FOLLOWER, None
    change = partition_change(state, topic, assignment.partition)
    change.directory = (broker.broker_id, assignment.directory_id)
    others = change.acceptable

    def acceptable(replica: int) -> bool:
        if replica != broker.broker_id:
            return others(replica)
        return state.is_active(replica) and broker.has_online_dir(assignment.directory_id)

    change.acceptable = acceptable
    return ErrorCode.NONE, change.build()


def _departures(state: ControllerState, broker_id: int, lost: dict[tuple[Uuid, int], None]) -> list[MetadataRecord]:
    """The broker leaves the ISR of what lies in a directory that is offline."""
    wanted: dict[int, PartitionImage] = {}
    for topic_id, index in lost:
        partition = state.image.topics_by_id[topic_id].partitions[index]
        wanted[id(partition)] = partition
    return leader_and_isr_changes(state, lambda part: id(part) in wanted, Departure(leaving=broker_id))

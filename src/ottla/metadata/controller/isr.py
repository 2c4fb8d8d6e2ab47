"""A leader proposes who is in sync (AlterPartition); the controller checks and writes it."""

from collections.abc import Sequence

from msgspec import Struct

from ottla.metadata.controller.leadership import partition_change
from ottla.metadata.controller.state import ControllerState, MetadataDecision
from ottla.metadata.delta import merge_partition_change
from ottla.metadata.image import PartitionImage
from ottla.metadata.record import MetadataRecord
from ottla.model import Decision, Uuid
from ottla.wire.errors import ErrorCode


class IsrProposal(Struct, frozen=True, kw_only=True):
    """``new_isr`` are (broker, its epoch) pairs; epoch -1 is not checked."""

    topic_id: Uuid
    partition: int
    leader_epoch: int
    partition_epoch: int
    new_isr: tuple[tuple[int, int], ...]
    recovering: bool = False


class IsrOutcome(Struct, frozen=True, kw_only=True):
    topic_id: Uuid
    partition: int
    error: ErrorCode = ErrorCode.NONE
    image: PartitionImage | None = None


def decide_alter_partition(
    state: ControllerState, *, broker_id: int, broker_epoch: int, proposals: Sequence[IsrProposal]
) -> MetadataDecision:
    """Answers ``list[IsrOutcome]`` in the order asked. Raises StaleBrokerEpoch."""
    state.require_broker(broker_id, broker_epoch)
    records: list[MetadataRecord] = []
    outcomes: list[IsrOutcome] = []
    for proposal in proposals:
        record, outcome = _decide(state, broker_id, proposal)
        outcomes.append(outcome)
        if record is not None:
            records.append(record)
    return Decision(records=tuple(records), response=outcomes, atomic=False)


def _decide(state: ControllerState, broker_id: int, proposal: IsrProposal) -> tuple[MetadataRecord | None, IsrOutcome]:
    topic = state.image.topics_by_id.get(proposal.topic_id)
    if topic is None:
        return None, _refused(proposal, ErrorCode.UNKNOWN_TOPIC_ID)
    if not 0 <= proposal.partition < len(topic.partitions):
        return None, _refused(proposal, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    partition = topic.partitions[proposal.partition]
    error = _check(state, broker_id, partition, proposal)
    if error is not ErrorCode.NONE:
        return None, _refused(proposal, error)
    change = partition_change(state, topic, proposal.partition)
    change.target_isr = tuple(replica for replica, _ in proposal.new_isr)
    change.recovering = proposal.recovering
    record = change.build()
    if record is not None:
        partition = merge_partition_change(partition, record.message)
        if partition.leader != broker_id:
            return record, _refused(proposal, ErrorCode.NEW_LEADER_ELECTED)
    return record, IsrOutcome(topic_id=proposal.topic_id, partition=proposal.partition, image=partition)


def _refused(proposal: IsrProposal, error: ErrorCode) -> IsrOutcome:
    return IsrOutcome(topic_id=proposal.topic_id, partition=proposal.partition, error=error)


def _check(state: ControllerState, broker_id: int, partition: PartitionImage, proposal: IsrProposal) -> ErrorCode:
    # Whoever knows a newer epoch than this controller has heard of a newer controller.
    if proposal.leader_epoch > partition.leader_epoch or proposal.partition_epoch > partition.partition_epoch:
        return ErrorCode.NOT_CONTROLLER
    if proposal.leader_epoch < partition.leader_epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if broker_id != partition.leader:
        return ErrorCode.INVALID_REQUEST
    if proposal.partition_epoch < partition.partition_epoch:
        return ErrorCode.INVALID_UPDATE_VERSION
    members = [replica for replica, _ in proposal.new_isr]
    if len(set(members)) != len(members) or any(replica not in partition.replicas for replica in members):
        return ErrorCode.INVALID_REQUEST
    if partition.leader not in members:
        return ErrorCode.INVALID_REQUEST
    if proposal.recovering and (len(members) > 1 or not partition.recovering):
        return ErrorCode.INVALID_REQUEST
    if any(not _is_eligible(state, replica, epoch) for replica, epoch in proposal.new_isr):
        return ErrorCode.INELIGIBLE_REPLICA
    return ErrorCode.NONE


def _is_eligible(state: ControllerState, replica: int, epoch: int) -> bool:
    broker = state.image.brokers.get(replica)
    return broker is not None and broker.active and epoch in (-1, broker.epoch)

"""New partitions: where they go, what their first record says; adding partitions to a topic."""

from collections.abc import Sequence

from msgspec import Struct

from ottla.metadata.controller.placement import place_replicas
from ottla.metadata.controller.state import RECORDS_PER_OPERATION_MAX, ControllerState, MetadataDecision, Problem
from ottla.metadata.image import PartitionImage, TopicImage
from ottla.metadata.record import MetadataRecord
from ottla.metadata.snapshot import partition_record
from ottla.model import Decision
from ottla.wire.errors import ErrorCode, KafkaError


class MorePartitions(Struct, frozen=True, kw_only=True):
    """``count`` is the total wanted; ``assignments`` the brokers of each new partition, if chosen by hand."""

    name: str
    count: int
    assignments: tuple[tuple[int, ...], ...] | None = None


def decide_create_partitions(
    state: ControllerState, topics: Sequence[MorePartitions], *, validate_only: bool
) -> MetadataDecision:
    """Answers ``list[tuple[str, Problem | None]]`` in the order asked. Names must be distinct."""
    _check_total(state, topics)
    records: list[MetadataRecord] = []
    outcomes: list[tuple[str, Problem | None]] = []
    for topic in topics:
        try:
            records.extend(_add_partitions(state, topic))
            outcomes.append((topic.name, None))
        except KafkaError as error:
            outcomes.append((topic.name, Problem.of(error)))
    return Decision(records=() if validate_only else tuple(records), response=outcomes)


def place_partitions(state: ControllerState, *, partitions: int, replication_factor: int) -> list[PartitionImage]:
    """New partitions on brokers of the placer's choice. Raises InvalidReplicationFactor."""
    brokers = [broker for broker in state.image.brokers.values() if not broker.all_dirs_cordoned]
    placed = place_replicas(brokers, partitions=partitions, replication_factor=replication_factor, rng=state.rng)
    found: list[PartitionImage] = []
    for replicas in placed:
        partition = new_partition(state, replicas)
        if partition is None:
            raise KafkaError(
                ErrorCode.INVALID_REPLICATION_FACTOR, "All brokers are currently fenced or in controlled shutdown."
            )
        found.append(partition)
    return found


def new_partition(state: ControllerState, replicas: Sequence[int]) -> PartitionImage | None:
    """In sync are the replicas whose broker is active; ``None`` if that is nobody."""
    isr = tuple(replica for replica in replicas if state.is_active(replica))
    if not isr:
        return None
    return PartitionImage(
        replicas=tuple(replicas),
        isr=isr,
        leader=isr[0],
        leader_epoch=0,
        partition_epoch=0,
        directories=tuple(state.image.brokers[replica].default_dir for replica in replicas),
    )


def validate_assignment(state: ControllerState, broker_ids: Sequence[int], replication_factor: int | None) -> None:
    """Raises InvalidReplicaAssignment for a list nobody could have meant."""
    if not broker_ids:
        raise _invalid("The manual partition assignment includes an empty replica list.")
    previous: int | None = None
    for broker_id in sorted(broker_ids):
        if broker_id not in state.image.brokers:
            raise _invalid(
                f"The manual partition assignment includes broker {broker_id}, but no such broker is registered."
            )
        if broker_id == previous:
            raise _invalid(f"The manual partition assignment includes the broker {broker_id} more than once.")
        previous = broker_id
    if replication_factor is not None and len(broker_ids) != replication_factor:
        raise _invalid(
            f"The manual partition assignment includes a partition with {len(broker_ids)} replica(s), but this is not "
            f"consistent with previous partitions, which have {replication_factor} replica(s)."
        )


def _check_total(state: ControllerState, topics: Sequence[MorePartitions]) -> None:
    added = 0
    for topic in topics:
        existing = state.image.topics.get(topic.name)
        if existing is not None:
            added += max(topic.count - len(existing.partitions), 0)
    if added > RECORDS_PER_OPERATION_MAX:
        raise KafkaError(ErrorCode.POLICY_VIOLATION, "Excessively large number of additional partitions per request.")


def _add_partitions(state: ControllerState, topic: MorePartitions) -> list[MetadataRecord]:
    existing = state.image.topics.get(topic.name)
    if existing is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    start = len(existing.partitions)
    _check_count(topic, start)
    partitions = _chosen(state, topic, existing) if topic.assignments is not None else _placed(state, topic, existing)
    version = state.image.versions.partition
    return [
        partition_record(existing.topic_id, start + index, partition, version)
        for index, partition in enumerate(partitions)
    ]


def _check_count(topic: MorePartitions, start: int) -> None:
    if topic.count == start:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {start} partition(s).")
    if topic.count < start:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {topic.name} currently has {start} partition(s); {topic.count} would not be an increase.",
        )
    additional = topic.count - start
    if topic.assignments is not None and len(topic.assignments) != additional:
        raise _invalid(
            f"Attempted to add {additional} additional partition(s), but only {len(topic.assignments)} assignment(s) "
            "were specified."
        )


def _chosen(state: ControllerState, topic: MorePartitions, existing: TopicImage) -> list[PartitionImage]:
    start = len(existing.partitions)
    found: list[PartitionImage] = []
    for index, broker_ids in enumerate(topic.assignments or ()):
        validate_assignment(state, broker_ids, len(existing.partitions[0].replicas))
        partition = new_partition(state, broker_ids)
        if partition is None:
            raise _invalid(
                f"All brokers specified in the manual partition assignment for partition {start + index} are fenced "
                "or in controlled shutdown."
            )
        found.append(partition)
    return found


def _placed(state: ControllerState, topic: MorePartitions, existing: TopicImage) -> list[PartitionImage]:
    additional = topic.count - len(existing.partitions)
    return place_partitions(state, partitions=additional, replication_factor=len(existing.partitions[0].replicas))


def _invalid(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)

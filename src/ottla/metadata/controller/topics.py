"""Creating and deleting topics. Order of checks, codes and wording as Apache Kafka 4.3.1 has them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from ottla.config.describe import ConfigEntry, describe_topic
from ottla.metadata.controller.configs import ConfigChange, ConfigOperation, decide_resource
from ottla.metadata.controller.partitions import new_partition, place_partitions, validate_assignment
from ottla.metadata.controller.state import (
    RECORDS_PER_OPERATION_MAX,
    ControllerState,
    MetadataDecision,
    Problem,
)
from ottla.metadata.image import ConfigResource, PartitionImage, ResourceType
from ottla.metadata.record import MetadataRecord
from ottla.metadata.snapshot import partition_record
from ottla.model import Decision, Uuid
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.topic_record import TopicRecord

TOPIC_NAME_LENGTH_MAX: Final = 249
_TOPIC_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class NewTopic(Struct, frozen=True, kw_only=True):
    """What is asked for. -1 stands for the default; ``assignments`` are (partition, brokers) pairs."""

    name: str
    partitions: int = -1
    replication_factor: int = -1
    assignments: tuple[tuple[int, tuple[int, ...]], ...] = ()
    configs: tuple[tuple[str, str | None], ...] = ()


class TopicCreation(Struct, frozen=True, kw_only=True):
    """The outcome for one topic: a problem, or what was created."""

    name: str
    problem: Problem | None = None
    topic_id: Uuid = Uuid.ZERO
    partitions: int = -1
    replication_factor: int = -1
    configs: tuple[ConfigEntry, ...] = ()


class TopicRef(Struct, frozen=True, kw_only=True):
    """A topic as somebody outside refers to it: by name, or by id (then there is no name)."""

    name: str | None = None
    topic_id: Uuid = Uuid.ZERO


class TopicDeletion(Struct, frozen=True, kw_only=True):
    """The outcome for one topic: a problem, or it is gone. Name and id as far as the answer may tell them."""

    name: str | None = None
    topic_id: Uuid = Uuid.ZERO
    problem: Problem | None = None


class CreateTopics(Struct, frozen=True, kw_only=True):
    topics: Sequence[NewTopic]
    validate_only: bool = False
    describe_configs: bool = True
    """Whether the outcome lists the effective configuration (that costs more than creating the topic)."""


def topic_name_problem(name: str) -> str | None:
    """Why ``name`` cannot be a topic's; ``None`` if it can."""
    if not name:
        return "Topic name is invalid: the empty string is not allowed"
    if name in (".", ".."):
        return f"Topic name is invalid: '{name}' is not allowed"
    if len(name) > TOPIC_NAME_LENGTH_MAX:
        return (
            f"Topic name is invalid: the length of '{name}' is longer than the max allowed length "
            f"{TOPIC_NAME_LENGTH_MAX}"
        )
    if not _TOPIC_CHARACTERS.issuperset(name):
        return (
            f"Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, "
            "'.', '_' and '-'"
        )
    return None


def decide_create_topics(state: ControllerState, command: CreateTopics) -> MetadataDecision:
    """Answers ``list[TopicCreation]`` in the order asked. Names must be distinct."""
    _check_partition_count(state, command.topics)
    records: list[MetadataRecord] = []
    outcomes: list[TopicCreation] = []
    for topic in command.topics:
        try:
            topic_records, outcome = _create_topic(state, topic, describe=command.describe_configs)
        except KafkaError as error:
            outcomes.append(TopicCreation(name=topic.name, problem=Problem.of(error)))
            continue
        records.extend(topic_records)
        outcomes.append(outcome)
    return Decision(records=() if command.validate_only else tuple(records), response=outcomes)


def decide_delete_topics(state: ControllerState, asked: Sequence[TopicRef]) -> MetadataDecision:
    """Answers ``list[TopicDeletion]``. What comes twice, by name, by id, or once each, is deleted by neither."""
    from ottla.wire.messages.remove_topic_record import RemoveTopicRecord  # noqa: PLC0415 - not needed to start

    doomed, outcomes = _resolve(state, asked)
    records = tuple(MetadataRecord(RemoveTopicRecord(topic_id=topic_id), 0) for topic_id in doomed)
    outcomes.extend(TopicDeletion(name=name, topic_id=topic_id) for topic_id, name in doomed.items())
    return Decision(records=records, response=outcomes)


def _resolve(state: ControllerState, asked: Sequence[TopicRef]) -> tuple[dict[Uuid, str], list[TopicDeletion]]:
    """(topics to delete, name by id; what is refused)."""
    image, outcomes = state.image, list[TopicDeletion]()

    def refuse(name: str | None, topic_id: Uuid, code: ErrorCode, message: str) -> None:
        outcomes.append(TopicDeletion(name=name, topic_id=topic_id, problem=Problem(code, message)))

    ids = Counter(topic.topic_id for topic in asked if topic.name is None)
    names = Counter(topic.name for topic in asked if topic.name is not None and topic.topic_id == Uuid.ZERO)
    for topic in asked:
        if topic.name is not None and topic.topic_id != Uuid.ZERO:
            message = "You may not specify both topic name and topic id."
            refuse(topic.name, topic.topic_id, ErrorCode.INVALID_REQUEST, message)
    doomed: dict[Uuid, str] = {}
    for topic_id, count in ids.items():
        found = image.topics_by_id.get(topic_id)
        if topic_id == Uuid.ZERO:
            refuse(None, topic_id, ErrorCode.INVALID_REQUEST, "Neither topic name nor id were specified.")
        elif count > 1:
            refuse(None, topic_id, ErrorCode.INVALID_REQUEST, "Duplicate topic id.")
        elif found is None:
            refuse(None, topic_id, ErrorCode.UNKNOWN_TOPIC_ID, "This server does not host this topic ID.")
        else:
            doomed[topic_id] = found.name
    for name, count in names.items():
        by_name = image.topics.get(name)
        if count > 1:
            refuse(name, Uuid.ZERO, ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
        elif by_name is None:
            message = "This server does not host this topic-partition."
            refuse(name, Uuid.ZERO, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message)
        elif by_name.topic_id in ids:
            doomed.pop(by_name.topic_id, None)
            message = "The provided topic name maps to an ID that was already supplied."
            refuse(name, by_name.topic_id, ErrorCode.INVALID_REQUEST, message)
        else:
            doomed[by_name.topic_id] = name
    return doomed, outcomes


def _check_partition_count(state: ControllerState, topics: Sequence[NewTopic]) -> None:
    total = 0
    for topic in topics:
        if topic.assignments:
            total += len(topic.assignments)
        elif topic.partitions == -1:
            total += state.settings.default_partitions
        else:
            total += max(topic.partitions, 0)
    if total > RECORDS_PER_OPERATION_MAX:
        raise KafkaError(ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")


def _create_topic(
    state: ControllerState, topic: NewTopic, *, describe: bool
) -> tuple[list[MetadataRecord], TopicCreation]:
    _check_name(state, topic.name)
    config_records = _config_records(state, topic)
    if topic.assignments:
        partitions = _assigned_partitions(state, topic)
    else:
        partitions = _placed_partitions(state, topic)
    topic_id = Uuid.random(state.rng)
    version = state.image.versions.partition
    records = [MetadataRecord(TopicRecord(name=topic.name, topic_id=topic_id), 0), *config_records]
    records.extend(partition_record(topic_id, index, partition, version) for index, partition in enumerate(partitions))
    outcome = TopicCreation(
        name=topic.name,
        topic_id=topic_id,
        partitions=len(partitions),
        replication_factor=len(partitions[0].replicas),
        configs=_effective_configs(state, topic) if describe else (),
    )
    return records, outcome


def _check_name(state: ControllerState, name: str) -> None:
    if name in state.image.topics:
        raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
    problem = topic_name_problem(name)
    if problem is not None:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
    collides = state.colliding_topic(name)
    if collides is not None:
        message = f"Topic '{name}' collides with existing topic: {collides}"
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, message)


def _config_records(state: ControllerState, topic: NewTopic) -> tuple[MetadataRecord, ...]:
    nulls = [name for name, value in topic.configs if value is None]
    if nulls:
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {','.join(nulls)}")
    if not topic.configs:
        return ()
    resource = ConfigResource(ResourceType.TOPIC, topic.name)
    changes = tuple(
        ConfigChange(name=name, operation=ConfigOperation.SET, value=value) for name, value in topic.configs
    )
    return decide_resource(state, resource, changes, newly_created=True)


def _assigned_partitions(state: ControllerState, topic: NewTopic) -> list[PartitionImage]:
    if topic.replication_factor != -1:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        )
    if topic.partitions != -1:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        )
    found: dict[int, PartitionImage] = {}
    replication_factor: int | None = None
    for index, broker_ids in topic.assignments:
        if index in found:
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Found multiple manual partition assignments for partition {index}",
            )
        validate_assignment(state, broker_ids, replication_factor)
        replication_factor = len(broker_ids)
        partition = new_partition(state, broker_ids)
        if partition is None:
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"All brokers specified in the manual partition assignment for partition {index} are fenced or in "
                "controlled shutdown.",
            )
        found[index] = partition
    if sorted(found) != list(range(len(found))):
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "partitions should be a consecutive 0-based integer sequence"
        )
    return [found[index] for index in range(len(found))]


def _placed_partitions(state: ControllerState, topic: NewTopic) -> list[PartitionImage]:
    if topic.replication_factor < -1 or topic.replication_factor == 0:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    if topic.partitions < -1 or topic.partitions == 0:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.")
    settings = state.settings
    count = settings.default_partitions if topic.partitions == -1 else topic.partitions
    factor = settings.default_replication_factor if topic.replication_factor == -1 else topic.replication_factor
    try:
        return place_partitions(state, partitions=count, replication_factor=factor)
    except KafkaError as error:
        message = f"Unable to replicate the partition {factor} time(s): {error.message}"
        raise KafkaError(error.code, message) from error


def _effective_configs(state: ControllerState, topic: NewTopic) -> tuple[ConfigEntry, ...]:
    overrides: Mapping[str, str] = {name: value for name, value in topic.configs if value is not None}
    return tuple(describe_topic(overrides, state.layers(state.settings.node_id)))

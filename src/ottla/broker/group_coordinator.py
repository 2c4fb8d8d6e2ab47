"""The groups this broker coordinates: one machine for each partition of ``__consumer_offsets`` that it leads.

Follows the metadata image: a partition that this broker comes to lead is loaded, one it loses is closed, a deleted
topic is forgotten by every shard. Commands go to the shard of their group; errors of the log become a coordinator's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, Protocol

from msgspec import Struct, field

from ottla.broker.group_topics import ImageTopics, changed_names
from ottla.broker.machine_driver import DrivenPartition, DriverState, MachineDriver
from ottla.config.broker import GroupsConfig, fit_brokers
from ottla.config.definitions import group_key
from ottla.groups.partitioning import partition_for
from ottla.groups.records import ShardRecord, TransactionMarker, decode_record, encode_record
from ottla.groups.settings import ConsumerGroupSettings, ConsumerGroupTimes, GroupSettings, MigrationPolicy
from ottla.groups.shard import GroupShard, ShardDecision
from ottla.metadata.delta import ImageDelta
from ottla.metadata.image import ClusterImage, ResourceType, TopicImage
from ottla.model import Uuid
from ottla.records.batch import Codec
from ottla.runtime.clock import Clock
from ottla.runtime.supervisor import Supervisor
from ottla.runtime.telemetry import get_logger
from ottla.wire.errors import ErrorCode, KafkaError

log = get_logger(__name__)

CONSUMER_OFFSETS = "__consumer_offsets"
CREATION_SECONDS_MAX = 10.0
"""How long a lookup waits for the offsets topic to come into being."""

CreateTopic = Callable[[str, int, int, Mapping[str, str]], Awaitable[None]]
"""Name, partitions, replication factor, settings; raises ``KafkaError`` (TOPIC_ALREADY_EXISTS is no failure here)."""

GroupCommand = Callable[[GroupShard, int, int], ShardDecision]
"""Shard, wall clock in milliseconds, the token to park under."""
GroupDriver = MachineDriver[GroupShard, ShardRecord]
_DeletedTopics = tuple[tuple[str, Uuid], ...]


class _Led(Struct, kw_only=True):
    """A partition of the offsets topic that this broker leads; ``missed`` are deletions while it was loading."""

    epoch: int
    driver: GroupDriver
    missed: list[_DeletedTopics] = field(default_factory=list)


class LedPartitions(Protocol):
    """Where the coordinator finds the partitions of its topic."""

    def get(self, topic: str, partition: int, /) -> DrivenPartition: ...


class GroupCoordinator:
    """Routes group ids to shards and keeps the shards in step with leadership."""

    def __init__(
        self,
        *,
        node_id: int,
        config: GroupsConfig,
        partitions: LedPartitions,
        create_topic: CreateTopic,
        clock: Clock,
        supervisor: Supervisor,
        random: Random,
    ) -> None:
        self._node_id = node_id
        self._config = config
        self._partitions = partitions
        self._create_topic = create_topic
        self._clock = clock
        self._supervisor = supervisor
        self._random = random
        self._image = ClusterImage()
        self._topic: TopicImage | None = None
        self._topics = ImageTopics(self._image)
        self._own_times: Mapping[str, ConsumerGroupTimes] = {}
        self._settings = _settings(config, 1, self._own_times)
        self._led: dict[int, _Led] = {}
        self._creation: asyncio.Task[None] | None = None

    # -- what handlers use -------------------------------------------------------------------------------------------

    async def ask(
        self, group_id: str, command: GroupCommand, *, too_large: ErrorCode = ErrorCode.UNKNOWN_SERVER_ERROR
    ) -> Any:
        """Have the shard of ``group_id`` decide; it does so before the first await.

        Raises ``KafkaError``; ``too_large`` is its code where the records do not fit the log.
        """
        try:
            return await self._driver_of(group_id).submit(command)
        except KafkaError as error:
            raise _as_coordinator(error, too_large) from error

    async def ask_all(self, command: GroupCommand) -> list[Any]:
        """Have every shard of this broker decide. Raises COORDINATOR_LOAD_IN_PROGRESS while one of them loads."""
        drivers = [led.driver for led in self._led.values() if led.driver.state is not DriverState.CLOSED]
        futures = [driver.submit(command) for driver in drivers]
        return [answer for answer in await asyncio.gather(*futures, return_exceptions=True) if not _is_lost(answer)]

    def partition_of(self, group_id: str) -> int:
        """The coordinator partition of a group. Raises COORDINATOR_NOT_AVAILABLE while there is no offsets topic."""
        if self._topic is None:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        return partition_for(group_id, len(self._topic.partitions))

    async def locate(self, group_id: str) -> int:
        """The broker that coordinates a group; the first question brings the offsets topic into being.

        Raises COORDINATOR_NOT_AVAILABLE while nobody leads the partition.
        """
        if self._topic is None:
            await self._ensure_topic()
        partition = self._image.partition(CONSUMER_OFFSETS, self.partition_of(group_id))
        if partition is None or partition.leader not in self._image.brokers:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        return partition.leader

    # -- life --------------------------------------------------------------------------------------------------------

    def on_image(self, delta: ImageDelta, image: ClusterImage) -> None:
        """Follow the cluster. The partitions of this broker must have followed before."""
        self._image = image
        self._topics = self._topics.after(delta, image)
        self._show_topics(changed_names(delta))
        topic = image.topics.get(CONSUMER_OFFSETS)
        if topic is not self._topic:
            self._topic = topic
            self._follow(topic)
        self._own_times = _follow_own_times(self._own_times, delta, image, self._config)
        settings = _settings(self._config, len(image.brokers), self._own_times)
        if settings != self._settings:
            self._settings = settings
            for led in self._led.values():
                led.driver.reconfigure(lambda shard: shard.reconfigure(settings))
        if delta.deleted_topics:
            gone = tuple((topic.name, topic.topic_id) for topic in delta.deleted_topics.values())
            for led in list(self._led.values()):
                self._forget(led, gone)

    def close(self) -> None:
        """Give every shard up; whoever waits for one is sent to look for another coordinator."""
        for index in list(self._led):
            self._resign(index)

    # -- private -----------------------------------------------------------------------------------------------------

    def _driver_of(self, group_id: str) -> GroupDriver:
        led = self._led.get(self.partition_of(group_id))
        if led is None:
            raise KafkaError(ErrorCode.NOT_COORDINATOR)
        return led.driver

    def _show_topics(self, changed: tuple[str, ...]) -> None:
        topics = self._topics
        for led in self._led.values():
            led.driver.reconfigure(lambda shard: shard.see_topics(topics, changed))

    def _follow(self, topic: TopicImage | None) -> None:
        epochs = {}
        if topic is not None:
            epochs = {
                index: partition.leader_epoch
                for index, partition in enumerate(topic.partitions)
                if partition.leader == self._node_id
            }
        for index in [index for index in self._led if index not in epochs]:
            self._resign(index)
        for index, epoch in epochs.items():
            known = self._led.get(index)
            if known is None or known.epoch != epoch:
                self._resign(index)
                self._elect(index, epoch)

    def _elect(self, index: int, epoch: int) -> None:
        try:
            partition = self._partitions.get(CONSUMER_OFFSETS, index)
        except KafkaError as error:
            log.error("coordinator partition unusable", partition=index, error=str(error))
            return
        shard = GroupShard(settings=self._settings, random=self._random)
        shard.see_topics(self._topics, ())
        driver: GroupDriver = MachineDriver(
            machine=shard,
            codec=_ShardCodec(),
            partition=partition,
            clock=self._clock,
            load_bytes=self._config.offsets_load_buffer_bytes,
            compression=Codec(self._config.offsets_topic_compression),
            fail=self._supervisor.fail,
        )
        led = self._led[index] = _Led(epoch=epoch, driver=driver)
        if not driver.start_if_empty():
            self._supervisor.spawn(self._load(led), name=f"load {CONSUMER_OFFSETS}-{index}")

    async def _load(self, led: _Led) -> None:
        driver = led.driver
        try:
            await driver.load()
        except (KafkaError, OSError) as error:
            # Unreadable: its groups have no coordinator here, the rest of the broker serves on.
            log.error("coordinator partition unreadable", partition=driver.partition.topic_partition, error=str(error))
            driver.close(KafkaError(ErrorCode.NOT_COORDINATOR, str(error)))
        for topics in led.missed:
            self._forget(led, topics)

    def _resign(self, index: int) -> None:
        led = self._led.pop(index, None)
        if led is not None:
            led.driver.close(KafkaError(ErrorCode.NOT_COORDINATOR))

    def _forget(self, led: _Led, topics: _DeletedTopics) -> None:
        match led.driver.state:
            case DriverState.LOADING:
                led.missed.append(topics)
            case DriverState.ACTIVE:
                led.driver.submit(lambda shard, _now_ms, _token: shard.delete_topics(topics))
            case DriverState.CLOSED:
                pass

    async def _ensure_topic(self) -> None:
        if self._creation is None:
            self._creation = self._supervisor.spawn(self._create(), name=f"create {CONSUMER_OFFSETS}")
        try:
            await asyncio.wait_for(asyncio.shield(self._creation), CREATION_SECONDS_MAX)
        except TimeoutError as error:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "the offsets topic is still being created") from error

    async def _create(self) -> None:
        config = self._config
        brokers = sum(1 for _ in self._image.active_brokers())
        try:
            await self._create_topic(
                CONSUMER_OFFSETS,
                config.offsets_topic_partitions,
                fit_brokers(config.offsets_topic_replication_factor, 3, brokers),
                {
                    "cleanup.policy": "compact",
                    "compression.type": "producer",
                    "segment.bytes": str(config.offsets_topic_segment_bytes),
                },
            )
        except KafkaError as error:
            if error.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
                log.warning("offsets topic not created", error=str(error))
        finally:
            self._creation = None


class _ShardCodec:
    """``MachineCodec`` of group shards."""

    __slots__ = ()

    def encode(self, record: ShardRecord, /) -> tuple[bytes, bytes | None]:
        return encode_record(record)

    def decode(self, key: bytes, value: bytes | None, producer_id: int, /) -> ShardRecord | None:
        return decode_record(key, value, producer_id)

    def decode_marker(self, producer_id: int, committed: bool, /) -> ShardRecord | None:
        return TransactionMarker(producer_id, committed)


_AS_COORDINATOR: Mapping[ErrorCode, ErrorCode] = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
}
"""What a failure of the offsets log means to a client of the coordinator."""
_TOO_LARGE = frozenset((ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE, ErrorCode.INVALID_FETCH_SIZE))


def _as_coordinator(error: KafkaError, too_large: ErrorCode) -> KafkaError:
    code = too_large if error.code in _TOO_LARGE else _AS_COORDINATOR.get(error.code)
    return error if code is None else KafkaError(code, error.message)


def _is_lost(answer: object) -> bool:
    """Whether a shard was given up while it was asked; any other failure is raised."""
    if isinstance(answer, KafkaError) and answer.code is ErrorCode.NOT_COORDINATOR:
        return True
    if isinstance(answer, BaseException):
        raise answer
    return False


def _settings(config: GroupsConfig, brokers: int, own_times: Mapping[str, ConsumerGroupTimes]) -> GroupSettings:
    return GroupSettings(
        initial_rebalance_delay_ms=config.rebalance_delay_ms(brokers),
        min_session_timeout_ms=config.session_timeout_ms_min,
        max_session_timeout_ms=config.session_timeout_ms_max,
        max_size=config.size_max,
        offset_metadata_max_bytes=config.offset_metadata_bytes_max,
        offsets_retention_ms=config.offsets_retention_minutes * 60_000,
        offsets_retention_check_interval_ms=config.offsets_retention_check_interval_ms,
        consumer=ConsumerGroupSettings(
            times=_default_times(config),
            own=own_times,
            assignors=config.consumer_assignors,
            max_size=config.consumer_size_max,
            migration_policy=MigrationPolicy(config.consumer_migration_policy.lower()),
            regex_refresh_interval_ms=config.consumer_regex_refresh_interval_ms,
        ),
    )


def _default_times(config: GroupsConfig) -> ConsumerGroupTimes:
    return ConsumerGroupTimes(
        session_timeout_ms=config.consumer_session_timeout_ms,
        heartbeat_interval_ms=config.consumer_heartbeat_interval_ms,
        assignment_interval_ms=config.consumer_assignment_interval_ms,
    )


def _follow_own_times(
    known: Mapping[str, ConsumerGroupTimes], delta: ImageDelta, image: ClusterImage, config: GroupsConfig
) -> Mapping[str, ConsumerGroupTimes]:
    """The times of groups that have their own; the same mapping where none of them changed."""
    changed = [resource for resource in delta.changed_configs if resource.type == ResourceType.GROUP]
    if not changed:
        return known
    times = dict(known)
    for resource in changed:
        times.pop(resource.name, None)
        given = image.config(resource)
        if any(name in given for name in _OWN_TIMES):
            times[resource.name] = _own_times(given, config)
    return times


_OWN_TIMES = ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms", "consumer.assignment.interval.ms")


def _own_times(given: Mapping[str, str], config: GroupsConfig) -> ConsumerGroupTimes:
    """A group's own times, each within what the broker allows; the broker's where it has none."""
    session, heartbeat, assignment = _OWN_TIMES
    return ConsumerGroupTimes(
        session_timeout_ms=_own_time(
            given, session, config.consumer_session_timeout_ms, config.consumer_session_timeout_ms_range
        ),
        heartbeat_interval_ms=_own_time(
            given, heartbeat, config.consumer_heartbeat_interval_ms, config.consumer_heartbeat_interval_ms_range
        ),
        assignment_interval_ms=_own_time(
            given, assignment, config.consumer_assignment_interval_ms, config.consumer_assignment_interval_ms_range
        ),
    )


def _own_time(given: Mapping[str, str], name: str, default: int, allowed: tuple[int, int]) -> int:
    key = group_key(name)
    if key is None or name not in given:
        return default
    value: Any = key.parse(given[name])
    return min(max(int(value), allowed[0]), allowed[1])

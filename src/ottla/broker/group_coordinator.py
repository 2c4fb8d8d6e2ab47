"""The groups this broker coordinates: one machine for each partition of ``__consumer_offsets`` that it leads.

Follows the metadata image: a partition that this broker comes to lead is loaded, one it loses is closed, a deleted
topic is forgotten by every shard. Commands go to the shard of their group; errors of the log become a coordinator's.
"""

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

from ottla.broker.coordinator_topic import CoordinatorTopic, CreateTopic, LedPartitions, as_coordinator, is_lost
from ottla.broker.group_topics import ImageTopics, changed_names
from ottla.broker.internal_topics import consumer_offsets
from ottla.broker.machine_driver import (
    NOBODY,
    BatchProducer,
    DrivenPartition,
    DriverState,
    MachineDriver,
    ProducerMarker,
)
from ottla.config.broker import GroupsConfig
from ottla.config.definitions import group_key
from ottla.groups.settings import ConsumerGroupSettings, ConsumerGroupTimes, GroupSettings, MigrationPolicy
from ottla.metadata.delta import ImageDelta
from ottla.metadata.image import ClusterImage, ResourceType
from ottla.model import Uuid
from ottla.model.internal_topics import CONSUMER_OFFSETS
from ottla.net.deferred import Deferred
from ottla.records.batch import Codec
from ottla.runtime.clock import Clock
from ottla.runtime.supervisor import Supervisor
from ottla.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from ottla.groups.records import ShardRecord
    from ottla.groups.shard import GroupShard, ShardDecision

GroupCommand: TypeAlias = "Callable[[GroupShard, int, int], ShardDecision]"
"""Shard, wall clock in milliseconds, the token to park under."""
GroupDriver: TypeAlias = "MachineDriver[GroupShard, ShardRecord]"
_DeletedTopics = tuple[tuple[str, Uuid], ...]


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
        self._config = config
        self._clock = clock
        self._supervisor = supervisor
        self._random = random
        self._topics = ImageTopics(ClusterImage())
        self._own_times: Mapping[str, ConsumerGroupTimes] = {}
        self._brokers = 1
        self._settings = _settings(config, self._brokers, self._own_times)
        self._missed: dict[int, list[_DeletedTopics]] = {}
        """Deletions of topics while a partition was loading."""
        self._topic: CoordinatorTopic[GroupDriver] = CoordinatorTopic(
            name=CONSUMER_OFFSETS,
            node_id=node_id,
            coordinators=self,
            partitions=partitions,
            describe=lambda brokers: consumer_offsets(config, brokers),
            create=create_topic,
            supervisor=supervisor,
        )

    # -- what handlers use -------------------------------------------------------------------------------------------

    async def ask(
        self,
        group_id: str,
        command: GroupCommand,
        *,
        too_large: ErrorCode = ErrorCode.UNKNOWN_SERVER_ERROR,
        producer: BatchProducer = NOBODY,
    ) -> Any:
        """Have the shard of ``group_id`` decide; it does so before the first await. Records belong to the transaction
        of ``producer``.

        Raises ``KafkaError``; ``too_large`` is its code where the records do not fit the log.
        """
        try:
            return await self.begin(group_id, command, producer).future()
        except KafkaError as error:
            raise as_coordinator(error, too_large) from error

    def begin(
        self, group_id: str, command: GroupCommand, producer: BatchProducer = NOBODY, *, gathers: bool = False
    ) -> Deferred[Any]:
        """``ask`` for who answers without a task. It fails with what the shard or its log say: see ``as_coordinator``.

        ``gathers``: the command may be written together with others, see ``MachineDriver.begin``.
        """
        try:
            return self._topic.driver(self.partition_of(group_id)).begin(command, producer, gathers=gathers)
        except KafkaError as error:
            refused: Deferred[Any] = Deferred()
            refused.fail(error)
            return refused

    async def ask_all(self, command: GroupCommand) -> list[Any]:
        """Have every shard of this broker decide. Raises COORDINATOR_LOAD_IN_PROGRESS while one of them loads."""
        drivers = [driver for _, driver in self._topic if driver.state is not DriverState.CLOSED]
        futures = [driver.submit(command) for driver in drivers]
        return [answer for answer in await asyncio.gather(*futures, return_exceptions=True) if not is_lost(answer)]

    def end_transaction(self, partition: int, marker: ProducerMarker) -> int:
        """Write a transaction's marker to a partition, and let its shard see it. Returns the marker's offset."""
        return self._topic.driver(partition).end_transaction(marker)

    def partition_of(self, group_id: str) -> int:
        """The coordinator partition of a group. Raises COORDINATOR_NOT_AVAILABLE while there is no offsets topic."""
        return self._topic.partition_of(group_id)

    async def locate(self, group_id: str) -> int:
        """The broker that coordinates a group; the first question brings the offsets topic into being.

        Raises COORDINATOR_NOT_AVAILABLE while nobody leads the partition.
        """
        return await self._topic.locate(group_id)

    @property
    def topic(self) -> CoordinatorTopic[GroupDriver]:
        """The partitions, and who leads them."""
        return self._topic

    # -- life --------------------------------------------------------------------------------------------------------

    def on_image(self, delta: ImageDelta, image: ClusterImage) -> None:
        """Follow the cluster. The partitions of this broker must have followed before."""
        self._topics = self._topics.after(delta, image)
        self._show_topics(changed_names(delta))
        self._topic.on_image(image)
        self._brokers = len(image.brokers)
        self._own_times = _follow_own_times(self._own_times, delta, image, self._config)
        self._reconfigure()
        if delta.deleted_topics:
            gone = tuple((topic.name, topic.topic_id) for topic in delta.deleted_topics.values())
            for index, driver in self._topic:
                self._forget(index, driver, gone)

    def set_config(self, config: GroupsConfig) -> None:
        """The broker's settings changed."""
        self._config = config
        self._reconfigure()

    def close(self) -> None:
        """Give every shard up; whoever waits for one is sent to look for another coordinator."""
        self._topic.close()

    def new_driver(self, partition: DrivenPartition, leader_epoch: int) -> GroupDriver:
        # All that decides about groups is loaded with the first partition: most starts do without.
        from ottla.broker.group_codec import GroupCodec  # noqa: PLC0415
        from ottla.groups.shard import GroupShard  # noqa: PLC0415

        self._missed.pop(partition.topic_partition.partition, None)
        shard = GroupShard(settings=self._settings, random=self._random)
        shard.see_topics(self._topics, ())
        return MachineDriver(
            machine=shard,
            codec=GroupCodec(),
            partition=partition,
            clock=self._clock,
            load_bytes=self._config.offsets_load_buffer_bytes,
            compression=Codec(self._config.offsets_topic_compression),
            fail=self._supervisor.fail,
            linger_ms=self._config.append_linger_ms,
        )

    def on_loaded(self, index: int, driver: GroupDriver) -> None:
        for topics in self._missed.pop(index, ()):
            self._forget(index, driver, topics)

    # -- private -----------------------------------------------------------------------------------------------------

    def _reconfigure(self) -> None:
        settings = _settings(self._config, self._brokers, self._own_times)
        if settings != self._settings:
            self._settings = settings
            for _, driver in self._topic:
                driver.reconfigure(lambda shard: shard.reconfigure(settings))

    def _show_topics(self, changed: tuple[str, ...]) -> None:
        topics = self._topics
        for _, driver in self._topic:
            driver.reconfigure(lambda shard: shard.see_topics(topics, changed))

    def _forget(self, index: int, driver: GroupDriver, topics: _DeletedTopics) -> None:
        match driver.state:
            case DriverState.LOADING:
                self._missed.setdefault(index, []).append(topics)
            case DriverState.ACTIVE:
                driver.submit(lambda shard, _now_ms, _token: shard.delete_topics(topics))
            case DriverState.CLOSED:
                pass


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

"""The partitions of this broker: follows the metadata image, opens and deletes logs, answers who leads what.

A log on disk that the image does not know is never deleted: it is set aside under another name (``-stray``), because
the image may be the one that is wrong.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

from ottla.broker.directory_assignments import DirectoryAssignments
from ottla.broker.partition import Partition, PartitionSettings
from ottla.config.log import LogConfig
from ottla.metadata.delta import ImageDelta
from ottla.metadata.image import ClusterImage, PartitionImage, ResourceType, TopicImage
from ottla.model import TopicPartition, Uuid
from ottla.runtime.clock import Clock
from ottla.runtime.telemetry import get_logger
from ottla.storage.log_store import LogStore
from ottla.wire.errors import ErrorCode, KafkaError

log = get_logger(__name__)

SETTLE_SECONDS = 30.0
FLUSH_SECONDS = 1.0
"""How long a request waits for a flush to see what it makes visible; a disk that is slower must not hold it up."""
TURN_SECONDS = 0.005
"""For so long a round over all partitions may keep the loop."""


class Partitions:
    """Every replica this broker holds, by topic and partition."""

    def __init__(
        self,
        *,
        node_id: int,
        store: LogStore,
        settings: PartitionSettings,
        clock: Clock,
        properties: Callable[[], Mapping[str, str]],
        directories: DirectoryAssignments,
    ) -> None:
        self._directories = directories
        self._node_id = node_id
        self._store = store
        self._settings = settings
        self._clock = clock
        self._properties = properties
        """The broker's settings in force; up to date before ``on_image`` is told of a change."""
        self._partitions: dict[TopicPartition, Partition] = {}
        self._offline: dict[TopicPartition, KafkaError] = {}
        self._caught_up = False
        """Whether the metadata of before this start has been taken over: what comes from now on is new."""
        self._log_configs: dict[str, LogConfig] = {}
        """Of the configurations in ``image``: a topic's partitions share one."""
        self.image = ClusterImage()

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._partitions.values())

    def __len__(self) -> int:
        return len(self._partitions)

    async def in_turns(self) -> AsyncIterator[Partition]:
        """All partitions, with pauses: a round over thousands must not hold up the requests that come meanwhile."""
        turn_ends = self._clock.monotonic() + TURN_SECONDS
        for partition in tuple(self):
            yield partition
            if self._clock.monotonic() >= turn_ends:
                await asyncio.sleep(0)
                turn_ends = self._clock.monotonic() + TURN_SECONDS

    # -- looking up --------------------------------------------------------------------------------------------------

    def get(self, topic: str, partition: int) -> Partition:
        """Raises ``KafkaError``: no such partition, no replica of it here, or its log is offline."""
        key = TopicPartition(topic, partition)
        found = self._partitions.get(key)
        if found is not None:
            return found
        if key in self._offline:
            raise self._offline[key]
        if self.image.partition(topic, partition) is not None:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"this broker holds no replica of {key}")
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no {key}")

    def flushing(self, places: Iterable[tuple[str, int]]) -> list[Partition]:
        """Those of the named partitions of which something is on its way to the disk, each once."""
        found = (self._partitions.get(TopicPartition(*place)) for place in dict.fromkeys(places))
        return [partition for partition in found if partition is not None and partition.is_flushing]

    def topic_name(self, topic_id: Uuid) -> str:
        """Raises ``KafkaError(UNKNOWN_TOPIC_ID)``."""
        topic = self.image.topics_by_id.get(topic_id)
        if topic is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID, f"there is no topic with the id {topic_id}")
        return topic.name

    async def settle(self) -> None:
        """Wait until every high watermark is as high as it was before a crash: nobody shall see one go back.

        A disk that takes longer than ``SETTLE_SECONDS`` holds up nobody else's start: until its flush is through,
        the partitions on it serve what the last checkpoint saw.
        """
        late = await flushes_of(self._partitions.values(), SETTLE_SECONDS)
        if late:
            log.warning("what recovery found is not flushed yet", partitions=late, seconds=SETTLE_SECONDS)

    # -- following the image -----------------------------------------------------------------------------------------

    def on_image(self, delta: ImageDelta, image: ClusterImage) -> None:
        """A new image: called in the order of the metadata log, before anybody is told of the change."""
        self.image = image
        for topic in delta.deleted_topics.values():
            self._delete_topic(topic)
        self._apply_configs(delta)
        for changed, index, before, now in delta.changed_partitions():
            key = TopicPartition(changed.name, index)
            if self._node_id in now.replicas:
                self._hold(key, changed.topic_id, now, new=before is None and self._caught_up)
            elif key in self._partitions:
                self._drop(key)

    def set_strays_aside(self) -> None:
        """After the first image: logs of topics that are gone, or never were, stop being served.

        A log whose partition could not be opened is somebody's: it stays where it is.
        """
        self._caught_up = True
        for key in [key for key in self._store.logs if key not in self._partitions and key not in self._offline]:
            log.warning("a log that the metadata does not know is set aside", partition=key)
            try:
                self._store.set_aside(key)
            except KafkaError as error:
                log.error("a log could not be set aside", partition=key, error=error)

    def set_directory_offline(self, path: str, reason: str) -> None:
        """Nothing of a log directory can be trusted any more: its partitions say so to whoever waits or asks."""
        for partition in tuple(self._partitions.values()):
            if partition.log.log_directory == path:
                partition.set_offline(reason)

    def _hold(self, key: TopicPartition, topic_id: Uuid, image: PartitionImage, *, new: bool) -> None:
        if key in self._offline:
            return
        partition = self._partitions.get(key)
        if partition is None:
            try:
                partition = self._open(key, topic_id, image.directory_of(self._node_id), new=new)
            except (KafkaError, OSError) as error:
                log.error("partition is offline", partition=key, error=error)
                offline = error if isinstance(error, KafkaError) else None
                self._offline[key] = offline or KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{key}: {error}")
                return
            self._partitions[key] = partition
        partition.apply_image(image, self._clock.now_ms())
        self._report_directory(partition, image)

    def _report_directory(self, partition: Partition, image: PartitionImage) -> None:
        held = self._store.directory_id(partition.log)
        if self.image.versions.directories_supported and image.directory_of(self._node_id) != held:
            self._directories.report(partition.topic_id, partition.topic_partition.partition, held)

    def _open(self, key: TopicPartition, topic_id: Uuid, assigned: Uuid, *, new: bool) -> Partition:
        found = self._store.get(key)
        if found is not None and found.topic_id not in (None, topic_id):
            log.warning("a log of another topic of this name is set aside", partition=key, topic_id=found.topic_id)
            self._store.set_aside(key)
        if self._store.get(key) is None:
            self._store.check_place(key, assigned, new=new)
        found = self._store.create(
            key, topic_id, self._log_config(key.topic), now_ms=self._clock.now_ms(), directory_id=assigned
        )
        return Partition(
            topic_partition=key,
            topic_id=topic_id,
            node_id=self._node_id,
            log=found,
            high_watermark=self._store.high_watermark(key),
            settings=self._settings,
        )

    def _delete_topic(self, topic: TopicImage) -> None:
        self._log_configs.pop(topic.name, None)
        keys = [TopicPartition(topic.name, index) for index in range(len(topic.partitions))]
        for key in keys:
            self._offline.pop(key, None)
        self._drop(*(key for key in keys if key in self._partitions))

    def _drop(self, *keys: TopicPartition) -> None:
        for key in keys:
            self._partitions.pop(key).set_deleted()
        try:
            self._store.delete_all(keys, now_ms=self._clock.now_ms())
        except KafkaError as error:
            # The topic is gone all the same. Its files are found and set aside at the next start.
            log.error("the log of a deleted partition could not be removed", partitions=keys, error=error)

    def _log_config(self, topic: str) -> LogConfig:
        found = self._log_configs.get(topic)
        if found is None:
            found = self._log_configs[topic] = log_config(self.image, topic, self._properties())
        return found

    def _apply_configs(self, delta: ImageDelta) -> None:
        if delta.changed_configs:
            self._log_configs.clear()
        brokers_changed = any(resource.type == ResourceType.BROKER for resource in delta.changed_configs)
        topics = {resource.name for resource in delta.changed_configs if resource.type == ResourceType.TOPIC}
        if not brokers_changed and not topics:
            return
        for partition in self._partitions.values():
            topic = partition.topic_partition.topic
            if brokers_changed or topic in topics:
                partition.set_config(self._log_config(topic))


async def flushes_of(partitions: Iterable[Partition], seconds_max: float) -> int:
    """Wait until what is on its way to the disk is visible, or has failed; returns of how many partitions it is not."""
    waits = [wait for partition in partitions if (wait := partition.settled()) is not None]
    if not waits:
        return 0
    done, late = await asyncio.wait(waits, timeout=seconds_max)
    for wait in done:
        # The partition tells everybody of it who asks.
        wait.exception()
    return len(late)


def log_config(image: ClusterImage, topic: str, properties: Mapping[str, str]) -> LogConfig:
    """A topic's configuration over the broker's settings."""
    config, faults = LogConfig.in_force(image.topic_config(topic), properties)
    for fault in faults:
        log.error("a topic's setting cannot be used", topic=topic, key=fault.key, reason=fault.message)
    return config

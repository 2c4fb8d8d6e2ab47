"""The topic of one kind of coordinator: which broker serves a key, and a machine for every partition led here.

Follows the metadata image: a partition that this broker comes to lead is loaded, one it loses is closed. The first
question for a key brings the topic into being.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from ottla.broker.internal_topics import InternalTopic
from ottla.broker.machine_driver import DrivenPartition, MachineDriver
from ottla.groups.partitioning import partition_for
from ottla.metadata.image import ClusterImage, TopicImage
from ottla.runtime.supervisor import Supervisor
from ottla.runtime.telemetry import get_logger
from ottla.wire.errors import ErrorCode, KafkaError

log = get_logger(__name__)

CREATION_SECONDS_MAX = 10.0
"""How long a lookup waits for the topic to come into being."""

CreateTopic = Callable[[str, int, int, Mapping[str, str]], Awaitable[None]]
"""Name, partitions, replication factor, settings; raises ``KafkaError`` (TOPIC_ALREADY_EXISTS is no failure here)."""

DriverT = TypeVar("DriverT", bound=MachineDriver)  # type: ignore[type-arg]  # bound by any machine


class LedPartitions(Protocol):
    """Where the partitions of the topic are found."""

    def get(self, topic: str, partition: int, /) -> DrivenPartition: ...


class Coordinators(Protocol[DriverT]):
    """A kind of coordinator: what is made of a partition that this broker leads."""

    def new_driver(self, partition: DrivenPartition, leader_epoch: int, /) -> DriverT: ...

    def on_loaded(self, index: int, driver: DriverT, /) -> None:
        """The machine serves, or has turned out to be unreadable and is closed."""
        ...


class Led(Struct, Generic[DriverT], kw_only=True):
    """A partition that this broker leads."""

    epoch: int
    driver: DriverT


class CoordinatorTopic(Generic[DriverT]):
    """One internal topic, its creation and its leadership."""

    def __init__(
        self,
        *,
        name: str,
        node_id: int,
        coordinators: Coordinators[DriverT],
        partitions: LedPartitions,
        describe: Callable[[int], InternalTopic],
        create: CreateTopic,
        supervisor: Supervisor,
    ) -> None:
        """``describe`` says what the topic is created with, given the number of brokers."""
        self.name = name
        self._node_id = node_id
        self._coordinators = coordinators
        self._partitions = partitions
        self._describe = describe
        self._create = create
        self._supervisor = supervisor
        self._image = ClusterImage()
        self._topic: TopicImage | None = None
        self._led: dict[int, Led[DriverT]] = {}
        self._creation: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterator[tuple[int, DriverT]]:
        """The partitions led here, and their machines in whatever state."""
        return iter([(index, led.driver) for index, led in self._led.items()])

    # -- looking up --------------------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        return self._topic is not None

    def partition_of(self, key: str) -> int:
        """The coordinator partition of a key. Raises COORDINATOR_NOT_AVAILABLE while there is no topic."""
        if self._topic is None:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        return partition_for(key, len(self._topic.partitions))

    def driver(self, index: int) -> DriverT:
        """The machine of one partition. Raises NOT_COORDINATOR."""
        led = self._led.get(index)
        if led is None:
            raise KafkaError(ErrorCode.NOT_COORDINATOR)
        return led.driver

    def epoch(self, index: int) -> int | None:
        """The leader epoch under which this broker leads a partition."""
        led = self._led.get(index)
        return None if led is None else led.epoch

    async def locate(self, key: str) -> int:
        """The broker that coordinates a key; the first question brings the topic into being.

        Raises COORDINATOR_NOT_AVAILABLE while nobody leads the partition.
        """
        if self.is_missing:
            await self.bring_about()
        return self.located(key)

    @property
    def is_missing(self) -> bool:
        """Whether there is no topic yet."""
        return self._topic is None

    def located(self, key: str) -> int:
        """``locate`` where the topic is there."""
        if self._topic is None:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        partition = self._image.partition(self.name, self.partition_of(key))
        if partition is None or partition.leader not in self._image.brokers:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        return partition.leader

    # -- life --------------------------------------------------------------------------------------------------------

    def on_image(self, image: ClusterImage) -> None:
        """Follow the cluster. The partitions of this broker must have followed before."""
        self._image = image
        topic = image.topics.get(self.name)
        known = self._topic
        if topic is not known:
            if topic is not None and known is not None and topic.topic_id != known.topic_id:
                # A namesake in the place of a deleted topic: nothing of that holds for it.
                self._follow(None)
            self._topic = topic
            self._follow(topic)

    def close(self) -> None:
        """Give every partition up; whoever waits for one is sent to look for another coordinator."""
        for index in list(self._led):
            self._resign(index)

    # -- private -----------------------------------------------------------------------------------------------------

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
            partition = self._partitions.get(self.name, index)
        except KafkaError as error:
            log.error("coordinator partition unusable", topic=self.name, partition=index, error=str(error))
            return
        driver = self._coordinators.new_driver(partition, epoch)
        self._led[index] = Led(epoch=epoch, driver=driver)
        if driver.start_if_empty():
            self._coordinators.on_loaded(index, driver)
        else:
            self._supervisor.spawn(self._load(index, driver), name=f"load {self.name}-{index}")

    async def _load(self, index: int, driver: DriverT) -> None:
        try:
            await driver.load()
        except (KafkaError, OSError) as error:
            # Unreadable: its keys have no coordinator here, the rest of the broker serves on.
            log.error("coordinator partition unreadable", partition=driver.partition.topic_partition, error=str(error))
            driver.close(KafkaError(ErrorCode.NOT_COORDINATOR, str(error)))
        led = self._led.get(index)
        if led is not None and led.driver is driver:
            self._coordinators.on_loaded(index, driver)

    def _resign(self, index: int) -> None:
        led = self._led.pop(index, None)
        if led is not None:
            led.driver.close(KafkaError(ErrorCode.NOT_COORDINATOR))

    async def bring_about(self) -> None:
        """Create the topic. Raises COORDINATOR_NOT_AVAILABLE where that takes too long."""
        if self._creation is None:
            self._creation = self._supervisor.spawn(self._create_topic(), name=f"create {self.name}")
        try:
            await asyncio.wait_for(asyncio.shield(self._creation), CREATION_SECONDS_MAX)
        except TimeoutError as error:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"{self.name} is still being created") from error

    async def _create_topic(self) -> None:
        topic = self._describe(sum(1 for _ in self._image.active_brokers()))
        try:
            await self._create(topic.name, topic.partitions, topic.replication_factor, topic.configs)
        except KafkaError as error:
            if error.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
                log.warning("coordinator topic not created", topic=self.name, error=str(error))
        finally:
            self._creation = None


_AS_COORDINATOR: Mapping[ErrorCode, ErrorCode] = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
}
"""What a failure of the log means to a client of the coordinator."""
_TOO_LARGE = frozenset((ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE, ErrorCode.INVALID_FETCH_SIZE))


def as_coordinator(error: Exception, too_large: ErrorCode) -> KafkaError:
    """An error of the log as a client of the coordinator is told it. Raises what is no ``KafkaError``."""
    if not isinstance(error, KafkaError):
        raise error
    code = too_large if error.code in _TOO_LARGE else _AS_COORDINATOR.get(error.code)
    return error if code is None else KafkaError(code, error.message)


def is_lost(answer: object) -> bool:
    """Whether a machine was given up while it was asked; any other failure is raised."""
    if isinstance(answer, KafkaError) and answer.code is ErrorCode.NOT_COORDINATOR:
        return True
    if isinstance(answer, BaseException):
        raise answer
    return False

"""A broker's way through its cluster: register, catch up, be unfenced, beat, go away in order (KIP-631).

Speaks to the active controller through a ``ControllerChannel``; here is the one for the controller in the same process.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, cast

from msgspec import Struct

from ottla.broker.metadata_loader import MetadataLoader
from ottla.broker.raft_driver import RaftDriver
from ottla.metadata.controller.brokers import Heartbeat, HeartbeatReply, Registration
from ottla.metadata.controller.directories import DirectoryAssignment
from ottla.metadata.controller.isr import IsrOutcome, IsrProposal
from ottla.metadata.controller.producer_ids import ProducerIdBlock
from ottla.metadata.features import broker_features, controller_features
from ottla.metadata.image import ControllerRegistration, Endpoint
from ottla.model import Uuid
from ottla.runtime.supervisor import Supervisor
from ottla.runtime.telemetry import get_logger
from ottla.wire.errors import ErrorCode, KafkaError

log = get_logger(__name__)

RETRY_S: Final = 0.1
SHUTDOWN_TIMEOUT_S: Final = 5.0


class ControllerChannel(Protocol):
    """What a broker asks of the active controller. All raise ``KafkaError``; NOT_CONTROLLER is worth another try."""

    async def register_controller(self, registration: ControllerRegistration) -> None: ...

    async def register_broker(self, registration: Registration) -> int: ...

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply: ...

    async def allocate_producer_ids(self, *, broker_id: int, broker_epoch: int) -> ProducerIdBlock: ...

    async def alter_partition(
        self, *, broker_id: int, broker_epoch: int, proposals: Sequence[IsrProposal]
    ) -> list[IsrOutcome]: ...

    async def assign_replicas_to_dirs(
        self, *, broker_id: int, broker_epoch: int, assignments: Sequence[DirectoryAssignment]
    ) -> list[ErrorCode]: ...


class LocalController:
    """The controller of this process."""

    def __init__(self, driver: RaftDriver) -> None:
        self._driver = driver

    async def register_controller(self, registration: ControllerRegistration) -> None:
        await self._driver.submit(lambda controller, _: controller.register_controller(registration))

    async def register_broker(self, registration: Registration) -> int:
        epoch = await self._driver.submit(lambda controller, now_ms: controller.register_broker(registration, now_ms))
        return cast("int", epoch)

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        reply = await self._driver.submit(lambda controller, now_ms: controller.heartbeat(heartbeat, now_ms))
        return cast("HeartbeatReply", reply)

    async def allocate_producer_ids(self, *, broker_id: int, broker_epoch: int) -> ProducerIdBlock:
        block = await self._driver.submit(
            lambda controller, _: controller.allocate_producer_ids(broker_id=broker_id, broker_epoch=broker_epoch)
        )
        return cast("ProducerIdBlock", block)

    async def alter_partition(
        self, *, broker_id: int, broker_epoch: int, proposals: Sequence[IsrProposal]
    ) -> list[IsrOutcome]:
        outcomes = await self._driver.submit(
            lambda controller, _: controller.alter_partition(
                broker_id=broker_id, broker_epoch=broker_epoch, proposals=proposals
            )
        )
        return cast("list[IsrOutcome]", outcomes)

    async def assign_replicas_to_dirs(
        self, *, broker_id: int, broker_epoch: int, assignments: Sequence[DirectoryAssignment]
    ) -> list[ErrorCode]:
        outcomes = await self._driver.submit(
            lambda controller, _: controller.assign_replicas_to_dirs(
                broker_id=broker_id, broker_epoch=broker_epoch, assignments=assignments
            )
        )
        return cast("list[ErrorCode]", outcomes)


class LifecycleSettings(Struct, frozen=True, kw_only=True):
    """Who this broker is. ``previous_epoch``: from the mark of a clean shutdown, else -1."""

    node_id: int
    cluster_id: str
    incarnation_id: Uuid
    endpoints: tuple[Endpoint, ...]
    controller_endpoints: tuple[Endpoint, ...] | None
    """``None``: this node is no controller."""
    log_dirs: tuple[Uuid, ...]
    rack: str | None = None
    previous_epoch: int = -1
    heartbeat_interval_ms: int = 2000
    registration_timeout_ms: int = 60_000


class BrokerLifecycle:
    """``broker_epoch`` is -1 until registered. ``fenced`` is what the controller said last."""

    def __init__(self, *, settings: LifecycleSettings, channel: ControllerChannel, loader: MetadataLoader) -> None:
        self.settings = settings
        self.broker_epoch = -1
        self.fenced = True
        self._channel = channel
        self._loader = loader
        self._offline_dirs: tuple[Uuid, ...] = ()
        self._cordoned_dirs: tuple[Uuid, ...] = ()
        self._beat_now = asyncio.Event()
        self._shutting_down = False

    async def register(self) -> int:
        """Introduce this node to the controller; returns the broker epoch. Raises ``KafkaError``."""
        await self._retried(self._register_once)
        log.info("broker registered", node=self.settings.node_id, epoch=self.broker_epoch)
        return self.broker_epoch

    async def unfence(self) -> None:
        """Once caught up and ready to serve: ask to be unfenced until it is granted."""
        # The first beat says where the directories stand, still fenced; both are written together.
        first, reply = await asyncio.gather(self._beat(want_fence=True), self._beat())
        del first
        while reply.is_fenced:
            await asyncio.sleep(RETRY_S)
            reply = await self._beat()

    def start(self, supervisor: Supervisor) -> None:
        """Keep the session alive from now on."""
        supervisor.spawn(self._run(), "broker heartbeats")

    def report_offline_dirs(self, directories: Sequence[Uuid]) -> None:
        """Tell the controller at once that these directories are lost."""
        self._offline_dirs = tuple(dict.fromkeys((*self._offline_dirs, *directories)))
        self._beat_now.set()

    def report_cordoned_dirs(self, directories: Sequence[Uuid]) -> None:
        """Tell the controller at once that these directories, and no others, take no new partitions."""
        if self._cordoned_dirs != tuple(directories):
            self._cordoned_dirs = tuple(directories)
            self._beat_now.set()

    async def shut_down(self) -> bool:
        """Controlled shutdown: hand over every leadership. Returns whether the controller let go in time."""
        self._shutting_down = True
        if self.broker_epoch < 0:
            return True
        try:
            async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                reply = await self._beat(want_shut_down=True)
                while not reply.should_shut_down:
                    reply = await self._beat(want_shut_down=True)
                return True
        except (TimeoutError, KafkaError) as error:
            log.warning("controlled shutdown not completed", reason=error)
            return False

    async def allocate_producer_ids(self) -> ProducerIdBlock:
        return await self._channel.allocate_producer_ids(
            broker_id=self.settings.node_id, broker_epoch=self.broker_epoch
        )

    async def alter_partition(self, proposals: Sequence[IsrProposal]) -> list[IsrOutcome]:
        return await self._channel.alter_partition(
            broker_id=self.settings.node_id, broker_epoch=self.broker_epoch, proposals=proposals
        )

    async def assign_replicas_to_dirs(self, assignments: Sequence[DirectoryAssignment]) -> list[ErrorCode]:
        return await self._channel.assign_replicas_to_dirs(
            broker_id=self.settings.node_id, broker_epoch=self.broker_epoch, assignments=assignments
        )

    # --- one by one -------------------------------------------------------------------------------------------------

    async def _register_once(self) -> None:
        settings = self.settings
        registration = Registration(
            broker_id=settings.node_id,
            cluster_id=settings.cluster_id,
            incarnation_id=settings.incarnation_id,
            endpoints=settings.endpoints,
            features=broker_features(),
            log_dirs=settings.log_dirs,
            rack=settings.rack,
            previous_epoch=settings.previous_epoch,
        )
        if settings.controller_endpoints is None:
            self.broker_epoch = await self._channel.register_broker(registration)
            return
        controller = ControllerRegistration(
            controller_id=settings.node_id,
            incarnation_id=settings.incarnation_id,
            endpoints=settings.controller_endpoints,
            features=controller_features(),
        )
        _, self.broker_epoch = await asyncio.gather(
            self._channel.register_controller(controller), self._channel.register_broker(registration)
        )

    async def _beat(self, *, want_fence: bool = False, want_shut_down: bool = False) -> HeartbeatReply:
        reply = await self._channel.heartbeat(
            Heartbeat(
                broker_id=self.settings.node_id,
                broker_epoch=self.broker_epoch,
                metadata_offset=self._loader.image.provenance.offset,
                want_fence=want_fence,
                want_shut_down=want_shut_down,
                offline_log_dirs=self._offline_dirs,
                cordoned_log_dirs=self._cordoned_dirs,
            )
        )
        self.fenced = reply.is_fenced
        return reply

    async def _run(self) -> None:
        while not self._shutting_down:
            try:
                async with asyncio.timeout(self.settings.heartbeat_interval_ms / 1000):
                    await self._beat_now.wait()
            except TimeoutError:
                pass
            self._beat_now.clear()
            if self._shutting_down:
                return
            try:
                await self._beat()
            except KafkaError as error:
                await self._recover(error)

    async def _recover(self, error: KafkaError) -> None:
        log.warning("heartbeat refused", reason=error)
        if error.code is ErrorCode.STALE_BROKER_EPOCH:
            await self.register()
            await self.unfence()

    async def _retried(self, attempt: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(self.settings.registration_timeout_ms / 1000):
                while True:
                    try:
                        await attempt()
                        return
                    except KafkaError as error:
                        if error.code not in (ErrorCode.NOT_CONTROLLER, ErrorCode.DUPLICATE_BROKER_REGISTRATION):
                            raise
                        log.warning("registration put off", reason=error)
                    await asyncio.sleep(RETRY_S)
        except TimeoutError:
            raise KafkaError(ErrorCode.REQUEST_TIMED_OUT, "no controller registered this broker in time") from None

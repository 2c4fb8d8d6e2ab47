"""A node, assembled by hand: what it is made of, in which order it comes up, and in which it goes down.

Up: addresses, directories (locked, recovered), metadata quorum, logs, registration, groups, then the first connection.
A log directory whose disk fails goes offline with its partitions, and the node serves on from the others. If the
metadata log is in it, or no other is left, the node answers what is in flight and stops: ``wait_stopped`` raises
``LogDirectoryFailed``. Apache Kafka halts in the same two cases. After a start the directory is used again.

Down: no new connection, what is in flight is answered, leadership handed over, everything flushed, the mark of a clean
shutdown written. A failure that is our bug (``Supervisor.failure``) goes down without that mark, so that the next start
checks what it finds.
"""

import asyncio
import os
import shutil
from collections.abc import Callable
from random import Random, SystemRandom

from ottla.broker.cleaner import LogCleaner
from ottla.broker.cluster import Incarnation, make_raft_driver, open_metadata_log
from ottla.broker.directory_assignments import DirectoryAssignments
from ottla.broker.dynamic_config import DynamicConfig
from ottla.broker.format import open_or_format
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.broker.handlers.table import Parts, routes_of
from ottla.broker.housekeeping import Housekeeping
from ottla.broker.isr_proposals import IsrProposals
from ottla.broker.leader_hints import LeaderHints
from ottla.broker.lifecycle import BrokerLifecycle, LifecycleSettings, LocalController
from ottla.broker.listeners import Listeners
from ottla.broker.metadata_loader import MetadataLoader
from ottla.broker.metadata_log import MetadataLog
from ottla.broker.new_logs import NewLogs
from ottla.broker.partition import FlushPolicy, PartitionSettings
from ottla.broker.partitions import Partitions, log_config
from ottla.broker.producer_ids import ProducerIds
from ottla.broker.raft_driver import RaftDriver
from ottla.broker.replica_moves import ReplicaMoves
from ottla.broker.topic_creation import TopicCreator
from ottla.broker.transaction_coordinator import TransactionCoordinator
from ottla.broker.transaction_markers import LocalMarkers, MarkerSender
from ottla.broker.transaction_verification import TransactionVerification
from ottla.config.broker import BrokerConfig
from ottla.config.cleaner import CleanerConfig
from ottla.config.log import LogConfig
from ottla.model import Uuid
from ottla.replication.fetch_session import FetchSessionCache
from ottla.runtime.clock import Clock, SystemClock
from ottla.runtime.supervisor import Supervisor
from ottla.runtime.telemetry import get_logger
from ottla.storage.disk import Disk
from ottla.storage.errors import LogDirectoryFailed
from ottla.storage.group_commit import GroupCommit
from ottla.storage.log_directory import LogDirectory
from ottla.storage.log_store import LogStore

log = get_logger(__name__)


class Node:
    """Broker and controller in one. Make and start it on the loop it is to live on."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        ephemeral: bool = False,
        disk: Disk | None = None,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        """``ephemeral``: the log directories are removed when the node stops."""
        self.config = config
        self.partitions: Partitions
        self.bootstrap = ""
        self._ephemeral = ephemeral
        self._disk = disk or Disk()
        self._clock = clock or SystemClock()
        self._rng = rng or SystemRandom()
        self._supervisor = Supervisor()
        self._dynamic = DynamicConfig(config)
        self._listeners = Listeners(config, self._supervisor)
        self._started = False
        self._stopped = False
        self._store: LogStore
        self._metadata_log: MetadataLog
        self._driver: RaftDriver
        self._lifecycle: BrokerLifecycle
        self._groups: GroupCoordinator
        self._producer_ids: ProducerIds
        self._markers: LocalMarkers
        self._transactions: TransactionCoordinator
        self._housekeeping: Housekeeping
        self._flushes: GroupCommit
        self.cleaner: LogCleaner
        self._assignments: DirectoryAssignments
        self._moves: ReplicaMoves

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Come up; when this returns, ``bootstrap`` serves.

        Raises ``OSError`` (an address), ``LogDirectoryError`` and ``FormatError`` (a directory), ``CorruptLogError``
        (the metadata log). Nothing is left behind then.
        """
        self._listeners.bind()
        try:
            await self._assemble()
            if self._supervisor.failure.done():
                raise self._supervisor.failure.result()
        except BaseException:
            self._listeners.close()
            await self._abandon()
            raise
        endpoint = self._listeners.endpoints()[0]
        self.bootstrap = f"{endpoint.host}:{endpoint.port}"
        self._started = True
        log.info("node serves", node=self.config.node_id, bootstrap=self.bootstrap)

    async def wait_stopped(self) -> None:
        """Wait for a failure that stops the node, and raise it. Cancel this to stop for other reasons."""
        raise await asyncio.shield(self._supervisor.failure)

    async def stop(self) -> None:
        """Go down in good order. Idempotent."""
        if self._stopped or not self._started:
            return
        self._stopped = True
        clean = not self._supervisor.failure.done()
        await self._listeners.stop(self.config.network.stop_timeout_ms / 2000)
        if clean:
            clean = await self._lifecycle.shut_down()
        self._transactions.close()
        self._groups.close()
        await self._driver.stop()
        await self._supervisor.stop()
        self._flushes.drain()
        await asyncio.to_thread(self._close_files, clean)
        log.info("node stopped", node=self.config.node_id, clean=clean)

    # -- coming up ---------------------------------------------------------------------------------------------------

    async def _assemble(self) -> None:
        now_ms, loader = self._clock.now_ms(), MetadataLoader()
        cluster_id = self._open_quorum(loader, now_ms)
        self._make_storage()
        await self._lifecycle.register()
        self._follow_config(loader)
        self._load_logs(loader, now_ms)
        creator = self._start_coordinators(loader)
        await self._lifecycle.unfence()
        await self.partitions.settle()
        self._lifecycle.start(self._supervisor)
        self._housekeeping = Housekeeping(
            store=self._store,
            partitions=self.partitions,
            config=lambda: self._dynamic.current.storage,
            transaction_ms_max=self.config.transactions.timeout_ms_max,
            clock=self._clock,
            close_overdue=self._listeners.close_overdue,
            flush_soon=self._flushes.flush_soon,
        )
        self._listeners.open(routes_of(self._parts(cluster_id, creator)), self._clock)
        self._housekeeping.start(self._supervisor)
        self.cleaner.start(self._supervisor)
        self._moves.resume()

    def _open_quorum(self, loader: MetadataLoader, now_ms: int) -> str:
        """Directories locked, the metadata log replayed, everything made that speaks to the controller. Returns the
        cluster's id."""
        config = self.config
        identity = open_or_format(
            config.metadata_log_dir, node_id=config.node_id, disk=self._disk, rng=self._rng, now_ms=now_ms
        )
        self._store = LogStore.open(
            config.log_dirs,
            cluster_id=identity.cluster_id,
            node_id=config.node_id,
            disk=self._disk,
            rng=self._rng,
            metadata_directory=config.metadata_log_dir,
        )
        self._metadata_log = open_metadata_log(config, self._store, self._disk, now_ms)
        incarnation = Incarnation(
            incarnation_id=Uuid.random(self._rng), controller_endpoints=self._listeners.controller_endpoints()
        )
        self._driver = make_raft_driver(
            config, identity, incarnation, (self._metadata_log, loader, self._clock, self._rng)
        )
        self._driver.start(self._supervisor)
        self._lifecycle = self._make_lifecycle(identity.cluster_id, incarnation, loader)
        return identity.cluster_id

    def _make_storage(self) -> None:
        """What looks after the logs; from here on a failing directory is dealt with."""
        store = self._store
        self._flushes = GroupCommit(on_failed=store.fail_directory, open_kernel=self._disk.kernel_sync)
        store.on_rolled = self._flushes.flush_soon
        if self.config.storage.flush != FlushPolicy.NEVER:
            new_logs = NewLogs(self._flushes.wait_settled)
            store.on_created = new_logs.add
            self._supervisor.spawn(new_logs.run(), name="new logs")
        self._assignments = DirectoryAssignments(
            assign=self._lifecycle.assign_replicas_to_dirs, supervisor=self._supervisor
        )
        self.partitions = self._make_partitions()
        self.cleaner = LogCleaner(
            store=store, partitions=self.partitions, clock=self._clock, settings=self._cleaner_settings
        )
        self._moves = self._make_moves()
        store.on_directory_failed = self._directory_failed

    def _follow_config(self, loader: MetadataLoader) -> None:
        loader.add_listener(self._dynamic.on_image)
        self._dynamic.subscribe(self._listeners.set_config)
        self._dynamic.subscribe(self._cordon)

    def _load_logs(self, loader: MetadataLoader, now_ms: int) -> None:
        """Recover what the directories hold; the partitions follow the image from here on."""
        store = self._store
        store.recovery_threads = self._dynamic.current.storage.recovery_threads
        store.topic_id_of = lambda name: topic.topic_id if (topic := loader.image.topics.get(name)) else None
        store.load(self._log_config_of(loader), now_ms=now_ms)
        loader.add_listener(self.partitions.on_image)
        self.partitions.set_strays_aside()

    def _start_coordinators(self, loader: MetadataLoader) -> TopicCreator:
        """Groups and transactions; returns what brings their topics into being."""
        config, partitions = self.config, self.partitions
        creator = TopicCreator(
            submit=self._driver.submit,
            image=lambda: partitions.image,
            groups=config.groups,
            transactions=config.transactions,
        )
        self._groups = GroupCoordinator(
            node_id=config.node_id,
            config=config.groups,
            partitions=partitions,
            create_topic=creator.create,
            clock=self._clock,
            supervisor=self._supervisor,
            random=self._rng,
        )
        self._dynamic.subscribe(lambda current: self._groups.set_config(current.groups))
        loader.add_listener(self._groups.on_image)
        self._transactions = self._make_transactions(creator)
        loader.add_listener(lambda _delta, image: self._transactions.on_image(image))
        return creator

    def _directory_failed(self, directory: LogDirectory, error: OSError) -> None:
        """Go on without the directory, or stop: without metadata or without any log there is nothing to go on with."""
        self.partitions.set_directory_offline(directory.path, f"log directory {directory.path} is offline: {error}")
        self._lifecycle.report_offline_dirs([directory.directory_id])
        if directory is self._store.metadata_directory:
            self._supervisor.fail(LogDirectoryFailed(directory.path, f"failed, and the metadata log is in it: {error}"))
        elif all(other.failure is not None for other in self._store.directories):
            self._supervisor.fail(LogDirectoryFailed(directory.path, f"failed, and no other one is left: {error}"))

    def _cordon(self, config: BrokerConfig) -> None:
        """Some directories are to get no new partitions: this broker's choice, and the controller's."""
        self._store.cordoned = frozenset(map(os.path.abspath, config.storage.cordoned_log_dirs))
        self._lifecycle.report_cordoned_dirs(
            [
                directory.directory_id
                for directory in self._store.directories
                if directory.failure is None and directory.path in self._store.cordoned
            ]
        )

    def _make_lifecycle(self, cluster_id: str, incarnation: Incarnation, loader: MetadataLoader) -> BrokerLifecycle:
        config = self.config
        directories = [directory for directory in self._store.directories if directory.failure is None]
        clean = all(directory.clean_shutdown for directory in directories)
        return BrokerLifecycle(
            settings=LifecycleSettings(
                node_id=config.node_id,
                cluster_id=cluster_id,
                incarnation_id=incarnation.incarnation_id,
                endpoints=self._listeners.endpoints(),
                controller_endpoints=incarnation.controller_endpoints,
                log_dirs=tuple(directory.directory_id for directory in directories),
                rack=config.rack,
                previous_epoch=max(directory.broker_epoch for directory in directories) if clean else -1,
                heartbeat_interval_ms=config.registration.heartbeat_interval_ms,
                registration_timeout_ms=config.registration.initial_timeout_ms,
            ),
            channel=LocalController(self._driver),
            loader=loader,
        )

    def _make_partitions(self) -> Partitions:
        config = self.config
        return Partitions(
            node_id=config.node_id,
            store=self._store,
            settings=PartitionSettings(
                flush_policy=FlushPolicy(config.storage.flush),
                flushes=self._flushes,
                decompressed_bytes_max=config.storage.batch_decompression_bytes_max,
                replica_lag_time_max_ms=config.replication.lag_time_ms_max,
                propose_isr=IsrProposals(alter=self._lifecycle.alter_partition, supervisor=self._supervisor).propose,
                verify_transactions=self._verifies_transactions,
            ),
            clock=self._clock,
            properties=lambda: self._dynamic.current.properties,
            directories=self._assignments,
        )

    def _make_moves(self) -> ReplicaMoves:
        return ReplicaMoves(
            store=self._store,
            partitions=self.partitions,
            supervisor=self._supervisor,
            clock=self._clock,
            report=self._assignments.report,
            moves_max=self.config.storage.moves_max,
            bytes_per_second=lambda: self._dynamic.current.storage.move_bytes_per_second_max,
        )

    def _make_transactions(self, creator: TopicCreator) -> TransactionCoordinator:
        config, partitions = self.config, self.partitions
        self._producer_ids = ProducerIds(self._lifecycle.allocate_producer_ids)
        self._markers = LocalMarkers(
            partitions=partitions,
            groups=self._groups,
            clock=self._clock,
            timeout_seconds=config.network.request_timeout_ms / 1000,
        )
        return TransactionCoordinator(
            node_id=config.node_id,
            config=config.transactions,
            partitions=partitions,
            create_topic=creator.create,
            producer_ids=self._producer_ids,
            markers=MarkerSender(image=lambda: partitions.image, channels={config.node_id: self._markers}),
            clock=self._clock,
            supervisor=self._supervisor,
        )

    def _verifies_transactions(self) -> bool:
        return self._dynamic.current.transactions.verify_partitions

    def _parts(self, cluster_id: str, creator: TopicCreator) -> Parts:
        partitions = self.partitions
        return Parts(
            config=self.config,
            clock=self._clock,
            cluster_id=cluster_id,
            partitions=partitions,
            leader_hints=LeaderHints(image=lambda: partitions.image),
            fetch_sessions=FetchSessionCache(rng=self._rng, slots=self.config.fetch.sessions_max),
            producer_ids=self._producer_ids,
            groups=self._groups,
            transactions=self._transactions,
            markers=self._markers,
            verification=TransactionVerification(
                coordinator=self._transactions,
                enabled=self._verifies_transactions,
                seconds_max=self.config.network.request_timeout_ms / 1000,
            ),
            housekeeping=self._housekeeping,
            store=self._store,
            driver=self._driver,
            creator=creator,
            moves=self._moves,
        )

    def _log_config_of(self, loader: MetadataLoader) -> Callable[[str], LogConfig]:
        """The configuration of a topic as far as the metadata is known before the partitions follow it."""
        properties = self._dynamic.current.properties
        return lambda topic: log_config(loader.image, topic, properties)

    def _cleaner_settings(self) -> CleanerConfig:
        return CleanerConfig.resolve(self._dynamic.current.properties)

    # -- going down --------------------------------------------------------------------------------------------------

    def _close_files(self, clean: bool) -> None:
        self._flushes.close()
        if clean:
            self._store.checkpoint_high_watermarks(self._housekeeping.high_watermarks())
        # Before the store unlocks its directory, and writes the recovery point.
        self._metadata_log.close(clean=clean)
        self._store.close(clean=clean, broker_epoch=self._lifecycle.broker_epoch)
        if self._ephemeral:
            for directory in dict.fromkeys((*self.config.log_dirs, self.config.metadata_log_dir)):
                shutil.rmtree(directory, ignore_errors=True)

    async def _abandon(self) -> None:
        """Let go of whatever a failed start had taken."""
        if hasattr(self, "_driver"):
            await self._driver.stop()
        await self._supervisor.stop()
        if hasattr(self, "_flushes"):
            self._flushes.drain()
            self._flushes.close()
        if hasattr(self, "_metadata_log"):
            self._metadata_log.close(clean=False)
        if hasattr(self, "_store"):
            self._store.close(clean=False)

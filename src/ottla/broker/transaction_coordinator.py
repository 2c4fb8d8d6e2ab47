"""The transactions this broker coordinates: one machine for each partition of ``__transaction_state`` that it leads.

Commands go to the shard of their transactional id; errors of the log become a coordinator's. Once the record of a
decided transaction is committed its markers are sent, and when all are in the machine is told to complete it. After a
partition was loaded the same happens for every transaction that was decided but not completed.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ottla.broker.coordinator_topic import CoordinatorTopic, CreateTopic, LedPartitions, as_coordinator, is_lost
from ottla.broker.internal_topics import transaction_state
from ottla.broker.machine_driver import DrivenPartition, DriverState, MachineDriver, ProducerMarker
from ottla.broker.producer_ids import ProducerIds
from ottla.broker.transaction_markers import RETRY_SECONDS_MAX, MarkerSender
from ottla.config.broker import TransactionsConfig
from ottla.metadata.features import TRANSACTION_VERSION
from ottla.metadata.image import ClusterImage
from ottla.model.internal_topics import TRANSACTION_STATE
from ottla.records.batch import Codec
from ottla.records.control import EndTransaction
from ottla.runtime.clock import Clock
from ottla.runtime.supervisor import Supervisor
from ottla.runtime.telemetry import get_logger
from ottla.transactions.settings import TransactionSettings
from ottla.transactions.transaction import PREPARED, Transaction
from ottla.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from ottla.transactions.records import TransactionRecord
    from ottla.transactions.shard import TransactionDecision, TransactionShard

log = get_logger(__name__)

TransactionCommand: TypeAlias = "Callable[[TransactionShard, int, int], TransactionDecision]"
"""Shard, wall clock in milliseconds, the token to park under (no command of a transaction shard parks)."""
TransactionDriver: TypeAlias = "MachineDriver[TransactionShard, TransactionRecord]"


class TransactionCoordinator:
    """Routes transactional ids to shards, and carries out what the shards decided."""

    def __init__(
        self,
        *,
        node_id: int,
        config: TransactionsConfig,
        partitions: LedPartitions,
        create_topic: CreateTopic,
        producer_ids: ProducerIds,
        markers: MarkerSender,
        clock: Clock,
        supervisor: Supervisor,
    ) -> None:
        self._config = config
        self._producer_ids = producer_ids
        self._markers = markers
        self._clock = clock
        self._supervisor = supervisor
        self._settings = _settings(config, 0)
        self._ends: dict[str, asyncio.Future[None]] = {}
        self._topic: CoordinatorTopic[TransactionDriver] = CoordinatorTopic(
            name=TRANSACTION_STATE,
            node_id=node_id,
            coordinators=self,
            partitions=partitions,
            describe=lambda brokers: transaction_state(config, brokers),
            create=create_topic,
            supervisor=supervisor,
        )

    # -- what handlers use -------------------------------------------------------------------------------------------

    async def ask(self, transactional_id: str, command: TransactionCommand) -> Any:
        """Have the shard of ``transactional_id`` decide; it does so before the first await. Raises ``KafkaError``."""
        if not self._topic.exists:
            raise KafkaError(ErrorCode.NOT_COORDINATOR)
        try:
            return await self._topic.driver(self._topic.partition_of(transactional_id)).submit(command)
        except KafkaError as error:
            raise as_coordinator(error, ErrorCode.UNKNOWN_SERVER_ERROR) from error

    async def ask_patiently(self, transactional_id: str, command: TransactionCommand) -> Any:
        """The same for commands that begin a transaction: the last one, if it is just ending, is given time to end.

        CONCURRENT_TRANSACTIONS makes a client pause for longer than its markers need.
        """
        give_up_at = self._clock.monotonic() + self._config.add_retry_ms_max / 1000
        while True:
            try:
                return await self.ask(transactional_id, command)
            except KafkaError as error:
                if error.code is not ErrorCode.CONCURRENT_TRANSACTIONS or self._clock.monotonic() >= give_up_at:
                    raise
            await self._end_of(transactional_id, self._config.add_retry_backoff_ms / 1000)

    def check_timeout(self, timeout_ms: int) -> None:
        """Raises ``KafkaError``. Told whoever asks, also where the transactional id belongs to another broker."""
        self._settings.check_timeout(timeout_ms)

    async def ask_with_producer_id(self, transactional_id: str, command: TransactionCommand) -> Any:
        """The same for commands that may need a fresh producer id."""
        await self._producer_ids.refill()
        return await self.ask(transactional_id, command)

    async def ask_all(self, command: TransactionCommand) -> list[Any]:
        """Have every shard of this broker decide. Raises COORDINATOR_LOAD_IN_PROGRESS while one of them loads."""
        drivers = [driver for _, driver in self._topic if driver.state is not DriverState.CLOSED]
        futures = [driver.submit(command) for driver in drivers]
        return [answer for answer in await asyncio.gather(*futures, return_exceptions=True) if not is_lost(answer)]

    @property
    def topic(self) -> CoordinatorTopic[TransactionDriver]:
        """The partitions, and who leads them."""
        return self._topic

    # -- life --------------------------------------------------------------------------------------------------------

    def on_image(self, image: ClusterImage) -> None:
        """Follow the cluster. The partitions of this broker must have followed before."""
        settings = _settings(self._config, image.features.get(TRANSACTION_VERSION, 0))
        if settings != self._settings:
            self._settings = settings
            for _, driver in self._topic:
                driver.reconfigure(lambda shard: shard.reconfigure(settings))
        self._topic.on_image(image)

    def close(self) -> None:
        """Give every shard up; whoever waits for one is sent to look for another coordinator."""
        self._topic.close()

    def new_driver(self, partition: DrivenPartition, leader_epoch: int) -> TransactionDriver:
        # All that decides about transactions is loaded with the first partition: most starts do without.
        from ottla.broker.transaction_codec import TransactionCodec  # noqa: PLC0415
        from ottla.transactions.shard import TransactionShard  # noqa: PLC0415

        driver: TransactionDriver = MachineDriver(
            machine=TransactionShard(settings=self._settings, next_producer_id=self._producer_ids.take),
            codec=TransactionCodec(self._transaction_version),
            partition=partition,
            clock=self._clock,
            load_bytes=self._config.state_log_load_buffer_bytes,
            compression=Codec.NONE,
            fail=self._supervisor.fail,
            on_committed=lambda records: self._committed(driver, leader_epoch, records),
        )
        return driver

    def on_loaded(self, index: int, driver: TransactionDriver) -> None:
        epoch = self._topic.epoch(index)
        if driver.state is DriverState.ACTIVE and epoch is not None:
            # Asked before any command can decide more: the driver tells of those itself.
            prepared = driver.submit(lambda shard, _now_ms, _token: shard.prepared())
            self._supervisor.spawn(self._resume(driver, epoch, prepared), name=f"resume {TRANSACTION_STATE}-{index}")

    # -- private -----------------------------------------------------------------------------------------------------

    def _transaction_version(self) -> int:
        return self._settings.transaction_version

    async def _resume(self, driver: TransactionDriver, leader_epoch: int, prepared: "asyncio.Future[Any]") -> None:
        """What was decided before this broker led the partition, once that is as safe as what it decides itself."""
        try:
            transactions: list[Transaction] = await prepared
        except KafkaError:
            return  # given up meanwhile; whoever leads the partition now does it
        for transaction in transactions:
            log.info("transaction resumed", transactional_id=transaction.transactional_id, state=transaction.state.name)
            self._spawn_end(driver, leader_epoch, transaction)

    def _committed(self, driver: TransactionDriver, leader_epoch: int, records: "Sequence[TransactionRecord]") -> None:
        for _, transaction in records:
            if transaction is not None and transaction.state in PREPARED:
                self._spawn_end(driver, leader_epoch, transaction)

    def _spawn_end(self, driver: TransactionDriver, leader_epoch: int, prepared: Transaction) -> None:
        name = f"end transaction of {prepared.transactional_id}"
        self._supervisor.spawn(self._end(driver, leader_epoch, prepared), name=name)

    async def _end_of(self, transactional_id: str, seconds_max: float) -> None:
        end = self._ends.get(transactional_id)
        if end is None:
            end = self._ends[transactional_id] = asyncio.get_running_loop().create_future()
        await asyncio.wait((end,), timeout=seconds_max)
        if self._ends.get(transactional_id) is end:
            del self._ends[transactional_id]

    def _ended(self, transactional_id: str) -> None:
        end = self._ends.pop(transactional_id, None)
        if end is not None:
            end.set_result(None)

    async def _end(self, driver: TransactionDriver, leader_epoch: int, prepared: Transaction) -> None:
        marker = ProducerMarker(
            producer_id=prepared.producer_id,
            producer_epoch=prepared.producer_epoch,
            end=EndTransaction(committed=prepared.commits, coordinator_epoch=leader_epoch),
            transaction_version=prepared.client_version,
        )

        def wanted() -> bool:
            return driver.state is DriverState.ACTIVE

        if not await self._markers.send(marker, prepared.partitions, wanted):
            return
        while wanted():
            try:
                await driver.submit(lambda shard, now_ms, _token: shard.complete(prepared, now_ms))
            except KafkaError as error:
                log.warning("transaction not completed", transactional_id=prepared.transactional_id, error=str(error))
                await asyncio.sleep(RETRY_SECONDS_MAX)
            else:
                self._ended(prepared.transactional_id)
                return


def _settings(config: TransactionsConfig, transaction_version: int) -> TransactionSettings:
    return TransactionSettings(
        transaction_version=transaction_version,
        max_timeout_ms=config.timeout_ms_max,
        abort_interval_ms=config.abort_interval_ms,
        id_expiration_ms=config.id_expiration_ms,
        expiration_interval_ms=config.expiration_interval_ms,
    )

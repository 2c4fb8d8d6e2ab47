"""The controller as its driver and callers see it: one method a command, ``apply_all``, ``next_deadline``.

A command returns what to write and what to answer once that is committed; it changes nothing but who was heard of when.
"""

from collections.abc import Mapping, Sequence
from random import Random

from ottla.metadata.controller import brokers, configs, directories, features, isr, partitions, producer_ids, topics
from ottla.metadata.controller.activation import decide_activation
from ottla.metadata.controller.leadership import Election, partition_change
from ottla.metadata.controller.state import ControllerSettings, ControllerState, MetadataDecision
from ottla.metadata.image import ClusterImage, ConfigResource, ControllerRegistration
from ottla.metadata.record import MetadataRecord
from ottla.metadata.transaction import TransactionTracker
from ottla.model import Decision
from ottla.wire.messages.no_op_record import NoOpRecord

ELECTIONS_PER_REBALANCE_MAX = 1000


class Controller:
    """Made when this node becomes the leader of the quorum, dropped when it no longer is."""

    def __init__(
        self, settings: ControllerSettings, image: ClusterImage, *, rng: Random, transaction: TransactionTracker
    ) -> None:
        self.state = ControllerState(settings, image, rng=rng)
        self._transaction = transaction
        self._before_transaction = image

    @property
    def image(self) -> ClusterImage:
        """With everything appended so far; ahead of what is committed."""
        return self.state.image

    # --- the driver's side ------------------------------------------------------------------------------------------

    def activate(self, now_ms: int) -> MetadataDecision:
        """The first decision of a leadership. Every unfenced broker gets a full session to be heard of.

        Not the broker of this very node: the process that led here as its controller is the only one that can hold the
        node's directories, so whatever incarnation is on record has ended.
        """
        state = self.state
        state.last_append_ms = now_ms
        state.next_rebalance_ms = now_ms + state.settings.leader_rebalance_interval_ms
        for broker in state.image.brokers.values():
            if not broker.fenced and broker.broker_id != state.settings.node_id:
                state.sessions.touch(broker.broker_id, broker.epoch, now_ms)
        return decide_activation(state, in_transaction=self._transaction.is_open)

    def apply(self, record: MetadataRecord, offset: int) -> None:
        """Fold one record written at ``offset``."""
        self.apply_all((record,), offset)

    def apply_all(self, records: tuple[MetadataRecord, ...], base_offset: int) -> None:
        """Fold the records of a decision, written from ``base_offset`` on."""
        run: list[MetadataRecord] = []
        for offset, record in enumerate(records, base_offset):
            verdict = self._transaction.observe(record)
            run.append(record)
            if verdict.begins:
                self._before_transaction = self.state.image
            if verdict.aborts:
                self.state.image = self._before_transaction
                self.state.skip_to(offset + 1)
                run.clear()
        if run:
            self.state.apply_all(tuple(run), base_offset + len(records) - len(run))

    def next_deadline(self) -> int | None:
        """When ``on_deadline`` wants to run."""
        state, settings = self.state, self.state.settings
        deadlines = [state.sessions.next_expiry()]
        if settings.idle_record_interval_ms > 0:
            deadlines.append(state.last_append_ms + settings.idle_record_interval_ms)
        if settings.leader_rebalance_interval_ms > 0 and len(state.image.brokers) > 1:
            deadlines.append(state.next_rebalance_ms)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def on_deadline(self, now_ms: int) -> MetadataDecision:
        """Fence a silent broker, move leaders home, or show that this leader is alive; one thing at a time."""
        state, settings = self.state, self.state.settings
        expiry = state.sessions.next_expiry()
        if expiry is not None and now_ms >= expiry:
            return brokers.decide_fence_expired(state, now_ms)
        rebalance = settings.leader_rebalance_interval_ms > 0 and len(state.image.brokers) > 1
        if rebalance and now_ms >= state.next_rebalance_ms:
            state.next_rebalance_ms = now_ms + settings.leader_rebalance_interval_ms
            return self._rebalance_leaders()
        idle_ms = settings.idle_record_interval_ms
        if idle_ms > 0 and now_ms >= state.last_append_ms + idle_ms:
            state.last_append_ms = now_ms
            return Decision(records=(MetadataRecord(NoOpRecord(), 0),))
        return Decision()

    # --- commands ---------------------------------------------------------------------------------------------------

    def create_topics(self, command: topics.CreateTopics) -> MetadataDecision:
        return topics.decide_create_topics(self.state, command)

    def delete_topics(self, asked: Sequence[topics.TopicRef]) -> MetadataDecision:
        return topics.decide_delete_topics(self.state, asked)

    def create_partitions(
        self, wanted: Sequence[partitions.MorePartitions], *, validate_only: bool = False
    ) -> MetadataDecision:
        return partitions.decide_create_partitions(self.state, wanted, validate_only=validate_only)

    def incremental_alter_configs(
        self, changes: configs.ResourceChanges, *, validate_only: bool = False
    ) -> MetadataDecision:
        return configs.decide_incremental_alter(self.state, changes, validate_only=validate_only)

    def legacy_alter_configs(
        self, settings: Sequence[tuple[ConfigResource, Mapping[str, str]]], *, validate_only: bool = False
    ) -> MetadataDecision:
        return configs.decide_legacy_alter(self.state, settings, validate_only=validate_only)

    def update_features(
        self, updates: Sequence[features.FeatureUpdate], *, validate_only: bool = False
    ) -> MetadataDecision:
        return features.decide_update_features(self.state, updates, validate_only=validate_only)

    def register_controller(self, registration: ControllerRegistration) -> MetadataDecision:
        return brokers.decide_register_controller(self.state, registration)

    def register_broker(self, registration: brokers.Registration, now_ms: int) -> MetadataDecision:
        return brokers.decide_register_broker(self.state, registration, now_ms)

    def heartbeat(self, heartbeat: brokers.Heartbeat, now_ms: int) -> MetadataDecision:
        return brokers.decide_heartbeat(self.state, heartbeat, now_ms)

    def unregister_broker(self, broker_id: int) -> MetadataDecision:
        return brokers.decide_unregister_broker(self.state, broker_id)

    def allocate_producer_ids(self, *, broker_id: int, broker_epoch: int) -> MetadataDecision:
        return producer_ids.decide_allocate_producer_ids(self.state, broker_id=broker_id, broker_epoch=broker_epoch)

    def alter_partition(
        self, *, broker_id: int, broker_epoch: int, proposals: Sequence[isr.IsrProposal]
    ) -> MetadataDecision:
        return isr.decide_alter_partition(
            self.state, broker_id=broker_id, broker_epoch=broker_epoch, proposals=proposals
        )

    def assign_replicas_to_dirs(
        self, *, broker_id: int, broker_epoch: int, assignments: Sequence[directories.DirectoryAssignment]
    ) -> MetadataDecision:
        return directories.decide_assign_replicas_to_dirs(
            self.state, broker_id=broker_id, broker_epoch=broker_epoch, assignments=assignments
        )

    def _rebalance_leaders(self) -> MetadataDecision:
        records: list[MetadataRecord] = []
        for topic in self.image.topics.values():
            for index, partition in enumerate(topic.partitions):
                if partition.leader == partition.replicas[0] or len(records) >= ELECTIONS_PER_REBALANCE_MAX:
                    continue
                change = partition_change(self.state, topic, index)
                change.election = Election.PREFERRED
                record = change.build()
                if record is not None:
                    records.append(record)
        return Decision(records=tuple(records), atomic=False)

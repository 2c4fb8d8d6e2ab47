"""Who leads a partition, and the change record that says so (``PartitionChangeBuilder``; KIP-966 part 1).

A leader is sought in this order: the current one if it may stay; the first replica of the assignment that is in sync,
or, with an empty ISR, in the ELR; the last known leader, if nobody else is left (that counts as unclean); any live
replica, if the topic allows unclean elections.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from msgspec import Struct

from ottla.metadata.controller.state import ControllerState
from ottla.metadata.delta import NO_LEADER_CHANGE
from ottla.metadata.image import NO_LEADER, PartitionImage, TopicImage
from ottla.metadata.record import MetadataRecord
from ottla.model import Uuid
from ottla.wire.messages.partition_change_record import PartitionChangeRecord


class Election(Enum):
    ONLINE = "online"
    """Keep the leader if it may stay."""
    PREFERRED = "preferred"
    """Go back to the first replica of the assignment."""
    UNCLEAN = "unclean"
    """If nobody in sync is left, any live replica."""


class PartitionChange(Struct, kw_only=True):
    """What is wanted of one partition; ``build`` finds the leader and writes the record, if anything changes."""

    topic_id: Uuid
    index: int
    partition: PartitionImage
    acceptable: Callable[[int], bool]
    min_isr: int
    elr_enabled: bool
    record_version: int
    bump_on_shrink: bool = False
    election: Election = Election.ONLINE
    target_isr: tuple[int, ...]
    recovering: bool
    unclean_shutdown: frozenset[int] = frozenset()
    directory: tuple[int, Uuid] | None = None
    """A replica's broker, and the log directory it lies in from now on."""
    target_elr: tuple[int, ...] = ()
    target_last_known_elr: tuple[int, ...] = ()

    def build(self) -> MetadataRecord | None:
        record = PartitionChangeRecord(partition_id=self.index, topic_id=self.topic_id)
        self._derive_elr()
        self._elect(record)
        self._write_elr(record)
        if record.isr is None and self.target_isr != self.partition.isr and (self.target_isr or self.elr_enabled):
            record.isr = list(self.target_isr)
        if self.bump_on_shrink and record.leader == NO_LEADER_CHANGE and record.isr is not None:
            shrinks = any(replica not in record.isr for replica in self.partition.isr)
            record.leader = self.partition.leader if shrinks else NO_LEADER_CHANGE
        self._remember_leader(record)
        self._assign_directory(record)
        if record.leader_recovery_state == -1 and self.recovering != self.partition.recovering:
            record.leader_recovery_state = int(self.recovering)
        if record == PartitionChangeRecord(partition_id=self.index, topic_id=self.topic_id):
            return None
        return MetadataRecord(record, self.record_version)

    def _derive_elr(self) -> None:
        """Replicas that left the ISR while it was too small hold every committed record: they stay eligible."""
        partition = self.partition
        if not self.elr_enabled:
            return
        if len(self.target_isr) >= min(self.min_isr, len(partition.replicas)):
            self.target_elr = self.target_last_known_elr = ()
            return
        candidates = _union(partition.elr, partition.isr)
        self.target_elr = tuple(
            replica for replica in candidates if replica not in self.target_isr and replica not in self.unclean_shutdown
        )
        # The ISR of when it became too small, less those still counted elsewhere.
        self.target_last_known_elr = tuple(
            replica
            for replica in _union(partition.last_known_elr, candidates)
            if replica not in self.target_isr and replica not in self.target_elr
        )

    def _elect(self, record: PartitionChangeRecord) -> None:
        leader, unclean = self._elect_preferred() if self.election is Election.PREFERRED else self._elect_any()
        if leader == self.partition.leader:
            return
        record.leader = leader
        if leader in self.target_elr and leader not in self.target_isr and not unclean:
            self.target_isr = (leader,)
            self.target_elr = tuple(replica for replica in self.target_elr if replica != leader)
            self.target_last_known_elr = tuple(r for r in self.target_last_known_elr if r != leader)
        elif unclean:
            record.isr = [leader]
            if not self.partition.recovering:
                record.leader_recovery_state = 1

    def _elect_preferred(self) -> tuple[int, bool]:
        replicas = self.partition.replicas
        if self._is_valid(replicas[0]):
            return replicas[0], False
        if self._is_valid(self.partition.leader):
            return self.partition.leader, False
        return self._first_valid(replicas[1:])

    def _elect_any(self) -> tuple[int, bool]:
        if self._is_valid(self.partition.leader):
            return self.partition.leader, False
        leader, unclean = self._first_valid(self.partition.replicas)
        if leader == NO_LEADER and self.election is Election.UNCLEAN:
            live = next((replica for replica in self.partition.replicas if self.acceptable(replica)), NO_LEADER)
            return live, live != NO_LEADER
        return leader, unclean

    def _first_valid(self, replicas: Sequence[int]) -> tuple[int, bool]:
        for replica in replicas:
            if self._is_valid(replica):
                return replica, False
        if self._may_elect_last_known():
            return self.partition.last_known_elr[0], True
        return NO_LEADER, False

    def _is_valid(self, replica: int) -> bool:
        eligible = replica in self.target_isr or (
            self.elr_enabled and not self.target_isr and replica in self.target_elr
        )
        return eligible and self.acceptable(replica)

    def _may_elect_last_known(self) -> bool:
        partition = self.partition
        return (
            self.elr_enabled
            and not self.target_isr
            and not self.target_elr
            and len(partition.last_known_elr) == 1
            and self.acceptable(partition.last_known_elr[0])
        )

    def _write_elr(self, record: PartitionChangeRecord) -> None:
        if record.isr is not None or not self.elr_enabled:
            self.target_elr = self.target_last_known_elr = ()
        if self.target_elr != self.partition.elr:
            record.eligible_leader_replicas = list(self.target_elr)
        if self.target_last_known_elr != self.partition.last_known_elr:
            record.last_known_elr = list(self.target_last_known_elr)

    def _remember_leader(self, record: PartitionChangeRecord) -> None:
        """The moment a partition becomes leaderless its last leader is written down."""
        if not self.elr_enabled or record.isr is None or record.isr:
            return
        if self.partition.last_known_elr != (self.partition.leader,):
            record.last_known_elr = [self.partition.leader]

    def _assign_directory(self, record: PartitionChangeRecord) -> None:
        if self.directory is None:
            return
        broker_id, directory = self.directory
        assigned = [
            directory if replica == broker_id else self.partition.directory_of(replica)
            for replica in self.partition.replicas
        ]
        if tuple(assigned) != self.partition.directories:
            record.directories = assigned


def partition_change(
    state: ControllerState, topic: TopicImage, index: int, *, alive: Callable[[int], bool] | None = None
) -> PartitionChange:
    """A change that wants nothing yet, with the rules of this topic and the replicas that may lead."""
    image, partition = state.image, topic.partitions[index]
    is_alive = state.is_active if alive is None else alive

    def acceptable(replica: int) -> bool:
        broker = image.brokers.get(replica)
        return broker is not None and is_alive(replica) and broker.has_online_dir(partition.directory_of(replica))

    return PartitionChange(
        topic_id=topic.topic_id,
        index=index,
        partition=partition,
        acceptable=acceptable,
        min_isr=state.min_isr(topic.name),
        elr_enabled=image.elr_enabled,
        record_version=image.versions.partition_change,
        bump_on_shrink=image.versions.leader_epoch_bump_on_isr_shrink,
        election=Election.UNCLEAN if state.unclean_election_enabled(topic.name) else Election.ONLINE,
        target_isr=partition.isr,
        recovering=partition.recovering,
        target_elr=partition.elr,
        target_last_known_elr=partition.last_known_elr,
    )


class Departure(Struct, frozen=True, kw_only=True):
    """Which broker leaves (or comes) while the image still says otherwise."""

    leaving: int | None = None
    arriving: int | None = None
    unclean: int | None = None


def leader_and_isr_changes(
    state: ControllerState, wanted: Callable[[PartitionImage], bool], departure: Departure
) -> list[MetadataRecord]:
    """Changes of all partitions that ``wanted`` picks when a broker leaves or comes."""
    gone = [broker_id for broker_id in (departure.leaving, departure.unclean) if broker_id is not None]

    def alive(replica: int) -> bool:
        return replica not in gone and (replica == departure.arriving or state.is_active(replica))

    records: list[MetadataRecord] = []
    for topic in state.image.topics.values():
        for index, partition in enumerate(topic.partitions):
            if not wanted(partition):
                continue
            change = partition_change(state, topic, index, alive=alive)
            change.target_isr = tuple(replica for replica in partition.isr if replica not in gone)
            if departure.unclean is not None:
                change.unclean_shutdown = frozenset((departure.unclean,))
            record = change.build()
            if record is not None:
                records.append(record)
    return records


def _union(first: Iterable[int], second: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys((*first, *second)))

"""This node's part in the metadata quorum: formats its directory, opens the metadata log, brings the driver up."""

from random import Random

from msgspec import Struct

from ottla.broker.format import NodeIdentity
from ottla.broker.metadata_loader import MetadataLoader
from ottla.broker.metadata_log import MetadataLog, MetadataLogSettings
from ottla.broker.raft_driver import DriverSettings, RaftDriver
from ottla.config.broker import BrokerConfig
from ottla.metadata.controller import ControllerSettings
from ottla.metadata.image import Endpoint
from ottla.model import Uuid
from ottla.quorum.raft import RaftSettings
from ottla.runtime.clock import Clock
from ottla.storage.disk import Disk
from ottla.storage.log_store import LogStore
from ottla.storage.names import CLUSTER_METADATA

IDLE_INTERVAL_KEY = "metadata.max.idle.interval.ms"


class Incarnation(Struct, frozen=True, kw_only=True):
    """One run of a node: drawn anew at every start, so that the controller can tell a restart from a stall."""

    incarnation_id: Uuid
    controller_endpoints: tuple[Endpoint, ...]


def open_metadata_log(config: BrokerConfig, store: LogStore, disk: Disk, now_ms: int) -> MetadataLog:
    """Blocking; see ``MetadataLog.open`` for what it raises. ``store`` keeps its recovery point from now on."""
    quorum, directory = config.quorum, store.metadata_directory
    assert directory is not None, "the store holds the lock of the metadata directory"
    metadata_log = MetadataLog.open(
        config.metadata_log_dir,
        disk=disk,
        settings=MetadataLogSettings(
            segment_bytes=quorum.log_segment_bytes,
            segment_ms=quorum.log_segment_ms,
            retention_bytes=quorum.retention_bytes,
            retention_ms=quorum.retention_ms,
        ),
        now_ms=now_ms,
        recovery_point=directory.recovery_points.get(CLUSTER_METADATA, 0),
        recovery_point_known=directory.recovery_points_known,
    )
    store.keep_recovery_point_of(metadata_log.log)
    return metadata_log


def make_raft_driver(
    config: BrokerConfig,
    identity: NodeIdentity,
    incarnation: Incarnation,
    parts: tuple[MetadataLog, MetadataLoader, Clock, Random],
) -> RaftDriver:
    """The driver of a quorum whose voters are fixed by configuration; without any, this node is the only one."""
    metadata_log, loader, clock, rng = parts
    quorum = config.quorum
    voters = tuple(voter.node_id for voter in quorum.voters) or (config.node_id,)
    return RaftDriver(
        settings=DriverSettings(
            raft=RaftSettings(
                node_id=config.node_id,
                voters=voters,
                election_timeout_ms=quorum.election_timeout_ms,
                fetch_timeout_ms=quorum.fetch_timeout_ms,
                election_backoff_max_ms=quorum.election_backoff_ms_max,
            ),
            controller=ControllerSettings(
                cluster_id=identity.cluster_id,
                node_id=config.node_id,
                incarnation_id=incarnation.incarnation_id,
                endpoints=incarnation.controller_endpoints,
                default_partitions=config.topics.num_partitions,
                default_replication_factor=config.topics.default_replication_factor,
                broker_session_timeout_ms=config.registration.session_timeout_ms,
                idle_record_interval_ms=idle_interval_ms(config, voters),
                static_config=config.properties,
                bootstrap=identity.bootstrap,
            ),
            snapshot_after_bytes=quorum.snapshot_after_bytes,
            snapshot_interval_ms=quorum.snapshot_interval_ms_max,
        ),
        metadata_log=metadata_log,
        loader=loader,
        clock=clock,
        rng=rng,
    )


def idle_interval_ms(config: BrokerConfig, voters: tuple[int, ...]) -> int:
    """How often an idle leader writes a NoOp record. Alone it writes none unless asked: nobody waits to hear from it,
    and two flushes a second would keep a laptop's disk awake."""
    asked = IDLE_INTERVAL_KEY in config.properties
    return config.quorum.idle_interval_ms_max if asked or len(voters) > 1 else 0

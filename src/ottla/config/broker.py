"""The configuration of a node, parsed and checked as a whole: one frozen value for each component.

Invariants: every value was accepted by its key's rule; nothing that Kafka would enforce for safety is silently ignored.
"""

from collections.abc import Mapping
from typing import Any, Self

from msgspec import Struct

from ottla.config.definitions import is_plugin_key, require_broker_key
from ottla.config.key import ConfigError, Value
from ottla.config.listeners import Listener, Voter, parse_listeners, parse_protocol_map, parse_voters
from ottla.config.log import LogConfig

FIT_BROKERS = -1
"""A replication factor or minimum that follows the number of brokers."""


class RequirementFailed(ConfigError):
    """What one key's rule cannot see: values that do not go together, or that only some keys' meaning forbids."""


class NetworkConfig(Struct, frozen=True, kw_only=True):
    """Limits and buffers of connections; bytes and milliseconds. A buffer of -1 is left to the operating system."""

    request_bytes_max: int
    receive_buffer_bytes: int
    send_buffer_bytes: int
    backlog: int
    connections_max: int
    connections_per_second_max: int
    connections_burst_ms: int
    """What time without any lets come at once, at that rate."""
    connections_per_ip_max: int
    connections_per_ip_overrides: Mapping[str, int]
    idle_ms_max: int
    queued_requests_max: int
    queued_bytes_max: int
    frame_timeout_ms: int
    request_timeout_ms: int
    setup_timeout_ms: int
    stop_timeout_ms: int


class QuorumConfig(Struct, frozen=True, kw_only=True):
    """The metadata quorum and its log."""

    voters: tuple[Voter, ...]
    election_timeout_ms: int
    election_backoff_ms_max: int
    fetch_timeout_ms: int
    append_linger_ms: int
    batch_bytes_max: int
    log_segment_bytes: int
    log_segment_ms: int
    snapshot_after_bytes: int
    snapshot_interval_ms_max: int
    retention_bytes: int
    retention_ms: int
    delete_delay_ms: int
    idle_interval_ms_max: int


class RegistrationConfig(Struct, frozen=True, kw_only=True):
    """How a broker reports to the controller."""

    heartbeat_interval_ms: int
    session_timeout_ms: int
    initial_timeout_ms: int


class TopicsConfig(Struct, frozen=True, kw_only=True):
    """How topics come and go."""

    auto_create: bool
    delete_enable: bool
    num_partitions: int
    default_replication_factor: int
    describe_partitions_max: int


class StorageConfig(Struct, frozen=True, kw_only=True):
    """Work on log directories; milliseconds."""

    flush: str
    """``auto``, ``always`` or ``never``: see ottla.flush."""
    retention_check_interval_ms: int
    recovery_point_checkpoint_interval_ms: int
    start_offset_checkpoint_interval_ms: int
    high_watermark_checkpoint_interval_ms: int
    flush_scheduler_interval_ms: int
    initial_task_delay_ms: int
    recovery_threads: int
    producer_id_expiration_ms: int
    producer_id_expiration_check_interval_ms: int
    batch_decompression_bytes_max: int
    cordoned_log_dirs: tuple[str, ...]
    """Directories that get no new partitions (KIP-1066)."""
    moves_max: int
    """Replicas on their way between log directories at a time."""
    move_bytes_per_second_max: int
    """Of replicas on their way between log directories."""


class FetchConfig(Struct, frozen=True, kw_only=True):
    """Limits of fetch requests."""

    bytes_max: int
    sessions_max: int


class ReplicationConfig(Struct, frozen=True, kw_only=True):
    """Replication between brokers."""

    lag_time_ms_max: int


class GroupsConfig(Struct, frozen=True, kw_only=True):
    """Classic groups, consumer groups and the offsets topic."""

    session_timeout_ms_min: int
    session_timeout_ms_max: int
    size_max: int
    initial_rebalance_delay_ms: int
    """-1: 3000, but 0 while there is one broker; ``rebalance_delay_ms`` decides."""
    append_linger_ms: int
    """-1: adapts to the load."""
    offset_metadata_bytes_max: int
    offsets_retention_minutes: int
    offsets_retention_check_interval_ms: int
    offsets_commit_timeout_ms: int
    offsets_load_buffer_bytes: int
    offsets_topic_partitions: int
    offsets_topic_replication_factor: int
    """-1: ``fit_brokers(3, brokers)``."""
    offsets_topic_segment_bytes: int
    offsets_topic_compression: int
    rebalance_protocols: tuple[str, ...]
    consumer_session_timeout_ms: int
    consumer_session_timeout_ms_range: tuple[int, int]
    """What a group's own value is brought into; the same for the two intervals."""
    consumer_heartbeat_interval_ms: int
    consumer_heartbeat_interval_ms_range: tuple[int, int]
    consumer_assignment_interval_ms: int
    consumer_assignment_interval_ms_range: tuple[int, int]
    consumer_assignors: tuple[str, ...]
    consumer_size_max: int
    consumer_migration_policy: str
    consumer_regex_refresh_interval_ms: int

    def rebalance_delay_ms(self, brokers: int) -> int:
        """How long a new group waits in a cluster of ``brokers``."""
        if self.initial_rebalance_delay_ms >= 0:
            return self.initial_rebalance_delay_ms
        return 0 if brokers <= 1 else 3000


class TransactionsConfig(Struct, frozen=True, kw_only=True):
    """Limits of transactions, and what their log is made of."""

    timeout_ms_max: int
    verify_partitions: bool
    abort_interval_ms: int
    id_expiration_ms: int
    expiration_interval_ms: int
    add_retry_backoff_ms: int
    add_retry_ms_max: int
    state_log_partitions: int
    state_log_replication_factor: int
    """-1: ``fit_brokers(3, brokers)``."""
    state_log_min_isr: int
    """-1: ``fit_brokers(2, brokers)``."""
    state_log_segment_bytes: int
    state_log_load_buffer_bytes: int


class BrokerConfig(Struct, frozen=True, kw_only=True):
    """Everything a node needs to know before it starts."""

    node_id: int
    roles: tuple[str, ...]
    rack: str | None
    listeners: tuple[Listener, ...]
    advertised_listeners: tuple[Listener, ...]
    """As given, or empty: then the listeners with the ports they got are advertised."""
    controller_listener_names: tuple[str, ...]
    inter_broker_listener_name: str
    log_dirs: tuple[str, ...]
    metadata_log_dir: str
    network: NetworkConfig
    quorum: QuorumConfig
    registration: RegistrationConfig
    topics: TopicsConfig
    storage: StorageConfig
    fetch: FetchConfig
    replication: ReplicationConfig
    groups: GroupsConfig
    transactions: TransactionsConfig
    log_defaults: LogConfig
    controlled_shutdown: bool
    properties: Mapping[str, str]
    """The settings as given, and ``broker.id`` as Kafka adds it: the static layer of DescribeConfigs."""

    @property
    def broker_listeners(self) -> tuple[Listener, ...]:
        """The listeners clients and other brokers use."""
        return tuple(one for one in self.listeners if one.name not in self.controller_listener_names)

    @property
    def controller_listeners(self) -> tuple[Listener, ...]:
        """The listeners of the metadata quorum."""
        return tuple(one for one in self.listeners if one.name in self.controller_listener_names)

    @classmethod
    def parse(cls, properties: Mapping[str, str], origins: Mapping[str, str] | None = None) -> Self:
        """Check and read settings. ``origins`` tells where each came from, for messages. Raises ``ConfigError``."""
        try:
            read = _Reader(properties)
            config = cls(**_components(read))
            _check(config, read)
        except ConfigError as error:
            if not error.origin:
                error.origin = (origins or {}).get(error.key, "")
            raise
        return config


def fit_brokers(configured: int, wanted: int, brokers: int) -> int:
    """A replication factor or minimum: as configured, or for -1 ``wanted`` limited to the ``brokers`` there are."""
    return configured if configured != FIT_BROKERS else max(1, min(wanted, brokers))


class _Reader:
    """The settings, every one checked; absent keys read as their default."""

    __slots__ = ("_values", "properties")

    def __init__(self, properties: Mapping[str, str]) -> None:
        self.properties = properties
        self._values: dict[str, Value] = {
            name: require_broker_key(name).parse(text) for name, text in properties.items() if not is_plugin_key(name)
        }

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            key = require_broker_key(name)
            self._values[name] = key.parse(key.default)
        return self._values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.properties


def _components(read: _Reader) -> dict[str, Any]:
    controller_names = tuple(name.upper() for name in read["controller.listener.names"])
    protocols = _protocols(read, controller_names)
    listeners = parse_listeners("listeners", read["listeners"], protocols)
    directories = read["log.dirs"] or read["log.dir"]
    return {
        "node_id": _node_id(read),
        "roles": read["process.roles"],
        "rack": read["broker.rack"],
        "listeners": listeners,
        "advertised_listeners": parse_listeners("advertised.listeners", read["advertised.listeners"] or (), protocols),
        "controller_listener_names": controller_names,
        "inter_broker_listener_name": _inter_broker_listener(read, listeners, controller_names),
        "log_dirs": directories,
        "metadata_log_dir": read["metadata.log.dir"] or directories[0],
        "network": _network(read),
        "quorum": _quorum(read),
        "registration": RegistrationConfig(
            heartbeat_interval_ms=read["broker.heartbeat.interval.ms"],
            session_timeout_ms=read["broker.session.timeout.ms"],
            initial_timeout_ms=read["initial.broker.registration.timeout.ms"],
        ),
        "topics": TopicsConfig(
            auto_create=read["auto.create.topics.enable"],
            delete_enable=read["delete.topic.enable"],
            num_partitions=read["num.partitions"],
            default_replication_factor=read["default.replication.factor"],
            describe_partitions_max=read["max.request.partition.size.limit"],
        ),
        "storage": _storage(read),
        "fetch": FetchConfig(
            bytes_max=read["fetch.max.bytes"], sessions_max=read["max.incremental.fetch.session.cache.slots"]
        ),
        "replication": ReplicationConfig(lag_time_ms_max=read["replica.lag.time.max.ms"]),
        "groups": _groups(read),
        "transactions": _transactions(read),
        "log_defaults": LogConfig.resolve({}, read.properties),
        "controlled_shutdown": read["controlled.shutdown.enable"],
        "properties": {**read.properties, "broker.id": str(_node_id(read))},
    }


def _network(read: _Reader) -> NetworkConfig:
    return NetworkConfig(
        request_bytes_max=read["socket.request.max.bytes"],
        receive_buffer_bytes=read["socket.receive.buffer.bytes"],
        send_buffer_bytes=read["socket.send.buffer.bytes"],
        backlog=read["socket.listen.backlog.size"],
        connections_max=read["max.connections"],
        connections_per_second_max=read["max.connection.creation.rate"],
        connections_burst_ms=max(1, read["quota.window.num"] - 1) * read["quota.window.size.seconds"] * 1000,
        connections_per_ip_max=read["max.connections.per.ip"],
        connections_per_ip_overrides=_per_ip_overrides(read["max.connections.per.ip.overrides"]),
        idle_ms_max=read["connections.max.idle.ms"],
        queued_requests_max=read["queued.max.requests"],
        queued_bytes_max=read["ottla.max.queued.bytes"],
        frame_timeout_ms=read["ottla.connection.frame.timeout.ms"],
        request_timeout_ms=read["request.timeout.ms"],
        setup_timeout_ms=read["socket.connection.setup.timeout.ms"],
        stop_timeout_ms=read["ottla.stop.timeout.ms"],
    )


def _quorum(read: _Reader) -> QuorumConfig:
    segment_bytes = read["internal.metadata.log.segment.bytes"]
    return QuorumConfig(
        voters=parse_voters(read["controller.quorum.voters"]),
        election_timeout_ms=read["controller.quorum.election.timeout.ms"],
        election_backoff_ms_max=read["controller.quorum.election.backoff.max.ms"],
        fetch_timeout_ms=read["controller.quorum.fetch.timeout.ms"],
        append_linger_ms=read["controller.quorum.append.linger.ms"],
        batch_bytes_max=read["internal.metadata.max.batch.size.in.bytes"],
        log_segment_bytes=read["metadata.log.segment.bytes"] if segment_bytes is None else segment_bytes,
        log_segment_ms=read["metadata.log.segment.ms"],
        snapshot_after_bytes=read["metadata.log.max.record.bytes.between.snapshots"],
        snapshot_interval_ms_max=read["metadata.log.max.snapshot.interval.ms"],
        retention_bytes=read["metadata.max.retention.bytes"],
        retention_ms=read["metadata.max.retention.ms"],
        delete_delay_ms=read["internal.metadata.delete.delay.millis"],
        idle_interval_ms_max=read["metadata.max.idle.interval.ms"],
    )


def _storage(read: _Reader) -> StorageConfig:
    return StorageConfig(
        flush=read["ottla.flush"],
        retention_check_interval_ms=read["log.retention.check.interval.ms"],
        recovery_point_checkpoint_interval_ms=read["log.flush.offset.checkpoint.interval.ms"],
        start_offset_checkpoint_interval_ms=read["log.flush.start.offset.checkpoint.interval.ms"],
        high_watermark_checkpoint_interval_ms=read["replica.high.watermark.checkpoint.interval.ms"],
        flush_scheduler_interval_ms=read["log.flush.scheduler.interval.ms"],
        initial_task_delay_ms=read["log.initial.task.delay.ms"],
        recovery_threads=read["num.recovery.threads.per.data.dir"],
        producer_id_expiration_ms=read["producer.id.expiration.ms"],
        producer_id_expiration_check_interval_ms=read["producer.id.expiration.check.interval.ms"],
        batch_decompression_bytes_max=read["ottla.batch.decompression.max.bytes"],
        cordoned_log_dirs=_cordoned(read),
        moves_max=read["num.replica.alter.log.dirs.threads"] or len(read["log.dirs"] or read["log.dir"]),
        move_bytes_per_second_max=read["replica.alter.log.dirs.io.max.bytes.per.second"],
    )


def _cordoned(read: _Reader) -> tuple[str, ...]:
    directories: tuple[str, ...] = read["log.dirs"] or read["log.dir"]
    cordoned: tuple[str, ...] = read["cordoned.log.dirs"]
    if cordoned == ("*",):
        return directories
    strange = next((path for path in cordoned if path not in directories), None)
    if strange is not None:
        raise ConfigError(
            "cordoned.log.dirs",
            f"Invalid entry in cordoned.log.dirs: {strange}. All cordoned log dirs must be entries of log.dirs or "
            "log.dir.",
        )
    return cordoned


def _groups(read: _Reader) -> GroupsConfig:
    return GroupsConfig(
        session_timeout_ms_min=read["group.min.session.timeout.ms"],
        session_timeout_ms_max=read["group.max.session.timeout.ms"],
        size_max=read["group.max.size"],
        initial_rebalance_delay_ms=read["group.initial.rebalance.delay.ms"],
        append_linger_ms=read["group.coordinator.append.linger.ms"],
        offset_metadata_bytes_max=read["offset.metadata.max.bytes"],
        offsets_retention_minutes=read["offsets.retention.minutes"],
        offsets_retention_check_interval_ms=read["offsets.retention.check.interval.ms"],
        offsets_commit_timeout_ms=read["offsets.commit.timeout.ms"],
        offsets_load_buffer_bytes=read["offsets.load.buffer.size"],
        offsets_topic_partitions=read["offsets.topic.num.partitions"],
        offsets_topic_replication_factor=read["offsets.topic.replication.factor"],
        offsets_topic_segment_bytes=read["offsets.topic.segment.bytes"],
        offsets_topic_compression=read["offsets.topic.compression.codec"],
        rebalance_protocols=tuple(read["group.coordinator.rebalance.protocols"]),
        consumer_session_timeout_ms=read["group.consumer.session.timeout.ms"],
        consumer_session_timeout_ms_range=(
            read["group.consumer.min.session.timeout.ms"],
            read["group.consumer.max.session.timeout.ms"],
        ),
        consumer_heartbeat_interval_ms=read["group.consumer.heartbeat.interval.ms"],
        consumer_heartbeat_interval_ms_range=(
            read["group.consumer.min.heartbeat.interval.ms"],
            read["group.consumer.max.heartbeat.interval.ms"],
        ),
        consumer_assignment_interval_ms=read["group.consumer.assignment.interval.ms"],
        consumer_assignment_interval_ms_range=(
            read["group.consumer.min.assignment.interval.ms"],
            read["group.consumer.max.assignment.interval.ms"],
        ),
        consumer_assignors=tuple(read["group.consumer.assignors"]),
        consumer_size_max=read["group.consumer.max.size"],
        consumer_migration_policy=read["group.consumer.migration.policy"],
        consumer_regex_refresh_interval_ms=read["group.consumer.regex.refresh.interval.ms"],
    )


def _transactions(read: _Reader) -> TransactionsConfig:
    return TransactionsConfig(
        timeout_ms_max=read["transaction.max.timeout.ms"],
        verify_partitions=read["transaction.partition.verification.enable"],
        abort_interval_ms=read["transaction.abort.timed.out.transaction.cleanup.interval.ms"],
        id_expiration_ms=read["transactional.id.expiration.ms"],
        expiration_interval_ms=read["transaction.remove.expired.transaction.cleanup.interval.ms"],
        add_retry_backoff_ms=read["add.partitions.to.txn.retry.backoff.ms"],
        add_retry_ms_max=read["add.partitions.to.txn.retry.backoff.max.ms"],
        state_log_partitions=read["transaction.state.log.num.partitions"],
        state_log_replication_factor=read["transaction.state.log.replication.factor"],
        state_log_min_isr=read["transaction.state.log.min.isr"],
        state_log_segment_bytes=read["transaction.state.log.segment.bytes"],
        state_log_load_buffer_bytes=read["transaction.state.log.load.buffer.size"],
    )


def _node_id(read: _Reader) -> int:
    broker_id: int = read["broker.id"]
    if "node.id" in read and broker_id not in (-1, read["node.id"]):
        raise ConfigError("broker.id", "You must set `node.id` to the same value as `broker.id`.")
    node_id: int = read["node.id"] if "node.id" in read or broker_id < 0 else broker_id
    return node_id


def _protocols(read: _Reader, controller_names: tuple[str, ...]) -> dict[str, str]:
    """The protocol of each listener name. As in Kafka, controller names need no entry while the map is not set."""
    protocols = parse_protocol_map(read["listener.security.protocol.map"])
    if "listener.security.protocol.map" not in read:
        protocols = {**dict.fromkeys(controller_names, "PLAINTEXT"), **protocols}
    return protocols


def _inter_broker_listener(read: _Reader, listeners: tuple[Listener, ...], controller_names: tuple[str, ...]) -> str:
    named: str | None = read["inter.broker.listener.name"]
    if named is None:
        fallback = next((one.name for one in listeners if one.name not in controller_names), None)
        plain = next((one.name for one in listeners if one.name == "PLAINTEXT"), fallback)
        if plain is None:
            raise ConfigError("listeners", "There must be at least one listener that is not a controller listener.")
        return plain
    if named.upper() not in {one.name for one in listeners} or named.upper() in controller_names:
        raise ConfigError(
            "inter.broker.listener.name",
            f"inter.broker.listener.name must be a listener name defined in listeners that serves brokers, not {named}",
        )
    return named.upper()


def _per_ip_overrides(text: str) -> dict[str, int]:
    overrides = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        host, _, count = entry.rpartition(":")
        if not host or not count.isdigit():
            raise ConfigError(
                "max.connections.per.ip.overrides",
                f"max.connections.per.ip.overrides: {entry!r} is not of the form HOST:COUNT",
            )
        overrides[host] = int(count)
    return overrides


def _check(config: BrokerConfig, read: _Reader) -> None:
    """What one key's rule cannot see."""
    _check_roles(config)
    _check_advertised(config)
    _check_log(read)
    if config.network.connections_per_ip_max == 0 and not config.network.connections_per_ip_overrides:
        raise RequirementFailed(
            "max.connections.per.ip",
            "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
        )
    registration = config.registration
    if registration.heartbeat_interval_ms * 2 > registration.session_timeout_ms:
        raise ConfigError(
            "broker.heartbeat.interval.ms",
            "broker.heartbeat.interval.ms must be at most half of broker.session.timeout.ms",
        )
    groups = config.groups
    if groups.session_timeout_ms_min > groups.session_timeout_ms_max:
        raise ConfigError(
            "group.min.session.timeout.ms", "group.min.session.timeout.ms must not exceed group.max.session.timeout.ms"
        )


def _check_log(read: _Reader) -> None:
    for name in ("log.retention.ms", "log.retention.minutes", "log.retention.hours"):
        if read[name] == 0:
            raise RequirementFailed(name, f"{name} must be unlimited (-1) or, greater than or equal to 1")
    for name, lowest in (("log.roll.ms", 1), ("log.roll.jitter.ms", 0)):
        if read[name] is not None and read[name] < lowest:
            raise RequirementFailed(name, f"{name} must be greater than or equal to {lowest}")
    buffer, threads = read["log.cleaner.dedupe.buffer.size"], read["log.cleaner.threads"]
    if threads and buffer // threads <= 1 << 20:
        raise RequirementFailed(
            "log.cleaner.dedupe.buffer.size", "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread."
        )


def _check_roles(config: BrokerConfig) -> None:
    if set(config.roles) != {"broker", "controller"}:
        raise ConfigError(
            "process.roles",
            f"process.roles={','.join(config.roles)} is not supported yet: a node is broker and controller in one",
        )
    ids = [voter.node_id for voter in config.quorum.voters]
    if ids and ids != [config.node_id]:
        raise ConfigError(
            "controller.quorum.voters",
            "controller.quorum.voters may only name this node: a quorum of several nodes is not supported yet",
        )


def _check_advertised(config: BrokerConfig) -> None:
    names = {one.name for one in config.listeners}
    for one in config.advertised_listeners:
        if one.name not in names:
            raise ConfigError(
                "advertised.listeners", f"advertised.listeners: {one.name} is not the name of one of the listeners"
            )
        if one.host in ("", "0.0.0.0", "::"):  # noqa: S104 - refused, not bound
            raise ConfigError(
                "advertised.listeners",
                f"advertised.listeners cannot use the nonroutable meta-address {one.host or 'of every interface'}. "
                "Use a routable IP address.",
            )

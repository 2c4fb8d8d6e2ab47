"""The shapes of what commands show: the fields of `-o json`, `ndjson` and `yaml`, in this order, stable.

A field may be added at the end of a struct; none is renamed, retyped or taken away. Offsets are numbers, sizes bytes,
times milliseconds since 1970; null says that there is none.
"""

from typing import Any

from msgspec import Struct


class TopicRow(Struct, frozen=True, kw_only=True):
    name: str
    topic_id: str
    internal: bool
    partitions: int
    replication_factor: int
    under_replicated: int


class CreatedRow(Struct, frozen=True, kw_only=True):
    name: str
    topic_id: str
    partitions: int
    replication_factor: int


class PartitionRow(Struct, frozen=True, kw_only=True):
    partition: int
    leader: int
    leader_epoch: int
    replicas: list[int]
    isr: list[int]
    offline: list[int]
    start_offset: int | None
    end_offset: int | None


class ConfigRow(Struct, frozen=True, kw_only=True):
    name: str
    value: str | None
    default: bool


class TopicDescription(Struct, frozen=True, kw_only=True):
    name: str
    topic_id: str
    internal: bool
    partitions: list[PartitionRow]
    replication_factor: int
    under_replicated: int
    config: list[ConfigRow]


class TrimRow(Struct, frozen=True, kw_only=True):
    topic: str
    partition: int
    start_before: int
    start_offset: int
    records: int


class ConfigEntry(Struct, frozen=True, kw_only=True):
    name: str
    value: str | None
    source: str
    default: bool
    read_only: bool
    sensitive: bool
    type: str
    documentation: str | None
    synonyms: list[str]


class KeyRow(Struct, frozen=True, kw_only=True):
    name: str
    type: str
    default: str | None
    kafka_default: str | None
    importance: str
    update_mode: str
    rule: str
    status: str
    documentation: str


class ResourceRow(Struct, frozen=True, kw_only=True):
    kind: str
    name: str


class GroupRow(Struct, frozen=True, kw_only=True):
    group: str
    type: str
    protocol_type: str
    state: str


class GroupMember(Struct, frozen=True, kw_only=True):
    member_id: str
    instance_id: str | None
    client_id: str
    host: str
    epoch: int | None
    partitions: list[str]


class GroupPartition(Struct, frozen=True, kw_only=True):
    topic: str
    partition: int
    committed: int | None
    start: int | None
    end: int | None
    lag: int | None
    member_id: str | None
    client_id: str | None
    host: str | None


class GroupDescription(Struct, frozen=True, kw_only=True):
    group: str
    type: str
    state: str
    assignor: str
    coordinator: int
    epoch: int | None
    lag: int
    members: list[GroupMember]
    partitions: list[GroupPartition]


class BrokerRow(Struct, frozen=True, kw_only=True):
    node_id: int
    host: str
    port: int
    rack: str | None
    controller: bool
    fenced: bool
    leaders: int
    replicas: int


class ClusterInfo(Struct, frozen=True, kw_only=True):
    cluster_id: str | None
    controller: int
    brokers: list[BrokerRow]
    topics: int
    partitions: int
    under_replicated: int
    offline: int


class QuorumReplica(Struct, frozen=True, kw_only=True):
    node_id: int
    role: str
    log_end_offset: int
    lag: int
    last_fetch_ms: int | None
    last_caught_up_ms: int | None
    directory_id: str


class Quorum(Struct, frozen=True, kw_only=True):
    leader: int
    leader_epoch: int
    high_watermark: int
    replicas: list[QuorumReplica]


class LogDirRow(Struct, frozen=True, kw_only=True):
    broker: int
    directory: str
    error: str | None
    topics: int
    partitions: int
    size: int
    total_bytes: int | None
    usable_bytes: int | None
    largest: list[str]


class FeatureRow(Struct, frozen=True, kw_only=True):
    feature: str
    finalized: int
    min_supported: int
    max_supported: int


class ApiRow(Struct, frozen=True, kw_only=True):
    api: str
    key: int
    min_version: int
    max_version: int
    used: int | None


class TransactionRow(Struct, frozen=True, kw_only=True):
    transactional_id: str
    producer_id: int
    state: str


class Transaction(Struct, frozen=True, kw_only=True):
    transactional_id: str
    producer_id: int
    producer_epoch: int
    state: str
    coordinator: int
    timeout_ms: int
    started_ms: int | None
    partitions: list[str]


class ProducerRow(Struct, frozen=True, kw_only=True):
    topic: str
    partition: int
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    last_sequence: int
    last_ms: int
    open_since_offset: int | None


class SeekRow(Struct, frozen=True, kw_only=True):
    group: str
    topic: str
    partition: int
    before: int | None
    after: int | None
    change: int | None


class OffsetRow(Struct, frozen=True, kw_only=True):
    topic: str
    partition: int
    start: int
    end: int
    offset: int | None


class HealthRow(Struct, frozen=True, kw_only=True):
    check: str
    healthy: bool
    severity: str
    finding: str
    fix: str | None


class ClusterHealth(Struct, frozen=True, kw_only=True):
    healthy: bool
    checks: list[HealthRow]


class ProfileRow(Struct, frozen=True, kw_only=True):
    name: str
    current: bool
    bootstrap: str | None
    file: str


class BatchRow(Struct, frozen=True, kw_only=True):
    position: int
    size: int
    base_offset: int
    last_offset: int
    records: int
    leader_epoch: int
    codec: str
    producer_id: int
    producer_epoch: int
    base_sequence: int
    transactional: bool
    control: bool
    timestamp_type: str
    max_timestamp_ms: int
    crc: int
    flaw: str | None


class StoredRecord(Struct, frozen=True, kw_only=True):
    position: int
    offset: int
    timestamp: int
    kind: str
    key: Any
    value: Any
    headers: list[Any]


class IndexRow(Struct, frozen=True, kw_only=True):
    offset: int
    position: int


class TimeIndexRow(Struct, frozen=True, kw_only=True):
    timestamp_ms: int
    offset: int


class AbortedRow(Struct, frozen=True, kw_only=True):
    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class ProducerEntryRow(Struct, frozen=True, kw_only=True):
    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_offset: int
    timestamp_ms: int
    coordinator_epoch: int
    transaction_first_offset: int | None


class EpochRow(Struct, frozen=True, kw_only=True):
    epoch: int
    start_offset: int


class CheckpointRow(Struct, frozen=True, kw_only=True):
    topic: str
    partition: int
    offset: int


class PropertyRow(Struct, frozen=True, kw_only=True):
    name: str
    value: Any


class SegmentRow(Struct, frozen=True, kw_only=True):
    directory: str
    base_offset: int
    last_offset: int | None
    batches: int
    records: int
    size: int
    max_timestamp_ms: int | None
    flaw: str | None


class ErrorRow(Struct, frozen=True, kw_only=True):
    name: str
    number: int
    meaning: str
    retriable: bool
    fix: str | None


class BenchResult(Struct, frozen=True, kw_only=True):
    what: str
    topic: str
    records: int
    record_bytes: int
    seconds: float
    records_per_second: float
    bytes_per_second: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None

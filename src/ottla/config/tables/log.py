"""Data directories, segments, retention and flushing. The form of a row is described in ``ottla.config.key``."""

from typing import Final

ROWS: Final = r"""
auto.create.topics.enable | boolean | true | high | read-only | any | active
    Create a missing topic when a client asks for its metadata and allows it.
compression.gzip.level | int | -1 | medium | cluster-wide | or -1 1..9 | active
    Level used where the broker compresses with gzip; -1 is the codec's own choice.
compression.lz4.level | int | 9 | medium | cluster-wide | 1..17 | active
    Level used where the broker compresses with lz4.
compression.type | string | producer | high | cluster-wide | one uncompressed zstd lz4 snappy gzip producer | active
    Codec batches are stored in; producer keeps what the producer sent.
compression.zstd.level | int | 3 | medium | cluster-wide | -131072..22 | active
    Level used where the broker compresses with zstd.
cordoned.log.dirs | list | "" | medium | per-broker | any | active
    Log directories that get no new partitions; * means all.
log.cleaner.backoff.ms | long | 15000 | medium | cluster-wide | 0.. | active
    Pause of the log cleaner when nothing needs cleaning.
log.cleaner.dedupe.buffer.size | long | 134217728 | medium | cluster-wide | any | active
    Memory the log cleaner uses to find older records of a key.
log.cleaner.delete.retention.ms | long | 86400000 | medium | cluster-wide | 0.. | active
    How long a deletion marker stays in a compacted log.
log.cleaner.enable | boolean | true | medium | read-only | any | active
    Whether compacted logs are cleaned, and old segments of compact,delete topics deleted.
log.cleaner.io.buffer.load.factor | double | 0.9 | medium | cluster-wide | any | active
    How full the log cleaner's key table may become.
log.cleaner.io.buffer.size | int | 524288 | medium | cluster-wide | 0.. | active
    Memory of the log cleaner for reading and writing.
log.cleaner.io.max.bytes.per.second | double | 1.7976931348623157E308 | medium | cluster-wide | any | active
    Read and write rate the log cleaner stays below.
log.cleaner.max.compaction.lag.ms | long | 9223372036854775807 | medium | cluster-wide | 1.. | active
    A record is compacted at the latest after this time.
log.cleaner.min.cleanable.ratio | double | 0.5 | medium | cluster-wide | 0..1 | active
    Share of uncleaned bytes at which a compacted log is cleaned.
log.cleaner.min.compaction.lag.ms | long | 0 | medium | cluster-wide | 0.. | active
    A record is left alone for at least this time before it may be compacted.
log.cleaner.threads | int | 1 | medium | cluster-wide | 0.. | active
    Logs cleaned at the same time.
log.cleanup.policy | list | delete | medium | cluster-wide | any-of compact delete | active
    What happens to old segments: delete, compact or both.
log.dir | list | /tmp/kafka-logs | high | read-only | some | active
    Directory for data; log.dirs takes precedence.
log.dir.failure.timeout.ms | long | 30000 | low | read-only | 1.. | planned
    A broker that cannot tell the controller about a failed directory for this long stops.
log.dirs | list | null | high | read-only | some | active
    Directories for data; partitions are spread over them.
log.flush.interval.messages | long | 9223372036854775807 | high | cluster-wide | 1.. | active
    Flush a log to disk after this many records.
log.flush.interval.ms | long | null | high | cluster-wide | any | active
    Flush a log to disk after this time; empty means log.flush.scheduler.interval.ms.
log.flush.offset.checkpoint.interval.ms | int | 60000 | high | read-only | 0.. | active
    How often the recovery points are written down.
log.flush.scheduler.interval.ms | long | 9223372036854775807 | high | read-only | any | active
    How often logs are looked at for a flush that is due by time.
log.flush.start.offset.checkpoint.interval.ms | int | 60000 | high | read-only | 0.. | active
    How often the log start offsets are written down.
log.index.interval.bytes | int | 4096 | medium | cluster-wide | 0.. | active
    Bytes of records between two entries of the offset index.
log.index.size.max.bytes | int | 10485760 | medium | cluster-wide | 4.. | active
    Largest size of an index file; a full one starts a new segment.
log.initial.task.delay.ms | long | 30000 | low | read-only | 0.. | active internal
    Delay after the start before retention and checkpoints run for the first time.
log.local.retention.bytes | long | -2 | medium | cluster-wide | -2.. | planned
    With remote storage, bytes kept locally; -2 means as log.retention.bytes.
log.local.retention.ms | long | -2 | medium | cluster-wide | -2.. | planned
    With remote storage, time kept locally; -2 means as log.retention.ms.
log.message.timestamp.after.max.ms | long | 3600000 | medium | cluster-wide | 0.. | active
    How far in the future a record's timestamp may lie.
log.message.timestamp.before.max.ms | long | 9223372036854775807 | medium | cluster-wide | 0.. | active
    How far in the past a record's timestamp may lie.
log.message.timestamp.type | string | CreateTime | medium | cluster-wide | one CreateTime LogAppendTime | active
    Whose time a record carries: the producer's (CreateTime) or the broker's (LogAppendTime).
log.preallocate | boolean | false | medium | cluster-wide | any | active
    Reserve the space of a new segment at once.
log.retention.bytes | long | -1 | high | cluster-wide | any | active
    Old segments of a partition go once it is larger than this; -1 is no limit.
log.retention.check.interval.ms | long | 300000 | medium | read-only | 1.. | active
    How often segments are checked for retention.
log.retention.hours | int | 168 | high | read-only | any | active
    Hours a segment is kept; log.retention.minutes and log.retention.ms take precedence.
log.retention.minutes | int | null | high | read-only | any | active
    Minutes a segment is kept; log.retention.ms takes precedence.
log.retention.ms | long | null | high | cluster-wide | any | active
    Milliseconds a segment is kept; -1 keeps it for ever.
log.roll.hours | int | 168 | high | read-only | 1.. | active
    Hours after which a new segment starts; log.roll.ms takes precedence.
log.roll.jitter.hours | int | 0 | high | read-only | 0.. | active
    Random hours taken off the roll time; log.roll.jitter.ms takes precedence.
log.roll.jitter.ms | long | null | high | cluster-wide | any | active
    Random milliseconds taken off the roll time, so that segments do not all roll together.
log.roll.ms | long | null | high | cluster-wide | any | active
    Milliseconds after which a new segment starts.
log.segment.bytes | int | 1073741824 | high | cluster-wide | 1048576.. | active
    Size at which a new segment starts.
log.segment.delete.delay.ms | long | 60000 | high | cluster-wide | 0.. | active
    Delay before the file of a deleted segment is unlinked.
message.max.bytes | int | 1048588 | high | cluster-wide | 0.. | active
    Largest record batch accepted, after compression.
min.insync.replicas | int | 1 | high | cluster-wide | 1.. | active
    In-sync replicas that must have a record before acks=all succeeds.
num.partitions | int | 1 | medium | read-only | 1.. | active
    Partitions of a topic that is created automatically or asks for the default.
num.recovery.threads.per.data.dir | int | 2 | high | cluster-wide | 1.. | active
    Logs of one directory recovered at the same time after an unclean stop.
offset.metadata.max.bytes | int | 4096 | high | read-only | any | active
    Longest note a consumer may store with a committed offset.
producer.id.expiration.check.interval.ms | int | 600000 | low | read-only | 1.. | active internal
    How often unused producer ids are looked for.
producer.id.expiration.ms | int | 86400000 | low | cluster-wide | 1.. | active
    A producer id that wrote nothing for this long is forgotten.
"""

"""Topic configurations. The form of a row is described in ``ottla.config.key``."""

from typing import Final

ROWS: Final = r"""
cleanup.policy | list | delete | medium | cluster-wide | any-of compact delete | active
    What happens to old segments: delete, compact, both, or nothing when empty.
compression.gzip.level | int | -1 | medium | cluster-wide | or -1 1..9 | active
    Level used where the broker compresses with gzip; -1 is the codec's own choice.
compression.lz4.level | int | 9 | medium | cluster-wide | 1..17 | active
    Level used where the broker compresses with lz4.
compression.type | string | producer | medium | cluster-wide | one uncompressed zstd lz4 snappy gzip producer | active
    Codec batches are stored in; producer keeps what the producer sent.
compression.zstd.level | int | 3 | medium | cluster-wide | -131072..22 | active
    Level used where the broker compresses with zstd.
delete.retention.ms | long | 86400000 | medium | cluster-wide | 0.. | active
    How long a deletion marker stays in a compacted log.
file.delete.delay.ms | long | 60000 | medium | cluster-wide | 0.. | active
    Delay before the file of a deleted segment is unlinked.
flush.messages | long | 9223372036854775807 | medium | cluster-wide | 1.. | active
    Flush the log to disk after this many records.
flush.ms | long | 9223372036854775807 | medium | cluster-wide | 0.. | active
    Flush the log to disk after this time.
follower.replication.throttled.replicas | list | "" | medium | cluster-wide | replicas | planned
    Replicas throttled on the follower's side, as PARTITION:BROKER separated by commas, or *.
index.interval.bytes | int | 4096 | medium | cluster-wide | 0.. | active
    Bytes of records between two entries of the offset index.
internal.segment.bytes | int | null | medium | cluster-wide | any | active internal
    Segment size without the usual lower limit, for tests.
leader.replication.throttled.replicas | list | "" | medium | cluster-wide | replicas | planned
    Replicas throttled on the leader's side, as PARTITION:BROKER separated by commas, or *.
local.retention.bytes | long | -2 | medium | cluster-wide | -2.. | planned
    With remote storage, bytes kept locally; -2 means as retention.bytes.
local.retention.ms | long | -2 | medium | cluster-wide | -2.. | planned
    With remote storage, time kept locally; -2 means as retention.ms.
max.compaction.lag.ms | long | 9223372036854775807 | medium | cluster-wide | 1.. | active
    A record is compacted at the latest after this time.
max.message.bytes | int | 1048588 | medium | cluster-wide | 0.. | active
    Largest record batch accepted, after compression.
message.timestamp.after.max.ms | long | 3600000 | medium | cluster-wide | 0.. | active
    How far in the future a record's timestamp may lie.
message.timestamp.before.max.ms | long | 9223372036854775807 | medium | cluster-wide | 0.. | active
    How far in the past a record's timestamp may lie.
message.timestamp.type | string | CreateTime | medium | cluster-wide | one CreateTime LogAppendTime | active
    Whose time a record carries: the producer's (CreateTime) or the broker's (LogAppendTime).
min.cleanable.dirty.ratio | double | 0.5 | medium | cluster-wide | 0..1 | active
    Share of uncleaned bytes at which a compacted log is cleaned.
min.compaction.lag.ms | long | 0 | medium | cluster-wide | 0.. | active
    A record is left alone for at least this time before it may be compacted.
min.insync.replicas | int | 1 | medium | cluster-wide | 1.. | active
    In-sync replicas that must have a record before acks=all succeeds.
preallocate | boolean | false | medium | cluster-wide | any | active
    Reserve the space of a new segment at once.
remote.log.copy.disable | boolean | false | medium | cluster-wide | any | planned
    Stop copying to remote storage; what is there stays readable.
remote.log.delete.on.disable | boolean | false | medium | cluster-wide | any | planned
    Delete the remote copy when remote storage is turned off.
remote.storage.enable | boolean | false | medium | cluster-wide | any | refused
    Keep old segments of the topic in remote storage; it is not there yet.
retention.bytes | long | -1 | medium | cluster-wide | any | active
    Old segments of a partition go once it is larger than this; -1 is no limit.
retention.ms | long | 604800000 | medium | cluster-wide | -1.. | active
    Milliseconds a segment is kept; -1 keeps it for ever.
segment.bytes | int | 1073741824 | medium | cluster-wide | 1048576.. | active
    Size at which a new segment starts.
segment.index.bytes | int | 10485760 | medium | cluster-wide | 4.. | active
    Largest size of an index file; a full one starts a new segment.
segment.jitter.ms | long | 0 | medium | cluster-wide | 0.. | active
    Random milliseconds taken off the roll time, so that segments do not all roll together.
segment.ms | long | 604800000 | medium | cluster-wide | 1.. | active
    Milliseconds after which a new segment starts.
unclean.leader.election.enable | boolean | false | medium | cluster-wide | any | active
    Let a replica outside the in-sync set lead when no other is left; loses data.
"""

"""Remote (tiered) storage. The form of a row is described in ``ottla.config.key``."""

from typing import Final

ROWS: Final = r"""
remote.fetch.max.wait.ms | int | 500 | medium | cluster-wide | 1.. | planned
    Longest wait of a fetch for data from remote storage.
remote.list.offsets.request.timeout.ms | long | 30000 | medium | cluster-wide | 1.. | planned
    Longest wait for offsets looked up in remote storage.
remote.log.index.file.cache.total.size.bytes | long | 1073741824 | low | cluster-wide | 1.. | planned
    Space for index files fetched from remote storage.
remote.log.index.file.cache.ttl.ms | long | 900000 | low | read-only | -1.. | planned internal
    Unused index files leave the cache after this time; -1 keeps them.
remote.log.manager.copier.thread.pool.size | int | 10 | medium | cluster-wide | 1.. | planned
    Segments copied to remote storage at a time.
remote.log.manager.copy.max.bytes.per.second | long | 9223372036854775807 | medium | cluster-wide | 1.. | planned
    Rate of copying to remote storage.
remote.log.manager.copy.quota.window.num | int | 11 | medium | read-only | 1.. | planned
    Samples kept for the copy rate.
remote.log.manager.copy.quota.window.size.seconds | int | 1 | medium | read-only | 1.. | planned
    Length of a sample for the copy rate.
remote.log.manager.expiration.thread.pool.size | int | 10 | medium | cluster-wide | 1.. | planned
    Threads that remove expired remote segments.
remote.log.manager.fetch.max.bytes.per.second | long | 9223372036854775807 | medium | cluster-wide | 1.. | planned
    Rate of reading from remote storage.
remote.log.manager.fetch.quota.window.num | int | 11 | medium | read-only | 1.. | planned
    Samples kept for the read rate.
remote.log.manager.fetch.quota.window.size.seconds | int | 1 | medium | read-only | 1.. | planned
    Length of a sample for the read rate.
remote.log.manager.follower.thread.pool.size | int | 2 | medium | cluster-wide | 1.. | planned
    Threads that look up remote offsets for followers.
remote.log.manager.task.interval.ms | long | 30000 | low | read-only | 1.. | planned
    How often segments are copied and expired.
remote.log.manager.task.retry.backoff.max.ms | long | 30000 | low | read-only | 1.. | planned internal
    Longest pause before a remote task is tried again.
remote.log.manager.task.retry.backoff.ms | long | 500 | low | read-only | 1.. | planned internal
    First pause before a remote task is tried again.
remote.log.manager.task.retry.jitter | double | 0.2 | low | read-only | 0..0.5 | planned internal
    Random share added to the pause of a remote task.
remote.log.manager.thread.pool.size | int | 2 | medium | read-only | 1.. | planned
    Older name of remote.log.manager.follower.thread.pool.size.
remote.log.metadata.custom.metadata.max.bytes | int | 128 | low | read-only | 0.. | planned
    Largest note a remote storage plugin may attach to a segment.
remote.log.metadata.manager.class.name | string
| org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager | medium | read-only
| text | planned
    Java class that keeps track of remote segments.
remote.log.metadata.manager.class.path | string | null | medium | read-only | any | planned
    Java class path of the remote metadata plugin.
remote.log.metadata.manager.impl.prefix | string | rlmm.config. | medium | read-only | text | planned
    Prefix of the keys handed to the remote metadata plugin.
remote.log.metadata.manager.listener.name | string | null | medium | read-only | text | planned
    Listener the remote metadata plugin connects to.
remote.log.reader.max.pending.tasks | int | 100 | medium | read-only | 1.. | planned
    Remote reads that may wait; more are refused.
remote.log.reader.threads | int | 10 | medium | cluster-wide | 1.. | planned
    Remote reads at a time.
remote.log.storage.manager.class.name | string | null | medium | read-only | text | refused
    Java class that stores remote segments; remote storage is not there yet.
remote.log.storage.manager.class.path | string | null | medium | read-only | any | planned
    Java class path of the remote storage plugin.
remote.log.storage.manager.impl.prefix | string | rsm.config. | medium | read-only | text | planned
    Prefix of the keys handed to the remote storage plugin.
remote.log.storage.system.enable | boolean | false | medium | read-only | any | refused
    Turns remote storage on; it is not there yet.
"""

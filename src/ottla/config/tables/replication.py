"""Replication between brokers. The form of a row is described in ``ottla.config.key``."""

from typing import Final

ROWS: Final = r"""
auto.leader.rebalance.enable | boolean | true | high | read-only | any | planned
    Return leadership to the preferred replicas from time to time.
follower.fetch.last.tiered.offset.enable | boolean | false | medium | cluster-wide | any | planned
    Let a new follower start where the remote copy ends.
follower.replication.throttled.rate | long | 9223372036854775807 | medium | cluster-wide | 0.. | planned
    Bytes each second that throttled replicas may fetch; only changed at run time.
leader.imbalance.check.interval.seconds | long | 300 | high | read-only | 1.. | planned
    How often the controller looks for leaders that are not the preferred ones.
leader.replication.throttled.rate | long | 9223372036854775807 | medium | cluster-wide | 0.. | planned
    Bytes each second that throttled replicas may send; only changed at run time.
num.replica.alter.log.dirs.threads | int | null | high | read-only | any | active
    Threads that move replicas between directories; empty means one for each directory.
num.replica.fetchers | int | 1 | high | cluster-wide | 1.. | planned
    Connections to each leader for replication.
replica.alter.log.dirs.io.max.bytes.per.second | long | 9223372036854775807 | medium | cluster-wide | 0.. | active
    Bytes each second for moving replicas between directories; only changed at run time.
replica.fetch.backoff.ms | int | 1000 | medium | read-only | 0.. | planned
    Pause of a follower after a failed fetch.
replica.fetch.max.bytes | int | 1048576 | medium | read-only | 0.. | planned
    Bytes a follower asks for each partition.
replica.fetch.min.bytes | int | 1 | high | read-only | any | planned
    Bytes a follower waits for before its fetch is answered.
replica.fetch.response.max.bytes | int | 10485760 | medium | read-only | 0.. | planned
    Bytes a follower asks for in one fetch.
replica.fetch.wait.max.ms | int | 500 | high | read-only | any | planned
    Longest wait of a follower's fetch for new data.
replica.high.watermark.checkpoint.interval.ms | long | 5000 | high | read-only | any | active
    How often the high watermarks are written down.
replica.lag.time.max.ms | long | 30000 | high | read-only | any | active
    A follower that did not catch up for this long leaves the in-sync set.
replica.selector.class | string | null | medium | read-only | any | planned
    Java class that chooses the replica a consumer reads from.
replica.socket.receive.buffer.bytes | int | 65536 | high | read-only | any | planned
    Receive buffer of replication connections.
replica.socket.timeout.ms | int | 30000 | high | read-only | any | planned
    Longest wait for an answer to a replication request.
unclean.leader.election.enable | boolean | false | high | cluster-wide | any | active
    Let a replica outside the in-sync set lead when no other is left; loses data.
unclean.leader.election.interval.ms | long | 300000 | medium | read-only | 1.. | planned internal
    How often unclean elections are looked at where they are allowed.
"""

"""Group configurations. The form of a row is described in ``ottla.config.key``."""

from typing import Final

ROWS: Final = r"""
consumer.assignment.interval.ms | int | 1000 | medium | cluster-wide | 0.. | active
    Least time between two assignments of the consumer group.
consumer.heartbeat.interval.ms | int | 5000 | medium | cluster-wide | 1.. | active
    Heartbeat interval told to members of the consumer group.
consumer.session.timeout.ms | int | 45000 | medium | cluster-wide | 1.. | active
    A member of the consumer group that is silent for this long is removed.
share.assignment.interval.ms | int | 1000 | medium | cluster-wide | 0.. | planned
    Least time between two assignments of the share group.
share.auto.offset.reset | string | latest | medium | cluster-wide | share-reset | planned
    Where a share group starts without committed state: latest, earliest or by_duration:PnDTnHnMn.nS.
share.delivery.count.limit | int | 5 | medium | cluster-wide | 2.. | planned
    Times a record is delivered to the share group before it is given up.
share.heartbeat.interval.ms | int | 5000 | medium | cluster-wide | 1.. | planned
    Heartbeat interval told to members of the share group.
share.isolation.level | string
| read_uncommitted | medium | cluster-wide | one read_committed read_uncommitted | planned
    Whether a share group sees records of open and aborted transactions.
share.partition.max.record.locks | int | 2000 | medium | cluster-wide | 100.. | planned
    Most records of a partition that are locked at a time.
share.record.lock.duration.ms | int | 30000 | medium | cluster-wide | 1000.. | planned
    How long a delivered record stays locked for its consumer.
share.renew.acknowledge.enable | boolean | true | medium | cluster-wide | any | planned
    Whether members may prolong the lock of a record.
share.session.timeout.ms | int | 45000 | medium | cluster-wide | 1.. | planned
    A member of the share group that is silent for this long is removed.
streams.assignment.interval.ms | int | 1000 | medium | cluster-wide | 0.. | planned
    Least time between two assignments of the streams group.
streams.heartbeat.interval.ms | int | 5000 | medium | cluster-wide | 1.. | planned
    Heartbeat interval told to members of the streams group.
streams.initial.rebalance.delay.ms | int | 3000 | medium | cluster-wide | 0.. | planned
    How long a new streams group waits for more members.
streams.num.standby.replicas | int | 0 | medium | cluster-wide | 0.. | planned
    Standby copies of each task's state.
streams.session.timeout.ms | int | 45000 | medium | cluster-wide | 1.. | planned
    A member of the streams group that is silent for this long is removed.
"""

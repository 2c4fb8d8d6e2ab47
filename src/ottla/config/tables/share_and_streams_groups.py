"""Share groups and streams groups. The form of a row is described in ``ottla.config.key``."""

from typing import Final

ROWS: Final = r"""
group.share.assignment.interval.ms | int | 1000 | medium | cluster-wide | 0.. | planned
    Least time between two assignments of a share group.
group.share.assignors | list | simple | medium | read-only | some | planned
    Server-side assignor of share groups.
group.share.delivery.count.limit | int | 5 | medium | read-only | 2..10 | planned
    Times a record is delivered to a share group before it is given up.
group.share.heartbeat.interval.ms | int | 5000 | medium | read-only | 1.. | planned
    Heartbeat interval told to members of share groups.
group.share.initialize.retry.interval.ms | int | 30000 | low | read-only | 1.. | planned internal
    Pause before the state of a share group is initialised again.
group.share.max.assignment.interval.ms | int | 15000 | medium | read-only | 0.. | planned
    Largest value a group may set for its assignment interval.
group.share.max.delivery.count.limit | int | 10 | medium | read-only | 5..25 | planned
    Largest value a group may set for its delivery count.
group.share.max.heartbeat.interval.ms | int | 15000 | medium | read-only | 1.. | planned
    Largest value a group may set for its heartbeat interval.
group.share.max.partition.max.record.locks | int | 4000 | medium | read-only | 2000..10000 | planned
    Largest value a group may set for locked records of a partition.
group.share.max.record.lock.duration.ms | int | 60000 | medium | read-only | 30000..3600000 | planned
    Largest value a group may set for the lock of a record.
group.share.max.session.timeout.ms | int | 60000 | medium | read-only | 1.. | planned
    Largest value a group may set for its session timeout.
group.share.max.share.sessions | int | 2000 | medium | read-only | 1.. | planned
    Most share sessions on a broker.
group.share.max.size | int | 200 | medium | read-only | 1..1000 | planned
    Most members of one share group.
group.share.min.assignment.interval.ms | int | 0 | medium | read-only | 0.. | planned
    Smallest value a group may set for its assignment interval.
group.share.min.delivery.count.limit | int | 2 | medium | read-only | 2..5 | planned
    Smallest value a group may set for its delivery count.
group.share.min.heartbeat.interval.ms | int | 5000 | medium | read-only | 1.. | planned
    Smallest value a group may set for its heartbeat interval.
group.share.min.partition.max.record.locks | int | 100 | medium | read-only | 100..2000 | planned
    Smallest value a group may set for locked records of a partition.
group.share.min.record.lock.duration.ms | int | 15000 | medium | read-only | 1000..30000 | planned
    Smallest value a group may set for the lock of a record.
group.share.min.session.timeout.ms | int | 45000 | medium | read-only | 1.. | planned
    Smallest value a group may set for its session timeout.
group.share.partition.max.record.locks | int | 2000 | medium | read-only | 100..10000 | planned
    Most records of a partition that are locked at a time.
group.share.persister.class.name | string
| org.apache.kafka.server.share.persister.DefaultStatePersister | medium | read-only | any | inert internal
    Java class that stores the state of share groups.
group.share.record.lock.duration.ms | int | 30000 | medium | read-only | 1000..3600000 | planned
    How long a delivered record stays locked for its consumer.
group.share.session.timeout.ms | int | 45000 | medium | read-only | 1.. | planned
    A member of a share group that is silent for this long is removed.
group.streams.assignment.interval.ms | int | 1000 | medium | cluster-wide | 0.. | planned
    Least time between two assignments of a streams group.
group.streams.heartbeat.interval.ms | int | 5000 | medium | read-only | 1.. | planned
    Heartbeat interval told to members of streams groups.
group.streams.initial.rebalance.delay.ms | int | 3000 | medium | read-only | 0.. | planned
    How long a new streams group waits for more members.
group.streams.max.assignment.interval.ms | int | 15000 | medium | read-only | 0.. | planned
    Largest value a group may set for its assignment interval.
group.streams.max.heartbeat.interval.ms | int | 15000 | medium | read-only | 1.. | planned
    Largest value a group may set for its heartbeat interval.
group.streams.max.session.timeout.ms | int | 60000 | medium | read-only | 1.. | planned
    Largest value a group may set for its session timeout.
group.streams.max.size | int | 2147483647 | medium | read-only | 1.. | planned
    Most members of one streams group.
group.streams.max.standby.replicas | int | 2 | medium | read-only | 0.. | planned
    Largest value a group may set for its standby replicas.
group.streams.min.assignment.interval.ms | int | 0 | medium | read-only | 0.. | planned
    Smallest value a group may set for its assignment interval.
group.streams.min.heartbeat.interval.ms | int | 5000 | medium | read-only | 1.. | planned
    Smallest value a group may set for its heartbeat interval.
group.streams.min.session.timeout.ms | int | 45000 | medium | read-only | 1.. | planned
    Smallest value a group may set for its session timeout.
group.streams.num.standby.replicas | int | 0 | medium | read-only | 0.. | planned
    Standby copies of each task's state.
group.streams.session.timeout.ms | int | 45000 | medium | read-only | 1.. | planned
    A member of a streams group that is silent for this long is removed.
share.coordinator.append.linger.ms | int | -1 | medium | read-only | -1.. | planned
    How long the share coordinator gathers records before writing them; -1 adapts to the load.
share.coordinator.cached.buffer.max.bytes | int | 1048588 | medium | cluster-wide | 524288.. | inert
    Largest write buffer the Java share coordinator keeps.
share.coordinator.cold.partition.snapshot.interval.ms | int | 300000 | low | read-only | 1.. | planned internal
    How often the state of an idle share partition is written in full.
share.coordinator.load.buffer.size | int | 5242880 | high | read-only | 1.. | planned
    Bytes read at a time when share state is loaded.
share.coordinator.snapshot.update.records.per.snapshot | int | 500 | medium | read-only | 0..500 | planned
    Updates of share state between two full copies.
share.coordinator.state.topic.compression.codec | int | 0 | high | read-only | any | planned
    Codec of the share state topic, as Kafka's number; 0 is none.
share.coordinator.state.topic.min.isr | short | 2 | high | read-only | or -1 1.. | planned
    In-sync replicas the share state topic needs; -1 takes two or as many brokers as there are.
share.coordinator.state.topic.num.partitions | int | 50 | high | read-only | 1.. | planned
    Partitions of the share state topic; must not change once it exists.
share.coordinator.state.topic.prune.interval.ms | int | 300000 | low | read-only | 1.. | planned internal
    How often old records of the share state topic are removed.
share.coordinator.state.topic.replication.factor | short | 3 | high | read-only | or -1 1.. | planned
    Replicas of the share state topic; -1 takes three or as many brokers as there are.
share.coordinator.state.topic.segment.bytes | int | 104857600 | high | read-only | 1.. | planned
    Segment size of the share state topic.
share.coordinator.threads | int | 1 | medium | read-only | 1.. | inert
    Threads of the Java share coordinator.
share.coordinator.write.timeout.ms | int | 5000 | high | read-only | 1.. | planned
    Longest wait for a write of share state to be replicated.
"""

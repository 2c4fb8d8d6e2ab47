"""Classic and consumer groups and their committed offsets. The form of a row is described in ``ottla.config.key``."""

from typing import Final

ROWS: Final = r"""
group.consumer.assignment.interval.ms | int | 1000 | medium | cluster-wide | 0.. | active
    Least time between two assignments of a consumer group.
group.consumer.assignors | list | uniform,range | medium | read-only | some | active
    Server-side assignors, the first is the default.
group.consumer.heartbeat.interval.ms | int | 5000 | medium | read-only | 1.. | active
    Heartbeat interval told to members of consumer groups.
group.consumer.max.assignment.interval.ms | int | 15000 | medium | read-only | 0.. | active
    Largest value a group may set for its assignment interval.
group.consumer.max.heartbeat.interval.ms | int | 15000 | medium | read-only | 1.. | active
    Largest value a group may set for its heartbeat interval.
group.consumer.max.session.timeout.ms | int | 60000 | medium | read-only | 1.. | active
    Largest value a group may set for its session timeout.
group.consumer.max.size | int | 2147483647 | medium | read-only | 1.. | active
    Most members of one consumer group.
group.consumer.migration.policy | string
| bidirectional | medium | read-only | nocase DISABLED DOWNGRADE UPGRADE BIDIRECTIONAL | active
    Which way a group with members may change between the classic and the consumer protocol.
group.consumer.min.assignment.interval.ms | int | 0 | medium | read-only | 0.. | active
    Smallest value a group may set for its assignment interval.
group.consumer.min.heartbeat.interval.ms | int | 5000 | medium | read-only | 1.. | active
    Smallest value a group may set for its heartbeat interval.
group.consumer.min.session.timeout.ms | int | 45000 | medium | read-only | 1.. | active
    Smallest value a group may set for its session timeout.
group.consumer.regex.refresh.interval.ms | int | 600000 | medium | read-only | 10000.. | active internal
    How often topics are matched again with the patterns of a group.
group.consumer.session.timeout.ms | int | 45000 | medium | read-only | 1.. | active
    A member of a consumer group that is silent for this long is removed.
group.coordinator.append.linger.ms | int | -1 | medium | read-only | -1.. | active
    How long the coordinator gathers offset commits before writing them; -1 adapts to the load.
group.coordinator.background.threads | int | 2 | high | read-only | 1.. | inert
    Background threads of the Java coordinator.
group.coordinator.cached.buffer.max.bytes | int | 1048588 | medium | cluster-wide | 524288.. | inert
    Largest write buffer the Java coordinator keeps.
group.coordinator.rebalance.protocols | list
| classic,consumer,streams | medium | read-only | some-of consumer classic share streams | active
    Group protocols that are served.
group.coordinator.threads | int | 4 | high | read-only | 1.. | inert
    Threads of the Java coordinator.
group.initial.rebalance.delay.ms | int | 3000 | medium | read-only | any | active
    How long a new, empty group waits for more members before its first assignment.
group.max.session.timeout.ms | int | 1800000 | medium | read-only | any | active
    Largest session timeout a member of a classic group may ask for.
group.max.size | int | 2147483647 | medium | read-only | 1.. | active
    Most members of one classic group.
group.min.session.timeout.ms | int | 6000 | medium | read-only | any | active
    Smallest session timeout a member of a classic group may ask for.
offsets.commit.timeout.ms | int | 5000 | high | read-only | 1.. | active
    Longest wait for a commit of offsets to be replicated.
offsets.load.buffer.size | int | 5242880 | high | read-only | 1.. | active
    Bytes read at a time when committed offsets are loaded.
offsets.retention.check.interval.ms | long | 600000 | high | read-only | 1.. | active
    How often expired offsets are looked for.
offsets.retention.minutes | int | 10080 | high | read-only | 1.. | active
    Committed offsets of an empty group are kept this long.
offsets.topic.compression.codec | int | 0 | high | read-only | any | active
    Codec of the offsets topic, as Kafka's number; 0 is none.
offsets.topic.num.partitions | int | 50 | high | read-only | 1.. | active
    Partitions of the offsets topic; must not change once it exists.
offsets.topic.replication.factor | short | 3 | high | read-only | or -1 1.. | active
    Replicas of the offsets topic; -1 takes three or as many brokers as there are.
offsets.topic.segment.bytes | int | 104857600 | high | read-only | 1.. | active
    Segment size of the offsets topic.
"""

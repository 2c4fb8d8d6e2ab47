"""The node, its registration and the metadata quorum. The form of a row is described in ``ottla.config.key``."""

from typing import Final

ROWS: Final = r"""
broker.heartbeat.interval.ms | int | 2000 | medium | read-only | any | active
    How often a broker reports to the controller that it lives.
broker.id | int | -1 | high | read-only | any | active
    Older name of node.id; both must agree where both are set.
broker.rack | string | null | medium | read-only | any | active
    Rack of this broker; replicas are spread over racks.
broker.session.timeout.ms | int | 9000 | medium | read-only | any | active
    A broker that sent no heartbeat for this long is fenced by the controller.
controller.listener.names | list | null | high | read-only | some | active
    Names of the listeners that serve the metadata quorum.
controller.performance.always.log.threshold.ms | long | 2000 | medium | read-only | 0.. | inert internal
    Controller events slower than this are always logged.
controller.performance.sample.period.ms | long | 60000 | medium | read-only | 100.. | inert internal
    How often the controller logs its performance.
controller.quorum.append.linger.ms | int | 25 | medium | read-only | 0.. | inert
    How long the leader of the quorum gathers records before writing them.
controller.quorum.auto.join.enable | boolean | false | low | read-only | any | planned
    Let a new controller add itself to the quorum.
controller.quorum.bootstrap.servers | list | "" | high | read-only | addresses | planned
    Addresses where the metadata quorum is found.
controller.quorum.election.backoff.max.ms | int | 1000 | high | read-only | 0.. | active
    Longest random pause between two elections.
controller.quorum.election.timeout.ms | int | 1000 | high | read-only | 0.. | active
    How long a candidate waits for votes.
controller.quorum.fetch.max.bytes | int | 1048576 | low | read-only | 1.. | planned
    Most metadata bytes in one quorum fetch.
controller.quorum.fetch.snapshot.max.bytes | int | 1048576 | low | read-only | 1.. | planned
    Most bytes in one piece of a metadata snapshot.
controller.quorum.fetch.timeout.ms | int | 2000 | high | read-only | 0.. | active
    A voter that could not fetch for this long calls an election.
controller.quorum.request.timeout.ms | int | 2000 | medium | read-only | 0.. | planned
    Longest wait for an answer inside the quorum.
controller.quorum.retry.backoff.ms | int | 20 | low | read-only | 0.. | planned
    Pause before a quorum request is sent again.
controller.quorum.voters | list | "" | high | read-only | voters | active
    Voters of the metadata quorum, as ID@HOST:PORT separated by commas.
controller.socket.timeout.ms | int | 30000 | medium | read-only | any | inert
    Longest silence on a connection to the controller.
default.replication.factor | int | 1 | medium | read-only | any | active
    Replicas of a topic that is created automatically or asks for the default.
delete.topic.enable | boolean | true | high | read-only | any | active
    Whether topics may be deleted.
initial.broker.registration.timeout.ms | int | 60000 | medium | read-only | any | active
    A broker that could not register for this long after its start stops.
internal.metadata.delete.delay.millis | long | 60000 | low | read-only | any | active internal
    Delay before files of the metadata log are unlinked.
internal.metadata.log.segment.bytes | int | null | low | read-only | any | active internal
    Segment size of the metadata log, for tests.
internal.metadata.max.batch.size.in.bytes | int | 8388608 | low | read-only | any | active internal
    Largest batch of the metadata log.
kafka.metrics.polling.interval.secs | int | 10 | low | read-only | 1.. | inert
    How often the Java broker's older metrics are read.
kafka.metrics.reporters | list | "" | low | read-only | any | inert
    Java classes that take the older metrics.
metadata.log.dir | string | null | high | read-only | any | active
    Directory of the metadata log; empty means the first of log.dirs.
metadata.log.max.record.bytes.between.snapshots | long | 20971520 | high | read-only | 1.. | active
    A snapshot of the metadata is written after this many bytes of records.
metadata.log.max.snapshot.interval.ms | long | 3600000 | high | read-only | 0.. | active
    A snapshot of the metadata is written at least this often when there is something new; 0 turns this off.
metadata.log.segment.bytes | int | 1073741824 | high | read-only | 8388608.. | active
    Segment size of the metadata log.
metadata.log.segment.ms | long | 604800000 | high | read-only | any | active
    Longest time before the metadata log starts a new segment.
metadata.max.idle.interval.ms | int | 500 | low | read-only | 0.. | planned
    How often an idle controller writes an empty record; 0 turns this off.
metadata.max.retention.bytes | long | 104857600 | high | read-only | any | active
    Old metadata segments and snapshots go once they pass this size together.
metadata.max.retention.ms | long | 604800000 | high | read-only | any | active
    Old metadata segments and snapshots go after this time.
node.id | int | null | high | read-only | 0.. | active
    Number of this node in the cluster.
process.roles | list | null | high | read-only | some-of broker controller | active
    What this node is: broker, controller or both.
"""

"""Ottla's own keys, the keys of Kafka's authorizer, and every default of Ottla's that differs from Kafka's."""

from typing import Final, NamedTuple

ROWS: Final = r"""
ottla.batch.decompression.max.bytes | int | 33554432 | medium | read-only | 1024.. | active
    Largest size of one batch's records after decompression, where the broker has to decompress.
ottla.connection.frame.timeout.ms | int | 30000 | medium | read-only | 1.. | active
    A request that has begun to arrive must be complete within this time, or its connection is closed.
ottla.flush | string | auto | high | read-only | one auto always never | active
    When an acknowledged record is on disk. auto: acks=all on a partition with one replica waits for a shared flush,
    with followers for those; always: every acknowledgement waits for a flush; never: as Kafka, the operating system
    writes when it likes.
ottla.max.queued.bytes | int | 8388608 | medium | read-only | 65536.. | active
    Bytes of requests and answers one connection may have waiting before reading from it pauses.
ottla.stop.timeout.ms | int | 900 | medium | read-only | 0.. | active
    How long a clean stop waits for requests in flight.
allow.everyone.if.no.acl.found | boolean | false | medium | read-only | any | planned
    What Kafka's authorizer does where no rule matches; there is no authorizer yet.
super.users | string | "" | medium | read-only | any | planned
    Users Kafka's authorizer always allows, separated by semicolons; there is no authorizer yet.
"""


class Difference(NamedTuple):
    """A default that is not Kafka's, and why."""

    name: str
    default: str
    reason: str


DIFFERENCES: Final = (
    Difference("controller.listener.names", "CONTROLLER", "required by Kafka; a start without any file needs a value"),
    Difference(
        "group.initial.rebalance.delay.ms",
        "-1",
        "3000 as in Kafka, but 0 while the cluster has one broker: the first consumer need not wait",
    ),
    Difference(
        "listeners", "PLAINTEXT://127.0.0.1:9092", "without encryption and users, only this machine may connect"
    ),
    Difference("log.dir", ".ottla", "data belongs to the project it was started in, and /tmp may be emptied"),
    Difference("node.id", "1", "required by Kafka; a start without any file needs a value"),
    Difference(
        "offsets.topic.replication.factor", "-1", "3 or as many brokers as there are: one node works unconfigured"
    ),
    Difference("process.roles", "broker,controller", "required by Kafka; a start without any file needs a value"),
    Difference(
        "share.coordinator.state.topic.min.isr", "-1", "2 or as many brokers as there are: one node works unconfigured"
    ),
    Difference(
        "share.coordinator.state.topic.replication.factor",
        "-1",
        "3 or as many brokers as there are: one node works unconfigured",
    ),
    Difference(
        "socket.listen.backlog.size",
        "1024",
        "a burst of connections beyond it waits a second each for its next try: 2,000 took 25 s with 50, 0.14 s so",
    ),
    Difference(
        "socket.receive.buffer.bytes",
        "1048576",
        "one event loop reads large requests in few pieces: about three times the throughput of a small buffer",
    ),
    Difference("transaction.state.log.min.isr", "-1", "2 or as many brokers as there are: one node works unconfigured"),
    Difference(
        "transaction.state.log.replication.factor",
        "-1",
        "3 or as many brokers as there are: one node works unconfigured",
    ),
)

"""Listeners, connections and requests. The form of a row is described in ``ottla.config.key``."""

from typing import Final

ROWS: Final = r"""
advertised.listeners | list | null | high | read-only | some | active
    Addresses given to clients; empty means the listeners themselves.
background.threads | int | 10 | high | cluster-wide | 1.. | inert
    Maintenance threads of the Java broker.
config.providers | list | "" | low | cluster-wide | any | refused
    Java classes that fill placeholders in configuration values; not supported, use plain values.
connection.failed.authentication.delay.ms | int | 100 | low | read-only | 0.. | planned
    Pause before a connection whose authentication failed is closed.
connections.max.idle.ms | long | 600000 | medium | read-only | any | active
    A connection that is silent for this long is closed.
connections.max.reauth.ms | long | 0 | medium | read-only | any | planned
    Longest life of an authenticated session before the client must authenticate again; 0 turns this off.
controlled.shutdown.enable | boolean | true | medium | read-only | any | active
    On a clean stop, hand partition leadership over before leaving the cluster.
delete.records.purgatory.purge.interval.requests | int | 1 | medium | read-only | any | inert
    Tuning of the Java broker's wait lists.
early.start.listeners | list | null | high | read-only | any | inert
    Listeners that accept connections before the metadata is loaded.
fetch.max.bytes | int | 57671680 | medium | read-only | 1024.. | active
    Upper bound for the records in one fetch answer; a single larger batch still goes through.
fetch.purgatory.purge.interval.requests | int | 1000 | medium | read-only | any | inert
    Tuning of the Java broker's wait lists.
inter.broker.listener.name | string | null | medium | read-only | any | active
    Listener that brokers use among themselves.
listener.security.protocol.map | string
| SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT | low | per-broker | any | active
    Which security protocol each listener name speaks.
listeners | list | PLAINTEXT://:9092 | high | per-broker | some | active
    Addresses the node listens on, as NAME://HOST:PORT; an empty host means every interface, port 0 any free
    port.
max.connection.creation.rate | int | 2147483647 | medium | cluster-wide | 0.. | active
    New connections accepted each second; more are delayed. What ten quiet seconds would have allowed may come at once.
max.connections | int | 2147483647 | medium | cluster-wide | 0.. | active
    Most open connections on this node; further ones are closed at once.
max.connections.per.ip | int | 2147483647 | medium | cluster-wide | 0.. | active
    Most open connections from one address.
max.connections.per.ip.overrides | string | "" | medium | cluster-wide | any | active
    Exceptions to max.connections.per.ip, as HOST:COUNT separated by commas.
max.incremental.fetch.session.cache.slots | int | 1000 | medium | read-only | 0.. | active
    Most incremental fetch sessions kept at a time.
max.request.partition.size.limit | int | 2000 | medium | read-only | 1.. | active
    Most partitions one DescribeTopicPartitions answer lists.
num.io.threads | int | 8 | high | cluster-wide | 1.. | inert
    Request threads of the Java broker; one event loop serves all requests here.
num.network.threads | int | 3 | high | cluster-wide | 1.. | inert
    Socket threads of the Java broker; one event loop serves all sockets here.
producer.purgatory.purge.interval.requests | int | 1000 | medium | read-only | any | inert
    Tuning of the Java broker's wait lists.
queued.max.request.bytes | long | -1 | medium | read-only | any | inert
    Request bytes the Java broker queues in all; see ottla.max.queued.bytes for the limit used here.
queued.max.requests | int | 500 | high | read-only | 1.. | active
    Most requests of one connection that wait for their answer before reading pauses.
request.timeout.ms | int | 30000 | high | read-only | any | active
    Longest wait for the answer to a request this node sends.
server.max.startup.time.ms | long | 9223372036854775807 | medium | read-only | 0.. | inert internal
    Longest time the start may take.
share.fetch.purgatory.purge.interval.requests | int | 1000 | medium | read-only | any | inert
    Tuning of the Java broker's wait lists.
socket.connection.setup.timeout.max.ms | long | 30000 | medium | read-only | any | inert
    Longest wait for a new outgoing connection after repeated failures.
socket.connection.setup.timeout.ms | long | 10000 | medium | read-only | any | active
    Longest wait for a new outgoing connection.
socket.listen.backlog.size | int | 50 | medium | read-only | 1.. | active
    Connections the operating system may hold before they are accepted.
socket.receive.buffer.bytes | int | 102400 | high | read-only | any | active
    Receive buffer asked from the operating system for each socket; -1 leaves it alone.
socket.request.max.bytes | int | 104857600 | high | read-only | 1.. | active
    Largest request accepted; a connection that announces more is closed before memory is taken.
socket.send.buffer.bytes | int | 102400 | high | read-only | any | active
    Send buffer asked from the operating system for each socket; -1 leaves it alone.
unstable.api.versions.enable | boolean | false | high | read-only | any | planned internal
    Serve protocol versions that are still in development.
unstable.feature.versions.enable | boolean | false | high | read-only | any | planned internal
    Allow feature levels that are still in development.
"""

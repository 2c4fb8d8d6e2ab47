"""The sockets of a node: bound before anything else (a taken port is the most frequent failure), opened last."""

import socket
from collections.abc import Callable, Mapping
from functools import partial

from ottla.broker.dispatch import Dispatch, Route
from ottla.config.broker import BrokerConfig
from ottla.config.listeners import Listener as ListenerConfig
from ottla.metadata.image import Endpoint
from ottla.net.accept_rate import AcceptRate
from ottla.net.connection import Answer, Connection, ConnectionLimits
from ottla.net.listener import Listener, ListenerLimits
from ottla.runtime.clock import Clock
from ottla.runtime.supervisor import Supervisor

WILDCARDS = frozenset(("", "0.0.0.0", "::"))  # noqa: S104 - never bound here, only recognised
SECURITY_PROTOCOL_PLAINTEXT = 0
CONTROLLER_PORT = 9093
UNLIMITED = 2**31 - 1


class Listeners:
    """All listeners of one node, by name."""

    def __init__(self, config: BrokerConfig, supervisor: Supervisor) -> None:
        self._config = config
        self._supervisor = supervisor
        self._bound: list[tuple[ListenerConfig, Listener]] = []
        self._rate = AcceptRate()
        """Of all listeners together."""
        self._own_rates: dict[str, AcceptRate] = {}
        self._serve: dict[str, Callable[[Connection, memoryview], Answer]] = {}

    def bind(self) -> None:
        """Take every address. Raises ``OSError`` with the address in it; then none is kept."""
        for listener_config in self._config.broker_listeners:
            own = self._own_rates[listener_config.name] = AcceptRate()
            listener = Listener(
                serve=partial(self._serve_frame, listener_config.name),
                spawn=self._supervisor.spawn,
                limits=limits_of(self._config, listener_config.name),
                # Brokers must find each other whatever clients do.
                rates=(own,) if self._is_for_brokers(listener_config) else (self._rate, own),
            )
            try:
                listener.bind(listener_config.host, listener_config.port)
            except OSError as error:
                self.close()
                raise OSError(error.errno, f"{listener_config}: {error.strerror or error}") from error
            self._bound.append((listener_config, listener))
        self._limit_rates()

    def _is_for_brokers(self, listener: ListenerConfig) -> bool:
        config = self._config
        return len(config.broker_listeners) > 1 and listener.name == config.inter_broker_listener_name

    def _limit_rates(self) -> None:
        network = self._config.network
        burst_seconds = network.connections_burst_ms / 1000
        self._rate.limit(network.connections_per_second_max, burst_seconds)
        for name, rate in self._own_rates.items():
            rate.limit(_of_listener(self._config, name, "max.connection.creation.rate", UNLIMITED), burst_seconds)

    def set_config(self, config: BrokerConfig) -> None:
        """The broker's configuration has changed: new connections are held to its limits."""
        self._config = config
        for listener_config, listener in self._bound:
            listener.set_limits(limits_of(config, listener_config.name))
        self._limit_rates()

    def open(self, routes: Mapping[int, Route], clock: Clock) -> None:
        """Begin to serve ``routes`` on every listener."""
        for listener_config, listener in self._bound:
            dispatch = Dispatch(
                routes=routes, listener_name=listener_config.name, clock=clock, fail=self._supervisor.fail
            )
            self._serve[listener_config.name] = dispatch.serve
            listener.start()

    def _serve_frame(self, name: str, connection: Connection, frame: memoryview) -> Answer:
        return self._serve[name](connection, frame)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """What this node tells others to connect to: as advertised, else where it listens."""
        advertised = {listener.name: listener for listener in self._config.advertised_listeners}
        found = []
        for listener_config, listener in self._bound:
            public = advertised.get(listener_config.name, listener_config)
            host = socket.gethostname() if public.host in WILDCARDS else public.host
            port = public.port or listener.port
            found.append(
                Endpoint(name=listener_config.name, host=host, port=port, security_protocol=SECURITY_PROTOCOL_PLAINTEXT)
            )
        return tuple(found)

    def controller_endpoints(self) -> tuple[Endpoint, ...]:
        """Where the controller of this node would be reached. No voter but this one is served yet, so nobody listens
        there; the registration names the address the configuration gives, or the default port of this host."""
        listeners = self._config.controller_listeners
        if listeners:
            return tuple(Endpoint(name=one.name, host=one.host or "localhost", port=one.port) for one in listeners)
        names = self._config.controller_listener_names
        return (Endpoint(name=names[0] if names else "CONTROLLER", host="localhost", port=CONTROLLER_PORT),)

    def close_overdue(self) -> None:
        for _, listener in self._bound:
            listener.close_overdue()

    async def stop(self, grace_seconds: float) -> None:
        for _, listener in self._bound:
            await listener.stop(grace_seconds)

    def close(self) -> None:
        """Give the addresses back without having served."""
        for _, listener in self._bound:
            listener.unbind()
        self._bound.clear()


def limits_of(config: BrokerConfig, name: str) -> ListenerLimits:
    """The limits of the listener ``name``: what is set for it alone, else what is set for all."""
    network = config.network
    return ListenerLimits(
        connection=ConnectionLimits(
            frame_bytes_max=network.request_bytes_max,
            queued_bytes_max=network.queued_bytes_max,
            pending_requests_max=network.queued_requests_max,
            frame_seconds_max=network.frame_timeout_ms / 1000,
            idle_seconds_max=network.idle_ms_max / 1000,
        ),
        connections_max=_of_listener(config, name, "max.connections", network.connections_max),
        connections_per_address_max=network.connections_per_ip_max,
        connections_per_address_overrides=network.connections_per_ip_overrides,
        receive_buffer_bytes=network.receive_buffer_bytes,
        send_buffer_bytes=network.send_buffer_bytes if "socket.send.buffer.bytes" in config.properties else -1,
        backlog=network.backlog,
    )


def _of_listener(config: BrokerConfig, name: str, key: str, default: int) -> int:
    """What is set of ``key`` for the listener ``name`` alone."""
    return int(config.properties.get(f"listener.name.{name.lower()}.{key}", default))

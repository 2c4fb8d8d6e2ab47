"""What a client knows of a cluster, and its connections: bootstrap, metadata, one peer a broker.

Invariants: metadata is replaced only by an answer of the cluster; every loop that tries again has a deadline or ends
with the cluster's ``close``. Where ``Recovery`` allows it, the bootstrap addresses are asked again when no known broker
answers (KIP-899), when none has for long, or when a broker says so (KIP-1102).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from msgspec import Struct, field

from ottla.client._backoff import Backoff
from ottla.client._errors import ConfigError, error_of
from ottla.model import TopicPartition, Uuid
from ottla.net.peer import Peer, PeerLimits, PeerLost, PeerTimeout, PeerUnreachable
from ottla.wire.apis import ApiKey
from ottla.wire.codec import Message
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from ottla.wire.messages.metadata_response import MetadataResponse, MetadataResponseTopic

if TYPE_CHECKING:
    from ssl import SSLContext

    from ottla.client._security import Credentials, Sasl, Tls
    from ottla.wire.messages.fetch_response import NodeEndpoint as FetchEndpoint
    from ottla.wire.messages.produce_response import NodeEndpoint

DEFAULT_PORT: Final = 9092
START_TRIES: Final = 5
MAIN_CONNECTION_SECONDS: Final = 1.0
"""How long a connection with a lane waits for the one without, to learn the broker's versions from it."""


class ClusterUnreachable(ConnectionError):
    """No address of the cluster answers. ``broken``: somebody was there, and the connection was lost."""

    def __init__(self, message: str, *, broken: bool = False) -> None:
        super().__init__(message)
        self.broken = broken


RecoveryStrategy = Literal["rebootstrap", "none"]


class Recovery(Struct, frozen=True, kw_only=True):
    """What is done when no broker that is known answers: whether to begin again from the bootstrap addresses, and
    after how long without metadata even brokers that seem to be there are forgotten.
    """

    rebootstrap: bool = True
    trigger_seconds: float = 300.0

    @classmethod
    def of(cls, strategy: str, trigger_ms: float) -> Self:
        """From the options' names. Raises ``ConfigError``."""
        if strategy not in ("rebootstrap", "none"):
            raise ConfigError(f"metadata_recovery_strategy={strategy!r}: there are rebootstrap and none")
        return cls(rebootstrap=strategy == "rebootstrap", trigger_seconds=trigger_ms / 1000)


class BrokerAddress(Struct, frozen=True, kw_only=True):
    """A broker as the cluster advertises it."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


class PartitionMetadata(Struct, frozen=True, kw_only=True):
    """One partition. ``leader`` is -1 while there is none."""

    partition: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    offline: tuple[int, ...]


class TopicMetadata(Struct, frozen=True, kw_only=True):
    """One topic with its partitions by number."""

    name: str
    topic_id: Uuid
    internal: bool
    partitions: Mapping[int, PartitionMetadata]


class _Known(Struct):
    brokers: dict[int, BrokerAddress] = field(default_factory=dict)
    topics: dict[str, TopicMetadata] = field(default_factory=dict)
    controller_id: int = -1
    cluster_id: str | None = None


class Cluster:
    """Connections and metadata of one cluster, shared by everything a client does."""

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        *,
        client_id: str = "ottla",
        limits: PeerLimits | None = None,
        recovery: Recovery | None = None,
        rng: Random | None = None,
        tls: "bool | Tls | SSLContext" = False,
        sasl: "Sasl | None" = None,
        topics: Iterable[str] = (),
    ) -> None:
        """``topics`` are asked for with the first question already, as far as they exist."""
        self._first_topics = tuple(topics)
        self.addresses = parse_bootstrap(bootstrap_servers)
        self._tls, self._sasl = tls, sasl
        self._credentials: Credentials | None = None
        self.limits = limits or PeerLimits()
        self._recovery = recovery or Recovery()
        self.rng = rng or Random()
        self._client_id = client_id
        self._known = _Known()
        self._peers: dict[tuple[str, int, str], Peer] = {}
        self._connecting: dict[tuple[str, int, str], asyncio.Lock] = {}
        self._closed = False
        self._waits: set[asyncio.Timeout] = set()
        """What ends with ``close``: pauses, and connections that are being made."""
        self.generation = 0
        """Another number after each change of what is known of brokers and topics."""
        self._bootstraps = 0
        """How often it was begun again from the bootstrap addresses."""
        self._asking = 0
        """How many questions for metadata are on their way."""
        self._asked_in_vain = 0.0
        """Seconds for which there have been such questions since the last answer to one."""
        self._asking_since = 0.0
        """Loop time, while somebody asks: now without those seconds."""
        self.listeners: list[Callable[[], object]] = []
        """Called after what is known of topics has changed."""
        self.first_connected: Callable[[], object] | None = None
        """Called once, with the first connection: for what need not wait for metadata."""

    async def __aenter__(self) -> Self:
        backoff = Backoff(self.rng, initial=0.05)
        try:
            for tries_left in reversed(range(START_TRIES)):
                try:
                    await self.refresh(self._first_topics)
                    break
                except ClusterUnreachable as error:
                    # Where nobody listens one is told at once; a connection that broke may do better next time.
                    if not error.broken or not tries_left:
                        raise
                    await asyncio.sleep(backoff.next_seconds())
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def brokers(self) -> Mapping[int, BrokerAddress]:
        return self._known.brokers

    @property
    def cluster_id(self) -> str | None:
        return self._known.cluster_id

    @property
    def controller_id(self) -> int:
        return self._known.controller_id

    @property
    def topic_names(self) -> tuple[str, ...]:
        """The topics something is known of."""
        return tuple(self._known.topics)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        self._disconnect(self._peers.values())
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(asyncio.get_running_loop().time())

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond ``close``."""
        with suppress(TimeoutError):
            async with self._until_closed():
                await asyncio.sleep(seconds)

    def known_topic(self, name: str) -> TopicMetadata | None:
        """What is known of a topic without asking."""
        return self._known.topics.get(name)

    def places(self, names: Iterable[str]) -> list[TopicPartition]:
        """The partitions of those of these topics that are known."""
        known = [topic for name in names if (topic := self._known.topics.get(name)) is not None]
        return [TopicPartition(topic.name, number) for topic in known for number in topic.partitions]

    def leader(self, place: TopicPartition) -> int:
        """The broker that leads a partition as far as known; -1 if nobody."""
        topic = self._known.topics.get(place.topic)
        partition = None if topic is None else topic.partitions.get(place.partition)
        return -1 if partition is None else partition.leader

    def leader_epoch(self, place: TopicPartition) -> int:
        """The epoch of that leader; -1 if nothing is known."""
        topic = self._known.topics.get(place.topic)
        partition = None if topic is None else topic.partitions.get(place.partition)
        return -1 if partition is None else partition.leader_epoch

    def racks(self, topics: Iterable[str]) -> dict[TopicPartition, frozenset[str]]:
        """Where the partitions of topics have replicas, as far as known."""
        of_node = {node_id: broker.rack for node_id, broker in self._known.brokers.items() if broker.rack is not None}
        known = [topic for name in topics if (topic := self._known.topics.get(name)) is not None]
        return {
            TopicPartition(topic.name, number): frozenset(of_node[node] for node in one.replicas if node in of_node)
            for topic in known
            for number, one in topic.partitions.items()
        }

    def topic_by_id(self, topic_id: Uuid) -> TopicMetadata | None:
        """What is known of a topic by its id."""
        return next((topic for topic in self._known.topics.values() if topic.topic_id == topic_id), None)

    def note_leader(self, place: TopicPartition, leader: int, leader_epoch: int) -> None:
        """A leader hint out of an answer (KIP-951); older ones than what is known are ignored."""
        topic = self._known.topics.get(place.topic)
        partition = None if topic is None else topic.partitions.get(place.partition)
        if topic is None or partition is None or leader not in self._known.brokers:
            return
        if leader_epoch > partition.leader_epoch:
            changed = PartitionMetadata(
                partition=place.partition,
                leader=leader,
                leader_epoch=leader_epoch,
                replicas=partition.replicas,
                isr=partition.isr,
                offline=partition.offline,
            )
            self._known.topics[place.topic] = TopicMetadata(
                name=topic.name,
                topic_id=topic.topic_id,
                internal=topic.internal,
                partitions={**topic.partitions, place.partition: changed},
            )
            self._changed()

    def note_brokers(self, endpoints: "Iterable[NodeEndpoint | FetchEndpoint]") -> None:
        """Addresses out of an answer that names a new leader (KIP-951)."""
        for one in endpoints:
            told = BrokerAddress(node_id=one.node_id, host=one.host, port=one.port, rack=one.rack)
            if self._known.brokers.get(one.node_id) != told:
                self._known.brokers[one.node_id] = told
                self.generation += 1

    def rebootstrap(self) -> None:
        """Forget brokers and connections; topics are kept until the cluster says otherwise."""
        self._known.brokers = {}
        self.generation += 1
        self._bootstraps += 1
        self._disconnect(self._peers.values())

    async def refresh(
        self, topics: Iterable[str] | None, *, create: bool = False, seconds: float | None = None
    ) -> dict[str, ErrorCode]:
        """Ask for brokers and ``topics`` (``None``: all). Returns the error of each topic that has one.

        Raises ``ClusterUnreachable`` and ``KafkaError``.
        """
        wanted = None if topics is None else [MetadataRequestTopic(name=name) for name in topics]
        request = MetadataRequest(topics=wanted, allow_auto_topic_creation=create)
        bootstraps = self._bootstraps
        response = await self._ask_metadata(request, seconds)
        if response.error_code == ErrorCode.REBOOTSTRAP_REQUIRED and self._recovery.rebootstrap:
            # What we know leads nowhere, says a broker. Others may have heard it, too, and have begun again already.
            if self._bootstraps == bootstraps:
                self.rebootstrap()
            response = await self._ask_metadata(request, seconds)
            if response.error_code == ErrorCode.REBOOTSTRAP_REQUIRED:
                raise ClusterUnreachable("the bootstrap addresses, too, lead to a broker that sends us back to them")
        if response.error_code != ErrorCode.NONE:
            raise error_of(response.error_code, "the cluster gives no metadata")
        known = self._known
        known.brokers = {
            broker.node_id: BrokerAddress(node_id=broker.node_id, host=broker.host, port=broker.port, rack=broker.rack)
            for broker in response.brokers
        }
        known.controller_id, known.cluster_id = response.controller_id, response.cluster_id
        if wanted is None:
            known.topics.clear()
        errors = {}
        for topic in response.topics:
            name = topic.name or ""
            if topic.error_code != ErrorCode.NONE:
                errors[name] = ErrorCode(topic.error_code)
                known.topics.pop(name, None)
            else:
                known.topics[name] = _newest(known.topics.get(name), _topic_metadata(topic))
        self._changed()
        return errors

    async def topic(self, name: str, *, create: bool = False, seconds: float = 60.0) -> TopicMetadata:
        """A topic every partition of which has a leader; waits for one that is just being created.

        Raises ``KafkaError`` (UNKNOWN_TOPIC_OR_PARTITION where nobody may create it) and ``ClusterUnreachable``.
        """
        known = self._known.topics.get(name)
        if known is not None and _led(known):
            return known
        backoff = Backoff(self.rng, initial=0.02)
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            late = asyncio.get_running_loop().time() >= deadline
            try:
                errors = await self.refresh((name,), create=create)
            except ClusterUnreachable:
                if late or self._closed:
                    raise
                await asyncio.sleep(backoff.next_seconds())
                continue
            error = errors.get(name, ErrorCode.NONE)
            known = self._known.topics.get(name)
            if error is ErrorCode.NONE and known is not None and _led(known):
                return known
            hopeless = error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION and not create
            if late or hopeless or (error is not ErrorCode.NONE and not error.retriable):
                raise topic_error(name, error if error is not ErrorCode.NONE else ErrorCode.LEADER_NOT_AVAILABLE)
            await asyncio.sleep(backoff.next_seconds())

    async def peer(self, node_id: int, *, lane: str = "") -> Peer:
        """A connection to a broker. Raises ``PeerLost`` if it is unknown or does not answer.

        What must not wait behind other requests (a broker may serve those of a connection one after the other) has a
        ``lane``, a connection of its own.
        """
        broker = self._known.brokers.get(node_id)
        if broker is None:
            raise PeerLost(f"broker {node_id} is not known")
        return await self._connect((broker.host, broker.port), lane)

    def connected(self, node_id: int) -> Peer | None:
        """The connection to a broker if there is one."""
        broker = self._known.brokers.get(node_id)
        return None if broker is None else self._usable((broker.host, broker.port))

    async def ask_any(
        self, api_key: ApiKey, request: Message | Callable[[int], Message], *, seconds: float | None = None
    ) -> Any:
        """Send a request to whichever broker answers: connected ones first, then the others, then, if ``Recovery``
        allows it, the bootstrap addresses.

        ``request`` may be a function of the version that will be spoken. Raises ``ClusterUnreachable`` with every
        address's reason.
        """
        reasons: dict[tuple[str, int], str] = {}
        broken = False
        for address in self._candidates():
            if address in reasons:
                continue
            try:
                peer = await self._connect(address)
                version = peer.version_of(api_key)
                message = request(version) if callable(request) else request
                return await peer.request(api_key, message, version, seconds=seconds)
            except PeerLost as error:
                reasons[address] = str(error)
                broken = broken or not isinstance(error, PeerUnreachable | PeerTimeout)
            if self._closed:
                break
        raise ClusterUnreachable("; ".join(reasons.values()) or "the client is closed", broken=broken)

    async def _ask_metadata(self, request: MetadataRequest, seconds: float | None) -> MetadataResponse:
        """Of the known brokers, until none has answered for the trigger's time: they are forgotten then."""
        loop = asyncio.get_running_loop()
        brokers = self._known.brokers
        if not self._asking:
            self._asking_since = loop.time() - self._asked_in_vain
        patience = (
            self._asking_since + self._recovery.trigger_seconds if brokers and self._recovery.rebootstrap else None
        )
        response: MetadataResponse
        self._asking += 1
        try:
            try:
                async with asyncio.timeout_at(patience):
                    response = await self.ask_any(ApiKey.METADATA, request, seconds=seconds)
            except TimeoutError:
                if self._known.brokers is brokers:
                    self.rebootstrap()
                self._asking_since = loop.time()
                response = await self.ask_any(ApiKey.METADATA, request, seconds=seconds)
            self._asking_since = loop.time()
            return response
        finally:
            self._asking -= 1
            self._asked_in_vain = loop.time() - self._asking_since

    def _changed(self) -> None:
        self.generation += 1
        for listener in self.listeners:
            listener()

    def _candidates(self) -> Iterator[tuple[str, int]]:
        """Addresses to try one after the other, as long as none of them has answered."""
        brokers = self._known.brokers
        there = set(self._peers.values())
        connected = {
            (host, port): peer for (host, port, lane), peer in self._peers.items() if peer.connected and not lane
        }
        busy = [address for address, peer in connected.items() if peer.throttled]
        others = [(one.host, one.port) for one in brokers.values() if (one.host, one.port) not in connected]
        self.rng.shuffle(others)
        yield from [address for address in connected if address not in busy]
        yield from others
        yield from busy
        if brokers and not self._recovery.rebootstrap:
            return
        waiting = any(peer.connected and peer.throttled for peer in there)
        if brokers and self._known.brokers is brokers and not waiting:
            # Nobody is there any more. If bootstrap does not answer either, whoever of them comes back will do.
            self._disconnect(there)
        yield from self.addresses

    def _disconnect(self, peers: Collection[Peer]) -> None:
        for address, peer in list(self._peers.items()):
            if peer in peers:
                del self._peers[address]
                peer.close()

    async def _connect(self, address: tuple[str, int], lane: str = "") -> Peer:
        peer = self._usable(address, lane)
        if peer is not None:
            return peer
        async with self._connecting.setdefault((*address, lane), asyncio.Lock()):
            peer = self._usable(address, lane)
            if peer is not None:
                return peer
            if self._closed:
                raise PeerLost("the client is closed")
            try:
                async with self._until_closed():
                    peer = await self._open(address, await self._main_connection(address) if lane else None)
            except TimeoutError:
                if not self._closed:
                    raise
                raise PeerLost("the client is closed") from None
            if self._closed:
                peer.close()
                raise PeerLost("the client is closed")
            self._peers[*address, lane] = peer
            told, self.first_connected = self.first_connected, None
            if told is not None:
                told()
            return peer

    async def _main_connection(self, address: tuple[str, int]) -> Peer | None:
        """The connection without a lane, if there is one or one is being made: it knows the broker's versions."""
        connecting = self._connecting.get((*address, ""))
        if connecting is not None and connecting.locked():
            # A broker that takes long may never answer: then two connections find that out at once.
            with suppress(TimeoutError):
                async with asyncio.timeout(MAIN_CONNECTION_SECONDS), connecting:
                    pass
        return self._usable(address)

    def _usable(self, address: tuple[str, int], lane: str = "") -> Peer | None:
        peer = self._peers.get((*address, lane))
        if peer is None or not peer.connected:
            return None
        if not peer.fresh:
            # Its authentication runs out. What is on its way still gets its answer; whoever asks now gets another.
            del self._peers[*address, lane]
            peer.close_when_idle()
            return None
        return peer

    @asynccontextmanager
    async def _until_closed(self) -> AsyncIterator[None]:
        """What is within ends with ``TimeoutError`` when the cluster is closed."""
        async with asyncio.timeout(0 if self._closed else None) as wait:
            self._waits.add(wait)
            try:
                yield
            finally:
                self._waits.discard(wait)

    async def _open(self, address: tuple[str, int], like: Peer | None = None) -> Peer:
        """``like``: another connection to the same broker."""
        if self._tls is False and self._sasl is None:
            return await Peer.connect(*address, client_id=self._client_id, limits=self.limits, like=like)
        if self._credentials is None:
            from ottla.client._security import Credentials  # noqa: PLC0415 - for those who need it

            self._credentials = Credentials(self._tls, self._sasl)
        return await Peer.connect(
            *address,
            client_id=self._client_id,
            limits=self.limits,
            like=like,
            tls=self._credentials.context,
            authenticate=self._credentials.authenticate,
        )


def _newest(before: TopicMetadata | None, now: TopicMetadata) -> TopicMetadata:
    """What a broker says, but for leaders of an epoch that is over already: brokers learn at different times."""
    if before is None or before.topic_id != now.topic_id:
        return now
    later = {
        number: known
        for number, known in before.partitions.items()
        if number in now.partitions and known.leader_epoch > now.partitions[number].leader_epoch
    }
    if not later:
        return now
    partitions = {**now.partitions, **later}
    return TopicMetadata(name=now.name, topic_id=now.topic_id, internal=now.internal, partitions=partitions)


def parse_bootstrap(servers: str | Sequence[str]) -> tuple[tuple[str, int], ...]:
    """``"a:9092,b"`` as addresses; the port defaults to 9092. Raises ``ValueError``."""
    texts = servers.split(",") if isinstance(servers, str) else list(servers)
    addresses = tuple(_parse_address(text.strip()) for text in texts if text.strip())
    if not addresses:
        raise ValueError("no bootstrap address given")
    return addresses


def topic_error(name: str, code: ErrorCode) -> KafkaError:
    """What the cluster says of a topic, in words."""
    if code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
        return error_of(code, f"topic {name!r} does not exist")
    return error_of(code, f"topic {name!r}: {code.description}")


def _parse_address(text: str) -> tuple[str, int]:
    address = text.rpartition("://")[2]
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, str(DEFAULT_PORT)
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not of the form HOST:PORT")
    return host.strip("[]"), int(port)


def _topic_metadata(topic: MetadataResponseTopic) -> TopicMetadata:
    partitions = {
        one.partition_index: PartitionMetadata(
            partition=one.partition_index,
            leader=one.leader_id,
            leader_epoch=one.leader_epoch,
            replicas=tuple(one.replica_nodes),
            isr=tuple(one.isr_nodes),
            offline=tuple(one.offline_replicas),
        )
        for one in sorted(topic.partitions, key=lambda entry: entry.partition_index)
    }
    return TopicMetadata(
        name=topic.name or "", topic_id=topic.topic_id, internal=topic.is_internal, partitions=partitions
    )


def _led(topic: TopicMetadata) -> bool:
    return bool(topic.partitions) and all(partition.leader >= 0 for partition in topic.partitions.values())

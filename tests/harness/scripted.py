"""Brokers that answer by script: what no healthy cluster does at a wish."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable
from typing import Any

from ottla.model import Uuid
from ottla.records.builder import BatchBuilder
from ottla.wire import decode
from ottla.wire.apis import API_SPECS, ApiKey
from ottla.wire.errors import ErrorCode
from ottla.wire.frame import encode_response, read_request_header
from ottla.wire.messages.api_versions_response import ApiVersion, ApiVersionsResponse
from ottla.wire.messages.fetch_response import FetchableTopicResponse, FetchResponse, PartitionData
from ottla.wire.messages.find_coordinator_response import Coordinator, FindCoordinatorResponse
from ottla.wire.messages.list_offsets_response import (
    ListOffsetsPartitionResponse,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from ottla.wire.messages.metadata_response import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)

TOPIC = "scripted"
TOPIC_ID = Uuid(b"scripted-topic-1")
SERVED = (
    *(ApiKey.API_VERSIONS, ApiKey.METADATA, ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.LIST_OFFSETS),
    *(ApiKey.CONSUMER_GROUP_HEARTBEAT, ApiKey.JOIN_GROUP),
    *(ApiKey.OFFSET_FOR_LEADER_EPOCH, ApiKey.FIND_COORDINATOR, ApiKey.OFFSET_COMMIT, ApiKey.OFFSET_FETCH),
)

Handler = Callable[[int, Any], Any]
"""Node and request to an answer; ``None`` is no answer at all."""


class ScriptedCluster:
    """``nodes`` brokers and one topic of one partition. Change its fields, or put handlers, while it runs."""

    def __init__(self, nodes: int = 1) -> None:
        self.nodes = nodes
        self.leader, self.leader_epoch = 0, 0
        self.brokers = list(range(nodes))
        """Whom metadata names."""
        self.start, self.log = 0, b""
        self.end = 0
        self.handlers: dict[ApiKey, Handler] = {
            ApiKey.METADATA: self._metadata,
            ApiKey.FETCH: self.fetch,
            ApiKey.LIST_OFFSETS: self._list_offsets,
            ApiKey.FIND_COORDINATOR: self._find_coordinator,
        }
        self.requests: list[tuple[int, ApiKey, Any, float]] = []
        self.accepted = [0] * nodes
        """How many connections each node has had."""
        self.ports: list[int] = []
        self._servers: list[asyncio.Server] = []
        self._connections: list[set[asyncio.StreamWriter]] = []

    async def __aenter__(self) -> ScriptedCluster:  # noqa: PYI034 - nobody derives from it
        for node in range(self.nodes):
            self._connections.append(set())
            server = await asyncio.start_server(self._serve(node), "127.0.0.1", 0)
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in range(self.nodes):
            await self.close(node)

    async def close(self, node: int) -> None:
        """Nobody listens there any more, and connections are cut."""
        self._servers[node].close()
        for writer in list(self._connections[node]):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def reopen(self, node: int) -> None:
        """Listen again where it did before."""
        self._servers[node] = await asyncio.start_server(self._serve(node), "127.0.0.1", self.ports[node])

    async def replace(self, node: int, other: ScriptedCluster) -> None:
        """From now on the first node of another cluster is at the address of this one's."""
        await self.close(node)
        self._servers[node] = await asyncio.start_server(other._serve(0), "127.0.0.1", self.ports[node])

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.ports[0]}"

    def append(self, *values: bytes, epoch: int | None = None) -> None:
        """A batch at the end of the log."""
        builder = BatchBuilder(base_offset=self.end, leader_epoch=self.leader_epoch if epoch is None else epoch)
        for value in values:
            builder.append(1000, None, value)
        self.log += builder.build()
        self.end += len(values)

    def asked(self, api_key: ApiKey, node: int | None = None) -> list[Any]:
        """The requests of one kind that came so far."""
        return [request for asked, key, request, _ in self.requests if key is api_key and node in (None, asked)]

    def fetch(self, node: int, request: Any, **fields: Any) -> FetchResponse:
        """Everything that the log has, which the reader cuts at its offset."""
        data = PartitionData(
            partition_index=0,
            high_watermark=self.end,
            last_stable_offset=self.end,
            log_start_offset=self.start,
            # As brokers do: null for who does not ask.
            aborted_transactions=[] if request.isolation_level else None,
        )
        wanted = [one for topic in request.topics for one in topic.partitions]
        if wanted and wanted[0].fetch_offset < self.end:
            data.records = self.log
        for name, value in fields.items():
            setattr(data, name, value)
        answers = [FetchableTopicResponse(topic_id=TOPIC_ID, partitions=[data])] if wanted else []
        return FetchResponse(session_id=5, responses=answers)

    def _find_coordinator(self, _node: int, request: Any) -> FindCoordinatorResponse:
        """The first node is everybody's."""
        found = Coordinator(key=request.coordinator_keys[0], node_id=0, host="127.0.0.1", port=self.ports[0])
        return FindCoordinatorResponse(coordinators=[found])

    def _serve(self, node: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._connections[node].add(writer)
            self.accepted[node] += 1
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    frame = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
                    await self._answer(node, frame, writer)
            self._connections[node].discard(writer)
            writer.transport.abort()

        return serve

    async def _answer(self, node: int, frame: bytes, writer: asyncio.StreamWriter) -> None:
        header, position = read_request_header(frame)
        api_key = ApiKey(header.api_key)
        request = decode(API_SPECS[api_key].load_request(), frame[position:], header.api_version)
        self.requests.append((node, api_key, request, asyncio.get_running_loop().time()))
        if api_key is ApiKey.API_VERSIONS:
            answer: Any = ApiVersionsResponse(
                api_keys=[
                    ApiVersion(api_key=key, min_version=API_SPECS[key].lowest, max_version=API_SPECS[key].latest_stable)
                    for key in SERVED
                ]
            )
        else:
            answer = self.handlers[api_key](node, request)
            if inspect.isawaitable(answer):
                answer = await answer
            await asyncio.sleep(0.01)
        if answer is not None:
            writer.writelines(encode_response(api_key, header.api_version, header.correlation_id, answer))  # type: ignore[arg-type]  # no file regions here

    def _metadata(self, node: int, request: Any) -> MetadataResponse:
        partition = MetadataResponsePartition(
            partition_index=0, leader_id=self.leader, leader_epoch=self.leader_epoch, replica_nodes=[0], isr_nodes=[0]
        )
        topic = MetadataResponseTopic(name=TOPIC, topic_id=TOPIC_ID, partitions=[partition])
        return MetadataResponse(
            brokers=[
                MetadataResponseBroker(node_id=number, host="127.0.0.1", port=self.ports[number])
                for number in self.brokers
            ],
            cluster_id="scripted",
            controller_id=0,
            topics=[] if request.topics == [] else [topic],
        )

    def _list_offsets(self, node: int, request: Any) -> ListOffsetsResponse:
        wanted = request.topics[0].partitions[0]
        answer = ListOffsetsPartitionResponse(
            partition_index=0, offset=self.start if wanted.timestamp == -2 else self.end, leader_epoch=self.leader_epoch
        )
        if node != self.leader:
            answer.error_code = int(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return ListOffsetsResponse(topics=[ListOffsetsTopicResponse(name=TOPIC, partitions=[answer])])

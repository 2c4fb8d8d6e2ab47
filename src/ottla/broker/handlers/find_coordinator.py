"""FindCoordinator (10), versions 0-6: which broker coordinates a group or a transactional id.

v0-3 ask for one key, v4+ for many at once; v1+ name the kind of key. The first question of a kind creates its topic
and, unlike Apache Kafka, waits for it instead of sending the client into a retry. While nobody leads the key's
partition the answer is COORDINATOR_NOT_AVAILABLE (retriable). A kind of coordinator this broker does not have (share
groups) is answered with INVALID_REQUEST and a message: a client that would wait for one learns at once that it cannot
have it.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.metadata.image import ClusterImage
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.wire.messages.find_coordinator_response import Coordinator, FindCoordinatorResponse

GROUP, TRANSACTION, SHARE = 0, 1, 2
FIRST_BATCHED_VERSION = 4
FIRST_SHARE_VERSION = 6
_NAMES = {GROUP: "group", TRANSACTION: "transaction", SHARE: "share"}


class CoordinatorLookup(Protocol):
    """The topic of a kind of coordinator: which broker serves a key. Raises ``KafkaError``."""

    @property
    def is_missing(self) -> bool: ...

    async def bring_about(self) -> None: ...

    def located(self, key: str, /) -> int: ...


class FindCoordinatorHandler(Struct, frozen=True, kw_only=True):
    """``lookups`` by kind of key; touches the image for the address of the broker."""

    lookups: Mapping[int, CoordinatorLookup]
    image: Callable[[], ClusterImage]

    def handle(
        self, context: RequestContext, request: FindCoordinatorRequest
    ) -> FindCoordinatorResponse | Awaitable[FindCoordinatorResponse]:
        try:
            lookup = self._lookup(context, request.key_type)
        except KafkaError as error:
            return _refusal(context, request, error)
        if lookup.is_missing:
            return self._when_there(context, request, lookup)
        return self._found(context, request, lookup)

    async def _when_there(
        self, context: RequestContext, request: FindCoordinatorRequest, lookup: CoordinatorLookup
    ) -> FindCoordinatorResponse:
        try:
            await lookup.bring_about()
        except KafkaError as error:
            return _refusal(context, request, error)
        return self._found(context, request, lookup)

    def _found(
        self, context: RequestContext, request: FindCoordinatorRequest, lookup: CoordinatorLookup
    ) -> FindCoordinatorResponse:
        return _response(context, [self._find(context, lookup, key) for key in _keys(context, request)])

    def _find(self, context: RequestContext, lookup: CoordinatorLookup, key: str) -> Coordinator:
        try:
            node_id = lookup.located(key)
            broker = self.image().brokers.get(node_id)
            endpoint = None if broker is None else broker.endpoint(context.listener_name)
            if endpoint is None:
                raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        except KafkaError as error:
            return _refused(key, error)
        return Coordinator(
            key=key, node_id=node_id, host=endpoint.host, port=endpoint.port, error_code=0, error_message=""
        )

    def _lookup(self, context: RequestContext, kind: int) -> CoordinatorLookup:
        name = _NAMES.get(kind)
        if name is None or (kind == SHARE and context.api_version < FIRST_SHARE_VERSION):
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"there is no coordinator of kind {kind} in this version")
        lookup = self.lookups.get(kind)
        if lookup is None:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"this broker does not have a {name} coordinator")
        return lookup


def _keys(context: RequestContext, request: FindCoordinatorRequest) -> list[str]:
    return request.coordinator_keys if context.api_version >= FIRST_BATCHED_VERSION else [request.key]


def _refused(key: str, error: KafkaError) -> Coordinator:
    message = error.message or error.code.description
    return Coordinator(key=key, node_id=-1, host="", port=-1, error_code=int(error.code), error_message=message)


def _refusal(context: RequestContext, request: FindCoordinatorRequest, error: KafkaError) -> FindCoordinatorResponse:
    return _response(context, [_refused(key, error) for key in _keys(context, request)])


def _response(context: RequestContext, found: list[Coordinator]) -> FindCoordinatorResponse:
    if context.api_version >= FIRST_BATCHED_VERSION:
        return FindCoordinatorResponse(coordinators=found)
    (one,) = found
    return FindCoordinatorResponse(
        error_code=one.error_code,
        error_message=one.error_message or "NONE",
        node_id=one.node_id,
        host=one.host,
        port=one.port,
    )

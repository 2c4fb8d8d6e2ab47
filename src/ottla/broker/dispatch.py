"""From a frame to its handler and back to bytes. Versions are checked here; what they mean ends at the handler.

A frame this node cannot even parse ends its connection, as Apache Kafka ends it: unknown API, version that is not
served, malformed body. The one exception is an ApiVersions request of an unknown version, which is answered in
version 0 so that a newer client can find common ground.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol, cast

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.net.connection import LENGTH_BYTES, Answer, CloseConnection, Connection, Segments
from ottla.net.deferred import Deferred
from ottla.runtime.clock import Clock
from ottla.runtime.telemetry import get_logger
from ottla.wire import DecodeError, EncodeError, decode, encode_segments
from ottla.wire.apis import API_SPECS, ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.frame import RequestHeader, read_request_header, response_header

log = get_logger(__name__)


class NoResponse:
    """Answer of a handler whose request asked for none (Produce with acks=0)."""


NO_RESPONSE = NoResponse()


class Written(Struct, frozen=True):
    """An answer that its handler has written itself: the whole frame, length first."""

    segments: Segments


class Handler(Protocol):
    """One API. Answers at once, or returns an awaitable, or a ``Deferred``, where it has to wait."""

    def handle(self, context: RequestContext, request: Any, /) -> Any | Awaitable[Any] | Deferred[Any]: ...


class Route(Struct, frozen=True, kw_only=True):
    """One row of the API table: the versions a listener serves and how the handler is made on first use.

    ``advertised_min`` may lie below ``min_version``: Apache Kafka advertises Produce from 0 for old librdkafka clients.
    """

    api_key: ApiKey
    min_version: int
    max_version: int
    advertised_min: int
    build: Callable[[], Handler]


class _Ready(Struct):
    """A route after its first request: message classes loaded, handler built."""

    route: Route
    request_class: type[Any]
    response_class: type[Any]
    handle: Callable[[RequestContext, Any], Any]


class Dispatch:
    """Serves the frames of one listener."""

    def __init__(
        self, *, routes: Mapping[int, Route], listener_name: str, clock: Clock, fail: Callable[[BaseException], None]
    ) -> None:
        self._routes = routes
        self._ready: dict[int, _Ready] = {}
        self._listener_name = listener_name
        self._clock = clock
        self._fail = fail

    def serve(self, connection: Connection, frame: memoryview) -> Answer:
        """Handle one frame (without its length). Raises ``CloseConnection``."""
        try:
            header, position = read_request_header(frame)
        except DecodeError as error:
            raise CloseConnection(f"request header: {error}") from error
        ready = self._ready.get(header.api_key) or self._prepare(header)
        route = ready.route
        if not route.min_version <= header.api_version <= route.max_version:
            return self._unsupported_version(ready, header)
        try:
            # librdkafka leaves a few bytes behind some requests, and Apache Kafka has never minded.
            request = decode(ready.request_class, frame[position:], header.api_version, allow_trailing=True)
        except DecodeError as error:
            raise CloseConnection(f"{route.api_key.name} v{header.api_version}: {error}") from error
        context = RequestContext(
            header=header,
            client_address=connection.peer,
            listener_name=self._listener_name,
            now_ms=self._clock.now_ms(),
        )
        try:
            result = ready.handle(context, request)
        except CloseConnection:
            raise
        except Exception as error:
            return self._failed(ready, header, error)
        if isinstance(result, (ready.response_class, Written)):
            return encode_answer(header, result)
        if result is NO_RESPONSE:
            return None
        if isinstance(result, Deferred):
            return result.map(partial(encode_answer, header), partial(self._failed, ready, header))
        return self._finish(ready, header, result)

    async def _finish(self, ready: _Ready, header: RequestHeader, waiting: Awaitable[Any]) -> Segments | None:
        try:
            result = await waiting
        except CloseConnection:
            raise
        except Exception as error:
            return self._failed(ready, header, error)
        if result is NO_RESPONSE:
            return None
        return encode_answer(header, result)

    def _prepare(self, header: RequestHeader) -> _Ready:
        route = self._routes.get(header.api_key)
        if route is None:
            raise CloseConnection(f"api key {header.api_key} is not served on listener {self._listener_name}")
        request_class, response_class = API_SPECS[header.api_key].load()
        ready = _Ready(route, request_class, response_class, route.build().handle)
        self._ready[header.api_key] = ready
        return ready

    def _unsupported_version(self, ready: _Ready, header: RequestHeader) -> Segments:
        """Only ApiVersions is answered: with what we do know of it, in version 0."""
        route = ready.route
        if header.api_key != ApiKey.API_VERSIONS:
            raise CloseConnection(f"{route.api_key.name} v{header.api_version} is not served")
        from ottla.wire.messages.api_versions_response import ApiVersion  # noqa: PLC0415  (rare)

        response = ready.response_class(error_code=int(ErrorCode.UNSUPPORTED_VERSION))
        response.api_keys = [
            ApiVersion(api_key=route.api_key, min_version=route.advertised_min, max_version=route.max_version)
        ]
        return encode_answer(header, response, version=0)

    def _failed(self, ready: _Ready, header: RequestHeader, error: Exception) -> Segments:
        """An error that a handler did not turn into its answer."""
        name = f"{ready.route.api_key.name} v{header.api_version}"
        if isinstance(error, CloseConnection):
            raise error
        if isinstance(error, AssertionError):
            self._fail(error)
            raise CloseConnection(f"{name}: broken invariant") from error
        code = error.code if isinstance(error, KafkaError) else ErrorCode.UNKNOWN_SERVER_ERROR
        if not isinstance(error, KafkaError):
            log.error("request failed", api=name, client=header.client_id, exc_info=error)
        response = ready.response_class()
        if not hasattr(response, "error_code"):
            raise CloseConnection(f"{name}: {error}") from error
        response.error_code = int(code)
        return encode_answer(header, response)


def encode_answer(header: RequestHeader, response: Any, version: int | None = None) -> Segments:
    """The response frame: length, header, body; file regions stay segments of their own."""
    if isinstance(response, Written):
        return response.segments
    version = header.api_version if version is None else version
    head = response_header(header.api_key, version, header.correlation_id)
    try:
        segments = cast(Segments, encode_segments(response, version, prefix=bytes(LENGTH_BYTES) + head))
    except EncodeError as error:
        log.error("answer cannot be written", api=header.api_key, version=version, exc_info=error)
        raise CloseConnection(f"answer cannot be written: {error}") from error
    length = (sum(map(len, segments)) - LENGTH_BYTES).to_bytes(LENGTH_BYTES)
    first = segments[0]
    assert isinstance(first, bytes)
    segments[0] = length + first[LENGTH_BYTES:]
    return segments

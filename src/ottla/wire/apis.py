"""Every API: its key, versions, header versions, listeners, and (loaded on demand) its message classes."""

from functools import cache
from importlib import import_module
from typing import cast

from msgspec import Struct

from ottla.wire.api_table import ROWS, ApiKey
from ottla.wire.codec import Message

__all__ = ["API_SPECS", "ApiKey", "ApiSpec", "request_header_version"]


class ApiSpec(Struct, frozen=True, kw_only=True):
    """``lowest..highest`` are the versions that can be read and written; brokers advertise up to ``latest_stable``."""

    key: ApiKey
    name: str
    """As Kafka calls it: ``CreateTopics``."""
    request_module: str
    response_module: str
    lowest: int
    highest: int
    latest_stable: int
    flexible_from: int
    listeners: frozenset[str]
    """The listener kinds that serve it: ``broker``, ``controller``."""

    @property
    def advertised_lowest(self) -> int:
        """What ApiVersions says. librdkafka compares Produce with version 0, so 0 is said although 3 is the first."""
        return 0 if self.key is ApiKey.PRODUCE else self.lowest

    def load_request(self) -> type[Message]:
        return _load(self.request_module, f"{self.name}Request")

    def load_response(self) -> type[Message]:
        return _load(self.response_module, f"{self.name}Response")

    def load(self) -> tuple[type[Message], type[Message]]:
        """The request and the response class."""
        return self.load_request(), self.load_response()

    def request_header_version(self, version: int) -> int:
        return 2 if version >= self.flexible_from else 1


def request_header_version(api_key: int, version: int) -> int:
    """Also for keys nobody knows: their header is read as the classic one."""
    spec = API_SPECS.get(api_key)
    return 1 if spec is None else spec.request_header_version(version)


@cache
def _load(module: str, name: str) -> type[Message]:
    return cast(type[Message], getattr(import_module(f"ottla.wire.messages.{module}"), name))


def _spec(key: int) -> ApiSpec:
    request, response, lowest, highest, latest_stable, flexible_from, listeners = ROWS[key]
    return ApiSpec(
        key=ApiKey(key),
        name="".join(word.capitalize() for word in request.removesuffix("_request").split("_")),
        request_module=request,
        response_module=response,
        lowest=lowest,
        highest=highest,
        latest_stable=latest_stable,
        flexible_from=flexible_from,
        listeners=frozenset(listeners),
    )


API_SPECS: dict[int, ApiSpec] = {key: _spec(key) for key in ROWS}
"""By key; keys whose last version Kafka 4.0 removed are not in it."""

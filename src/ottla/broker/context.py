"""What a handler knows of the request besides its body."""

from msgspec import Struct

from ottla.wire.frame import RequestHeader


class RequestContext(Struct, frozen=True, kw_only=True):
    """One request's surroundings. ``now_ms`` is the wall clock at arrival."""

    header: RequestHeader
    client_address: tuple[str, int]
    listener_name: str
    now_ms: int
    principal: str = "User:ANONYMOUS"

    @property
    def api_version(self) -> int:
        return self.header.api_version

    @property
    def client_id(self) -> str:
        return self.header.client_id or ""

"""Frames and headers: what surrounds a message on a connection.

A request is a 4-byte length, a header (key, version, correlation id, client id, tagged fields where flexible) and the
message; a response is a length, the correlation id (tagged fields where flexible) and the message.
"""

from struct import Struct
from typing import NamedTuple

from ottla.wire.api_table import ROWS
from ottla.wire.codec import Message, Region, encode_segments, read_tags
from ottla.wire.failures import DecodeError, EncodeError
from ottla.wire.primitives import Buffer

_PREFIX = Struct(">hhih")
_INT32 = Struct(">i")
_FLEXIBLE_FROM = {key: row[5] for key, row in ROWS.items()}
_NEVER = 32_767
_API_VERSIONS = 18


class RequestHeader(NamedTuple):
    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None


def read_request_header(buf: bytes | bytearray | memoryview) -> tuple[RequestHeader, int]:
    """The header of a frame without its length, and where the message begins. Raises only ``DecodeError``.

    The key and version need not be known: an unknown key's header is read as the classic one.
    """
    if len(buf) < _PREFIX.size:
        raise DecodeError(f"request header in {len(buf)} bytes")
    api_key, version, correlation_id, n = _PREFIX.unpack_from(buf)
    pos = 10 + max(n, 0)
    if n < -1 or pos > len(buf):
        raise DecodeError(f"client id of {n} bytes")
    try:
        client_id = str(buf[10:pos], "utf-8") if n >= 0 else None
    except UnicodeDecodeError as failure:
        raise DecodeError(f"client id: {failure}") from failure
    if version >= _FLEXIBLE_FROM.get(api_key, _NEVER):
        pos = _skip_tags(buf, pos)
    return RequestHeader(api_key, version, correlation_id, client_id), pos


def encode_request(header: RequestHeader, message: Message) -> bytes:
    """The whole frame, length first. Raises ``EncodeError``."""
    return b"".join(encode_request_parts(header, message))


def encode_request_parts(header: RequestHeader, message: Message) -> list[bytes]:
    """The frame as the pieces to send, length first, large records among them uncopied. Raises ``EncodeError``."""
    raw = b"" if header.client_id is None else header.client_id.encode()
    n = -1 if header.client_id is None else len(raw)
    prefix = bytearray(_PREFIX.pack(header.api_key, header.api_version, header.correlation_id, n))
    prefix += raw
    if header.api_version >= _FLEXIBLE_FROM.get(header.api_key, _NEVER):
        prefix.append(0)
    parts: list[bytes] = []
    for segment in encode_segments(message, header.api_version, bytes(prefix)):
        if not isinstance(segment, bytes):
            raise EncodeError("a request cannot carry a file region")
        parts.append(segment)
    parts[0] = _INT32.pack(sum(map(len, parts))) + parts[0]
    return parts


def response_header(api_key: int, version: int, correlation_id: int) -> bytes:
    """The header without the frame's length. Answers to ApiVersions keep the classic header in every version."""
    header = _INT32.pack(correlation_id)
    if api_key != _API_VERSIONS and version >= _FLEXIBLE_FROM.get(api_key, _NEVER):
        return header + b"\0"
    return header


def read_response_header(api_key: int, version: int, buf: bytes | bytearray | memoryview) -> tuple[int, int]:
    """The correlation id of a response frame (without its length), and where the message begins."""
    if len(buf) < 4:
        raise DecodeError(f"response header in {len(buf)} bytes")
    correlation_id: int = _INT32.unpack_from(buf)[0]
    return correlation_id, response_begin(api_key, version, buf)


def response_begin(api_key: int, version: int, buf: bytes | bytearray | memoryview) -> int:
    """Where the message begins in a response frame (without its length), behind the correlation id and tags."""
    if api_key != _API_VERSIONS and version >= _FLEXIBLE_FROM.get(api_key, _NEVER):
        return _skip_tags(buf, 4)
    return 4


def encode_response(api_key: int, version: int, correlation_id: int, message: Message) -> list[bytes | Region]:
    """The whole frame, length first, as the pieces to send. Raises ``EncodeError``."""
    segments = encode_segments(message, version, response_header(api_key, version, correlation_id))
    length = _INT32.pack(sum(map(len, segments)))
    first = segments[0]
    assert isinstance(first, bytes), "the header comes first"
    segments[0] = length + first
    return segments


def _skip_tags(buf: bytes | bytearray | memoryview, pos: int) -> int:
    if pos < len(buf) and buf[pos] == 0:
        return pos + 1
    view: Buffer = memoryview(buf)
    return read_tags(view, pos, len(buf))[1]

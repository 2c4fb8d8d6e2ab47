"""Any request at any version over a raw connection, by Ottla's own message classes.

`raw` shares no code with what it tests and speaks a few old versions; this is for all the others.
"""

from __future__ import annotations

import struct
from typing import Any

from harness.raw import RawConnection
from ottla.wire import decode
from ottla.wire.apis import API_SPECS
from ottla.wire.frame import RequestHeader, encode_request, read_response_header


def call(connection: RawConnection, request: Any, version: int) -> Any:
    """One round trip."""
    send(connection, request, version, 1)
    return receive(connection, type(request).API_KEY, version)


def send(connection: RawConnection, request: Any, version: int, correlation: int) -> None:
    """Send without waiting for the answer."""
    header = RequestHeader(type(request).API_KEY, version, correlation, "twin")
    connection.socket.sendall(encode_request(header, request))


def receive(connection: RawConnection, api_key: int, version: int) -> Any:
    """The next response as a message."""
    frame = connection.read_exactly(struct.unpack(">i", connection.read_exactly(4))[0])
    _, position = read_response_header(api_key, version, frame)
    return decode(API_SPECS[api_key].load_response(), memoryview(frame)[position:], version)

"""Records as JSON, one a line: what `consume -f json` prints and `produce -f json` reads, byte for byte.

``{"topic":..,"partition":..,"offset":..,"timestamp":..,"key":..,"value":..,"headers":[["name","value"],..]}``

Bytes are a JSON string where they are UTF-8 and ``{"base64":".."}`` where they are not; null is null. When reading,
only ``value`` and what should be set need to be there.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from ottla.client import ConsumerRecord

Header = tuple[str, bytes | None]


class Base64(msgspec.Struct, frozen=True):
    """Bytes that are not text."""

    base64: str


Text = str | Base64 | None


class _Line(msgspec.Struct, kw_only=True):
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    timestamp: int | None = None
    key: Text = None
    value: Text = None
    headers: list[tuple[str | Base64, Text]] = []


class InputRecord(NamedTuple):
    """A record read from a line."""

    partition: int | None
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Line)


def encode_line(record: "ConsumerRecord") -> bytes:
    """A record as a line, without the line's end."""
    return _encoder.encode(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": to_text(record.key),
            "value": to_text(record.value),
            "headers": [(_name_to_text(name), to_text(value)) for name, value in record.headers],
        }
    )


def encode_bytes(data: bytes | None) -> bytes:
    """Bytes as they stand in a line."""
    return _encoder.encode(to_text(data))


def decode_line(line: bytes) -> InputRecord:
    """A line as a record to send. Raises ``ValueError`` that says what is wrong with it."""
    try:
        read = _decoder.decode(line)
        return InputRecord(
            read.partition, read.timestamp, _to_bytes(read.key), _to_bytes(read.value), _headers(read.headers)
        )
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    except Base64Error as error:
        raise ValueError(f"not base64: {error}") from None


def to_text(data: bytes | None) -> Text:
    """Bytes as a line has them."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Base64(b64encode(data).decode())


def _name_to_text(name: str) -> str | Base64:
    # Names that are not UTF-8 carry their bytes as lone surrogates, which JSON cannot.
    return name if name.isascii() else to_text(name.encode("utf-8", "surrogateescape")) or ""


def _to_bytes(text: Text) -> bytes | None:
    match text:
        case None:
            return None
        case str():
            return text.encode()
        case Base64():
            return b64decode(text.base64, validate=True)


def _headers(pairs: Sequence[tuple[str | Base64, Text]]) -> tuple[Header, ...]:
    return tuple(
        ((_to_bytes(name) or b"").decode("utf-8", "surrogateescape"), _to_bytes(value)) for name, value in pairs
    )

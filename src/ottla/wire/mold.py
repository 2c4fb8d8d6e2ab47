"""Requests that go out again and again but for a few numbers, or but for their records: written once, then filled in.

Where a number lies is nobody's table: the request is written with another one, and the place is where the bytes differ.
So every version is right that the ordinary encoder writes; ``tests/unit/wire/test_mold.py`` holds both equal.
"""

from collections.abc import Callable
from struct import Struct

from ottla.wire.api_table import ROWS
from ottla.wire.codec import INLINE_BYTES_MAX, Message
from ottla.wire.frame import RequestHeader, encode_request
from ottla.wire.primitives import put_uvarint

_CORRELATION_AT = 8
_pack_id = Struct(">i").pack_into
_PREFIX = Struct(">ihhi").pack
_pack_int32 = Struct(">i").pack


class NumbersMold:
    """A request with places for numbers, ``codes`` being their formats (``"i"``, ``"q"``)."""

    __slots__ = ("_frame", "_places")

    def __init__(self, header: RequestHeader, codes: str, make: Callable[..., Message]) -> None:
        """``make`` is called with as many numbers as there are codes."""
        zeros = [0] * len(codes)
        self._frame = bytearray(encode_request(header._replace(correlation_id=0), make(*zeros)))
        self._places = [(_pack_id, _CORRELATION_AT)]
        for index, code in enumerate(codes):
            other = encode_request(header._replace(correlation_id=0), make(*zeros[:index], -1, *zeros[index + 1 :]))
            place = Struct(f">{code}")
            at = next(at for at, (one, two) in enumerate(zip(self._frame, other, strict=True)) if one != two)
            expected = bytearray(self._frame)
            place.pack_into(expected, at, -1)
            assert other == expected, "the number lies in one place"
            self._places.append((place.pack_into, at))

    def frame(self, *numbers: int) -> bytes:
        """The whole frame, length first; the first of ``numbers`` is the correlation id."""
        frame = self._frame
        for (pack_into, at), number in zip(self._places, numbers, strict=True):
            pack_into(frame, at, number)
        return bytes(frame)


class RecordsMold:
    """A request that ends with records, as Produce of one partition does."""

    __slots__ = ("_flexible", "_head", "_key", "_tail", "_version")

    def __init__(self, header: RequestHeader, empty: Message) -> None:
        """``empty`` is the request with records of no bytes: its last length is that of the records."""
        frame = encode_request(header, empty)
        self._key, self._version = header.api_key, header.api_version
        self._flexible = header.api_version >= ROWS[header.api_key][5]
        # A length of one byte, behind it the tags of partition, topic and request; or the four bytes of a classic one.
        self._tail = b"\0\0\0" if self._flexible else b""
        assert frame.endswith(b"\1\0\0\0" if self._flexible else bytes(4)), "the records come last"
        self._head = frame[_CORRELATION_AT + 4 : -4]

    def parts(self, correlation_id: int, records: bytes) -> list[bytes]:
        """The frame as the pieces to send, length first, large records among them uncopied."""
        size = len(records)
        encoded = bytearray()
        if self._flexible:
            put_uvarint(encoded, size + 1)
        else:
            encoded += _pack_int32(size)
        head, tail = self._head, self._tail
        prefix = _PREFIX(8 + len(head) + len(encoded) + size + len(tail), self._key, self._version, correlation_id)
        if size < INLINE_BYTES_MAX:
            return [b"".join((prefix, head, encoded, records, tail))]
        return [b"".join((prefix, head, encoded)), records, tail] if tail else [prefix + head + encoded, records]

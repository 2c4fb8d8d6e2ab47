"""Messages that come again and again but for a few numbers, or but for their records. Requests are written once and
then filled in; an answer is written and read by the few places where it differs from others.

Where a number lies is nobody's table: the message is written with another one, and the place is where the bytes differ.
So every version is right that the ordinary encoder writes; ``tests/unit/wire/test_mold.py`` holds both equal.
"""

from collections.abc import Callable
from struct import Struct as Packer
from typing import Any

from msgspec import Struct

from ottla.wire.api_table import ROWS
from ottla.wire.codec import INLINE_BYTES_MAX, Message, Region, encode
from ottla.wire.failures import DecodeError
from ottla.wire.frame import RequestHeader, encode_request, response_header
from ottla.wire.primitives import put_uvarint, read_uvarint

_CORRELATION_AT = 8
_ID_BYTES = 4
_pack_id = Packer(">i").pack_into
_PREFIX = Packer(">ihhi").pack
_pack_int32 = Packer(">i").pack
_pack_length_and_id = Packer(">ii").pack


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
            place = Packer(f">{code}")
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
        if not self._flexible:
            encoded = _pack_int32(size)
        elif 127 <= size < 16_383:
            encoded = bytes((size + 1 & 127 | 128, size + 1 >> 7))
        else:
            written = bytearray()
            put_uvarint(written, size + 1)
            encoded = bytes(written)
        head, tail = self._head, self._tail
        prefix = _PREFIX(8 + len(head) + len(encoded) + size + len(tail), self._key, self._version, correlation_id)
        if size < INLINE_BYTES_MAX:
            return [b"".join((prefix, head, encoded, records, tail))]
        return [b"".join((prefix, head, encoded)), records, tail] if tail else [prefix + head + encoded, records]


class FixedAnswer:
    """An answer that is the same again and again, but for the correlation id."""

    __slots__ = ("_length", "_rest")

    def __init__(self, api_key: int, version: int, message: Message) -> None:
        frame = response_header(api_key, version, 0) + encode(message, version)
        self._length = len(frame)
        self._rest = frame[_ID_BYTES:]

    def write(self, correlation_id: int) -> bytes:
        """The whole frame, length first."""
        return _pack_length_and_id(self._length, correlation_id) + self._rest


class Filled(Struct, frozen=True):
    """What an ``AnswerMold`` found in an answer."""

    numbers: tuple[Any, ...]
    records: memoryview | None


class AnswerMold:
    """Answers that are alike but for a run of numbers, and for the records where they end with such: to be read, or
    to be written."""

    __slots__ = ("_head", "_numbers_at", "_pack", "_records_at", "_rest", "_rest_at", "_tail", "_unpack")

    def __init__(self, api_key: int, version: int, codes: str, make: Callable[..., Message], *, records: bool) -> None:
        """``make`` is called with as many numbers as there are codes; ``records`` come last, and are empty in it."""

        def write(*numbers: int) -> bytes:
            return response_header(api_key, version, 0) + encode(make(*numbers), version)

        numbers = Packer(f">{codes}")
        zeros = [0] * len(codes)
        frame, other = write(*zeros), write(*[-1] * len(codes))
        at = next(at for at, (one, two) in enumerate(zip(frame, other, strict=True)) if one != two)
        expected = bytearray(frame)
        numbers.pack_into(expected, at, *[-1] * len(codes))
        assert other == expected, "the numbers lie in a row"
        self._head = frame[_ID_BYTES:at]
        self._numbers_at = at
        self._unpack = numbers.unpack_from
        self._pack = numbers.pack
        self._rest_at = at + numbers.size
        self._tail = b""
        self._rest = frame[self._rest_at :]
        self._records_at = 0
        if records:
            # A length of one byte, behind it the tags of partition, topic and answer.
            self._tail = b"\0\0\0"
            assert version >= ROWS[api_key][5], "a length that is not a varint"
            assert self._rest.endswith(b"\1" + self._tail), "the records come last"
            self._rest = self._rest[:-4]
            self._records_at = self._rest_at + len(self._rest)

    def write(self, correlation_id: int, numbers: tuple[Any, ...], records: Region) -> list[bytes | Region]:
        """The whole frame with these records, length first, as the pieces to send."""
        assert self._records_at, "an answer without records"
        size, tail = len(records), self._tail
        encoded = bytearray()
        put_uvarint(encoded, size + 1)
        length = self._records_at + len(encoded) + size + len(tail)
        begin = _pack_length_and_id(length, correlation_id)
        return [b"".join((begin, self._head, self._pack(*numbers), self._rest, encoded)), records, tail]

    def read(self, frame: bytes) -> Filled | None:
        """The numbers and the records of a frame (without its length); ``None`` if it is of another shape."""
        if not (frame.startswith(self._head, _ID_BYTES) and frame.startswith(self._rest, self._rest_at)):
            return None
        if not self._records_at:
            exact = len(frame) == self._rest_at + len(self._rest)
            return Filled(self._unpack(frame, self._numbers_at), None) if exact else None
        at = self._records_at
        # In line for the lengths of what travels alone, one byte or two.
        try:
            size, more = frame[at], frame[at + 1]
            if size < 128:
                at += 1
            elif more < 128:
                size, at = size & 127 | more << 7, at + 2
            else:
                size, at = read_uvarint(frame, at)
        except (DecodeError, IndexError):
            return None
        end = at + size - 1
        if size == 0 or len(frame) != end + len(self._tail) or not frame.endswith(self._tail):
            return None
        return Filled(self._unpack(frame, self._numbers_at), memoryview(frame)[at:end])

"""The run-time of the generated message modules: reader, writer, and what their straight-line code calls.

Generated readers keep ``pos`` in a local and check array counts before they allocate. They do not check every string
against the end: slices clamp, positions only grow, and so an overrun shows at the end, where ``decode`` refuses it.
"""

from collections.abc import Callable, Sequence
from struct import Struct, error, pack, unpack_from
from typing import Any, ClassVar, Protocol, TypeVar

from ottla.model import Uuid
from ottla.wire.failures import DecodeError, EncodeError
from ottla.wire.primitives import Buffer, put_uvarint, read_uvarint

ZERO_UUID = Uuid.ZERO
INLINE_BYTES_MAX = 16_384
"""Records at least this long become a segment of their own, uncopied."""

_STRING_BYTES_MAX = 32_767
_MALFORMED = (error, IndexError, UnicodeDecodeError, ValueError, OverflowError)
_UNWRITABLE = (error, AttributeError, TypeError, ValueError, OverflowError)


def _refuse_null(buf: Buffer, pos: int) -> tuple[int, ...]:
    raise DecodeError(f"an array is null at byte {pos - 1}")


UNPACK_INT32S: tuple[Callable[[Buffer, int], tuple[Any, ...]], ...] = tuple(
    Struct(f">{n}i").unpack_from for n in range(16)
)
UNPACK_COMPACT_INT32S = (_refuse_null, *UNPACK_INT32S[:15])
"""By the compact length: null, none, one ..."""
PACK_INT32S = tuple(Struct(f">{n}i").pack for n in range(16))

new_uuid = bytes.__new__
"""``new_uuid(Uuid, raw)`` skips the length check: the caller has just cut 16 bytes."""


class Region(Protocol):
    """Bytes that are somewhere else, a piece of a file say; they go out without passing through here."""

    def __len__(self) -> int: ...


class Message(Protocol):
    """What every generated top-level message offers."""

    API_KEY: ClassVar[int]
    LOWEST_VERSION: ClassVar[int]
    HIGHEST_VERSION: ClassVar[int]
    LATEST_STABLE_VERSION: ClassVar[int]
    FLEXIBLE_FROM: ClassVar[int]
    HAS_RECORDS: ClassVar[bool]

    def write(self, w: "Writer", version: int) -> None: ...

    @classmethod
    def read(cls, r: "Reader", version: int) -> Any: ...


MessageT = TypeVar("MessageT", bound=Message)


class Reader:
    """``buf`` is a ``memoryview`` for messages that carry records (``HAS_RECORDS``) and ``bytes`` for all others."""

    __slots__ = ("buf", "end", "pos")

    def __init__(self, buf: Buffer, pos: int = 0) -> None:
        self.buf: Any = buf
        self.pos = pos
        self.end = len(buf)


class Writer:
    """``out`` is what is being written; ``segments`` is what lies before it."""

    __slots__ = ("out", "segments")

    def __init__(self, prefix: bytes = b"") -> None:
        self.out = bytearray(prefix)
        self.segments: list[bytes | Region] = []

    def records(self, content: "bytes | memoryview | Region") -> bytearray:
        """Take up records and return the buffer to go on with."""
        if isinstance(content, bytes | bytearray | memoryview) and (
            len(content) < INLINE_BYTES_MAX or not isinstance(content, bytes)
        ):
            self.out += content
        elif len(content):
            self.segments.append(bytes(self.out))
            self.segments.append(content)
            self.out = bytearray()
        return self.out

    def finish(self) -> "list[bytes | Region]":
        if self.out or not self.segments:
            self.segments.append(bytes(self.out))
        return self.segments


def decode(
    cls: type[MessageT],
    buf: bytes | bytearray | memoryview,
    version: int,
    *,
    start: int = 0,
    allow_trailing: bool = False,
) -> MessageT:
    """Read one message that fills ``buf`` from ``start`` on, or with ``allow_trailing`` begins it. Raises only
    ``DecodeError``."""
    if not cls.LOWEST_VERSION <= version <= cls.HIGHEST_VERSION:
        raise DecodeError(f"{cls.__name__} has no version {version}")
    r = Reader(memoryview(buf) if cls.HAS_RECORDS else bytes(buf), start)
    try:
        message: MessageT = cls.read(r, version)
    except DecodeError:
        raise
    except _MALFORMED as failure:
        raise DecodeError(f"{cls.__name__} version {version} is malformed: {failure}") from failure
    if r.pos > r.end or (r.pos < r.end and not allow_trailing):
        raise DecodeError(f"{cls.__name__} version {version} ends at byte {r.pos} of {r.end}")
    return message


def encode(message: Message, version: int) -> bytes:
    """Raises ``EncodeError``; a message that carries file regions needs ``encode_segments``."""
    segments = encode_segments(message, version)
    if len(segments) == 1 and isinstance(segments[0], bytes):
        return segments[0]
    parts = [segment for segment in segments if isinstance(segment, bytes)]
    if len(parts) < len(segments):
        raise EncodeError(f"{type(message).__name__} carries a file region")
    return b"".join(parts)


def encode_segments(message: Message, version: int, prefix: bytes = b"") -> list[bytes | Region]:
    """The message behind ``prefix`` as the pieces to send, in order. Raises ``EncodeError``."""
    if not message.LOWEST_VERSION <= version <= message.HIGHEST_VERSION:
        raise EncodeError(f"{type(message).__name__} has no version {version}")
    w = Writer(prefix)
    try:
        message.write(w, version)
    except EncodeError:
        raise
    except _UNWRITABLE as failure:
        raise EncodeError(f"{type(message).__name__} cannot be written in version {version}: {failure}") from failure
    return w.finish()


# ---- called by generated readers -------------------------------------------------------------------------------------


long_length = read_uvarint
"""A compact length whose first byte is above 127."""


def long_string_length(buf: Buffer, pos: int) -> tuple[int, int]:
    n, pos = read_uvarint(buf, pos)
    if n > _STRING_BYTES_MAX + 1:
        raise DecodeError(f"string of {n - 1} bytes")
    return n, pos


def unpack_many_int32s(buf: Buffer, pos: int, end: int, n: int) -> list[int]:
    return _numbers(buf, pos, end, n, "i", 4)


def read_compact_int32s(buf: Buffer, pos: int, end: int) -> tuple[list[int], int]:
    n, pos = read_uvarint(buf, pos)
    return _numbers(buf, pos, end, n - 1, "i", 4), pos + 4 * n - 4


def read_int8s(buf: Buffer, pos: int, end: int, n: int) -> tuple[list[int], int]:
    return _numbers(buf, pos, end, n, "b", 1), pos + n


def read_int16s(buf: Buffer, pos: int, end: int, n: int) -> tuple[list[int], int]:
    return _numbers(buf, pos, end, n, "h", 2), pos + 2 * n


def read_int64s(buf: Buffer, pos: int, end: int, n: int) -> tuple[list[int], int]:
    return _numbers(buf, pos, end, n, "q", 8), pos + 8 * n


def read_uuids(buf: Buffer, pos: int, end: int, n: int) -> tuple[list[Uuid], int]:
    stop = pos + 16 * n
    if stop > end:
        raise count_refused("uuid", n)
    return [Uuid(bytes(buf[at : at + 16])) for at in range(pos, stop, 16)], stop


def read_strings(buf: bytes, pos: int, end: int, n: int) -> tuple[list[str], int]:
    if n * 2 > end - pos:
        raise count_refused("string", n)
    items = []
    for _ in range(n):
        size = buf[pos] << 8 | buf[pos + 1]
        pos += 2
        if size > _STRING_BYTES_MAX:
            raise length_refused("string", size - 65_536)
        items.append(buf[pos : (pos := pos + size)].decode())
    return items, pos


def read_compact_strings(buf: bytes, pos: int, end: int, n: int) -> tuple[list[str], int]:
    if n > end - pos:
        raise count_refused("string", n)
    items = []
    for _ in range(n):
        size = buf[pos]
        pos += 1
        if size > 127:
            size, pos = long_string_length(buf, pos - 1)
        if size == 0:
            raise null_refused("string")
        items.append(buf[pos : (pos := pos + size - 1)].decode())
    return items, pos


def read_tag_count(buf: Buffer, pos: int, end: int) -> tuple[int, int]:
    n, pos = read_uvarint(buf, pos)
    if n * 2 > end - pos:
        raise count_refused("tagged field", n)
    return n, pos


def read_tag(buf: Buffer, pos: int, end: int, last: int) -> tuple[int, int, int]:
    """The tag, the position behind its content, the position of its content. Tags ascend (KIP-482)."""
    tag, pos = read_uvarint(buf, pos)
    if tag <= last:
        raise DecodeError(f"tagged field {tag} after {last}")
    size, pos = read_uvarint(buf, pos)
    if size > end - pos:
        raise DecodeError(f"tagged field {tag} claims {size} bytes of {end - pos}")
    return tag, pos + size, pos


def read_tags(buf: Buffer, pos: int, end: int) -> tuple[tuple[tuple[int, bytes], ...], int]:
    n, pos = read_tag_count(buf, pos, end)
    fields = []
    tag = -1
    for _ in range(n):
        tag, stop, pos = read_tag(buf, pos, end, tag)
        fields.append((tag, bytes(buf[pos:stop])))
        pos = stop
    return tuple(fields), pos


def count_refused(name: str, n: int) -> DecodeError:
    return DecodeError(f"{n} times {name} do not fit the bytes that are left")


def length_refused(name: str, n: int) -> DecodeError:
    return DecodeError(f"{name} has the length {n}")


def null_refused(name: str) -> DecodeError:
    return DecodeError(f"{name} is null")


def tag_refused(name: str) -> DecodeError:
    return DecodeError(f"tagged field {name} does not fill its size")


def _numbers(buf: Buffer, pos: int, end: int, n: int, code: str, size: int) -> list[int]:
    if n * size > end - pos:
        raise count_refused("integer", n)
    return list(unpack_from(f">{n}{code}", buf, pos))


# ---- called by generated writers -------------------------------------------------------------------------------------


def put_long_length(out: bytearray, n: int) -> None:
    put_uvarint(out, n)


def put_long_string_length(out: bytearray, n: int) -> None:
    if n > _STRING_BYTES_MAX + 1:
        raise EncodeError(f"string of {n - 1} bytes")
    put_uvarint(out, n)


def patch_long_length(out: bytearray, n: int) -> None:
    """Replaces the last byte, which stood in for a short length."""
    out.pop()
    put_uvarint(out, n)


def patch_long_string_length(out: bytearray, n: int) -> None:
    out.pop()
    put_long_string_length(out, n)


def pack_many_int32s(values: Sequence[int]) -> bytes:
    return pack(f">{len(values)}i", *values)


def put_int8s(out: bytearray, values: Sequence[int]) -> None:
    out += pack(f">{len(values)}b", *values)


def put_int16s(out: bytearray, values: Sequence[int]) -> None:
    out += pack(f">{len(values)}h", *values)


def put_int64s(out: bytearray, values: Sequence[int]) -> None:
    out += pack(f">{len(values)}q", *values)


def put_uuids(out: bytearray, values: Sequence[Uuid]) -> None:
    for value in values:
        if len(value) != 16:
            raise EncodeError(f"a uuid has 16 bytes, not {len(value)}")
        out += value


def put_strings(out: bytearray, values: Sequence[str]) -> None:
    for value in values:
        raw = value.encode()
        if len(raw) > _STRING_BYTES_MAX:
            raise EncodeError(f"string of {len(raw)} bytes")
        out += len(raw).to_bytes(2)
        out += raw


def put_compact_strings(out: bytearray, values: Sequence[str]) -> None:
    for value in values:
        raw = value.encode()
        if len(raw) < 127:
            out.append(len(raw) + 1)
        else:
            put_long_string_length(out, len(raw) + 1)
        out += raw


def put_tags(out: bytearray, fields: list[tuple[int, bytes]]) -> None:
    """Replaces the last byte, a count of none, by these tagged fields in the order of their tags."""
    fields.sort(key=lambda field: field[0])
    out.pop()
    put_uvarint(out, len(fields))
    last = -1
    for tag, content in fields:
        if tag <= last:
            raise EncodeError(f"tagged field {tag} is given twice")
        last = tag
        put_uvarint(out, tag)
        put_uvarint(out, len(content))
        out += content


def field_absent(name: str, version: int) -> EncodeError:
    return EncodeError(f"{name} is set, which version {version} cannot carry")


def null_given(name: str, version: int) -> EncodeError:
    return EncodeError(f"{name} is null, which version {version} cannot carry")

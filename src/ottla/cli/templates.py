r"""The format of `consume -f`: ``%k %v %o %p %t %T %h`` and ``\n \t \\ %%``, compiled once for many records.

``%k`` key, ``%v`` value (also ``%s``), ``%o`` offset, ``%p`` partition, ``%t`` topic, ``%T`` timestamp in milliseconds,
``%h`` headers as name=value separated by commas, ``%K`` and ``%S`` the sizes of key and value (-1 for null). Null is
printed as nothing.
"""

import re
from collections.abc import Callable
from typing import Final

from ottla.client import ConsumerRecord

Part = Callable[[ConsumerRecord], bytes]

_ESCAPES: Final = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}
_FIELDS: Final[dict[str, Part]] = {
    "k": lambda record: record.key or b"",
    "v": lambda record: record.value or b"",
    "s": lambda record: record.value or b"",
    "o": lambda record: b"%d" % record.offset,
    "p": lambda record: b"%d" % record.partition,
    "t": lambda record: record.topic.encode(),
    "T": lambda record: b"%d" % record.timestamp,
    "h": lambda record: b",".join(_header(name, value) for name, value in record.headers),
    "K": lambda record: b"%d" % (-1 if record.key is None else len(record.key)),
    "S": lambda record: b"%d" % (-1 if record.value is None else len(record.value)),
}


def compile_template(template: str) -> Part:
    """A function that prints one record. Raises ``ValueError`` for what it does not know."""
    pieces = re.findall(r"%.?|\\x[0-9A-Fa-f]{2}|\\.?|[^%\\]+", template, re.DOTALL)
    parts = [_compile_piece(piece) for piece in pieces]
    if len(parts) == 2 and template == "%v\\n":
        return _value_line
    return lambda record: b"".join([part(record) for part in parts])


def _value_line(record: ConsumerRecord) -> bytes:
    return (record.value or b"") + b"\n"


def _compile_piece(piece: str) -> Part:
    if piece == "%%":
        return _constant(b"%")
    if piece.startswith("%"):
        if piece[1:] not in _FIELDS:
            raise ValueError(f"{piece!r} is not one of {' '.join('%' + name for name in _FIELDS)} %%")
        return _FIELDS[piece[1:]]
    if piece.startswith("\\x") and len(piece) == 4:
        return _constant(bytes.fromhex(piece[2:]))
    if piece.startswith("\\"):
        if piece[1:] not in _ESCAPES:
            raise ValueError(f"{piece!r} is not one of \\n \\t \\r \\0 \\\\ \\xHH")
        return _constant(_ESCAPES[piece[1:]])
    return _constant(piece.encode())


def _constant(data: bytes) -> Part:
    return lambda _record: data


def _header(name: str, value: bytes | None) -> bytes:
    return name.encode("utf-8", "surrogateescape") + b"=" + (value or b"")

r"""The formats of `consume -f` and `produce -f`: fields, escapes and text, compiled once for many records.

| field | is | field | is |
|---|---|---|---|
| ``%k`` | key | ``%v`` ``%s`` | value |
| ``%K`` | size of the key, -1 for null | ``%S`` | size of the value, -1 for null |
| ``%o`` | offset | ``%p`` | partition |
| ``%t`` | topic | ``%T`` | timestamp in milliseconds |
| ``%h`` | headers, ``name=value,...`` | ``%H`` | how many headers |

``%k{hex}``, ``{base64}`` and ``{json}`` write bytes so that nothing is lost; ``%T{iso}`` writes a time, and
``%T{%H:%M}`` what strftime makes of it, in UTC. ``\n \t \r \0 \\ \xHH`` and ``%%`` are what they are elsewhere. Null is
printed as nothing, in JSON as ``null``.

To read lines, a template names ``%k``, ``%v``, ``%p``, ``%T`` or ``%h`` with text between them: each field ends where
that text begins. ``{hex}`` and ``{base64}`` are decoded.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from ottla.client import ConsumerRecord

Part = Callable[["ConsumerRecord"], bytes]
Bytes = Callable[["ConsumerRecord"], bytes | None]

_ESCAPES: Final = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}
_CONTENT: Final[dict[str, Bytes]] = {
    "k": lambda record: record.key,
    "v": lambda record: record.value,
    "s": lambda record: record.value,
}
_FIELDS: Final[dict[str, Part]] = {
    "k": lambda record: record.key or b"",
    "v": lambda record: record.value or b"",
    "s": lambda record: record.value or b"",
    "o": lambda record: b"%d" % record.offset,
    "p": lambda record: b"%d" % record.partition,
    "t": lambda record: record.topic.encode(),
    "T": lambda record: b"%d" % record.timestamp,
    "h": lambda record: b",".join(_header(name, value) for name, value in record.headers),
    "H": lambda record: b"%d" % len(record.headers),
    "K": lambda record: b"%d" % (-1 if record.key is None else len(record.key)),
    "S": lambda record: b"%d" % (-1 if record.value is None else len(record.value)),
}
_READABLE: Final = "kvspTh"
_PIECES: Final = re.compile(r"%.\{[^}]*\}|%.?|\\x[0-9A-Fa-f]{2}|\\.?|[^%\\]+", re.DOTALL)


def compile_template(template: str) -> Part:
    """A function that prints one record. Raises ``ValueError`` for what it does not know."""
    if template == "%v\\n":
        return lambda record: (record.value or b"") + b"\n"
    parts = [_compile_piece(piece) for piece in _PIECES.findall(template)]
    return lambda record: b"".join([part(record) for part in parts])


class ReadFields(NamedTuple):
    """What a line was found to hold; ``None`` for what the template does not name."""

    key: bytes | None = None
    value: bytes | None = None
    partition: int | None = None
    timestamp: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def compile_reader(template: str) -> Callable[[bytes], ReadFields]:
    """A function that reads one line, which has no end any more. It raises ``ValueError`` for a line of another form.

    Raises ``ValueError`` for a template that cannot be read by.
    """
    fields: list[tuple[str, str]] = []
    pattern = b""
    for piece in _PIECES.findall(template.removesuffix("\\n")):
        if not piece.startswith("%") or piece == "%%":
            pattern += re.escape(_literal(piece))
            continue
        name, _, modifier = piece[1:].partition("{")
        if name not in _READABLE or not name or modifier.removesuffix("}") not in ("", "hex", "base64"):
            raise ValueError(f"{piece!r} cannot be read; there are %k %v %p %T %h, with {{hex}} or {{base64}}")
        if pattern.endswith(b")"):
            raise ValueError(f"there must be text before {piece!r}: nothing else tells where the field before ends")
        fields.append((name, modifier.removesuffix("}")))
        pattern += b"(.*?)"
    compiled = re.compile(pattern, re.DOTALL)

    def read(line: bytes) -> ReadFields:
        found = compiled.fullmatch(line)
        if found is None:
            raise ValueError(f"not of the form {template!r}")
        return _read_fields(fields, found.groups())

    return read


def _read_fields(fields: list[tuple[str, str]], texts: tuple[bytes, ...]) -> ReadFields:
    read = ReadFields()
    for (name, modifier), text in zip(fields, texts, strict=True):
        content = _decoded(text, modifier)
        match name:
            case "k":
                read = read._replace(key=content)
            case "p":
                read = read._replace(partition=_number(content))
            case "T":
                read = read._replace(timestamp=_number(content))
            case "h":
                read = read._replace(headers=_read_headers(content))
            case _:
                read = read._replace(value=content)
    return read


def _compile_piece(piece: str) -> Part:
    if not piece.startswith("%") or piece == "%%":
        return _constant(_literal(piece))
    name, brace, modifier = piece[1:].partition("{")
    if name not in _FIELDS:
        raise ValueError(f"{piece!r} is not one of {' '.join('%' + name for name in _FIELDS)} %%")
    return _modified(name, modifier.removesuffix("}")) if brace else _FIELDS[name]


def _literal(piece: str) -> bytes:
    if piece == "%%":
        return b"%"
    if piece.startswith("\\x") and len(piece) == 4:
        return bytes.fromhex(piece[2:])
    if piece.startswith("\\"):
        if piece[1:] not in _ESCAPES:
            raise ValueError(f"{piece!r} is not one of \\n \\t \\r \\0 \\\\ \\xHH")
        return _ESCAPES[piece[1:]]
    return piece.encode()


def _modified(name: str, modifier: str) -> Part:
    content = _CONTENT.get(name)
    if content is not None and modifier == "hex":
        return lambda record: (content(record) or b"").hex().encode()
    if content is not None and modifier == "base64":
        return lambda record: b64encode(content(record) or b"")
    if content is not None and modifier == "json":
        from ottla.cli.ndjson import encode_bytes

        return lambda record: encode_bytes(content(record))
    if name == "T" and (modifier == "iso" or "%" in modifier):
        return _time(modifier)
    known = "%k and %v take {hex}, {base64} and {json}; %T takes {iso} or a strftime format"
    raise ValueError(f"%{name}{{{modifier}}} is not known: {known}")


def _time(modifier: str) -> Part:
    from datetime import UTC, datetime

    def show(record: "ConsumerRecord") -> bytes:
        when = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        if modifier == "iso":
            return when.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
        return when.strftime(modifier).encode()

    return show


def _constant(data: bytes) -> Part:
    return lambda _record: data


def _header(name: str, value: bytes | None) -> bytes:
    return name.encode("utf-8", "surrogateescape") + b"=" + (value or b"")


def _decoded(text: bytes, modifier: str) -> bytes:
    try:
        match modifier:
            case "hex":
                return bytes.fromhex(text.decode("ascii"))
            case "base64":
                return b64decode(text, validate=True)
            case _:
                return text
    except (Base64Error, UnicodeDecodeError) as error:
        raise ValueError(f"not {modifier}: {error}") from None


def _number(text: bytes) -> int:
    if not text.isdigit():
        raise ValueError(f"{text[:30]!r} is not a number")
    return int(text)


def _read_headers(text: bytes) -> tuple[tuple[str, bytes], ...]:
    pairs = []
    for part in text.split(b",") if text else ():
        name, equals, value = part.partition(b"=")
        if not equals:
            raise ValueError(f"{part[:30]!r} is not name=value")
        pairs.append((name.decode("utf-8", "surrogateescape"), value))
    return tuple(pairs)

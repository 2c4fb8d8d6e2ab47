"""What the wire tests share: the checked-in schemas, sampled instances of any message, Java's golden frames."""

import importlib
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from ottla.model import Uuid
from ottla.wire.primitives import read_uvarint

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))

from messages import schema  # noqa: E402

MESSAGES = {message.name: message for message in schema.load() if message.valid}
LIMITS = {"int8": 7, "int16": 15, "int32": 31, "int64": 63, "uint16": 16, "uint32": 32}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "message_name" in metafunc.fixturenames:
        metafunc.parametrize("message_name", sorted(MESSAGES))


class Golden(NamedTuple):
    """One message as Java wrote it; ``json`` is what Java says is in it, where it was recorded."""

    name: str
    version: int
    frame: bytes
    json: bytes


@pytest.fixture(scope="session")
def golden() -> dict[str, list[Golden]]:
    data = zlib.decompress((ROOT / "tests" / "data" / "golden" / "messages.bin").read_bytes())
    found: dict[str, list[Golden]] = {}
    pos = 0
    while pos < len(data):
        name, pos = _take(data, pos, ">H")
        json, pos = _take(data, pos, ">i")
        (version,) = struct.unpack_from(">h", data, pos)
        frame, pos = _take(data, pos + 2, ">i")
        entry = Golden(name.decode(), version, frame, json)
        found.setdefault(entry.name, []).append(entry)
    return found


def _take(data: bytes, pos: int, prefix: str) -> tuple[bytes, int]:
    (size,) = struct.unpack_from(prefix, data, pos)
    pos += struct.calcsize(prefix)
    return data[pos : pos + size], pos + size


@pytest.fixture(scope="session")
def schemas() -> dict[str, Any]:
    return dict(MESSAGES)


@pytest.fixture(scope="session")
def load() -> Callable[[str], Any]:
    """The class of a message by its name."""
    return lambda name: getattr(_module(name), name)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"ottla.wire.messages.{MESSAGES[name].module}")


@pytest.fixture(scope="session")
def sample() -> Callable[..., Any]:
    """``sample(name, version, rng, tame=False)``: an instance with values in every field the version has.

    Tame ones hold only what every implementation takes: small numbers, no nulls, no unknown tags.
    """

    def build(name: str, version: int, rng: Random, *, tame: bool = False) -> Any:
        message = MESSAGES[name]
        sampler = _Sampler(message, _module(name), version, rng, tame)
        return sampler.struct(message.body)

    return build


@dataclass(frozen=True, slots=True)
class _Sampler:
    message: Any
    module: ModuleType
    version: int
    rng: Random
    tame: bool

    def struct(self, spec: Any) -> Any:
        values = {
            field.python_name: self._field(field)
            for field in spec.fields
            if self.version in field.versions and not (self.version in field.tagged and self.rng.random() < 0.4)
        }
        if self.version >= self.message.flexible_from and not self.tame and self.rng.random() < 0.2:
            values["unknown_tagged_fields"] = ((900, b"x" * self.rng.randrange(200)), (1 << 31, b""))
        return getattr(self.module, spec.name)(**values)

    def _field(self, field: Any) -> Any:
        if not self.tame and self.version in field.nullable and self.rng.random() < 0.25:
            return None
        if field.element is None:
            return self._value(field.type)
        count = self.rng.choice((0, 1, 1, 2, 3)) if field.struct or self.rng.random() < 0.8 else self.rng.randrange(200)
        return [self._value(field.element) for _ in range(count)]

    def _value(self, kind: str) -> Any:
        rng = self.rng
        match kind:
            case "bool":
                return rng.random() < 0.5
            case "string":
                return self._text()
            case "bytes" | "records":
                return rng.randbytes(rng.choice((0, 1, 5, 5, 127, 128, 300)))
            case "uuid":
                return Uuid(rng.randbytes(16))
            case "float64":
                return rng.uniform(-1e9, 1e9)
            case _ if kind[0].isupper():
                return self.struct(self.message.structs[kind])
            case _:
                return self._number(kind)

    def _number(self, kind: str) -> int:
        if self.tame:
            return self.rng.randrange(1, 90)
        high = (1 << LIMITS[kind]) - 1
        low = 0 if kind.startswith("u") else -high - 1
        return self.rng.choice((0, high, low, self.rng.randint(low, high)))

    def _text(self) -> str:
        if self.tame:
            return f"name-{self.rng.randrange(100)}"
        return self.rng.choice(
            ("", "a", "žluť \U0001f434", "m" * 126, "n" * 127, "o" * 16_500, f"t{self.rng.random()}")
        )


@dataclass(frozen=True, slots=True)
class Length:
    """A length or count inside a frame: where it is, how it is written, and what it says now."""

    position: int
    end: int
    code: str
    value: int

    def altered(self, frame: bytes, value: int) -> bytes:
        return frame[: self.position] + self._written(value) + frame[self.end :]

    def _written(self, value: int) -> bytes:
        if self.code != "uvarint":
            return struct.pack(
                self.code, max(value, -32_768) if self.code == ">i" else max(min(value, 32_767), -32_768)
            )
        rest = (value + 1) & 0xFFFFFFFF
        out = bytearray()
        while rest > 127:
            out.append(rest & 127 | 128)
            rest >>= 7
        return bytes([*out, rest])


@pytest.fixture(scope="session")
def lengths() -> Callable[[str, int, bytes], list[Length]]:
    """Every length and count in a frame, found by walking the schema: a second, independent reader."""

    def walk(name: str, version: int, frame: bytes) -> list[Length]:
        walker = _Walker(MESSAGES[name], version, frame)
        walker.struct(MESSAGES[name].body)
        assert walker.pos == len(frame)
        return walker.found

    return walk


class _Walker:
    SIZES = {
        "bool": 1,
        "int8": 1,
        "int16": 2,
        "uint16": 2,
        "int32": 4,
        "uint32": 4,
        "int64": 8,
        "float64": 8,
        "uuid": 16,
    }

    def __init__(self, message: Any, version: int, frame: bytes) -> None:
        self.message = message
        self.version = version
        self.frame = frame
        self.pos = 0
        self.found: list[Length] = []
        self.flexible = version >= message.flexible_from

    def struct(self, spec: Any) -> None:
        for field in spec.fields:
            if self.version in field.regular:
                self.field(field, tagged=False)
        if self.flexible:
            tagged = {field.tag: field for field in spec.fields if self.version in field.tagged}
            count = self.uvarint(0)
            for _ in range(count):
                tag, self.pos = read_uvarint(self.frame, self.pos)
                size = self.uvarint(0)
                if tag in tagged:
                    self.field(tagged[tag], tagged=True)
                else:
                    self.pos += size

    def uvarint(self, bias: int) -> int:
        value, end = read_uvarint(self.frame, self.pos)
        self.found.append(Length(self.pos, end, "uvarint", value - bias))
        self.pos = end
        return value - bias

    def field(self, field: Any, *, tagged: bool) -> None:
        if field.element is None and field.struct:
            if self.version in field.nullable:
                present = self.frame[self.pos] == 1
                self.pos += 1
                if not present:
                    return
            self.struct(self.message.structs[field.struct])
        elif field.element is None:
            self.value(field.type, compact=self.flexible and not field.always_classic)
        else:
            for _ in range(max(self.length(">i", compact=self.flexible), 0)):
                if field.struct:
                    self.struct(self.message.structs[field.struct])
                else:
                    self.value(field.element, compact=self.flexible)

    def value(self, kind: str, *, compact: bool) -> None:
        if kind in self.SIZES:
            self.pos += self.SIZES[kind]
        else:
            size = self.length(">h" if kind == "string" else ">i", compact=compact)
            self.pos += max(size, 0)

    def length(self, code: str, *, compact: bool) -> int:
        if compact:
            return self.uvarint(1)
        (value,) = struct.unpack_from(code, self.frame, self.pos)
        self.found.append(Length(self.pos, self.pos + struct.calcsize(code), code, value))
        self.pos += struct.calcsize(code)
        return int(value)

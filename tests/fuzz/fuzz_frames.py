"""Fuzz the way from a frame to a message: header, API table, decoder; and every other decoder there is.

    python tests/fuzz/fuzz_frames.py -max_total_time=60 [libFuzzer options] [CORPUS]

runs under atheris, starting from Java's golden frames. ``tests/fuzz/test_frames.py`` drives the same ``one_input`` from
hypothesis. An input fails when anything but ``DecodeError`` escapes, when it takes longer than 100 ms of CPU, when the
process has grown by more than 64 MiB, or when what was decoded does not come back after encoding.

An input is: one byte 0 and a request frame, or one byte 1, the index of a message (2 bytes), a version (1 byte, taken
into the message's range) and the message's bytes.
"""

import importlib
import struct
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from harness.fuzzing import bounded, golden_frames, run_atheris  # noqa: E402  # the path above comes first


def message_classes() -> list[Any]:
    """Every top-level message, in the order of the module names."""
    found = []
    for path in sorted((ROOT / "src" / "ottla" / "wire" / "messages").glob("[a-z]*.py")):
        module = importlib.import_module(f"ottla.wire.messages.{path.stem}")
        found += [value for value in vars(module).values() if hasattr(value, "HIGHEST_VERSION")]
    return found


if __name__ == "__main__":
    import atheris

    watched = atheris.instrument_imports(include=["ottla.wire"])
else:
    watched = nullcontext()

with watched:
    from ottla.wire import DecodeError, decode, encode
    from ottla.wire.apis import API_SPECS
    from ottla.wire.frame import read_request_header

    CLASSES = message_classes()


def one_input(data: bytes) -> None:
    read: list[Any] = []
    bounded(lambda: read.append(decoded(data)), len(data))
    if read[0] is not None:
        message, version = read[0]
        cls = type(message)
        again = decode(cls, encode(message, version), version)
        # Tags may come in any order and leave sorted, and NaN never equals itself: bytes are compared, not values.
        assert encode(again, version) == encode(message, version)


def decoded(data: bytes) -> tuple[Any, int] | None:
    try:
        cls, version, body = route(data)
        return None if cls is None else (decode(cls, body, version), version)
    except DecodeError:
        return None


def route(data: bytes) -> tuple[Any, int, bytes]:
    if len(data) < 4:
        return None, 0, b""
    if data[0] & 1:
        cls = CLASSES[int.from_bytes(data[1:3]) % len(CLASSES)]
        return cls, cls.LOWEST_VERSION + data[3] % (cls.HIGHEST_VERSION - cls.LOWEST_VERSION + 1), data[4:]
    header, position = read_request_header(data[1:])
    spec = API_SPECS.get(header.api_key)
    return (None, 0, b"") if spec is None else (spec.load_request(), header.api_version, data[1 + position :])


def seeds() -> Iterator[bytes]:
    """Java's golden frames as inputs."""
    index = {cls.__name__: number for number, cls in enumerate(CLASSES)}
    for name, version, frame in golden_frames():
        cls = CLASSES[index[name]]
        yield b"\1" + index[name].to_bytes(2) + bytes([version - cls.LOWEST_VERSION]) + frame
        if name.endswith("Request"):
            tags = b"\0" if version >= cls.FLEXIBLE_FROM else b""
            yield b"\0" + struct.pack(">hhih", cls.API_KEY, version, 7, 1) + b"c" + tags + frame


if __name__ == "__main__":
    run_atheris(one_input, seeds())

"""Bytes that lie: whatever comes in, a decoder answers with a message or a ``DecodeError``, in little memory."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

from ottla.wire import DecodeError, decode

GROWTH_BYTES_MAX = 256 * 1024
LIES = (-2, -1, 0, 1, 127, 128, 1 << 14, (1 << 31) - 1, -(1 << 31))


def test_every_length_may_lie(
    message_name: str, load: Callable[[str], Any], golden: dict[str, list[Any]], lengths: Callable[..., Any]
) -> None:
    cls = load(message_name)
    for entry in chosen(golden[message_name]):
        for length in lengths(message_name, entry.version, entry.frame):
            left = len(entry.frame) - length.end
            with little_memory():
                for lie in (*LIES, left + 1, length.value + 1, length.value - 1):
                    attempt(cls, length.altered(entry.frame, lie), entry.version)


def test_claims_beyond_the_frame_are_refused(
    message_name: str, load: Callable[[str], Any], golden: dict[str, list[Any]], lengths: Callable[..., Any]
) -> None:
    cls = load(message_name)
    for entry in chosen(golden[message_name]):
        for length in lengths(message_name, entry.version, entry.frame):
            for lie in (len(entry.frame) - length.end + 1, (1 << 31) - 1, -2):
                with pytest.raises(DecodeError):
                    decode(cls, length.altered(entry.frame, lie), entry.version)


def test_truncation_at_every_byte_is_refused(
    message_name: str, load: Callable[[str], Any], golden: dict[str, list[Any]]
) -> None:
    cls = load(message_name)
    for entry in chosen(golden[message_name]):
        for size in range(len(entry.frame)):
            with pytest.raises(DecodeError):
                decode(cls, entry.frame[:size], entry.version)


def test_trailing_bytes_are_refused(
    message_name: str, load: Callable[[str], Any], golden: dict[str, list[Any]]
) -> None:
    cls = load(message_name)
    for entry in golden[message_name]:
        with pytest.raises(DecodeError):
            decode(cls, entry.frame + b"\0", entry.version)


def test_flipped_bytes_never_escape(
    message_name: str, load: Callable[[str], Any], golden: dict[str, list[Any]]
) -> None:
    cls = load(message_name)
    for entry in chosen(golden[message_name]):
        for position in range(len(entry.frame)):
            for mask in (0x01, 0x80, 0xFF):
                damaged = bytearray(entry.frame)
                damaged[position] ^= mask
                attempt(cls, bytes(damaged), entry.version)


def test_random_bytes_never_escape(message_name: str, load: Callable[[str], Any]) -> None:
    cls = load(message_name)
    rng = Random(message_name)
    with little_memory():
        for _ in range(100):
            version = rng.randint(cls.LOWEST_VERSION, cls.HIGHEST_VERSION)
            attempt(cls, rng.randbytes(rng.randrange(64)), version)


def test_versions_outside_the_range_are_refused(message_name: str, load: Callable[[str], Any]) -> None:
    cls = load(message_name)
    for version in (cls.LOWEST_VERSION - 1, cls.HIGHEST_VERSION + 1, -32_768, 32_767):
        with pytest.raises(DecodeError):
            decode(cls, b"\0" * 64, version)


def chosen(entries: list[Any]) -> list[Any]:
    """A filled frame of the first and of the last version."""
    filled = [entry for entry in entries if entry.json and len(entry.frame) < 600]
    return [*filled[:1], *filled[-1:]] or [min(entries, key=lambda entry: len(entry.frame))]


def attempt(cls: Any, frame: bytes, version: int) -> None:
    try:
        decode(cls, frame, version)
    except DecodeError:
        pass


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < GROWTH_BYTES_MAX

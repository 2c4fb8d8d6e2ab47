"""Whatever is encoded comes back, for every message in every version."""

from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ottla.wire import decode, encode


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
def test_decoding_gives_back_what_was_encoded(
    message_name: str, load: Callable[[str], Any], sample: Callable[..., Any], seed: int
) -> None:
    cls = load(message_name)
    for version in range(cls.LOWEST_VERSION, cls.HIGHEST_VERSION + 1):
        message = sample(message_name, version, Random(seed))
        frame = encode(message, version)
        again = decode(cls, frame, version)
        assert again == message
        assert encode(again, version) == frame


def test_default_instances_come_back(message_name: str, load: Callable[[str], Any]) -> None:
    cls = load(message_name)
    for version in range(cls.LOWEST_VERSION, cls.HIGHEST_VERSION + 1):
        assert decode(cls, encode(cls(), version), version) == cls()


def test_every_kind_of_buffer_is_read_alike(
    message_name: str, load: Callable[[str], Any], sample: Callable[..., Any]
) -> None:
    cls = load(message_name)
    message = sample(message_name, cls.HIGHEST_VERSION, Random(1))
    frame = encode(message, cls.HIGHEST_VERSION)
    padded = memoryview(b"\xff" + frame + b"\xff")[1:-1]
    for buffer in (frame, bytearray(frame), memoryview(frame), padded):
        assert decode(cls, buffer, cls.HIGHEST_VERSION) == message

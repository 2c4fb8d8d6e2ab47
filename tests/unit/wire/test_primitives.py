"""Varints: round trips, the bytes Kafka documents, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.wire import DecodeError
from ottla.wire.primitives import put_uvarint, read_uvarint


@given(st.integers(0, (1 << 32) - 1))
def test_unsigned(value: int) -> None:
    out = bytearray(b"x")
    put_uvarint(out, value)
    assert len(out) == 1 + max(-(-value.bit_length() // 7), 1)
    assert read_uvarint(bytes(out) + b"y", 1) == (value, len(out))


@pytest.mark.parametrize(
    "written", ["", "80", "8080", "ffffff", "ffffffff", "ffffffff10", "808080808000", "ffffffffff01"]
)
def test_cut_off_or_too_long(written: str) -> None:
    with pytest.raises(DecodeError):
        read_uvarint(bytes.fromhex(written), 0)


def test_negative_numbers_are_our_bug() -> None:
    with pytest.raises(AssertionError):
        put_uvarint(bytearray(), -1)

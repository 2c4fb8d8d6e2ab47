"""Varints: round trips, the bytes Kafka documents, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.wire import DecodeError
from ottla.wire.primitives import (
    put_uvarint,
    put_varint,
    read_uvarint,
    read_varint,
    read_varlong,
    uvarint_size,
    varint_size,
)


@given(st.integers(0, (1 << 32) - 1))
def test_unsigned(value: int) -> None:
    out = bytearray(b"x")
    put_uvarint(out, value)
    assert len(out) == 1 + uvarint_size(value)
    assert read_uvarint(bytes(out) + b"y", 1) == (value, len(out))


@given(st.integers(-(1 << 31), (1 << 31) - 1))
def test_signed(value: int) -> None:
    out = bytearray()
    put_varint(out, value)
    assert len(out) == varint_size(value)
    assert read_varint(out, 0) == (value, len(out))


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_long(value: int) -> None:
    out = bytearray()
    put_varint(out, value)
    assert len(out) == varint_size(value)
    assert read_varlong(memoryview(out), 0) == (value, len(out))


@pytest.mark.parametrize(
    ("value", "written"), [(0, "00"), (-1, "01"), (1, "02"), (63, "7e"), (-64, "7f"), (64, "8001"), (300, "d804")]
)
def test_zigzag_bytes(value: int, written: str) -> None:
    out = bytearray()
    put_varint(out, value)
    assert out.hex() == written


@pytest.mark.parametrize(
    "written", ["", "80", "8080", "ffffff", "ffffffff", "ffffffff10", "808080808000", "ffffffffff01"]
)
def test_cut_off_or_too_long(written: str) -> None:
    for read in (read_uvarint, read_varint):
        with pytest.raises(DecodeError):
            read(bytes.fromhex(written), 0)


@pytest.mark.parametrize("written", ["", "ff" * 9, "ff" * 9 + "02", "80" * 10 + "00"])
def test_cut_off_or_too_long_for_64_bits(written: str) -> None:
    with pytest.raises(DecodeError):
        read_varlong(bytes.fromhex(written), 0)


def test_negative_numbers_are_our_bug() -> None:
    with pytest.raises(AssertionError):
        put_uvarint(bytearray(), -1)

"""Variable-length integers: Kafka's unsigned varints and zig-zag signed ones, of 32 and 64 bits.

Readers take any buffer and return the value with the position behind it; they raise ``DecodeError`` for one that is
cut off or longer than its type allows (5 and 10 bytes).
"""

from ottla.wire.failures import DecodeError

Buffer = bytes | memoryview


def read_uvarint(buf: Buffer | bytearray, pos: int) -> tuple[int, int]:
    """An unsigned varint of at most 32 bits."""
    try:
        value = buf[pos]
        if value < 128:
            return value, pos + 1
        byte = buf[pos + 1]
        if byte < 128:
            return value & 127 | byte << 7, pos + 2
        value = value & 127 | (byte & 127) << 7
        byte = buf[pos + 2]
        if byte < 128:
            return value | byte << 14, pos + 3
    except IndexError:
        raise DecodeError("varint is cut off") from None
    return _read(buf, pos, 32)


def read_varint(buf: Buffer | bytearray, pos: int) -> tuple[int, int]:
    """A zig-zag varint of 32 bits."""
    value, pos = _read(buf, pos, 32)
    return (value >> 1) ^ -(value & 1), pos


def read_varlong(buf: Buffer | bytearray, pos: int) -> tuple[int, int]:
    """A zig-zag varint of 64 bits."""
    value, pos = _read(buf, pos, 64)
    return (value >> 1) ^ -(value & 1), pos


def put_uvarint(out: bytearray, value: int) -> None:
    """``value`` must not be negative."""
    assert value >= 0, value
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def put_varint(out: bytearray, value: int) -> None:
    """``value`` must fit 32 bits; for one that fits 64, this is the varlong."""
    put_uvarint(out, value << 1 if value >= 0 else (-value << 1) - 1)


def uvarint_size(value: int) -> int:
    return (max(value.bit_length(), 1) + 6) // 7


def varint_size(value: int) -> int:
    return uvarint_size(value << 1 if value >= 0 else (-value << 1) - 1)


def _read(buf: Buffer | bytearray, pos: int, bits: int) -> tuple[int, int]:
    value = shift = 0
    try:
        while True:
            byte = buf[pos]
            pos += 1
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift >= bits:
                raise DecodeError(f"varint longer than {bits} bits")
    except IndexError:
        raise DecodeError("varint is cut off") from None
    if value >> bits:
        raise DecodeError(f"varint longer than {bits} bits")
    return value, pos

"""Kafka's unsigned varints of 32 bits; the signed ones of records are in ``records.varint``.

The reader takes any buffer and returns the value with the position behind it; it raises ``DecodeError`` for one that is
cut off or longer than its type allows (5 bytes).
"""

from ottla.wire.failures import DecodeError

Buffer = bytes | memoryview
_BITS = 32


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
    return _read(buf, pos)


def put_uvarint(out: bytearray, value: int) -> None:
    """``value`` must not be negative."""
    assert value >= 0, value
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _read(buf: Buffer | bytearray, pos: int) -> tuple[int, int]:
    value = shift = 0
    try:
        while True:
            byte = buf[pos]
            pos += 1
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift >= _BITS:
                raise DecodeError(f"varint longer than {_BITS} bits")
    except IndexError:
        raise DecodeError("varint is cut off") from None
    if value >> _BITS:
        raise DecodeError(f"varint longer than {_BITS} bits")
    return value, pos

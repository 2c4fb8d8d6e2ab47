"""Zigzag varints as records use them (fields up to 64 bits), quick for the small numbers records are made of."""

from typing import Final

from ottla.records.errors import CorruptRecord

_MEMO_MAX: Final = 8192


class _ZigzagVarints(dict[int, bytes]):
    """Encodings of the numbers asked for so far, up to a limit: a look-up is a third of an encoding."""

    def __missing__(self, number: int) -> bytes:
        rest = (number << 1) ^ (number >> 63)
        encoded = bytearray()
        while rest > 0x7F:
            encoded.append(rest & 0x7F | 0x80)
            rest >>= 7
        encoded.append(rest)
        result = bytes(encoded)
        if len(self) < _MEMO_MAX:
            self[number] = result
        return result


zigzag_varint: Final = _ZigzagVarints()
"""``zigzag_varint[number]`` is the encoding of a signed 64-bit ``number``."""


def read_varint(buf: bytes, position: int) -> tuple[int, int]:
    """The number at ``position`` and the position behind it. Raises ``CorruptRecord``; ``IndexError`` past the end."""
    byte = buf[position]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), position + 1
    number = byte & 0x7F
    byte = buf[position + 1]
    if byte < 0x80:
        number |= byte << 7
        return (number >> 1) ^ -(number & 1), position + 2
    position += 2
    number |= (byte & 0x7F) << 7
    shift = 14
    while True:
        byte = buf[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), position
        shift += 7
        if shift > 63:
            raise CorruptRecord(f"varint at position {position - 10} is longer than ten bytes")

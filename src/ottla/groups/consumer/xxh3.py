"""XXH3 with 64 bits and no seed, after the algorithm's public description: what Kafka hashes topics with.

The hash of a group's topics lies in its ``ConsumerGroupMetadata`` record. A coordinator that computes another one takes
the topics for changed and rebalances every group once, so it has to be this one to the bit.
"""

from struct import Struct
from typing import Final

_MASK: Final = (1 << 64) - 1
_SECRET: Final = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_PRIME32: Final = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_PRIME64: Final = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
_MIX1: Final = 0x165667919E3779F9
_MIX2: Final = 0x9FB21C651E98DF25

_U32: Final = Struct("<I")
_U64: Final = Struct("<Q")
_STRIPE: Final = Struct("<8Q")
_STRIPE_BYTES: Final = 64
_STRIPES_A_BLOCK: Final = (len(_SECRET) - _STRIPE_BYTES) // 8
_BLOCK_BYTES: Final = _STRIPES_A_BLOCK * _STRIPE_BYTES


def xxh3_64(data: bytes) -> int:
    """The hash as an unsigned number."""
    size = len(data)
    if size <= 16:
        return _tiny(data, size)
    if size <= 128:
        return _short(data, size)
    if size <= 240:
        return _medium(data, size)
    return _long(data, size)


def _tiny(data: bytes, size: int) -> int:
    if size > 8:
        low = _u64(data, 0) ^ (_secret(24) ^ _secret(32))
        high = _u64(data, size - 8) ^ (_secret(40) ^ _secret(48))
        swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
        return _avalanche(size + swapped + high + _fold(low, high) & _MASK)
    if size >= 4:
        first: int = _U32.unpack_from(data)[0]
        last: int = _U32.unpack_from(data, size - 4)[0]
        return _mix_short((last + (first << 32)) ^ (_secret(8) ^ _secret(16)), size)
    if size:
        combined = data[0] << 16 | data[size >> 1] << 24 | data[-1] | size << 8
        return _xxh64_avalanche(combined ^ (_secret32(0) ^ _secret32(4)))
    return _xxh64_avalanche(_secret(56) ^ _secret(64))


def _short(data: bytes, size: int) -> int:
    total = size * _PRIME64[0]
    for step in range((size - 1) // 32, -1, -1):
        total += _mix16(data, step * 16, step * 32) + _mix16(data, size - step * 16 - 16, step * 32 + 16)
    return _avalanche(total & _MASK)


def _medium(data: bytes, size: int) -> int:
    total = size * _PRIME64[0]
    for step in range(8):
        total += _mix16(data, step * 16, step * 16)
    total = _avalanche(total & _MASK)
    for step in range(8, size // 16):
        total += _mix16(data, step * 16, (step - 8) * 16 + 3)
    total += _mix16(data, size - 16, 136 - 17)
    return _avalanche(total & _MASK)


def _long(data: bytes, size: int) -> int:
    lanes = [
        _PRIME32[2],
        _PRIME64[0],
        _PRIME64[1],
        _PRIME64[2],
        _PRIME64[3],
        _PRIME32[1],
        _PRIME64[4],
        _PRIME32[0],
    ]
    scramble_keys = _STRIPE.unpack_from(_SECRET, len(_SECRET) - _STRIPE_BYTES)
    blocks = (size - 1) // _BLOCK_BYTES
    for block in range(blocks):
        for stripe in range(_STRIPES_A_BLOCK):
            _accumulate(lanes, data, block * _BLOCK_BYTES + stripe * _STRIPE_BYTES, stripe * 8)
        for lane, key in enumerate(scramble_keys):
            value = lanes[lane]
            lanes[lane] = (value ^ value >> 47 ^ key) * _PRIME32[0] & _MASK
    start = blocks * _BLOCK_BYTES
    for stripe in range((size - 1 - start) // _STRIPE_BYTES):
        _accumulate(lanes, data, start + stripe * _STRIPE_BYTES, stripe * 8)
    _accumulate(lanes, data, size - _STRIPE_BYTES, len(_SECRET) - _STRIPE_BYTES - 7)
    total = size * _PRIME64[0]
    for pair in range(4):
        low, high = lanes[2 * pair], lanes[2 * pair + 1]
        total += _fold(low ^ _secret(11 + 16 * pair), high ^ _secret(19 + 16 * pair))
    return _avalanche(total & _MASK)


def _accumulate(lanes: list[int], data: bytes, position: int, secret_position: int) -> None:
    values = _STRIPE.unpack_from(data, position)
    keys = _STRIPE.unpack_from(_SECRET, secret_position)
    for lane, value in enumerate(values):
        keyed = value ^ keys[lane]
        lanes[lane ^ 1] = lanes[lane ^ 1] + value & _MASK
        lanes[lane] = lanes[lane] + (keyed & 0xFFFFFFFF) * (keyed >> 32) & _MASK


def _mix16(data: bytes, position: int, secret_position: int) -> int:
    return _fold(
        _u64(data, position) ^ _secret(secret_position), _u64(data, position + 8) ^ _secret(secret_position + 8)
    )


def _mix_short(value: int, size: int) -> int:
    value ^= _rotate(value, 49) ^ _rotate(value, 24)
    value = value * _MIX2 & _MASK
    value ^= (value >> 35) + size
    value = value * _MIX2 & _MASK
    return value ^ value >> 28


def _avalanche(value: int) -> int:
    value ^= value >> 37
    value = value * _MIX1 & _MASK
    return value ^ value >> 32


def _xxh64_avalanche(value: int) -> int:
    value ^= value >> 33
    value = value * _PRIME64[1] & _MASK
    value ^= value >> 29
    value = value * _PRIME64[2] & _MASK
    return value ^ value >> 32


def _fold(left: int, right: int) -> int:
    product = left * right
    return (product & _MASK) ^ (product >> 64)


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> 64 - bits) & _MASK


def _u64(data: bytes, position: int) -> int:
    value: int = _U64.unpack_from(data, position)[0]
    return value


def _secret(position: int) -> int:
    return _u64(_SECRET, position)


def _secret32(position: int) -> int:
    value: int = _U32.unpack_from(_SECRET, position)[0]
    return value

"""Which partition a record goes to: by its key as Kafka's Java client does, or sticking to one for a batch."""

from functools import lru_cache
from random import Random
from typing import Final

_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Murmur2 with Kafka's seed; unsigned 32 bits."""
    length = len(data)
    state = _SEED ^ length
    whole = length & ~3
    for position in range(0, whole, 4):
        k = int.from_bytes(data[position : position + 4], "little") * _MULTIPLIER & _MASK
        k = (k ^ k >> 24) * _MULTIPLIER & _MASK
        state = (state * _MULTIPLIER & _MASK) ^ k
    if whole < length:
        state = (state ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    state = (state ^ state >> 13) * _MULTIPLIER & _MASK
    return state ^ state >> 15


@lru_cache(maxsize=16_384)
def partition_for_key(key: bytes, partitions: int) -> int:
    """The partition every record with this key goes to."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


class StickyPartitioner:
    """Keyless records go to one partition until its batch is full, then to another (KIP-480)."""

    __slots__ = ("_current", "_rng")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._current: dict[str, int] = {}

    def partition(self, topic: str, partitions: int) -> int:
        current = self._current.get(topic, -1)
        return current if 0 <= current < partitions else self.move_on(topic, partitions)

    def current(self, topic: str) -> int:
        """The partition stuck to, -1 for none yet."""
        return self._current.get(topic, -1)

    def move_on(self, topic: str, partitions: int) -> int:
        """Choose another partition."""
        current = self._current.get(topic, -1)
        chosen = self._rng.randrange(partitions)
        if chosen == current and partitions > 1:
            chosen = (chosen + 1) % partitions
        self._current[topic] = chosen
        return chosen

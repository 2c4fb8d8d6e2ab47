"""Which partition a record goes to: by its key as Java or librdkafka would choose, without one sticking for a while.

A partitioner is a function ``(topic, key, partitions) -> int | None`` or an object with a method ``partition`` of that
shape; ``None`` leaves the record to the sticky choice. Records without a key stick to one partition for a batch's worth
of bytes, then to another, the likelier the less waits for it (KIP-480, KIP-794).
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from random import Random
from struct import unpack
from typing import Final, Literal, Protocol
from zlib import crc32

_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF
_POSITIVE: Final = 0x7FFFFFFF
_FNV_OFFSET: Final = 0x811C9DC5
_FNV_PRIME: Final = 0x01000193
_LANES_MIN: Final = 16
"""From so many keys of a length on it pays to hash them side by side."""

PartitionFunction = Callable[[str, bytes | None, int], int | None]
PartitionerName = Literal[
    "default",
    "sticky",
    "random",
    "round_robin",
    "murmur2",
    "murmur2_random",
    "consistent",
    "consistent_random",
    "fnv1a",
    "fnv1a_random",
]


class Partitioner(Protocol):
    """A partitioner with a state of its own."""

    def partition(self, topic: str, key: bytes | None, partitions: int) -> int | None: ...


def murmur2(data: bytes) -> int:
    """Murmur2 with Kafka's seed; unsigned 32 bits."""
    length = len(data)
    state = _SEED ^ length
    whole = length >> 2
    for word in unpack(f"<{whole}I", data[: whole << 2]):
        k = word * _MULTIPLIER & _MASK
        state = (state * _MULTIPLIER & _MASK) ^ ((k ^ k >> 24) * _MULTIPLIER & _MASK)
    if length & 3:
        state = (state ^ int.from_bytes(data[whole << 2 :], "little")) * _MULTIPLIER & _MASK
    state = (state ^ state >> 13) * _MULTIPLIER & _MASK
    return state ^ state >> 15


def murmur2_all(keys: Sequence[bytes], length: int) -> Sequence[int]:
    """The hashes of keys of one ``length``: all at once in the 64-bit lanes of one large integer.

    A product of two 32-bit numbers fits its lane, so multiplying the large integer multiplies every key's state.
    """
    count = len(keys)
    lanes = int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")
    low = lanes * _MASK
    columns = unpack("<" + (f"{length >> 2}I{length & 3}s" * count), b"".join(keys))
    stride = (length >> 2) + 1
    state = lanes * (_SEED ^ length)
    for position in range(length >> 2):
        k = _lanes(columns[position::stride]) * _MULTIPLIER & low
        k = (k ^ (k >> 24 & low)) * _MULTIPLIER & low
        state = (state * _MULTIPLIER & low) ^ k
    if length & 3:
        tails = b"".join(tail.ljust(8, b"\0") for tail in columns[stride - 1 :: stride])
        state = (state ^ int.from_bytes(tails, "little")) * _MULTIPLIER & low
    state = (state ^ (state >> 13 & lanes * (_MASK >> 13))) * _MULTIPLIER & low
    state ^= state >> 15 & lanes * (_MASK >> 15)
    return unpack(f"<{count}Q", state.to_bytes(8 * count, "little"))


def _lanes(words: Sequence[int]) -> int:
    from array import array  # noqa: PLC0415 - for bulk loads only

    column = array("Q", words)
    return int.from_bytes(column.tobytes(), "little")


@lru_cache(maxsize=16_384)
def partition_for_key(key: bytes, partitions: int) -> int:
    """The partition every record with this key goes to."""
    return (murmur2(key) & _POSITIVE) % partitions


def partitions_for_keys(keys: Sequence[bytes], partitions: int) -> Sequence[int]:
    """``partition_for_key`` of many."""
    lengths = set(map(len, keys))
    if len(keys) < _LANES_MIN or len(lengths) > len(keys) // _LANES_MIN:
        return [partition_for_key(key, partitions) for key in keys]
    if len(lengths) == 1:
        return [(value & _POSITIVE) % partitions for value in murmur2_all(keys, lengths.pop())]
    found = [0] * len(keys)
    for length in lengths:
        positions = [position for position, key in enumerate(keys) if len(key) == length]
        hashes = murmur2_all([keys[position] for position in positions], length)
        for position, value in zip(positions, hashes, strict=True):
            found[position] = (value & _POSITIVE) % partitions
    return found


def default(_topic: str, key: bytes | None, partitions: int) -> int | None:
    """As Java's client: murmur2 of the key, sticky without one."""
    return None if key is None else partition_for_key(key, partitions)


def _sticky(_topic: str, _key: bytes | None, _partitions: int) -> int | None:
    return None


def _murmur2(_topic: str, key: bytes | None, partitions: int) -> int | None:
    return partition_for_key(key or b"", partitions)


def _consistent(_topic: str, key: bytes | None, partitions: int) -> int | None:
    return crc32(key or b"") % partitions


def _consistent_random(_topic: str, key: bytes | None, partitions: int) -> int | None:
    return crc32(key) % partitions if key else None


def _fnv1a(_topic: str, key: bytes | None, partitions: int) -> int | None:
    state = _FNV_OFFSET
    for byte in key or b"":
        state = (state ^ byte) * _FNV_PRIME & _MASK
    # The absolute value of a signed number, as librdkafka and Sarama have it.
    return (state if state <= _POSITIVE else (1 << 32) - state) % partitions


def _fnv1a_random(topic: str, key: bytes | None, partitions: int) -> int | None:
    return None if key is None else _fnv1a(topic, key, partitions)


class _RoundRobin:
    """Each record to the next partition, whatever its key."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def partition(self, topic: str, _key: bytes | None, partitions: int) -> int:
        chosen = self._next.get(topic, 0) % partitions
        self._next[topic] = chosen + 1
        return chosen


_BY_NAME: Final[dict[str, PartitionFunction]] = {
    "default": default,
    "sticky": _sticky,
    "murmur2": _murmur2,
    "murmur2_random": default,
    "consistent": _consistent,
    "consistent_random": _consistent_random,
    "fnv1a": _fnv1a,
    "fnv1a_random": _fnv1a_random,
}


STICKING: Final = frozenset({default, _sticky, _consistent_random, _fnv1a_random})
"""Those that leave every record without a key to the sticky choice."""


def partition_function(
    partitioner: PartitionerName | PartitionFunction | Partitioner, rng: Random
) -> PartitionFunction:
    """The function behind a name, an object or itself. Raises ``ValueError`` for a name nobody knows."""
    if not isinstance(partitioner, str):
        return partitioner if callable(partitioner) else partitioner.partition
    if partitioner == "random":
        return lambda _topic, _key, partitions: rng.randrange(partitions)
    if partitioner == "round_robin":
        return _RoundRobin().partition
    try:
        return _BY_NAME[partitioner]
    except KeyError:
        names = ", ".join([*_BY_NAME, "random", "round_robin"])
        raise ValueError(f"there is no partitioner {partitioner!r}; there are {names}") from None


class StickyChoice:
    """One topic's partition for records without a key, kept for ``batch_bytes``."""

    __slots__ = ("_batch_bytes", "_left", "_rng", "current")

    def __init__(self, rng: Random, batch_bytes: int) -> None:
        self._rng = rng
        self._batch_bytes = batch_bytes
        self._left = 0
        self.current = -1

    @property
    def used_up(self) -> bool:
        """Whether it is time for another partition."""
        return self._left <= self._batch_bytes >> 3

    def spend(self, size: int) -> None:
        """So many bytes went to the current partition."""
        self._left -= size

    def move_on(self, weights: Sequence[int]) -> None:
        """Choose another partition, likelier the larger its weight; zero is for those that cannot be reached."""
        sums = list(accumulate(weights))
        total = sums[-1]
        previous = self.current
        for _ in range(2):
            self.current = bisect_right(sums, self._rng.randrange(total)) if total else self._rng.randrange(len(sums))
            if self.current != previous:
                break
        self._left = self._batch_bytes


def load_weights(loads: Sequence[int], reachable: Sequence[bool]) -> list[int]:
    """Weights by how many batches wait for each partition: the fuller, the unlikelier (KIP-794)."""
    most = max((load for load, here in zip(loads, reachable, strict=True) if here), default=0) + 1
    return [most - load if here else 0 for load, here in zip(loads, reachable, strict=True)]

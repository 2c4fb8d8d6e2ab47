"""Which partition: Java's and librdkafka's choices, stickiness, weights."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.client._partitioner import (
    StickyChoice,
    load_weights,
    murmur2,
    murmur2_all,
    partition_for_key,
    partition_function,
    partitions_for_keys,
)

# Computed with Utils.murmur2 of kafka-clients 4.3.1.
MURMUR2 = [
    ("", 275646681),
    ("a", 2731586172),
    ("ab", 316155434),
    ("abc", 479470107),
    ("abcd", 2971317748),
    ("abcde", 461995741),
    ("hello world", 1221641059),
    ("ümläut", 3248643089),
    ("0123456789abcdef", 1438427052),
]


@pytest.mark.parametrize(("text", "value"), MURMUR2)
def test_murmur2_is_javas(text: str, value: int) -> None:
    assert murmur2(text.encode()) == value
    assert list(murmur2_all([text.encode()] * 3, len(text.encode()))) == [value] * 3


@given(st.lists(st.binary(max_size=40), max_size=80), st.integers(1, 50))
def test_many_keys_go_where_each_would(keys: list[bytes], partitions: int) -> None:
    assert list(partitions_for_keys(keys, partitions)) == [partition_for_key(key, partitions) for key in keys]


@given(st.integers(0, 24), st.data())
def test_keys_hashed_side_by_side_are_hashed_alike(length: int, data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.binary(min_size=length, max_size=length), min_size=1, max_size=40))
    assert list(murmur2_all(keys, length)) == [murmur2(key) for key in keys]


def choices(sticky: StickyChoice, weights: list[int], size: int, count: int) -> list[int]:
    chosen = []
    for _ in range(count):
        if sticky.used_up:
            sticky.move_on(weights)
        chosen.append(sticky.current)
        sticky.spend(size)
    return chosen


def test_sticky_until_a_batch_is_full() -> None:
    chosen = choices(StickyChoice(Random(1), 100), [1, 1, 1, 1], 30, 6)
    assert chosen[:3] == [chosen[0]] * 3
    assert chosen[3:] == [chosen[3]] * 3
    assert chosen[0] != chosen[3]


def test_a_partition_that_lags_behind_is_chosen_less() -> None:
    weights = load_weights([9, 0, 0], [True, True, False])
    assert weights == [1, 10, 0]
    chosen = choices(StickyChoice(Random(2), 1), weights, 1, 200)
    assert chosen.count(2) == 0
    assert chosen.count(1) > chosen.count(0)


def test_nobody_reachable_is_no_reason_to_stop() -> None:
    assert choices(StickyChoice(Random(3), 1), [0, 0], 1, 1)[0] in (0, 1)


def test_names_functions_and_objects() -> None:
    class Last:
        def partition(self, _topic: str, _key: bytes | None, partitions: int) -> int:
            return partitions - 1

    rng = Random(4)
    assert partition_function(Last(), rng)("t", None, 7) == 6
    assert partition_function(lambda _topic, _key, _partitions: 3, rng)("t", b"k", 7) == 3
    assert [partition_function("round_robin", rng)("t", None, 3) for _ in range(1)] == [0]
    assert partition_function("default", rng)("t", None, 3) is None
    assert partition_function("consistent_random", rng)("t", b"", 3) is None
    assert partition_function("random", rng)("t", b"x", 1) == 0
    with pytest.raises(ValueError, match="no partitioner 'murmur3'"):
        partition_function("murmur3", rng)  # type: ignore[arg-type]  # the mistake under test

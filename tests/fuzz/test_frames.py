"""The frame fuzzer on a budget: golden frames, mutated by hypothesis."""

from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.fuzzing import INPUT_BYTES_MAX, load
from harness.mutations import MUTATIONS, mutate

SOURCE = Path(__file__).with_name("fuzz_frames.py")


@pytest.fixture(scope="module")
def fuzzer() -> ModuleType:
    return load(SOURCE)


@pytest.fixture(scope="module")
def corpus(fuzzer: ModuleType) -> list[bytes]:
    return list(fuzzer.seeds())


def test_the_corpus_itself_passes(fuzzer: ModuleType, corpus: list[bytes]) -> None:
    for seed in corpus:
        fuzzer.one_input(seed)


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, 1 << 20), changes=MUTATIONS)
def test_mutated_frames(
    fuzzer: ModuleType, corpus: list[bytes], number: int, changes: list[tuple[str, int, int | bytes]]
) -> None:
    data = bytearray(corpus[number % len(corpus)])
    for change in changes:
        mutate(data, *change)
    fuzzer.one_input(bytes(data))


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(min_size=4, max_size=200))
def test_random_bytes(fuzzer: ModuleType, data: bytes) -> None:
    fuzzer.one_input(data)


@pytest.mark.parametrize("filler", [b"\x00", b"\x01", b"\x02\x00", b"\xff"])
def test_large_inputs_stay_within_the_bounds(fuzzer: ModuleType, filler: bytes) -> None:
    """Each message in its last version, asked to hold as many elements as 64 KiB of repeated bytes can claim."""
    for number, cls in enumerate(fuzzer.CLASSES):
        head = b"\1" + number.to_bytes(2) + bytes([cls.HIGHEST_VERSION - cls.LOWEST_VERSION])
        fuzzer.one_input((head + b"\xff\xff\x03" + filler * INPUT_BYTES_MAX)[:INPUT_BYTES_MAX])

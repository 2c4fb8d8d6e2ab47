"""The fuzzer of what is read out of logs, on a budget."""

from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.fuzzing import load
from harness.mutations import MUTATIONS, mutate

SOURCE = Path(__file__).with_name("fuzz_records.py")


@pytest.fixture(scope="module")
def fuzzer() -> ModuleType:
    return load(SOURCE)


@pytest.fixture(scope="module")
def corpus(fuzzer: ModuleType) -> list[bytes]:
    return list(fuzzer.seeds())


def test_the_corpus_itself_passes(fuzzer: ModuleType, corpus: list[bytes]) -> None:
    assert {seed[0] for seed in corpus} == set(range(len(fuzzer.PARSERS)))
    for seed in corpus:
        fuzzer.one_input(seed)


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, 1 << 20), changes=MUTATIONS)
def test_mutated_records(
    fuzzer: ModuleType, corpus: list[bytes], number: int, changes: list[tuple[str, int, int | bytes]]
) -> None:
    data = bytearray(corpus[number % len(corpus)])
    for change in changes:
        mutate(data, *change, kept=1)
    fuzzer.one_input(bytes(data))


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(parser=st.integers(0, 4), data=st.binary(max_size=200))
def test_random_bytes(fuzzer: ModuleType, parser: int, data: bytes) -> None:
    fuzzer.one_input(bytes([parser]) + data)

"""Records written in runs are, byte for byte, what writing them one by one gives."""

from hypothesis import given
from hypothesis import strategies as st

from ottla.records.builder import BatchBuilder

FIELD = st.none() | st.binary(max_size=140)
RUN = st.tuples(st.integers(-(2**40), 2**40), st.booleans(), st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=90))


@given(st.lists(RUN, min_size=1, max_size=4))
def test_runs_are_the_same_bytes(runs: list[tuple[int, bool, list[tuple[bytes | None, bytes | None]]]]) -> None:
    one_by_one, in_runs = BatchBuilder(), BatchBuilder()
    for timestamp, keyless, records in runs:
        keys = None if keyless else [key for key, _ in records]
        for key, value in records:
            one_by_one.append(timestamp, None if keyless else key, value)
        in_runs.extend(timestamp, keys, [value for _, value in records])
    assert in_runs.build() == one_by_one.build()
    assert in_runs.count == one_by_one.count


def test_every_width_of_the_offset() -> None:
    one_by_one, in_runs = BatchBuilder(), BatchBuilder()
    values = [b"x" * (number % 3) for number in range(20_000)]
    for value in values:
        one_by_one.append(5, None, value)
    in_runs.extend(5, None, values[:60])
    in_runs.extend(5, None, values[60:])
    assert in_runs.build() == one_by_one.build()

"""Ways to damage an input, for hypothesis to choose from."""

from __future__ import annotations

from hypothesis import strategies as st

MUTATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 1 << 16), st.integers(0, 255)),
        st.tuples(st.just("cut"), st.integers(0, 1 << 16), st.integers(0, 64)),
        st.tuples(st.just("double"), st.integers(0, 1 << 16), st.integers(0, 64)),
        st.tuples(
            st.just("lie"), st.integers(0, 1 << 16), st.sampled_from([b"\x7f\xff\xff\xff", b"\xff" * 4 + b"\x0f"])
        ),
    ),
    min_size=1,
    max_size=4,
)


def mutate(data: bytearray, kind: str, where: int, what: int | bytes, *, kept: int = 4) -> None:
    """Change ``data`` somewhere behind its first ``kept`` bytes."""
    position = min(kept, len(data)) + where % max(len(data) - kept, 1)
    if isinstance(what, bytes):
        data[position : position + 4] = what
    elif kind == "set":
        data[position : position + 1] = bytes([what])
    elif kind == "cut":
        del data[position : position + what]
    else:
        data[position:position] = data[position : position + what]

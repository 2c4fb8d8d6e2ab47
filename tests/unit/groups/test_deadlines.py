"""Deadlines come out in order and never early, whatever was moved or cancelled; extending one costs no heap work."""

from hypothesis import given
from hypothesis import strategies as st

from ottla.groups.deadlines import Deadlines

KEYS = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("schedule"), KEYS, st.integers(0, 100)),
        st.tuples(st.just("cancel"), KEYS, st.just(0)),
        st.tuples(st.just("pop"), st.just(0), st.integers(0, 100)),
    ),
    max_size=60,
)


@given(STEPS)
def test_behaves_like_a_dictionary_of_times(steps):
    deadlines, model, now = Deadlines(), {}, 0
    for what, key, value in steps:
        if what == "schedule":
            deadlines.schedule(key, now + value)
            model[key] = now + value
        elif what == "cancel":
            deadlines.cancel(key)
            model.pop(key, None)
        else:
            now += value
            while (popped := deadlines.pop(now)) is not None:
                assert model.pop(popped) <= now
            assert all(at > now for at in model.values())
        lower = deadlines.next()
        assert (lower is None) == (not model)
        assert lower is None or lower <= min(model.values())
        assert len(deadlines) == len(model)


def test_extending_does_not_grow_the_heap():
    deadlines = Deadlines()
    for now in range(10_000):
        deadlines.schedule("member", now + 30_000)
    assert len(deadlines._heap) == 1
    assert deadlines.pop(29_999) is None
    assert deadlines.pop(39_999) == "member"


def test_earlier_comes_at_its_new_time():
    deadlines = Deadlines()
    deadlines.schedule("a", 100)
    deadlines.schedule("b", 50)
    deadlines.schedule("a", 10)
    assert deadlines.next() == 10
    assert [deadlines.pop(60), deadlines.pop(60), deadlines.pop(60)] == ["a", "b", None]
    assert deadlines.pop(1_000) is None

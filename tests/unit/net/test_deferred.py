import pytest

from ottla.net.deferred import Deferred, all_of


def refuse(value):
    raise AssertionError(value)


@pytest.mark.parametrize("listens_first", [True, False])
def test_the_listener_hears_once(listens_first):
    heard = []
    value: Deferred[int] = Deferred()
    if listens_first:
        value.then(heard.append, refuse)
        assert not value.is_over
        value.set(7)
    else:
        value.set(7)
        value.then(heard.append, refuse)
    assert heard == [7]
    assert value.is_over


@pytest.mark.parametrize("listens_first", [True, False])
def test_an_error_goes_to_the_other_ear(listens_first):
    heard = []
    value: Deferred[int] = Deferred()
    error = OSError("gone")
    if listens_first:
        value.then(refuse, heard.append)
        value.fail(error)
    else:
        value.fail(error)
        value.then(refuse, heard.append)
    assert heard == [error]


def test_a_second_end_or_listener_is_our_bug():
    value: Deferred[int] = Deferred()
    value.set(1)
    value.then(lambda _: None, refuse)
    with pytest.raises(AssertionError):
        value.set(2)
    with pytest.raises(AssertionError):
        value.fail(OSError())
    with pytest.raises(AssertionError):
        value.then(lambda _: None, refuse)


def test_map_changes_recovers_and_fails():
    def outcome(deferred):
        heard = []
        deferred.then(heard.append, heard.append)
        return heard[0]

    value: Deferred[int] = Deferred()
    changed = value.map(lambda number: 10 // number)
    value.set(5)
    assert outcome(changed) == 2

    zero: Deferred[int] = Deferred()
    failed = zero.map(lambda number: 10 // number)
    zero.set(0)
    assert isinstance(outcome(failed), ZeroDivisionError)

    again: Deferred[int] = Deferred()
    recovered = again.map(lambda number: 10 // number, lambda error: -1)
    again.set(0)
    assert outcome(recovered) == -1

    lost: Deferred[int] = Deferred()
    changed = lost.map(str, lambda error: f"{error}!")
    lost.fail(OSError("gone"))
    assert outcome(changed) == "gone!"


def test_all_of_comes_with_the_last_in_the_order_of_the_parts():
    heard = []
    parts: list[Deferred[str]] = [Deferred() for _ in range(3)]
    parts[1].set("b")
    all_of(parts).then(heard.append, refuse)
    parts[2].set("c")
    assert heard == []
    parts[0].set("a")
    assert heard == [["a", "b", "c"]]
    assert all_of([]).is_over


def test_the_first_error_fails_the_whole_of_it():
    heard = []
    parts: list[Deferred[str]] = [Deferred() for _ in range(3)]
    all_of(parts).then(refuse, heard.append)
    first, second = OSError("first"), OSError("second")
    parts[2].fail(first)
    parts[0].fail(second)
    parts[1].set("b")
    assert heard == [first]

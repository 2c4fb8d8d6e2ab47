"""Purgatory wakes exactly those whose offset has been passed, in order, once."""

from hypothesis import given
from hypothesis import strategies as st

from ottla.broker.waiters import DataWaiters, OffsetWaiters
from ottla.wire.errors import ErrorCode, KafkaError


@given(st.lists(st.integers(0, 50)), st.lists(st.integers(0, 60)))
def test_offset_waiters_wake_once_and_in_offset_order(offsets: list[int], advances: list[int]) -> None:
    waiters = OffsetWaiters()
    woken: list[int] = []
    for offset in offsets:
        waiters.add(offset, lambda error, offset=offset: woken.append(offset))  # type: ignore[misc]
    reached = -1
    for advance in advances:
        before = len(woken)
        waiters.advance(advance)
        assert woken[before:] == sorted(woken[before:])
        reached = max(reached, advance)
        assert sorted(woken) == sorted(offset for offset in offsets if offset <= reached)
    assert len(waiters) == len(offsets) - len(woken)


def test_failing_tells_everybody_and_empties() -> None:
    waiters = OffsetWaiters()
    seen: list[KafkaError | None] = []
    waiters.add(5, seen.append)
    waiters.add(9, seen.append)
    error = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "gone")
    waiters.fail(error)
    waiters.advance(100)
    assert seen == [error, error]


class Fetching:
    def __init__(self, waiters: DataWaiters, *, leaves: bool) -> None:
        self.told: list[object] = []
        self.waiters, self.leaves = waiters, leaves
        waiters.add(self)

    def advanced(self, visible_bytes: int) -> None:
        self.told.append(visible_bytes)
        if self.leaves:
            self.waiters.discard(self)

    def foreseen(self) -> None:
        self.told.append("soon")


def test_data_waiters_may_leave_while_they_are_told() -> None:
    waiters = DataWaiters()
    one, other = Fetching(waiters, leaves=True), Fetching(waiters, leaves=False)
    waiters.announce()
    waiters.notify(10)
    waiters.announce()
    waiters.notify(20)
    assert one.told == ["soon", 10]
    assert other.told == ["soon", 10, "soon", 20]

"""A value that comes later, handed on in the very call that sets it.

A future wakes whoever waits for it in the next turn of the loop, and a coroutine that waits needs a task. On the way of
an acknowledgement from the disk to the socket that would be three turns and a task for each request.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from msgspec import Struct

ValueT = TypeVar("ValueT")
OtherT = TypeVar("OtherT")


class Deferred(Struct, Generic[ValueT], eq=False):
    """Ends once, by ``set`` or ``fail``, and tells its one listener, given by ``then`` before or after. Belongs to the
    loop; what a listener raises reaches whoever ends it."""

    _on_value: Callable[[ValueT], None] | None = None
    _on_error: Callable[[Exception], None] | None = None
    _outcome: tuple[ValueT] | Exception | None = None

    def __repr__(self) -> str:
        return f"<Deferred {'over' if self.is_over else 'open'}>"

    @property
    def is_over(self) -> bool:
        return self._outcome is not None

    def set(self, value: ValueT) -> None:
        assert self._outcome is None, "a deferred value ends once"
        self._outcome = (value,)
        if self._on_value is not None:
            self._on_value(value)

    def fail(self, error: Exception) -> None:
        assert self._outcome is None, "a deferred value ends once"
        self._outcome = error
        if self._on_error is not None:
            self._on_error(error)

    def then(self, on_value: Callable[[ValueT], None], on_error: Callable[[Exception], None]) -> None:
        assert self._on_value is None, "a deferred value has one listener"
        self._on_value, self._on_error = on_value, on_error
        outcome = self._outcome
        if outcome is None:
            return
        if isinstance(outcome, Exception):
            on_error(outcome)
        else:
            on_value(outcome[0])

    def future(self) -> "asyncio.Future[ValueT]":
        """For a coroutine that has to wait."""
        future: asyncio.Future[ValueT] = asyncio.get_running_loop().create_future()

        def on_value(value: ValueT) -> None:
            if not future.done():
                future.set_result(value)

        def on_error(error: Exception) -> None:
            if not future.done():
                future.set_exception(error)
                future.exception()  # whoever waited may be gone, and leaves nobody to look at it

        self.then(on_value, on_error)
        return future

    def map(
        self, change: Callable[[ValueT], OtherT], recover: Callable[[Exception], OtherT] | None = None
    ) -> "Deferred[OtherT]":
        """What ``change`` makes of the value, and ``recover`` of an error. What they raise fails the result."""
        result: Deferred[OtherT] = Deferred()

        def on_value(value: ValueT) -> None:
            try:
                changed = change(value)
            except Exception as error:
                on_error(error)
            else:
                result.set(changed)

        def on_error(error: Exception) -> None:
            if recover is None:
                result.fail(error)
                return
            try:
                recovered = recover(error)
            except Exception as raised:
                result.fail(raised)
            else:
                result.set(recovered)

        self.then(on_value, on_error)
        return result


def all_of(parts: Sequence[Deferred[ValueT]]) -> Deferred[list[ValueT]]:
    """The values of all parts in their order, with the last of them; the first error fails the whole."""
    whole: Deferred[list[ValueT]] = Deferred()
    values: dict[int, ValueT] = {}

    def on_value(index: int, value: ValueT) -> None:
        values[index] = value
        if len(values) == len(parts):
            whole.set([values[place] for place in range(len(parts))])

    def on_error(error: Exception) -> None:
        if not whole.is_over:
            whole.fail(error)

    for index, part in enumerate(parts):
        part.then(partial(on_value, index), on_error)
    if not parts:
        whole.set([])
    return whole

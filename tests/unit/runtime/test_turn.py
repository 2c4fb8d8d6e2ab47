"""What is left for the end of a turn runs once, in order, in that turn, whatever the rest of it does."""

import asyncio

import pytest

from ottla.runtime.loop import run
from ottla.runtime.turn import of_running_loop


def test_callbacks_run_after_the_turn_and_before_the_next() -> None:
    seen: list[str] = []

    async def main() -> None:
        turn = of_running_loop()

        def callback() -> None:
            turn.at_end(lambda: seen.append("first"))
            turn.at_end(lambda: turn.at_end(lambda: seen.append("left by the end itself")))
            turn.run(lambda: seen.append("nested"))
            asyncio.get_running_loop().call_soon(seen.append, "next turn")
            seen.append("turn")

        turn.run(callback)
        seen.append("returned")
        await asyncio.sleep(0)

    run(main())
    assert seen == ["nested", "turn", "first", "left by the end itself", "returned", "next turn"]


def test_outside_of_a_turn_they_wait_for_the_next() -> None:
    seen: list[str] = []

    async def main() -> None:
        turn = of_running_loop()
        assert of_running_loop() is turn
        turn.at_end(lambda: seen.append("a"))
        turn.at_end(lambda: seen.append("b"))
        seen.append("here")
        await asyncio.sleep(0)
        turn.at_end(lambda: seen.append("c"))
        turn.run(lambda: seen.append("run"))
        await asyncio.sleep(0)

    run(main())
    assert seen == ["here", "a", "b", "run", "c"]


def test_an_error_ends_nothing_but_its_own_callback() -> None:
    seen: list[str] = []
    errors: list[object] = []

    def fail() -> None:
        raise ValueError("of the end")

    def callback() -> None:
        of_running_loop().at_end(fail)
        of_running_loop().at_end(lambda: seen.append("after an error"))
        raise KeyError("of the turn")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
        with pytest.raises(KeyError, match="of the turn"):
            of_running_loop().run(callback)
        of_running_loop().run(lambda: seen.append("another turn"))

    run(main())
    assert seen == ["after an error", "another turn"]
    assert [str(error) for error in errors] == ["of the end"]


def test_each_loop_has_its_own() -> None:
    async def main() -> object:
        return of_running_loop()

    first, second = (run(main()) for _ in range(2))
    assert first is not second
    with pytest.raises(RuntimeError):
        of_running_loop()

"""Tasks are owned: failures are reported once, cancellation is quiet, stopping leaves nothing running."""

import asyncio

import pytest

from ottla.runtime.supervisor import Supervisor


def test_a_crashing_task_is_the_failure_of_the_node() -> None:
    async def main() -> None:
        supervisor = Supervisor()

        async def crash() -> None:
            raise RuntimeError("bug")

        supervisor.spawn(crash(), name="crash")
        error = await asyncio.wait_for(supervisor.failure, 1)
        assert isinstance(error, RuntimeError)
        await supervisor.stop()

    asyncio.run(main())


def test_a_finished_or_cancelled_task_is_no_failure() -> None:
    async def main() -> None:
        supervisor = Supervisor()
        supervisor.spawn(asyncio.sleep(0), name="short")
        supervisor.spawn(asyncio.sleep(60), name="long").cancel()
        await asyncio.sleep(0.01)
        assert not supervisor.failure.done()
        await supervisor.stop()

    asyncio.run(main())


def test_stop_cancels_and_waits_and_does_not_call_cancellation_errors_failures() -> None:
    async def main() -> None:
        supervisor = Supervisor()
        ended = []

        async def stubborn() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.01)
                ended.append(True)
                raise ValueError("while stopping")

        task = supervisor.spawn(stubborn(), name="stubborn")
        await asyncio.sleep(0)
        await supervisor.stop()
        assert ended == [True]
        assert task.done()
        assert not supervisor.failure.done()

    asyncio.run(main())


@pytest.mark.parametrize("count", [1, 3])
def test_only_the_first_failure_is_kept(count: int) -> None:
    async def main() -> None:
        supervisor = Supervisor()
        for number in range(count):
            supervisor.fail(ValueError(number))
        assert str(await supervisor.failure) == "0"

    asyncio.run(main())

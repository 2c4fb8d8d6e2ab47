"""Futures that a callback ends, and events that need not come."""

import asyncio


def settle(future: "asyncio.Future[None]", error: Exception | None) -> None:
    """End ``future`` with ``error``, or without one; whoever waited may have given up meanwhile."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Until ``event`` is set, or ``seconds`` have passed."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return

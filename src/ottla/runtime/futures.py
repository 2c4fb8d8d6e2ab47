"""Ending a future from a callback that is told an error, or ``None``."""

import asyncio


def settle(future: "asyncio.Future[None]", error: Exception | None) -> None:
    """End ``future`` with ``error``, or without one; whoever waited may have given up meanwhile."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)

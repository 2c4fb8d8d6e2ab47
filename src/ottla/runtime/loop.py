"""The event loop: uvloop where it is installed, asyncio's own everywhere else."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A fresh loop that supports ``add_reader``: the network layer works on bare sockets."""
    try:
        import uvloop  # noqa: PLC0415  (optional, and not worth its import where it is not used)
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end on a fresh loop."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)

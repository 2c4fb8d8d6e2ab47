"""The same clients for programs without an event loop: every method blocks until it is done.

    from ottla.client.sync import Consumer, Producer

    with Producer("localhost:9092") as producer:
        metadata = producer.send("orders", key=b"42", value=b"...")

Each client has a thread of its own, so it may be used from any thread, and in a notebook beside its running loop.
Everything that is not a client (records, errors, settings) is that of ``ottla.client``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ottla.client.sync._admin import Admin
    from ottla.client.sync._consumer import Consumer
    from ottla.client.sync._producer import Producer

__all__ = ["Admin", "Consumer", "Producer"]

_PLACES: Final = {"Admin": "_admin", "Consumer": "_consumer", "Producer": "_producer"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)

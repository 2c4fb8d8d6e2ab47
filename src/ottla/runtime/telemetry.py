"""Logging with keys: an event is a fixed phrase, what varies stands behind it as ``key=value``.

``get_logger(name).bind(node=1).info("log recovered", partition="orders-0", ms=12)`` prints
``log recovered node=1 partition=orders-0 ms=12``. Output goes through the standard ``logging`` package.
"""

import logging
from typing import Any


class EventLogger:
    """A standard logger with keys bound to it once."""

    __slots__ = ("_bound", "_logger")

    def __init__(self, logger: logging.Logger, bound: tuple[tuple[str, object], ...] = ()) -> None:
        self._logger = logger
        self._bound = bound

    def bind(self, **keys: object) -> "EventLogger":
        return EventLogger(self._logger, (*self._bound, *keys.items()))

    def debug(self, event: str, **keys: object) -> None:
        self._emit(logging.DEBUG, event, keys)

    def info(self, event: str, **keys: object) -> None:
        self._emit(logging.INFO, event, keys)

    def warning(self, event: str, **keys: object) -> None:
        self._emit(logging.WARNING, event, keys)

    def error(self, event: str, *, exc_info: BaseException | None = None, **keys: object) -> None:
        self._emit(logging.ERROR, event, keys, exc_info)

    def _emit(self, level: int, event: str, keys: dict[str, Any], exc_info: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            pairs = "".join(f" {key}={value}" for key, value in (*self._bound, *keys.items()))
            self._logger.log(level, "%s%s", event, pairs, exc_info=exc_info)


def get_logger(name: str) -> EventLogger:
    return EventLogger(logging.getLogger(name))


def log_to_stderr(level: str) -> None:
    """Send Ottla's log to stderr: stdout belongs to data."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s %(message)s"))
    root = logging.getLogger("ottla")
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False

"""The broker's loggers and their levels, as DescribeConfigs and IncrementalAlterConfigs name them (KIP-412)."""

import logging
from typing import Final

ROOT: Final = "root"
_OURS: Final = "ottla"
_TO_PYTHON: Final = {
    "TRACE": logging.DEBUG,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}


def logger_levels() -> dict[str, str]:
    """The level in force of every logger of this program, by name; ``root`` is the one above all."""
    names = sorted(name for name in logging.root.manager.loggerDict if name == _OURS or name.startswith(f"{_OURS}."))
    levels = {ROOT: _name(logging.getLogger(_OURS).getEffectiveLevel())}
    levels.update((name, _name(logging.getLogger(name).getEffectiveLevel())) for name in names)
    return levels


def is_level(text: str) -> bool:
    return text in _TO_PYTHON


def set_logger_level(name: str, level: str | None) -> None:
    """``None`` takes the logger's own level away again: it then has that of the logger above it."""
    logger = logging.getLogger(_OURS if name == ROOT else name)
    logger.setLevel(logging.NOTSET if level is None else _TO_PYTHON[level])


def _name(level: int) -> str:
    for name in ("DEBUG", "INFO", "WARN", "ERROR"):
        if level <= _TO_PYTHON[name]:
            return name
    return "FATAL"

"""What can go wrong with files. Errors that concern one partition or directory travel as KAFKA_STORAGE_ERROR."""

import errno
from typing import Final

from ottla.wire.errors import ErrorCode, KafkaError

NO_SPACE: Final = frozenset((errno.ENOSPC, errno.EDQUOT))
SHORTAGES: Final = NO_SPACE | {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors of a machine that has too little of something just now: nothing is known against the disk, and it may pass."""


class CorruptLogError(KafkaError):
    """Bytes that were durable are damaged: the partition goes offline, and nothing of it is cut or deleted."""

    def __init__(self, path: str, position: int, reason: str, *, durable_to: int | None = None) -> None:
        """``durable_to``: a recovery point found out by looking at the damage, where the checkpoint has none."""
        super().__init__(ErrorCode.KAFKA_STORAGE_ERROR, f"{path} is damaged at position {position}: {reason}")
        self.durable_to = durable_to
        self.path = path
        self.position = position
        self.reason = reason


class LogDirectoryError(Exception):
    """A log directory that a node must not start on: locked by another process, or not this node's."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"log directory {path}: {reason}")
        self.path = path
        self.reason = reason


class LogDirectoryFailed(LogDirectoryError):
    """The disk under a log directory failed, and the node cannot go on without it."""


def storage_error(message: str) -> KafkaError:
    return KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, message)

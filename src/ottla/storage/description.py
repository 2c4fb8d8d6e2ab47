"""What DescribeLogDirs tells of a node's log directories: their disks, and the logs in them."""

from msgspec import Struct

from ottla.model import TopicPartition, Uuid
from ottla.storage.log_store import LogStore


class LogSize(Struct, frozen=True, kw_only=True):
    """One partition in the description of a log directory. ``size`` in bytes."""

    topic_partition: TopicPartition
    size: int
    log_end_offset: int


class LogDirectoryDescription(Struct, frozen=True, kw_only=True):
    """What DescribeLogDirs tells. ``error`` is set, and the rest empty, where the directory is offline. Bytes."""

    path: str
    directory_id: Uuid
    error: str | None
    total_bytes: int
    usable_bytes: int
    cordoned: bool
    logs: tuple[LogSize, ...]


def describe_directories(store: LogStore) -> list[LogDirectoryDescription]:
    """Asks the file systems: blocking, any thread."""
    descriptions = []
    for directory in store.directories:
        total, usable = -1, -1
        logs: tuple[LogSize, ...] = ()
        error = str(directory.failure) if directory.failure is not None else None
        if error is None:
            try:
                total, usable = store.disk.usage(directory.path)
            except OSError as failure:
                error = str(failure)
            else:
                logs = tuple(
                    LogSize(topic_partition=log.topic_partition, size=log.size, log_end_offset=log.log_end_offset)
                    for log in store.logs_in(directory)
                )
        descriptions.append(
            LogDirectoryDescription(
                path=directory.path,
                directory_id=directory.directory_id,
                error=error,
                total_bytes=total,
                usable_bytes=usable,
                cordoned=directory.path in store.cordoned,
                logs=logs,
            )
        )
    return descriptions

"""Replicas on their way to another log directory: ``<topic>-<p>.<32 hex>-future``, as Kafka names them (KIP-113).

A future log is filled by one worker thread at a time while the current one serves. When it has everything it gets the
partition's own name, made durable, while the current one still has that name in its directory; only then does the
current one become ``-delete``. Whenever power is lost in between, both are found at the next start, and the longer one
is the one that served last: ``LogStore`` keeps that.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ottla.config.log import LogConfig
from ottla.model import TopicPartition
from ottla.runtime.telemetry import get_logger
from ottla.storage.checkpoints import MalformedFile, read_topic_id, write_topic_id
from ottla.storage.errors import storage_error
from ottla.storage.log import Log
from ottla.storage.log_directory import LogDirectory
from ottla.storage.names import FUTURE_DIRECTORY_SUFFIX, PARTITION_METADATA
from ottla.wire.errors import KafkaError

if TYPE_CHECKING:
    from ottla.storage.log_store import LogStore

_log = get_logger("ottla.storage.store")


class FutureLogs:
    """The future logs of a node, by partition: at most one each. Methods belong to the loop's thread but ``fill`` and
    ``move_in``."""

    def __init__(self, store: "LogStore") -> None:
        self._store = store
        self.logs: dict[TopicPartition, Log] = {}

    def in_directory(self, path: str) -> list[Log]:
        return [log for log in tuple(self.logs.values()) if log.log_directory == path]

    def load(
        self,
        directory: LogDirectory,
        path: str,
        topic_partition: TopicPartition,
        config_of: Callable[[str], LogConfig],
        now_ms: int,
    ) -> None:
        """Open one that the last run left. One that cannot be opened is left alone: the current log has everything."""
        try:
            topic_id = read_topic_id(self._store.disk, path)
            log = Log.open(
                path,
                topic_partition,
                config_of(topic_partition.topic),
                disk=self._store.disk,
                now_ms=now_ms,
                clean_shutdown=directory.clean_shutdown,
                recovery_point=directory.recovery_points.get(topic_partition, 0),
                recovery_point_known=directory.recovery_points_known,
                log_start_offset=directory.log_starts.get(topic_partition, 0),
            )
        except (KafkaError, MalformedFile) as error:
            _log.error("a future log cannot be opened", path=path, reason=error)
            return
        log.topic_id = topic_id
        log.events = self
        self.logs[topic_partition] = log

    def cut_back(self, now_ms: int) -> dict[str, OSError]:
        """What a log lost in a crash its future log must not keep: other records will have those offsets. At the start,
        before anything is appended; returns which log directories failed."""
        failed = {}
        for topic_partition, future in self.logs.items():
            current = self._store.logs.get(topic_partition)
            if current is None or future.log_end_offset <= current.log_end_offset:
                continue
            try:
                future.truncate_to(current.log_end_offset, now_ms)
            except OSError as error:
                failed[future.log_directory] = error
        return failed

    def create(self, current: Log, directory: LogDirectory, start_offset: int, *, now_ms: int) -> Log:
        """An empty log that begins at ``start_offset``. Raises ``KafkaError(KAFKA_STORAGE_ERROR)``."""
        assert current.topic_id is not None
        disk, topic_partition = self._store.disk, current.topic_partition
        path = os.path.join(directory.path, self._store.marked(topic_partition, FUTURE_DIRECTORY_SUFFIX))
        try:
            disk.make_directory(path)
            write_topic_id(disk, path, current.topic_id, durable=False)
            log = Log.open(
                path, topic_partition, current.config, disk=disk, now_ms=now_ms, log_start_offset=start_offset
            )
        except OSError as error:
            raise storage_error(f"{topic_partition} could not be created in {directory.path}: {error}") from error
        log.topic_id = current.topic_id
        log.events = self
        log.note_created(os.path.join(path, PARTITION_METADATA))
        self.logs[topic_partition] = log
        return log

    def move_in(self, log: Log) -> None:
        """Give the future log the partition's name, durably. Blocking, in the thread that fills it. Raises
        ``OSError``."""
        target = os.path.join(log.log_directory, str(log.topic_partition))
        self._store.disk.rename(log.directory, target)
        log.moved(target)
        self._store.disk.sync_directory(log.log_directory)

    def replace(self, log: Log, *, now_ms: int) -> None:
        """From now on the future log is the partition's, and the one that was is to be deleted."""
        assert log.directory == os.path.join(log.log_directory, str(log.topic_partition))
        self.logs.pop(log.topic_partition, None)
        self._store.replace(log, now_ms=now_ms)

    # What the logs tell, from whatever thread fills them --------------------------------------------------------------

    def log_rolled(self, log: Log) -> None:
        """Who fills it flushes it."""

    def log_shrinking(self, log: Log) -> None:
        self._store.log_shrinking(log)

    def log_failed(self, log: Log, error: OSError) -> None:
        """Who fills it meets the error."""

    def discard(self, log: Log, *, now_ms: int) -> None:
        """Give a future log up that nobody fills any more: its files go as those of deleted topics do."""
        if self.logs.get(log.topic_partition) is log:
            del self.logs[log.topic_partition]
        try:
            self._store.condemn(log, now_ms=now_ms)
        except KafkaError as error:
            _log.error("a future log could not be removed", path=log.directory, reason=error)

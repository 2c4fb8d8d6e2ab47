"""One log directory of ``log.dirs``: its lock, its identity, its checkpoints, and whether it can still be trusted."""

import os
from collections.abc import Mapping
from random import Random
from threading import Lock

from ottla.model import TopicPartition, Uuid
from ottla.runtime.telemetry import get_logger
from ottla.storage.checkpoints import (
    MalformedFile,
    MetaProperties,
    read_meta_properties,
    read_offsets,
    take_clean_shutdown,
    write_clean_shutdown,
    write_meta_properties,
    write_offsets,
)
from ottla.storage.disk import Disk
from ottla.storage.errors import LogDirectoryError
from ottla.storage.names import (
    CLEANER_CHECKPOINT,
    HIGH_WATERMARK_CHECKPOINT,
    LOCK,
    LOG_START_CHECKPOINT,
    RECOVERY_POINT_CHECKPOINT,
)

_log = get_logger("ottla.storage.store")

RESERVED_DIRECTORY_IDS = 100


class LogDirectory:
    """An opened log directory. Locked until ``unlock``."""

    def __init__(self, disk: Disk, path: str) -> None:
        self.disk = disk
        self.path = path
        self.failure: OSError | None = None
        self.clean_shutdown = False
        self.broker_epoch = -1
        """The broker epoch in the mark of the last clean shutdown; -1 where there was none."""
        self.directory_id = Uuid.ZERO
        self.recovery_points: dict[TopicPartition, int] = {}
        self.recovery_points_known = True
        """False where there is a checkpoint of them that cannot be read: then any record may have been durable."""
        self.checkpointing = Lock()
        """Held while a checkpoint is put together and written: loop and worker threads both do."""
        self.log_starts: dict[TopicPartition, int] = {}
        self.high_watermarks: dict[TopicPartition, int] = {}
        self.clean_points: dict[TopicPartition, int] = {}
        """Up to where compacted logs are clean; kept up to date, unlike the others."""
        self._lock = -1

    @classmethod
    def open(cls, disk: Disk, path: str, *, cluster_id: str, node_id: int, rng: Random) -> "LogDirectory":
        """Lock the directory and read what it says of itself; a fresh one is formatted. Blocking.

        Raises ``LogDirectoryError`` where it is in use or belongs to another node, and ``OSError``.
        """
        directory = cls(disk, path)
        disk.make_directories(path)
        directory._take_lock()
        try:
            directory._identify(cluster_id, node_id, rng)
            directory._read_checkpoints()
            epoch = take_clean_shutdown(disk, path)
        except BaseException:
            directory.unlock()
            raise
        directory.clean_shutdown = epoch is not None
        directory.broker_epoch = -1 if epoch is None else epoch
        return directory

    @classmethod
    def offline(cls, disk: Disk, path: str, error: OSError) -> "LogDirectory":
        """One whose disk refused at the start: nothing is known of it but that the node should have it."""
        directory = cls(disk, path)
        directory.failure = error
        return directory

    def _take_lock(self) -> None:
        try:
            self._lock = self.disk.lock(self._file(LOCK))
        except BlockingIOError as error:
            raise LogDirectoryError(
                self.path, f"in use: {self._file(LOCK)} is locked by another process. Stop it, or choose another one."
            ) from error

    def _identify(self, cluster_id: str, node_id: int, rng: Random) -> None:
        try:
            properties = read_meta_properties(self.disk, self.path)
        except MalformedFile as error:
            raise LogDirectoryError(self.path, str(error)) from error
        if properties is not None:
            if properties.cluster_id != cluster_id:
                raise LogDirectoryError(
                    self.path, f"belongs to cluster {properties.cluster_id}, this node to {cluster_id}"
                )
            if properties.node_id != node_id:
                raise LogDirectoryError(self.path, f"belongs to node {properties.node_id}, this is node {node_id}")
            if properties.directory_id is not None:
                self.directory_id = properties.directory_id
                return
        self.directory_id = new_directory_id(rng)
        write_meta_properties(
            self.disk,
            self.path,
            MetaProperties(cluster_id=cluster_id, node_id=node_id, directory_id=self.directory_id),
        )

    def _read_checkpoints(self) -> None:
        recovery_points = self._offsets(RECOVERY_POINT_CHECKPOINT)
        self.recovery_points_known = recovery_points is not None
        self.recovery_points = recovery_points or {}
        self.log_starts = self._offsets(LOG_START_CHECKPOINT) or {}
        self.high_watermarks = self._offsets(HIGH_WATERMARK_CHECKPOINT) or {}
        self.clean_points = self._offsets(CLEANER_CHECKPOINT) or {}

    def _offsets(self, name: str) -> dict[TopicPartition, int] | None:
        """``None`` where there is a checkpoint that cannot be read.

        Without log start offsets logs begin with their first segment: deleted records may come back, none is lost.
        Without clean points logs are cleaned from their start.
        """
        try:
            return read_offsets(self.disk, self._file(name))
        except MalformedFile as error:
            _log.error("checkpoint unreadable", reason=error)
            return None

    def write_recovery_points(self, offsets: Mapping[TopicPartition, int]) -> None:
        write_offsets(self.disk, self._file(RECOVERY_POINT_CHECKPOINT), offsets)

    def write_log_starts(self, offsets: Mapping[TopicPartition, int]) -> None:
        write_offsets(self.disk, self._file(LOG_START_CHECKPOINT), offsets)

    def write_high_watermarks(self, offsets: Mapping[TopicPartition, int]) -> None:
        write_offsets(self.disk, self._file(HIGH_WATERMARK_CHECKPOINT), offsets)

    def write_clean_points(self) -> None:
        write_offsets(self.disk, self._file(CLEANER_CHECKPOINT), self.clean_points)

    def mark_clean_shutdown(self, broker_epoch: int) -> None:
        write_clean_shutdown(self.disk, self.path, broker_epoch)

    @property
    def locked(self) -> bool:
        """Whether it is still this process's to write to."""
        return self._lock >= 0

    def unlock(self) -> None:
        with self.checkpointing:
            if self._lock >= 0:
                self.disk.close(self._lock)
                self._lock = -1

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)


def new_directory_id(rng: Random) -> Uuid:
    """A random id that is none of the reserved ones, the first hundred of all."""
    while True:
        candidate = Uuid.random(rng)
        if int.from_bytes(candidate, "big") >= RESERVED_DIRECTORY_IDS:
            return candidate

"""All logs of a node, in all its log directories: opening, creating, deleting, ageing, checkpoints, failures.

``open`` locks the directories and reads their checkpoints; ``load`` then opens the logs, which needs the topics'
configuration and so comes after the metadata log. That one is not this store's; only its recovery point is kept here,
because one file holds those of a directory. A directory whose disk fails goes
offline with its logs; a partition whose files are damaged, or whose topic id cannot be read, goes offline alone and
stays as it is on the disk.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random, SystemRandom
from typing import Final, Self

from ottla.config.log import LogConfig
from ottla.model import TopicPartition, Uuid
from ottla.runtime.telemetry import get_logger
from ottla.storage.checkpoints import MalformedFile, read_topic_id, write_topic_id
from ottla.storage.disk import Disk
from ottla.storage.errors import SHORTAGES, CorruptLogError, LogDirectoryError, storage_error
from ottla.storage.future_logs import FutureLogs
from ottla.storage.log import Log
from ottla.storage.log_directory import LogDirectory
from ottla.storage.names import (
    CLUSTER_METADATA,
    DELETE_DIRECTORY_SUFFIX,
    FUTURE_DIRECTORY_SUFFIX,
    PARTITION_METADATA,
    STRAY_DIRECTORY_SUFFIX,
    marked_directory,
    parse_marked_directory,
    parse_partition_directory,
)
from ottla.wire.errors import KafkaError

_log = get_logger("ottla.storage.store")

FILE_DELETE_DELAY_MS_DEFAULT: Final = 60_000


def _check_directories(directories: Sequence[LogDirectory]) -> None:
    """Raises where there is nothing to go on with: one must be online, and no two may be taken for each other."""
    online = [directory for directory in directories if directory.failure is None]
    if not online and directories[0].failure is not None:
        raise directories[0].failure
    ids = [directory.directory_id for directory in online]
    for directory in online:
        if ids.count(directory.directory_id) > 1:
            raise LogDirectoryError(directory.path, f"shares the id {directory.directory_id} with another one")


class LogStore:
    """The logs by partition. Methods belong to the loop's thread; those that say so block and may run in another."""

    def __init__(
        self,
        disk: Disk,
        directories: Sequence[LogDirectory],
        rng: Random,
        metadata_directory: LogDirectory | None = None,
    ) -> None:
        self.disk = disk
        self.directories = tuple(directories)
        self.logs: dict[TopicPartition, Log] = {}
        """Those that serve."""
        self.offline_logs: dict[TopicPartition, KafkaError] = {}
        """Partitions that could not be opened, and why. Their files are left as they are."""
        self.recovery_threads = 1
        """Of each directory, where logs have to be checked (num.recovery.threads.per.data.dir)."""
        self.topic_id_of: Callable[[str], Uuid | None] = lambda _: None
        """What the metadata knows a topic as."""
        self.cordoned: frozenset[str] = frozenset()
        """Paths of the directories that get no new partitions, as long as there are others."""
        self.preferred_directories: dict[TopicPartition, str] = {}
        """Where the operator wants replicas that are not here yet."""
        self.on_directory_failed: Callable[[LogDirectory, OSError], None] | None = None
        self.on_rolled: Callable[[Log], None] | None = None
        """A segment was sealed: hand the log to ``GroupCommit.flush_soon``."""
        self.on_created: Callable[[Log], None] | None = None
        """A partition is new: its names are not durable yet."""
        self._rng = rng
        self._condemned: deque[tuple[int, str]] = deque()
        self._offline_in: dict[TopicPartition, LogDirectory] = {}
        self.metadata_directory = metadata_directory
        """Where the metadata log is: one of ``directories``, or one of its own, if it was asked for."""
        self._metadata_log: Log | None = None
        self.futures = FutureLogs(self)
        """Replicas on their way from one directory to another."""

    @classmethod
    def open(
        cls,
        directories: Sequence[str | Path],
        *,
        cluster_id: str,
        node_id: int,
        disk: Disk | None = None,
        rng: Random | None = None,
        metadata_directory: str | Path | None = None,
    ) -> Self:
        """Lock, format where fresh, read checkpoints. Blocking.

        ``metadata_directory`` (metadata.log.dir) is locked too, but holds no partitions unless it is among the others.
        A directory whose disk refuses is offline from the beginning, as one whose disk fails later is.

        Raises ``LogDirectoryError`` (in use, another node's) and ``OSError`` (the disk of the metadata log, or of
        every directory); then nothing stays locked.
        """
        disk = disk or Disk()
        rng = rng or SystemRandom()
        opened: list[LogDirectory] = []
        try:
            paths = [os.path.abspath(path) for path in directories]
            beside = None if metadata_directory is None else os.path.abspath(metadata_directory)
            for absolute in paths if beside is None or beside in paths else (*paths, beside):
                try:
                    opened.append(LogDirectory.open(disk, absolute, cluster_id=cluster_id, node_id=node_id, rng=rng))
                except OSError as error:
                    if absolute == beside:
                        raise
                    _log.error("log directory offline", path=absolute, reason=error)
                    opened.append(LogDirectory.offline(disk, absolute, error))
            _check_directories(opened[: len(paths)])
        except BaseException:
            for directory in opened:
                directory.unlock()
            raise
        return cls(
            disk,
            opened[: len(paths)],
            rng,
            next((directory for directory in opened if directory.path == beside), None),
        )

    # Loading ---------------------------------------------------------------------------------------------------------

    def load(self, config_of: Callable[[str], LogConfig], *, now_ms: int) -> None:
        """Open every log; ``config_of(topic)`` gives its configuration. Blocking; once, before anything else is
        called."""
        for directory in self._online():
            try:
                self._load_directory(directory, config_of, now_ms)
            except OSError as error:
                self.fail_directory(directory.path, error)
        for path, failure in self.futures.cut_back(now_ms).items():
            self.fail_directory(path, failure)

    def _load_directory(self, directory: LogDirectory, config_of: Callable[[str], LogConfig], now_ms: int) -> None:
        found: list[tuple[str, TopicPartition]] = []
        for entry in self.disk.entries(directory.path):
            path = os.path.join(directory.path, entry.name)
            if not entry.is_directory:
                continue
            marked = parse_marked_directory(entry.name)
            if marked is not None:
                replica = parse_partition_directory(marked[0])
                if marked[1] == DELETE_DIRECTORY_SUFFIX:
                    self._condemned.append((now_ms + FILE_DELETE_DELAY_MS_DEFAULT, path))
                elif marked[1] == FUTURE_DIRECTORY_SUFFIX and replica is not None:
                    self.futures.load(directory, path, replica, config_of, now_ms)
                continue
            topic_partition = parse_partition_directory(entry.name)
            if topic_partition is None:
                _log.warning("not a partition directory, left alone", path=path)
            elif topic_partition != CLUSTER_METADATA:
                found.append((path, topic_partition))
        cut = 0
        for (path, topic_partition), opened in zip(
            found, self._open_all(directory, found, config_of, now_ms), strict=True
        ):
            cut += self._take_in(directory, path, topic_partition, opened)
        stale = (directory.recovery_points.keys() | directory.log_starts.keys() | directory.clean_points.keys()) - {
            CLUSTER_METADATA
        }
        if cut or any(self._directory_of(partition) is not directory for partition in sorted(stale)):
            self._checkpoint(directory)

    def _open_all(
        self,
        directory: LogDirectory,
        found: Sequence[tuple[str, TopicPartition]],
        config_of: Callable[[str], LogConfig],
        now_ms: int,
    ) -> list[Log | KafkaError]:
        """Open the logs of a directory. What has to be checked is read by several threads, as disks like it."""

        def open_one(place: tuple[str, TopicPartition]) -> Log | KafkaError:
            path, topic_partition = place
            try:
                topic_id = self._topic_id(directory, path, topic_partition)
                log = Log.open(
                    path,
                    topic_partition,
                    config_of(topic_partition.topic),
                    disk=self.disk,
                    now_ms=now_ms,
                    clean_shutdown=directory.clean_shutdown,
                    recovery_point=directory.recovery_points.get(topic_partition, 0),
                    recovery_point_known=directory.recovery_points_known,
                    log_start_offset=directory.log_starts.get(topic_partition, 0),
                )
            except KafkaError as error:
                return error
            log.topic_id = topic_id
            return log

        if self.recovery_threads == 1 or directory.clean_shutdown or len(found) < 2:
            return [open_one(place) for place in found]
        with ThreadPoolExecutor(self.recovery_threads, thread_name_prefix="ottla-recovery") as pool:
            return list(pool.map(open_one, found))

    def _take_in(
        self, directory: LogDirectory, path: str, topic_partition: TopicPartition, opened: Log | KafkaError
    ) -> int:
        """Serve a log, or put its partition offline; returns the bytes recovery cut."""
        if not isinstance(opened, KafkaError) and topic_partition in self.offline_logs:
            opened.release()
            opened = CorruptLogError(path, 0, "another log directory holds the same partition")
        if isinstance(opened, KafkaError):
            _log.error("partition offline", partition=topic_partition, reason=opened.message)
            self.offline_logs.setdefault(topic_partition, opened)
            self._offline_in.setdefault(topic_partition, directory)
            if isinstance(opened, CorruptLogError) and opened.durable_to is not None:
                # What was learned of the damage must outlive the unreadable checkpoint.
                directory.recovery_points.setdefault(topic_partition, opened.durable_to)
            return 0
        before = self.logs.pop(topic_partition, None)
        log = opened if before is None else self._one_of(before, opened)
        log.events = self
        self.logs[topic_partition] = log
        return log.bytes_cut

    def _one_of(self, one: Log, other: Log) -> Log:
        """Two directories hold the partition. With one topic id: it was being moved when the last run ended, and the
        longer log served last. Else one is of a topic that was deleted while its directory was offline. The other one
        is kept under another name, in case that is not how it came about."""
        known = self.topic_id_of(one.topic_partition.topic)
        if one.topic_id != other.topic_id and known in (one.topic_id, other.topic_id):
            kept, left = (one, other) if one.topic_id == known else (other, one)
        else:
            kept, left = (other, one) if other.log_end_offset > one.log_end_offset else (one, other)
        _log.warning("a partition lies in two log directories", used=kept.directory, set_aside=left.directory)
        try:
            self._rename_marked(left, STRAY_DIRECTORY_SUFFIX)
        except KafkaError as error:
            _log.error("a log could not be set aside", path=left.directory, reason=error.message)
        return kept

    def _topic_id(self, directory: LogDirectory, path: str, topic_partition: TopicPartition) -> Uuid | None:
        """The partition's topic id; ``None`` where it was never made durable. Raises ``CorruptLogError``."""
        try:
            return read_topic_id(self.disk, path)
        except MalformedFile as error:
            metadata = os.path.join(path, PARTITION_METADATA)
            written = bool(self.disk.read_file(metadata).strip(b"\0"))
            durable = directory.recovery_points.get(topic_partition, 0) or not directory.recovery_points_known
            if not written and not durable:
                # Power was lost before the first flush of a new partition. Whoever creates it again gives it its id.
                self.disk.unlink(metadata)
                return None
            raise CorruptLogError(metadata, 0, str(error)) from error

    # Logs ------------------------------------------------------------------------------------------------------------

    def get(self, topic_partition: TopicPartition) -> Log | None:
        """The log, if it is there and serves."""
        return self.logs.get(topic_partition)

    def check_place(self, topic_partition: TopicPartition, directory_id: Uuid, *, new: bool) -> None:
        """Whether a log that is not here may be made: not where the one that is meant may lie in a directory that is
        offline. ``directory_id`` is where the controller believes it to be. Raises
        ``KafkaError(KAFKA_STORAGE_ERROR)``."""
        online = {directory.directory_id for directory in self._online()}
        if new or len(online) == len(self.directories) or directory_id in online:
            return
        offline = ", ".join(directory.path for directory in self.directories if directory.failure is not None)
        raise storage_error(f"{topic_partition} may lie in a log directory that is offline ({offline})")

    def directory_id(self, log: Log) -> Uuid:
        """The id of the log directory that holds the log."""
        return self._directory_at(log.log_directory).directory_id

    def create(
        self,
        topic_partition: TopicPartition,
        topic_id: Uuid,
        config: LogConfig,
        *,
        now_ms: int,
        directory_id: Uuid | None = None,
    ) -> Log:
        """The log of a new partition; the one there is, if there is one. It goes to the directory the operator asked
        for, else to ``directory_id``, else to the one that holds the fewest, of those that are online.

        Durable with its first flush. Raises ``KafkaError(KAFKA_STORAGE_ERROR)``: the partition is offline, it is there
        with another topic id, no directory is online, or the disk refused.
        """
        existing = self.logs.get(topic_partition)
        if existing is not None:
            return self._adopt(existing, topic_id)
        offline = self.offline_logs.get(topic_partition)
        if offline is not None:
            raise offline
        directory = self._place(topic_partition, directory_id)
        path = os.path.join(directory.path, str(topic_partition))
        try:
            self.disk.make_directory(path)
            write_topic_id(self.disk, path, topic_id, durable=False)
            log = Log.open(path, topic_partition, config, disk=self.disk, now_ms=now_ms)
        except OSError as error:
            raise storage_error(f"{topic_partition} could not be created in {directory.path}: {error}") from error
        log.topic_id = topic_id
        log.note_created(os.path.join(path, PARTITION_METADATA))
        log.events = self
        self.logs[topic_partition] = log
        if self.on_created is not None:
            self.on_created(log)
        return log

    def _adopt(self, log: Log, topic_id: Uuid) -> Log:
        if log.topic_id is None:
            write_topic_id(self.disk, log.directory, topic_id, durable=True)
            log.topic_id = topic_id
        if log.topic_id != topic_id:
            raise storage_error(f"{log.directory} holds topic id {log.topic_id}, not {topic_id}")
        return log

    def _place(self, topic_partition: TopicPartition, directory_id: Uuid | None) -> LogDirectory:
        preferred = self.preferred_directories.pop(topic_partition, None)
        for directory in self._online():
            if directory.path == preferred or (preferred is None and directory.directory_id == directory_id):
                return directory
        return self._emptiest()

    def _emptiest(self) -> LogDirectory:
        online = self._online()
        if not online:
            raise storage_error("no log directory is online")
        candidates = [directory for directory in online if directory.path not in self.cordoned] or online
        if len(candidates) == 1:
            return candidates[0]
        held = Counter(log.log_directory for log in self.logs.values())
        return min(candidates, key=lambda directory: held[directory.path])

    def delete(self, topic_partition: TopicPartition, *, now_ms: int) -> bool:
        """``delete_all`` of one."""
        return bool(self.delete_all([topic_partition], now_ms=now_ms))

    def delete_all(self, topic_partitions: Sequence[TopicPartition], *, now_ms: int) -> int:
        """Give up logs: their directories are renamed now, durably forgotten, and removed by ``purge``; returns how
        many. Blocks for a moment, which depends little on their number.

        Raises ``KafkaError(KAFKA_STORAGE_ERROR)`` at the end where some could not be renamed.
        """
        found = [log for log in (self.logs.pop(key, None) for key in topic_partitions) if log is not None]
        failures: list[KafkaError] = []
        for log in found:
            try:
                target = self._rename_marked(log, DELETE_DIRECTORY_SUFFIX)
            except KafkaError as error:
                failures.append(error)
            else:
                self._condemned.append((now_ms + log.config.file_delete_delay_ms, target))
        for path in dict.fromkeys(log.log_directory for log in found):
            self._forget_durably(self._directory_at(path))
        if failures:
            raise failures[0]
        return len(found)

    def replace(self, log: Log, *, now_ms: int) -> None:
        """Serve a partition from ``log``, which has everything, and delete the one that served it."""
        before = self.logs[log.topic_partition]
        log.events = self
        self.logs[log.topic_partition] = log
        try:
            self.condemn(before, now_ms=now_ms)
        except KafkaError as error:
            # It keeps its name; the next start finds two logs and keeps the longer one.
            _log.error("the log of a moved partition could not be removed", path=before.directory, reason=error.message)
        self._forget_durably(self._directory_at(log.log_directory))

    def condemn(self, log: Log, *, now_ms: int) -> None:
        """Rename a log that is in no table any more, and forget it durably; ``purge`` removes it.

        Raises ``KafkaError(KAFKA_STORAGE_ERROR)``.
        """
        target = self._rename_marked(log, DELETE_DIRECTORY_SUFFIX)
        self._condemned.append((now_ms + log.config.file_delete_delay_ms, target))
        self._forget_durably(self._directory_at(log.log_directory))

    def set_aside(self, topic_partition: TopicPartition) -> None:
        """Stop serving a log that nobody claims: its directory becomes ``-stray`` and stays. Blocks for a moment.

        Raises ``KafkaError(KAFKA_STORAGE_ERROR)``.
        """
        log = self.logs.pop(topic_partition, None)
        if log is not None:
            self._rename_marked(log, STRAY_DIRECTORY_SUFFIX)
            self._forget_durably(self._directory_at(log.log_directory))

    def _rename_marked(self, log: Log, suffix: str) -> str:
        directory = self._directory_at(log.log_directory)
        target = os.path.join(directory.path, self.marked(log.topic_partition, suffix))
        try:
            self.disk.rename(log.directory, target)
        except OSError as error:
            if error.errno not in SHORTAGES:
                self.fail_directory(directory.path, error)
            raise storage_error(f"{log.topic_partition} could not be renamed in {directory.path}: {error}") from error
        log.moved(target)
        log.release()
        return target

    def marked(self, topic_partition: TopicPartition, suffix: str) -> str:
        """A name for a partition's directory that no other one has."""
        return marked_directory(topic_partition, self._rng.randbytes(16).hex(), suffix)

    def _forget_durably(self, directory: LogDirectory) -> None:
        """A log of that name to come must not be held to what the checkpoints say of the one that goes."""
        if directory.failure is not None:
            return
        try:
            self._checkpoint(directory)
        except OSError as error:
            # Deleting is what may free a full disk; the next periodic checkpoint will do.
            _log.warning("checkpoint not written", path=directory.path, reason=error)
            if error.errno not in SHORTAGES:
                self.fail_directory(directory.path, error)

    # Ageing ----------------------------------------------------------------------------------------------------------

    def retain(self, log: Log, now_ms: int, high_watermark: int) -> int:
        """Retention on one log; returns how many segments went. A disk that refuses puts it off."""
        if log.failure is not None or self.logs.get(log.topic_partition) is not log:
            return 0
        try:
            return log.retain(now_ms, high_watermark)
        except OSError as error:
            if error.errno not in SHORTAGES:
                log.fail(error)
            _log.warning("retention put off", partition=log.topic_partition, reason=error)
        except KafkaError as error:
            _log.warning("retention put off", partition=log.topic_partition, reason=error)
        return 0

    def purge(self, now_ms: int) -> int:
        """Remove the deleted logs and segments whose delay has passed; returns how many. Blocking, any thread."""
        removed = 0
        while self._condemned and self._condemned[0][0] <= now_ms:
            _, path = self._condemned.popleft()
            try:
                self.disk.remove_tree(path)
                removed += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                _log.warning("deleted log not removed", path=path, reason=error)
        for log in tuple(self.logs.values()):
            try:
                removed += log.purge(now_ms)
            except OSError as error:
                _log.warning("deleted segment not removed", path=log.directory, reason=error)
        return removed

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def keep_recovery_point_of(self, metadata_log: Log) -> None:
        """Write the recovery point of the metadata log along with those of its log directory, from now on."""
        self._metadata_log = metadata_log
        metadata_log.events = self

    def checkpoint_recovery_points(self) -> dict[str, OSError]:
        """Every minute. Blocking, any thread.

        Returns, as all checkpoints do, which directories failed: for ``fail_directory``, on the loop's thread.
        """
        return self._write_everywhere(self._with_metadata(self._online()), self._write_recovery_points)

    def checkpoint_log_starts(self) -> dict[str, OSError]:
        """Every minute, and before DeleteRecords is answered. Blocking, any thread."""
        return self._write_everywhere(self._online(), self._write_log_starts)

    def checkpoint_high_watermarks(self, high_watermarks: Mapping[TopicPartition, int]) -> dict[str, OSError]:
        """Every five seconds. Blocking, any thread."""

        def write(directory: LogDirectory) -> None:
            held = {
                log.topic_partition: high_watermarks[log.topic_partition]
                for log in self.logs_in(directory)
                if log.topic_partition in high_watermarks
            }
            with directory.checkpointing:
                if directory.locked:
                    directory.write_high_watermarks(held)

        return self._write_everywhere(self._online(), write)

    def clean_point(self, log: Log) -> int | None:
        """Up to where the log has been cleaned; ``None`` where it never was."""
        return self._directory_at(log.log_directory).clean_points.get(log.topic_partition)

    def record_clean_point(self, log: Log, offset: int, *, unless: Callable[[], bool] = lambda: False) -> None:
        """The log is clean up to ``offset``, durably so; ``unless`` is asked when nobody else can change that any more.

        Blocking, any thread. Raises ``OSError``.
        """
        directory = self._directory_at(log.log_directory)
        with directory.checkpointing:
            if not unless():
                directory.clean_points[log.topic_partition] = offset
                if directory.locked:
                    directory.write_clean_points()

    def _lower_clean_point(self, log: Log) -> None:
        directory = self._directory_at(log.log_directory)
        with directory.checkpointing:
            if directory.clean_points.get(log.topic_partition, -1) > log.recovery_point:
                directory.clean_points[log.topic_partition] = log.recovery_point
                if directory.locked:
                    directory.write_clean_points()

    def _forget_clean_points(self, directory: LogDirectory) -> None:
        """Of logs that are gone: another one of that name would be taken for clean."""
        held = {log.topic_partition for log in self.logs_in(directory)}
        held.update(partition for partition, holder in self._offline_in.items() if holder is directory)
        with directory.checkpointing:
            gone = [partition for partition in directory.clean_points if partition not in held]
            for partition in gone:
                del directory.clean_points[partition]
            if gone and directory.locked:
                directory.write_clean_points()

    def high_watermark(self, topic_partition: TopicPartition) -> int:
        """As checkpointed before this start; 0 where it was not."""
        home = self._directory_of(topic_partition)
        for directory in self.directories if home is None else (home, *self.directories):
            if topic_partition in directory.high_watermarks:
                return directory.high_watermarks[topic_partition]
        return 0

    def _checkpoint(self, directory: LogDirectory) -> None:
        self._write_recovery_points(directory)
        self._write_log_starts(directory)
        self._forget_clean_points(directory)

    def _write_recovery_points(self, directory: LogDirectory) -> None:
        """Of offline logs, what stood there: their records are still as durable."""
        with directory.checkpointing:
            points = self._of_offline_logs(directory, directory.recovery_points)
            held = (*self.futures.in_directory(directory.path), *self.logs_in(directory))
            points |= {log.topic_partition: log.recovery_point for log in held}
            metadata_log = self._metadata_log
            if metadata_log is not None and metadata_log.log_directory == directory.path:
                points[CLUSTER_METADATA] = metadata_log.recovery_point
            elif CLUSTER_METADATA in directory.recovery_points:
                points[CLUSTER_METADATA] = directory.recovery_points[CLUSTER_METADATA]
            if directory.locked:
                directory.write_recovery_points(points)

    def _write_log_starts(self, directory: LogDirectory) -> None:
        with directory.checkpointing:
            starts = self._of_offline_logs(directory, directory.log_starts)
            held = (*self.futures.in_directory(directory.path), *self.logs_in(directory))
            starts |= {
                log.topic_partition: log.log_start_offset
                for log in held
                if log.log_start_offset > log.segments[0].base_offset
            }
            if directory.locked:
                directory.write_log_starts(starts)

    def _of_offline_logs(
        self, directory: LogDirectory, loaded: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """What the checkpoint said of the logs that could not be opened."""
        return {
            topic_partition: loaded[topic_partition]
            for topic_partition, held_by in tuple(self._offline_in.items())
            if held_by is directory and topic_partition in loaded
        }

    def _write_everywhere(
        self, directories: Sequence[LogDirectory], write: Callable[[LogDirectory], None]
    ) -> dict[str, OSError]:
        failed = {}
        for directory in directories:
            try:
                write(directory)
            except OSError as error:
                _log.error("checkpoint not written", path=directory.path, reason=error)
                if error.errno not in SHORTAGES:
                    failed[directory.path] = error
        return failed

    # Failures --------------------------------------------------------------------------------------------------------

    def log_rolled(self, log: Log) -> None:
        if self.on_rolled is not None and log is not self._metadata_log:
            self.on_rolled(log)

    def log_shrinking(self, log: Log) -> None:
        self._write_recovery_points(self._directory_at(log.log_directory))
        self._lower_clean_point(log)

    def log_failed(self, log: Log, error: OSError) -> None:
        self.fail_directory(log.log_directory, error)

    def fail_directory(self, path: str, error: OSError) -> None:
        """Nothing of this log directory is served or acknowledged any more. Idempotent; the callback runs once."""
        directory = next((found for found in self.directories if found.path == path), None)
        if directory is None or directory.failure is not None:
            return
        directory.failure = error
        _log.error("log directory offline", path=path, reason=error)
        reason = storage_error(f"log directory {path} is offline: {error}")
        for log in self.logs_in(directory):
            log.failure = log.failure or error
            log.abort_cleaning()
            self.offline_logs[log.topic_partition] = reason
        for future in self.futures.in_directory(path):
            future.failure = future.failure or error
        if self._metadata_log is not None and self._metadata_log.log_directory == path:
            self._metadata_log.failure = self._metadata_log.failure or error
        if self.on_directory_failed is not None:
            self.on_directory_failed(directory, error)

    def directory_named(self, path: str) -> LogDirectory | None:
        """The directory of ``log.dirs`` that is called so."""
        return next((directory for directory in self.directories if directory.path == path), None)

    @property
    def offline_directories(self) -> dict[str, OSError]:
        return {directory.path: directory.failure for directory in self.directories if directory.failure is not None}

    # Closing ---------------------------------------------------------------------------------------------------------

    def close(self, *, clean: bool = True, broker_epoch: int = -1) -> None:
        """Close all logs and unlock. A clean close flushes, writes the checkpoints and leaves the mark of it.
        Blocking."""
        for directory in self.directories:
            # A log that could not be opened has not been shut down cleanly, whatever else was.
            settled = clean and directory.failure is None and directory not in self._offline_in.values()
            for log in (*self.futures.in_directory(directory.path), *self.logs_in(directory)):
                settled = self._close_log(log, settled) and settled
            if settled:
                try:
                    self._checkpoint(directory)
                    directory.mark_clean_shutdown(broker_epoch)
                except OSError as error:
                    _log.error("no clean shutdown", path=directory.path, reason=error)
            directory.unlock()
        beside = self.metadata_directory
        if beside is not None and beside not in self.directories:
            if clean and beside.failure is None:
                self._write_everywhere([beside], self._write_recovery_points)
            beside.unlock()

    def _close_log(self, log: Log, clean: bool) -> bool:
        try:
            log.close(clean=clean)
        except OSError as error:
            _log.error("log not closed cleanly", path=log.directory, reason=error)
            log.release()
            return False
        return log.failure is None

    def _online(self) -> list[LogDirectory]:
        return [directory for directory in self.directories if directory.failure is None]

    def _with_metadata(self, directories: list[LogDirectory]) -> list[LogDirectory]:
        beside = self.metadata_directory
        return directories if beside is None or beside in self.directories else [*directories, beside]

    def logs_in(self, directory: LogDirectory) -> list[Log]:
        return [log for log in tuple(self.logs.values()) if log.log_directory == directory.path]

    def _directory_at(self, path: str) -> LogDirectory:
        held = self._with_metadata(list(self.directories))
        return next(directory for directory in held if directory.path == path)

    def _directory_of(self, topic_partition: TopicPartition) -> LogDirectory | None:
        log = self.logs.get(topic_partition)
        if log is not None:
            return self._directory_at(log.log_directory)
        return self._offline_in.get(topic_partition)

"""The metadata log on disk: ``__cluster_metadata-0`` with its segments, ``quorum-state`` and snapshots.

Owns what the bytes look like: control batches, framed metadata records (one batch a decision), the quorum state's JSON,
snapshot files. Decides nothing. Methods that say "blocking" wait for the disk.

Snapshot ``<end offset>-<epoch>.checkpoint``: header control batch, data batches, footer control batch; offsets counted
from 0.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from ottla.config.log import LogConfig
from ottla.metadata.record import MetadataRecord, decode_record, encode_record
from ottla.model import Uuid
from ottla.quorum.effects import LeaderChange, LogAppend, QuorumState
from ottla.records.batch import BatchHeader, CorruptRecord, iter_headers, verify_crc
from ottla.records.builder import BatchBuilder
from ottla.records.control import control_batch
from ottla.records.reader import read_records
from ottla.storage.checkpoints import write_topic_id
from ottla.storage.disk import Disk
from ottla.storage.errors import CorruptLogError
from ottla.storage.log import Log
from ottla.storage.names import CLUSTER_METADATA, LOG_SUFFIX, PARTITION_METADATA, segment_file
from ottla.wire.messages.leader_change_message import LeaderChangeMessage, Voter
from ottla.wire.messages.snapshot_footer_record import SnapshotFooterRecord
from ottla.wire.messages.snapshot_header_record import SnapshotHeaderRecord

QUORUM_STATE: Final = "quorum-state"
SNAPSHOT_SUFFIX: Final = ".checkpoint"
PART_SUFFIX: Final = ".checkpoint.part"
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
READ_BYTES: Final = 4 * 1024 * 1024
SNAPSHOT_BATCH_RECORDS: Final = 1024
SNAPSHOTS_KEPT: Final = 2


class MetadataBatch(NamedTuple):
    """One batch of the metadata log, decoded. Control batches have no records."""

    base_offset: int
    next_offset: int
    epoch: int
    timestamp: int
    size: int
    records: tuple[MetadataRecord, ...]


class SnapshotId(NamedTuple):
    """``end_offset`` is exclusive: the first offset not in the snapshot."""

    end_offset: int
    epoch: int

    @property
    def file_name(self) -> str:
        return f"{self.end_offset:020d}-{self.epoch:010d}{SNAPSHOT_SUFFIX}"


class MetadataLogError(Exception):
    """The directory holds something this node cannot work with; the message says which file and why."""


class MetadataLogSettings(Struct, frozen=True, kw_only=True):
    """``metadata.log.*`` and ``metadata.max.retention.*``. Sizes in bytes."""

    segment_bytes: int = 1024 * 1024 * 1024
    segment_ms: int = 604_800_000
    retention_bytes: int = 100 * 1024 * 1024
    retention_ms: int = 604_800_000


class MetadataLog:
    """Open with ``MetadataLog.open``; belongs to the event loop's thread but for what says it is blocking."""

    def __init__(self, directory: str, log: Log, disk: Disk) -> None:
        self.directory = directory
        self.log = log
        self.disk = disk

    @classmethod
    def open(
        cls,
        metadata_dir: str,
        *,
        disk: Disk,
        settings: MetadataLogSettings | None = None,
        now_ms: int,
        recovery_point: int = 0,
        recovery_point_known: bool = True,
    ) -> "MetadataLog":
        """Open or create the log below ``metadata_dir``; damaged tails are cut, unfinished snapshots removed. Blocking.

        Raises ``CorruptLogError`` where what a snapshot covers, or what was durable by the recovery point that the
        directory's checkpoint has (see ``Log.open``), is damaged or missing.
        """
        settings = settings or MetadataLogSettings()
        directory = os.path.join(os.path.abspath(metadata_dir), str(CLUSTER_METADATA))
        snapshot = _latest_snapshot(disk, directory)
        fresh = not disk.is_directory(directory)
        covered = snapshot.end_offset if snapshot is not None else 0
        durable = max(covered, recovery_point)
        if durable == covered and not _has_records(disk, directory):
            durable = 0  # the snapshot has it all
        log = Log.open(
            directory,
            CLUSTER_METADATA,
            LogConfig(
                segment_bytes=settings.segment_bytes,
                segment_ms=settings.segment_ms,
                retention_bytes=settings.retention_bytes,
                retention_ms=settings.retention_ms,
                max_message_bytes=BATCH_BYTES_MAX,
            ),
            disk=disk,
            now_ms=now_ms,
            recovery_point=durable,
            recovery_point_known=recovery_point_known,
        )
        log.topic_id = Uuid.ONE
        if fresh:
            write_topic_id(disk, directory, Uuid.ONE, durable=False)
            log.note_created(os.path.join(directory, PARTITION_METADATA))
        if snapshot is not None and log.log_end_offset < snapshot.end_offset:
            log.truncate_fully_and_start_at(snapshot.end_offset, now_ms)
        return cls(directory, log, disk)

    @property
    def end_offset(self) -> int:
        return self.log.log_end_offset

    @property
    def start_offset(self) -> int:
        return self.log.log_start_offset

    def epochs(self) -> list[tuple[int, int]]:
        """(epoch, start offset) of what the log holds, below it the epoch of the snapshot it starts from."""
        entries = [(entry.epoch, entry.start_offset) for entry in self.log.epochs.entries]
        snapshot = self.latest_snapshot()
        if snapshot is not None and (not entries or entries[0][1] > snapshot.end_offset):
            entries.insert(0, (snapshot.epoch, min(snapshot.end_offset, self.start_offset)))
        return entries

    # --- the log ----------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[LogAppend], now_ms: int) -> list[MetadataBatch]:
        """Write batches with one write; not yet durable. Raises ``KafkaError(KAFKA_STORAGE_ERROR)``."""
        encoded = [_encode(entry, now_ms) for entry in entries]
        buffer = b"".join(encoded)
        self.log.append(buffer, list(iter_headers(buffer)), now_ms)
        return [
            MetadataBatch(
                entry.base_offset,
                entry.end_offset,
                entry.epoch,
                now_ms,
                len(data),
                entry.payload if isinstance(entry.payload, tuple) else (),
            )
            for entry, data in zip(entries, encoded, strict=True)
        ]

    def flush(self) -> int:
        """Make all that is appended durable; returns up to where. Blocking, any thread. Raises ``OSError``."""
        return self.log.flush()

    def truncate_to(self, offset: int, now_ms: int) -> None:
        """Drop what another leader never committed. Blocking."""
        self.log.truncate_to(offset, now_ms)

    def read(self, offset: int, upper: int) -> Iterator[MetadataBatch]:
        """The batches of ``[offset, upper)``. Blocking.

        Raises ``CorruptLogError``, also for an offset that is missing: the log has no gaps; and ``UnknownRecord``.
        """
        while offset < upper:
            region = self.log.read(offset, READ_BYTES, upper=upper, at_least_one=True)
            if region is None:
                return
            data, at, base_offset = region.pread(), region.position, region.base_offset
            region.release()
            first = offset
            for position, header in iter_headers(data, partial_tail=True):
                if header.base_offset > offset:
                    raise self._damage(base_offset, at + position, f"offset {offset} is missing")
                if header.base_offset >= upper:
                    return
                try:
                    verify_crc(data, position, header)
                except CorruptRecord as error:
                    raise self._damage(base_offset, at + position, str(error)) from error
                if header.next_offset > offset:
                    yield _decode(data, position, header)
                    offset = header.next_offset
            if offset == first:
                raise MetadataLogError(f"{self.directory}: no whole batch at offset {offset}")

    def _damage(self, segment: int, position: int, reason: str) -> CorruptLogError:
        return CorruptLogError(os.path.join(self.directory, segment_file(segment, LOG_SUFFIX)), position, reason)

    def close(self, *, clean: bool = True) -> None:
        """Blocking."""
        self.log.close(clean=clean)

    # --- quorum state -----------------------------------------------------------------------------------------------

    def read_quorum_state(self) -> QuorumState:
        """What was stored; the first epoch's if nothing was. Raises ``MetadataLogError``."""
        path = os.path.join(self.directory, QUORUM_STATE)
        try:
            fields = json.loads(self.disk.read_file(path))
            if fields["data_version"] != 0:
                raise MetadataLogError(f"{path}: written with dynamic voters (kraft.version 1), not supported yet")
            return QuorumState(
                epoch=int(fields["leaderEpoch"]),
                leader_id=_node_or_none(fields["leaderId"]),
                voted_id=_node_or_none(fields["votedId"]),
            )
        except FileNotFoundError:
            return QuorumState()
        except (ValueError, KeyError, TypeError) as error:
            raise MetadataLogError(f"{path}: not a quorum state ({error})") from error

    def write_quorum_state(self, state: QuorumState, voters: Iterable[int]) -> None:
        """Replace the file durably. Blocking."""
        fields = {
            "clusterId": "",
            "leaderId": -1 if state.leader_id is None else state.leader_id,
            "leaderEpoch": state.epoch,
            "votedId": -1 if state.voted_id is None else state.voted_id,
            "appliedOffset": 0,
            "currentVoters": [{"voterId": voter} for voter in voters],
            "data_version": 0,
        }
        data = json.dumps(fields, separators=(",", ":")).encode()
        self.disk.replace_file(os.path.join(self.directory, QUORUM_STATE), data, durable=True)

    # --- snapshots --------------------------------------------------------------------------------------------------

    def latest_snapshot(self) -> SnapshotId | None:
        return _latest_snapshot(self.disk, self.directory)

    def read_snapshot(self, snapshot: SnapshotId) -> tuple[int, list[MetadataRecord]]:
        """(timestamp of its last contained record, records). Blocking."""
        return read_snapshot_file(self.disk, os.path.join(self.directory, snapshot.file_name))

    def write_snapshot(
        self, snapshot: SnapshotId, records: Iterable[MetadataRecord], *, contained_ms: int, now_ms: int
    ) -> None:
        """Durable and under its name when this returns. Blocking, any thread."""
        path = os.path.join(self.directory, snapshot.file_name)
        write_snapshot_file(self.disk, path, records, epoch=snapshot.epoch, contained_ms=contained_ms, now_ms=now_ms)

    def forget_before(self, snapshot: SnapshotId, now_ms: int) -> None:
        """Give up old segments below ``snapshot``, as far as retention asks, and all snapshots but the last two."""
        self.log.retain(now_ms, snapshot.end_offset)
        for old in _snapshots(self.disk, self.directory)[:-SNAPSHOTS_KEPT]:
            self.disk.unlink_if_exists(os.path.join(self.directory, old.file_name))
        self.log.purge(now_ms)


def write_snapshot_file(
    disk: Disk, path: str, records: Iterable[MetadataRecord], *, epoch: int, contained_ms: int, now_ms: int
) -> None:
    """A snapshot (or ``bootstrap.checkpoint``) under a temporary name, synced, then renamed. Blocking."""
    header = SnapshotHeaderRecord(version=0, last_contained_log_timestamp=contained_ms)
    chunks = [control_batch([header], base_offset=0, timestamp=now_ms, leader_epoch=epoch)]
    builder = BatchBuilder(base_offset=1, leader_epoch=epoch)
    for record in records:
        builder.append(now_ms, None, encode_record(record))
        if builder.count >= SNAPSHOT_BATCH_RECORDS:
            chunks.append(builder.build())
            builder = BatchBuilder(base_offset=builder.next_offset, leader_epoch=epoch)
    if builder.count:
        chunks.append(builder.build())
    footer = SnapshotFooterRecord(version=0)
    chunks.append(control_batch([footer], base_offset=builder.next_offset, timestamp=now_ms, leader_epoch=epoch))
    part = path + ".part"
    descriptor = disk.open(part, create=True)
    try:
        disk.truncate(descriptor, 0)
        disk.write(descriptor, b"".join(chunks), 0)
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)
    disk.rename(part, path)
    disk.sync_directory(os.path.dirname(path))


def read_snapshot_file(disk: Disk, path: str) -> tuple[int, list[MetadataRecord]]:
    """(timestamp of the last record it contains, records). Raises ``MetadataLogError``, ``CorruptRecord``. Blocking."""
    data = disk.read_file(path)
    contained_ms, ended = 0, False
    records: list[MetadataRecord] = []
    for position, header in iter_headers(data):
        verify_crc(data, position, header)
        if ended:
            raise MetadataLogError(f"{path}: a batch behind the footer")
        if not header.is_control:
            records.extend(_decode(data, position, header).records)
            continue
        for control in read_control(data, position, header):
            match control:
                case SnapshotHeaderRecord():
                    contained_ms = control.last_contained_log_timestamp
                case SnapshotFooterRecord():
                    ended = True
    if not ended:
        raise MetadataLogError(f"{path}: ends without a footer")
    return contained_ms, records


def read_control(data: bytes, position: int, header: BatchHeader) -> list[object]:
    """The quorum's messages in a control batch."""
    from ottla.records.control import read_control_messages  # noqa: PLC0415 - only snapshots and dumps need it

    return list(read_control_messages(memoryview(data)[position : position + header.size]))


def _encode(entry: LogAppend, now_ms: int) -> bytes:
    match entry.payload:
        case LeaderChange() as change:
            message = LeaderChangeMessage(
                version=0,
                leader_id=change.leader_id,
                voters=[Voter(voter_id=voter) for voter in change.voters],
                granting_voters=[Voter(voter_id=voter) for voter in change.granting_voters],
            )
            return control_batch([message], base_offset=entry.base_offset, timestamp=now_ms, leader_epoch=entry.epoch)
        case tuple() as records:
            builder = BatchBuilder(base_offset=entry.base_offset, leader_epoch=entry.epoch)
            for record in records:
                builder.append(now_ms, None, encode_record(record))
            return builder.build()
        case other:
            raise AssertionError(f"nothing to append: {other!r}")


def _decode(data: bytes, position: int, header: BatchHeader) -> MetadataBatch:
    records: tuple[MetadataRecord, ...] = ()
    if not header.is_control:
        batch = memoryview(data)[position : position + header.size]
        records = tuple(decode_record(record.value or b"") for record in read_records(batch))
    return MetadataBatch(
        header.base_offset,
        header.next_offset,
        header.partition_leader_epoch,
        header.max_timestamp,
        header.size,
        records,
    )


def _has_records(disk: Disk, directory: str) -> bool:
    """Whether there is a log behind the snapshots. One that is there must reach what they cover."""
    return disk.is_directory(directory) and any(
        entry.name.endswith(LOG_SUFFIX) and entry.size > 0 for entry in disk.entries(directory)
    )


def _snapshots(disk: Disk, directory: str) -> list[SnapshotId]:
    if not disk.is_directory(directory):
        return []
    found: list[SnapshotId] = []
    for entry in disk.entries(directory):
        stem, dot, suffix = entry.name.partition(".")
        offset, dash, epoch = stem.partition("-")
        if dot + suffix == SNAPSHOT_SUFFIX and dash and offset.isdigit() and epoch.isdigit():
            found.append(SnapshotId(int(offset), int(epoch)))
        elif entry.name.endswith(PART_SUFFIX):
            disk.unlink_if_exists(os.path.join(directory, entry.name))
    return sorted(found)


def _latest_snapshot(disk: Disk, directory: str) -> SnapshotId | None:
    found = _snapshots(disk, directory)
    return found[-1] if found else None


def _node_or_none(number: object) -> int | None:
    return int(str(number)) if int(str(number)) >= 0 else None

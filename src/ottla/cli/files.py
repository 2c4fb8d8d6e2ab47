"""Reading the files of a data directory as they lie there, of Ottla's or Apache's making. Nothing is ever written.

What is damaged is shown up to the damage, and the damage named: ``flaw``.
"""

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from struct import Struct as Packing
from typing import Any, Final

import msgspec

from ottla.cli.rows import (
    AbortedRow,
    BatchRow,
    CheckpointRow,
    EpochRow,
    IndexRow,
    ProducerEntryRow,
    PropertyRow,
    SegmentRow,
    StoredRecord,
    TimeIndexRow,
)
from ottla.model.internal_topics import CONSUMER_OFFSETS, TRANSACTION_STATE
from ottla.records.batch import BATCH_OVERHEAD, MAGIC, BatchHeader, read_header, verify_crc
from ottla.records.control import control_type, read_control_messages, read_end_transaction
from ottla.records.errors import CorruptRecord
from ottla.records.reader import Record, read_records
from ottla.storage import names
from ottla.storage.checkpoints import decode_lines, parse_properties
from ottla.storage.txn_index import ENTRY as ABORTED
from ottla.wire import DecodeError

_INDEX: Final = Packing(">ii")
_TIME_INDEX: Final = Packing(">qi")


class NotADataFile(Exception):
    """A file whose kind cannot be told from its name."""


def read_file(path: Path, *, records: bool) -> Iterator[Any]:
    """The rows of a file of any kind; of a log its batches, or with ``records`` the records in them."""
    name = path.name
    parsed = names.parse_segment_file(name)
    suffix = "" if parsed is None else parsed[1].removesuffix(names.DELETED_SUFFIX)
    if suffix == names.LOG_SUFFIX or name.endswith(".checkpoint"):
        return read_log_records(path) if records or name.endswith(".checkpoint") else read_batches(path)
    base = 0 if parsed is None else parsed[0]
    readers: dict[str, Callable[[], Iterator[Any]]] = {
        names.OFFSET_INDEX_SUFFIX: lambda: _read_index(path, base),
        names.TIME_INDEX_SUFFIX: lambda: _read_time_index(path, base),
        names.TXN_INDEX_SUFFIX: lambda: _read_aborted(path),
        names.SNAPSHOT_SUFFIX: lambda: _read_producers(path),
    }
    if suffix in readers:
        return readers[suffix]()
    if name == names.LEADER_EPOCH_CHECKPOINT:
        return iter([EpochRow(epoch=int(a), start_offset=int(b)) for a, b in _lines(path)])
    if name.endswith("-offset-checkpoint"):
        return iter([CheckpointRow(topic=t, partition=int(p), offset=int(o)) for t, p, o in _lines(path)])
    if name == names.PARTITION_METADATA:
        pairs = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines() if ":" in line)
        return iter([PropertyRow(name=key.strip(), value=value.strip()) for key, _, value in pairs])
    if name == names.META_PROPERTIES:
        properties = parse_properties(path.read_text(encoding="utf-8"))
        return iter([PropertyRow(name=key, value=value) for key, value in properties.items()])
    if name in ("quorum-state", names.CLEAN_SHUTDOWN):
        document = msgspec.json.decode(path.read_bytes())
        return iter([PropertyRow(name=key, value=value) for key, value in document.items()])
    raise NotADataFile(f"{path} is not a file of a data directory")


def segments(directory: Path) -> Iterator[SegmentRow]:
    """The segments of a partition's directory, every batch of them checked; counts go up to the first flaw."""
    for path in sorted(directory.iterdir()):
        if not is_log(path):
            continue
        last, batches, count, newest, flaw = None, 0, 0, None, None
        for row in read_batches(path):
            if flaw is None and row.flaw is not None:
                flaw = f"byte {row.position}: {row.flaw}"
            if flaw is None:
                last, batches, count = row.last_offset, batches + 1, count + row.records
                newest = row.max_timestamp_ms if newest is None else max(newest, row.max_timestamp_ms)
        yield SegmentRow(
            directory=directory.name,
            base_offset=int(path.stem),
            last_offset=last,
            batches=batches,
            records=count,
            size=path.stat().st_size,
            max_timestamp_ms=newest,
            flaw=flaw,
        )


def is_log(path: Path) -> bool:
    """Whether this is a segment's file of batches."""
    parsed = names.parse_segment_file(path.name)
    return parsed is not None and parsed[1] == names.LOG_SUFFIX


def partitions(directory: Path) -> list[Path]:
    """The partitions' directories of a log directory."""
    return [
        path
        for path in sorted(directory.iterdir())
        if path.is_dir() and names.parse_partition_directory(path.name) is not None
    ]


def read_batches(path: Path) -> Iterator[BatchRow]:
    """The batches of a segment, their checksums verified. The last row may be one that is damaged."""
    with _mapped(path) as content:
        expected = -1
        for position, header, found in _headers(content):
            if header is None:
                yield _damage(position, len(content) - position, found)
                return
            flaw = found
            if flaw is None and header.base_offset < expected:
                flaw = f"base offset {header.base_offset} where {expected} or more must come"
            expected = header.next_offset
            yield _batch(position, header, flaw)


def read_log_records(path: Path) -> Iterator[StoredRecord]:
    """The records of a segment or a metadata snapshot, decoded where the topic's own format is known."""
    topic = path.parent.name.rpartition("-")[0]
    if path.name.endswith(".checkpoint"):
        topic = names.CLUSTER_METADATA.topic
    with _mapped(path) as content:
        for position, header, flaw in _headers(content):
            if header is None or flaw is not None:
                raise CorruptRecord(f"{path}, byte {position}: {flaw}")
            batch = bytes(content[position : position + header.size])
            if header.is_control:
                yield from _control(position, batch)
                continue
            for record in read_records(batch):
                yield _record(position, record, topic)


def _headers(content: memoryview) -> Iterator[tuple[int, BatchHeader | None, str | None]]:
    """Position and header of each batch with what is wrong with it; no header where there cannot be one."""
    position = 0
    while position < len(content):
        left = len(content) - position
        start = bytes(content[position : position + BATCH_OVERHEAD])
        if start == names.FILLER * len(start):
            yield position, None, f"{left} bytes from here on are room for more batches: the node runs, or was killed"
            return
        if left < BATCH_OVERHEAD:
            yield position, None, f"{left} bytes at the end are no batch"
            return
        header = read_header(content, position)
        if not any(start):
            yield position, None, f"{left} bytes from here on are zeros: preallocated, or lost in a crash"
            return
        if header.magic != MAGIC or header.batch_length <= 0 or header.size > left:
            reason = f"magic {header.magic}" if header.magic != MAGIC else f"length {header.batch_length}, {left} left"
            yield position, None, f"no batch begins here: {reason}"
            return
        flaw = None
        try:
            verify_crc(content, position, header)
        except CorruptRecord as error:
            flaw = error.message or "wrong checksum"
        yield position, header, flaw
        position += header.size


def _batch(position: int, header: BatchHeader, flaw: str | None) -> BatchRow:
    return BatchRow(
        position=position,
        size=header.size,
        base_offset=header.base_offset,
        last_offset=header.last_offset,
        records=header.record_count,
        leader_epoch=header.partition_leader_epoch,
        codec=_codec(header),
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        transactional=header.is_transactional,
        control=header.is_control,
        timestamp_type=header.timestamp_type.name.lower(),
        max_timestamp_ms=header.max_timestamp,
        crc=header.crc,
        flaw=flaw,
    )


def _damage(position: int, size: int, flaw: str | None) -> BatchRow:
    return BatchRow(
        position=position,
        size=size,
        base_offset=-1,
        last_offset=-1,
        records=0,
        leader_epoch=-1,
        codec="-",
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        transactional=False,
        control=False,
        timestamp_type="-",
        max_timestamp_ms=-1,
        crc=0,
        flaw=flaw,
    )


def _codec(header: BatchHeader) -> str:
    try:
        return header.codec.name.lower()
    except CorruptRecord:
        return f"unknown {header.attributes & 7}"


def _control(position: int, batch: bytes) -> Iterator[StoredRecord]:
    marker = read_end_transaction(batch)
    messages = [] if marker is not None else read_control_messages(batch)
    for index, record in enumerate(read_records(batch)):
        kind = control_type(record.key)
        value: Any
        if marker is not None:
            value = {"committed": marker.committed, "coordinator_epoch": marker.coordinator_epoch}
        else:
            value = _plain(messages[index]) if index < len(messages) else _text(record.value)
        yield StoredRecord(
            position=position,
            offset=record.offset,
            timestamp=record.timestamp,
            kind="control" if kind is None else kind.name.lower(),
            key=None,
            value=value,
            headers=[],
        )


def _record(position: int, record: Record, topic: str) -> StoredRecord:
    kind, key, value = "record", _text(record.key), _text(record.value)
    try:
        if topic == names.CLUSTER_METADATA.topic and record.value is not None:
            from ottla.metadata.record import decode_record

            found = decode_record(record.value)
            kind, value = type(found.message).__name__, _plain(found.message)
        elif topic == CONSUMER_OFFSETS and record.key is not None:
            kind, key, value = _group_record(record.key, record.value)
        elif topic == TRANSACTION_STATE and record.key is not None:
            from ottla.transactions.records import decode_record as decode_transaction

            stored = decode_transaction(record.key, record.value)
            if stored is not None:
                kind, key, value = "transaction", stored.transactional_id, _plain(stored.value)
    except (DecodeError, LookupError, ValueError) as error:
        kind = f"unreadable: {error}"
    headers = [[name, _text(content)] for name, content in record.headers]
    return StoredRecord(
        position=position,
        offset=record.offset,
        timestamp=record.timestamp,
        kind=kind,
        key=key,
        value=value,
        headers=headers,
    )


def _group_record(key: bytes, value: bytes | None) -> tuple[str, Any, Any]:
    from ottla.groups.records import ClassicGroupRecord, ForeignGroupRecord, OffsetRecord, decode_record

    found = decode_record(key, value)
    match found:
        case OffsetRecord():
            return "offset", _plain(found.key._asdict()), None if found.value is None else _plain(found.value._asdict())
        case ClassicGroupRecord():
            return "group", found.group_id, _plain(found.value)
        case ForeignGroupRecord():
            return f"{found.kind}-{found.type}", found.group_id, _text(value)
        case _:
            return "unknown", _text(key), _text(value)


def _plain(value: Any) -> Any:
    """Builtins of whatever a decoder makes: ids as text, bytes as base64 or text."""
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if type(value) is not bytes and isinstance(value, bytes):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _text(bytes(value))
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return {name: _plain(one) for name, one in fields.items() if name != "unknown_tagged_fields"}
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, dict):
        return {_key(name): _plain(one) for name, one in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [_plain(one) for one in value]
    return str(value)


def _key(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _text(data: bytes | None) -> Any:
    from ottla.cli.ndjson import to_text

    return msgspec.to_builtins(to_text(data))


def _read_index(path: Path, base: int) -> Iterator[IndexRow]:
    previous = -1
    for relative, position in _INDEX.iter_unpack(_whole(path, _INDEX.size)):
        # The file of the active segment has room behind its entries.
        if relative <= max(previous, 0) and position == 0:
            return
        previous = relative
        yield IndexRow(offset=base + relative, position=position)


def _read_time_index(path: Path, base: int) -> Iterator[TimeIndexRow]:
    for index, (timestamp, relative) in enumerate(_TIME_INDEX.iter_unpack(_whole(path, _TIME_INDEX.size))):
        if index and timestamp == 0 and relative == 0:
            return
        yield TimeIndexRow(timestamp_ms=timestamp, offset=base + relative)


def _read_aborted(path: Path) -> Iterator[AbortedRow]:
    for _, producer_id, first, last, stable in ABORTED.iter_unpack(_whole(path, ABORTED.size)):
        yield AbortedRow(producer_id=producer_id, first_offset=first, last_offset=last, last_stable_offset=stable)


def _read_producers(path: Path) -> Iterator[ProducerEntryRow]:
    from ottla.transactions.producer_state import decode_snapshot

    for one in decode_snapshot(path.read_bytes()):
        first = one.transaction_first_offset
        yield ProducerEntryRow(
            producer_id=one.producer_id,
            producer_epoch=one.producer_epoch,
            last_sequence=one.last_sequence,
            last_offset=one.last_offset,
            timestamp_ms=one.timestamp,
            coordinator_epoch=one.coordinator_epoch,
            transaction_first_offset=first if first >= 0 else None,
        )


def _lines(path: Path) -> list[list[str]]:
    content = path.read_bytes()
    # Apache Kafka creates these files empty and fills them with the first checkpoint.
    return decode_lines(str(path), content) if content else []


def _whole(path: Path, entry: int) -> bytes:
    content = path.read_bytes()
    return content[: len(content) - len(content) % entry]


class _mapped:  # noqa: N801 - reads like the function it stands for
    """A file's bytes without reading them all into memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._map: mmap.mmap | None = None
        self._view = memoryview(b"")

    def __enter__(self) -> memoryview:
        with self._path.open("rb") as file:
            if os.fstat(file.fileno()).st_size:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                self._view = memoryview(self._map)
        return self._view

    def __exit__(self, *_: object) -> None:
        self._view.release()
        if self._map is not None:
            self._map.close()

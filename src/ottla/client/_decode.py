"""Fetched bytes into records: checked, in order, without what transactions have aborted."""

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from ottla.model import TopicPartition
from ottla.records.batch import BatchHeader, iter_headers, verify_crc
from ottla.records.reader import Header, read_body, records_of

DECOMPRESSED_BYTES_MAX: Final = 256 * 1024 * 1024
"""Largest size one batch may decompress to; a broker that sends more is not trusted."""

_CONTROL_KEY: Final = Struct(">hh")
_ABORT: Final = 0


class ConsumerRecord(NamedTuple):
    """A record as it was read. ``timestamp`` is milliseconds; headers are in the order they were sent."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()
    timestamp_type: int = 0
    """0: the producer's time, 1: when the broker appended it."""
    leader_epoch: int = -1


class Fetched(NamedTuple):
    """What one answer brought of one partition: whole batches, from ``offset`` on."""

    place: TopicPartition
    data: memoryview
    offset: int
    aborted: tuple[tuple[int, int], ...] = ()
    """(producer id, first offset) of transactions that were aborted, for readers of committed records."""


def next_offset_after(data: memoryview, offset: int) -> int:
    """Where to fetch next after ``data``; ``offset`` itself if it holds no whole batch."""
    for _, header in iter_headers(data, partial_tail=True):
        offset = max(offset, header.next_offset)
    return offset


def iter_batches(fetched: Fetched, *, check_crcs: bool = True) -> Iterator[list[ConsumerRecord]]:
    """The data records batch by batch, from ``fetched.offset`` on. Raises ``CorruptRecord``."""
    topic, partition = fetched.place
    pending = sorted(fetched.aborted, key=lambda entry: entry[1], reverse=True)
    aborting: set[int] = set()
    for position, header in iter_headers(fetched.data, partial_tail=True):
        if header.next_offset <= fetched.offset:
            continue
        if check_crcs:
            verify_crc(fetched.data, position, header)
        if header.producer_id >= 0 and (header.is_transactional or header.is_control):
            while pending and pending[-1][1] <= header.last_offset:
                aborting.add(pending.pop()[0])
            if header.is_control:
                _end_transaction(fetched.data, position, header, aborting)
                continue
            if header.producer_id in aborting:
                continue
        elif header.is_control:
            continue
        body = read_body(fetched.data, header, position=position, limit=DECOMPRESSED_BYTES_MAX)
        kind, epoch = int(header.timestamp_type), header.partition_leader_epoch
        yield [
            ConsumerRecord(topic, partition, offset, timestamp, key, value, headers, kind, epoch)
            for offset, timestamp, key, value, headers in records_of(header, body)
            if offset >= fetched.offset
        ]


def _end_transaction(data: memoryview, position: int, header: BatchHeader, aborting: set[int]) -> None:
    """An abort marker ends what was being skipped of its producer."""
    body = read_body(data, header, position=position, limit=DECOMPRESSED_BYTES_MAX)
    for record in records_of(header, body):
        if record.key is not None and len(record.key) >= _CONTROL_KEY.size:
            _, kind = _CONTROL_KEY.unpack_from(record.key)
            if kind == _ABORT:
                aborting.discard(header.producer_id)

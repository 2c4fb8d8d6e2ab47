"""The committed offsets of one shard: visible ones, and those that wait for the end of a transaction.

``fold`` follows the log: a plain commit replaces what was there; a transactional one is pending until its producer's
marker, and then counts only if no newer commit came between. Removal takes pending ones of the partition along.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ottla.groups.commands import FetchedOffset, FetchOffsets, FetchResult
from ottla.groups.group import Group
from ottla.groups.records import NO_EXPIRY, NO_PRODUCER, CommittedOffset, OffsetKey, OffsetRecord, TransactionMarker
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode


class _Entry(NamedTuple):
    committed: CommittedOffset
    log_offset: int


_Topics = dict[str, dict[int, _Entry]]


class OffsetTable:
    """Offsets by group, topic and partition. Every operation costs what it touches, not what the table holds."""

    __slots__ = ("_by_group", "_open", "_open_by_group", "_pending")

    def __init__(self) -> None:
        self._by_group: dict[str, _Topics] = {}
        self._pending: dict[int, dict[OffsetKey, _Entry]] = {}
        self._open: dict[OffsetKey, dict[int, None]] = {}
        self._open_by_group: dict[str, int] = {}

    # -- following the log

    def fold(self, record: OffsetRecord, log_offset: int) -> None:
        key, committed, producer_id = record
        if committed is None:
            self._remove(key)
            for producer in self._open.pop(key, {}):
                del self._pending[producer][key]
                self._close(key.group_id)
        elif producer_id == NO_PRODUCER:
            self._put(key, _Entry(committed, log_offset))
        else:
            self._pending.setdefault(producer_id, {})[key] = _Entry(committed, log_offset)
            producers = self._open.setdefault(key, {})
            if producer_id not in producers:
                producers[producer_id] = None
                self._open_by_group[key.group_id] = self._open_by_group.get(key.group_id, 0) + 1

    def end_transaction(self, marker: TransactionMarker) -> None:
        for key, entry in self._pending.pop(marker.producer_id, {}).items():
            producers = self._open[key]
            del producers[marker.producer_id]
            if not producers:
                del self._open[key]
            self._close(key.group_id)
            if marker.committed:
                current = self._entry(key)
                if current is None or current.log_offset < entry.log_offset:
                    self._put(key, entry)

    # -- questions

    def get(self, key: OffsetKey) -> CommittedOffset | None:
        entry = self._entry(key)
        return None if entry is None else entry.committed

    def has_any(self, key: OffsetKey) -> bool:
        """Whether the partition has a committed or a pending offset."""
        return key in self._open or self._entry(key) is not None

    def groups(self) -> Iterator[str]:
        return iter(self._by_group)

    def keys_of(self, group_id: str) -> list[OffsetKey]:
        """Every partition the group has a committed or pending offset for."""
        topics = self._by_group.get(group_id, {})
        keys = [
            OffsetKey(group_id, topic, partition) for topic, partitions in topics.items() for partition in partitions
        ]
        if group_id in self._open_by_group:
            committed = frozenset(keys)
            keys += [key for key in self._open if key.group_id == group_id and key not in committed]
        return keys

    def fetch(self, command: FetchOffsets) -> FetchResult:
        """What the group committed. A commit made for an earlier topic of the same name does not count."""
        if command.topics is None:
            return FetchResult(topics=tuple(self._fetch_all(command)))
        stored = self._by_group.get(command.group_id, {})
        return FetchResult(
            topics=tuple(
                (
                    topic,
                    topic_id,
                    tuple(
                        self._fetch_one(command, topic, topic_id, partition, stored.get(topic, {}).get(partition))
                        for partition in partitions
                    ),
                )
                for topic, topic_id, partitions in command.topics
            )
        )

    def expired(self, group: Group, now_ms: int, retention_ms: int) -> tuple[list[OffsetRecord], bool]:
        """Tombstones for what is too old, and whether nothing of the group's offsets is left after them."""
        tombstones: list[OffsetRecord] = []
        everything = group.group_id not in self._open_by_group
        for topic, partitions in self._by_group.get(group.group_id, {}).items():
            if group.is_subscribed_to(topic):
                everything = False
                continue
            for partition, entry in partitions.items():
                key = OffsetKey(group.group_id, topic, partition)
                if key not in self._open and _is_expired(entry.committed, group, now_ms, retention_ms):
                    tombstones.append(OffsetRecord(key, None))
                else:
                    everything = False
        return tombstones, everything

    def of_deleted_topic(self, topic: str, topic_id: Uuid) -> list[OffsetRecord]:
        """Tombstones for every offset committed for this very topic, or for one whose id was not known."""
        records: dict[OffsetKey, OffsetRecord] = {}
        for group_id, topics in self._by_group.items():
            for partition, entry in topics.get(topic, {}).items():
                if entry.committed.topic_id in (Uuid.ZERO, topic_id):
                    key = OffsetKey(group_id, topic, partition)
                    records[key] = OffsetRecord(key, None)
        for pending in self._pending.values():
            for key, entry in pending.items():
                if key.topic == topic and entry.committed.topic_id in (Uuid.ZERO, topic_id):
                    records[key] = OffsetRecord(key, None)
        return list(records.values())

    # -- below

    def _fetch_all(self, command: FetchOffsets) -> Iterator[tuple[str, Uuid, tuple[FetchedOffset, ...]]]:
        for topic, partitions in self._by_group.get(command.group_id, {}).items():
            offsets = (
                self._fetch_one(command, topic, Uuid.ZERO, partition, entry) for partition, entry in partitions.items()
            )
            yield topic, Uuid.ZERO, tuple(offsets)

    def _fetch_one(
        self, command: FetchOffsets, topic: str, topic_id: Uuid, partition: int, entry: _Entry | None
    ) -> FetchedOffset:
        if command.require_stable and OffsetKey(command.group_id, topic, partition) in self._open:
            return FetchedOffset(partition=partition, error=ErrorCode.UNSTABLE_OFFSET_COMMIT)
        if entry is None or _is_other_topic(entry.committed.topic_id, topic_id):
            return FetchedOffset(partition=partition)
        committed = entry.committed
        return FetchedOffset(
            partition=partition,
            offset=committed.offset,
            leader_epoch=committed.leader_epoch,
            metadata=committed.metadata,
        )

    def _entry(self, key: OffsetKey) -> _Entry | None:
        return self._by_group.get(key.group_id, {}).get(key.topic, {}).get(key.partition)

    def _put(self, key: OffsetKey, entry: _Entry) -> None:
        self._by_group.setdefault(key.group_id, {}).setdefault(key.topic, {})[key.partition] = entry

    def _remove(self, key: OffsetKey) -> None:
        topics = self._by_group.get(key.group_id)
        if topics is None or key.topic not in topics:
            return
        topics[key.topic].pop(key.partition, None)
        if not topics[key.topic]:
            del topics[key.topic]
        if not topics:
            del self._by_group[key.group_id]

    def _close(self, group_id: str) -> None:
        left = self._open_by_group[group_id] - 1
        if left:
            self._open_by_group[group_id] = left
        else:
            del self._open_by_group[group_id]


def _is_expired(committed: CommittedOffset, group: Group, now_ms: int, retention_ms: int) -> bool:
    base = group.expiry_base(committed.commit_timestamp)
    if base is None:
        return False
    if committed.expire_timestamp != NO_EXPIRY:
        return now_ms >= committed.expire_timestamp
    return now_ms - base >= retention_ms


def _is_other_topic(stored: Uuid, asked: Uuid) -> bool:
    return stored != asked and Uuid.ZERO not in (stored, asked)

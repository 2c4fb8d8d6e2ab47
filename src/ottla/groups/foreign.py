"""Groups of other kinds (share, streams) that a log contains but this shard does not serve.

They keep their keys, so that they are listed, protected and, when asked and empty, deleted as a whole. Nothing is
understood of their values; every record stays in the log as it is.
"""

from ottla.groups.records import FOREIGN_MEMBER_TYPES, ForeignGroupRecord, GroupKind, ShardRecord
from ottla.wire.errors import ErrorCode, KafkaError


class ForeignGroup:
    """One group known by the keys of its live records."""

    __slots__ = ("_keys", "_members", "group_id", "kind")

    def __init__(self, group_id: str, kind: GroupKind) -> None:
        self.group_id = group_id
        self.kind = kind
        self._keys: dict[bytes, int] = {}
        self._members = 0

    def fold(self, record: ForeignGroupRecord) -> None:
        """Follow one record of this group."""
        known = record.key in self._keys
        if record.value is None:
            if known:
                self._members -= record.type in FOREIGN_MEMBER_TYPES
                del self._keys[record.key]
        else:
            if not known:
                self._members += record.type in FOREIGN_MEMBER_TYPES
            self._keys[record.key] = record.type

    @property
    def is_gone(self) -> bool:
        return not self._keys

    @property
    def state_name(self) -> str:
        return "Empty" if self.is_empty else "Stable"

    @property
    def protocol_type_name(self) -> str:
        return str(self.kind)

    @property
    def is_empty(self) -> bool:
        return self._members == 0

    def is_subscribed_to(self, topic: str) -> bool:
        return not self.is_empty

    def expiry_base(self, commit_timestamp: int) -> int | None:
        return commit_timestamp if self.is_empty else None

    def check_commit(
        self, *, member_id: str, group_instance_id: str | None, generation_or_epoch: int, knows_epochs: bool
    ) -> None:
        if generation_or_epoch < 0 and self.is_empty and not member_id and group_instance_id is None:
            return
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, f"members of {self.kind} groups are not served")

    def check_offset_delete(self) -> None:
        if not self.is_empty:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP)

    def check_delete(self) -> None:
        if not self.is_empty:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP)

    def tombstones(self) -> list[ShardRecord]:
        return [ForeignGroupRecord(self.kind, kind, self.group_id, key, None) for key, kind in self._keys.items()]

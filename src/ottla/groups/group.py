"""What every kind of group in a shard has in common: enough to list, to expire and to guard its offsets."""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct, field

from ottla.groups.records import GroupKind, ShardRecord
from ottla.model import Reply, Uuid

PartitionCheck = Callable[[str, Uuid, int], None]
"""Topic, its id and a partition; raises ``KafkaError`` unless an offset of it may be committed."""


class Group(Protocol):
    """A classic group, or a group of a newer kind, as the parts of a shard that do not care see it."""

    @property
    def group_id(self) -> str: ...

    @property
    def kind(self) -> GroupKind: ...

    @property
    def state_name(self) -> str: ...

    @property
    def protocol_type_name(self) -> str: ...

    @property
    def is_empty(self) -> bool: ...

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether the group is known to consume ``topic`` now: such offsets are neither expired nor deleted."""
        ...

    def expiry_base(self, commit_timestamp: int) -> int | None:
        """The time from which an offset committed at ``commit_timestamp`` ages; ``None`` while none may expire."""
        ...

    def check_commit(
        self, *, member_id: str, group_instance_id: str | None, generation_or_epoch: int, knows_epochs: bool
    ) -> PartitionCheck | None:
        """Raises ``KafkaError`` unless this member may commit offsets now; some of them, where a check is returned."""
        ...

    def check_offset_delete(self) -> None:
        """Raises ``KafkaError`` unless offsets of unsubscribed topics may be deleted."""
        ...

    def check_delete(self) -> None:
        """Raises ``KafkaError`` unless the group may be deleted."""
        ...

    def tombstones(self) -> list[ShardRecord]:
        """What removes the group (not its offsets) from the log."""
        ...


class Turn(Struct):
    """One command being decided: its time, the records it wants written and the parked answers it gives."""

    now_ms: int
    records: list[ShardRecord] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)

    def write(self, record: ShardRecord) -> None:
        self.records.append(record)

    def reply(self, token: int, response: object) -> None:
        self.replies.append(Reply(token=token, response=response))

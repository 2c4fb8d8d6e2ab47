"""What the parts that decide about consumer groups share: settings, topics, deadlines, randomness."""

from random import Random

from ottla.groups.classic.rebalance import DeadlineKey, Purpose
from ottla.groups.consumer.topics import NoTopics, Topics
from ottla.groups.deadlines import Deadlines
from ottla.groups.settings import ConsumerGroupSettings, ConsumerGroupTimes, GroupSettings
from ottla.model import Uuid


class ConsumerContext:
    """One a shard. ``settings`` and ``topics`` are exchanged as the cluster changes."""

    __slots__ = ("deadlines", "random", "settings", "topics")

    def __init__(self, *, settings: GroupSettings, deadlines: Deadlines[DeadlineKey], random: Random) -> None:
        self.settings = settings
        self.topics: Topics = NoTopics()
        self.deadlines = deadlines
        self.random = random

    @property
    def consumer(self) -> ConsumerGroupSettings:
        return self.settings.consumer

    def times_of(self, group_id: str) -> ConsumerGroupTimes:
        return self.settings.consumer.times_of(group_id)

    def new_member_id(self) -> str:
        return str(Uuid.random(self.random))

    # -- deadlines of members

    def extend_session(self, group_id: str, member_id: str, now_ms: int, timeout_ms: int | None = None) -> None:
        """A sign of life; ``timeout_ms`` is a classic member's own."""
        if timeout_ms is None:
            timeout_ms = self.times_of(group_id).session_timeout_ms
        self.deadlines.schedule(DeadlineKey(Purpose.CONSUMER_SESSION, group_id, member_id), now_ms + timeout_ms)

    def await_revocation(self, group_id: str, member_id: str, at_ms: int) -> None:
        self.deadlines.schedule(DeadlineKey(Purpose.CONSUMER_REVOCATION, group_id, member_id), at_ms)

    def await_join(self, group_id: str, member_id: str, at_ms: int) -> None:
        """A classic member was told to join again; being told twice does not give it more time."""
        key = DeadlineKey(Purpose.CONSUMER_JOIN, group_id, member_id)
        if self.deadlines.at(key) is None:
            self.deadlines.schedule(key, at_ms)

    def await_sync(self, group_id: str, member_id: str, at_ms: int) -> None:
        self.deadlines.schedule(DeadlineKey(Purpose.CONSUMER_SYNC, group_id, member_id), at_ms)

    def cancel(self, purpose: Purpose, group_id: str, member_id: str = "") -> None:
        self.deadlines.cancel(DeadlineKey(purpose, group_id, member_id))

    def forget_member(self, group_id: str, member_id: str) -> None:
        """The member is gone: nothing of it is waited for."""
        for purpose in (
            Purpose.CONSUMER_SESSION,
            Purpose.CONSUMER_REVOCATION,
            Purpose.CONSUMER_JOIN,
            Purpose.CONSUMER_SYNC,
        ):
            self.cancel(purpose, group_id, member_id)

"""What every kind of group membership shares: settings, and the partitions that come and go.

``Ownership`` is the one place that starts and ends the reading of a group's partitions, tells the listener, and commits
what was finished before a partition is handed on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from msgspec import Struct

from ottla.client._assignors import Assignor
from ottla.client._errors import error_of
from ottla.client._fetcher import LOOKED_UP_MAX, Fetcher
from ottla.client._offsets import OffsetAndMetadata
from ottla.client._partitions import Reading
from ottla.model import TopicPartition
from ottla.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from ottla.client._commits import Commits, ConsumerGroupMetadata

logger: Final = logging.getLogger("ottla.client")

AnswerT = TypeVar("AnswerT")

LOOK_UP_SECONDS: Final = 0.1
"""How long it is waited for what was asked before it was known to be needed: where partitions begin."""
FATAL: Final = frozenset(
    (
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.UNRELEASED_INSTANCE_ID,
        ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
        ErrorCode.INVALID_SESSION_TIMEOUT,
        ErrorCode.INVALID_GROUP_ID,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.GROUP_AUTHORIZATION_FAILED,
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.GROUP_MAX_SIZE_REACHED,
        ErrorCode.UNSUPPORTED_ASSIGNOR,
        ErrorCode.UNSUPPORTED_VERSION,
        ErrorCode.INVALID_REGULAR_EXPRESSION,
    )
)


class RebalanceListener:
    """Derive from it and override what you want to hear of; plain functions and coroutines both will do.

    ``on_revoked`` is called while the partitions are still ours: the place to finish and to commit. ``on_lost`` comes
    instead when they are gone already. A listener has ``max_poll_interval_ms`` for all it does in one rebalance.
    """

    def on_assigned(self, partitions: Collection[TopicPartition]) -> Awaitable[None] | None:
        """These partitions were added."""

    def on_revoked(self, partitions: Collection[TopicPartition]) -> Awaitable[None] | None:
        """These partitions are about to go."""

    def on_lost(self, partitions: Collection[TopicPartition]) -> Awaitable[None] | None:
        """These partitions have gone to others. Where not overridden, ``on_revoked`` is called."""
        return self.on_revoked(partitions)


class GroupSettings(Struct, frozen=True, kw_only=True):
    """How to be a member. Times in seconds."""

    group_id: str
    instance_id: str | None
    session_seconds: float
    heartbeat_seconds: float
    rebalance_seconds: float
    assignors: tuple[Assignor, ...]
    remote_assignor: str | None = None
    rack: str = ""
    auto_commit: bool = True
    api_seconds: float = 60.0


def group_settings(
    member: tuple[str, str | None, str],
    assignors: tuple[tuple[Assignor, ...], str | None],
    times_ms: tuple[float, float, float, float],
    *,
    auto_commit: bool,
) -> GroupSettings:
    """``member``: group, instance, rack; ``assignors``: ours, the broker's; times: session, heartbeat, poll, API."""
    (group_id, instance_id, rack), (own, remote) = member, assignors
    session, heartbeat, poll, api = (one / 1000 for one in times_ms)
    return GroupSettings(
        group_id=group_id,
        instance_id=instance_id,
        session_seconds=session,
        heartbeat_seconds=min(heartbeat, session / 3),
        rebalance_seconds=poll,
        assignors=own,
        remote_assignor=remote,
        rack=rack,
        auto_commit=auto_commit,
        api_seconds=api,
    )


class Activity(Protocol):
    """Whether the application still comes for records."""

    def idle_seconds(self) -> float:
        """Since it last did."""

    async def wait_active(self) -> None:
        """Until it does."""


class Membership(Protocol):
    """Being in a group."""

    @property
    def identity(self) -> "ConsumerGroupMetadata": ...

    async def run(self) -> None:
        """Join, stay, follow rebalances until ``stop``. Raises ``KafkaError`` where that cannot go on."""

    def subscription_changed(self) -> None:
        """Topics or partitions have come or gone."""

    def stop(self) -> None: ...

    async def leave(self, seconds: float) -> None:
        """Tell the group good-bye, so that the others need not wait for the session to expire."""


class _Foreseen(Struct):
    """Where partitions begin that we may be given, while it is asked: what is committed (``None`` if that was not
    told), and where their logs start or end (if one broker knows)."""

    places: frozenset[TopicPartition]
    committed: "asyncio.Task[dict[TopicPartition, OffsetAndMetadata | None] | None]"
    looking: "asyncio.Task[dict[TopicPartition, tuple[int, int]]] | None"


class Ownership:
    """The partitions that the group has given us."""

    def __init__(
        self,
        fetcher: Fetcher,
        settings: GroupSettings,
        *,
        listener: RebalanceListener,
        settle: Callable[[], None],
        reset_timestamp: Callable[[], int | None],
    ) -> None:
        self._fetcher = fetcher
        self._settings = settings
        self._listener = listener
        self._settle = settle
        self._reset_timestamp = reset_timestamp
        self.commits: Commits
        self._foreseen: _Foreseen | None = None

    @property
    def places(self) -> frozenset[TopicPartition]:
        return self._fetcher.readings.places()

    def foresee(self, places: Collection[TopicPartition], group: asyncio.TaskGroup) -> None:
        """Ask already where these partitions begin, in tasks of ``group``, behind the request that may give them to us.

        It holds for those that the answer to that request gives, until the next one: then ``forget``.
        """
        self.forget()
        if places and len(places) <= LOOKED_UP_MAX:
            committed = group.create_task(self._committed(places), name="group offsets")
            # Of many brokers some may lead nothing of what we get.
            looking = self._fetcher.look_up(places) if self._fetcher.has_only_leader(places) else None
            self._foreseen = _Foreseen(frozenset(places), committed, looking)

    def forget(self) -> None:
        """What was foreseen may have changed."""
        foreseen, self._foreseen = self._foreseen, None
        if foreseen is not None:
            for asked in (foreseen.looking, foreseen.committed):
                if asked is not None:
                    asked.cancel()

    async def take(self, places: Collection[TopicPartition]) -> None:
        """Read these partitions too, from where the group has committed."""
        new = sorted(set(places) - self.places)
        self._fetcher.expect(new)
        foreseen: _Foreseen | None = None
        if new and self._foreseen is not None and self._foreseen.places.issuperset(new):
            foreseen, self._foreseen = self._foreseen, None
        # Both questions at once: a new group has nothing committed.
        looking = (foreseen and foreseen.looking) or self._fetcher.look_up(new)
        try:
            committed = None if foreseen is None else await _told_soon(foreseen.committed)
            if committed is None:
                committed = await self.commits.committed(new, self._settings.api_seconds)
            found: Mapping[TopicPartition, tuple[int, int]] = {}
            if any(committed[place] is None for place in new):
                found = await _told_soon(looking) or {}
        finally:
            looking.cancel()
        for place in new:
            self._fetcher.readings.put(self._begin(place, committed[place], found.get(place)))
        try:
            await self._tell(self._listener.on_assigned, places)
        finally:
            self._fetcher.changed()

    async def give_up(self, places: Collection[TopicPartition], *, lost: bool = False) -> None:
        """Read these partitions no more. Unless they are lost already, what was finished is committed first."""
        going = self.places & frozenset(places)
        if not going:
            return
        # What is committed now counts for whoever gets them next, us included.
        self.forget()
        self._settle()
        for place in going:
            reading = self._fetcher.readings.get(place)
            if reading is not None:
                held = reading.anew()
                held.paused = True
                self._fetcher.readings.put(held)
        self._fetcher.changed()
        try:
            if lost:
                await self._tell(self._listener.on_lost, going)
            else:
                if self._settings.auto_commit:
                    await self._commit(going)
                await self._tell(self._listener.on_revoked, going)
        finally:
            self._fetcher.readings.drop(going)
            self._fetcher.changed()

    async def _committed(
        self, places: Collection[TopicPartition]
    ) -> "dict[TopicPartition, OffsetAndMetadata | None] | None":
        try:
            # On the connection of the join, whose deadline a shorter one would cut.
            seconds = max(self._settings.api_seconds, self._settings.session_seconds)
            return await self.commits.committed(places, seconds)
        except (ConnectionError, KafkaError):
            return None

    def _begin(
        self, place: TopicPartition, committed: OffsetAndMetadata | None, found: tuple[int, int] | None
    ) -> Reading:
        if committed is not None:
            return Reading(place, committed.offset, epoch=committed.leader_epoch)
        if found is not None and found[0] >= 0:
            return Reading(place, found[0], epoch=found[1])
        reading = Reading(place)
        reading.reset_to = self._reset_timestamp()
        if reading.reset_to is None:
            message = f"group {self._settings.group_id!r} has no offset for {place} and no reset is configured"
            self._fetcher.fail(error_of(ErrorCode.OFFSET_OUT_OF_RANGE, message))
        return reading

    async def _commit(self, places: Iterable[TopicPartition]) -> None:
        finished = self._fetcher.readings.finished()
        offsets = {
            place: OffsetAndMetadata(offset=finished[place][0], leader_epoch=finished[place][1])
            for place in places
            if place in finished and not self._fetcher.of_former_topic(place)
        }
        try:
            await self.commits.commit(offsets, min(self._settings.api_seconds, self._settings.rebalance_seconds / 2))
        except (ConnectionError, KafkaError) as error:
            logger.warning("group %s: commit before giving up partitions: %s", self._settings.group_id, error)

    async def _tell(
        self,
        method: Callable[[Collection[TopicPartition]], Awaitable[None] | None],
        places: Collection[TopicPartition],
    ) -> None:
        """What a listener raises reaches the application, at its next poll."""
        try:
            outcome = method(frozenset(places))
            if outcome is not None:
                async with asyncio.timeout(self._settings.rebalance_seconds):
                    await outcome
        except Exception as error:
            self._fetcher.fail(error)


async def _told_soon(asked: "asyncio.Task[AnswerT]") -> AnswerT | None:
    """The answer, unless something holds it up that may be no concern of ours, such as others' open transactions."""
    try:
        if not asked.done():
            await asyncio.wait((asked,), timeout=LOOK_UP_SECONDS)
        return asked.result() if asked.done() else None
    finally:
        asked.cancel()

"""Membership by the next generation protocol (KIP-848): one heartbeat carries everything, the broker assigns.

Two loops: the heartbeat tells what we own and hears what we should; the reconciliation makes the one the other, with
the listener and the commits that belong to it, while heartbeats go on. Ownership is told only when it is complete.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from ottla.client._backoff import Backoff
from ottla.client._cluster import Cluster
from ottla.client._commits import ConsumerGroupMetadata
from ottla.client._errors import error_of
from ottla.client._group import FATAL, Activity, GroupSettings, Ownership, logger
from ottla.client._group_coordinator import GroupCoordinator
from ottla.model import TopicPartition, Uuid
from ottla.runtime.futures import wait_for
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest, TopicPartitions
from ottla.wire.messages.consumer_group_heartbeat_response import ConsumerGroupHeartbeatResponse

JOIN_EPOCH: Final = 0
LEAVE_EPOCH: Final = -1
LEAVE_FOR_A_WHILE_EPOCH: Final = -2
"""A static member goes and will be back."""
SOON_SECONDS: Final = 0.002
PATTERN_VERSION: Final = 1
"""From here on the heartbeat carries a regular expression."""

Target = frozenset[tuple[Uuid, int]]


class NextMembership:
    """A member of a group whose broker assigns. ``pattern``: topics by a regular expression of the broker's (RE2)."""

    def __init__(
        self,
        cluster: Cluster,
        coordinator: GroupCoordinator,
        ownership: Ownership,
        settings: GroupSettings,
        *,
        topics: Callable[[], frozenset[str]],
        pattern: Callable[[], str | None],
        activity: Activity,
    ) -> None:
        self._cluster = cluster
        self._coordinator = coordinator
        self._ownership = ownership
        self._settings = settings
        self._topics = topics
        self._pattern = pattern
        self._activity = activity
        self._member_id = str(Uuid.random(cluster.rng))
        self._epoch = JOIN_EPOCH
        self._interval = settings.heartbeat_seconds
        self._told: ConsumerGroupHeartbeatRequest | None = None
        """The last full state that the coordinator has heard; ``None``: say everything."""
        self._told_owned: Target | None = None
        self._target: Target | None = None
        self._reached: Target | None = None
        self._retarget = asyncio.Event()
        self._wake = asyncio.Event()
        self._lost = False
        self._expired = False
        self._stopping = False

    @property
    def identity(self) -> ConsumerGroupMetadata:
        return ConsumerGroupMetadata(
            group_id=self._settings.group_id,
            generation_id=self._epoch if self._epoch > 0 else -1,
            member_id=self._member_id,
            group_instance_id=self._settings.instance_id,
            by_epoch=True,
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            reconciling = group.create_task(self._reconcile(), name="group reconciliation")
            backoff = Backoff(self._cluster.rng, initial=0.05)
            while not self._stopping:
                # Here and not behind the wait: what wakes us during a heartbeat leads to the next, what did before the
                # first one does not.
                self._wake.clear()
                try:
                    await self._beat(group)
                    backoff.reset()
                except (ConnectionError, KafkaError) as error:
                    if isinstance(error, KafkaError) and error.code in FATAL:
                        reconciling.cancel()
                        raise
                    logger.info("group %s: heartbeat: %s", self._settings.group_id, error)
                    self._told = None
                    await asyncio.sleep(backoff.next_seconds())
                    continue
                await wait_for(self._wake, self._interval)
            reconciling.cancel()

    def subscription_changed(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    async def leave(self, seconds: float) -> None:
        """Static members go for a while only."""
        if self._epoch <= 0:
            return
        self._epoch = LEAVE_EPOCH if self._settings.instance_id is None else LEAVE_FOR_A_WHILE_EPOCH
        epoch, self._told = self._epoch, None
        request = ConsumerGroupHeartbeatRequest(
            group_id=self._settings.group_id,
            member_id=self._member_id,
            member_epoch=epoch,
            instance_id=self._settings.instance_id,
        )
        await self._coordinator.ask(
            ApiKey.CONSUMER_GROUP_HEARTBEAT,
            lambda _: request,
            code_of=_error_code,
            seconds=seconds,
        )

    # Heartbeats

    async def _beat(self, group: asyncio.TaskGroup) -> None:
        if self._expired:
            await self._activity.wait_active()
            self._expired = False
        elif self._activity.idle_seconds() > self._settings.rebalance_seconds:
            await self._expire()
            return
        # Who comes back gives up first what it had, and what is committed then counts.
        joining = self._epoch == JOIN_EPOCH and not self._ownership.places
        sent: list[ConsumerGroupHeartbeatRequest] = []

        def request(version: int) -> ConsumerGroupHeartbeatRequest:
            if sent:
                # An earlier try may or may not have been heard.
                self._told = None
            sent.append(self._request(version))
            return sent[-1]

        def foresee() -> None:
            if len(sent) == 1:
                self._ownership.foresee(self._cluster.places(self._topics()), group)

        response: ConsumerGroupHeartbeatResponse = await self._coordinator.ask(
            ApiKey.CONSUMER_GROUP_HEARTBEAT,
            request,
            code_of=_error_code,
            seconds=max(self._settings.session_seconds, self._interval),
            # What a join gives us at once is nobody else's from then on, also for the question behind it.
            sent=foresee if joining else None,
        )
        code = ErrorCode.of(response.error_code)
        given = None if response.assignment is None else response.assignment.topic_partitions
        if not (joining and len(sent) == 1 and code is ErrorCode.NONE and given):
            self._ownership.forget()
        if code is ErrorCode.NONE:
            self._heard(response)
        elif code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH):
            self._start_over(lost=True)
        else:
            raise error_of(code, response.error_message or f"group {self._settings.group_id!r}")

    def _request(self, version: int) -> ConsumerGroupHeartbeatRequest:
        """What has changed since the coordinator last heard us; everything where that is not certain."""
        settings = self._settings
        joining = self._epoch == JOIN_EPOCH
        full = joining or self._told is None
        request = ConsumerGroupHeartbeatRequest(
            group_id=settings.group_id,
            member_id=self._member_id,
            member_epoch=self._epoch,
            instance_id=settings.instance_id,
        )
        # A broker without patterns gets the names that match here.
        names, pattern = sorted(self._topics()), self._pattern() if version >= PATTERN_VERSION else None
        if full:
            request.rack_id = settings.rack or None
            request.rebalance_timeout_ms = int(settings.rebalance_seconds * 1000)
            request.server_assignor = settings.remote_assignor
        told = self._told
        if pattern is not None:
            if full or told is None or told.subscribed_topic_regex != pattern:
                request.subscribed_topic_regex = pattern
                request.subscribed_topic_names = [] if not full else None
        elif full or told is None or told.subscribed_topic_names != names:
            request.subscribed_topic_names = names
        if joining:
            request.topic_partitions = []
        elif self._reached is not None and (full or self._reached != self._told_owned):
            request.topic_partitions = _by_topic(self._reached)
        self._told = ConsumerGroupHeartbeatRequest(
            subscribed_topic_names=None if pattern is not None else names, subscribed_topic_regex=pattern
        )
        if request.topic_partitions is not None and not joining:
            self._told_owned = self._reached
        return request

    def _heard(self, response: ConsumerGroupHeartbeatResponse) -> None:
        self._member_id = response.member_id or self._member_id
        if self._epoch == JOIN_EPOCH:
            logger.info("group %s: joined with epoch %d", self._settings.group_id, response.member_epoch)
        self._epoch = response.member_epoch
        self._interval = response.heartbeat_interval_ms / 1000 or self._interval
        if response.assignment is not None:
            self._target = frozenset(
                (topic.topic_id, number)
                for topic in response.assignment.topic_partitions
                for number in topic.partitions
            )
            self._reached = None if self._target != self._reached else self._reached
            self._retarget.set()

    def _start_over(self, *, lost: bool) -> None:
        """The group does not know us any more: what we had is gone, join anew."""
        self._epoch = JOIN_EPOCH
        self._told = self._told_owned = self._target = self._reached = None
        self._lost = lost
        self._retarget.set()
        self._wake.set()

    async def _expire(self) -> None:
        """The application has not come for records in time: leave, so that others get on with them."""
        logger.warning(
            "group %s: no poll for more than max_poll_interval_ms (%d): leaving until there is one",
            self._settings.group_id,
            self._settings.rebalance_seconds * 1000,
        )
        try:
            await self.leave(self._interval)
        finally:
            self._expired = True
            self._start_over(lost=True)

    # Reconciliation

    async def _reconcile(self) -> None:
        backoff = Backoff(self._cluster.rng, initial=0.05)
        while True:
            await self._retarget.wait()
            self._retarget.clear()
            if self._lost:
                self._lost = False
                await self._ownership.give_up(self._ownership.places, lost=True)
            target = self._target
            if target is None:
                continue
            try:
                complete = await self._reach(target)
                backoff.reset()
            except (ConnectionError, KafkaError) as error:
                logger.info("group %s: taking over partitions: %s", self._settings.group_id, error)
                complete = False
            if complete and target == self._target:
                self._reached = target
                # Somebody may wait for what we gave up, but nobody for what we were given: reading it begins first.
                gave_up = self._told_owned is not None and not self._told_owned <= target
                asyncio.get_running_loop().call_later(0 if gave_up else SOON_SECONDS, self._wake.set)
            elif not complete:
                await asyncio.sleep(backoff.next_seconds())
                self._retarget.set()

    async def _reach(self, target: Target) -> bool:
        """Give up and take; whether all of the target is ours. Topics that nobody knows any more are left out."""
        unknown = {topic_id for topic_id, _ in target if self._cluster.topic_by_id(topic_id) is None}
        if unknown:
            await self._cluster.refresh(None if self._pattern() is not None else self._topics())
        names = {topic_id: self._cluster.topic_by_id(topic_id) for topic_id, _ in target}
        wanted = {
            TopicPartition(topic.name, number) for topic_id, number in target if (topic := names[topic_id]) is not None
        }
        owned = self._ownership.places
        await self._ownership.give_up(owned - wanted)
        await self._ownership.take(wanted - owned)
        return None not in names.values()


def _by_topic(target: Target) -> list[TopicPartitions]:
    numbers: defaultdict[Uuid, list[int]] = defaultdict(list)
    for topic_id, number in sorted(target):
        numbers[topic_id].append(number)
    return [TopicPartitions(topic_id=topic_id, partitions=partitions) for topic_id, partitions in numbers.items()]


def _error_code(response: ConsumerGroupHeartbeatResponse) -> int:
    return response.error_code

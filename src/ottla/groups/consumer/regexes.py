"""Server-side regular expressions: when those of a group are matched with the cluster's topics, and what follows.

A member only names its expression. Which topics that means is worked out apart from heartbeats, in slices between which
everybody else gets a turn, and written as records; the group's epoch moves on where it made a difference. Bounds: an
expression as ``re2`` says, one resolution a group at a time, not more than one in ten seconds, ``STEPS_A_SLICE`` of a
matcher at once.
"""

from collections.abc import Generator, Iterable
from typing import Final, NamedTuple

from msgspec import Struct

from ottla.groups.classic.rebalance import DeadlineKey, Purpose
from ottla.groups.consumer.context import ConsumerContext
from ottla.groups.consumer.group import ConsumerGroup
from ottla.groups.consumer.records import (
    ConsumerGroupMetadata,
    ConsumerGroupRegularExpression,
    GroupEpoch,
    ResolvedRegex,
    ascending_names,
)
from ottla.groups.consumer.topics import group_hash
from ottla.groups.group import Turn
from ottla.re2 import InvalidRegex, Matcher, compile_regex, select
from ottla.wire.errors import ErrorCode, KafkaError

STEPS_A_SLICE: Final = 50_000
SLICE_DISTANCE_MS: Final = 1
REFRESH_DISTANCE_MS: Final = 10_000
"""Least time between two resolutions of one group's expressions, whatever happens to topics."""


class RegexUpdate(NamedTuple):
    """What a heartbeat did to its member's expression. ``is_resolved``: the new one's topics are known already."""

    has_changed: bool
    is_resolved: bool


_UNCHANGED: Final = RegexUpdate(has_changed=False, is_resolved=False)


class _Resolution(Struct):
    """Expressions being matched: what is left to do, in steps, and the topics found."""

    version: int
    started_ms: int
    steps: Generator[int, None, None]
    found: dict[str, list[str]]


class RegexResolution:
    """The regular expressions of all groups of a shard."""

    __slots__ = ("_context", "_running")

    def __init__(self, context: ConsumerContext) -> None:
        self._context = context
        self._running: dict[str, _Resolution] = {}

    def update(self, group: ConsumerGroup, old: str, new: str, turn: Turn) -> RegexUpdate:
        """A member went from one expression to another (empty is none); start matching where that is due.

        Raises INVALID_REGULAR_EXPRESSION.
        """
        result = _UNCHANGED
        is_unknown = False
        if old != new:
            if old and group.subscriptions.members_with(old) == 1:
                turn.write(ConsumerGroupRegularExpression(group.group_id, old, None))
            if new and not group.subscriptions.members_with(new):
                _check(new)
                is_unknown = True
            result = RegexUpdate(has_changed=True, is_resolved=not new or new in group.resolved)
        if is_unknown or group.subscriptions.has_regexes:
            self._start_if_due(group, old, new, turn.now_ms, is_unknown=is_unknown)
        return result

    def _start_if_due(self, group: ConsumerGroup, old: str, new: str, now_ms: int, *, is_unknown: bool) -> None:
        if group.group_id in self._running:
            return
        last = next(iter(group.resolved.values()), None)
        if last is not None and now_ms <= last.timestamp_ms + REFRESH_DISTANCE_MS:
            return
        wanted = _after(group, old, new)
        interval_ms = self._context.consumer.regex_refresh_interval_ms
        is_due = (
            is_unknown
            or len(wanted) != len(group.resolved)
            or last is None
            or last.version < self._context.topics.last_creation
            or now_ms > last.timestamp_ms + interval_ms
        )
        if is_due and wanted:
            self._start(group, wanted, now_ms)

    def _start(self, group: ConsumerGroup, regexes: Iterable[str], now_ms: int) -> None:
        topics = self._context.topics
        found: dict[str, list[str]] = {regex: [] for regex in regexes}
        matchers = [(matcher, matches) for regex, matches in found.items() if (matcher := _matcher(regex)) is not None]
        self._running[group.group_id] = _Resolution(
            version=topics.version,
            started_ms=now_ms,
            steps=select(matchers, tuple(topics.names())),
            found=found,
        )
        self._context.deadlines.schedule(DeadlineKey(Purpose.CONSUMER_REGEX, group.group_id), now_ms)

    def on_deadline(self, group: ConsumerGroup | None, group_id: str, turn: Turn) -> None:
        """Match the next slice of topics; behind the last one, write what was found."""
        running = self._running.get(group_id)
        if running is None or group is None:
            self.forget(group_id)
            return
        left = STEPS_A_SLICE
        for steps in running.steps:
            left -= steps
            if left <= 0:
                key = DeadlineKey(Purpose.CONSUMER_REGEX, group_id)
                self._context.deadlines.schedule(key, turn.now_ms + SLICE_DISTANCE_MS)
                return
        del self._running[group_id]
        self._finish(group, running, turn)

    def _finish(self, group: ConsumerGroup, running: _Resolution, turn: Turn) -> None:
        subscriptions = group.subscriptions.copy()
        must_bump = False
        for regex, found in running.found.items():
            if not group.subscriptions.members_with(regex):
                continue
            topics = ascending_names(found)
            known = group.resolved.get(regex, ResolvedRegex()).topics
            if topics != known:
                must_bump = True
                subscriptions.remove_matches(known)
                subscriptions.add_matches(topics)
            resolved = ResolvedRegex(topics=topics, version=running.version, timestamp_ms=running.started_ms)
            turn.write(ConsumerGroupRegularExpression(group.group_id, regex, resolved))
        metadata_hash = group_hash(self._context.topics, subscriptions.topics())
        if must_bump or metadata_hash != group.metadata_hash:
            epoch = GroupEpoch(epoch=group.epoch + 1, metadata_hash=metadata_hash)
            turn.write(ConsumerGroupMetadata(group.group_id, epoch))

    def forget(self, group_id: str) -> None:
        """The group is gone."""
        self._running.pop(group_id, None)
        self._context.cancel(Purpose.CONSUMER_REGEX, group_id)


def _after(group: ConsumerGroup, old: str, new: str) -> tuple[str, ...]:
    """The group's expressions once a member has gone from ``old`` to ``new``."""
    if old == new:
        return group.subscriptions.regexes
    kept = [regex for regex in group.subscriptions.regexes if regex != old or group.subscriptions.members_with(old) > 1]
    return tuple(dict.fromkeys((*kept, new))) if new else tuple(kept)


def _check(regex: str) -> None:
    try:
        compile_regex(regex)
    except InvalidRegex as error:
        raise KafkaError(
            ErrorCode.INVALID_REGULAR_EXPRESSION,
            f"SubscribedTopicRegex `{regex}` is not a valid regular expression: {error}.",
        ) from error


def _matcher(regex: str) -> Matcher | None:
    """``None`` for an expression that another broker took and this one does not: it matches nothing."""
    try:
        return compile_regex(regex)
    except InvalidRegex:
        return None

"""Who subscribes to what, counted: by the names members give, by their regular expressions, and by what those match.

The counts follow members as they come, change and go, so that a heartbeat looks at its own member only. Deciding works
on a copy with the change applied; the group's own counts change when the records are folded.
"""

from collections.abc import Iterable, Iterator

from ottla.groups.consumer.records import MemberMetadata


class Subscriptions:
    """The counts of one group."""

    __slots__ = ("_matches", "_names", "_regexes")

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._regexes: dict[str, int] = {}
        self._matches: dict[str, int] = {}

    def copy(self) -> "Subscriptions":
        other = Subscriptions()
        other._names = dict(self._names)
        other._regexes = dict(self._regexes)
        other._matches = dict(self._matches)
        return other

    def add(self, member: MemberMetadata) -> None:
        _count(self._names, member.topics, 1)
        if member.regex:
            _count(self._regexes, (member.regex,), 1)

    def remove(self, member: MemberMetadata) -> None:
        _count(self._names, member.topics, -1)
        if member.regex:
            _count(self._regexes, (member.regex,), -1)

    def add_matches(self, topics: Iterable[str]) -> None:
        """A regular expression was resolved to these topics."""
        _count(self._matches, topics, 1)

    def remove_matches(self, topics: Iterable[str]) -> None:
        _count(self._matches, topics, -1)

    # -- questions

    def __contains__(self, topic: str) -> bool:
        return topic in self._names or topic in self._matches

    def topics(self) -> Iterator[str]:
        """Every topic somebody subscribes to, whether or not it exists."""
        yield from self._names
        yield from (topic for topic in self._matches if topic not in self._names)

    @property
    def regexes(self) -> tuple[str, ...]:
        return tuple(self._regexes)

    @property
    def has_regexes(self) -> bool:
        return bool(self._regexes)

    def members_with(self, regex: str) -> int:
        return self._regexes.get(regex, 0)

    def is_homogeneous(self, members: int) -> bool:
        """Whether all ``members`` subscribe to the same: to the same names, or through one expression and no names."""
        if not self._regexes:
            return all(count == members for count in self._names.values())
        if next(iter(self._regexes.values())) != members:
            return False
        return not self._names and all(count == 1 for count in self._matches.values())


def _count(counts: dict[str, int], keys: Iterable[str], step: int) -> None:
    for key in keys:
        count = counts.get(key, 0) + step
        if count > 0:
            counts[key] = count
        else:
            counts.pop(key, None)

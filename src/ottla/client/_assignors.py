"""Who reads what: the assignors of the classic protocol, as pure functions of the members and the partitions.

Names and results are those of Java's consumer (KIP-54, KIP-341, KIP-429, KIP-848 knows its own in the broker), so a
group may be led by any client. ``sticky`` and ``cooperative-sticky`` promise what Kafka's promise, not its very choice:
counts differ by at most one wherever subscriptions allow it, and nobody gives up a partition for anything else.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from msgspec import Struct

from ottla.model import TopicPartition

__all__ = ["ASSIGNORS", "Assignment", "Assignor", "GroupMember", "assignor_named"]

Assignment = dict[str, list[TopicPartition]]


class GroupMember(Struct, frozen=True, kw_only=True):
    """One member as its leader sees it. ``owned`` and ``generation`` are what it says it had last."""

    member_id: str
    topics: frozenset[str]
    instance_id: str | None = None
    owned: tuple[TopicPartition, ...] = ()
    generation: int = -1

    @property
    def rank(self) -> tuple[bool, str]:
        """Static members come first, each kind by its id: their partitions survive a restart."""
        return (self.instance_id is None, self.instance_id or self.member_id)


Assign = Callable[[Sequence[GroupMember], Mapping[str, int]], Assignment]


class Assignor(Struct, frozen=True, kw_only=True):
    """A strategy by its name on the wire. ``cooperative``: members keep what they own while the group rebalances."""

    name: str
    assign: Assign
    cooperative: bool = False


def assign_range(members: Sequence[GroupMember], partitions: Mapping[str, int]) -> Assignment:
    """Of each topic a run of neighbouring partitions a member, so that equal numbers of topics meet at one member."""
    result: Assignment = {member.member_id: [] for member in members}
    for topic, readers in _readers_by_topic(members).items():
        count = partitions.get(topic, 0)
        share, extra = divmod(count, len(readers))
        start = 0
        for place, reader in enumerate(readers):
            size = share + (place < extra)
            result[reader.member_id] += [TopicPartition(topic, number) for number in range(start, start + size)]
            start += size
    return result


def assign_round_robin(members: Sequence[GroupMember], partitions: Mapping[str, int]) -> Assignment:
    """All partitions of all topics dealt out in turn, to whoever of the next members subscribes to the topic."""
    result: Assignment = {member.member_id: [] for member in members}
    ring = sorted(members, key=lambda member: member.rank)
    turn = 0
    for place in _all_partitions(members, partitions):
        while place.topic not in ring[turn % len(ring)].topics:
            turn += 1
        result[ring[turn % len(ring)].member_id].append(place)
        turn += 1
    return result


def assign_sticky(members: Sequence[GroupMember], partitions: Mapping[str, int]) -> Assignment:
    """Balanced, and among the balanced assignments one that moves as little as it can."""
    everything = _all_partitions(members, partitions)
    kept = _still_owned(members, frozenset(everything))
    if len({member.topics for member in members}) <= 1:
        return _fill_equal(members, everything, kept)
    return _fill_by_subscription(members, everything, kept)


def assign_cooperative_sticky(members: Sequence[GroupMember], partitions: Mapping[str, int]) -> Assignment:
    """As ``sticky``, but what changes hands is first only taken away: its new owner gets it in the next round."""
    result = assign_sticky(members, partitions)
    owner = {place: member for member, places in _still_owned(members, None).items() for place in places}
    return {
        member: [place for place in places if owner.get(place, member) == member] for member, places in result.items()
    }


ASSIGNORS: Final[Mapping[str, Assignor]] = {
    assignor.name: assignor
    for assignor in (
        Assignor(name="range", assign=assign_range),
        Assignor(name="roundrobin", assign=assign_round_robin),
        Assignor(name="sticky", assign=assign_sticky),
        Assignor(name="cooperative-sticky", assign=assign_cooperative_sticky, cooperative=True),
    )
}


def assignor_named(name: str | Assignor) -> Assignor:
    """The built-in assignor of that name; one's own is passed through. Raises ``ValueError``."""
    if isinstance(name, Assignor):
        return name
    try:
        return ASSIGNORS[name]
    except KeyError:
        raise ValueError(f"assignor {name!r} is none of {', '.join(ASSIGNORS)}") from None


def _readers_by_topic(members: Iterable[GroupMember]) -> dict[str, list[GroupMember]]:
    readers: defaultdict[str, list[GroupMember]] = defaultdict(list)
    for member in sorted(members, key=lambda member: member.rank):
        for topic in sorted(member.topics):
            readers[topic].append(member)
    return readers


def _all_partitions(members: Iterable[GroupMember], partitions: Mapping[str, int]) -> list[TopicPartition]:
    topics = sorted({topic for member in members for topic in member.topics})
    return [TopicPartition(topic, number) for topic in topics for number in range(partitions.get(topic, 0))]


def _still_owned(
    members: Iterable[GroupMember], existing: Collection[TopicPartition] | None
) -> dict[str, list[TopicPartition]]:
    """What each member may keep: subscribed, existing, and claimed by nobody of a later generation.

    Two claims of one generation cancel each other: somebody is wrong, and nobody knows who.
    """
    best: dict[TopicPartition, tuple[int, str | None]] = {}
    for member in members:
        for place in member.owned:
            generation, _ = best.get(place, (-2, None))
            if member.generation > generation:
                best[place] = (member.generation, member.member_id)
            elif member.generation == generation:
                best[place] = (generation, None)
    kept: dict[str, list[TopicPartition]] = {member.member_id: [] for member in members}
    topics = {member.member_id: member.topics for member in members}
    for place, (_, owner) in best.items():
        if owner is not None and place.topic in topics[owner] and (existing is None or place in existing):
            kept[owner].append(place)
    return kept


def _fill_equal(
    members: Sequence[GroupMember], everything: list[TopicPartition], kept: dict[str, list[TopicPartition]]
) -> Assignment:
    """Everybody reads the same topics: everybody gets the same number, some one more."""
    share, extra = divmod(len(everything), len(members))
    result: Assignment = {}
    for member in sorted(members, key=lambda member: (-len(kept[member.member_id]), member.rank)):
        own = sorted(kept[member.member_id])
        keep = share + 1 if len(own) > share and extra > 0 else share
        extra -= len(own) > share and extra > 0
        result[member.member_id] = own[:keep]
    taken = {place for places in result.values() for place in places}
    ranks = {member.member_id: member.rank for member in members}
    heap = [(len(places), ranks[member], member) for member, places in result.items()]
    heapify(heap)
    for place in everything:
        if place not in taken:
            count, rank, member_id = heappop(heap)
            result[member_id].append(place)
            heappush(heap, (count + 1, rank, member_id))
    return result


def _fill_by_subscription(
    members: Sequence[GroupMember], everything: list[TopicPartition], kept: dict[str, list[TopicPartition]]
) -> Assignment:
    """Subscriptions differ: the partitions with the fewest possible readers first, then even out by single moves."""
    result: Assignment = {member.member_id: sorted(kept[member.member_id]) for member in members}
    readers = {
        topic: [member.member_id for member in interested] for topic, interested in _readers_by_topic(members).items()
    }
    taken = {place for places in result.values() for place in places}
    for place in sorted(everything, key=lambda place: (len(readers[place.topic]), place)):
        if place not in taken:
            least = min(readers[place.topic], key=lambda member_id: len(result[member_id]))
            result[least].append(place)
    _even_out(result, readers)
    return result


def _even_out(result: Assignment, readers: Mapping[str, Sequence[str]]) -> None:
    """Move partitions from fuller to emptier members as long as a move narrows a gap of two or more.

    Each move lowers the sum of squared counts, so this ends.
    """
    moved = True
    while moved:
        moved = False
        for member in sorted(result, key=lambda member: -len(result[member])):
            by_topic = Counter(place.topic for place in result[member])
            for topic in sorted(by_topic):
                least = min(readers[topic], key=lambda other: len(result[other]))
                while by_topic[topic] and len(result[least]) + 1 < len(result[member]):
                    place = next(place for place in reversed(result[member]) if place.topic == topic)
                    result[member].remove(place)
                    result[least].append(place)
                    by_topic[topic] -= 1
                    moved = True
                    least = min(readers[topic], key=lambda other: len(result[other]))

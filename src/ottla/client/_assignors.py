"""Who reads what: the assignors of the classic protocol, as pure functions of the members and the partitions.

Names and results are those of Java's consumer (KIP-54, KIP-341, KIP-429, KIP-848 knows its own in the broker), so a
group may be led by any client. ``sticky`` and ``cooperative-sticky`` promise what Kafka's promise, not its very choice:
counts differ by at most one wherever subscriptions allow it, and nobody gives up a partition for anything else but a
reader in the rack of one of its replicas. Racks never unbalance anything (KIP-881).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, Protocol

from msgspec import Struct

from ottla.model import TopicPartition

__all__ = ["ASSIGNORS", "Assignment", "Assignor", "GroupMember", "Racks", "assignor_named"]

Assignment = dict[str, list[TopicPartition]]
Racks = Mapping[TopicPartition, frozenset[str]]
"""Where each partition has replicas, as far as brokers say."""
NOWHERE: Final[Racks] = {}


class GroupMember(Struct, frozen=True, kw_only=True):
    """One member as its leader sees it. ``owned`` and ``generation`` are what it says it had last."""

    member_id: str
    topics: frozenset[str]
    instance_id: str | None = None
    owned: tuple[TopicPartition, ...] = ()
    generation: int = -1
    rack: str | None = None

    def near(self, place: TopicPartition, racks: Racks) -> bool:
        """Whether a replica is in its rack; who says no rack is near to everything."""
        return self.rack is None or self.rack in racks.get(place, ())

    @property
    def rank(self) -> tuple[bool, str]:
        """Static members come first, each kind by its id: their partitions survive a restart."""
        return (self.instance_id is None, self.instance_id or self.member_id)


class Assign(Protocol):
    """Of the members, the number of partitions of each topic, and where they have replicas."""

    def __call__(
        self, members: Sequence[GroupMember], partitions: Mapping[str, int], racks: Racks = ..., /
    ) -> Assignment: ...


class Assignor(Struct, frozen=True, kw_only=True):
    """A strategy by its name on the wire. ``cooperative``: members keep what they own while the group rebalances."""

    name: str
    assign: Assign
    cooperative: bool = False


NEARING_ROUNDS_MAX: Final = 20
"""How often what is nearer and what is more even may each make room for the other."""


def assign_range(members: Sequence[GroupMember], partitions: Mapping[str, int], racks: Racks = NOWHERE) -> Assignment:
    """Of each topic a run of neighbouring partitions a member, so that equal numbers of topics meet at one member.

    Where racks make a difference, what is near comes first, in all topics of the same size together (KIP-881).
    """
    deals = [
        _Deal(topic, readers, partitions[topic], racks)
        for topic, readers in _readers_by_topic(members).items()
        if partitions.get(topic, 0)
    ]
    if any(deal.racks_matter for deal in deals):
        alike: defaultdict[tuple[object, ...], list[_Deal]] = defaultdict(list)
        for deal in deals:
            alike[*(reader.member_id for reader in deal.readers), len(deal.places)].append(deal)
        for together in alike.values():
            if len(together) > 1:
                _deal_together(together)
            elif together[0].racks_matter:
                together[0].deal(near_only=True)
    result: Assignment = {member.member_id: [] for member in members}
    for deal in deals:
        deal.deal()
        for member_id, places in deal.given.items():
            result[member_id] += sorted(places)
    return result


def assign_round_robin(members: Sequence[GroupMember], partitions: Mapping[str, int], _: Racks = NOWHERE) -> Assignment:
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


def assign_sticky(members: Sequence[GroupMember], partitions: Mapping[str, int], racks: Racks = NOWHERE) -> Assignment:
    """Balanced; as near to replicas as a balanced assignment gets by single moves; and moving as little as it can."""
    everything = _all_partitions(members, partitions)
    kept = _still_owned(members, frozenset(everything))
    equal = len({member.topics for member in members}) <= 1
    result = _fill_equal(members, everything, kept) if equal else _fill_by_subscription(members, everything, kept)
    if _racks_matter(members, everything, racks):
        for _ in range(NEARING_ROUNDS_MAX):
            before = {member_id: frozenset(places) for member_id, places in result.items()}
            result = _Nearing(members, result, racks).done()
            if equal:
                break
            _even_out(result, _reader_ids(members))
            if before == {member_id: frozenset(places) for member_id, places in result.items()}:
                break
    return result


def assign_cooperative_sticky(
    members: Sequence[GroupMember], partitions: Mapping[str, int], racks: Racks = NOWHERE
) -> Assignment:
    """As ``sticky``, but what changes hands is first only taken away: its new owner gets it in the next round."""
    result = assign_sticky(members, partitions, racks)
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


class _Deal:
    """One topic that is dealt out in ranges: to each reader its share, to the first that take it one more."""

    def __init__(self, topic: str, readers: list[GroupMember], count: int, racks: Racks) -> None:
        self.readers = readers
        self.places = [TopicPartition(topic, number) for number in range(count)]
        self.racks = racks
        self.racks_matter = _racks_matter(readers, self.places, racks)
        self.given: dict[str, list[TopicPartition]] = {reader.member_id: [] for reader in readers}
        self._left = dict.fromkeys(self.places)
        self._share, self._extra = divmod(count, len(readers))

    def room(self, reader: GroupMember) -> int:
        """How many more a reader may get."""
        return max(0, self._share + (self._extra > 0) - len(self.given[reader.member_id]))

    def give(self, reader: GroupMember, places: Sequence[TopicPartition]) -> None:
        mine = self.given[reader.member_id]
        mine += places
        self._extra -= len(mine) > self._share
        for place in places:
            del self._left[place]

    def deal(self, *, near_only: bool = False) -> None:
        """What is left, or of that what is near."""
        for reader in self.readers:
            wanted = [place for place in self._left if not near_only or reader.near(place, self.racks)]
            taken = wanted[: self.room(reader)]
            if taken:
                self.give(reader, taken)


def _deal_together(deals: Sequence[_Deal]) -> None:
    """Topics of one size with the same readers: what has the same number goes to one who is near to all of it."""
    readers = list(deals[0].readers)
    for number in range(len(deals[0].places)):
        for reader in readers:
            if all(deal.room(reader) and reader.near(deal.places[number], deal.racks) for deal in deals):
                for deal in deals:
                    deal.give(reader, [deal.places[number]])
                if not any(deal.room(reader) for deal in deals):
                    readers.remove(reader)
                break


def _racks_matter(members: Iterable[GroupMember], places: Iterable[TopicPartition], racks: Racks) -> bool:
    """Whether it makes a difference who reads what: not if nobody is near anything, or everything is everywhere."""
    of_members = {member.rack for member in members if member.rack is not None}
    of_places = [racks.get(place, frozenset()) for place in places]
    everywhere = frozenset().union(*of_places)
    return not of_members.isdisjoint(everywhere) and any(one != everywhere for one in of_places)


def _reader_ids(members: Iterable[GroupMember]) -> dict[str, list[str]]:
    return {topic: [member.member_id for member in readers] for topic, readers in _readers_by_topic(members).items()}


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
    readers = _reader_ids(members)
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


class _Nearing:
    """An assignment in which partitions that are far from their readers are handed to near ones: to who has fewer, or
    for one that is not missed. Numbers only change places, so what was balanced stays so; each step brings more near.
    """

    def __init__(self, members: Sequence[GroupMember], assignment: Assignment, racks: Racks) -> None:
        self._members = sorted(members, key=lambda member: member.rank)
        self._racks = racks
        self._everywhere = frozenset().union(*racks.values())
        self._by_rack: defaultdict[str | None, list[GroupMember]] = defaultdict(list)
        for member in self._members:
            self._by_rack[member.rack].append(member)
        self._has = {member_id: dict.fromkeys(sorted(places)) for member_id, places in assignment.items()}
        self._far = {
            member.member_id: {place: None for place in self._has[member.member_id] if not member.near(place, racks)}
            for member in members
        }

    def done(self) -> Assignment:
        """Go on until there is nothing to be gained."""
        while sum([self._improve(member) for member in self._members]):
            pass
        return {member_id: list(places) for member_id, places in self._has.items()}

    def _improve(self, holder: GroupMember) -> int:
        """How many partitions of a member found a nearer one."""
        return sum(
            any(
                self._hand_over(place, holder, other)
                for rack in sorted(self._racks.get(place, ()))
                for other in self._by_rack[rack]
                if place.topic in other.topics
            )
            for place in list(self._far[holder.member_id])
        )

    def _hand_over(self, place: TopicPartition, holder: GroupMember, other: GroupMember) -> bool:
        if len(self._has[other.member_id]) >= len(self._has[holder.member_id]):
            back = self._given_back(holder, other)
            if back is None:
                return False
            self._move(back, other, holder)
        self._move(place, holder, other)
        return True

    def _given_back(self, holder: GroupMember, other: GroupMember) -> TopicPartition | None:
        """What ``other`` has far away anyhow, or what ``holder`` is near to."""
        far = next((place for place in self._far[other.member_id] if place.topic in holder.topics), None)
        if far is not None or holder.rack not in self._everywhere:
            return far
        theirs = self._has[other.member_id]
        return next((one for one in theirs if one.topic in holder.topics and holder.near(one, self._racks)), None)

    def _move(self, place: TopicPartition, giver: GroupMember, taker: GroupMember) -> None:
        del self._has[giver.member_id][place]
        self._far[giver.member_id].pop(place, None)
        self._has[taker.member_id][place] = None
        if not taker.near(place, self._racks):
            self._far[taker.member_id][place] = None

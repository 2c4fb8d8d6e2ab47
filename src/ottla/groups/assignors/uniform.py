"""The ``uniform`` assignor: partitions spread evenly over the members, and moved only where that needs it.

Members that all subscribe to the same (the common case) have a quota: what exceeds it is taken away, what is free goes
to members below theirs, so the work is to look at each member once and to move what has to move. Where subscriptions
differ a member keeps what it has and still subscribes to, free partitions go to the subscriber with least, and then
topics are balanced one after the other, for a bounded number of rounds.
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final

from ottla.groups.assignors.spec import GroupSpec, TargetAssignments
from ottla.groups.consumer.records import Assignment
from ottla.model import Uuid

ROUNDS_MAX: Final = 16
"""How often all topics are balanced: each round that moves something brings the members closer together."""


def assign_uniformly(spec: GroupSpec) -> TargetAssignments:
    if not spec.partitions:
        return {member_id: {} for member_id in spec.members}
    if spec.is_homogeneous:
        return _assign_by_quota(spec)
    return _Balance(spec).assign()


# -- equal subscriptions


def _assign_by_quota(spec: GroupSpec) -> TargetAssignments:
    free = [
        (topic_id, partition)
        for topic_id, count in spec.partitions.items()
        for partition in range(count)
        if not spec.is_targeted(topic_id, partition)
    ]
    total = sum(spec.partitions.values())
    quota, extra = divmod(total, len(spec.members))
    targets: dict[str, Assignment] = {}
    wanting: list[tuple[str, int]] = []
    for left, (member_id, member) in zip(range(len(spec.members), 0, -1), spec.members.items(), strict=True):
        allowed = quota + (extra > 0)
        kept, given_up = _cut(member.target, spec, allowed)
        free += given_up
        held = sum(map(len, kept.values()))
        # The larger quota goes to members that have that many already, while enough others are left to take it.
        takes_extra = extra > 0 and (held > quota or left <= extra)
        missing = quota + takes_extra - held
        extra -= takes_extra
        if missing > 0:
            wanting.append((member_id, missing))
        targets[member_id] = kept
    at = 0
    for member_id, missing in wanting:
        targets[member_id] = _with(targets[member_id], free[at : at + missing])
        at += missing
    assert at >= len(free), "the quotas hold every partition"
    return targets


def _cut(target: Assignment, spec: GroupSpec, allowed: int) -> tuple[Assignment, list[tuple[Uuid, int]]]:
    """As much of a target as the quota allows, and the rest. Topics nobody subscribes to any more are in neither."""
    kept: dict[Uuid, tuple[int, ...]] = {}
    given_up: list[tuple[Uuid, int]] = []
    for topic_id, told in target.items():
        count = spec.partitions.get(topic_id, 0)
        partitions = told if told[-1] < count else tuple(partition for partition in told if partition < count)
        if not partitions:
            continue
        if allowed > 0:
            kept[topic_id] = partitions[:allowed]
        given_up += ((topic_id, partition) for partition in partitions[max(allowed, 0) :])
        allowed -= len(partitions)
    return (target if kept == target else kept), given_up


def _with(target: Assignment, added: Iterable[tuple[Uuid, int]]) -> Assignment:
    partitions: dict[Uuid, list[int]] = {}
    for topic_id, partition in added:
        partitions.setdefault(topic_id, []).append(partition)
    grown = {topic_id: tuple(sorted((*target.get(topic_id, ()), *more))) for topic_id, more in partitions.items()}
    return {**target, **grown}


# -- different subscriptions


class _Balance:
    """The assignment under way: for each topic who owns its partitions, for each member how many it has."""

    __slots__ = ("_loads", "_members", "_owners", "_spec", "_subscribers")

    def __init__(self, spec: GroupSpec) -> None:
        self._spec = spec
        self._members = list(spec.members)
        self._loads = [0] * len(self._members)
        self._owners: dict[Uuid, list[int | None]] = {
            topic_id: [None] * count for topic_id, count in spec.partitions.items()
        }
        self._subscribers: dict[Uuid, list[int]] = {topic_id: [] for topic_id in spec.partitions}
        for index, member in enumerate(spec.members.values()):
            for topic_id in sorted(member.topics):
                self._subscribers[topic_id].append(index)

    def assign(self) -> TargetAssignments:
        self._keep()
        topics = sorted(self._spec.partitions, key=self._order)
        for topic_id in topics:
            self._hand_out(topic_id)
        shared = [topic_id for topic_id in topics if len(self._subscribers[topic_id]) > 1]
        for _ in range(ROUNDS_MAX):
            if not sum(self._balance(topic_id) for topic_id in shared):
                break
        return self._result()

    def _order(self, topic_id: Uuid) -> tuple[float, int, Uuid]:
        """Topics with most partitions a subscriber first: they leave the least choice."""
        subscribers = len(self._subscribers[topic_id])
        return (-self._spec.partitions[topic_id] / subscribers, subscribers, topic_id)

    def _keep(self) -> None:
        for index, member in enumerate(self._spec.members.values()):
            for topic_id, partitions in member.target.items():
                if topic_id not in member.topics:
                    continue
                owners = self._owners[topic_id]
                for partition in partitions:
                    if partition < len(owners):
                        owners[partition] = index
                        self._loads[index] += 1

    def _hand_out(self, topic_id: Uuid) -> None:
        owners = self._owners[topic_id]
        if None not in owners:
            return
        least = [(self._loads[index], index) for index in self._subscribers[topic_id]]
        heapify(least)
        for partition, owner in enumerate(owners):
            if owner is None:
                load, index = heappop(least)
                owners[partition] = index
                self._loads[index] = load + 1
                heappush(least, (load + 1, index))

    def _balance(self, topic_id: Uuid) -> int:
        """Move partitions of one topic from subscribers with many to those with few; returns how many moved."""
        owners = self._owners[topic_id]
        loads = [(self._loads[index], index) for index in self._subscribers[topic_id]]
        if max(loads)[0] - min(loads)[0] <= 1:
            return 0
        held: dict[int, list[int]] = {}
        for partition, owner in enumerate(owners):
            assert owner is not None, "every partition was handed out"
            held.setdefault(owner, []).append(partition)
        least = loads
        most = [(-load, index) for load, index in loads if index in held]
        heapify(least)
        heapify(most)
        moved = 0
        while most:
            donor = most[0][1]
            receiver = least[0][1]
            if self._loads[donor] - self._loads[receiver] <= 1:
                break
            owners[held[donor].pop()] = receiver
            moved += 1
            self._loads[donor] -= 1
            self._loads[receiver] += 1
            heappop(most)
            if held[donor]:
                heappush(most, (-self._loads[donor], donor))
            heappop(least)
            heappush(least, (self._loads[receiver], receiver))
        return moved

    def _result(self) -> TargetAssignments:
        rows: list[dict[Uuid, list[int]]] = [{} for _ in self._members]
        for topic_id, owners in self._owners.items():
            for partition, owner in enumerate(owners):
                assert owner is not None, "every partition was handed out"
                rows[owner].setdefault(topic_id, []).append(partition)
        return {
            member_id: {topic_id: tuple(partitions) for topic_id, partitions in row.items()}
            for member_id, row in zip(self._members, rows, strict=True)
        }

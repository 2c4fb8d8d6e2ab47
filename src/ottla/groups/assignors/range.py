"""The ``range`` assignor: each topic's partitions as one run a member, in the order of instance and member ids.

Members with the same subscriptions get the same partition numbers of topics with equally many partitions, so that
topics can be joined. Nothing is sticky but the order itself.
"""

from ottla.groups.assignors.spec import GroupSpec, TargetAssignments
from ottla.groups.consumer.records import Assignment
from ottla.model import Uuid


def assign_ranges(spec: GroupSpec) -> TargetAssignments:
    members = sorted(spec.members, key=lambda member_id: _place(spec, member_id))
    topics = sorted(spec.partitions)
    shares = {topic_id: _Share(spec, topic_id) for topic_id in topics}
    targets: dict[str, Assignment] = {}
    for member_id in members:
        subscribed = spec.members[member_id].topics
        assignment = {topic_id: shares[topic_id].next() for topic_id in topics if topic_id in subscribed}
        targets[member_id] = {topic_id: partitions for topic_id, partitions in assignment.items() if partitions}
    return targets


def _place(spec: GroupSpec, member_id: str) -> tuple[bool, str]:
    """Static members first, by their instance ids, which outlive member ids."""
    instance_id = spec.members[member_id].instance_id
    return (True, member_id) if instance_id is None else (False, instance_id)


class _Share:
    """A topic that is handed out in runs of equal length; the first get one more where that does not come out even."""

    __slots__ = ("_at", "_extra", "_quota")

    def __init__(self, spec: GroupSpec, topic_id: Uuid) -> None:
        subscribers = sum(topic_id in member.topics for member in spec.members.values())
        self._quota, self._extra = divmod(spec.partitions[topic_id], subscribers)
        self._at = 0

    def next(self) -> tuple[int, ...]:
        start = self._at
        self._at += self._quota + (self._extra > 0)
        self._extra -= self._extra > 0
        return tuple(range(start, self._at))

"""What an assignor is given, and what it gives back."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from msgspec import Struct

from ottla.groups.consumer.records import Assignment
from ottla.model import Uuid

TargetAssignments: TypeAlias = Mapping[str, Assignment]
"""For each member its target assignment."""


class MemberSpec(Struct, frozen=True, kw_only=True):
    """A member: the topics it subscribes to that exist, and the target it has now."""

    topics: frozenset[Uuid]
    instance_id: str | None = None
    target: Assignment = {}


class GroupSpec(Struct, frozen=True, kw_only=True):
    """A group. ``is_homogeneous``: all members have the same topics. ``partitions``: how many each of them has."""

    members: Mapping[str, MemberSpec]
    is_homogeneous: bool
    partitions: Mapping[Uuid, int]
    is_targeted: Callable[[Uuid, int], bool]
    """Whether a partition is in the present target of some member."""

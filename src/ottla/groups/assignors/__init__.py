"""Server-side assignors of consumer groups: who of the members is to read which partitions.

An assignor is a function of the members, their subscriptions and their present targets; Kafka's two are here. As in
Kafka 4.3 neither looks at racks: they are part of the metadata hash, so that a move of replicas is noticed.
"""

from collections.abc import Callable, Mapping
from typing import Final

from ottla.groups.assignors.range import assign_ranges
from ottla.groups.assignors.spec import GroupSpec, TargetAssignments
from ottla.groups.assignors.uniform import assign_uniformly

Assignor = Callable[[GroupSpec], TargetAssignments]

ASSIGNORS: Final[Mapping[str, Assignor]] = {"uniform": assign_uniformly, "range": assign_ranges}

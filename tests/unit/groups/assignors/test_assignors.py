"""The assignors: every partition to one subscriber, evenly, and no more moved than that takes."""

from hypothesis import given
from hypothesis import strategies as st

from ottla.groups.assignors import ASSIGNORS
from ottla.groups.assignors.range import assign_ranges
from ottla.groups.assignors.spec import GroupSpec, MemberSpec
from ottla.groups.assignors.uniform import assign_uniformly
from ottla.model import Uuid

TOPICS = [Uuid(bytes([number]) * 16) for number in range(1, 6)]


def spec_of(members, partitions, targets=None):
    """``members``: topics of each; ``targets``: what they have now."""
    targets = targets or {}
    taken = {(topic, partition) for target in targets.values() for topic, held in target.items() for partition in held}
    subscribed = {topic for topics in members.values() for topic in topics}
    return GroupSpec(
        members={
            name: MemberSpec(topics=frozenset(topics), target=targets.get(name, {})) for name, topics in members.items()
        },
        is_homogeneous=len({frozenset(topics) for topics in members.values()}) == 1,
        partitions={topic: count for topic, count in partitions.items() if topic in subscribed},
        is_targeted=lambda topic, partition: (topic, partition) in taken,
    )


def places(target):
    return {(topic, partition) for topic, held in target.items() for partition in held}


def loads(targets):
    return {name: len(places(target)) for name, target in targets.items()}


def check_complete(spec, targets):
    """Each partition of a subscribed topic has one owner, and the owner subscribes to it."""
    assert set(targets) == set(spec.members)
    given_out = [place for target in targets.values() for place in places(target)]
    assert sorted(given_out) == sorted(
        (topic, partition) for topic, count in spec.partitions.items() for partition in range(count)
    )
    for name, target in targets.items():
        assert set(target) <= spec.members[name].topics
        assert all(held == tuple(sorted(held)) and held for held in target.values())


@st.composite
def groups(draw, *, homogeneous):
    partitions = {topic: draw(st.integers(1, 12)) for topic in TOPICS}
    names = [f"m{number}" for number in range(draw(st.integers(1, 7)))]
    some = st.lists(st.sampled_from(TOPICS), min_size=1, max_size=len(TOPICS), unique=True)
    if homogeneous:
        topics = draw(some)
        return dict.fromkeys(names, topics), partitions
    return {name: draw(some) for name in names}, partitions


@given(groups(homogeneous=True) | groups(homogeneous=False), st.sampled_from(sorted(ASSIGNORS)))
def test_every_partition_has_one_owner(group, name):
    spec = spec_of(*group)
    check_complete(spec, ASSIGNORS[name](spec))


@given(groups(homogeneous=True), st.data())
def test_equal_subscriptions_are_balanced_and_sticky(group, data):
    members, partitions = group
    before = assign_uniformly(spec_of(members, partitions))
    assert max(loads(before).values()) - min(loads(before).values()) <= 1
    assert assign_uniformly(spec_of(members, partitions, before)) == before

    topics = next(iter(members.values()))
    leaving = data.draw(st.sampled_from(["", *members]))
    joining = data.draw(st.integers(0, 2))
    grown = {topic: count + data.draw(st.integers(0, 3)) for topic, count in partitions.items()}
    names = [name for name in members if name != leaving] + [f"new{number}" for number in range(joining)]
    if not names:
        return
    spec = spec_of(dict.fromkeys(names, topics), grown, {name: before[name] for name in names if name in before})
    after = assign_uniformly(spec)
    check_complete(spec, after)
    total, quota = sum(loads(after).values()), max(loads(after).values())
    assert quota - min(loads(after).values()) <= 1
    # Nobody gives up a partition it could have kept within the larger quota, but for the rounding.
    lost = sum(len(places(before[name]) - places(after[name])) for name in names if name in before)
    needed = sum(max(0, len(places(before[name])) - total // len(names)) for name in names if name in before)
    assert lost <= needed


@given(groups(homogeneous=False), st.data())
def test_different_subscriptions_are_balanced_and_sticky(group, data):
    members, partitions = group
    first = assign_uniformly(spec_of(members, partitions))
    again = assign_uniformly(spec_of(members, partitions, first))
    assert again == first
    changed = data.draw(st.sampled_from(sorted(members)))
    topics = data.draw(st.lists(st.sampled_from(TOPICS), min_size=1, unique=True))
    spec = spec_of({**members, changed: topics}, partitions, first)
    after = assign_uniformly(spec)
    check_complete(spec, after)
    sizes = loads(after)
    for name, target in after.items():
        for topic in target:
            # Had somebody two fewer and could take this topic, a partition of it would have gone there.
            fewest = min(sizes[other] for other, member in spec.members.items() if topic in member.topics)
            assert sizes[name] - fewest <= 1


def test_ranges_go_by_instances_then_members():
    topic = TOPICS[0]
    members = {
        "b": MemberSpec(topics=frozenset([topic])),
        "a": MemberSpec(topics=frozenset([topic])),
        "z": MemberSpec(topics=frozenset([topic]), instance_id="i"),
    }
    spec = GroupSpec(members=members, is_homogeneous=True, partitions={topic: 7}, is_targeted=lambda *_: False)
    assert assign_ranges(spec) == {"z": {topic: (0, 1, 2)}, "a": {topic: (3, 4)}, "b": {topic: (5, 6)}}


def test_ranges_of_topics_alike_can_be_joined():
    members = dict.fromkeys(["a", "b", "c"], TOPICS[:2])
    targets = assign_ranges(spec_of(members, dict.fromkeys(TOPICS[:2], 8)))
    assert all(target[TOPICS[0]] == target[TOPICS[1]] for target in targets.values())


def test_a_partition_that_is_no_more_is_not_kept():
    topic = TOPICS[0]
    for others in ([topic], [topic, TOPICS[1]]):
        spec = spec_of({"a": [topic], "b": others}, {topic: 2, TOPICS[1]: 2}, {"a": {topic: (0, 5)}})
        check_complete(spec, assign_uniformly(spec))


def test_nothing_subscribed_is_nothing_assigned():
    spec = spec_of({"a": [], "b": []}, {})
    assert assign_uniformly(spec) == assign_ranges(spec) == {"a": {}, "b": {}}


def test_more_members_than_partitions_leave_some_without():
    targets = assign_uniformly(spec_of(dict.fromkeys("abcd", TOPICS[:1]), {TOPICS[0]: 3}))
    assert sorted(loads(targets).values()) == [0, 1, 1, 1]

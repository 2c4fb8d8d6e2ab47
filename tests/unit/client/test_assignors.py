"""The assignors: known results of Kafka's, and what must hold whatever the members and topics are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ottla.client._assignors import ASSIGNORS, Assignment, GroupMember, assignor_named
from ottla.client._consumer_protocol import (
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from ottla.model import TopicPartition
from ottla.wire import DecodeError


def member(
    name: str, *topics: str, instance: str | None = None, owned: object = (), generation: int = -1
) -> GroupMember:
    return GroupMember(
        member_id=name,
        topics=frozenset(topics),
        instance_id=instance,
        owned=tuple(TopicPartition(*place) for place in owned),  # type: ignore[attr-defined]
        generation=generation,
    )


def shown(result: Assignment) -> dict[str, list[str]]:
    return {name: sorted(map(str, places)) for name, places in result.items()}


def test_range_gives_runs_of_each_topic() -> None:
    result = ASSIGNORS["range"].assign([member("c1", "a", "b"), member("c2", "a", "b")], {"a": 3, "b": 3})
    assert shown(result) == {"c1": ["a-0", "a-1", "b-0", "b-1"], "c2": ["a-2", "b-2"]}


def test_range_leaves_others_topics_alone() -> None:
    members = [member("c1", "a"), member("c2", "a", "b"), member("c3", "a")]
    assert shown(ASSIGNORS["range"].assign(members, {"a": 3, "b": 2})) == {
        "c1": ["a-0"],
        "c2": ["a-1", "b-0", "b-1"],
        "c3": ["a-2"],
    }


def test_static_members_come_first() -> None:
    members = [member("a", "t"), member("z", "t", instance="0")]
    assert shown(ASSIGNORS["range"].assign(members, {"t": 1})) == {"a": [], "z": ["t-0"]}


def test_round_robin_deals_out_in_turn() -> None:
    result = ASSIGNORS["roundrobin"].assign([member("c1", "a", "b"), member("c2", "a", "b")], {"a": 3, "b": 3})
    assert shown(result) == {"c1": ["a-0", "a-2", "b-1"], "c2": ["a-1", "b-0", "b-2"]}


def test_round_robin_passes_over_who_does_not_subscribe() -> None:
    members = [member("c1", "t0"), member("c2", "t0", "t1"), member("c3", "t0", "t1", "t2")]
    assert shown(ASSIGNORS["roundrobin"].assign(members, {"t0": 1, "t1": 2, "t2": 3})) == {
        "c1": ["t0-0"],
        "c2": ["t1-0"],
        "c3": ["t1-1", "t2-0", "t2-1", "t2-2"],
    }


def test_sticky_moves_only_what_it_must() -> None:
    before = [("t", number) for number in range(6)]
    members = [member("c1", "t", owned=before, generation=3), member("c2", "t")]
    result = shown(ASSIGNORS["sticky"].assign(members, {"t": 6}))
    assert result == {"c1": ["t-0", "t-1", "t-2"], "c2": ["t-3", "t-4", "t-5"]}


def test_sticky_believes_the_later_generation() -> None:
    members = [
        member("c1", "t", owned=[("t", 0), ("t", 1)], generation=2),
        member("c2", "t", owned=[("t", 1)], generation=3),
    ]
    assert shown(ASSIGNORS["sticky"].assign(members, {"t": 2})) == {"c1": ["t-0"], "c2": ["t-1"]}


def test_cooperative_withholds_what_still_has_an_owner() -> None:
    before = [("t", number) for number in range(4)]
    members = [member("c1", "t", owned=before, generation=3), member("c2", "t")]
    assign = ASSIGNORS["cooperative-sticky"].assign
    first = assign(members, {"t": 4})
    assert {name: len(places) for name, places in first.items()} == {"c1": 2, "c2": 0}
    members = [member("c1", "t", owned=first["c1"], generation=4), member("c2", "t", generation=4)]
    assert {name: len(places) for name, places in assign(members, {"t": 4}).items()} == {"c1": 2, "c2": 2}


def placed(*rows: str) -> dict[TopicPartition, frozenset[str]]:
    """Racks of replicas from texts such as ``t ab bc``: partition 0 in a and b, partition 1 in b and c."""
    return {
        TopicPartition(topic, number): frozenset(racks)
        for topic, *partitions in map(str.split, rows)
        for number, racks in enumerate(partitions)
    }


def counted(racks: Mapping[TopicPartition, frozenset[str]]) -> dict[str, int]:
    return dict(Counter(place.topic for place in racks))


def in_racks(racks: str, *topics: str) -> list[GroupMember]:
    """A member in each of the racks; ``-`` is one that says none."""
    return [
        GroupMember(member_id=f"m{number}", topics=frozenset(topics), rack=None if rack == "-" else rack)
        for number, rack in enumerate(racks)
    ]


@pytest.mark.parametrize(
    ("racks", "rows", "expected"),
    [
        # One replica each: everybody gets what is in his rack.
        ("abc", ["t c a b"], {"m0": ["t-1"], "m1": ["t-2"], "m2": ["t-0"]}),
        # Balance comes first: only as many as are due.
        ("ab", ["t a a a b"], {"m0": ["t-0", "t-1"], "m1": ["t-2", "t-3"]}),
        # Everything is everywhere: as without racks.
        ("ba", ["t ab ab"], {"m0": ["t-0"], "m1": ["t-1"]}),
        # Nobody is near anything: as without racks.
        ("xy", ["t a b"], {"m0": ["t-0"], "m1": ["t-1"]}),
        # Who says no rack is near to everything, and comes when it is his turn.
        ("-a", ["t a b"], {"m0": ["t-0"], "m1": ["t-1"]}),
        # Topics of one size stay together where a reader is near to both partitions of a number.
        ("ab", ["t b a", "u b a"], {"m0": ["t-1", "u-1"], "m1": ["t-0", "u-0"]}),
        ("ab", ["t b a", "u b a a"], {"m0": ["t-1", "u-1", "u-2"], "m1": ["t-0", "u-0"]}),
        ("abc", ["t bc ca ab ab"], {"m0": ["t-1", "t-2"], "m1": ["t-0"], "m2": ["t-3"]}),
    ],
)
def test_range_prefers_what_is_near(racks: str, rows: list[str], expected: dict[str, list[str]]) -> None:
    """What Apache Kafka's RangeAssignor of 4.3.1 answers."""
    where = placed(*rows)
    members = in_racks(racks, *counted(where))
    assert shown(ASSIGNORS["range"].assign(members, counted(where), where)) == expected


def test_sticky_moves_to_where_it_is_near_and_stays() -> None:
    where = placed("t a b c a b c")
    members = in_racks("abc", "t")
    near = {"m0": ["t-0", "t-3"], "m1": ["t-1", "t-4"], "m2": ["t-2", "t-5"]}
    assert shown(ASSIGNORS["sticky"].assign(members, {"t": 6}, where)) == near
    # All of it with the wrong members before.
    before = {"m0": [("t", 1), ("t", 2)], "m1": [("t", 0), ("t", 5)], "m2": [("t", 3), ("t", 4)]}
    owning = [
        GroupMember(
            member_id=one.member_id,
            topics=one.topics,
            rack=one.rack,
            generation=3,
            owned=tuple(TopicPartition(*place) for place in before[one.member_id]),
        )
        for one in members
    ]
    assert shown(ASSIGNORS["sticky"].assign(owning, {"t": 6}, where)) == near
    # The cooperative one takes away first, and gives in the next round.
    assert shown(ASSIGNORS["cooperative-sticky"].assign(owning, {"t": 6}, where)) == {"m0": [], "m1": [], "m2": []}


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="cooperative-sticky"):
        assignor_named("best")


topics = st.sampled_from(["a", "b", "c", "d"])
places = st.builds(TopicPartition, topics, st.integers(0, 9))
groups = st.lists(
    st.tuples(st.frozensets(topics, min_size=1), st.lists(places, max_size=8, unique=True), st.integers(-1, 3)),
    min_size=1,
    max_size=7,
)
counts = st.fixed_dictionaries({name: st.integers(0, 8) for name in "abcd"})


def made(rows: list[tuple[frozenset[str], list[TopicPartition], int]]) -> list[GroupMember]:
    return [
        GroupMember(member_id=f"m{number}", topics=names, owned=tuple(owned), generation=generation)
        for number, (names, owned, generation) in enumerate(rows)
    ]


@pytest.mark.parametrize("name", ["range", "roundrobin", "sticky"])
@given(rows=groups, partitions=counts)
def test_everything_is_assigned_once_to_a_subscriber(
    name: str, rows: list[tuple[frozenset[str], list[TopicPartition], int]], partitions: Mapping[str, int]
) -> None:
    members = made(rows)
    result = ASSIGNORS[name].assign(members, partitions)
    given_out = [place for all_places in result.values() for place in all_places]
    subscribed = frozenset().union(*(one.topics for one in members))
    assert sorted(given_out) == [
        TopicPartition(topic, number) for topic in sorted(subscribed) for number in range(partitions[topic])
    ]
    assert set(result) == {one.member_id for one in members}
    assert all(place.topic in one.topics for one in members for place in result[one.member_id])


@given(rows=groups, partitions=counts)
def test_sticky_is_balanced_as_far_as_subscriptions_allow(
    rows: list[tuple[frozenset[str], list[TopicPartition], int]], partitions: Mapping[str, int]
) -> None:
    members = made(rows)
    result = ASSIGNORS["sticky"].assign(members, partitions)
    for fuller in members:
        for emptier in members:
            if len(result[emptier.member_id]) + 1 < len(result[fuller.member_id]):
                assert not any(place.topic in emptier.topics for place in result[fuller.member_id])


@given(rows=groups, partitions=counts)
def test_sticky_stays_where_nothing_changed(
    rows: list[tuple[frozenset[str], list[TopicPartition], int]], partitions: Mapping[str, int]
) -> None:
    assign = ASSIGNORS["sticky"].assign
    first = assign(made(rows), partitions)
    again = [
        GroupMember(member_id=one.member_id, topics=one.topics, owned=tuple(first[one.member_id]), generation=5)
        for one in made(rows)
    ]
    assert shown(assign(again, partitions)) == shown(first)


@given(rows=groups, partitions=counts)
def test_cooperative_never_gives_what_another_owns(
    rows: list[tuple[frozenset[str], list[TopicPartition], int]], partitions: Mapping[str, int]
) -> None:
    members = made(rows)
    result = ASSIGNORS["cooperative-sticky"].assign(members, partitions)
    given_out = [place for all_places in result.values() for place in all_places]
    assert len(given_out) == len(set(given_out))
    for one in members:
        for place in result[one.member_id]:
            rivals = [other for other in members if place in other.owned and other is not one]
            mine = one.generation if place in one.owned else -2
            rival = max((other.generation for other in rivals if place.topic in other.topics), default=-2)
            alone = sum(other.generation == rival for other in rivals) == 1
            assert mine >= rival or not alone or max(o.generation for o in rivals) > rival


racks_of_members = st.lists(st.sampled_from([None, "a", "b", "c", "z"]), min_size=7, max_size=7)
racks_of_partitions = st.lists(st.frozensets(st.sampled_from("abc")), min_size=32, max_size=32)


@pytest.mark.parametrize("name", ["range", "sticky"])
@given(rows=groups, partitions=counts, own=racks_of_members, sets=racks_of_partitions)
def test_racks_leave_the_balance_alone(
    name: str,
    rows: list[tuple[frozenset[str], list[TopicPartition], int]],
    partitions: Mapping[str, int],
    own: list[str | None],
    sets: list[frozenset[str]],
) -> None:
    members = [replace(one, rack=rack) for one, rack in zip(made(rows), own, strict=False)]
    everything = [TopicPartition(topic, number) for topic in "abcd" for number in range(partitions[topic])]
    racks = dict(zip(everything, sets, strict=False))
    assign = ASSIGNORS[name].assign
    plain, result = assign(members, partitions), assign(members, partitions, racks)
    assert sorted(chain(*result.values())) == sorted(chain(*plain.values()))
    assert all(place.topic in one.topics for one in members for place in result[one.member_id])
    for topic in partitions if name == "range" else ():
        shares = [
            sorted(sum(place.topic == topic for place in places) for places in some.values())
            for some in (plain, result)
        ]
        assert shares[0] == shares[1]
    if len({one.topics for one in members}) == 1 and name == "sticky":
        assert sorted(map(len, result.values())) == sorted(map(len, plain.values()))
        near = [
            sum(one.near(place, racks) for one in members for place in some[one.member_id]) for some in (plain, result)
        ]
        assert near[0] <= near[1]
    if name == "sticky":
        again = [replace(one, owned=tuple(result[one.member_id]), generation=5) for one in members]
        assert shown(assign(again, partitions, racks)) == shown(result)


def test_what_is_evened_out_after_it_was_brought_near_makes_room_for_nearer() -> None:
    def member(name: str, rack: str, topics: str, *owned: tuple[str, int]) -> GroupMember:
        places = tuple(TopicPartition(*one) for one in owned)
        return GroupMember(member_id=name, topics=frozenset(topics), owned=places, generation=5, rack=rack)

    members = [
        member("h", "Y", "t", ("t", 0), ("t", 1), ("t", 2)),
        member("o", "X", "tsv", ("s", 0), ("s", 1)),
        member("r", "Z", "s", ("s", 2)),
        member("x", "Y", "v", ("v", 0), ("v", 1), ("v", 2)),
    ]
    near = {"t": "XYY", "s": "XXZ", "v": "XYY"}
    racks = {
        TopicPartition(topic, n): frozenset(rack) for topic, all_of in near.items() for n, rack in enumerate(all_of)
    }
    partitions = dict.fromkeys(near, 3)
    assign = ASSIGNORS["sticky"].assign
    first = assign(members, partitions, racks)
    again = [replace(one, owned=tuple(first[one.member_id])) for one in members]
    assert shown(assign(again, partitions, racks)) == shown(first)


@given(names=st.frozensets(topics), owned=st.lists(places, unique=True), generation=st.integers(-1, 100))
@pytest.mark.parametrize("assignor", ["range", "sticky", "cooperative-sticky"])
def test_subscription_round_trip(
    assignor: str, names: frozenset[str], owned: list[TopicPartition], generation: int
) -> None:
    data = encode_subscription(assignor, names, owned, generation=generation, cooperative=assignor != "sticky")
    read = decode_subscription(assignor, "m", "i", data)
    assert (read.topics, sorted(read.owned), read.generation) == (names, sorted(owned), generation)
    assert read.rack is None


def test_subscription_bytes_are_javas() -> None:
    """Version 3: topics, no user data, owned partitions, generation, rack."""
    data = encode_subscription("range", ["t"], [TopicPartition("t", 1)], generation=7, rack="r", cooperative=True)
    assert data == bytes.fromhex("000300000001000174ffffffff00000001000174000000010000000100000007000172")
    assert decode_subscription("range", "m", None, data).rack == "r"
    # What version 0 and 1 members send.
    old = decode_subscription("range", "m", None, bytes.fromhex("000000000001000174ffffffff"))
    assert (old.topics, old.owned, old.generation) == (frozenset("t"), (), -1)


def test_assignment_bytes() -> None:
    places = [TopicPartition("t", 0), TopicPartition("t", 2)]
    assert decode_assignment(encode_assignment(places)) == set(places)
    assert decode_assignment(b"") == frozenset()
    future = bytes.fromhex("0009000000010001740000000100000005ffffffffcafe")
    assert decode_assignment(future) == {TopicPartition("t", 5)}
    with pytest.raises(DecodeError):
        decode_assignment(b"\xff\xff\x00")

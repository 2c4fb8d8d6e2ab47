"""The assignors: known results of Kafka's, and what must hold whatever the members and topics are."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(names=st.frozensets(topics), owned=st.lists(places, unique=True), generation=st.integers(-1, 100))
@pytest.mark.parametrize("assignor", ["range", "sticky", "cooperative-sticky"])
def test_subscription_round_trip(
    assignor: str, names: frozenset[str], owned: list[TopicPartition], generation: int
) -> None:
    data = encode_subscription(assignor, names, owned, generation=generation, cooperative=assignor != "sticky")
    read = decode_subscription(assignor, "m", "i", data)
    assert (read.topics, sorted(read.owned), read.generation) == (names, sorted(owned), generation)


def test_subscription_bytes_are_javas() -> None:
    """Version 3: topics, no user data, owned partitions, generation, rack."""
    data = encode_subscription("range", ["t"], [TopicPartition("t", 1)], generation=7, rack="r", cooperative=True)
    assert data == bytes.fromhex("000300000001000174ffffffff00000001000174000000010000000100000007000172")
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

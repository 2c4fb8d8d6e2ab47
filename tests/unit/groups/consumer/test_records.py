"""The bytes of consumer groups' records, as Apache Kafka writes them, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.groups.consumer.records import (
    AssignmentEpoch,
    ClassicMembership,
    ConsumerGroupCurrentMemberAssignment,
    ConsumerGroupMemberMetadata,
    ConsumerGroupMetadata,
    ConsumerGroupPartitionMetadata,
    ConsumerGroupRegularExpression,
    ConsumerGroupTargetAssignmentMember,
    ConsumerGroupTargetAssignmentMetadata,
    CurrentAssignment,
    GroupEpoch,
    MemberMetadata,
    MemberState,
    ResolvedRegex,
)
from ottla.groups.records import decode_record, encode_record
from ottla.model import Uuid
from ottla.wire import DecodeError

TOPIC = Uuid(bytes(range(16)))
ID = "000102030405060708090a0b0c0d0e0f"
MEMBER_KEY = "000167" + "00016d"

GOLDEN = [
    (
        ConsumerGroupMetadata("g", GroupEpoch(epoch=2, metadata_hash=-3)),
        "0003000167",
        "0000" + "00000002" + "01" + "0008" + "fffffffffffffffd",
    ),
    (
        ConsumerGroupMemberMetadata(
            "g", "m", MemberMetadata(client_id="c", client_host="/h", topics=("t",), rebalance_timeout_ms=5)
        ),
        "0005" + MEMBER_KEY,
        "0000" + "00" + "00" + "0263" + "032f68" + "020274" + "01" + "00000005" + "00" + "01" + "0001" + "00",
    ),
    (
        ConsumerGroupMemberMetadata(
            "g",
            "m",
            MemberMetadata(
                instance_id="i",
                rack_id="r",
                client_id="c",
                client_host="/h",
                regex="x",
                rebalance_timeout_ms=5,
                assignor="range",
                classic=ClassicMembership(session_timeout_ms=9, protocols=(("range", b"z"),)),
            ),
        ),
        "0005" + MEMBER_KEY,
        "0000" + "0269" + "0272" + "0263" + "032f68" + "01" + "0278" + "00000005" + "0672616e6765"
        "01" + "0010" + "01" + "00000009" + "02" + "0672616e6765" + "027a" + "00" + "00",
    ),
    (
        ConsumerGroupTargetAssignmentMetadata("g", AssignmentEpoch(epoch=2, timestamp_ms=1)),
        "0006000167",
        "0000" + "00000002" + "01" + "0008" + "0000000000000001",
    ),
    (
        ConsumerGroupTargetAssignmentMember("g", "m", {TOPIC: (0, 1)}),
        "0007" + MEMBER_KEY,
        "0000" + "02" + ID + "03" + "00000000" + "00000001" + "00" + "00",
    ),
    (
        ConsumerGroupCurrentMemberAssignment(
            "g",
            "m",
            CurrentAssignment(
                epoch=3,
                previous_epoch=2,
                state=MemberState.UNREVOKED_PARTITIONS,
                assigned={TOPIC: {0: 2}},
                revoking={TOPIC: {1: 3}},
            ),
        ),
        "0008" + MEMBER_KEY,
        "0000" + "00000003" + "00000002" + "01"
        "02" + ID + "02" + "00000000" + "01" + "0005" + "02" + "00000002"
        "02" + ID + "02" + "00000001" + "01" + "0005" + "02" + "00000003" + "00",
    ),
    (
        ConsumerGroupRegularExpression("g", "x", ResolvedRegex(topics=("a", "b"), version=7, timestamp_ms=8)),
        "0010" + "000167" + "000178",
        "0000" + "03" + "0261" + "0262" + "0000000000000007" + "0000000000000008" + "00",
    ),
]


@pytest.mark.parametrize(("record", "key", "value"), GOLDEN, ids=lambda part: type(part).__name__)
def test_bytes_are_kafkas(record, key, value):
    assert tuple(part.hex() for part in encode_record(record)) == (key, value)
    assert decode_record(bytes.fromhex(key), bytes.fromhex(value)) == record
    gone = record._replace(value=None)
    assert encode_record(gone) == (bytes.fromhex(key), None)
    assert decode_record(bytes.fromhex(key), None) == gone


def test_partitions_without_epochs_have_their_members():
    """Brokers before 4.3 wrote none; of a static member that is away the epoch is negative."""
    for epoch, since in ((7, 7), (-2, 0)):
        value = "0000" + epoch.to_bytes(4, "big", signed=True).hex() + "00000002" + "00"
        value += "02" + ID + "03" + "00000000" + "00000001" + "00" + "01" + "00"
        record = decode_record(bytes.fromhex("0008" + MEMBER_KEY), bytes.fromhex(value))
        assert record.value.assigned == {TOPIC: {0: since, 1: since}}


def test_a_state_of_a_later_release_is_unknown():
    value = "0000" + "00000003" + "00000002" + "09" + "01" + "01" + "00"
    record = decode_record(bytes.fromhex("0008" + MEMBER_KEY), bytes.fromhex(value))
    assert record.value.state is MemberState.UNKNOWN


def test_the_obsolete_record_is_carried():
    value = bytes.fromhex("0000" + "02" + ID + "0274" + "00000001" + "01" + "00" + "00")
    record = decode_record(bytes.fromhex("0004000167"), value)
    assert record == ConsumerGroupPartitionMetadata("g", value)
    assert encode_record(record) == (bytes.fromhex("0004000167"), value)


@given(st.sampled_from((3, 4, 5, 6, 7, 8, 16)), st.binary(max_size=40), st.binary(max_size=80))
def test_damage_is_a_decode_error(kind, key, value):
    try:
        decode_record(kind.to_bytes(2, "big") + key, value)
    except DecodeError:
        pass

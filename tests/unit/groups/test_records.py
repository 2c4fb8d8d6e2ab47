"""The bytes of the coordinator records: as Apache Kafka writes them, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.groups.records import (
    ClassicGroupRecord,
    CommittedOffset,
    ForeignGroupRecord,
    GroupKind,
    OffsetKey,
    OffsetRecord,
    StoredGroup,
    StoredMember,
    TransactionMarker,
    decode_record,
    encode_record,
)
from ottla.model import Uuid
from ottla.wire import DecodeError

TOPIC_ID = Uuid(bytes(range(16)))
COMMITTED = CommittedOffset(7, 3, "m", 1_000, topic_id=TOPIC_ID)
MEMBER = StoredMember(
    member_id="a",
    group_instance_id=None,
    client_id="c",
    client_host="/h",
    rebalance_timeout_ms=2,
    session_timeout_ms=1,
    subscription=b"s",
    assignment=b"x",
)


def test_an_offset_is_version_4_with_its_topic_id_tagged():
    key, value = encode_record(OffsetRecord(OffsetKey("g", "t", 5), COMMITTED))
    assert key.hex() == "0001" + "000167" + "000174" + "00000005"
    assert value.hex() == (
        "0004" + "0000000000000007" + "00000003" + "026d" + "00000000000003e8" + "0100" + "10" + bytes(TOPIC_ID).hex()
    )


def test_an_offset_without_topic_id_has_no_tag():
    _, value = encode_record(OffsetRecord(OffsetKey("g", "t", 5), COMMITTED._replace(topic_id=Uuid.ZERO)))
    assert value.hex().endswith("00000000000003e8" + "00")


def test_an_offset_with_its_own_expiry_is_version_1():
    _, value = encode_record(OffsetRecord(OffsetKey("g", "t", 5), COMMITTED._replace(expire_timestamp=2_000)))
    assert value.hex() == "0001" + "0000000000000007" + "00016d" + "00000000000003e8" + "00000000000007d0"


def test_a_group_is_version_3():
    group = StoredGroup(
        protocol_type="consumer", generation=1, protocol="r", leader="a", state_timestamp=9, members=(MEMBER,)
    )
    key, value = encode_record(ClassicGroupRecord("g", group))
    assert key.hex() == "0002" + "000167"
    assert value.hex() == (
        "0003" + "0008" + b"consumer".hex() + "00000001" + "000172" + "000161" + "0000000000000009" + "00000001"
        "000161" + "ffff" + "000163" + "00022f68" + "00000002" + "00000001" + "0000000173" + "0000000178"
    )


@pytest.mark.parametrize(
    "record", [OffsetRecord(OffsetKey("g", "t", 5), None), ClassicGroupRecord("g", None)], ids=["offset", "group"]
)
def test_tombstones_keep_their_key(record):
    key, value = encode_record(record)
    assert value is None
    assert decode_record(key, value) == record


@given(
    group=st.text(max_size=20),
    topic=st.text(max_size=20),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(-1, 2**63 - 1),
    epoch=st.integers(-1, 2**31 - 1),
    metadata=st.text(max_size=50),
    timestamp=st.integers(0, 2**62),
    topic_id=st.binary(min_size=16, max_size=16).map(Uuid),
    producer=st.integers(-1, 100),
)
def test_offsets_round_trip(group, topic, partition, offset, epoch, metadata, timestamp, topic_id, producer):
    record = OffsetRecord(
        OffsetKey(group, topic, partition),
        CommittedOffset(offset, epoch, metadata, timestamp, topic_id=topic_id),
        producer,
    )
    assert decode_record(*encode_record(record), producer) == record


def test_older_offsets_are_read():
    key = bytes.fromhex("0000" + "000167" + "000174" + "00000005")
    legacy = decode_record(key, bytes.fromhex("0000" + "0000000000000007" + "00016d" + "00000000000003e8"))
    assert legacy == OffsetRecord(OffsetKey("g", "t", 5), CommittedOffset(7, -1, "m", 1_000))
    key = b"\x00\x01" + key[2:]
    third = decode_record(key, bytes.fromhex("0003" + "0000000000000007" + "00000003" + "00016d" + "00000000000003e8"))
    assert third == OffsetRecord(OffsetKey("g", "t", 5), CommittedOffset(7, 3, "m", 1_000))


def test_a_group_of_version_0_takes_its_session_timeout_for_the_rebalance():
    value = (
        "0000" + "0008" + b"consumer".hex() + "00000001" + "000172" + "000161" + "00000001"
        "000161" + "000163" + "00022f68" + "00000007" + "0000000173" + "0000000178"
    )
    record = decode_record(bytes.fromhex("0002000167"), bytes.fromhex(value))
    assert record.value.members[0].rebalance_timeout_ms == 7
    assert record.value.state_timestamp == -1


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        *((GroupKind.SHARE, type_) for type_ in (10, 11, 12, 13, 14, 15)),
        *((GroupKind.STREAMS, type_) for type_ in (17, 19, 20, 21, 22, 23)),
    ],
)
def test_other_kinds_of_groups_are_carried_unread(kind, type_):
    key = type_.to_bytes(2, "big") + b"\x00\x01gand more"
    record = decode_record(key, b"\x00\x00whatever")
    assert record == ForeignGroupRecord(kind, type_, "g", key, b"\x00\x00whatever")
    assert encode_record(record) == (key, b"\x00\x00whatever")


def test_types_from_the_future_are_none():
    assert decode_record(b"\x00\x63anything", b"\x00\x00") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"", b""),
        (b"\x00", b""),
        (b"\x00\x01", b"\x00\x04"),
        (b"\x00\x02\x00\x05g", b"\x00\x03"),
        (b"\x00\x02\x00\x01g", b"\x00"),
        (b"\x00\x02\x00\x01g", b"\x00\x03\x00"),
        (b"\x00\x03\x00", b""),
        (b"\x00\x03\x00\x05g", b""),
        (b"\x00\x03\x00\x01\xff", b""),
    ],
)
def test_damage_is_a_decode_error(key, value):
    with pytest.raises(DecodeError):
        decode_record(key, value)


@given(st.binary(max_size=40), st.none() | st.binary(max_size=60))
def test_only_decode_errors_escape(key, value):
    try:
        decode_record(key, value)
    except DecodeError:
        pass


def test_markers_are_not_records():
    with pytest.raises(AssertionError):
        encode_record(TransactionMarker(1, committed=True))

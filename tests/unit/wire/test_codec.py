"""The rules of encoding and decoding that no single message shows: absent fields, nulls, tags, segments, limits."""

import subprocess
import sys
from typing import Any

import pytest

from ottla.model import Uuid
from ottla.wire import DecodeError, EncodeError, decode, encode, encode_segments
from ottla.wire.messages.api_versions_response import ApiVersionsResponse, FinalizedFeatureKey
from ottla.wire.messages.consumer_group_member_metadata_value import (
    ClassicMemberMetadata,
    ConsumerGroupMemberMetadataValue,
)
from ottla.wire.messages.create_topics_request import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.fetch_request import FetchRequest, FetchTopic, ForgottenTopic, ReplicaState
from ottla.wire.messages.fetch_response import FetchableTopicResponse, FetchResponse, PartitionData
from ottla.wire.messages.join_group_request import JoinGroupRequest
from ottla.wire.messages.metadata_request import MetadataRequest
from ottla.wire.messages.metadata_response import MetadataResponse, MetadataResponseTopic
from ottla.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.messages.streams_group_metadata_value import StreamsGroupMetadataValue


class FileRegion:
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size


class TestFieldsAVersionDoesNotHave:
    def test_a_default_is_left_out(self) -> None:
        assert encode(FetchRequest(), 4) == encode(FetchRequest(session_epoch=-1, rack_id=""), 4)

    def test_an_ignorable_value_is_dropped(self) -> None:
        request = FetchRequest(session_id=5, rack_id="r1")
        assert decode(FetchRequest, encode(request, 4), 4) == FetchRequest()

    @pytest.mark.parametrize(
        ("request_", "version"),
        [
            (FetchRequest(replica_state=ReplicaState(replica_id=1)), 14),
            (FetchRequest(replica_id=1), 15),
            (FetchRequest(forgotten_topics_data=[ForgottenTopic()]), 6),
            (JoinGroupRequest(group_instance_id="i"), 4),
        ],
    )
    def test_a_value_that_matters_is_refused(self, request_: Any, version: int) -> None:
        with pytest.raises(EncodeError, match=f"version {version}"):
            encode(request_, version)

    def test_versions_outside_the_range_are_refused(self) -> None:
        for version in (3, 19):
            with pytest.raises(EncodeError):
                encode(FetchRequest(), version)


class TestNull:
    def test_null_where_the_version_allows_it(self) -> None:
        assert decode(MetadataRequest, encode(MetadataRequest(topics=None), 9), 9).topics is None
        assert decode(MetadataRequest, encode(MetadataRequest(topics=None), 1), 1).topics is None

    def test_null_where_it_does_not(self) -> None:
        for message, version in (
            (MetadataRequest(topics=None), 0),
            (MetadataResponse(topics=[MetadataResponseTopic(name=None)]), 9),
            (CreateTopicsRequest(topics=[CreatableTopic(name=None)]), 7),  # type: ignore[arg-type]  # the point
        ):
            with pytest.raises(EncodeError):
                encode(message, version)
        with pytest.raises(DecodeError):
            decode(MetadataRequest, b"\xff\xff\xff\xff", 0)

    def test_a_tagged_nullable_struct(self) -> None:
        """Its default is an empty struct, so both null and a filled one are written."""
        for metadata in (None, ClassicMemberMetadata(), ClassicMemberMetadata(session_timeout_ms=9)):
            value = ConsumerGroupMemberMetadataValue(classic_member_metadata=metadata)
            assert decode(ConsumerGroupMemberMetadataValue, encode(value, 0), 0) == value

    def test_null_given_as_json_null_is_no_default(self) -> None:
        assert StreamsGroupMetadataValue().last_assignment_configs == []


class TestLimits:
    def test_strings_end_at_32767_bytes(self) -> None:
        for version in (1, 9):
            longest = MetadataResponse(cluster_id="x" * 32_767)
            assert decode(MetadataResponse, encode(longest, max(version, 2)), max(version, 2)) == longest
            with pytest.raises(EncodeError):
                encode(MetadataResponse(cluster_id="x" * 32_768), max(version, 2))

    def test_integers_out_of_range(self) -> None:
        with pytest.raises(EncodeError):
            encode(FetchRequest(max_wait_ms=1 << 31), 12)

    def test_lone_surrogates(self) -> None:
        with pytest.raises(EncodeError):
            encode(FetchRequest(rack_id="\ud800"), 12)

    def test_text_that_is_not_utf8(self) -> None:
        frame = bytearray(encode(FetchRequest(rack_id="abc"), 12))
        frame[frame.index(b"abc")] = 0xFF
        with pytest.raises(DecodeError):
            decode(FetchRequest, frame, 12)

    def test_long_arrays_of_integers(self) -> None:
        for count in (0, 1, 14, 15, 16, 17, 126, 127, 128, 20_000):
            request = FetchRequest(forgotten_topics_data=[ForgottenTopic(partitions=list(range(count)))])
            for version in (11, 12, 18):
                assert decode(FetchRequest, encode(request, version), version) == request


class TestTaggedFields:
    def test_unknown_ones_come_back_in_the_order_of_their_tags(self) -> None:
        response = ApiVersionsResponse(
            finalized_features_epoch=3,
            finalized_features=[FinalizedFeatureKey(name="kraft.version")],
            unknown_tagged_fields=((77, b"new"), (40, b"")),
        )
        frame = encode(response, 3)
        again = decode(ApiVersionsResponse, frame, 3)
        assert again.unknown_tagged_fields == ((40, b""), (77, b"new"))
        assert encode(again, 3) == frame

    def test_one_that_a_version_does_not_know_is_kept_as_unknown(self) -> None:
        frame = encode(FetchRequest(replica_state=ReplicaState(replica_id=9)), 15)
        older = decode(FetchRequest, frame[:12] + frame[12:], 15)
        assert older.replica_state.replica_id == 9
        tail = frame[frame.index(b"\x01\x01\x0d") :]
        twelve = encode(FetchRequest(), 12)[:-1] + tail
        assert [tag for tag, _ in decode(FetchRequest, twelve, 12).unknown_tagged_fields] == [1]

    @pytest.mark.parametrize("tags", [b"\x02\x28\0\x28\0", b"\x02\x29\0\x28\0", b"\x02\0\x01\0\0\x01\0"])
    def test_tags_out_of_order_or_given_twice_are_refused(self, tags: bytes) -> None:
        with pytest.raises(DecodeError, match="tagged field"):
            decode(FetchRequest, encode(FetchRequest(), 12)[:-1] + tags, 12)

    def test_a_tag_given_twice_is_not_written(self) -> None:
        with pytest.raises(EncodeError, match="twice"):
            encode(FetchRequest(cluster_id="c", unknown_tagged_fields=((0, b""),)), 12)

    def test_a_known_one_must_fill_its_size(self) -> None:
        frame = encode(FetchRequest(cluster_id="abc"), 12)
        at = frame.index(b"\x00\x04\x04abc")
        for size in (3, 5):
            with pytest.raises(DecodeError):
                decode(FetchRequest, frame[: at + 1] + bytes([size]) + frame[at + 2 :] + b"\0" * (size - 4), 12)


class TestRecords:
    def test_produced_records_are_a_view_of_the_frame(self) -> None:
        request = ProduceRequest(
            topic_data=[TopicProduceData(name="t", partition_data=[PartitionProduceData(index=1, records=b"batch")])]
        )
        frame = bytearray(encode(request, 9))
        records = decode(ProduceRequest, frame, 9).topic_data[0].partition_data[0].records
        assert isinstance(records, memoryview)
        frame[frame.index(b"batch")] = ord("B")
        assert bytes(records) == b"Batch"

    @pytest.mark.parametrize("version", [4, 11, 12, 18])
    def test_regions_go_out_as_segments(self, version: int) -> None:
        large, region = bytes(100_000), FileRegion(70_000)
        contents = [b"small", memoryview(b"view"), region, None, large, FileRegion(0), bytearray(b"own")]

        def answer(parts: list[Any]) -> FetchResponse:
            partitions = [PartitionData(partition_index=index, records=part) for index, part in enumerate(parts)]
            return FetchResponse(responses=[FetchableTopicResponse(partitions=partitions)])

        segments = encode_segments(answer(contents), version, b"prefix")
        assert [segment for segment in segments if not isinstance(segment, bytes)] == [region]
        assert any(segment is large for segment in segments)
        flat = b"".join(s if isinstance(s, bytes) else b"\7" * len(s) for s in segments)
        plain = [b"small", b"view", b"\7" * 70_000, None, large, b"", b"own"]
        assert flat == b"prefix" + encode(answer(plain), version)

    def test_encode_refuses_regions(self) -> None:
        partitions = [PartitionData(records=FileRegion(5))]
        with pytest.raises(EncodeError, match="region"):
            encode(FetchResponse(responses=[FetchableTopicResponse(partitions=partitions)]), 12)

    def test_a_last_region_ends_the_segments(self) -> None:
        region = FileRegion(5)
        answer = FetchResponse(responses=[FetchableTopicResponse(partitions=[PartitionData(records=region)])])
        assert encode_segments(answer, 4)[-1] is region


def test_uuids_are_uuids() -> None:
    topic_id = Uuid(bytes(range(16)))
    again = decode(FetchRequest, encode(FetchRequest(topics=[FetchTopic(topic_id=topic_id)]), 13), 13)
    assert type(again.topics[0].topic_id) is Uuid
    assert type(decode(FetchRequest, encode(FetchRequest(topics=[FetchTopic()]), 13), 13).topics[0].topic_id) is Uuid
    assert again.topics[0].topic_id == topic_id


def test_default_lists_are_not_shared() -> None:
    FetchRequest().topics.append(FetchTopic())
    assert FetchRequest().topics == []


def test_importing_the_package_loads_no_message() -> None:
    probe = (
        "import sys, ottla.wire, ottla.wire.apis, ottla.wire.frame, ottla.wire.errors; "
        "print([name for name in sys.modules if name.startswith('ottla.wire.messages.')])"
    )
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout == "[]\n"

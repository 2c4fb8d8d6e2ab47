"""Molds write what the ordinary encoder writes, and read what the ordinary decoder reads, in every version."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.model import Uuid
from ottla.wire.apis import ApiKey
from ottla.wire.codec import INLINE_BYTES_MAX, Message, decode
from ottla.wire.frame import RequestHeader, encode_request, encode_response
from ottla.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
from ottla.wire.messages.fetch_response import FetchableTopicResponse, FetchResponse, LeaderIdAndEpoch, PartitionData
from ottla.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.messages.produce_response import PartitionProduceResponse, ProduceResponse, TopicProduceResponse
from ottla.wire.mold import AnswerMold, NumbersMold, RecordsMold

INT32 = st.integers(-(2**31), 2**31 - 1)
CLIENT_ID = st.none() | st.text(max_size=200)
TOPIC_ID = Uuid.random(Random(1))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    version=st.integers(FetchRequest.LOWEST_VERSION, FetchRequest.HIGHEST_VERSION),
    client_id=CLIENT_ID,
    rack=st.text(max_size=40),
    again=st.lists(st.tuples(INT32, INT32, st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=4),
)
def test_a_fetch_that_moves_on(
    version: int, client_id: str | None, rack: str, again: list[tuple[int, int, int]]
) -> None:
    def request(session_epoch: int, offset: int) -> FetchRequest:
        partition = FetchPartition(partition=7, fetch_offset=offset, partition_max_bytes=1000)
        topic = FetchTopic(topic_id=TOPIC_ID) if version >= 13 else FetchTopic(topic="orders")
        topic.partitions = [partition]
        return FetchRequest(
            session_id=5 if version >= 7 else 0,
            session_epoch=session_epoch if version >= 7 else -1,
            topics=[topic],
            rack_id=rack if version >= 11 else "",
        )

    codes = "iq" if version >= 7 else "q"
    make = request if version >= 7 else lambda offset: request(-1, offset)
    mold = NumbersMold(RequestHeader(ApiKey.FETCH, version, 99, client_id), codes, make)
    for correlation_id, epoch, offset in again:
        header = RequestHeader(ApiKey.FETCH, version, correlation_id, client_id)
        numbers = (correlation_id, epoch, offset) if version >= 7 else (correlation_id, offset)
        assert mold.frame(*numbers) == encode_request(header, request(epoch, offset))


def test_a_number_that_lies_in_two_places_is_refused() -> None:
    def request(number: int) -> FetchRequest:
        return FetchRequest(min_bytes=number, max_bytes=number)

    with pytest.raises(AssertionError, match="one place"):
        NumbersMold(RequestHeader(ApiKey.FETCH, 18, 0, None), "i", request)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    version=st.integers(ProduceRequest.LOWEST_VERSION, ProduceRequest.HIGHEST_VERSION),
    client_id=CLIENT_ID,
    transactional_id=st.none() | st.text(max_size=20),
    acks=st.sampled_from((-1, 0, 1)),
    again=st.lists(
        st.tuples(INT32, st.sampled_from((0, 1, 126, 127, 128, 16_382, INLINE_BYTES_MAX, 3_000_000))), max_size=4
    ),
)
def test_a_produce_of_one_partition(
    version: int, client_id: str | None, transactional_id: str | None, acks: int, again: list[tuple[int, int]]
) -> None:
    def request(records: bytes) -> ProduceRequest:
        topic = TopicProduceData(topic_id=TOPIC_ID) if version >= 13 else TopicProduceData(name="orders")
        topic.partition_data = [PartitionProduceData(index=3, records=records)]
        return ProduceRequest(transactional_id=transactional_id, acks=acks, timeout_ms=30_000, topic_data=[topic])

    mold = RecordsMold(RequestHeader(ApiKey.PRODUCE, version, 99, client_id), request(b""))
    for correlation_id, size in again:
        records = b"r" * size
        header = RequestHeader(ApiKey.PRODUCE, version, correlation_id, client_id)
        parts = mold.parts(correlation_id, records)
        assert b"".join(parts) == encode_request(header, request(records))
        assert size < INLINE_BYTES_MAX or any(part is records for part in parts)


def test_records_that_do_not_come_last_are_refused() -> None:
    topics = [
        TopicProduceData(topic_id=TOPIC_ID, partition_data=[PartitionProduceData(records=b"")]),
        TopicProduceData(topic_id=TOPIC_ID),
    ]
    with pytest.raises(AssertionError, match="come last"):
        RecordsMold(RequestHeader(ApiKey.PRODUCE, 13, 0, None), ProduceRequest(topic_data=topics))


def fetched(numbers: tuple[int, ...], records: bytes, *, session_id: int = 5, **other: Any) -> FetchResponse:
    partition = PartitionData(partition_index=7, aborted_transactions=None, records=records, **other)
    partition.high_watermark, partition.last_stable_offset, partition.log_start_offset = numbers
    topic = FetchableTopicResponse(topic_id=TOPIC_ID, partitions=[partition])
    return FetchResponse(session_id=session_id, responses=[topic])


def frame_of(api_key: ApiKey, version: int, message: Message) -> bytes:
    return b"".join(map(bytes, encode_response(api_key, version, 12345, message)))[4:]


INT64 = st.integers(-(2**63), 2**63 - 1)
OFFSETS = st.tuples(INT64, INT64, INT64)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    version=st.integers(13, FetchResponse.HIGHEST_VERSION),
    numbers=OFFSETS,
    size=st.sampled_from((0, 1, 126, 127, 128, 16_382, 16_383, 70_000)),
)
def test_a_fetch_is_read_as_the_decoder_reads_it(version: int, numbers: tuple[int, ...], size: int) -> None:
    mold = AnswerMold(ApiKey.FETCH, version, "qqq", lambda *ends: fetched(ends, b""), records=True)
    frame = frame_of(ApiKey.FETCH, version, fetched(numbers, b"r" * size))
    read = mold.read(frame)
    assert read is not None
    assert read.numbers == numbers
    assert read.records == b"r" * size
    parts = mold.write(12345, numbers, b"r" * size)
    assert b"".join(map(bytes, parts))[4:] == frame
    assert int.from_bytes(bytes(parts[0])[:4]) == len(frame)


OTHERWISE = (
    fetched((1, 2, 3), b"rr", session_id=6),
    fetched((1, 2, 3), b"rr", error_code=3),
    fetched((1, 2, 3), b"rr", preferred_read_replica=1),
    fetched((1, 2, 3), b"rr", unknown_tagged_fields=((9, b"?"),)),
    fetched((1, 2, 3), b"rr", current_leader=LeaderIdAndEpoch(leader_id=2, leader_epoch=1)),
    FetchResponse(session_id=5),
    FetchResponse(session_id=5, throttle_time_ms=1, responses=fetched((1, 2, 3), b"rr").responses),
    FetchResponse(session_id=5, responses=fetched((1, 2, 3), b"rr").responses * 2),
)


@pytest.mark.parametrize("number", range(len(OTHERWISE)))
def test_an_answer_of_another_shape_is_left_to_the_decoder(number: int) -> None:
    mold = AnswerMold(ApiKey.FETCH, 18, "qqq", lambda *ends: fetched(ends, b""), records=True)
    assert mold.read(frame_of(ApiKey.FETCH, 18, OTHERWISE[number])) is None


def test_null_records_are_left_to_the_decoder() -> None:
    mold = AnswerMold(ApiKey.FETCH, 18, "qqq", lambda *ends: fetched(ends, b""), records=True)
    nothing = fetched((1, 2, 3), b"")
    nothing.responses[0].partitions[0].records = None
    assert mold.read(frame_of(ApiKey.FETCH, 18, nothing)) is None


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_answer_is_read_right_or_not_at_all(data: st.DataObject) -> None:
    """Cut or with bytes changed: either it still has the shape, and the decoder agrees, or it is not read."""
    mold = AnswerMold(ApiKey.FETCH, 18, "qqq", lambda *ends: fetched(ends, b""), records=True)
    frame = bytearray(frame_of(ApiKey.FETCH, 18, fetched((7, 8, 9), b"r" * 200)))
    for _ in range(data.draw(st.integers(0, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(frame[: data.draw(st.integers(0, len(frame)))])
    read = mold.read(cut)
    if read is None:
        return
    partition = decode(FetchResponse, cut, 18, start=5).responses[0].partitions[0]
    assert read.records == partition.records
    assert read.numbers == (partition.high_watermark, partition.last_stable_offset, partition.log_start_offset)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(version=st.integers(5, ProduceResponse.HIGHEST_VERSION), numbers=OFFSETS)
def test_an_acknowledgement(version: int, numbers: tuple[int, ...]) -> None:
    def acknowledged(*offsets: int, **other: Any) -> ProduceResponse:
        result = PartitionProduceResponse(index=3, **other)
        result.base_offset, result.log_append_time_ms, result.log_start_offset = offsets
        topic = TopicProduceResponse(partition_responses=[result])
        if version >= 13:
            topic.topic_id = TOPIC_ID
        else:
            topic.name = "orders"
        return ProduceResponse(responses=[topic])

    mold = AnswerMold(ApiKey.PRODUCE, version, "qqq", acknowledged, records=False)
    read = mold.read(frame_of(ApiKey.PRODUCE, version, acknowledged(*numbers)))
    assert read is not None
    assert (read.numbers, read.records) == (numbers, None)
    assert mold.read(frame_of(ApiKey.PRODUCE, version, acknowledged(*numbers, error_code=6))) is None
    assert mold.read(frame_of(ApiKey.PRODUCE, version, acknowledged(*numbers)) + b"?") is None

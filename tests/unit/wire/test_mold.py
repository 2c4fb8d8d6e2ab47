"""Molds write what the ordinary encoder writes, in every version."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.model import Uuid
from ottla.wire.apis import ApiKey
from ottla.wire.codec import INLINE_BYTES_MAX
from ottla.wire.frame import RequestHeader, encode_request
from ottla.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
from ottla.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.mold import NumbersMold, RecordsMold

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

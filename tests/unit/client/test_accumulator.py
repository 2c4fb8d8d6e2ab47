"""Batches in the making: order, sequence numbers, retries, bounds."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.client._accumulator import Accumulator, Batch, Delivery, RecordMetadata
from ottla.client._partitioner import StickyPartitioner, murmur2, partition_for_key
from ottla.model import TopicPartition
from ottla.records.batch import read_header
from ottla.records.compression import Codec

PLACE = TopicPartition("t", 0)


def make(batch_bytes: int = 200, linger: float = 1.0) -> Accumulator:
    return Accumulator(codec=Codec.NONE, batch_bytes=batch_bytes, linger_seconds=linger, buffer_bytes=10_000)


def put(accumulator: Accumulator, value: bytes, now: float = 0.0) -> Batch:
    batch, _ = accumulator.room_for(PLACE, len(value) + 21, now)
    accumulator.append(batch, 1000, None, value, ())
    return batch


def test_records_share_a_batch_until_it_is_full() -> None:
    accumulator = make()
    first = put(accumulator, b"x" * 50)
    assert put(accumulator, b"x" * 10) is first
    second = put(accumulator, b"x" * 100)
    assert second is not first
    assert first.full
    assert list(accumulator.queue(PLACE).waiting) == [first, second]


def test_a_lone_batch_lingers_a_full_one_does_not() -> None:
    accumulator = make()
    put(accumulator, b"x" * 100, now=5.0)
    queue = accumulator.queue(PLACE)
    assert accumulator.due_at(queue) == 6.0
    accumulator.flushing = True
    assert accumulator.due_at(queue) == 0.0
    accumulator.flushing = False
    put(accumulator, b"x" * 100, now=5.5)
    assert accumulator.due_at(queue) == 0.0


def test_sequences_follow_each_other_and_wrap() -> None:
    accumulator = make()
    queue = accumulator.queue(PLACE)
    queue.next_sequence = 2**31 - 1
    for _ in range(2):
        put(accumulator, b"a" * 100)
    headers = [read_header(accumulator.take(queue, 7, 3).encoded()) for _ in range(2)]
    assert [(header.producer_id, header.producer_epoch, header.base_sequence) for header in headers] == [
        (7, 3, 2**31 - 1),
        (7, 3, 0),
    ]


def test_a_retry_goes_first_alone_and_unchanged() -> None:
    accumulator = make()
    queue = accumulator.queue(PLACE)
    for _ in range(4):
        put(accumulator, b"a" * 100)
    one, two, three = (accumulator.take(queue, 7, 0) for _ in range(3))
    sent = two.encoded()
    # The answers come late and in any order: the third fails before the second.
    for batch in (three, two):
        queue.in_flight.remove(batch)
        queue.put_back(batch, muted_until=9.0)
    assert [batch.number for batch in queue.waiting] == [2, 3, 4]
    assert not queue.may_send(5), "the first is still in flight"
    queue.in_flight.remove(one)
    assert queue.may_send(5)
    assert accumulator.due_at(queue) == 9.0
    assert accumulator.take(queue, 8, 0) is two
    assert two.encoded() == sent, "what was sent once is sent again with the same numbers"
    assert not queue.may_send(5), "nothing overtakes a retry"


def test_in_flight_is_bounded() -> None:
    accumulator = make()
    queue = accumulator.queue(PLACE)
    for _ in range(7):
        put(accumulator, b"a" * 100)
    taken = 0
    while queue.may_send(5):
        accumulator.take(queue, 7, 0)
        taken += 1
    assert taken == 5


def test_a_new_producer_id_gives_up_what_was_sent_and_keeps_the_rest() -> None:
    accumulator = make()
    queue = accumulator.queue(PLACE)
    for _ in range(2):
        put(accumulator, b"a" * 100)
    sent = accumulator.take(queue, 7, 0)
    queue.in_flight.remove(sent)
    queue.put_back(sent, 0.0)
    assert accumulator.restart_sequences() == [sent]
    assert accumulator.take(queue, 8, 0).builder.base_sequence == 0


def test_bytes_are_counted_in_and_out() -> None:
    accumulator = make()
    batches = {put(accumulator, b"x" * 60) for _ in range(5)}
    assert accumulator.buffered_bytes > 300
    for batch in batches:
        accumulator.release(batch)
    assert accumulator.buffered_bytes == 0


def test_fates_are_told() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        accumulator = make()
        delivery = Delivery()
        futures = []
        for number in range(2):
            batch = put(accumulator, b"v%d" % number)
            future: asyncio.Future[RecordMetadata] = loop.create_future()
            batch.promise(1000, future)
            batch.count_in(delivery, 1)
            futures.append(future)
        assert delivery.pending == 2
        batch.acknowledge(40, -1)
        assert [future.result() for future in futures] == [
            RecordMetadata("t", 0, 40, 1000),
            RecordMetadata("t", 0, 41, 1000),
        ]
        assert await delivery.wait() == 2
        failed = Batch(PLACE, Codec.NONE, 0.0, 9)
        failed.count_in(delivery, 3)
        failed.fail(ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            await delivery.wait()
        assert delivery.acknowledged == 2

    asyncio.run(main())


# Computed with Utils.murmur2 of kafka-clients 4.3.1.
MURMUR2 = [
    ("", 275646681),
    ("a", 2731586172),
    ("ab", 316155434),
    ("abc", 479470107),
    ("abcd", 2971317748),
    ("abcde", 461995741),
    ("hello world", 1221641059),
    ("ümläut", 3248643089),
    ("0123456789abcdef", 1438427052),
]


@pytest.mark.parametrize(("text", "value"), MURMUR2)
def test_murmur2_is_javas(text: str, value: int) -> None:
    assert murmur2(text.encode()) == value


@given(st.binary(max_size=40), st.integers(1, 50))
def test_a_key_has_one_partition(key: bytes, partitions: int) -> None:
    assert 0 <= partition_for_key(key, partitions) < partitions
    assert partition_for_key(key, partitions) == partition_for_key(bytes(key), partitions)


def test_sticky_until_told_to_move_on() -> None:
    sticky = StickyPartitioner(Random(1))
    first = sticky.partition("t", 4)
    assert {sticky.partition("t", 4) for _ in range(9)} == {first}
    assert sticky.move_on("t", 4) != first
    assert sticky.current("other") == -1
    assert sticky.partition("t", 1) == 0

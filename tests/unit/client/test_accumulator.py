"""Batches in the making: order, sequence numbers, retries, epochs, bounds."""

import asyncio

import pytest

from ottla.client._accumulator import Accumulator, Batch, Delivery, Receipt, RecordMetadata
from ottla.model import TopicPartition
from ottla.records.batch import read_header
from ottla.records.compression import Codec

PLACE = TopicPartition("t", 0)
PRODUCER = (7, 3)


def make(batch_bytes: int = 200, linger: float = 1.0) -> Accumulator:
    return Accumulator(codec=Codec.NONE, batch_bytes=batch_bytes, linger_seconds=linger, buffer_bytes=10_000)


def put(accumulator: Accumulator, value: bytes, now: float = 0.0) -> Batch:
    size = len(value) + 21
    batch, _ = accumulator.room_for(accumulator.queue(PLACE), size, now)
    batch.timestamps.append(1000)
    batch.values.append(value)
    batch.size += size
    accumulator.buffered_bytes += size
    return batch


def take(accumulator: Accumulator) -> Batch:
    queue = accumulator.queue(PLACE)
    if queue.producer[0] < 0:
        queue.producer = PRODUCER
    queue.unproven = False
    return accumulator.take(accumulator.queue(PLACE), PRODUCER, transactional=False)


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
    accumulator.flushing = 1
    assert accumulator.due_at(queue) == 0.0
    accumulator.flushing = 0
    put(accumulator, b"x" * 100, now=5.5)
    assert accumulator.due_at(queue) == 0.0


def test_sequences_follow_each_other_and_wrap() -> None:
    accumulator = make()
    queue = accumulator.queue(PLACE)
    queue.producer, queue.next_sequence = PRODUCER, 2**31 - 1
    for _ in range(2):
        put(accumulator, b"a" * 100)
    headers = [read_header(take(accumulator).encoded()) for _ in range(2)]
    assert [(header.producer_id, header.producer_epoch, header.base_sequence) for header in headers] == [
        (7, 3, 2**31 - 1),
        (7, 3, 0),
    ]


def test_a_retry_goes_first_alone_and_unchanged() -> None:
    accumulator = make()
    queue = accumulator.queue(PLACE)
    for _ in range(4):
        put(accumulator, b"a" * 100)
    one, two, three = (take(accumulator) for _ in range(3))
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
    assert take(accumulator) is two
    assert two.encoded() == sent, "what was sent once is sent again with the same numbers"
    assert not queue.may_send(5), "nothing overtakes a retry"


def test_the_first_batch_travels_alone_until_it_is_acknowledged() -> None:
    accumulator = make()
    queue = accumulator.queue(PLACE)
    for _ in range(2):
        put(accumulator, b"a" * 100)
    assert queue.may_send(5)
    accumulator.take(queue, PRODUCER, transactional=False)
    assert not queue.may_send(5)
    queue.unproven = False
    assert queue.may_send(5)


def test_in_flight_is_bounded() -> None:
    accumulator = make()
    queue = accumulator.queue(PLACE)
    for _ in range(7):
        put(accumulator, b"a" * 100)
    taken = 0
    while queue.may_send(5):
        take(accumulator)
        taken += 1
    assert taken == 5


def test_after_a_gap_the_next_epoch_waits_for_every_old_batch() -> None:
    accumulator = make()
    queue = accumulator.queue(PLACE)
    for _ in range(3):
        put(accumulator, b"a" * 100)
    lost, unsure = take(accumulator), take(accumulator)
    accumulator.finish(lost)
    queue.gap = True
    assert queue.oldest_sent(unsure)
    assert not queue.close_gap(), "a batch of the old epoch is in flight"
    queue.in_flight.remove(unsure)
    queue.put_back(unsure, 0.0)
    assert queue.may_send(5), "what was sent before is asked about again"
    assert not queue.close_gap()
    unsure.forget_numbers()
    assert not queue.may_send(5), "new batches wait for the next epoch"
    assert queue.close_gap()
    headers = [read_header(take(accumulator).encoded()) for _ in range(2)]
    assert [(one.producer_id, one.producer_epoch, one.base_sequence) for one in headers] == [(7, 4, 0), (7, 4, 1)]


def test_what_was_refused_for_a_gap_takes_what_follows_with_it() -> None:
    accumulator = make()
    queue = accumulator.queue(PLACE)
    for _ in range(5):
        put(accumulator, b"a" * 100)
    lost, refused, lost_answer, late, _unsent = (take(accumulator) for _ in range(5))
    accumulator.finish(lost)
    queue.gap = True
    queue.in_flight.remove(lost_answer)
    queue.put_back(lost_answer, 0.0)
    queue.refuse(refused)
    assert lost_answer.attempts == 0, "what comes after a refused batch cannot be in the log"
    queue.in_flight.remove(late)
    queue.put_back(late, 99.0)
    assert (late.attempts, queue.muted_until) == (0, 0.0)
    queue.refuse(queue.in_flight[0])
    assert queue.close_gap()
    numbers = [read_header(take(accumulator).encoded()).base_sequence for _ in range(4)]
    assert numbers == [0, 1, 2, 3]


def test_after_the_last_epoch_comes_another_producer_id() -> None:
    queue = make().queue(PLACE)
    queue.producer, queue.gap = (7, 2**15 - 1), True
    assert queue.close_gap()
    assert queue.producer == (-1, -1)


def test_bytes_are_counted_in_and_out() -> None:
    accumulator = make()
    batches = {put(accumulator, b"x" * 60) for _ in range(5)}
    assert accumulator.buffered_bytes > 300
    for batch in batches:
        accumulator.finish(batch)
        accumulator.finish(batch)
    assert accumulator.buffered_bytes == 0
    assert accumulator.empty


def test_fates_are_told() -> None:
    async def main() -> None:
        accumulator = make()
        delivery = Delivery()
        receipts = []
        called: list[Receipt] = []
        for number in range(2):
            batch = put(accumulator, b"v%d" % number)
            receipts.append(Receipt(batch, number))
            receipts[-1].count_in(delivery)
            receipts[-1].add_done_callback(called.append)
        assert delivery.pending == 2
        assert not receipts[0].done()
        with pytest.raises(asyncio.InvalidStateError):
            receipts[0].result()
        waiting = asyncio.gather(*(_wait(receipt) for receipt in receipts))
        await asyncio.sleep(0)
        batch.settle(base_offset=40)
        assert batch.full, "nothing may be added to what is settled"
        assert await waiting == [RecordMetadata("t", 0, 40, 1000), RecordMetadata("t", 0, 41, 1000)]
        assert called == receipts
        assert await delivery == 2
        failed = put(make(), b"x")
        failed.count_in(delivery, 1)
        failed.settle(error=ValueError("no"))
        failed.settle(base_offset=1)
        with pytest.raises(ValueError, match="no"):
            await delivery.wait()
        with pytest.raises(ValueError, match="no"):
            await Receipt(failed, 0)
        assert delivery.acknowledged == 2

    asyncio.run(main())


def test_one_who_gives_up_waiting_does_not_disturb_the_others() -> None:
    async def main() -> None:
        batch = put(make(), b"x")
        impatient, patient = (asyncio.ensure_future(_wait(Receipt(batch, 0))) for _ in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.sleep(0)
        batch.settle(base_offset=5)
        assert (await patient).offset == 5

    asyncio.run(main())


async def _wait(receipt: Receipt) -> RecordMetadata:
    return await receipt

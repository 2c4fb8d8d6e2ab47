"""A partition's promises: what is acknowledged when, what consumers see, what a broken disk does."""

import asyncio

import pytest
from msgspec.structs import replace

from ottla.broker.machine_driver import ProducerMarker
from ottla.broker.partition import FlushPolicy, Isolation
from ottla.records.control import EndTransaction
from ottla.records.validate import Origin
from ottla.transactions.verification import Asker
from ottla.wire.errors import ErrorCode, KafkaError

CLIENT = Origin.CLIENT


def append(partition, records, acks=-1):
    return partition.append(records, origin=CLIENT, required_acks=acks, now_ms=1_700_000_000_000)


def read(partition, offset=0, isolation=Isolation.HIGH_WATERMARK):
    region = partition.read(offset, 1 << 20, isolation=isolation, at_least_one=True)
    return None if region is None else region.pread()


def test_without_a_flush_policy_an_append_is_visible_and_acknowledged_at_once(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.NEVER)
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        first = append(partition, make_batch(b"a", b"b"))
        second = append(partition, make_batch(b"c"))
        assert (first.base_offset, first.last_offset, second.base_offset) == (0, 1, 2)
        assert partition.high_watermark == 3
        assert partition.acknowledged(2) is None
        assert b"a" in read(partition)
        assert read(partition, 3) is None

    asyncio.run(main())


@pytest.mark.parametrize("policy", [FlushPolicy.AUTO, FlushPolicy.ALWAYS])
def test_nothing_is_acknowledged_or_visible_before_it_is_durable(make_bench, one_led, make_batch, policy):
    async def main():
        bench = make_bench(policy)
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        append(partition, make_batch(b"a"))
        waiting = partition.acknowledged(0)
        append(partition, make_batch(b"b"), acks=1)
        assert partition.high_watermark == 0
        assert read(partition) is None
        assert b"b" in read(partition, 0, Isolation.LOG_END)
        assert not waiting.done()
        assert len(bench.flushes.waiting) == 1, "one flush serves all who wait"
        await bench.flushes.flush()
        assert waiting.done()
        assert partition.high_watermark == 2
        assert b"b" in read(partition)

    asyncio.run(main())


def test_what_is_settled_is_visible(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.AUTO)
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        assert partition.settled() is None
        append(partition, make_batch(b"a"), acks=1)
        settled = partition.settled()
        assert not bench.flushes.resting
        await bench.flushes.flush()
        assert settled.done()
        assert partition.high_watermark == 1

        append(partition, make_batch(b"b"), acks=1)
        append(partition, make_batch(b"c"), acks=1)
        settled = partition.settled()
        partition.log.mark_flushed(2)
        bench.flushes.waiting.pop()[1](None)
        assert not settled.done(), "a flush that began before the last append is not enough"
        await bench.flushes.flush()
        assert settled.done()
        assert partition.high_watermark == 3

        append(partition, make_batch(b"d"), acks=1)
        settled = partition.settled()
        await bench.flushes.fail()
        assert settled.exception().code is ErrorCode.KAFKA_STORAGE_ERROR

    asyncio.run(main())


def test_a_log_that_is_given_up_does_not_rest(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.AUTO)
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        append(partition, make_batch(b"a"), acks=1)
        assert bench.flushes.resting
        bench.publish(orders=None)
        assert not bench.flushes.resting

    asyncio.run(main())


class Watching:
    """A fetch that waits for data."""

    def advanced(self, visible_bytes):
        pass

    def foreseen(self):
        pass


def test_a_flush_is_awaited_where_a_producer_or_a_consumer_waits_for_it(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.AUTO)
        bench.publish(orders=[one_led()])
        partition, flushes = bench.partitions.get("orders", 0), bench.flushes

        append(partition, make_batch(b"a"), acks=1)
        assert flushes.resting == {partition.log}, "nobody is out for it"
        waiting = partition.acknowledged(append(partition, make_batch(b"b")).last_offset)
        assert not flushes.resting, "an acks=all producer is"
        append(partition, make_batch(b"c"), acks=1)
        late = partition.acknowledged(append(partition, make_batch(b"d")).last_offset)
        begun = flushes.waiting.pop()
        partition.log.mark_flushed(2)
        begun[1](None)
        assert waiting.done()
        assert not late.done()
        assert flushes.waiting, "the next flush follows"
        assert not flushes.resting, "for a producer that has been waiting since the last one"
        await flushes.flush()
        assert late.done()

        append(partition, make_batch(b"e"), acks=1)
        assert flushes.resting
        assert b"a" in read(partition)
        assert read(partition, 4, Isolation.LOG_END) is not None
        assert flushes.resting, "others read what there is"
        assert read(partition, 4) is None
        assert not flushes.resting, "a consumer has read all there is, whether it waits for more or comes again"
        await flushes.flush()
        consumer = Watching()
        partition.data_waiters.add(consumer)
        append(partition, make_batch(b"f"), acks=1)
        assert flushes.waiting
        assert not flushes.resting, "and waits for the next one, too"
        await flushes.flush()
        partition.data_waiters.discard(consumer)
        append(partition, make_batch(b"g"), acks=1)
        assert flushes.resting

    asyncio.run(main())


def test_acks_1_that_has_to_be_flushed_is_awaited(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.ALWAYS)
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        last = append(partition, make_batch(b"a"), acks=1).last_offset
        told = []
        assert not partition.when_acknowledged(last, told.append, 1)
        assert not bench.flushes.resting
        late = append(partition, make_batch(b"b"), acks=1).last_offset
        partition.when_acknowledged(late, told.append, 1)
        partition.log.mark_flushed(1)
        bench.flushes.waiting.pop()[1](None)
        assert told == [None]
        assert not bench.flushes.resting, "the next one is as well"
        await bench.flushes.flush()
        assert told == [None, None]

    asyncio.run(main())


def test_flush_messages_makes_every_nth_record_wait_for_the_disk(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.NEVER)
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        partition.set_config(replace(partition.log.config, flush_messages=3))
        append(partition, make_batch(b"a", b"b"))
        assert partition.high_watermark == 2
        assert not bench.flushes.waiting
        append(partition, make_batch(b"c"), acks=1)
        assert partition.high_watermark == 2
        assert not partition.is_acknowledged(2, required_acks=1)
        assert not partition.is_acknowledged(2, required_acks=-1)
        await bench.flushes.flush()
        assert partition.high_watermark == 3
        assert partition.is_acknowledged(2, required_acks=1)

    asyncio.run(main())


def test_a_log_whose_partition_could_not_be_opened_is_not_set_aside(make_bench, one_led, make_batch):
    """It belongs to somebody: only logs that the metadata does not know become strays."""

    async def main():
        bench = make_bench(FlushPolicy.NEVER)
        bench.publish(orders=[one_led()], gone=[one_led()])
        orders, gone = (bench.partitions.get(name, 0) for name in ("orders", "gone"))
        for partition in (orders, gone):
            del bench.partitions._partitions[partition.topic_partition]
        bench.partitions._offline[orders.topic_partition] = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "no")
        bench.partitions.set_strays_aside()
        assert not orders.log.directory.endswith("-stray")
        assert gone.log.directory.endswith("-stray")

    asyncio.run(main())


def test_a_log_that_is_truncated_under_a_flush_stays_online(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.AUTO)
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        append(partition, make_batch(b"a"))
        append(partition, make_batch(b"b"))
        ((_, running),) = bench.flushes.waiting
        bench.flushes.waiting = []
        partition.log.truncate_to(1)
        running(KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "the records were truncated"))
        await bench.flushes.flush()
        assert partition.high_watermark == 1
        append(partition, make_batch(b"c"))
        await bench.flushes.flush()
        assert partition.high_watermark == 2

    asyncio.run(main())


def test_appends_during_a_flush_are_taken_by_the_next(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.AUTO)
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        append(partition, make_batch(b"a"))
        ((log, running),) = bench.flushes.waiting
        bench.flushes.waiting = []
        append(partition, make_batch(b"b"))
        assert bench.flushes.waiting == []
        log.mark_flushed(1)
        running(None)
        await asyncio.sleep(0)
        assert partition.high_watermark == 1
        await bench.flushes.flush()
        assert partition.high_watermark == 2

    asyncio.run(main())


def test_with_a_follower_in_sync_auto_waits_for_the_follower_not_the_disk(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.AUTO)
        bench.publish(orders=[one_led(isr=(1, 2))])
        partition = bench.partitions.get("orders", 0)
        append(partition, make_batch(b"a"))
        waiting = partition.acknowledged(0)
        assert bench.flushes.waiting == []
        assert partition.high_watermark == 0

        class Target:
            fetch_offset = 1
            log_start_offset = 0

        partition.record_fetch(Target, 2, 7, bench.clock.now_ms())
        assert waiting.done()
        assert partition.high_watermark == 1

    asyncio.run(main())


def test_a_failed_flush_acknowledges_nothing_any_more(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.AUTO)
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        append(partition, make_batch(b"a"))
        waiting = partition.acknowledged(0)
        await bench.flushes.fail()
        with pytest.raises(KafkaError) as raised:
            await waiting
        assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
        with pytest.raises(KafkaError) as raised:
            append(partition, make_batch(b"b"))
        assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
        with pytest.raises(KafkaError):
            read(partition)

    asyncio.run(main())


def test_a_retried_batch_is_answered_with_its_first_offsets_and_not_appended(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench()
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        first = append(partition, make_batch(b"a", b"b", producer=(7, 0, 0)))
        append(partition, make_batch(b"c", producer=(7, 0, 2)))
        again = append(partition, make_batch(b"a", b"b", producer=(7, 0, 0)))
        assert again.duplicate
        assert (again.base_offset, again.last_offset) == (first.base_offset, first.last_offset)
        assert partition.log.log_end_offset == 3
        with pytest.raises(KafkaError) as raised:
            append(partition, make_batch(b"x", producer=(7, 0, 9)))
        assert raised.value.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert partition.log.log_end_offset == 3

    asyncio.run(main())


def test_leadership_moves_by_epochs_and_waiters_are_told(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.AUTO)
        bench.publish(orders=[one_led(epoch=3, partition_epoch=5)])
        partition = bench.partitions.get("orders", 0)
        append(partition, make_batch(b"a"))
        waiting = partition.acknowledged(0)
        partition.check_leader_epoch(3)
        partition.check_leader_epoch(-1)
        with pytest.raises(KafkaError, match="by now"):
            partition.check_leader_epoch(2)
        with pytest.raises(KafkaError, match="still"):
            partition.check_leader_epoch(4)
        away = replace(one_led(epoch=4, partition_epoch=6), leader=2, replicas=(1, 2), isr=(1, 2))
        bench.publish(orders=[away])
        with pytest.raises(KafkaError) as raised:
            await waiting
        assert raised.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER
        with pytest.raises(KafkaError) as raised:
            append(partition, make_batch(b"b"))
        assert raised.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER

    asyncio.run(main())


def test_deleting_a_topic_ends_its_waits_and_a_namesake_starts_empty(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.AUTO)
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        append(partition, make_batch(b"a"))
        waiting = partition.acknowledged(0)
        bench.publish(orders=None)
        with pytest.raises(KafkaError) as raised:
            await waiting
        assert raised.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        with pytest.raises(KafkaError) as raised:
            bench.partitions.get("orders", 0)
        assert raised.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        bench.publish(orders=[one_led()])
        assert bench.partitions.get("orders", 0).log.log_end_offset == 0
        await bench.flushes.flush()

    asyncio.run(main())


def test_min_insync_replicas_refuses_before_the_append(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench()
        bench.publish(orders=[replace(one_led(), replicas=(1, 2))])
        partition = bench.partitions.get("orders", 0)
        partition.set_config(replace(partition.log.config, min_insync_replicas=2))
        with pytest.raises(KafkaError) as raised:
            append(partition, make_batch(b"a"))
        assert raised.value.code is ErrorCode.NOT_ENOUGH_REPLICAS
        assert partition.log.log_end_offset == 0
        append(partition, make_batch(b"a"), acks=1)
        assert partition.log.log_end_offset == 1

    asyncio.run(main())


def test_deleted_records_move_the_start_and_bound_is_the_high_watermark(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench()
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        for value in (b"a", b"b", b"c"):
            append(partition, make_batch(value))
        assert partition.delete_records_before(2) == 2
        with pytest.raises(KafkaError) as raised:
            read(partition, 1)
        assert raised.value.code is ErrorCode.OFFSET_OUT_OF_RANGE
        with pytest.raises(KafkaError):
            partition.delete_records_before(4)
        assert partition.delete_records_before(-1) == 3

    asyncio.run(main())


def test_acks_1_that_waits_for_a_flush_is_not_forgotten_when_none_is_due_any_more(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.NEVER)
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        partition.set_config(replace(partition.log.config, flush_messages=3))
        append(partition, make_batch(b"a", b"b", b"c"), acks=1)
        ((log, running),) = bench.flushes.waiting
        bench.flushes.waiting = []
        append(partition, make_batch(b"d"), acks=1)
        told = []
        assert not partition.when_acknowledged(3, told.append, required_acks=1)
        # What began before the last record ends: only one record is not durable, and three would be too many.
        log.mark_flushed(3)
        running(None)
        await bench.flushes.flush()
        assert told == [None]

    asyncio.run(main())


def test_a_leader_that_is_left_alone_in_the_isr_goes_to_its_disk_at_once(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.AUTO)
        bench.publish(orders=[one_led(isr=(1, 2))])
        partition = bench.partitions.get("orders", 0)
        append(partition, make_batch(b"a"))
        waiting = partition.acknowledged(0)
        bench.clock.advance(60_000)
        bench.publish(orders=[replace(one_led(isr=(1, 2), partition_epoch=1), isr=(1,))])
        await bench.flushes.flush()
        assert waiting.done()
        assert partition.high_watermark == 1

    asyncio.run(main())


def test_a_new_term_of_the_same_leader_keeps_the_high_watermark(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.AUTO)
        bench.publish(orders=[one_led(isr=(1, 2))])
        partition = bench.partitions.get("orders", 0)
        append(partition, make_batch(b"a"))

        class Target:
            fetch_offset = 1
            log_start_offset = 0

        partition.record_fetch(Target, 2, 7, bench.clock.now_ms())
        assert partition.high_watermark == 1
        bench.publish(orders=[one_led(epoch=1, isr=(1, 2), partition_epoch=1)])
        assert partition.high_watermark == 1, "what consumers have read stays visible"

    asyncio.run(main())


def test_the_stable_offset_does_not_lie_below_the_start_of_the_log(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench()
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        partition.append(
            make_batch(b"a", b"b", producer=(7, 0, 0), transactional=True),
            origin=Origin.COORDINATOR,
            required_acks=-1,
            now_ms=1_700_000_000_000,
            guard=partition.start_verification(Asker(7, 0, 0), 0, adds_partition=False),
        )
        assert partition.last_stable_offset == 0
        partition.delete_records_before(1)
        assert partition.last_stable_offset == 1

    asyncio.run(main())


def test_who_comes_to_wait_after_the_disk_is_gone_is_told_so(make_bench, one_led, make_batch):
    """Nobody was waiting when it went, so nobody who serves the partition may know."""

    async def main():
        bench = make_bench(FlushPolicy.AUTO)
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        append(partition, make_batch(b"a"))
        await bench.flushes.fail()
        waiting = partition.acknowledged(0)
        assert waiting.done()
        assert waiting.exception().code is ErrorCode.KAFKA_STORAGE_ERROR

    asyncio.run(main())


def test_who_comes_to_wait_after_the_leadership_is_gone_is_told_so(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.AUTO)
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        append(partition, make_batch(b"a"))
        bench.publish(orders=[replace(one_led(epoch=1, partition_epoch=1), leader=2, replicas=(1, 2), isr=(1, 2))])
        waiting = partition.acknowledged(0)
        assert waiting.done()
        assert waiting.exception().code is ErrorCode.NOT_LEADER_OR_FOLLOWER
        await bench.flushes.flush()

    asyncio.run(main())


def test_what_was_decided_before_a_kill_is_stable_after_it(make_bench, one_led, make_batch):
    """Though nothing is appended any more that would move the high watermark."""

    async def main():
        bench = make_bench()
        bench.publish(orders=[one_led()])
        partition = bench.partitions.get("orders", 0)
        partition.append(
            make_batch(b"a", producer=(7, 0, 0), transactional=True),
            origin=Origin.COORDINATOR,
            required_acks=-1,
            now_ms=bench.clock.now_ms(),
            guard=partition.start_verification(Asker(7, 0, 0), 0, adds_partition=False),
        )
        marker = ProducerMarker(7, 0, EndTransaction(committed=True, coordinator_epoch=0), 0)
        partition.append_marker(marker, bench.clock.now_ms())
        assert partition.last_stable_offset == 2
        partition.log.flush()
        bench.store.checkpoint_recovery_points()
        bench.store.checkpoint_high_watermarks({partition.topic_partition: partition.high_watermark})
        again = bench.killed()
        again.publish(orders=[one_led()])
        partition = again.partitions.get("orders", 0)
        assert partition.high_watermark == 2
        assert partition.last_stable_offset == 2
        again.close()

    asyncio.run(main())

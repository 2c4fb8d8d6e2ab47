"""What is done by the clock, called by hand."""

import asyncio

from msgspec.structs import replace

from ottla.broker.housekeeping import Housekeeping
from ottla.broker.partition import FlushPolicy
from ottla.config.broker import BrokerConfig
from ottla.records.validate import Origin


def housekeeping(bench, flushed):
    config = BrokerConfig.parse({"node.id": "1"})
    return Housekeeping(
        store=bench.store,
        partitions=bench.partitions,
        config=lambda: config.storage,
        clock=bench.clock,
        close_overdue=lambda: None,
        flush_soon=flushed.append,
        transaction_ms_max=config.transactions.timeout_ms_max,
    )


def test_logs_are_flushed_when_flush_ms_has_passed(make_bench, one_led, make_batch):
    async def main():
        bench = make_bench(FlushPolicy.NEVER)
        bench.publish(orders=[one_led(), one_led()])
        for index, flush_ms in ((0, 1000), (1, 2**63 - 1)):
            partition = bench.partitions.get("orders", index)
            partition.set_config(replace(partition.log.config, flush_ms=flush_ms))
            partition.append(make_batch(b"a"), origin=Origin.CLIENT, required_acks=1, now_ms=bench.clock.now_ms())
        flushed = []
        duties = housekeeping(bench, flushed)
        await duties.flush()
        assert not flushed
        bench.clock.advance(1000)
        await duties.flush()
        assert [log.topic_partition.partition for log in flushed] == [0]
        flushed[0].flush()
        await duties.flush()
        assert len(flushed) == 1

    asyncio.run(main())


def test_retention_leaves_compacted_logs_to_the_cleaner(make_bench, one_led, make_batch):
    policies = (("delete",), ("compact",), ("compact", "delete"))

    async def main():
        bench = make_bench(FlushPolicy.NEVER)
        bench.publish(orders=[one_led() for _ in policies])
        partitions = [bench.partitions.get("orders", index) for index in range(len(policies))]
        for partition, policy in zip(partitions, policies, strict=True):
            config = replace(partition.log.config, cleanup_policy=frozenset(policy), retention_ms=1000)
            partition.set_config(config)
            for _ in range(2):
                now_ms = bench.clock.now_ms()
                partition.append(
                    make_batch(b"a", timestamp=now_ms), origin=Origin.CLIENT, required_acks=1, now_ms=now_ms
                )
                partition.log.roll(now_ms)
            if "delete" not in policy:
                partition.log.advance_log_start(1)
        bench.clock.advance(2000)
        await housekeeping(bench, []).retain()
        assert [len(partition.log.segments) for partition in partitions] == [1, 3, 3]

    asyncio.run(main())

"""New partitions are settled one after the other, and those of coordinators get room."""

import asyncio
import os

from ottla.broker import new_logs
from ottla.broker.new_logs import NewLogs
from ottla.model import TopicPartition
from ottla.storage.fill_ahead import AHEAD_BYTES_FIRST
from ottla.wire.errors import ErrorCode, KafkaError


def test_every_new_partition_is_settled_and_only_a_coordinators_gets_room(make_bench, one_led, monkeypatch):
    monkeypatch.setattr(new_logs, "BEGIN_SECONDS", 0.0)
    monkeypatch.setattr(new_logs, "INTERNAL_TOPICS", {"coordinated"})

    async def main():
        bench = make_bench()
        settled = []

        async def settle(log):
            settled.append(log.topic_partition)
            if log.topic_partition.partition == 0:
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the disk is gone")

        logs = NewLogs(settle)
        bench.store.on_created = logs.add
        running = asyncio.create_task(logs.run())
        bench.publish(orders=[one_led(), one_led()], coordinated=[one_led()])
        while len(settled) < 3:
            await asyncio.sleep(0.001)
        bench.publish(late=[one_led()])
        while len(settled) < 4:
            await asyncio.sleep(0.001)
        running.cancel()
        return bench, settled

    bench, settled = asyncio.run(main())
    assert settled == [
        TopicPartition("orders", 0),
        TopicPartition("orders", 1),
        TopicPartition("coordinated", 0),
        TopicPartition("late", 0),
    ]
    sizes = [os.path.getsize(bench.partitions.get(*place).log.active_segment.log_path) for place in settled]
    assert sizes == [0, 0, AHEAD_BYTES_FIRST, 0]

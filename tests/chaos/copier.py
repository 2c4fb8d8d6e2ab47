"""Copies partitions exactly once until it is killed: `python copier.py BOOTSTRAP SOURCE TARGET NAME`.

Consumes as the group NAME, writes under the transactional id NAME, commits the group's offsets in the same
transactions. A program of its own, so that `kill -9` really takes it with everything it has in memory.
"""

from __future__ import annotations

import faulthandler
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

RECORDS_MAX = 400
CALL_SECONDS = 20.0
COMMIT_TRIES = 5
# After a kill of the broker librdkafka may wait for ever in `send_offsets_to_transaction`, although AddOffsetsToTxn and
# FindCoordinator were answered well: it keeps as the group's coordinator the broker that it gave up when it began again
# from the bootstrap addresses, sends no TxnOffsetCommit, and looks at no clock (confluentinc/librdkafka#5511, #5456).
# A program that hangs so is replaced, as its operator would.
HANGS_SECONDS = 2 * CALL_SECONDS


def main(bootstrap: str, source: str, target: str, name: str) -> None:
    """Copy; begin again with new clients after every error that they cannot get over themselves."""
    while True:
        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": name,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "session.timeout.ms": 6000,
                "fetch.wait.max.ms": 50,
                "log_level": 0,
            }
        )
        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "transactional.id": name,
                "transaction.timeout.ms": 15000,
                "message.timeout.ms": 14000,
                "linger.ms": 2,
                "log_level": 0,
            }
        )
        try:
            producer.init_transactions(CALL_SECONDS)
            consumer.subscribe([source])
            while True:
                copy_some(consumer, producer, target)
        except KafkaException as error:
            print(f"again after {error}", file=sys.stderr, flush=True)
            time.sleep(0.1)
        finally:
            producer.purge()
            consumer.close()


def copy_some(consumer: Consumer, producer: Producer, target: str) -> None:
    """One transaction. Raises `KafkaException` where its outcome is for the next producer to find out."""
    messages = consumer.consume(RECORDS_MAX, 0.1)
    for message in messages:
        if message.error() is not None:
            raise KafkaException(message.error())
    if not messages:
        return
    producer.begin_transaction()
    ends: dict[tuple[str, int], int] = {}
    for message in messages:
        producer.produce(target, message.value(), partition=message.partition())
        ends[message.topic(), message.partition()] = message.offset() + 1
    offsets = [TopicPartition(*place, offset) for place, offset in ends.items()]
    faulthandler.dump_traceback_later(HANGS_SECONDS, exit=True)
    try:
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), CALL_SECONDS)
    finally:
        faulthandler.cancel_dump_traceback_later()
    for _ in range(COMMIT_TRIES):
        try:
            producer.commit_transaction(CALL_SECONDS)
            return
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
    sys.exit("the commit was not answered")


if __name__ == "__main__":
    main(*sys.argv[1:5])

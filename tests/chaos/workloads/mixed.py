"""librdkafka's idempotent producer and consumer as an application would use them, now assigned, now subscribed."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

from chaos.history import Key
from chaos.stage import Lost, Stage, Worker
from chaos.workloads.clients import Deliveries, Position, close, new_consumer, new_producer, poll

SENDS_MAX = 5
SEND_SHARE, CHANGE_SHARE, CRASH_SHARE = 0.5, 0.03, 0.01


class Client(Worker):
    """Sends, polls, changes its mind about what it reads, and is replaced now and then."""

    def __init__(self, stage: Stage, name: str, keys: Sequence[Key], *, workers: int) -> None:
        super().__init__(stage, name, workers=workers)
        self.keys = list(keys)
        self._positions: Position = {}
        self._rebalanced: set[Key] = set()

    def session(self) -> None:
        producer = new_producer(self.stage)
        consumer = new_consumer(self.stage, "chaos-mixed", **{"session.timeout.ms": 6000})
        self._positions.clear()
        try:
            self._choose_partitions(consumer)
            while self.wait() and self.dice.random() > CRASH_SHARE:
                if self.dice.random() < SEND_SHARE:
                    self._send(producer)
                elif self.dice.random() < CHANGE_SHARE:
                    self._choose_partitions(consumer)
                else:
                    self._poll(consumer)
        except KafkaException as error:
            raise Lost(str(error)) from error
        finally:
            close(producer, consumer)

    def _choose_partitions(self, consumer: Consumer) -> None:
        f = self.dice.choice(("assign", "subscribe"))
        self.history.complete(self.invoke(f), "ok")
        if f == "subscribe":
            consumer.unassign()
            topic = self.stage.place(self.keys[0])[0]
            consumer.subscribe([topic], on_assign=self._on_rebalance, on_revoke=self._on_rebalance)
            return
        consumer.unsubscribe()
        some = self.dice.sample(self.keys, self.dice.randint(1, len(self.keys)))
        offsets = [self._positions.get(key, OFFSET_BEGINNING) for key in some]
        consumer.assign(
            [TopicPartition(*self.stage.place(key), offset) for key, offset in zip(some, offsets, strict=True)]
        )

    def _on_rebalance(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._rebalanced |= {self.stage.key_of(one.topic, one.partition) for one in partitions}

    def _poll(self, consumer: Consumer) -> None:
        invoked = self.invoke("poll")
        try:
            polled = poll(self.stage, consumer, self._positions)
        except KafkaException as error:
            self.history.complete(invoked, "info", err=str(error))
            raise
        # What is polled behind an old assignment belongs to the new one only by name.
        self.history.complete(invoked, "ok", [polled] if polled.records else [], reb=tuple(sorted(self._rebalanced)))
        self._rebalanced.clear()

    def _send(self, producer: Producer) -> None:
        sends = [self.stage.new_send(self.dice.choice(self.keys)) for _ in range(self.dice.randint(1, SENDS_MAX))]
        invoked = self.invoke("send", sends)
        deliveries = Deliveries(self.stage, producer, self.name)
        for send in sends:
            deliveries.send(send, self.dice.randint(0, 300))
        if deliveries.flush():
            self.history.complete(invoked, "ok", deliveries.sends())
            return
        reason = str(deliveries.failed[:1] or "not delivered in time")
        self.history.complete(invoked, "info", deliveries.sends(), err=reason)
        raise Lost(reason)

"""librdkafka as the workloads use it: short timeouts, idempotent, nothing automatic; what its errors mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from chaos.history import Key, Poll, Send, make_record, read_record
from chaos.stage import Stage

SIZES = (0, 300)
DELIVERY_SECONDS = 9.0
COMMON: dict[str, Any] = {
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 200,
    # Longer than any fault: a request that is given up may still arrive, and late ones have a workload of their own.
    "socket.timeout.ms": 10_000,
    "topic.metadata.refresh.interval.ms": 5000,
    "log_level": 0,
    "error_cb": lambda _: None,
}

Position = dict[Key, int]


def new_producer(stage: Stage, **more: Any) -> Producer:
    """An idempotent producer; with `transactional.id` a transactional one."""
    settings = {
        **COMMON,
        "bootstrap.servers": stage.bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 1,
        "retry.backoff.ms": 20,
        "retry.backoff.max.ms": 200,
        "message.timeout.ms": int(DELIVERY_SECONDS * 1000),
    }
    return Producer({**settings, **more})


def new_consumer(stage: Stage, group: str, **more: Any) -> Consumer:
    """A consumer of committed data that commits only when told."""
    settings = {
        **COMMON,
        "bootstrap.servers": stage.bootstrap,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 50,
        "check.crcs": True,
    }
    return Consumer({**settings, **more})


class Deliveries:
    """Sends on their way, and where the broker said they are."""

    def __init__(self, stage: Stage, producer: Producer, writer: str) -> None:
        self.failed: list[KafkaError] = []
        self._stage = stage
        self._producer = producer
        self._writer = writer
        self._offsets: dict[Send, int | None] = {}

    def send(self, send: Send, size: int = 0) -> None:
        """Hand a record to the client."""
        self._offsets[send] = None
        topic, partition = self._stage.place(send.key)

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.failed.append(error)
            else:
                self._offsets[send] = message.offset()

        record = make_record(send.key, int(send.value), self._writer, size)
        self._producer.produce(topic, record, partition=partition, on_delivery=delivered)

    def flush(self, seconds: float = DELIVERY_SECONDS) -> bool:
        """Wait; whether all have arrived."""
        return self._producer.flush(seconds) == 0 and not self.failed

    def sends(self) -> list[Send]:
        """All of them, with the offsets that are known."""
        return [Send(send.key, offset, send.value, send.amount) for send, offset in self._offsets.items()]


def assign(stage: Stage, consumer: Consumer, keys: Iterable[Key], positions: Position) -> None:
    """Begin each partition where `positions` says, or at its beginning."""
    consumer.assign([TopicPartition(*stage.place(key), positions.get(key, OFFSET_BEGINNING)) for key in keys])


def poll(stage: Stage, consumer: Consumer, positions: Position, *, most: int = 50, seconds: float = 0.1) -> Poll:
    """What the consumer has; moves `positions` behind it. Raises `KafkaException`."""
    records: dict[Key, list[tuple[int, Any]]] = {}
    for message in consumer.consume(most, seconds):
        if message.error() is not None:
            raise KafkaException(message.error())
        key = stage.key_of(str(message.topic()), int(message.partition() or 0))
        offset = int(message.offset() or 0)
        records.setdefault(key, []).append((offset, read_record(key, message.value())))
        positions[key] = offset + 1
    return Poll(records)


def code(error: KafkaException) -> KafkaError:
    """The error in an exception."""
    return error.args[0]  # type: ignore[no-any-return]  # confluent-kafka has no types here


def close(*clients: Sequence[Any] | Any) -> None:
    """Close what can be closed, and let nothing stop that."""
    for client in clients:
        try:
            if isinstance(client, Consumer):
                client.close()
            elif isinstance(client, Producer):
                client.purge()
                client.flush(1)
        except (KafkaException, RuntimeError):
            pass

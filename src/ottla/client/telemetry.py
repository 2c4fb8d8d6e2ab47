"""OpenTelemetry for the clients, an extra: ``pip install ottla[opentelemetry]``.

    from ottla.client.telemetry import ProducerTracing, consumer_span

    async with Producer("localhost:9092", interceptors=[ProducerTracing()]) as producer:
        ...
    tracing = ConsumerTracing(group="shop")
    async with Consumer("localhost:9092", group="shop", topics=["orders"], interceptors=[tracing]) as consumer:
        async for record in consumer:
            with tracing.span(record):
                ...

Spans, attributes and metrics have the names of the semantic conventions for messaging in Kafka as of version 1.45; with
``OTEL_SEMCONV_STABILITY_OPT_IN=messaging/dup`` the names of 1.44 are written beside them. A record's context travels in
its headers as the propagator that is configured writes it (W3C ``traceparent``).
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from opentelemetry import context, metrics, propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from ottla.client._accumulator import RecordMetadata
from ottla.client._decode import ConsumerRecord
from ottla.client._offsets import OffsetAndMetadata
from ottla.client._record import ProducerRecord
from ottla.model import TopicPartition
from ottla.wire.errors import KafkaError

SYSTEM: Final = "messaging.system.name"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
PARTITION: Final = "messaging.destination.partition.id"
GROUP: Final = "messaging.consumer.group.name"
OFFSET: Final = "kafka.offset"
KEY: Final = "kafka.message.key"
TOMBSTONE: Final = "kafka.message.tombstone"
ERROR_TYPE: Final = "error.type"
BEFORE_1_45: Final = {
    SYSTEM: "messaging.system",
    OFFSET: "messaging.kafka.offset",
    KEY: "messaging.kafka.message.key",
    TOMBSTONE: "messaging.kafka.message.tombstone",
}
SENT: Final = "messaging.client.sent.messages"
CONSUMED: Final = "messaging.client.consumed.messages"
SEND_DURATION: Final = "messaging.client.operation.duration"
PROCESS_DURATION: Final = "messaging.process.duration"
DURATION_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"

Attributes = dict[str, str | bool | int]


class ReceivedRecord(Protocol):
    """What a span says of a record."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> Any: ...
    @property
    def value(self) -> Any: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class ProducerTracing:
    """An interceptor: a span from the moment a record is sent until its fate is known, told to whoever reads it."""

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer("ottla.client", tracer_provider=tracer_provider)
        meter = metrics.get_meter("ottla.client", meter_provider=meter_provider)
        self._sent = meter.create_counter(SENT, "{message}", "Records sent, by topic and outcome.")
        self._duration = meter.create_histogram(
            SEND_DURATION,
            "s",
            "From sending a record to its acknowledgement.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._open: dict[int, tuple[Span, float, ProducerRecord]] = {}

    def on_send(self, record: ProducerRecord) -> ProducerRecord:
        attributes = _attributes("send", "send", record.topic)
        attributes |= _of_record(record.key, record.value)
        span = self._tracer.start_span(f"send {record.topic}", kind=SpanKind.PRODUCER, attributes=_spelled(attributes))
        headers = list(record.headers.items() if hasattr(record.headers, "items") else record.headers)
        carrier: dict[str, str] = {}
        propagate.inject(carrier, context=trace.set_span_in_context(span))
        headers += [(name, value.encode()) for name, value in carrier.items()]
        sent = ProducerRecord(record.topic, record.value, record.key, record.partition, headers, record.timestamp_ms)
        self._open[id(sent)] = (span, time.perf_counter(), sent)
        return sent

    def on_acknowledgement(
        self, record: ProducerRecord, metadata: RecordMetadata | None, error: Exception | None
    ) -> None:
        found = self._open.pop(id(record), None)
        if found is None:
            return
        span, begun, _ = found
        measured = _attributes("send", "send", record.topic)
        if metadata is not None:
            span.set_attributes(_spelled({PARTITION: str(metadata.partition), OFFSET: metadata.offset}))
            measured[PARTITION] = str(metadata.partition)
        if error is not None:
            measured[ERROR_TYPE] = _error_type(error)
            span.set_attribute(ERROR_TYPE, _error_type(error))
            span.set_status(Status(StatusCode.ERROR, str(error)))
        span.end()
        self._sent.add(1, _spelled(measured))
        self._duration.record(time.perf_counter() - begun, _spelled(measured))


class ConsumerTracing:
    """Spans and metrics of reading; ``span`` goes around what is done with a record.

    As an interceptor it also writes a span for each record that is received and for each commit.
    """

    def __init__(
        self,
        *,
        group: str | None = None,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._group = group
        self._tracer = trace.get_tracer("ottla.client", tracer_provider=tracer_provider)
        meter = metrics.get_meter("ottla.client", meter_provider=meter_provider)
        self._consumed = meter.create_counter(CONSUMED, "{message}", "Records handed to the application.")
        self._duration = meter.create_histogram(
            PROCESS_DURATION,
            "s",
            "What the application takes for a record.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )

    def on_consume(self, record: ConsumerRecord) -> ConsumerRecord:
        attributes = self._of_group(_attributes("poll", "receive", record.topic)) | {PARTITION: str(record.partition)}
        attributes |= {OFFSET: record.offset} | _of_record(record.key, record.value)
        self._tracer.start_span(
            f"poll {record.topic}",
            kind=SpanKind.CLIENT,
            attributes=_spelled(attributes),
            links=_links(_sent_context(record)),
        ).end()
        return record

    def on_commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        for topic in sorted({place.topic for place in offsets}):
            attributes = self._of_group(_attributes("commit", "settle", topic))
            partitions = [place for place in offsets if place.topic == topic]
            if len(partitions) == 1:
                attributes |= {PARTITION: str(partitions[0].partition), OFFSET: offsets[partitions[0]].offset}
            self._tracer.start_span(f"commit {topic}", kind=SpanKind.CLIENT, attributes=_spelled(attributes)).end()

    @contextmanager
    def span(self, record: ReceivedRecord) -> Iterator[Span]:
        """A span of processing one record, linked to the span that sent it."""
        measured = self._of_group(_attributes("process", "process", record.topic)) | {PARTITION: str(record.partition)}
        attributes = measured | {OFFSET: record.offset} | _of_record(record.key, record.value)
        sent = _sent_context(record)
        # A single record has a single cause: its sender is also the parent, unless something else is under way here.
        parent = None if trace.get_current_span().get_span_context().is_valid else sent
        begun = time.perf_counter()
        with self._tracer.start_as_current_span(
            f"process {record.topic}",
            parent or context.get_current(),
            SpanKind.CONSUMER,
            _spelled(attributes),
            _links(sent),
        ) as span:
            try:
                yield span
            except BaseException as error:
                measured[ERROR_TYPE] = _error_type(error)
                span.set_attribute(ERROR_TYPE, _error_type(error))
                raise
            finally:
                self._consumed.add(1, _spelled(measured))
                self._duration.record(time.perf_counter() - begun, _spelled(measured))

    def _of_group(self, attributes: Attributes) -> Attributes:
        return attributes if self._group is None else attributes | {GROUP: self._group}


@contextmanager
def consumer_span(record: ReceivedRecord, *, group: str | None = None) -> Iterator[Span]:
    """A span of processing one record with the global providers. For many records keep a ``ConsumerTracing``."""
    with ConsumerTracing(group=group).span(record) as span:
        yield span


def _attributes(name: str, kind: str, topic: str) -> Attributes:
    return {SYSTEM: "kafka", OPERATION_NAME: name, OPERATION_TYPE: kind, DESTINATION: topic}


def _sent_context(record: ReceivedRecord) -> context.Context:
    """What the sender's span has written into the headers."""
    return propagate.extract(
        {name: value.decode(errors="replace") for name, value in record.headers if value is not None}
    )


def _links(sent: context.Context) -> list[trace.Link]:
    sender = trace.get_current_span(sent).get_span_context()
    return [trace.Link(sender)] if sender.is_valid else []


def _of_record(key: Any, value: Any) -> Attributes:
    found: Attributes = {}
    if key is not None:
        found[KEY] = key.decode(errors="backslashreplace") if isinstance(key, bytes) else str(key)
    if value is None:
        found[TOMBSTONE] = True
    return found


def _spelled(attributes: Attributes) -> Attributes:
    """With the older names beside the current ones, where that is asked for."""
    if "messaging/dup" not in os.environ.get(OPT_IN, ""):
        return attributes
    return attributes | {BEFORE_1_45[name]: value for name, value in attributes.items() if name in BEFORE_1_45}


def _error_type(error: BaseException) -> str:
    return error.code.name if isinstance(error, KafkaError) else type(error).__name__

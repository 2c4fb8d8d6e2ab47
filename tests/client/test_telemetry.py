"""Spans and metrics with the names of the semantic conventions; the context travels in the headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ottla.client import Consumer, KafkaError, Producer
from ottla.client.telemetry import ConsumerTracing, ProducerTracing

Run = Callable[[Awaitable[Any]], Any]


class Collected:
    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self.spans))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = [
            one for resource in data.resource_metrics for scope in resource.scope_metrics for one in scope.metrics
        ]
        return {metric.name: list(metric.data.data_points) for metric in metrics}


@pytest.mark.parametrize("opt_in", ["", "messaging/dup"])
def test_a_record_from_end_to_end(
    bootstrap: str, make_topic: Callable[..., str], run: Run, monkeypatch: pytest.MonkeyPatch, opt_in: str
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", opt_in)
    topic = make_topic(config={"max.message.bytes": "1000"})
    collected = Collected()
    sending = ProducerTracing(collected.traces, collected.meters)
    reading = ConsumerTracing(group="shop", tracer_provider=collected.traces, meter_provider=collected.meters)

    async def main() -> None:
        async with Producer(bootstrap, interceptors=[sending]) as producer:
            await producer.send(topic, b"v", key=b"k", headers=[("mine", b"1")])
            with pytest.raises(KafkaError):
                await producer.send(topic, b"x" * 2000)
        async with Consumer(
            bootstrap, group=topic, topics=[topic], auto_offset_reset="earliest", interceptors=[reading]
        ) as consumer:
            async for record in consumer:
                assert [name for name, _ in record.headers] == ["mine", "traceparent"]
                with reading.span(record):
                    break

    run(main())
    sent, failed, received, processed, committed = collected.spans.get_finished_spans()
    assert sent.name == f"send {topic}"
    attributes = dict(sent.attributes or {})
    if opt_in:
        assert attributes.pop("messaging.system") == "kafka"
        assert attributes.pop("messaging.kafka.message.key") == "k"
        assert attributes.pop("messaging.kafka.offset") == 0
    assert attributes == {
        "messaging.system.name": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": "0",
        "kafka.offset": 0,
        "kafka.message.key": "k",
    }
    assert (failed.attributes or {})["error.type"] == "MESSAGE_TOO_LARGE"
    assert processed.parent is not None
    assert processed.parent.span_id == sent.context.span_id
    assert [link.context.span_id for link in processed.links] == [sent.context.span_id]
    assert (processed.attributes or {})["messaging.consumer.group.name"] == "shop"
    assert received.name == f"poll {topic}"
    assert [link.context.span_id for link in received.links] == [sent.context.span_id]
    assert (received.attributes or {})["messaging.operation.type"] == "receive"
    assert committed.name == f"commit {topic}"
    assert (committed.attributes or {})["messaging.operation.type"] == "settle"
    assert (committed.attributes or {})["kafka.offset"] == 1
    points = collected.points()
    assert sorted(point.value for point in points["messaging.client.sent.messages"]) == [1, 1]
    assert points["messaging.client.consumed.messages"][0].value == 1
    assert points["messaging.process.duration"][0].count == 1
    assert {point.attributes.get("error.type") for point in points["messaging.client.operation.duration"]} == {
        None,
        "MESSAGE_TOO_LARGE",
    }
    assert sending._open == {}

"""A record as a program hands it over: its shapes, checks, and the sizes of many."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol

from msgspec import Struct

from ottla.client._accumulator import RecordMetadata
from ottla.records.builder import RECORD_OVERHEAD_MAX
from ottla.records.reader import Header

Headers = Sequence[Header] | Mapping[str, bytes | None]


class ProducerRecord(Struct, frozen=True):
    """A record to be sent; only the topic is needed."""

    topic: str
    value: Any = None
    key: Any = None
    partition: int | None = None
    headers: Headers = ()
    timestamp_ms: int | None = None


class ProducerInterceptor(Protocol):
    """Sees every record on its way out, and what became of it. Must not raise."""

    def on_send(self, record: ProducerRecord) -> ProducerRecord:
        """The record to send instead, most often with one header more."""
        ...

    def on_acknowledgement(
        self, record: ProducerRecord, metadata: RecordMetadata | None, error: Exception | None
    ) -> None: ...


def as_bytes(content: Any, what: str) -> bytes:
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    raise TypeError(
        f"a record's {what} is bytes or None, not {type(content).__name__}: encode it, or give the producer a "
        f"{what}_serializer"
    )


def checked(column: Sequence[Any], what: str) -> Sequence[bytes | None]:
    kinds = set(map(type, column))
    if kinds <= {bytes, type(None)}:
        return column
    return [None if one is None else as_bytes(one, what) for one in column]


def oddities(turn: list[Any]) -> list[Any]:
    """What is neither bytes nor a pair, if there is anything: cheap to ask where there is not."""
    if set(map(type, turn)) <= {bytes, tuple, type(None)}:
        return []
    return turn


def as_record(topic: str, record: Any, partition: int | None) -> ProducerRecord:
    key, value = record if isinstance(record, tuple) else (None, record)
    return ProducerRecord(topic, value, key, partition)


def ends_of(keys: Sequence[bytes | None] | None, values: Sequence[bytes | None]) -> list[int]:
    """The sizes of records added up: ``ends[n]`` is what the first n + 1 take at most."""
    try:
        sizes: Iterable[int] = map(len, values)  # type: ignore[arg-type]  # a null is what the exception is for
        if keys is not None:
            sizes = map(sum, zip(map(len, keys), sizes, strict=True))  # type: ignore[arg-type]
        return list(accumulate(map(RECORD_OVERHEAD_MAX.__add__, sizes)))
    except TypeError:
        sizes = [len(value or b"") for value in values]
        if keys is not None:
            sizes = [size + len(key or b"") for size, key in zip(sizes, keys, strict=True)]
        return list(accumulate(map(RECORD_OVERHEAD_MAX.__add__, sizes)))

"""A record as a program hands it over: its shapes, checks, and the sizes of many."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, repeat
from operator import add
from typing import Any, Final, Protocol

from msgspec import Struct

from ottla.client._accumulator import RecordMetadata
from ottla.records.builder import RECORD_OVERHEAD_MAX
from ottla.records.reader import Header

Headers = Sequence[Header] | Mapping[str, bytes | None]


PLAIN: Final = frozenset((bytes, type(None)))
"""What fields of records are of."""


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
    if PLAIN.issuperset(map(type, column)):
        return column
    return [None if one is None else as_bytes(one, what) for one in column]


def as_record(topic: str, record: Any, partition: int | None) -> ProducerRecord:
    key, value = record if isinstance(record, tuple) else (None, record)
    return ProducerRecord(topic, value, key, partition)


def ends_of(keys: Sequence[bytes | None] | None, values: Sequence[bytes | None]) -> Sequence[int]:
    """The sizes of records added up: ``ends[n]`` is what the first n + 1 take at most."""
    try:
        sizes = list(map(len, values))  # type: ignore[arg-type]  # a null is what the exception is for
        if keys is not None:
            sizes = list(map(add, map(len, keys), sizes))  # type: ignore[arg-type]
    except TypeError:
        sizes = [len(value or b"") for value in values]
        if keys is not None:
            sizes = [size + len(key or b"") for size, key in zip(sizes, keys, strict=True)]
    if sizes.count(sizes[0]) == len(sizes):
        size = sizes[0] + RECORD_OVERHEAD_MAX
        return range(size, size * len(sizes) + 1, size)
    return list(accumulate(map(add, sizes, repeat(RECORD_OVERHEAD_MAX))))

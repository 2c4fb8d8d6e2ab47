"""A small blocking Kafka client, written by hand from the protocol guide and sharing no code with `ottla`.

The chaos and hostile suites use it because they need every byte under control: which sequence number goes out again
after a crash, what stands in a length field. It speaks only the old, non-flexible versions that 4.3.1 still serves.
"""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import crc32c

T = TypeVar("T")

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, CREATE_TOPICS, INIT_PRODUCER_ID = 0, 1, 2, 3, 18, 19, 22

NONE = 0
OFFSET_OUT_OF_RANGE = 1
CORRUPT_MESSAGE = 2
DUPLICATE_SEQUENCE_NUMBER = 46
TOPIC_ALREADY_EXISTS = 36
ERROR_NAMES = {
    1: "OFFSET_OUT_OF_RANGE",
    2: "CORRUPT_MESSAGE",
    10: "MESSAGE_TOO_LARGE",
    45: "OUT_OF_ORDER_SEQUENCE_NUMBER",
    46: "DUPLICATE_SEQUENCE_NUMBER",
    47: "INVALID_PRODUCER_EPOCH",
    48: "INVALID_TXN_STATE",
    56: "KAFKA_STORAGE_ERROR",
    59: "UNKNOWN_PRODUCER_ID",
    87: "INVALID_RECORD",
}
# Coordinator or leader still moving, storage answering again soon: a correct client tries the same bytes once more.
RETRIABLE = frozenset({3, 5, 6, 7, 13, 14, 15, 16, 19, 20, 51, 56, 89})


class ProtocolFailure(Exception):
    """The broker answered with an error code, or broke the connection off."""

    def __init__(self, what: str, code: int | None = None) -> None:
        super().__init__(f"{what}: {ERROR_NAMES.get(code, f'error {code}')}" if code is not None else what)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecord:
    """One record read back."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    producer_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The answer to one fetch. `next_offset` is where to go on, behind batches that hold nothing to read, too."""

    high_watermark: int
    stable_offset: int
    records: list[RawRecord]
    next_offset: int


class RawConnection:
    """One TCP connection; `request` is a full round trip, `send` and `receive` allow pipelining."""

    def __init__(self, host: str, port: int, *, timeout: float = 10.0, client_id: str = "raw") -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client_id = string(client_id)
        self._correlation = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        self.socket.close()

    def send(self, api_key: int, version: int, body: bytes) -> int:
        """Send one request and return its correlation id."""
        correlation = next(self._correlation)
        frame = struct.pack(">hhi", api_key, version, correlation) + self._client_id + body
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)
        return correlation

    def receive(self) -> tuple[int, bytes]:
        """The next response: correlation id and body."""
        size = struct.unpack(">i", self.read_exactly(4))[0]
        frame = self.read_exactly(size)
        return struct.unpack(">i", frame[:4])[0], frame[4:]

    def request(self, api_key: int, version: int, body: bytes) -> Reader:
        """One round trip."""
        correlation = self.send(api_key, version, body)
        answered, body = self.receive()
        if answered != correlation:
            raise ProtocolFailure(f"response {answered} for request {correlation}")
        return Reader(body)

    def read_exactly(self, size: int) -> bytes:
        """`size` bytes, or `ProtocolFailure` at the end of the stream."""
        chunks = bytearray()
        while len(chunks) < size:
            chunk = self.socket.recv(min(size - len(chunks), 1 << 20))
            if not chunk:
                raise ProtocolFailure("connection closed by the broker")
            chunks += chunk
        return bytes(chunks)

    # -- the few requests that tests need -------------------------------------------------------------------------

    def api_versions(self) -> dict[int, tuple[int, int]]:
        """What the broker serves: lowest and highest version per API."""
        answer = self.request(API_VERSIONS, 0, b"")
        _check(answer.int16(), "ApiVersions")
        return {key: (low, high) for key, low, high in (answer.take(">hhh") for _ in range(answer.int32()))}

    def create_topic(self, name: str, partitions: int = 1, configs: dict[str, str] | None = None) -> None:
        """Create a topic with one replica; an existing one is fine."""
        items = list((configs or {}).items())
        entry = string(name) + struct.pack(">ihi", partitions, 1, 0) + struct.pack(">i", len(items))
        entry += b"".join(string(key) + string(value) for key, value in items)
        answer = self.request(CREATE_TOPICS, 2, struct.pack(">i", 1) + entry + struct.pack(">ib", 30_000, 0))
        answer.int32()
        answer.int32()
        answer.string()
        code = answer.int16()
        if code != TOPIC_ALREADY_EXISTS:
            _check(code, f"CreateTopics {name}")

    def init_producer(self) -> tuple[int, int]:
        """A fresh producer id and epoch, retried while the broker is loading."""

        def ask() -> tuple[int, int]:
            answer = self.request(INIT_PRODUCER_ID, 0, struct.pack(">hi", -1, 60_000))
            answer.int32()
            _check(answer.int16(), "InitProducerId")
            producer_id, epoch = answer.take(">qh")
            return producer_id, epoch

        return retry(ask)

    def produce(
        self, topic: str, partition: int, batch: bytes, *, acks: int = -1, transactional_id: str | None = None
    ) -> int:
        """Append one batch and return its base offset."""
        body = produce_body(topic, partition, batch, acks=acks, transactional_id=transactional_id)
        answer = self.request(PRODUCE, 3, body)
        return parse_produce(answer)

    def end_offset(self, topic: str, partition: int) -> int:
        """The high watermark, by ListOffsets."""
        return self.list_offset(topic, partition, -1)

    def list_offset(self, topic: str, partition: int, timestamp: int) -> int:
        """The offset for a timestamp, or for one of the special values."""
        body = struct.pack(">ii", -1, 1) + string(topic) + struct.pack(">iiq", 1, partition, timestamp)
        answer = self.request(LIST_OFFSETS, 1, body)
        answer.int32()
        answer.string()
        answer.int32()
        answer.int32()
        _check(answer.int16(), "ListOffsets")
        answer.int64()
        return answer.int64()

    def fetch(self, topic: str, partition: int, offset: int, *, max_wait_ms: int = 0) -> tuple[int, list[RawRecord]]:
        """High watermark and the records at and after `offset` (uncompressed batches only)."""
        fetched = self.read(topic, partition, offset, max_wait_ms=max_wait_ms)
        return fetched.high_watermark, fetched.records

    def read(
        self, topic: str, partition: int, offset: int, *, max_wait_ms: int = 0, committed: bool = False
    ) -> Fetched:
        """One fetch; with `committed`, nothing of aborted or open transactions."""
        body = struct.pack(">iiiib", -1, max_wait_ms, 1, 8 << 20, committed) + struct.pack(">i", 1) + string(topic)
        body += struct.pack(">iiqi", 1, partition, offset, 4 << 20)
        answer = self.request(FETCH, 4, body)
        answer.int32()
        answer.int32()
        answer.string()
        answer.int32()
        answer.int32()
        _check(answer.int16(), "Fetch")
        high_watermark, stable = answer.int64(), answer.int64()
        aborted = [answer.take(">qq") for _ in range(max(answer.int32(), 0))]
        data = answer.raw(max(answer.int32(), 0))
        records = [record for record in read_batches(data, aborted) if record.offset >= offset]
        return Fetched(
            high_watermark=high_watermark,
            stable_offset=stable,
            records=records,
            next_offset=max(offset, end_of_batches(data)),
        )


def retry(ask: Callable[[], T], *, seconds: float = 30.0) -> T:
    """Repeat `ask` while the broker answers with an error that a correct client repeats."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except ProtocolFailure as failure:
            if failure.code not in RETRIABLE or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class Reader:
    """A cursor over a response body."""

    def __init__(self, buffer: bytes) -> None:
        self.buffer = buffer
        self.position = 0

    def take(self, layout: str) -> tuple[int, ...]:
        """Unpack a `struct` layout."""
        values = struct.unpack_from(layout, self.buffer, self.position)
        self.position += struct.calcsize(layout)
        return values

    def int16(self) -> int:
        return self.take(">h")[0]

    def int32(self) -> int:
        return self.take(">i")[0]

    def int64(self) -> int:
        return self.take(">q")[0]

    def raw(self, size: int) -> bytes:
        self.position += size
        return self.buffer[self.position - size : self.position]

    def string(self) -> str | None:
        size = self.int16()
        return None if size < 0 else self.raw(size).decode()


def string(value: str) -> bytes:
    """A non-flexible protocol string."""
    encoded = value.encode()
    return struct.pack(">h", len(encoded)) + encoded


def produce_body(topic: str, partition: int, batch: bytes, *, acks: int, transactional_id: str | None = None) -> bytes:
    """A Produce v3 body with one batch."""
    name = struct.pack(">h", -1) if transactional_id is None else string(transactional_id)
    head = name + struct.pack(">hii", acks, 30_000, 1) + string(topic)
    return head + struct.pack(">iii", 1, partition, len(batch)) + batch


def parse_produce(answer: Reader) -> int:
    """The base offset of the one partition in a Produce v3 response."""
    answer.int32()
    answer.string()
    answer.int32()
    answer.int32()
    _check(answer.int16(), "Produce")
    return answer.int64()


def build_batch(
    values: Sequence[bytes],
    *,
    producer_id: int = -1,
    epoch: int = -1,
    sequence: int = -1,
    key: bytes | None = None,
    transactional: bool = False,
) -> bytes:
    """An uncompressed v2 record batch with the values as they are."""
    now = time.time_ns() // 1_000_000
    records = b"".join(build_record(delta, key, value) for delta, value in enumerate(values))
    last = len(values) - 1
    attributes = 0x10 if transactional else 0
    body = struct.pack(">hiqqqhii", attributes, last, now, now, producer_id, epoch, sequence, len(values)) + records
    checksum = crc32c.crc32c(body)
    return struct.pack(">qiibI", 0, 9 + len(body), -1, 2, checksum) + body


def read_batches(data: bytes, aborted: Sequence[tuple[int, ...]] = ()) -> Iterator[RawRecord]:
    """All records of the complete, uncompressed batches in a fetch answer; every checksum is verified.

    `aborted` are producer ids with the first offset of a transaction to leave out.
    """
    waiting = sorted(aborted, key=lambda transaction: transaction[1])
    left_out: set[int] = set()
    for base, position, end in _complete_batches(data):
        checksum, attributes, last, first_timestamp, _, producer_id = struct.unpack_from(">Ihiqqq", data, position + 17)
        if crc32c.crc32c(data[position + 21 : end]) != checksum:
            raise ProtocolFailure(f"batch at offset {base}: checksum differs", CORRUPT_MESSAGE)
        while waiting and waiting[0][1] <= base + last:
            left_out.add(waiting.pop(0)[0])
        if attributes & 0x20:  # control batches hold no application records; a marker ends its transaction
            left_out.discard(producer_id)
        elif not (attributes & 0x10 and producer_id in left_out):
            count = struct.unpack_from(">i", data, position + 57)[0]
            yield from _read_records(data, position + 61, count, (base, first_timestamp, producer_id))


def end_of_batches(data: bytes) -> int:
    """The offset behind the last complete batch, -1 where there is none."""
    ends = [
        base + struct.unpack_from(">i", data, position + 23)[0] + 1 for base, position, _ in _complete_batches(data)
    ]
    return ends[-1] if ends else -1


def _complete_batches(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Base offset, position and end of each."""
    position = 0
    while position + 61 <= len(data):
        base, length = struct.unpack_from(">qi", data, position)
        end = position + 12 + length
        if end > len(data):
            return
        yield base, position, end
        position = end


def _read_records(data: bytes, position: int, count: int, batch: tuple[int, int, int]) -> Iterator[RawRecord]:
    base, first_timestamp, producer_id = batch
    for _ in range(count):
        size, start = _varint(data, position)
        timestamp_delta, cursor = _varint(data, start + 1)
        offset_delta, cursor = _varint(data, cursor)
        key, cursor = _bytes(data, cursor)
        value, cursor = _bytes(data, cursor)
        yield RawRecord(
            offset=base + offset_delta,
            timestamp=first_timestamp + timestamp_delta,
            key=key,
            value=value,
            producer_id=producer_id,
        )
        position = start + size


def build_record(delta: int, key: bytes | None, value: bytes | None, time_delta: int = 0) -> bytes:
    """A record of a v2 batch, without headers."""
    body = b"\x00" + _zigzag(time_delta) + _zigzag(delta)
    for part in (key, value):
        body += _zigzag(-1) if part is None else _zigzag(len(part)) + part
    body += _zigzag(0)
    return _zigzag(len(body)) + body


def _zigzag(value: int) -> bytes:
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    shift = rest = 0
    while True:
        byte = data[position]
        position += 1
        rest |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (rest >> 1) ^ -(rest & 1), position
        shift += 7


def _bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    size, position = _varint(data, position)
    return (None, position) if size < 0 else (data[position : position + size], position + size)


def _check(code: int, what: str) -> None:
    if code != NONE:
        raise ProtocolFailure(what, code)

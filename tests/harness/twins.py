"""The same raw requests to an Apache node and an Ottla node, and their answers made comparable.

A case is a generator: it is run once against each node and yields `(label, answer)`. What may differ between two
healthy clusters (ids, clocks, addresses, sizes of disks) is masked or given a name; everything else is compared as it
stands.
"""

from __future__ import annotations

import itertools
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import crc32c

from harness import wire
from harness.raw import ProtocolFailure, RawConnection, build_record
from ottla.model import Uuid

NOW = time.time_ns() // 1_000_000
"""One clock reading for both nodes: the timestamps of records are the same bytes in both."""

MASKED = frozenset(["cluster_id", "host", "port", "finalized_features_epoch", "log_dir", "total_bytes", "usable_bytes"])
_SUFFIX = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MADE_UP_ID = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])")
"""What the coordinator calls members of consumer groups that bring no id of their own."""
_LONG_TIME = re.compile(r"\b1[6-9]\d{11}\b")
Answer = Any
Steps = Iterator[tuple[str, Answer]]
Case = Callable[["Twin"], Steps]


class Twin:
    """One of the two nodes, as a case sees it."""

    def __init__(self, node: Any, served: set[int]) -> None:
        self.node = node
        self.served = served
        self.kind: str = node.kind
        self.ids: dict[str, Uuid] = {}
        self.producers: dict[int, str] = {}
        self._connection: RawConnection | None = None
        self._members: dict[str, str] = {}
        self._correlation = itertools.count(1)
        self._numbers = itertools.count(1)

    def new_case(self) -> None:
        """Forget the names of the case before, keep the topics."""
        self._members.clear()
        self.producers.clear()

    def unique(self, prefix: str) -> str:
        """A name this node has not heard yet; the other one's case is given the same."""
        return f"{prefix}-{next(self._numbers)}"

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def send(self, request: Any, version: int, *, connection: RawConnection | None = None) -> int:
        """Send without waiting for the answer."""
        correlation = next(self._correlation)
        wire.send(connection or self.connection, request, version, correlation)
        return correlation

    def receive(self, api_key: int, version: int, *, connection: RawConnection | None = None) -> Any:
        """The next response as a message."""
        return wire.receive(connection or self.connection, api_key, version)

    def call(self, request: Any, version: int) -> Any:
        """One round trip, the answer as it is."""
        self.send(request, version)
        return self.receive(type(request).API_KEY, version)

    def ask(self, request: Any, version: int, *, unordered: bool = False) -> Answer:
        """One round trip, the answer made comparable; "closed" or "silent" where there is none."""
        try:
            answer = self.plain(self.call(request, version))
        except TimeoutError:
            self.close()
            return "silent"
        except (ProtocolFailure, OSError):
            self.close()
            return "closed"
        return in_order(answer) if unordered else answer

    def ask_any(self, request: Any, version: int) -> Answer:
        """As `ask`, where the order of rows means nothing."""
        return self.ask(request, version, unordered=True)

    @property
    def connection(self) -> RawConnection:
        """The connection of the case."""
        if self._connection is None:
            self._connection = RawConnection("127.0.0.1", self.node.port, timeout=4.0, client_id="twin")
        return self._connection

    def other_connection(self) -> RawConnection:
        """A second connection, closed by the caller."""
        return RawConnection("127.0.0.1", self.node.port, timeout=12.0, client_id="twin")

    # -- making answers comparable --------------------------------------------------------------------------------

    def plain(self, value: Any, name: str = "") -> Answer:
        """`value` as dicts, lists and masked scalars."""
        if hasattr(value, "__struct_fields__"):
            fields = (field for field in value.__struct_fields__ if field != "unknown_tagged_fields")
            return {field: self.plain(getattr(value, field), field) for field in fields}
        if isinstance(value, list):
            return [self.plain(item, name) for item in value]
        if name in MASKED:
            return "*"
        if name == "records":
            return None if value is None else batches(bytes(value))
        if isinstance(value, Uuid):
            known = {identity: topic for topic, identity in self.ids.items()}
            return "0" if value == Uuid.ZERO else known.get(value, "some id")
        if isinstance(value, bytes | memoryview):
            return bytes(value).hex()
        if isinstance(value, str):
            if name == "batch_index_error_message" or value.startswith("One or more records have been rejected"):
                return "some words"
            if name == "member_id" or (name == "error_message" and value.startswith("Member ")):
                value = _MADE_UP_ID.sub(self._member, value)
            return _LONG_TIME.sub("TIME", _SUFFIX.sub(self._member, value))
        return self._number(value, name)

    def _number(self, value: Any, name: str) -> Any:
        if name == "session_id":
            return "some session" if value else 0
        if name == "log_append_time_ms":
            return {-1: -1, NOW: "now"}.get(value, "some time")
        if name == "producer_id":
            return self.producers.get(value, value)
        return value

    def _member(self, found: re.Match[str]) -> str:
        return self._members.setdefault(found[0], f"#{len(self._members) + 1}")


def batches(data: bytes) -> list[Any]:
    """The batches of a fetch answer: header fields and the bytes of the records; a clipped one as its size."""
    out: list[Any] = []
    position = 0
    while position < len(data):
        if len(data) - position < 61 or position + 12 + _length(data, position) > len(data):
            out.append(f"{len(data) - position} bytes of a batch")
            break
        end = position + 12 + _length(data, position)
        base, _, epoch, magic, checksum, attributes, last, first_time, last_time, pid, pepoch, sequence, count = (
            struct.unpack_from(">qiibIhiqqqhii", data, position)
        )
        stamped = bool(attributes & 8)
        good = crc32c.crc32c(data[position + 21 : end]) == checksum
        out.append(
            {
                "base": base,
                "epoch": epoch,
                "magic": magic,
                "crc": good,
                "attributes": attributes,
                "last": last,
                "times": "stamped" if stamped else (first_time - NOW, last_time - NOW),
                "producer": "none" if pid < 0 else (pepoch, sequence),
                "count": count,
                "body": "compressed" if attributes & 7 else data[position + 61 : end].hex()[:400],
            }
        )
        position = end
    return out


def _length(data: bytes, position: int) -> int:
    return int(struct.unpack_from(">i", data, position + 8)[0])


def in_order(value: Answer) -> Answer:
    """Every list sorted: for answers that come out of sets."""
    if isinstance(value, dict):
        return {key: in_order(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((in_order(item) for item in value), key=repr)
    return value


# -- records --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A record of a batch under construction."""

    key: bytes | None = b"k"
    value: bytes | None = b"v"
    time_delta: int = 0


def batch(*rows: Row, **lies: Any) -> bytes:
    """A v2 batch; the keywords overwrite header fields, `crc` and `length` included."""
    rows = rows or (Row(),)
    body = lies.get("body")
    if body is None:
        body = b"".join(build_record(index, row.key, row.value, row.time_delta) for index, row in enumerate(rows))
    first = lies.get("first_time", NOW)
    covered = struct.pack(
        ">hiqqqhii",
        lies.get("attributes", 0),
        lies.get("last", len(rows) - 1),
        first,
        lies.get("last_time", first + max(row.time_delta for row in rows)),
        lies.get("producer_id", -1),
        lies.get("producer_epoch", -1),
        lies.get("sequence", -1),
        lies.get("count", len(rows)),
    )
    covered += body
    checksum = lies.get("crc", crc32c.crc32c(covered))
    length = lies.get("length", 9 + len(covered))
    head = struct.pack(">qiibI", lies.get("base", 0), length, lies.get("epoch", -1), lies.get("magic", 2), checksum)
    return head + covered


def legacy_message(magic: int) -> bytes:
    """One message of format 0 or 1."""
    body = struct.pack(">bb", magic, 0) + (struct.pack(">q", NOW) if magic else b"")
    body += struct.pack(">i", 1) + b"k" + struct.pack(">i", 1) + b"v"
    body = struct.pack(">I", zlib.crc32(body)) + body
    return struct.pack(">qi", 0, len(body)) + body


# -- comparing ------------------------------------------------------------------------------------------------------


def run(case: Case, twin: Twin) -> dict[str, Answer]:
    """All answers of one node, by label."""
    twin.new_case()
    answers: dict[str, Answer] = {}
    try:
        for label, answer in case(twin):
            assert label not in answers, f"label {label!r} twice"
            answers[label] = answer
    finally:
        twin.close()
    return answers


def differences(apache: Answer, ottla: Answer, path: str = "") -> Iterator[tuple[str, Answer, Answer]]:
    """Where two answers part: path, Apache's value, Ottla's value."""
    if isinstance(apache, dict) and isinstance(ottla, dict):
        for key in [*apache, *(key for key in ottla if key not in apache)]:
            yield from differences(apache.get(key, "absent"), ottla.get(key, "absent"), f"{path}.{key}")
    elif isinstance(apache, list) and isinstance(ottla, list) and len(apache) == len(ottla):
        for index, (one, other) in enumerate(zip(apache, ottla, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif apache != ottla:
        yield path, apache, ottla

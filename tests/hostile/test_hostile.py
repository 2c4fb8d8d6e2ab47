"""Hostile frames and sockets: the node keeps serving others, its memory stays, and who cannot be understood is dropped.

Every case runs against one node, with a well-behaved client beside it. Memory is the highest resident size while the
case ran, over the size after warm-up.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import resource
import socket
import struct
import time
from dataclasses import dataclass

import crc32c
import pytest

from harness.clusters import make_node
from harness.processes import peak_bytes, reset_peak
from harness.raw import (
    API_VERSIONS,
    FETCH,
    METADATA,
    PRODUCE,
    ProtocolFailure,
    build_batch,
    parse_produce,
    produce_body,
    retry,
    string,
)

GROWTH_BYTES_MAX = 64 << 20
CLOSED_SECONDS_MAX = 10.0
ANSWER_SECONDS_MAX = 5.0
TOPIC = "victim"
CONNECTIONS = 300

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="memory peaks need Linux's /proc")


@pytest.fixture(scope="module")
def node(cluster_kind, tmp_path_factory):
    """A node of this module's own, warmed up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    victim = make_node(cluster_kind, tmp_path_factory.mktemp("hostile") / "data")
    victim.start()
    try:
        with victim.connect() as connection:
            connection.create_topic(TOPIC, 1)
            retry(lambda: connection.end_offset(TOPIC, 0))
            for _ in range(40):
                connection.produce(TOPIC, 0, build_batch([b"x" * 200_000]))
            connection.fetch(TOPIC, 0, 0)
        yield victim
    finally:
        victim.stop()


@pytest.fixture(autouse=True)
def _others_are_served_and_memory_stays(node, cluster_kind):
    before = node.usage().resident_bytes
    reset_peak(node.pid)
    yield
    good_client(node)
    growth = peak_bytes(node.pid) - before
    # Apache Kafka is here to prove the cases, not its frugality.
    assert cluster_kind != "ottla" or growth <= GROWTH_BYTES_MAX, f"grew by {growth >> 20} MiB"


def good_client(node):
    """A new, well-behaved client gets through in time."""
    begin = time.monotonic()
    with node.connect(timeout=ANSWER_SECONDS_MAX) as connection:
        connection.api_versions()
        offset = connection.produce(TOPIC, 0, build_batch([b"good"]))
        assert connection.fetch(TOPIC, 0, offset)[1][0].value == b"good"
    assert time.monotonic() - begin < ANSWER_SECONDS_MAX


def closed(peer, seconds=CLOSED_SECONDS_MAX):
    """Whether the node hangs up on this socket in time; answers before that are read and dropped."""
    peer.settimeout(0.2)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if not peer.recv(1 << 16):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def dial(node):
    return socket.create_connection(("127.0.0.1", node.port), timeout=5)


@contextlib.contextmanager
def many(node, count=CONNECTIONS):
    """A crowd of connections."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(dial(node)) for _ in range(count)]


def framed(payload):
    return struct.pack(">i", len(payload)) + payload


def header(api_key, version, *, client=b"\x00\x03bad"):
    return struct.pack(">hhi", api_key, version, 7) + client


@dataclass(frozen=True)
class Hostile:
    """Bytes that no client sends; the node hangs up."""

    name: str
    data: bytes


TLS_HELLO = bytes.fromhex("16030102000100") + b"\x01\xfc\x03\x03" + bytes(range(64)) * 8
PRODUCE_HEAD = header(PRODUCE, 3) + struct.pack(">hhii", -1, -1, 1000, 1)
METADATA_HEAD = header(METADATA, 12)  # flexible: tagged fields follow
FRAMES = [
    Hostile("negative length", struct.pack(">i", -1) + b"x" * 100),
    Hostile("most negative length", struct.pack(">i", -(2**31)) + b"x" * 100),
    Hostile("length of two gigabytes", struct.pack(">i", 2**31 - 1) + b"x" * 100),
    Hostile("length one over the limit", struct.pack(">i", 104857601)),
    Hostile("a TLS hello", TLS_HELLO),
    Hostile("an HTTP request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    Hostile("an empty frame", framed(b"")),
    Hostile("a frame shorter than a header", framed(b"\x00\x12\x00")),
    Hostile("a header cut in the client id", framed(struct.pack(">hhih", 18, 0, 1, 50) + b"abc")),
    Hostile("a client id of negative length", framed(struct.pack(">hhih", 3, 1, 1, -7))),
    Hostile("an unknown API", framed(header(999, 0))),
    Hostile("a negative API", framed(header(-1, 0))),
    Hostile("an unknown version", framed(header(METADATA, 99) + b"\x00" * 30)),
    Hostile("a negative version", framed(header(METADATA, -3) + b"\x00" * 30)),
    Hostile("a removed version", framed(header(FETCH, 0) + b"\x00" * 30)),
    Hostile("a count of two billion", framed(header(METADATA, 1) + struct.pack(">i", 2**31 - 1))),
    Hostile("a string longer than the frame", framed(header(METADATA, 1) + struct.pack(">ih", 1, 3000) + b"abc")),
    Hostile("a body cut off", framed(PRODUCE_HEAD)),
    Hostile(
        "a records field longer than the frame",
        framed(
            header(PRODUCE, 3) + struct.pack(">hhii", -1, -1, 1, 1) + string(TOPIC) + struct.pack(">iii", 1, 0, 9999)
        ),
    ),
    Hostile("an endless varint", framed(METADATA_HEAD + b"\x00" + b"\xff" * 40)),
    Hostile("a compact count over the rest", framed(METADATA_HEAD + b"\x00" + b"\xff\xff\xff\xff\x07" + b"\x00" * 20)),
    Hostile("tagged fields without end", framed(METADATA_HEAD + b"\xff\xff\xff\x7f" + b"\x00" * 20)),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.name)
def test_who_cannot_be_understood_is_dropped(node, frame):
    with dial(node) as peer:
        peer.sendall(frame.data)
        assert closed(peer)


def test_an_unknown_version_of_api_versions_is_answered(node):
    with node.connect() as connection:
        answer = connection.request(API_VERSIONS, 99, b"\x00")
        assert answer.int16() == 35  # UNSUPPORTED_VERSION, in version 0 so that any client can read it
        assert connection.api_versions()


def test_random_bytes_do_no_harm(node):
    dice = random.Random(4711)
    for _ in range(200):
        with dial(node) as peer, contextlib.suppress(OSError):
            peer.sendall(dice.randbytes(dice.randint(1, 2000)))


def test_random_bodies_in_good_frames_do_no_harm(node):
    dice = random.Random(815)
    with node.connect() as connection:
        served = connection.api_versions()
    for api_key, (low, high) in sorted(served.items()):
        for version in {low, high}:
            with dial(node) as peer, contextlib.suppress(OSError):
                for size in (0, 3, 40, 400):
                    peer.sendall(framed(header(api_key, version) + dice.randbytes(size)))
                peer.shutdown(socket.SHUT_WR)
                closed(peer, 0.5)


def test_announced_frames_cost_nothing(node, cluster_kind):
    spare_apache(cluster_kind)
    with many(node) as peers:
        for peer in peers:
            peer.sendall(struct.pack(">i", 50 << 20))
        time.sleep(0.5)
        good_client(node)


def spare_apache(cluster_kind):
    if cluster_kind == "apache":
        pytest.skip(
            "Apache Kafka allocates what is announced and stops serving: nothing after this would be told apart"
        )


def test_half_frames_cost_what_they_sent(node, cluster_kind):
    spare_apache(cluster_kind)
    with many(node) as peers:
        for peer in peers:
            peer.sendall(struct.pack(">i", 50 << 20) + b"x" * 20_000)
        time.sleep(0.5)
        good_client(node)


def test_slow_writers_do_not_hold_others_up(node):
    request = framed(header(API_VERSIONS, 0))
    with many(node) as peers:
        for byte in request[:-1]:
            for peer in peers:
                peer.sendall(bytes([byte]))
        good_client(node)
        for peer in peers:
            peer.sendall(request[-1:])
        for peer in peers:
            assert peer.recv(4)


def test_a_connection_storm_passes(node):
    for _ in range(2000):
        dial(node).close()
    good_client(node)


def test_a_reader_that_does_not_read_is_not_written_to_forever(node):
    """Far more answers than the sockets can buffer, asked for and never fetched."""
    body = struct.pack(">iiiib", -1, 0, 1, 50 << 20, 0) + struct.pack(">i", 1) + string(TOPIC)
    body += struct.pack(">iiqi", 1, 0, 0, 50 << 20)
    request = framed(header(FETCH, 4) + body)
    with many(node, 20) as peers:
        for peer in peers:
            flood(peer, request, 100)
        good_client(node)


def test_pipelined_requests_are_taken_as_fast_as_answers_are_read(node):
    request = framed(header(API_VERSIONS, 0))
    with dial(node) as peer:
        sent = flood(peer, request, 200_000)
        good_client(node)
        peer.settimeout(20)
        # What was taken is answered, in order.
        size = struct.unpack(">i", receive(peer, 4))[0]
        for _ in range(min(sent, 1000) - 1):
            assert struct.unpack(">i", receive(peer, size)[:4])[0] == 7
            assert struct.unpack(">i", receive(peer, 4))[0] == size


def flood(peer, request, times):
    """Send without reading until done or until the node stops reading; how many whole requests went out."""
    peer.settimeout(1.0)
    block = request * 100
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < times * len(request):
            sent += peer.send(block)
    return sent // len(request)


def receive(peer, size):
    data = b""
    while len(data) < size:
        chunk = peer.recv(size - len(data))
        assert chunk
        data += chunk
    return data


def test_waits_without_end_are_forgotten_with_their_connection(node):
    with node.connect() as connection:
        end = connection.end_offset(TOPIC, 0)
    body = struct.pack(">iiiib", -1, 2**31 - 1, 2**31 - 1, 1 << 20, 0) + struct.pack(">i", 1) + string(TOPIC)
    body += struct.pack(">iiqi", 1, 0, end + 1_000_000, 1 << 20)
    waiting = struct.pack(">iiiib", -1, 2**31 - 1, 2**31 - 1, 1 << 20, 0) + struct.pack(">i", 1) + string(TOPIC)
    waiting += struct.pack(">iiqi", 1, 0, end, 1 << 20)
    with many(node) as peers:
        for peer in peers:
            peer.sendall(framed(header(FETCH, 4) + waiting))
        good_client(node)
    good_client(node)


def damaged(change):
    """A good batch with one lie in it and, unless the lie is the checksum itself, a matching checksum."""
    batch = bytearray(build_batch([b"one", b"two"]))
    change(batch)
    struct.pack_into(">I", batch, 17, crc32c.crc32c(bytes(batch[21:])))
    return bytes(batch)


def put(layout, position, value):
    return lambda batch: struct.pack_into(layout, batch, position, value)


BATCHES = {
    "wrong checksum": build_batch([b"one"])[:-1] + b"\xff",
    "magic 9": damaged(put(">b", 16, 9)),
    "magic 0": damaged(put(">b", 16, 0)),
    "negative record count": damaged(put(">i", 57, -1)),
    "more records than there are": damaged(put(">i", 57, 5)),
    "a last offset that lies": damaged(put(">i", 23, 77)),
    "an unknown codec": damaged(put(">h", 21, 7)),
    "a control batch from a client": damaged(put(">h", 21, 0x20)),
    "a batch length of zero": damaged(put(">i", 8, 0)),
    "a negative batch length": damaged(put(">i", 8, -5)),
    "a batch longer than the field": damaged(put(">i", 8, 5000)),
    "half a batch": build_batch([b"one"])[:40],
    "nothing": b"",
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_damaged_batch_is_refused_and_nothing_is_appended(node, name):
    with node.connect() as connection:
        before = connection.end_offset(TOPIC, 0)
        # An error answer or a dropped connection: either is a refusal.
        with pytest.raises(ProtocolFailure):
            parse_produce(connection.request(PRODUCE, 3, produce_body(TOPIC, 0, BATCHES[name], acks=-1)))
    with node.connect() as connection:
        assert connection.end_offset(TOPIC, 0) == before


def test_a_decompression_bomb_is_refused(node, cluster_kind):
    """A small gzip batch that unfolds to 600 MB, to a topic that asks the broker to compress anew."""
    if cluster_kind == "apache":
        pytest.skip("Apache Kafka 4.3.1 unfolds it")
    with node.connect() as connection:
        connection.create_topic("recompressed", 1, {"compression.type": "zstd"})
        retry(lambda: connection.end_offset("recompressed", 0))
        body = gzip.compress(b"\x00" * (600 << 20), 9)
        now = time.time_ns() // 1_000_000
        rest = struct.pack(">hiqqqhii", 1, 0, now, now, -1, -1, -1, 1) + body
        batch = struct.pack(">qiibI", 0, 9 + len(rest), -1, 2, crc32c.crc32c(rest)) + rest
        with pytest.raises(ProtocolFailure):
            connection.produce("recompressed", 0, batch)
    with node.connect() as connection:
        assert connection.end_offset("recompressed", 0) == 0

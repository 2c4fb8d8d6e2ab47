"""Both ways with Apache Kafka's own record classes.

``tests/data/records`` holds what they wrote (by ``RecordBatches.java``) and how they describe it. The interop test
hands our batches to them; it needs Apache Kafka's jars in the directory that ``OTTLA_KAFKA_LIBS`` names, and java.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ottla.model import Uuid
from ottla.records.batch import Codec, iter_headers, read_header, verify_crc
from ottla.records.builder import BatchBuilder, build_batch
from ottla.records.compression import compress
from ottla.records.control import (
    EndTransaction,
    control_batch,
    end_transaction_batch,
    read_control_messages,
    read_end_transaction,
)
from ottla.records.reader import read_body, read_records
from ottla.records.rewrite import rewrite_batch
from ottla.wire.messages.kraft_version_record import KRaftVersionRecord
from ottla.wire.messages.leader_change_message import LeaderChangeMessage
from ottla.wire.messages.leader_change_message import Voter as LeaderVoter
from ottla.wire.messages.snapshot_footer_record import SnapshotFooterRecord
from ottla.wire.messages.snapshot_header_record import SnapshotHeaderRecord
from ottla.wire.messages.voters_record import Endpoint, KRaftVersionFeature, Voter, VotersRecord

DATA = Path(__file__).parents[2] / "data" / "records"
SOURCE = Path(__file__).with_name("RecordBatches.java")
TIME = 1_700_000_000_000
BATCHES = sorted(path.stem for path in DATA.glob("*.bin"))


def show(blob: bytes | None) -> str:
    if blob is None:
        return "null"
    return "x" + blob.hex() if len(blob) <= 40 else f"{len(blob)}#{hashlib.sha256(blob).hexdigest()[:16]}"


def describe(raw: bytes) -> str:
    lines = []
    for position, header in iter_headers(raw):
        verify_crc(raw, position, header)
        lines.append(
            f"batch {header.base_offset}..{header.last_offset} count {header.record_count} codec {header.codec:d} type "
            f"{header.timestamp_type:d} max {header.max_timestamp} leader {header.partition_leader_epoch} producer "
            f"{header.producer_id}:{header.producer_epoch}:{header.base_sequence}:{header.last_sequence}"
            + (" transactional" if header.is_transactional else "")
            + (" control" if header.is_control else "")
        )
        for record in read_records(raw[position : position + header.size]):
            parts = [f"record {record.offset} {record.timestamp} {show(record.key)} {show(record.value)}"]
            parts += [f"{show(key.encode())}={show(value)}" for key, value in record.headers]
            lines.append(" ".join(parts))
    return "\n".join(lines) + "\n"


def mixed(codec: Codec, level: int | None = None) -> bytes:
    builder = BatchBuilder(base_offset=1000, leader_epoch=7, codec=codec, level=level)
    builder.append(TIME, b"key", b"value")
    builder.append(TIME - 5, None, b"no key")
    builder.append(TIME + 100_000, b"tombstone", None)
    headers = [("trace", b"abc"), ("null", None), ("empty", b""), ("gr\u00fc\u00dfe", "\u2603".encode())]
    builder.append(TIME + 1, b"", b"", headers)
    builder.append(TIME + 2, None, None)
    for index in range(200):
        builder.append(TIME + index * 37, b"k%d" % index, b"v" * index)
    return builder.build()


CONTROL = {
    "leader-change": [
        LeaderChangeMessage(
            version=0, leader_id=1, voters=[LeaderVoter(voter_id=1)], granting_voters=[LeaderVoter(voter_id=1)]
        )
    ],
    "snapshot-header": [
        SnapshotHeaderRecord(version=0, last_contained_log_timestamp=TIME - 1),
        KRaftVersionRecord(version=0, kraft_version=1),
        VotersRecord(
            version=0,
            voters=[
                Voter(
                    voter_id=1,
                    voter_directory_id=Uuid((3).to_bytes(8, "big") + (4).to_bytes(8, "big")),
                    endpoints=[Endpoint(name="CONTROLLER", host="localhost", port=9093)],
                    kraft_version_feature=KRaftVersionFeature(min_supported_version=0, max_supported_version=1),
                )
            ],
        ),
    ],
    "snapshot-footer": [SnapshotFooterRecord(version=0)],
}


def java_file(name: str) -> bytes:
    return (DATA / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", BATCHES)
def test_what_java_wrote_is_read(name: str) -> None:
    assert describe(java_file(name)) == (DATA / f"{name}.txt").read_text("utf-8")


def test_there_are_batches_of_every_codec() -> None:
    assert {read_header(java_file(name)).codec for name in BATCHES} == set(Codec)


def test_uncompressed_batches_are_java_s_byte_for_byte() -> None:
    assert mixed(Codec.NONE) == java_file("mixed-none")


@pytest.mark.parametrize("codec", [Codec.SNAPPY, Codec.LZ4])
def test_framings_begin_as_java_s(codec: Codec) -> None:
    java = java_file(f"mixed-{codec.name.lower()}")[61:]
    assert mixed(codec)[61:].startswith(java[: 16 if codec is Codec.SNAPPY else 7])


@pytest.mark.parametrize("name", CONTROL)
def test_the_quorum_s_control_batches_are_java_s(name: str) -> None:
    raw = java_file(name)
    assert control_batch(CONTROL[name], base_offset=0, timestamp=TIME, leader_epoch=3) == raw
    assert read_control_messages(raw) == CONTROL[name]


@pytest.mark.parametrize(("name", "committed"), [("marker-commit", True), ("marker-abort", False)])
def test_transaction_markers_are_java_s(name: str, committed: bool) -> None:
    marker = EndTransaction(committed, 9)
    raw = java_file(name)
    ours = end_transaction_batch(
        marker, producer_id=4001, producer_epoch=12, timestamp=TIME, base_offset=77, leader_epoch=3
    )
    assert ours == raw
    assert read_end_transaction(raw) == marker
    assert read_end_transaction(java_file("leader-change")) is None
    assert read_control_messages(raw) == []


@pytest.fixture(scope="module")
def java_describes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, bytes]], dict[str, str]]:
    libraries = os.environ.get("OTTLA_KAFKA_LIBS")
    if not libraries:
        pytest.skip("OTTLA_KAFKA_LIBS does not name a directory with Apache Kafka's jars")
    java = shutil.which("java")
    if java is None:
        pytest.skip("no java on the path")

    def run(files: dict[str, bytes]) -> dict[str, str]:
        directory = tmp_path_factory.mktemp("batches")
        texts = {}
        for name, raw in files.items():
            (directory / name).write_bytes(raw)
        command = [java, "-Xmx256m", "-cp", f"{libraries}/*", str(SOURCE), "describe"]
        for name in files:
            done = subprocess.run([*command, str(directory / name)], capture_output=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr.decode()
            texts[name] = done.stdout.decode()
        return texts

    return run


@pytest.mark.interop
def test_java_reads_every_codec_and_level(java_describes: Callable[[dict[str, bytes]], dict[str, str]]) -> None:
    levels = {Codec.GZIP: (None, 1), Codec.LZ4: (None, 1, 17), Codec.ZSTD: (None, -5, 19)}
    raw = b"".join(mixed(codec, level) for codec in Codec for level in levels.get(codec, (None,)))
    large = build_batch([(TIME, b"zeros", bytes(300_000)), (TIME, None, bytes(range(256)) * 400)])
    header, body = read_header(large), read_body(large, read_header(large))
    raw += b"".join(bytes(rewrite_batch(header, compress(codec, body), codec)) for codec in Codec)
    assert java_describes({"all.bin": raw})["all.bin"] == describe(raw)

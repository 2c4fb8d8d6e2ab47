"""The cleaner process by itself: what it answers, when it stops, how fast and how large it gets."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from ottla.config.log import LogConfig
from ottla.model import TopicPartition
from ottla.records.batch import Codec, iter_headers
from ottla.records.builder import BatchBuilder
from ottla.storage.cleanable import cleanable, cleaning_job
from ottla.storage.cleaning_orders import GO, STOP, Cleaned, CleaningOrder, Failed, Finished, Reply
from ottla.storage.log import Log

CONFIG = LogConfig(cleanup_policy=frozenset(("compact",)), segment_bytes=100_000)
ENDLESS = 1e300


class Worker:
    """A process and its two pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ottla.storage.cleaner_process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def tell(self, line: bytes) -> None:
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def hear(self) -> Reply:
        return msgspec.json.decode(self.process.stdout.readline(), type=Reply)

    def order(self, log: Log, cleaner, *, rate: float = ENDLESS) -> None:
        target = cleanable(log, None, log.log_end_offset, 5_000)
        job = cleaning_job(log, target, cleaner, 5_000)
        self.tell(msgspec.json.encode(CleaningOrder(job=job, bytes_per_second_max=rate)))

    def close(self) -> None:
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        self.process.stdout.close()


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.process.kill()
    made.process.wait()
    made.process.stdin.close()
    made.process.stdout.close()


@pytest.fixture
def cleaner(clean_log):
    return replace(clean_log.__kwdefaults__["config"], io_buffer_bytes=20_000)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """Three segments and the active one."""
    made = Log.open(tmp_path / "state-0", TopicPartition("state", 0), CONFIG)
    for number in range(300):
        append(made, b"key-%d" % (number % 30), b"%d" % number * 300)
    yield made
    made.release()


def append(log: Log, key: bytes, value: bytes, codec: Codec = Codec.NONE) -> None:
    builder = BatchBuilder(base_offset=log.log_end_offset, leader_epoch=0, codec=codec)
    builder.append(1_000, key, value)
    batch = builder.build()
    log.append(batch, list(iter_headers(batch)), 1_000)


def test_segments_are_offered_one_by_one(worker, log, cleaner):
    worker.order(log, cleaner)
    first = worker.hear()
    assert isinstance(first, Cleaned)
    assert os.path.exists(os.path.join(log.directory, f"{first.segment.base_offset:020d}.log.cleaned"))
    time.sleep(0.2)
    assert len(list(Path(log.directory).glob("*.log.cleaned"))) == 1
    worker.tell(GO)
    while isinstance(reply := worker.hear(), Cleaned):
        worker.tell(GO)
    assert isinstance(reply, Finished)
    assert reply.end_offset == log.active_segment.base_offset
    assert reply.keys == 30


def test_a_stop_ends_a_cleaning_and_the_next_one_begins_anew(worker, log, cleaner):
    worker.order(log, cleaner, rate=30_000)
    worker.tell(STOP)
    assert worker.hear().stopped
    worker.order(log, cleaner, rate=30_000)
    time.sleep(0.3)
    worker.tell(STOP)
    begin = time.monotonic()
    reply = worker.hear()
    assert time.monotonic() - begin < 1
    assert reply == Failed(reason="stopped", stopped=True)
    assert not list(Path(log.directory).glob("*.cleaned"))
    worker.tell(STOP)
    worker.order(log, cleaner)
    assert isinstance(worker.hear(), Cleaned)
    worker.tell(STOP)
    assert worker.hear().stopped
    assert not list(Path(log.directory).glob("*.cleaned"))


def test_the_end_of_its_input_is_its_own(worker, log, cleaner):
    worker.order(log, cleaner, rate=10_000)
    time.sleep(0.3)
    worker.process.stdin.close()
    assert worker.process.wait(5) == 0
    worker.process.stdout.close()


def test_it_keeps_to_its_rate(worker, log, cleaner):
    # 300 KB are read twice, and a little is written.
    rate = 400_000
    begin = time.monotonic()
    worker.order(log, cleaner, rate=rate)
    while isinstance(worker.hear(), Cleaned):
        worker.tell(GO)
    seconds = time.monotonic() - begin
    size = sum(segment.size for segment in log.segments[:-1])
    assert seconds > 1.6 * size / rate
    assert seconds < 10 * size / rate


def test_a_missing_segment_is_told(worker, log, cleaner):
    os.unlink(log.segments[1].log_path)
    worker.order(log, cleaner)
    reply = worker.hear()
    assert isinstance(reply, Failed)
    assert reply.errno == 2


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc to read memory from")
@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD])
def test_a_bomb_neither_takes_its_memory_nor_its_time(worker, log, cleaner, codec):
    limit = 16 << 20
    append(log, b"bomb", bytes(8 * limit), codec)
    log.roll(0)
    worker.order(log, replace(cleaner, decompressed_bytes_max=limit))
    begin = time.monotonic()
    reply = worker.hear()
    assert time.monotonic() - begin < 5
    assert isinstance(reply, Failed)
    assert "expands to more than the limit" in reply.reason
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    peak_kib = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    assert peak_kib < 40 * 1024 + 2 * limit // 1024 + 16 * 1024

"""Batches to store, logs to store them in, and reading back what is there."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from ottla.config.cleaner import CleanerConfig
from ottla.config.log import LogConfig
from ottla.model import TopicPartition
from ottla.records.batch import iter_headers, verify_crc
from ottla.records.builder import BatchBuilder
from ottla.records.reader import read_records
from ottla.storage.cleanable import cleanable, cleaning_job, swap_in
from ottla.storage.cleaning import CleaningPass
from ottla.storage.cleaning_orders import CleaningJob
from ottla.storage.log import Log

PARTITION = TopicPartition("orders", 0)


class Batches:
    """Makes batches and appends them; a record's value is a text of its own, padded."""

    def __init__(self) -> None:
        self.count = 0

    def build(
        self,
        base_offset: int,
        records: int = 1,
        *,
        size: int = 40,
        timestamp: int | None = None,
        epoch: int = 0,
        producer: tuple[int, int, int] | None = None,
    ) -> tuple[bytes, list[bytes]]:
        """``(batch, values)``; a producer is (id, epoch, first sequence)."""
        producer_id, producer_epoch, sequence = producer or (-1, -1, -1)
        builder = BatchBuilder(
            base_offset=base_offset,
            leader_epoch=epoch,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=sequence,
        )
        values = []
        for _ in range(records):
            self.count += 1
            values.append(f"record-{self.count}".encode().ljust(size, b"."))
            builder.append(1_000 + self.count if timestamp is None else timestamp, None, values[-1])
        return builder.build(), values

    def append(self, log: Log, records: int = 1, *, now_ms: int = 0, **options: object) -> list[bytes]:
        """Append one batch at the end; returns the values."""
        batch, values = self.build(log.log_end_offset, records, **options)
        log.append(batch, list(iter_headers(batch)), now_ms)
        return values


def read_values(log: Log, start: int | None = None) -> dict[int, bytes]:
    """Everything in a log by offset, read as a consumer would, checksums checked."""
    found: dict[int, bytes] = {}
    offset = log.log_start_offset if start is None else start
    while offset < log.log_end_offset:
        region = log.read(offset, 300, upper=log.log_end_offset, at_least_one=True)
        if region is None:
            break
        data = region.pread()
        assert len(data) == len(region)
        for position, header in iter_headers(data, partial_tail=True):
            verify_crc(data, position, header)
            for record in read_records(data[position : position + header.size]):
                if record.offset >= offset:
                    found[record.offset] = record.value
            offset = header.next_offset
        region.release()
    return found


CLEANER = CleanerConfig(
    enabled=True,
    threads=1,
    backoff_ms=1000,
    dedupe_buffer_bytes=24_000,
    load_factor=1.0,
    io_buffer_bytes=1024,
    bytes_per_second_max=1e300,
    decompressed_bytes_max=1 << 20,
)


def clean(
    log: Log, clean_point: int | None, now_ms: int, *, config: CleanerConfig = CLEANER, lso: int | None = None
) -> int | None:
    """Clean a log as the broker does, but here; the new clean point, ``None`` where nothing could be cleaned."""
    undecided = log.producers.first_undecided_offset
    stable = log.log_end_offset if undecided is None else undecided
    target = cleanable(log, clean_point, stable if lso is None else lso, now_ms)
    if not target.cleanable_bytes:
        return None
    log.flush()
    job = cleaning_job(log, target, config, now_ms)
    work = CleaningPass(msgspec.json.decode(msgspec.json.encode(job), type=CleaningJob), log.disk, lambda moved: None)
    end = work.build_map()
    for group in work.groups():
        swap_in(log, work.clean(group), now_ms)
    log.disk.sync_directory(log.directory)
    return end


@pytest.fixture
def clean_log() -> Callable[..., int | None]:
    return clean


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory in memory where there is such a thing: for tests that write thousands of small files."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="ottla-test-") as path:
        yield Path(path)


@pytest.fixture
def batches() -> Batches:
    return Batches()


@pytest.fixture
def new_batches() -> type[Batches]:
    return Batches


@pytest.fixture
def values_in() -> Callable[..., dict[int, bytes]]:
    return read_values


@pytest.fixture
def small() -> LogConfig:
    """Segments of a few batches, an index entry for nearly each."""
    return LogConfig(segment_bytes=1000, index_interval_bytes=100, segment_index_bytes=480, file_delete_delay_ms=1000)


@pytest.fixture
def open_log(tmp_path: Path, small: LogConfig) -> Iterator[Callable[..., Log]]:
    """Opens the log ``orders-0`` below the test's directory, again and again; closes what is left open."""
    opened: list[Log] = []

    def open_(**options: object) -> Log:
        for log in opened:
            log.release()
        config = options.pop("config", small)
        log = Log.open(tmp_path / "orders-0", PARTITION, config, **options)
        opened.append(log)
        return log

    yield open_
    for log in opened:
        log.release()

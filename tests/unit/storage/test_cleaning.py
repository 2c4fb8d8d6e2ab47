"""Whatever was written, a cleaned log reads as the last value of every key, and knows its producers as before."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ottla.config.log import LogConfig
from ottla.model import TopicPartition
from ottla.records.batch import Codec, iter_headers, verify_crc
from ottla.records.builder import BatchBuilder
from ottla.records.compression import DecompressedTooLarge
from ottla.records.control import EndTransaction, end_transaction_batch, read_end_transaction
from ottla.records.reader import read_records
from ottla.storage.errors import CorruptLogError
from ottla.storage.log import Log

PARTITION = TopicPartition("state", 0)
CONFIG = LogConfig(
    cleanup_policy=frozenset(("compact",)),
    segment_bytes=900,
    index_interval_bytes=100,
    segment_index_bytes=480,
    file_delete_delay_ms=0,
    delete_retention_ms=100,
)
KEYS = [b"a", b"b", b"c" * 40, b"", b"e" * 33]


class Written(NamedTuple):
    """A record as it was appended. ``decided``: whether it counts, ``None`` while its transaction is open."""

    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple


@dataclass
class Producer:
    epoch: int = 0
    sequence: int = 0
    open_offsets: list[int] = field(default_factory=list)


class Model:
    """A log and what was written to it."""

    def __init__(self, directory: Path, clean_log, config: LogConfig = CONFIG, disk=None) -> None:
        self.directory = directory
        self.config = config
        self.clean_log = clean_log
        self.disk = disk
        self.now_ms = 1_000
        self.clean_point: int | None = None
        self.written: dict[int, Written] = {}
        self.aborted: set[int] = set()
        self.undecided: set[int] = set()
        self.producers: dict[int, Producer] = {}
        self.log = self.open()

    def open(self) -> Log:
        return Log.open(self.directory, PARTITION, self.config, now_ms=self.now_ms, disk=self.disk)

    def append(self, records, codec: Codec, producer_id: int = -1, *, transactional: bool = False, lat=None) -> None:
        log = self.log
        producer = self.producers.setdefault(producer_id, Producer()) if producer_id >= 0 else None
        builder = BatchBuilder(
            base_offset=log.log_end_offset,
            codec=codec,
            leader_epoch=0,
            producer_id=producer_id,
            producer_epoch=producer.epoch if producer else -1,
            base_sequence=producer.sequence if producer else -1,
            transactional=transactional,
            log_append_time=lat,
        )
        for offset, (key, value, ago) in enumerate(records, log.log_end_offset):
            headers = (("h", b"1"),) if ago % 3 == 0 else ()
            builder.append(self.now_ms - ago, key, value, headers)
            self.written[offset] = Written(self.now_ms - ago if lat is None else lat, key, value, headers)
            if transactional:
                self.undecided.add(offset)
                producer.open_offsets.append(offset)
        if producer:
            producer.sequence += len(records)
        self._append(builder.build())

    def end(self, producer_id: int, *, commit: bool) -> None:
        producer = self.producers.setdefault(producer_id, Producer())
        batch = end_transaction_batch(
            EndTransaction(commit, 0),
            producer_id=producer_id,
            producer_epoch=producer.epoch,
            timestamp=self.now_ms,
            base_offset=self.log.log_end_offset,
            leader_epoch=0,
        )
        self._append(batch)
        self.undecided -= set(producer.open_offsets)
        if not commit:
            self.aborted |= set(producer.open_offsets)
        producer.open_offsets = []

    def _append(self, batch: bytes) -> None:
        self.log.append(batch, list(iter_headers(batch)), self.now_ms)

    def clean(self) -> bool:
        point = self.clean_log(self.log, self.clean_point, self.now_ms)
        if point is not None:
            assert point > (self.clean_point or 0)
            self.clean_point = point
        return point is not None

    def reopen(self) -> None:
        self.log.close()
        self.log = self.open()

    # What must hold --------------------------------------------------------------------------------------------------

    def last_values(self) -> dict[bytes, bytes]:
        """Of every key, what a reader of committed records ends up with."""
        values: dict[bytes, bytes] = {}
        limit = min(self.undecided, default=2**63)
        for offset, record in sorted(self.written.items()):
            if offset < limit and offset not in self.aborted and record.key is not None:
                values.pop(record.key, None)
                if record.value is not None:
                    values[record.key] = record.value
        return values

    def check(self) -> None:
        held = dict(batches_in(self.log))
        records = {}
        for header, batch in held.values():
            records |= {record.offset: record for record in read_records(batch)} if not header.is_control else {}
        for offset, record in records.items():
            assert Written(*record[1:]) == self.written[offset], f"offset {offset}"
        committed = committed_records(self.log)
        values: dict[bytes, bytes] = {}
        for offset, key, value in committed:
            assert offset not in self.aborted
            if key is None:
                continue
            values.pop(key, None)
            if value is not None:
                values[key] = value
        assert values == self.last_values()
        if self.clean_point is not None:
            self._check_clean_part(records)

    def _check_clean_part(self, records: dict) -> None:
        seen: dict[bytes, int] = {}
        for offset, record in records.items():
            if offset < self.clean_point:
                assert offset not in self.aborted, f"aborted record at {offset} is left"
                assert record.key is not None
                assert record.key not in seen, f"{record.key!r} at {seen[record.key]} and {offset}"
                seen[record.key] = offset

    def check_producers(self) -> None:
        """Read from the log alone, without snapshots, every producer is where it was."""
        known = {state.producer_id: state for state in self.log.producers.producers}
        self.log.close()
        for path in self.directory.glob("*.snapshot"):
            path.unlink()
        self.log = Log.open(self.directory, PARTITION, self.config, now_ms=self.now_ms, disk=self.disk)
        for producer_id, before in known.items():
            if before.last_offset < 0:
                # Of a marker that was emptied nothing is learned but by a snapshot; Apache Kafka does the same.
                continue
            after = self.log.producers.get(producer_id)
            assert after is not None
            assert (after.producer_epoch, after.last_sequence, after.last_offset) == (
                before.producer_epoch,
                before.last_sequence,
                before.last_offset,
            )
            assert after.transaction_first_offset is None or before.transaction_first_offset is not None


def batches_in(log: Log) -> Iterator[tuple[int, tuple]]:
    """Every batch, by base offset, checked."""
    expected = -1
    for segment in log.segments:
        for position, header in segment.headers():
            batch = segment.read(position, header.size)
            verify_crc(batch, 0, header)
            assert header.base_offset > expected
            assert header.base_offset >= segment.base_offset
            expected = header.last_offset
            found = list(read_records(batch))
            if found and not header.is_control:
                assert header.max_timestamp == max(record.timestamp for record in found)
            assert header.record_count == len(found)
            yield header.base_offset, (header, batch)


def committed_records(log: Log) -> list[tuple[int, bytes | None, bytes | None]]:
    """What a read_committed consumer makes of the log: aborted transactions by the index, until their marker."""
    unstable = log.producers.first_undecided_offset
    upper = log.log_end_offset if unstable is None else unstable
    coming = sorted(log.aborted_transactions(log.log_start_offset, upper), key=lambda found: found.first_offset)
    aborted: set[int] = set()
    records = []
    for _, (header, batch) in batches_in(log):
        if header.base_offset >= upper:
            break
        while coming and coming[0].first_offset <= header.last_offset:
            aborted.add(coming.pop(0).producer_id)
        if header.is_control:
            marker = read_end_transaction(batch)
            if marker is not None and not marker.committed:
                aborted.discard(header.producer_id)
        elif not (header.is_transactional and header.producer_id in aborted):
            records += [(record.offset, record.key, record.value) for record in read_records(batch)]
    return records


@pytest.fixture
def model(tmp_path: Path, clean_log) -> Iterator[Model]:
    made = Model(tmp_path / "state-0", clean_log)
    yield made
    made.log.release()


def puts(*keys: str, value: bytes | None = b"value") -> list:
    return [(key.encode(), value, 1) for key in keys]


def offsets(log: Log) -> list[int]:
    return [
        record.offset
        for _, (header, batch) in batches_in(log)
        for record in read_records(batch)
        if not header.is_control
    ]


# Examples ------------------------------------------------------------------------------------------------------------


def test_the_last_value_of_every_key_stays_where_it_was(model):
    model.append(puts("a", "b"), Codec.NONE)
    model.append(puts("a", "c"), Codec.ZSTD)
    model.log.roll(0)
    model.append(puts("b"), Codec.NONE)
    assert model.clean()
    assert offsets(model.log) == [1, 2, 3, 4]
    assert model.clean_point == 4
    assert len(model.log.segments) == 2
    model.check()


def test_the_active_segment_is_left_alone(model):
    model.append(puts("a", "a"), Codec.NONE)
    assert not model.clean()
    assert offsets(model.log) == [0, 1]


def test_a_tombstone_stays_for_its_time(model):
    model.append(puts("a"), Codec.NONE)
    model.append(puts("a", value=None), Codec.NONE)
    model.log.roll(0)
    model.append(puts("x"), Codec.NONE)
    assert model.clean()
    assert offsets(model.log) == [1, 2]
    header = next(model.log.segments[0].headers())[1]
    assert header.delete_horizon == model.now_ms + 100
    model.check()
    model.now_ms += 99
    model.log.roll(0)
    model.append(puts("x"), Codec.NONE)
    assert model.clean()
    assert 1 in offsets(model.log)
    model.now_ms += 1
    model.log.roll(0)
    model.append(puts("x"), Codec.NONE)
    assert model.clean()
    assert 1 not in offsets(model.log)
    model.check()


def test_a_marker_goes_after_its_records(model):
    model.append(puts("a"), Codec.NONE, 7, transactional=True)
    model.end(7, commit=False)
    model.append(puts("a"), Codec.NONE, 7)
    kinds = []
    for round_ in range(4):
        model.log.roll(0)
        model.append(puts("x"), Codec.NONE)
        assert model.clean()
        model.check()
        kinds.append([(header.is_control, header.delete_horizon) for _, (header, _) in batches_in(model.log)][:2])
        model.now_ms += 60
        assert len(model.log.aborted_transactions(0, 2**62)) == (round_ == 0)
    assert kinds[0][0] == (True, None)
    assert kinds[1][0] == (True, 1_160)
    assert kinds[2][0] == (True, 1_160)
    assert kinds[3][0] == (False, None)


def test_the_last_batch_of_a_producer_stays_empty(model):
    model.append(puts("a", "b"), Codec.LZ4, 7)
    model.log.roll(0)
    model.append(puts("a", "b"), Codec.NONE)
    model.log.roll(0)
    model.append(puts("x"), Codec.NONE)
    assert model.clean()
    header = next(model.log.segments[0].headers())[1]
    assert (header.record_count, header.base_sequence, header.last_sequence, header.codec) == (0, 0, 1, Codec.NONE)
    model.check_producers()


def test_the_end_of_the_cleanable_part_stays(model):
    model.append(puts("a"), Codec.NONE)
    model.append(puts("a", value=None), Codec.NONE)
    model.log.roll(0)
    model.append(puts("x"), Codec.NONE)
    assert model.clean()
    model.now_ms += 500
    model.clean_point = 0
    assert model.clean_log(model.log, 0, model.now_ms) == 2
    assert [header.next_offset for _, header in model.log.segments[0].headers()] == [2]
    model.check()


def test_an_open_transaction_holds_cleaning_up(model):
    model.append(puts("a", "a"), Codec.NONE)
    model.log.roll(0)
    model.append(puts("a"), Codec.NONE, 7, transactional=True)
    model.log.roll(0)
    model.append(puts("a"), Codec.NONE)
    model.log.roll(0)
    assert model.clean()
    assert model.clean_point == 2
    assert offsets(model.log) == [1, 2, 3]


def test_records_are_left_alone_for_the_compaction_lag(model):
    model.log.config = replace(CONFIG, min_compaction_lag_ms=100)
    model.append(puts("a", "a"), Codec.NONE)
    model.log.roll(0)
    model.now_ms += 50
    model.append(puts("a"), Codec.NONE)
    model.log.roll(0)
    model.now_ms += 60
    assert model.clean()
    assert model.clean_point == 2
    model.now_ms += 50
    assert model.clean()
    assert model.clean_point == 3


def test_a_full_map_cleans_as_far_as_it_got(model, clean_log):
    for number in range(20):
        model.append(puts(*(f"k{number}-{index}" for index in range(3))), Codec.NONE)
    model.log.roll(0)
    model.append(puts("x"), Codec.NONE)
    config = replace(clean_log.__kwdefaults__["config"], dedupe_buffer_bytes=24 * 10)
    points = []
    point = 0
    while (point := clean_log(model.log, point, model.now_ms, config=config)) is not None:
        points.append(point)
        assert len(points) < 30
    assert points == [9, 18, 27, 36, 45, 54, 60]
    model.clean_point = 60
    model.check()


def test_a_damaged_batch_is_not_copied(model):
    model.append(puts("a", "b"), Codec.NONE)
    model.append(puts("a", "c"), Codec.NONE)
    model.log.roll(0)
    path = Path(model.log.segments[0].log_path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptLogError):
        model.clean()
    assert path.read_bytes() == content
    assert not list(model.directory.glob("*.cleaned"))


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD])
def test_a_bomb_is_not_unpacked(model, codec):
    model.append([(b"a", bytes(4 << 20), 1)], codec)
    model.log.roll(0)
    with pytest.raises(DecompressedTooLarge):
        model.clean()


# Properties ----------------------------------------------------------------------------------------------------------

record = st.tuples(
    st.sampled_from([*KEYS, None]),
    st.one_of(st.none(), st.binary(max_size=3), st.just(b"long" * 40)),
    st.integers(0, 300),
)
batch = st.lists(record, min_size=1, max_size=5)
codec = st.sampled_from([Codec.NONE, Codec.NONE, *Codec])
action = st.one_of(
    st.tuples(st.just("append"), batch, codec),
    st.tuples(st.just("stamped"), batch, codec),
    st.tuples(st.just("idempotent"), batch, codec, st.sampled_from([1, 2])),
    st.tuples(st.just("transactional"), batch, codec, st.sampled_from([3, 4, 5])),
    st.tuples(st.just("end"), st.sampled_from([3, 4, 5]), st.booleans()),
    st.tuples(st.just("clean")),
    st.tuples(st.just("roll")),
    st.tuples(st.just("wait"), st.sampled_from([10, 60, 200])),
    st.tuples(st.just("reopen")),
)


def perform(model: Model, step: tuple) -> None:
    match step:
        case ("append", records, chosen):
            model.append(records, chosen)
        case ("stamped", records, chosen):
            model.append(records, chosen, lat=model.now_ms)
        case ("idempotent", records, chosen, producer):
            model.append(records, chosen, producer)
        case ("transactional", records, chosen, producer):
            model.append(records, chosen, producer, transactional=True)
        case ("end", producer, commit):
            model.end(producer, commit=commit)
        case ("clean",):
            model.log.roll(model.now_ms)
            model.clean()
        case ("roll",):
            model.log.roll(model.now_ms)
        case ("wait", milliseconds):
            model.now_ms += milliseconds
        case ("reopen",):
            model.reopen()


EXAMPLES = int(os.environ.get("OTTLA_CLEANING_EXAMPLES", "100"))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(action, min_size=3, max_size=40))
def test_a_cleaned_log_reads_as_the_last_value_of_every_key(clean_log, scratch, steps):
    with TemporaryDirectory(dir=scratch) as directory:
        model = Model(Path(directory) / "state-0", clean_log)
        try:
            for step in steps:
                perform(model, step)
                if step[0] in ("clean", "reopen"):
                    model.check()
            model.log.roll(model.now_ms)
            model.clean()
            model.check()
            before = list(batches_in(model.log))
            model.clean()
            model.check()
            point, model.clean_point = model.clean_point, None
            with suppress(AssertionError):
                model.clean()
            model.clean_point = point
            model.check()
            again = list(batches_in(model.log))
            assert {base for base, _ in again} <= {base for base, _ in before}
            model.check_producers()
            model.check()
        finally:
            model.log.release()

"""Producer state: sequences, epochs, transactions, snapshots; and a model that must agree."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.records.batch import CONTROL_FLAG, TRANSACTIONAL_FLAG, BatchHeader
from ottla.records.control import EndTransaction
from ottla.transactions import producer_state
from ottla.transactions.producer_state import (
    CompletedTransaction,
    CorruptSnapshot,
    Duplicate,
    Origin,
    ProducerSnapshotEntry,
    ProducerStateTable,
    decode_snapshot,
    encode_snapshot,
)
from ottla.wire.errors import ErrorCode, KafkaError

DATA = Path(__file__).parents[2] / "data" / "records"
JAVA = Path(__file__).parents[1] / "records" / "RecordBatches.java"
MAX = 2**31 - 1
PID = 7


def header(
    sequence: int, count: int = 1, *, epoch: int = 0, pid: int = PID, flags: int = 0, timestamp: int = 1000
) -> BatchHeader:
    return BatchHeader(
        base_offset=0,
        batch_length=49,
        partition_leader_epoch=0,
        magic=2,
        crc=0,
        attributes=flags,
        last_offset_delta=count - 1,
        base_timestamp=timestamp,
        max_timestamp=timestamp,
        producer_id=pid,
        producer_epoch=epoch,
        base_sequence=sequence,
        record_count=count,
    )


class Partition:
    """A table with the offsets that a log would give."""

    def __init__(self, **options: int) -> None:
        self.table = ProducerStateTable(**options)
        self.end_offset = 0

    def append(self, batch: BatchHeader, origin: Origin = Origin.CLIENT, now_ms: int = 1000) -> Duplicate | int:
        duplicate = self.table.check(batch, origin)
        if duplicate is not None:
            return duplicate
        offset = self.end_offset
        self.table.record(batch, offset, now_ms)
        self.end_offset += batch.last_offset_delta + 1
        return offset

    def end(
        self, committed: bool, *, epoch: int = 0, coordinator_epoch: int = 0, version: int = 0, pid: int = PID
    ) -> CompletedTransaction | None:
        marker = EndTransaction(committed, coordinator_epoch)
        batch = header(-1, epoch=epoch, pid=pid, flags=CONTROL_FLAG | TRANSACTIONAL_FLAG)
        self.table.check_marker(batch, marker, transaction_version=version)
        offset = self.end_offset
        self.end_offset += 1
        return self.table.record(batch, offset, 1000, marker=marker)

    def refused(self, batch: BatchHeader, origin: Origin = Origin.CLIENT) -> ErrorCode:
        with pytest.raises(KafkaError) as caught:
            self.append(batch, origin)
        return caught.value.code


def test_batches_follow_each_other() -> None:
    log = Partition()
    assert [log.append(header(0, 3)), log.append(header(3, 2)), log.append(header(5))] == [0, 3, 5]
    assert log.refused(header(7)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.append(header(6)) == 6


def test_the_last_five_batches_are_answered_again() -> None:
    log = Partition()
    for n in range(7):
        log.append(header(n * 2, 2, timestamp=500 + n))
    for n in range(2, 7):
        assert log.append(header(n * 2, 2)) == Duplicate(n * 2, n * 2 + 1, 500 + n)
    assert log.refused(header(2, 2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.refused(header(12, 1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.end_offset == 14


def test_sequences_wrap() -> None:
    log = Partition()
    assert log.append(header(MAX - 1, 3)) == 0
    assert log.append(header(MAX - 1, 3)) == Duplicate(0, 2, 1000)
    assert log.append(header(1)) == 3
    other = Partition()
    other.append(header(MAX))
    assert other.append(header(0)) == 1


def test_an_unknown_producer_may_start_anywhere() -> None:
    assert Partition().append(header(12345)) == 0


def test_a_new_epoch_starts_at_zero_and_fences_the_old() -> None:
    log = Partition()
    log.append(header(0, epoch=1))
    assert log.refused(header(1, epoch=2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.append(header(0, epoch=2)) == 1
    assert log.refused(header(1, epoch=1)) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert log.append(header(0, epoch=2)) == Duplicate(1, 1, 1000)


def test_coordinators_are_held_to_epochs_only_and_replication_to_nothing() -> None:
    log = Partition()
    log.append(header(-1, epoch=3), Origin.COORDINATOR)
    log.append(header(-1, epoch=3), Origin.COORDINATOR)
    assert log.refused(header(-1, epoch=2), Origin.COORDINATOR) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert log.append(header(99, epoch=1), Origin.REPLICATION) == 2
    state = log.table.get(PID)
    assert state is not None
    assert (state.producer_epoch, state.last_sequence) == (1, 99)


def test_transactions_hold_back_the_stable_offset_until_the_marker_is_replicated() -> None:
    log = Partition()
    log.append(header(0, 5, pid=1))
    log.append(header(0, 2, flags=TRANSACTIONAL_FLAG))
    log.append(header(0, 2, pid=8, flags=TRANSACTIONAL_FLAG))
    log.append(header(2, 2, flags=TRANSACTIONAL_FLAG))
    assert (log.table.first_undecided_offset, log.table.first_unstable_offset) == (5, 5)
    assert log.end(committed=False) == CompletedTransaction(
        producer_id=PID, first_offset=5, last_offset=11, aborted=True, last_stable_offset=7
    )
    assert (log.table.first_undecided_offset, log.table.first_unstable_offset) == (7, 5)
    log.table.record_high_watermark(11)
    assert log.table.first_unstable_offset == 5
    log.table.record_high_watermark(12)
    assert log.table.first_unstable_offset == 7
    completed = log.end(committed=True, pid=8)
    assert completed is not None
    assert (completed.aborted, completed.last_stable_offset) == (False, 13)
    log.table.record_high_watermark(13)
    assert (log.table.first_undecided_offset, log.table.first_unstable_offset) == (None, None)


def test_writes_outside_an_open_transaction_are_refused() -> None:
    log = Partition()
    log.append(header(0, flags=TRANSACTIONAL_FLAG))
    assert log.refused(header(1)) is ErrorCode.INVALID_TXN_STATE
    log.end(committed=True)
    assert log.append(header(1)) == 2


def test_markers_without_a_transaction_complete_nothing() -> None:
    log = Partition()
    assert log.end(committed=True) is None
    assert log.table.first_unstable_offset is None
    log.table.record(header(-1, flags=CONTROL_FLAG, pid=99), 5, 0)
    assert log.table.get(99) is None


def test_zombie_coordinators_are_fenced() -> None:
    log = Partition()
    log.end(committed=True, coordinator_epoch=5)
    with pytest.raises(KafkaError) as caught:
        log.end(committed=True, coordinator_epoch=4)
    assert caught.value.code is ErrorCode.TRANSACTION_COORDINATOR_FENCED


def test_marker_epochs() -> None:
    log = Partition()
    log.append(header(0, epoch=3, flags=TRANSACTIONAL_FLAG))
    for epoch, version in ((2, 0), (2, 2), (3, 2)):
        with pytest.raises(KafkaError) as caught:
            log.end(committed=True, epoch=epoch, version=version)
        assert caught.value.code is ErrorCode.INVALID_PRODUCER_EPOCH
    assert log.end(committed=True, epoch=4, version=2) is not None
    assert log.end(committed=True, epoch=4, version=2) is None
    assert log.refused(header(0, epoch=3)) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert log.append(header(0, epoch=4)) == 3


def test_a_marker_of_the_same_epoch_keeps_the_window_and_one_of_a_new_epoch_empties_it() -> None:
    log = Partition()
    log.append(header(0, flags=TRANSACTIONAL_FLAG))
    log.end(committed=True)
    assert log.append(header(0, flags=TRANSACTIONAL_FLAG)) == Duplicate(0, 0, 1000)
    log.append(header(1, flags=TRANSACTIONAL_FLAG))
    log.end(committed=True, epoch=1)
    assert log.refused(header(2, epoch=1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_idle_producers_expire_unless_a_transaction_is_open() -> None:
    log = Partition(expiration_ms=100)
    log.append(header(0, pid=1, timestamp=5), now_ms=1000)
    log.append(header(0, pid=2, timestamp=1050), now_ms=1000)
    log.append(header(0, pid=3, flags=TRANSACTIONAL_FLAG), now_ms=1000)
    assert log.table.expire(1099) == []
    assert log.table.expire(1100) == [1]
    assert log.table.expire(1150) == [2]
    assert log.table.expire(10**9) == []
    assert len(log.table) == 1
    assert log.append(header(77, pid=1)) == 3


def test_late_transactions_are_noticed() -> None:
    log = Partition()
    log.append(header(0, flags=TRANSACTIONAL_FLAG, timestamp=1000))
    assert not log.table.late_transaction(1000 + 360_000, 60_000)
    assert log.table.late_transaction(1001 + 360_000, 60_000)


def test_snapshots_keep_the_last_batch_and_open_transactions() -> None:
    log = Partition()
    for n in range(3):
        log.append(header(n * 2, 2, flags=TRANSACTIONAL_FLAG))
    log.end(committed=True, coordinator_epoch=4)
    log.append(header(6, 2, flags=TRANSACTIONAL_FLAG))
    log.append(header(MAX, 2, pid=9))
    raw = encode_snapshot(log.table.snapshot())
    other = Partition()
    other.table.load(decode_snapshot(raw), now_ms=1000)
    other.end_offset = log.end_offset
    assert encode_snapshot(other.table.snapshot()) == raw
    assert other.table.first_unstable_offset == 7
    assert other.append(header(6, 2, flags=TRANSACTIONAL_FLAG)) == Duplicate(7, 8, 1000)
    assert other.append(header(MAX, 2, pid=9)) == Duplicate(9, 10, 1000)
    assert other.refused(header(4, 2, flags=TRANSACTIONAL_FLAG)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    completed = other.end(committed=False, coordinator_epoch=4)
    assert completed is not None
    assert (completed.first_offset, completed.last_offset) == (7, 11)


def test_what_a_snapshot_leaves_out_is_recalled_for_a_retry() -> None:
    log = Partition()
    batches = [header(n * 2, 2) for n in range(7)]
    offsets = [log.append(batch) for batch in batches]
    asked = []

    def recall(producer_id: int, below: int) -> list[BatchHeader]:
        asked.append((producer_id, below))
        return [header(50, 2, epoch=-1), *(batches[n]._replace(base_offset=n * 2) for n in range(1, 6))]

    other = Partition()
    other.table.load(log.table.snapshot(), now_ms=1000)
    other.table.recall = recall
    other.end_offset = log.end_offset
    assert other.append(batches[6]) == Duplicate(12, 13, 1000)
    assert other.append(header(14)) == 14
    assert not asked, "a producer that goes on is not looked up"
    assert [other.append(batches[n]) for n in (3, 4, 5, 6)] == [
        Duplicate(offset, offset + 1, 1000) for offset in offsets[3:7]
    ]
    assert other.refused(batches[2]) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert asked == [(PID, 12)], "the log is asked once"
    assert other.append(header(15)) == 15


def test_batches_of_an_older_epoch_are_not_taken_for_those_of_this_one() -> None:
    log = Partition()
    for n in range(3):
        log.append(header(n, epoch=1))
    other = Partition()
    other.table.load(log.table.snapshot(), now_ms=1000)
    other.table.recall = lambda *_: [header(n, epoch=0) for n in range(2)]
    assert other.refused(header(1, epoch=1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_what_is_retained_already_is_not_recalled() -> None:
    log = Partition()
    for n in range(9):
        log.append(header(n))
    other = Partition()
    other.table.load(log.table.snapshot(), now_ms=1000)
    other.table.recall = lambda *_: pytest.fail("five are known")
    other.end_offset = log.end_offset
    for n in range(9, 13):
        other.append(header(n))
    assert other.append(header(9)) == Duplicate(9, 9, 1000)
    assert other.refused(header(7)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_new_epoch_has_nothing_to_recall() -> None:
    log = Partition()
    log.append(header(5))
    other = Partition()
    other.table.load(log.table.snapshot(), now_ms=1000)
    other.table.recall = lambda *_: pytest.fail("what came before is of another epoch")
    other.append(header(0, epoch=1))
    assert other.refused(header(7, epoch=1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_producer_of_old_data_may_come_back_after_a_load() -> None:
    day = producer_state.PRODUCER_ID_EXPIRATION_MS_DEFAULT
    now_ms = 100 * day
    log = Partition()
    log.append(header(0, timestamp=5), now_ms=now_ms)
    entries = log.table.snapshot()
    other = Partition()
    other.table.load(entries, now_ms, now_ms - day)
    assert len(other.table) == 0, "the snapshot is too old itself"
    other.table.load(entries, now_ms, now_ms - 1000)
    assert isinstance(other.append(header(0, timestamp=5)), Duplicate)
    other.table.expiration_ms = 1000
    assert not other.table.expire(now_ms + producer_state.RETURN_MS - 1)
    assert other.table.expire(now_ms + producer_state.RETURN_MS) == [PID]


def test_expired_entries_are_not_loaded() -> None:
    table = ProducerStateTable(expiration_ms=100)
    entry = ProducerSnapshotEntry(1, 0, 5, 10, 2, 1000, -1, -1)
    table.load([entry, entry._replace(producer_id=2, transaction_first_offset=8)], now_ms=1100)
    assert [state.producer_id for state in table.producers] == [2]
    table.clear()
    assert (len(table), table.first_unstable_offset) == (0, None)


def test_java_s_snapshot_is_read_and_written_alike() -> None:
    raw = (DATA / "producers.snapshot").read_bytes()
    entries = decode_snapshot(raw)
    assert entries == [
        ProducerSnapshotEntry(1, 3, -1, -1, 0, 1_700_000_000_000, 5, 42),
        ProducerSnapshotEntry(2, 0, -1, -1, 0, 1_700_000_000_001, -1, -1),
    ]
    assert encode_snapshot(entries) == raw
    table = ProducerStateTable()
    table.load(entries, now_ms=1_700_000_000_000)
    assert table.snapshot() == entries


@pytest.mark.parametrize("cut", [0, 5, 9, 10, 55, 101])
def test_damaged_snapshots_are_refused(cut: int) -> None:
    raw = (DATA / "producers.snapshot").read_bytes()
    with pytest.raises(CorruptSnapshot):
        decode_snapshot(raw[:cut])
    damaged = bytearray(raw)
    damaged[cut] ^= 4
    with pytest.raises(CorruptSnapshot):
        decode_snapshot(damaged)


@pytest.mark.interop
def test_java_reads_our_snapshot(tmp_path: Path) -> None:
    libraries, java = os.environ.get("OTTLA_KAFKA_LIBS"), shutil.which("java")
    if not libraries or java is None:
        pytest.skip("OTTLA_KAFKA_LIBS does not name a directory with Apache Kafka's jars, or there is no java")
    log = Partition()
    log.append(header(0, 3, flags=TRANSACTIONAL_FLAG))
    log.append(header(8, 5, pid=9, epoch=2, timestamp=77))
    file = tmp_path / "00000000000000000008.snapshot"
    file.write_bytes(encode_snapshot(log.table.snapshot()))
    done = subprocess.run(
        [java, "-Xmx256m", "-cp", f"{libraries}/*", str(JAVA), "describe", str(file)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.decode().splitlines() == [
        "producer 7 epoch 0 coordinator -1 timestamp 1000 last 2 first 0 transaction 0",
        "producer 9 epoch 2 coordinator -1 timestamp 77 last 7 first 3 transaction -1",
    ]


class Model:
    """The rules told once more, by the whole history of one producer instead of a window of it."""

    def __init__(self) -> None:
        self.history: list[tuple[int, int, int, int]] = []
        self.end_offset = 0

    def append(self, epoch: int, first: int, count: int) -> object:
        last = (first + count - 1) % 2**31
        if self.history:
            current = self.history[-1][0]
            recent = [batch for batch in self.history if batch[0] == current][-5:]
            for known_epoch, known_first, known_last, offset in recent:
                if (known_epoch, known_first, known_last) == (epoch, first, last):
                    return "duplicate", offset
            if epoch < current:
                return ErrorCode.INVALID_PRODUCER_EPOCH
            expected = 0 if epoch > current else (self.history[-1][2] + 1) % 2**31
            if first != expected:
                return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        self.history.append((epoch, first, last, self.end_offset))
        self.end_offset += count
        return "appended", self.history[-1][3]


def compare(steps: list[tuple[int, int, int]], start: int) -> None:
    """Steps: how far back a batch repeats (0: goes on), records, epoch bump."""
    model, log = Model(), Partition()
    epoch = 0
    for back, count, bump in steps:
        epoch = max(0, epoch + bump)
        if back and back <= len(model.history):
            known_epoch, first, last, _ = model.history[-back]
            attempt = (known_epoch, first, (last - first) % 2**31 + 1)
        else:
            last = model.history[-1][2] if model.history else start - 1
            first = 0 if bump > 0 else (last + 1 + back % 7) % 2**31
            attempt = (epoch, first, count)
        epoch_sent, first, size = attempt
        expected = model.append(*attempt)
        try:
            got = log.append(header(first, size, epoch=epoch_sent))
            answer: object = ("duplicate", got.base_offset) if isinstance(got, Duplicate) else ("appended", got)
        except KafkaError as error:
            answer = error.code
        assert answer == expected
    assert log.end_offset == model.end_offset


moves = st.lists(
    st.tuples(
        st.sampled_from((0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7)), st.integers(1, 4), st.sampled_from((0, 0, 0, 0, 1, -1))
    ),
    max_size=40,
)


@given(steps=moves, start=st.sampled_from((0, 5, MAX - 3)))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_the_table_agrees_with_the_model(steps: list[tuple[int, int, int]], start: int) -> None:
    compare(steps, start)


@pytest.mark.parametrize("window", [1, 4, 6])
def test_a_window_of_another_size_is_caught(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_state, "BATCHES_RETAINED", window)
    rng = random.Random(1)
    for _ in range(200):
        try:
            compare([(rng.choice((0, 0, 0, 1, 5, 6)), 1, 0) for _ in range(30)], 0)
        except AssertionError:
            return
    pytest.fail(f"a window of {window} batches passed for one of five")
